//! The embedded store: one redb file, one process, no server to run.
//!
//! All writes go through one thread ([`writer`]) that puts everything waiting into one transaction: a busy
//! gateway pays one fsync for many changes, and nobody is answered before it. Reads use redb's snapshots on
//! the blocking pool and never wait for the writer. Lines and leases of unfinished jobs are in memory
//! ([`board`]): the file is locked by this process, so at open no one can hold a claim, and every job found
//! Running may be claimed at once, with a higher epoch.
//!
//! # Layout, format 1
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `"format"` | layout version; a file of a newer one is refused |
//! | `records` | (kind, key) | (version, JSON) |
//! | `counters` | name | next number to hand out |
//! | `jobs` | job id (128 bit) | (submission number, JSON of the job) |
//! | `job_order` | submission number | job id: all jobs, oldest first |
//! | `job_open` | submission number | job id: unfinished jobs; the order of every line follows from it |
//! | `job_ended` | (end in ns since 1970, job id) | submission number: what a purge walks |
//! | `journal` | (job id, number from 0) | JSON of the entry; erased when the job ends |
//!
//! A removed record begins again at version 1 when it is written anew.

mod board;
mod operations;
mod tables;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::{Arc, mpsc as sync};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use redb::{Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase as _};
use tokio::sync::{mpsc, oneshot};

use self::board::Board;
use self::operations::Batch;
use self::tables::{Done, Fault};
use self::writer::{Message, Opener, Reply, Waiting, Writer, read_board};
use super::feed::Feed;
use super::rules::unavailable;
use super::{
    Admission, Change, Claim, Claimed, JobEnd, JobFilter, JournalEntry, Record, RecordKind, Store, Submitted,
    WorkerId, Write,
};
use crate::error::{Error, Result};
use crate::model::{BackendId, Job, JobId, Timestamp};

/// The store in one file. Dropping it waits for the last write and lets go of the file.
pub struct EmbeddedStore {
    /// `None` only while dropping.
    requests: Option<sync::Sender<Message>>,
    database: Arc<ArcSwapOption<Database>>,
    feed: Arc<Feed>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EmbeddedStore")
    }
}

impl EmbeddedStore {
    /// Opens the file, or makes one that only the owner can read. Blocks for as long as the disk takes; after
    /// a crash redb checks the file first.
    ///
    /// # Errors
    /// `BackendUnavailable` if the file is in use by another process or the disk fails; `Internal` if it is
    /// not a store or a newer release's.
    pub fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        Self::open_with(Box::new(move || open_file(&path)))
    }

    fn open_with(opener: Opener) -> Result<Self> {
        let database = opener()?;
        let board = read_board(&database)?;
        let database = Arc::new(ArcSwapOption::from_pointee(database));
        let feed = Arc::new(Feed::default());
        let (requests, receiver) = sync::channel();
        let writer = Writer {
            database: Arc::clone(&database),
            opener,
            feed: Arc::clone(&feed),
            board,
            waiting: Vec::new(),
            broken: false,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| unavailable(format!("the writer thread cannot be started: {error}")))?;
        Ok(Self {
            requests: Some(requests),
            database,
            feed,
            thread: Some(thread),
        })
    }

    /// Runs an operation inside a transaction and answers when it is on disk.
    async fn write<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Batch<'_, '_>) -> Done<T> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        self.send(Message::Work(Box::new(move |batch| {
            let (result, fault) = match operation(batch) {
                Ok(value) => (Ok(value), None),
                Err(Fault::Refused(error)) => (Err(error), None),
                Err(Fault::Storage(fault)) => (Err(unavailable(&fault)), Some(fault)),
            };
            let reply: Reply = Box::new(move |failed| {
                // A caller that went away gets no answer; what it asked for is done all the same.
                let _ = sender.send(match failed {
                    None => result,
                    Some(error) => Err(error.clone()),
                });
            });
            (reply, fault)
        })))?;
        answer.await.unwrap_or_else(|_| Err(gave_up()))
    }

    /// Runs an operation on the leases.
    async fn remember<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Board) -> T + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        self.send(Message::Memory(Box::new(move |board| {
            let _ = sender.send(operation(board));
        })))?;
        answer.await.map_err(|_| gave_up())
    }

    /// Reads from a snapshot, off the runtime.
    async fn read<T, F>(&self, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&ReadTransaction) -> Done<T> + Send + 'static,
    {
        let database = self.database.load_full().ok_or_else(gave_up)?;
        tokio::task::spawn_blocking(move || -> Done<T> { operation(&database.begin_read()?) })
            .await
            .map_err(|_| unavailable("a read was cut off"))?
            .map_err(Fault::into_error)
    }

    fn send(&self, message: Message) -> Result<()> {
        self.requests
            .as_ref()
            .and_then(|requests| requests.send(message).ok())
            .ok_or_else(gave_up)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer ended with a panic");
        }
    }
}

fn gave_up() -> Error {
    unavailable("the file cannot be written at the moment, see the log; retry later")
}

fn open_file(path: &Path) -> Result<Database> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let shown = path.display();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| unavailable(format!("file {shown} cannot be opened: {error}")))?;
    // The name of a new file must survive a power cut as surely as what is written into it.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))
        .and_then(|directory| directory.sync_all())
        .map_err(|error| unavailable(format!("the directory of {shown} cannot be synced: {error}")))?;
    let database = Builder::new().create_file(file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => unavailable(format!(
            "file {shown} is in use by another process; stop that one, or give each its own file, or use \
                 Redis for several gateways"
        )),
        other => unavailable(format!("file {shown} cannot be used: {other}")),
    })?;
    tables::prepare(&database, path)?;
    Ok(database)
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>> {
        self.read(move |read| tables::load(read, kind)).await
    }

    async fn get(&self, kind: RecordKind, key: &str) -> Result<Option<Record>> {
        let key = key.to_owned();
        self.read(move |read| tables::get(read, kind, &key)).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>> {
        self.write(move |batch| batch.commit(writes)).await
    }

    async fn allocate(&self, counter: &str, count: u64) -> Result<u64> {
        let counter = counter.to_owned();
        self.write(move |batch| batch.allocate(&counter, count)).await
    }

    async fn submit(&self, job: &Job, writes: Vec<Write>, admission: Admission) -> Result<Submitted> {
        let job = job.clone();
        self.write(move |batch| batch.submit(job, writes, &admission))
            .await
    }

    async fn claim(
        &self,
        worker: &WorkerId,
        backends: &[BackendId],
        lease: Duration,
        wait: Duration,
    ) -> Result<Option<Claimed>> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Claim(Waiting {
            worker: worker.clone(),
            backends: backends.to_vec(),
            lease,
            until: Instant::now() + wait,
            reply,
        }))?;
        answer.await.unwrap_or_else(|_| Err(gave_up()))
    }

    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<()> {
        let claim = claim.clone();
        self.remember(move |board| board.renew(&claim, lease)).await?
    }

    async fn journal(&self, claim: &Claim, entry: &JournalEntry) -> Result<()> {
        let (claim, entry) = (claim.clone(), entry.clone());
        self.write(move |batch| batch.journal(&claim, &entry)).await
    }

    async fn progress(&self, claim: &Claim, percent: u8) -> Result<()> {
        let claim = claim.clone();
        self.write(move |batch| batch.progress(&claim, percent)).await
    }

    async fn finish(&self, claim: &Claim, end: &JobEnd, writes: Vec<Write>) -> Result<()> {
        let (claim, end) = (claim.clone(), end.clone());
        self.write(move |batch| batch.finish(&claim, end, writes)).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.read(move |read| tables::job(read, id)).await
    }

    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>> {
        let filter = filter.clone();
        self.read(move |read| tables::jobs(read, &filter)).await
    }

    async fn cancel(&self, id: JobId) -> Result<()> {
        self.write(move |batch| batch.cancel(id)).await
    }

    async fn end_queued(&self, id: JobId, end: &JobEnd, writes: Vec<Write>) -> Result<bool> {
        let end = end.clone();
        self.write(move |batch| batch.end_queued(id, end, writes)).await
    }

    async fn purge(&self, before: Timestamp) -> Result<u64> {
        self.write(move |batch| batch.purge(before)).await
    }

    async fn lease(&self, name: &str, holder: &WorkerId, ttl: Duration) -> Result<bool> {
        let (name, holder) = (name.to_owned(), holder.clone());
        self.remember(move |board| board.lease(&name, &holder, ttl)).await
    }

    async fn changes(&self) -> Result<mpsc::Receiver<Change>> {
        Ok(self.feed.subscribe())
    }

    async fn health(&self) -> Result<String> {
        let database = self.database.load_full().ok_or_else(gave_up)?;
        tokio::task::spawn_blocking(move || tables::probe(&database))
            .await
            .map_err(|_| unavailable("a read was cut off"))?
            .map_err(Fault::into_error)?;
        Ok("embedded".to_owned())
    }
}
