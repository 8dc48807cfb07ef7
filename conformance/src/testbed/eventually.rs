//! Waiting for something to become true, with a deadline and without sleeping for luck.

use super::error::{Result, TestbedError};
use std::future::Future;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(25);

/// Calls `probe` until it gives a value, at most for `deadline`.
///
/// `what` names the awaited thing and appears in the error. The probe is always called at least once.
///
/// # Errors
/// [`TestbedError::Deadline`] when the time is up.
pub async fn eventually<T, F, Fut>(what: &str, deadline: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return Ok(value);
        }
        if start.elapsed() >= deadline {
            return Err(late(what, deadline));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// [`eventually`] for code that blocks.
///
/// # Errors
/// [`TestbedError::Deadline`] when the time is up.
pub fn eventually_blocking<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if start.elapsed() >= deadline {
            return Err(late(what, deadline));
        }
        std::thread::sleep(PAUSE);
    }
}

fn late(what: &str, waited: Duration) -> TestbedError {
    TestbedError::Deadline {
        what: what.to_owned(),
        waited,
        detail: String::new(),
    }
}
