//! Jobs as the rest of the core sees them. How they run is in [`crate::jobs`].

use serde::{Deserialize, Serialize};

use super::{Activity, BackendId, JobId, TenantId, Timestamp, VmId};
use crate::command::{Command, Subject};
use crate::error::Error;

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
}

impl Job {
    /// The VM that this job changes, and how that shows while the job is unfinished.
    pub fn activity(&self) -> Option<(VmId, Activity)> {
        if self.state.ended() {
            None
        } else {
            Some((self.command.vm(), self.command.activity()))
        }
    }
}
