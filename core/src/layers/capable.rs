//! Whether the backend can do what a command needs: asked before any side effect, answered with the reason.

use crate::backend::Backend;
use crate::capability::Capability;
use crate::command::Command;
use crate::error::{Error, Result};

/// Refuses a command of which the backend lacks a capability.
pub(super) fn check(command: &Command, backend: &dyn Backend) -> Result<()> {
    command
        .needs()
        .into_iter()
        .try_for_each(|capability| one(capability, backend))
}

/// Refuses a call for a capability that the backend lacks.
pub(super) fn one(capability: Capability, backend: &dyn Backend) -> Result<()> {
    let capabilities = backend.capabilities();
    let support = capabilities.get(capability);
    if support.usable() {
        return Ok(());
    }
    metrics::counter!("gateway_unsupported_total", "backend" => backend.kind(), "capability" => capability.as_ref().to_owned())
        .increment(1);
    let reason = support.reason().unwrap_or_default();
    let word = support.word();
    Err(Error::unsupported(format!(
        "backend {} cannot do {}: {word}: {reason}",
        backend.id(),
        capability.as_ref()
    )))
}
