//! Settings that are remembered and shown again, and from which nothing follows on a hypervisor: the original keeps
//! them for services of its own.

/// `VmRecord::settings`: what the original's high availability shall do.
pub(super) const HA_LEVEL: &str = "ha-level";
