//! The store: where records and jobs live, so that a killed gateway loses nothing it acknowledged.
//!
//! One trait, two stores: [`embedded`] (a redb file, one process) and [`redis`] (many gateways). Both are
//! held to one test suite. The trait is shaped by what must be atomic:
//!
//! - [`Store::submit`]: a job, its place in the line of each of its subjects, and the records that belong to
//!   it (the row of a VM that is being created) are stored together or not at all;
//! - [`Store::finish`]: a job's end, the records that follow from it, and the hand-over of its subjects to
//!   the next in line;
//! - a claim carries an epoch; whoever claims later fences the earlier one off, and every call of the earlier
//!   one fails with `Conflict`.
//!
//! Lines instead of locks: each subject has a first-in-first-out line of jobs. A job enters all its lines in
//! one atomic call, and is ready when it stands first in every one. As all jobs enter in one global order,
//! two jobs can never wait for each other.

pub mod embedded;
mod feed;
pub mod redis;
mod rules;
#[cfg(test)]
mod suite;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::command::WhenBusy;
use crate::error::{Error, Result};
use crate::model::{BackendId, Job, JobId, JobState, Timestamp};

/// The kinds of records. Each kind is one table or hash.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumIter,
    strum::AsRefStr,
    strum::EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RecordKind {
    /// VM records, by VM id.
    Vm,
    /// Images, by image id.
    Image,
    /// Flavors, by flavor id.
    Flavor,
    /// Accounts, by name.
    Account,
    /// Sessions, by the SHA-256 of their token.
    Session,
    /// Ids and aliases that were given out, by `namespace:alias`.
    Alias,
    /// Single settings, by name.
    Setting,
    /// Disk offerings, by offering id.
    DiskOffering,
    /// Affinity groups, by group id.
    AffinityGroup,
    /// Tags, by tag id.
    Tag,
    /// Groups of VMs, by group id.
    VmGroup,
    /// API keys, by the id of their record.
    ApiKey,
    /// Volume records, by volume id.
    Volume,
    /// Snapshot records, by snapshot id.
    Snapshot,
    /// Ends of calls that needed no job, by job id.
    EndedCall,
    /// Web hooks that are due, by job id.
    Hook,
    /// The newest report of each kind that a host's agent has sent, by `serial number/kind`.
    AgentReport,
    /// Tasks for agents, waiting, handed out and ended, by `serial number/id`.
    AgentTask,
}

/// A stored record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Kind.
    pub kind: RecordKind,
    /// Key within the kind.
    pub key: String,
    /// Counts the writes of this key, from 1.
    pub version: u64,
    /// JSON.
    pub value: Bytes,
}

/// What a write demands of the record as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// Nothing is there.
    Absent,
    /// Exactly this version is there.
    Version(u64),
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Kind.
    pub kind: RecordKind,
    /// Key.
    pub key: String,
    /// Precondition; if it does not hold, the whole transaction fails with `Conflict`.
    pub expect: Expect,
    /// New value; `None` removes the record.
    pub value: Option<Bytes>,
}

/// Who works on jobs: unique per process start, never reused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub String);

/// The right to work on a job until the lease runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// The claim's number; later claims have higher ones.
    pub epoch: u64,
    /// Who holds it.
    pub worker: WorkerId,
}

/// A claimed job with everything a worker needs to go on.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The right to work on it.
    pub claim: Claim,
    /// The job, `state` Running, `epoch` as in the claim.
    pub job: Job,
    /// What earlier claims wrote, oldest first; empty on the first claim.
    pub journal: Vec<JournalEntry>,
}

/// One entry of a job's journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum JournalEntry {
    /// A step is about to call the backend.
    Begun {
        /// The step's name, unique within the job.
        step: String,
        /// When.
        at: Timestamp,
        /// How to undo it, as the engine's own JSON; stored before the call, so that a step that was cut off
        /// can be undone.
        #[serde(default)]
        undo: Option<serde_json::Value>,
    },
    /// The backend handed out a handle for a long task of this step.
    Handle {
        /// The step.
        step: String,
        /// The handle.
        handle: String,
    },
    /// A step is done.
    Done {
        /// The step.
        step: String,
        /// What it returned, for the steps after it.
        output: serde_json::Value,
    },
    /// From here on the job is being undone; the error is why.
    Undoing {
        /// Why.
        error: Error,
        /// Whether it was cancelled rather than failed.
        cancelled: bool,
    },
    /// The undo of a step is done.
    Undone {
        /// The step.
        step: String,
    },
}

/// How a submitted job may begin.
#[derive(Debug, Clone)]
pub struct Admission {
    /// What to do when a subject is taken.
    pub when_busy: WhenBusy,
    /// If the job is ready at once, claim it for this worker in the same call (a fast path: no queue).
    pub claim_for: Option<(WorkerId, Duration)>,
}

/// The answer to [`Store::submit`].
#[derive(Debug, Clone)]
pub enum Submitted {
    /// Stored and claimed for the submitter.
    Claimed(Claim),
    /// Stored; some gateway will claim it.
    Queued,
    /// The same job id was submitted before; nothing was stored. The caller compares.
    Known(Box<Job>),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEnd {
    /// Succeeded, Failed or Cancelled.
    pub state: JobState,
    /// Why not.
    pub error: Option<Error>,
    /// What the undo could not remove.
    pub left_behind: Vec<String>,
    /// The job's secrets are no longer needed: the command to keep instead.
    pub command: Option<crate::command::Command>,
    /// What it found or made.
    pub result: Option<serde_json::Value>,
}

/// A change that somebody made: this process or another gateway on the same store. Changes of one key arrive
/// in order; the same change may arrive more than once.
#[derive(Debug, Clone)]
pub enum Change {
    /// A record was written (`Some`) or removed.
    Record {
        /// Kind.
        kind: RecordKind,
        /// Key.
        key: String,
        /// The record, if it is still there.
        record: Option<Record>,
    },
    /// A job was stored or changed its state or progress.
    Job(Box<Job>),
    /// Changes may have been missed: load everything again.
    Gap,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only unfinished ones.
    pub unfinished: bool,
    /// At most so many, newest first; 0 is no limit.
    pub limit: usize,
}

/// Durable state. Every method either did what it says, durably, or failed.
///
/// Errors: `Conflict` for a failed precondition or a lost claim, `Busy` for a taken subject,
/// `BackendUnavailable` with the word "store" in the detail when the store cannot be reached, `Internal` for
/// anything unexpected.
#[async_trait]
pub trait Store: Send + Sync {
    /// All records of a kind.
    async fn load(&self, kind: RecordKind) -> Result<Vec<Record>>;

    /// One record.
    async fn get(&self, kind: RecordKind, key: &str) -> Result<Option<Record>>;

    /// Writes all or none; returns the new versions in order (0 for a removal).
    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>>;

    /// Takes `count` numbers from a counter and returns the first; counters begin at 1 and never go back.
    async fn allocate(&self, counter: &str, count: u64) -> Result<u64>;

    /// Stores a job (state Queued) with its records, and puts it into the line of each subject.
    ///
    /// # Errors
    /// `Busy` naming the job in front if `when_busy` is `Refuse`; `Conflict` if a write's precondition fails;
    /// in both cases nothing is stored.
    async fn submit(&self, job: &Job, writes: Vec<Write>, admission: Admission) -> Result<Submitted>;

    /// Claims a ready job of one of `backends`, or one whose claim's lease has run out; waits up to `wait`
    /// for one. Only jobs whose command has a version up to `COMMAND_VERSION` are handed out.
    async fn claim(
        &self,
        worker: &WorkerId,
        backends: &[BackendId],
        lease: Duration,
        wait: Duration,
    ) -> Result<Option<Claimed>>;

    /// Extends a claim's lease.
    async fn renew(&self, claim: &Claim, lease: Duration) -> Result<()>;

    /// Appends to a claimed job's journal.
    async fn journal(&self, claim: &Claim, entry: &JournalEntry) -> Result<()>;

    /// Notes a claimed job's progress in percent.
    async fn progress(&self, claim: &Claim, percent: u8) -> Result<()>;

    /// Ends a claimed job: stores the end and the records, erases the journal, leaves all lines, makes the
    /// next in line ready.
    async fn finish(&self, claim: &Claim, end: &JobEnd, writes: Vec<Write>) -> Result<()>;

    /// One job.
    async fn job(&self, id: JobId) -> Result<Option<Job>>;

    /// Jobs, newest first.
    async fn jobs(&self, filter: &JobFilter) -> Result<Vec<Job>>;

    /// Asks for a job to stop: a queued one ends Cancelled here and now, a running one sees the flag. Records
    /// that belong to a queued one stay as they are: whoever has some ends it by [`Store::end_queued`].
    async fn cancel(&self, id: JobId) -> Result<()>;

    /// Ends a job that nobody has claimed yet, as `end` says, with the records that follow from it: one that is
    /// cancelled, or whose time is over. False, and nothing written, for a job that is claimed or has ended.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if a write's precondition fails.
    async fn end_queued(&self, id: JobId, end: &JobEnd, writes: Vec<Write>) -> Result<bool>;

    /// Removes ended jobs that ended before `before`; returns how many.
    async fn purge(&self, before: Timestamp) -> Result<u64>;

    /// Takes or extends a named lease (reaper, schedules) for `ttl`; true if `holder` has it now.
    async fn lease(&self, name: &str, holder: &WorkerId, ttl: Duration) -> Result<bool>;

    /// A feed of all changes from now on, own ones included.
    async fn changes(&self) -> Result<mpsc::Receiver<Change>>;

    /// Whether the store answers; the text says what it is (`embedded`, `redis 7.0.15`).
    async fn health(&self) -> Result<String>;
}
