//! How far a running job has come. A backend reports as often as it likes, from any thread; the store hears of it
//! at most twice a second, and a figure that cannot be stored stops nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::backend::ProgressSink;
use crate::store::{Claim, Store};

/// How long one written figure stands before the next.
const PAUSE: Duration = Duration::from_millis(500);

/// A running job's progress. It never goes back, and reaches 100 only by the job's success.
pub(super) struct Progress {
    store: Arc<dyn Store>,
    claim: Claim,
    runtime: Handle,
    percent: watch::Sender<u8>,
    writes: AtomicBool,
    /// The part of the whole that the present step is: from (upper byte) to (lower byte) percent.
    part: AtomicU16,
}

impl Progress {
    /// Of a job that had come to `percent` before this claim. To be called on the runtime.
    pub(super) fn new(store: Arc<dyn Store>, claim: Claim, percent: u8) -> Arc<Self> {
        Arc::new(Self {
            store,
            claim,
            runtime: Handle::current(),
            percent: watch::Sender::new(percent),
            writes: AtomicBool::new(false),
            part: AtomicU16::new(u16::from_be_bytes([0, 99])),
        })
    }

    /// What backends report from here on is this part of the whole.
    pub(super) fn weigh(&self, from: u8, to: u8) {
        let part = u16::from_be_bytes([from.min(99), to.min(99)]);
        self.part.store(part, Ordering::Release);
    }

    /// The whole has come to `percent`.
    pub(super) fn reach(&self, percent: u8) {
        let percent = percent.min(99);
        let more = self.percent.send_if_modified(|known| {
            let more = percent > *known;
            *known = percent.max(*known);
            more
        });
        if more && !self.writes.swap(true, Ordering::AcqRel) {
            let (store, claim) = (self.store.clone(), self.claim.clone());
            self.runtime.spawn(write(store, claim, self.percent.subscribe()));
        }
    }
}

impl ProgressSink for Progress {
    fn report(&self, percent: u8) {
        let [from, to] = self.part.load(Ordering::Acquire).to_be_bytes();
        let width = u16::from(to.saturating_sub(from));
        let come = width * u16::from(percent.min(100)) / 100;
        self.reach(from.saturating_add(u8::try_from(come).unwrap_or(u8::MAX)));
    }
}

/// Writes the newest figure until the job is let go of.
async fn write(store: Arc<dyn Store>, claim: Claim, mut percent: watch::Receiver<u8>) {
    percent.mark_changed();
    while percent.changed().await.is_ok() {
        let now = *percent.borrow_and_update();
        if let Err(error) = store.progress(&claim, now).await {
            tracing::debug!(job = %claim.job, %error, "progress could not be stored");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
