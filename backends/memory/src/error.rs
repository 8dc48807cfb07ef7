//! The errors that this hypervisor speaks, in one place so that the same refusal always reads the same.

use babelvisor_core::model::{BackendId, VmId};
use babelvisor_core::{Error, ErrorKind, Result};

/// The connection is down.
pub(crate) fn unavailable(backend: &BackendId, reason: &str) -> Error {
    Error::new(
        ErrorKind::BackendUnavailable,
        format!("backend {backend} cannot be reached: {reason}"),
    )
    .about("backend", backend)
}

/// `what` was not done before the call's deadline.
pub(crate) fn timed_out(what: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("{what} did not end before its deadline"),
    )
}

/// An object of that name belongs to somebody else.
pub(crate) fn taken(noun: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("a {noun} named {name} exists already; choose another name or remove it"),
    )
    .about(noun, name)
}

/// A pool is too full.
pub(crate) fn no_room(pool: &str, wanted: u64, available: u64) -> Error {
    Error::new(
        ErrorKind::NoResources,
        format!("pool {pool} has {available} bytes left, {wanted} are needed"),
    )
    .about("pool", pool)
}

/// The VM is not running, so that it has no console.
pub(crate) fn not_running(vm: VmId) -> Error {
    Error::illegal_state("vm", vm, "the vm is not running; start it to reach its console")
}

/// A name that can stand in a path and on a line: not empty, at most 255 bytes, no slash, no control
/// characters, neither `.` nor `..`.
pub(crate) fn check_name(field: &str, name: &str) -> Result<()> {
    let fault = if name.is_empty() {
        "is empty"
    } else if name.len() > 255 {
        "is longer than 255 bytes"
    } else if name == "." || name == ".." || name.contains('/') {
        "is or contains a path"
    } else if name.chars().any(char::is_control) {
        "contains control characters"
    } else {
        return Ok(());
    };
    Err(Error::invalid(field, format!("the name {fault}")))
}
