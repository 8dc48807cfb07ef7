//! How far a running job has come. A backend reports as often as it likes, from any thread; the store hears of it
//! at most twice a second, and a figure that cannot be stored stops nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::backend::ProgressSink;
use crate::store::{Claim, Store};

/// How long it is from a report to its figure in the store, and from one figure to the next.
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

/// Writes the newest figure now and then, until the job is let go of. What is over at once costs no write.
async fn write(store: Arc<dyn Store>, claim: Claim, mut percent: watch::Receiver<u8>) {
    percent.mark_changed();
    while percent.changed().await.is_ok() {
        let pause = tokio::time::sleep(PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                more = percent.changed() => if more.is_err() { return },
            }
        }
        let now = *percent.borrow_and_update();
        if let Err(error) = store.progress(&claim, now).await {
            tracing::debug!(job = %claim.job, %error, "progress could not be stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::command::{COMMAND_VERSION, Command, Power, PowerAction, WhenBusy};
    use crate::model::{BackendId, Job, JobId, JobState, TenantId, Timestamp, VmId};
    use crate::store::embedded::EmbeddedStore;
    use crate::store::{Admission, Change, Submitted, WorkerId};

    fn job() -> Job {
        let command = Command::Power(Power {
            vm: VmId::random(),
            action: PowerAction::Start,
        });
        Job {
            id: JobId::random(),
            subjects: command.subjects(),
            command,
            command_version: COMMAND_VERSION,
            backend: BackendId::new("east"),
            tenant: TenantId::new("acme"),
            dialect: "guest-rest".to_owned(),
            operation: "start".to_owned(),
            state: JobState::Queued,
            submitted: Timestamp::now(),
            started: None,
            ended: None,
            deadline: Timestamp::now() + Duration::from_secs(600),
            progress: 0,
            cancel_requested: false,
            epoch: 0,
            error: None,
            left_behind: Vec::new(),
            result: None,
            digest: None,
            hook: None,
            note: None,
        }
    }

    #[tokio::test]
    async fn the_store_hears_now_and_then_and_never_of_less() {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&dir.path().join("store.redb")).unwrap());
        let admission = Admission {
            when_busy: WhenBusy::Queue,
            claim_for: Some((WorkerId("w".to_owned()), Duration::from_secs(60))),
        };
        let job = job();
        let Submitted::Claimed(claim) = store.submit(&job, Vec::new(), admission).await.unwrap() else {
            panic!("not claimed");
        };
        let mut changes = store.changes().await.unwrap();
        let progress = Progress::new(store.clone(), claim, 0);
        progress.weigh(20, 60);
        let begun = Instant::now();
        let reporter = progress.clone();
        // From a thread that knows no runtime, as a hypervisor's callbacks do.
        let reports = std::thread::spawn(move || (0..=100).for_each(|percent| reporter.report(percent)));
        tokio::task::spawn_blocking(move || reports.join().unwrap())
            .await
            .unwrap();
        progress.report(3);
        let mut figures = Vec::new();
        while figures.last() != Some(&60) {
            match changes.recv().await.unwrap() {
                Change::Job(job) => figures.push(job.progress),
                Change::Record { .. } | Change::Gap => {}
            }
        }
        assert!(figures.is_sorted(), "{figures:?}");
        assert!(
            figures.len() <= 2 + begun.elapsed().as_millis() as usize / 500,
            "{figures:?}"
        );
        progress.reach(120);
        while store.job(job.id).await.unwrap().unwrap().progress != 99 {
            assert!(begun.elapsed() < Duration::from_secs(20));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
