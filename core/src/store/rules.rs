//! What both stores must decide or say alike, so that a caller cannot tell them apart.

use std::collections::HashSet;

use serde::Deserialize;

use super::{Claim, RecordKind, Write};
use crate::command::{COMMAND_VERSION, Subject};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BackendId, JobId, JobState};

/// What a store must know of a job to keep it in line. Read instead of the whole job wherever possible: a
/// newer release may have stored a command that this one cannot read.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct JobHead {
    pub(super) id: JobId,
    pub(super) command_version: u16,
    pub(super) backend: BackendId,
    pub(super) subjects: Vec<Subject>,
    pub(super) state: JobState,
    pub(super) epoch: u64,
}

impl JobHead {
    /// Whether this release may run the job.
    pub(super) fn known_version(&self) -> bool {
        self.command_version <= COMMAND_VERSION
    }
}

/// A transaction writes a key at most once: with two writes, "the record as it stands" would be ambiguous.
pub(super) fn check_distinct(writes: &[Write]) -> Result<()> {
    let mut seen = HashSet::new();
    for write in writes {
        if !seen.insert((write.kind, write.key.as_str())) {
            return Err(Error::internal(format!(
                "one store transaction writes {} {} twice",
                write.kind.as_ref(),
                write.key
            )));
        }
    }
    Ok(())
}

/// A record is not as the write expected.
pub(super) fn record_conflict(kind: RecordKind, key: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "{} {key} was changed by somebody else meanwhile; read it again and retry",
            kind.as_ref()
        ),
    )
    .about(kind.as_ref(), key)
}

/// The claim was fenced off by a later one, or its job has ended.
pub(super) fn lost_claim(claim: &Claim) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!(
            "claim {} on job {} is lost: the job has ended or was claimed again",
            claim.epoch, claim.job
        ),
    )
    .about(JobId::NOUN, claim.job)
}

/// An earlier job holds the subject.
pub(super) fn busy(subject: &str, front: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Busy, format!("{subject} is taken by job {front}")).about(JobId::NOUN, front)
}

/// The store cannot be reached or cannot write.
pub(super) fn unavailable(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::BackendUnavailable, format!("store: {why}"))
}

/// A stored value is not what this release can read.
pub(super) fn unreadable(what: &str, why: impl std::fmt::Display) -> Error {
    Error::internal(format!("the stored {what} cannot be read by this release: {why}"))
}
