//! The audit trail: one entry before a change is taken and one after, in the log target `audit`. Names and
//! ids only; bodies and secrets never.

use crate::command::Command;
use crate::error::Result;
use crate::model::{Caller, Job};

/// Somebody asks for a change.
pub(super) fn asked(caller: &Caller, command: &Command) {
    tracing::info!(
        target: "audit",
        request = caller.request_id,
        account = caller.account.map(|id| id.to_string()),
        tenant = %caller.tenant,
        dialect = caller.dialect,
        operation = caller.operation,
        command = command.name(),
        vm = command.vm().map(|vm| vm.to_string()),
        "asked"
    );
}

/// What became of it.
pub(super) fn answered(caller: &Caller, accepted: &Result<Job>) {
    match accepted {
        Ok(job) => tracing::info!(target: "audit", request = caller.request_id, job = %job.id, "accepted"),
        Err(error) => tracing::info!(target: "audit", request = caller.request_id, %error, "refused"),
    }
}
