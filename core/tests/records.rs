//! A store that fails for a moment, at each record that a job makes: the job waits and goes on. Undoing what is
//! done because it could not be written down would be wrong.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use babelvisor_core::command::{Command, DeleteVm};
use babelvisor_core::layers::{CreateRequest, SubmitOptions};
use babelvisor_core::model::{BackendId, Job, JobId, JobState, PowerState, Timestamp};
use babelvisor_core::store::{
    Admission, Change, Claim, Claimed, JobEnd, JobFilter, JournalEntry, Record, RecordKind, Store, Submitted,
    WorkerId, Write,
};
use babelvisor_core::{Error, ErrorKind, Result};
use support::{Site, admin};
use tokio::sync::mpsc;

const SOON: Duration = Duration::from_secs(10);

/// When the failing record fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    /// Nothing was written.
    Before,
    /// It was written, and the answer was lost.
    After,
}

/// A store whose journal cannot be written once, at the entry with this number.
struct Flaky {
    inner: Arc<dyn Store>,
    entries: AtomicUsize,
    at: usize,
    fails: Fails,
}

#[async_trait]
impl Store for Flaky {
    async fn journal(&self, claim: &Claim, entry: &JournalEntry) -> Result<()> {
        let now = self.entries.fetch_add(1, Ordering::SeqCst) == self.at;
        if !now || self.fails == Fails::After {
            self.inner.journal(claim, entry).await?;
        }
        if now {
            return Err(Error::new(
                ErrorKind::BackendUnavailable,
                "store: away for a moment",
            ));
        }
        Ok(())
    }

    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>> {
        self.inner.load(kind).await
    }

    async fn get(&self, kind: RecordKind, key: &str) -> Result<Option<Record>> {
        self.inner.get(kind, key).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>> {
        self.inner.commit(writes).await
    }

    async fn allocate(&self, counter: &str, count: u64) -> Result<u64> {
        self.inner.allocate(counter, count).await
    }

    async fn submit(&self, job: &Job, writes: Vec<Write>, admission: Admission) -> Result<Submitted> {
        self.inner.submit(job, writes, admission).await
    }

    async fn claim(
        &self,
        worker: &WorkerId,
        backends: &[BackendId],
        lease: Duration,
        wait: Duration,
    ) -> Result<Option<Claimed>> {
        self.inner.claim(worker, backends, lease, wait).await
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<()> {
        self.inner.renew(claim, lease).await
    }

    async fn progress(&self, claim: &Claim, percent: u8) -> Result<()> {
        self.inner.progress(claim, percent).await
    }

    async fn finish(&self, claim: &Claim, end: &JobEnd, writes: Vec<Write>) -> Result<()> {
        self.inner.finish(claim, end, writes).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.inner.job(id).await
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        self.inner.jobs(filter).await
    }

    async fn cancel(&self, id: JobId) -> Result<()> {
        self.inner.cancel(id).await
    }

    async fn end_queued(&self, id: JobId, end: &JobEnd, writes: Vec<Write>) -> Result<bool> {
        self.inner.end_queued(id, end, writes).await
    }

    async fn purge(&self, before: Timestamp) -> Result<u64> {
        self.inner.purge(before).await
    }

    async fn lease(&self, name: &str, holder: &WorkerId, ttl: Duration) -> Result<bool> {
        self.inner.lease(name, holder, ttl).await
    }

    async fn changes(&self) -> Result<mpsc::Receiver<Change>> {
        self.inner.changes().await
    }

    async fn health(&self) -> Result<String> {
        self.inner.health().await
    }
}

/// Makes and removes a VM while one record fails. Whether there was such a record.
fn live_through(at: usize, fails: Fails) -> bool {
    let mut site = Site::new();
    let flaky = Arc::new(Flaky {
        inner: site.store.clone(),
        entries: AtomicUsize::new(0),
        at,
        fails,
    });
    site.store = flaky.clone();
    let images = site.hypervisor().volumes().len();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let request = CreateRequest {
            start: true,
            ..gateway.request("web")
        };
        let (vm, job) = core
            .create_vm(&admin(), request, SubmitOptions::QUEUE)
            .await
            .unwrap();
        let made = core.wait(job.id, SOON).await.unwrap();
        let said = format!("record {at} fails {fails:?}: {made:?}");
        assert_eq!(made.state, JobState::Succeeded, "{said}");
        assert_eq!(site.hypervisor().vms().len(), 1, "{said}");
        assert_eq!(site.hypervisor().vms()[0].power, PowerState::Running, "{said}");
        assert_eq!(site.hypervisor().volumes().len(), images + 2, "{said}");

        let delete = Command::DeleteVm(DeleteVm {
            vm: vm.id,
            volumes: true,
            keep_data_volumes: false,
        });
        let job = core.submit(&admin(), delete, SubmitOptions::QUEUE).await.unwrap();
        let removed = core.wait(job.id, SOON).await.unwrap();
        let said = format!("record {at} fails {fails:?}: {removed:?}");
        assert_eq!(removed.state, JobState::Succeeded, "{said}");
        assert!(site.hypervisor().vms().is_empty(), "{said}");
        assert_eq!(site.hypervisor().volumes().len(), images, "{said}");
        let failed = flaky.entries.load(Ordering::SeqCst) > at;
        assert_eq!(made.epoch + removed.epoch, if failed { 3 } else { 2 }, "{said}");
        failed
    })
}

fn at_each_record(fails: Fails) {
    let records = (0..).take_while(|at| live_through(*at, fails)).count();
    // Five steps at least, each written down before and after.
    assert!(records >= 10, "{records} records were tried");
}

#[test]
fn a_record_that_was_not_written_is_no_reason_to_undo() {
    at_each_record(Fails::Before);
}

#[test]
fn a_record_whose_answer_was_lost_is_no_reason_to_undo() {
    at_each_record(Fails::After);
}
