//! Long work of the hypervisor on one domain (moving it, saving its memory): watched, and stopped when its caller's time
//! is over or the caller goes away.

use std::time::{Duration, Instant};

use babelvisor_core::backend::CallContext;
use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;

use crate::connection::{CallError, Host};
use crate::define::lookup;
use crate::error::code;
use crate::ffi;

/// How often it is looked how far it has come.
const LOOK: Duration = Duration::from_millis(500);
/// How long a look, or a word to stop, may take.
const SHORT: Duration = Duration::from_secs(10);
/// The time that is kept for stopping in time.
const MARGIN: Duration = Duration::from_secs(5);
/// OPERATION_ABORTED.
const ABORTED: u32 = 78;

/// Waits for `work`, which began a long job on the domain, and reports how far it has come. Stopped at the deadline it
/// ends in `Timeout`, with `kept` in words: what is as it was before.
pub(crate) async fn run(
    host: &Host,
    uuid: Uuid,
    call: &CallContext,
    kept: &'static str,
    work: impl Future<Output = Result<(), CallError>>,
) -> Result<(), CallError> {
    tokio::pin!(work);
    let mut guard = Guard {
        host: host.clone(),
        uuid,
        armed: true,
    };
    let margin = MARGIN.min(call.left() / 4);
    let stop_at = call.deadline.checked_sub(margin).unwrap_or(call.deadline);
    let mut stopped = false;
    let outcome = loop {
        let wake = if stopped {
            call.deadline
        } else {
            stop_at.min(Instant::now() + LOOK)
        };
        tokio::select! {
            outcome = &mut work => break outcome,
            () = tokio::time::sleep_until(wake.into()), if !stopped => {}
        }
        if Instant::now() >= stop_at {
            stopped = true;
            stop(host, uuid).await;
        } else {
            look(host, uuid, call).await;
        }
    };
    guard.armed = false;
    match outcome {
        Err(CallError::Libvirt(error)) if code(&error) == ABORTED && stopped => {
            Err(Error::new(ErrorKind::Timeout, kept).about("vm", uuid).into())
        }
        other => other,
    }
}

/// Stops the job of a caller that went away.
struct Guard {
    host: Host,
    uuid: Uuid,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (host, uuid) = (self.host.clone(), self.uuid);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { stop(&host, uuid).await });
        }
    }
}

async fn stop(host: &Host, uuid: Uuid) {
    let stopped = host
        .slow(Instant::now() + SHORT, move |connection| {
            match lookup(connection, uuid)? {
                Some(domain) => Ok(ffi::abort_job(&domain)?),
                None => Ok(()),
            }
        })
        .await;
    if let Err(error) = stopped {
        tracing::warn!(vm = %uuid, %error, "a long job of a domain could not be stopped");
    }
}

async fn look(host: &Host, uuid: Uuid, call: &CallContext) {
    if call.progress.is_none() {
        return;
    }
    let looked = host.slow(Instant::now() + SHORT, move |connection| {
        let domain = lookup(connection, uuid)?;
        Ok(domain.map(|domain| ffi::job_progress(&domain)).transpose()?)
    });
    match looked.await {
        Ok(Some(progress)) if progress.running => call.report(progress.percent()),
        Ok(_) => {}
        Err(error) => tracing::debug!(vm = %uuid, %error, "how far a long job has come is not known"),
    }
}
