//! One connection: HTTP/1 by hyper, with time limits that tell idling, a slow head and an unread answer apart.
//!
//! hyper's own header timeout also runs while a kept-alive connection is idle, so the phases are watched here:
//!
//! ```text
//!   head ──request complete──▶ work ──answer ready──▶ write ──all sent──▶ idle ──first byte──▶ head
//!   header_time                (port.rs)              write_time          idle_time
//! ```

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::config::Limits;
use crate::wire::Answer;

/// How far the server has come with going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Running,
    /// No new connections; requests under way are finished.
    Draining,
    /// Time is up.
    Closed,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By either side's will, or by the peer's fault.
    Closed,
    /// By a time limit.
    Cut,
}

const HEAD: u8 = 0;
const WORK: u8 = 1;
const WRITE: u8 = 2;
const IDLE: u8 = 3;

/// The phase of a connection and since when.
struct Pulse {
    epoch: Instant,
    phase: AtomicU8,
    since: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            phase: AtomicU8::new(HEAD),
            since: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    // Relaxed throughout: only the connection's own task reads and writes these.
    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
        self.since.store(self.now(), Ordering::Relaxed);
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    fn expired(&self, limits: &Limits) -> bool {
        let limit = match self.phase() {
            HEAD => limits.header_time,
            WRITE => limits.write_time,
            IDLE => limits.idle_time,
            _ => return false,
        };
        let spent = self.now().saturating_sub(self.since.load(Ordering::Relaxed));
        u128::from(spent) >= limit.as_millis()
    }
}

/// How often the phase is looked at: often enough that no limit is overrun by more than half.
fn interval(limits: &Limits) -> Duration {
    let shortest = limits.header_time.min(limits.write_time).min(limits.idle_time);
    (shortest / 2).clamp(Duration::from_millis(10), Duration::from_secs(5))
}

/// Serves `io` until it ends, is cut, or the server is closed.
pub(crate) async fn serve<I, H, F>(
    io: I,
    limits: &Limits,
    mut stage: watch::Receiver<Stage>,
    handler: H,
) -> End
where
    I: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer>,
{
    let pulse = Arc::new(Pulse::new());
    let service = service_fn(|request| {
        pulse.enter(WORK);
        let answer = handler(request);
        let pulse = Arc::clone(&pulse);
        async move {
            let answer = answer.await;
            pulse.enter(WRITE);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    // Twice the header limit: what lies between is refused in the dialect, what lies beyond by hyper.
    builder.max_buf_size(
        (limits.header_bytes + limits.target_bytes)
            .saturating_mul(2)
            .max(16 * 1024),
    );
    builder.header_read_timeout(None);
    if limits.header_count > 100 {
        // Only when asked for more than hyper's default: any other number costs an allocation per request.
        builder.max_headers(limits.header_count);
    }
    let watched = Watched {
        io,
        pulse: Arc::clone(&pulse),
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(watched), service));
    let interval = interval(limits);
    let mut tick = pin!(tokio::time::sleep(interval));
    if *stage.borrow_and_update() > Stage::Running {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            biased;
            _ = connection.as_mut() => return End::Closed,
            () = tick.as_mut() => {
                if pulse.expired(limits) {
                    return End::Cut;
                }
                tick.as_mut().reset(tokio::time::Instant::now() + interval);
            }
            changed = stage.changed() => {
                let now = if changed.is_ok() { *stage.borrow_and_update() } else { Stage::Closed };
                match now {
                    Stage::Running => {}
                    Stage::Draining => connection.as_mut().graceful_shutdown(),
                    Stage::Closed => return End::Closed,
                }
            }
        }
    }
}

/// Tells the pulse about bytes that come and go.
struct Watched<I> {
    io: I,
    pulse: Arc<Pulse>,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(context, buffer);
        if buffer.filled().len() > before && self.pulse.phase() == IDLE {
            self.pulse.enter(HEAD);
        }
        outcome
    }
}

impl<I: AsyncWrite + Unpin> Watched<I> {
    fn wrote(&self, outcome: &Poll<io::Result<usize>>) {
        // Progress restarts the clock; an answer longer than hyper's buffer is flushed in between.
        if matches!(outcome, Poll::Ready(Ok(1..))) && matches!(self.pulse.phase(), WRITE | IDLE) {
            self.pulse.enter(WRITE);
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(&outcome);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.wrote(&outcome);
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(context);
        if matches!(outcome, Poll::Ready(Ok(()))) && self.pulse.phase() == WRITE {
            self.pulse.enter(IDLE);
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
