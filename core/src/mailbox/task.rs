//! A task as the mailbox keeps it, and the rules about its times.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{JobId, Timestamp};

/// What a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Father {
    /// Its kind.
    pub kind: u16,
    /// Its id.
    pub id: u64,
}

/// A task to be put into the mailbox.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// The host that it is for.
    pub serial: String,
    /// Its kind, as the agent numbers them.
    pub kind: u16,
    /// Its turn among the tasks of one answer: lower ones come first.
    pub turn: u8,
    /// What the kind needs.
    pub fields: Map<String, Value>,
    /// What must have ended well before it is handed out.
    pub father: Option<Father>,
    /// The job that asks for it.
    pub job: Option<JobId>,
    /// How long an agent may take to fetch and begin it.
    pub age: Duration,
    /// How long it may take to carry it out.
    pub finish: Duration,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskState {
    /// Nobody has fetched it.
    Waiting,
    /// Handed out; never again.
    Given {
        /// When.
        at: Timestamp,
    },
    /// Reported as done.
    Done {
        /// When.
        at: Timestamp,
    },
    /// Reported as failed, or its father failed.
    Failed {
        /// When.
        at: Timestamp,
        /// What the agent said.
        message: String,
    },
    /// Nobody fetched it within its age.
    Expired {
        /// When that was noticed.
        at: Timestamp,
    },
    /// Fetched, but its end was not reported in time. It may have been carried out.
    Lost {
        /// When that was noticed.
        at: Timestamp,
    },
    /// Taken back before anybody fetched it.
    Withdrawn {
        /// When.
        at: Timestamp,
    },
}

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Unique over all kinds and hosts.
    pub id: u64,
    /// The host that it is for.
    pub serial: String,
    /// Its kind.
    pub kind: u16,
    /// Its turn among the tasks of one answer.
    pub turn: u8,
    /// What the kind needs.
    pub fields: Map<String, Value>,
    /// What must have ended well before it is handed out.
    pub father: Option<Father>,
    /// The job that asks for it.
    pub job: Option<JobId>,
    /// From when its age counts: when it was put here, or when its father ended.
    pub created: Timestamp,
    /// Milliseconds in which it may be fetched and begun.
    pub age_ms: u64,
    /// Milliseconds that it may take after that.
    pub finish_ms: u64,
    /// How far the agent says that it has come, 0 to 100.
    pub percent: u8,
    /// Where it stands.
    #[serde(flatten)]
    pub state: TaskState,
}

/// What an agent says of a task.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskReport {
    /// The task.
    pub id: u64,
    /// Its kind, where the agent says it.
    pub kind: Option<u16>,
    /// 0 received, 1 in progress, 2 done, -1 failed.
    pub status: i64,
    /// How far it has come.
    pub percent: Option<u8>,
    /// What there is to say, about a failure above all.
    pub message: String,
}

impl NewTask {
    pub(super) fn into_task(self, id: u64, now: Timestamp) -> Task {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Task {
            id,
            serial: self.serial,
            kind: self.kind,
            turn: self.turn,
            fields: self.fields,
            father: self.father,
            job: self.job,
            created: now,
            age_ms: milliseconds(self.age),
            finish_ms: milliseconds(self.finish),
            percent: 0,
            state: TaskState::Waiting,
        }
    }
}

impl Task {
    /// When it ended; `None` while it has not.
    pub fn ended(&self) -> Option<Timestamp> {
        match self.state {
            TaskState::Waiting | TaskState::Given { .. } => None,
            TaskState::Done { at }
            | TaskState::Failed { at, .. }
            | TaskState::Expired { at }
            | TaskState::Lost { at }
            | TaskState::Withdrawn { at } => Some(at),
        }
    }

    /// When it was done; `None` if it was not.
    pub fn done(&self) -> Option<Timestamp> {
        match self.state {
            TaskState::Done { at } => Some(at),
            TaskState::Waiting
            | TaskState::Given { .. }
            | TaskState::Failed { .. }
            | TaskState::Expired { .. }
            | TaskState::Lost { .. }
            | TaskState::Withdrawn { .. } => None,
        }
    }

    /// The end that it has come to at `now` because nobody did anything in time; `None` while there is time, or if
    /// it has ended.
    pub(super) fn overdue(&self, now: Timestamp) -> Option<TaskState> {
        let late = self.due().is_some_and(|due| due <= now);
        match self.state {
            TaskState::Waiting if late => Some(TaskState::Expired { at: now }),
            TaskState::Given { .. } if late => Some(TaskState::Lost { at: now }),
            TaskState::Waiting
            | TaskState::Given { .. }
            | TaskState::Done { .. }
            | TaskState::Failed { .. }
            | TaskState::Expired { .. }
            | TaskState::Lost { .. }
            | TaskState::Withdrawn { .. } => None,
        }
    }

    /// When its time is over: to be fetched, or to be finished. Begun late within its age it has its whole time.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let age = Duration::from_millis(self.age_ms);
        match self.state {
            TaskState::Waiting => self.created.checked_add(age).ok(),
            TaskState::Given { at } => {
                let begun = at.checked_add(age).ok()?;
                begun.checked_add(Duration::from_millis(self.finish_ms)).ok()
            }
            TaskState::Done { .. }
            | TaskState::Failed { .. }
            | TaskState::Expired { .. }
            | TaskState::Lost { .. }
            | TaskState::Withdrawn { .. } => None,
        }
    }

    /// What its end means for whoever asked for it.
    ///
    /// # Errors
    /// `Internal` with the agent's words for a failure; `Timeout` for the rest.
    pub fn outcome(&self) -> Result<()> {
        let (serial, kind, id) = (&self.serial, self.kind, self.id);
        let late = |what: &str| {
            let text = format!("task {kind}-{id} of agent {serial} {what}");
            Err(Error::new(ErrorKind::Timeout, text).about("agent", serial))
        };
        match &self.state {
            TaskState::Done { .. } => Ok(()),
            TaskState::Failed { message, .. } => Err(Error::internal(format!(
                "agent {serial} reports that task {kind}-{id} failed: {message}"
            ))
            .about("agent", serial)),
            TaskState::Expired { .. } => late("was not fetched in time; see whether the agent still polls"),
            TaskState::Lost { .. } => {
                late("was fetched and its end not reported in time; look at the host, it may have been done")
            }
            TaskState::Withdrawn { .. } => late("was not fetched before the job's time was over"),
            TaskState::Waiting => late("still waits to be fetched"),
            TaskState::Given { .. } => {
                late("was fetched and has not ended; look at the host, it may be done yet")
            }
        }
    }
}
