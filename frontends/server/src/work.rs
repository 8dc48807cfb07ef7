//! One handler at work: a time limit, no panic past this point, and no cancelling by hanging up.
//!
//! A client that goes away must not cut a change in half, so a handler whose caller has left (or has been told
//! that it took too long) runs on in the background for a bounded time. The common case pays for none of this:
//! the handler is polled in place and only moves to a task of its own when it is abandoned.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use babelvisor_core::frontend::Reply;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How a handler ended.
#[derive(Debug)]
pub(crate) enum Done {
    Answered(Reply),
    Panicked,
    TooSlow,
}

type Outcome = Result<Reply, Box<dyn Any + Send>>;

/// Runs `work` for at most `limit`; abandoned, it goes on for at most `limit` more.
pub(crate) async fn run(work: impl Future<Output = Reply> + Send + 'static, limit: Duration) -> Done {
    let guarded = AssertUnwindSafe(work).catch_unwind();
    let mut kept = Kept {
        work: Some(Box::pin(guarded)),
        grace: limit,
    };
    match timeout(limit, &mut kept).await {
        Ok(Ok(reply)) => Done::Answered(reply),
        Ok(Err(_)) => Done::Panicked,
        Err(_) => Done::TooSlow,
    }
}

struct Kept {
    work: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    grace: Duration,
}

impl Future for Kept {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let Some(work) = self.work.as_mut() else {
            return Poll::Pending; // finished before: never polled again by `timeout`
        };
        let outcome = work.as_mut().poll(context);
        if outcome.is_ready() {
            self.work = None;
        }
        outcome
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) else {
            return;
        };
        let grace = self.grace;
        runtime.spawn(async move {
            if timeout(grace, work).await.is_err() {
                tracing::warn!("an abandoned request did not end in its extra time and was cancelled");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_outcome() {
        let work = async { panic!("a fault in a handler") };
        assert!(matches!(run(work, Duration::from_secs(5)).await, Done::Panicked));
    }

    #[tokio::test(start_paused = true)]
    async fn too_slow_is_an_outcome_and_the_work_still_ends() {
        let ended = Arc::new(Notify::new());
        let signal = Arc::clone(&ended);
        let work = async move {
            tokio::time::sleep(Duration::from_secs(15)).await;
            signal.notify_one();
            Reply::default()
        };
        assert!(matches!(run(work, Duration::from_secs(10)).await, Done::TooSlow));
        ended.notified().await;
    }

    #[tokio::test(start_paused = true)]
    async fn abandoned_work_does_not_run_for_ever() {
        struct Gone(Arc<AtomicBool>, Arc<Notify>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
                self.1.notify_one();
            }
        }
        let (gone, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let guard = Gone(Arc::clone(&gone), Arc::clone(&dropped));
        let work = async move {
            let _guard = guard;
            std::future::pending().await
        };
        assert!(matches!(run(work, Duration::from_secs(1)).await, Done::TooSlow));
        assert!(!gone.load(Ordering::SeqCst), "it has an extra time");
        dropped.notified().await;
        assert!(gone.load(Ordering::SeqCst));
    }
}
