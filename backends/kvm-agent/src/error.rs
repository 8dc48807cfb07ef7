//! The errors that this backend speaks, and what the words of an agent mean.

use babelvisor_core::model::BackendId;
use babelvisor_core::{Error, ErrorKind};

/// The agent has not reported, or not for long.
pub(crate) fn unavailable(backend: &BackendId, serial: &str, reason: &str) -> Error {
    let text = format!("backend {backend} cannot be reached: agent {serial} {reason}");
    Error::new(ErrorKind::BackendUnavailable, text).about("backend", backend)
}

/// Words of libvirt and of the agent by which a failure is told, in lower case, and the kind that they mean.
const WORDS: [(&str, ErrorKind); 8] = [
    ("domain not found", ErrorKind::NotFound),
    ("no domain with", ErrorKind::NotFound),
    ("no domain snapshot", ErrorKind::NotFound),
    ("already exists", ErrorKind::AlreadyExists),
    ("is not running", ErrorKind::IllegalState),
    ("already running", ErrorKind::IllegalState),
    ("already active", ErrorKind::IllegalState),
    ("task is expired", ErrorKind::Timeout),
];

/// The failure of a task in the kind that the agent's words mean.
pub(crate) fn of_agent(mut error: Error) -> Error {
    if error.kind != ErrorKind::Internal {
        return error;
    }
    let text = error.to_string().to_lowercase();
    // What is not known stays a fault: above all it must not look like one that another try would mend.
    if let Some((_, kind)) = WORDS.iter().find(|(words, _)| text.contains(words)) {
        error.kind = *kind;
    }
    error
}
