//! A store that fails on demand: the one way to bring about every kind of failure behind both dialects alike.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use babelvisor_core::model::{BackendId, Job, JobId, Timestamp};
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_core::store::{
    Admission, Change, Claim, Claimed, JobEnd, JobFilter, JournalEntry, Record, RecordKind, Store, Submitted,
    WorkerId, Write,
};
use babelvisor_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

/// The embedded store; changes of records and new jobs fail while it is told so.
pub struct FailingStore {
    inner: EmbeddedStore,
    kind: Mutex<Option<ErrorKind>>,
}

impl FailingStore {
    pub fn new(inner: EmbeddedStore) -> Self {
        Self {
            inner,
            kind: Mutex::new(None),
        }
    }

    /// From now on changes fail with this kind, or no more.
    pub fn fail(&self, kind: Option<ErrorKind>) {
        *self.kind.lock().unwrap_or_else(PoisonError::into_inner) = kind;
    }

    fn judge(&self) -> Result<()> {
        match *self.kind.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(kind) => Err(Error::new(kind, "as the test wants it")),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Store for FailingStore {
    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>> {
        self.inner.load(kind).await
    }
    async fn get(&self, kind: RecordKind, key: &str) -> Result<Option<Record>> {
        self.inner.get(kind, key).await
    }
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>> {
        self.judge()?;
        self.inner.commit(writes).await
    }
    async fn allocate(&self, counter: &str, count: u64) -> Result<u64> {
        self.inner.allocate(counter, count).await
    }
    async fn submit(&self, job: &Job, writes: Vec<Write>, admission: Admission) -> Result<Submitted> {
        self.judge()?;
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
    async fn journal(&self, claim: &Claim, entry: &JournalEntry) -> Result<()> {
        self.inner.journal(claim, entry).await
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
