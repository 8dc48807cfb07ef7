//! Jobs as the rest of the core sees them. How they run is in [`crate::jobs`].

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Activity, BackendId, JobId, TenantId, Timestamp, VmId};
use crate::command::{Command, Subject};
use crate::error::{Error, ErrorKind, Result};

/// Most bytes of a job's result, as JSON.
pub const MOST_RESULT: usize = 64 << 10;
/// Most bytes of a dialect's note, as JSON.
pub const MOST_NOTE: usize = 4 << 10;

/// Where a job stands.
///
/// ```text
/// queued ──claim──▶ running ──▶ succeeded
///    │                 │  ╲───▶ failed      (undone, or `left_behind` names what is not)
///    ╰──cancel──▶ cancelled ◀───╯ (cancelled between steps, then undone)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::AsRefStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum JobState {
    /// Stored and acknowledged, waiting for its subjects and a worker.
    Queued,
    /// A worker holds it.
    Running,
    /// Done.
    Succeeded,
    /// Not done; what it had begun is undone unless `left_behind` says otherwise.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl JobState {
    /// Whether nothing more will happen.
    pub const fn ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// The durable record of one command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The job's id; also part of poll addresses.
    pub id: JobId,
    /// What it does.
    pub command: Command,
    /// The version of the command's stored form; a gateway that does not know it leaves the job queued.
    pub command_version: u16,
    /// The backend whose gateways may run it.
    pub backend: BackendId,
    /// What it locks, sorted.
    pub subjects: Vec<Subject>,
    /// Who asked.
    pub tenant: TenantId,
    /// Through which dialect, for people who look at jobs.
    pub dialect: String,
    /// Through which operation.
    pub operation: String,
    /// Where it stands.
    pub state: JobState,
    /// When it was stored.
    pub submitted: Timestamp,
    /// When it was first claimed.
    #[serde(default)]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// When it must have ended.
    pub deadline: Timestamp,
    /// Percent, 0 to 100.
    pub progress: u8,
    /// Whether somebody asked to stop it.
    #[serde(default)]
    pub cancel_requested: bool,
    /// How often a worker claimed it; each claim fences the earlier ones off.
    pub epoch: u64,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Error>,
    /// What an undo could not remove: a named stuck state that a person must look at.
    #[serde(default)]
    pub left_behind: Vec<String>,
    /// What it found or made, as the running job says it, at most [`MOST_RESULT`] bytes. Only a job that succeeded
    /// has one.
    #[serde(default)]
    pub result: Option<Value>,
    /// Of the request that it was made of: a second request with the same job id is the same one if its tenant and
    /// digest are the same.
    #[serde(default)]
    pub digest: Option<String>,
    /// Whom to tell of its end.
    #[serde(default)]
    pub hook: Option<Hook>,
    /// What its dialect needs to say the result later, at most [`MOST_NOTE`] bytes; the core does not look inside.
    #[serde(default)]
    pub note: Option<Value>,
}

/// An address that is told of an end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// `http://…` or `https://…`. Clients put keys into it: it is never shown.
    pub url: String,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook(…)")
    }
}

/// The end of a call that needed no job: one that could not be accepted but whose dialect says so at the poll only
/// (stillborn), or one that was done at once. The engine never sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedCall {
    /// The id under which it is polled.
    pub id: JobId,
    /// Who asked; none while nobody had signed in: then whoever knows the id may poll it.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Through which dialect.
    pub dialect: String,
    /// Through which operation.
    pub operation: String,
    /// What it returned, at most [`MOST_RESULT`] bytes.
    #[serde(default)]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<Error>,
    /// As [`Job::digest`].
    #[serde(default)]
    pub digest: Option<String>,
    /// As [`Job::hook`].
    #[serde(default)]
    pub hook: Option<Hook>,
    /// As [`Job::note`].
    #[serde(default)]
    pub note: Option<Value>,
    /// When it ended.
    pub created: Timestamp,
    /// When it is forgotten.
    pub expires: Timestamp,
    /// The address whose share it counts against, if it is stillborn.
    #[serde(default)]
    pub source: Option<String>,
}

/// What is found under an id that a client polls.
#[derive(Debug, Clone, PartialEq)]
pub enum Polled {
    /// A job, ended or not.
    Job(Box<Job>),
    /// A call that ended at once.
    Call(Box<EndedCall>),
}

/// Refuses JSON that is larger than `most` bytes.
///
/// # Errors
/// `Internal`, because nothing that a client sends is stored as it came.
pub(crate) fn check_size(what: &str, value: &Value, most: usize) -> Result<()> {
    let size = value.to_string().len();
    if size > most {
        let text = format!("{what} has {size} bytes, at most {most} are kept");
        return Err(Error::new(ErrorKind::Internal, text));
    }
    Ok(())
}

impl Job {
    /// Whether a request of `tenant` under this job's id is the one that made it: by digest where it has one, by
    /// command otherwise; without either it is taken for another one.
    pub fn is_same_request(
        &self,
        tenant: &TenantId,
        digest: Option<&str>,
        command: Option<&Command>,
    ) -> bool {
        self.tenant == *tenant
            && match (self.digest.as_deref(), digest) {
                (Some(ours), Some(theirs)) => ours == theirs,
                (None, None) => command.is_some_and(|command| self.command == *command),
                (Some(_), None) | (None, Some(_)) => false,
            }
    }

    /// How this job shows on the VMs that it concerns while it is unfinished.
    pub fn activities(&self) -> Vec<(VmId, Activity)> {
        if self.state.ended() {
            Vec::new()
        } else {
            self.command.activities()
        }
    }
}
