//! The canonical nouns, a file each. Units everywhere inside: bytes, vCPUs, UTC. What a dialect calls a
//! thing, or in which unit it prints it, is decided at the dialect's edge only.

mod account;
mod affinity;
mod apikey;
mod change;
mod flavor;
mod group;
mod host;
mod id;
mod image;
mod job;
mod nic;
mod offering;
mod snapshot;
mod snapshot_record;
mod spec;
mod tag;
mod vm;
mod volume;
mod volume_record;

pub use account::*;
pub use affinity::*;
pub use apikey::*;
pub use change::*;
pub use flavor::*;
pub use group::*;
pub use host::*;
pub use id::*;
pub use image::*;
pub use job::*;
pub use nic::*;
pub use offering::*;
pub use snapshot::*;
pub use snapshot_record::*;
pub use spec::*;
pub use tag::*;
pub use vm::*;
pub use volume::*;
pub use volume_record::*;

/// A point in time, UTC.
pub type Timestamp = jiff::Timestamp;

/// For fields of stored records that are true unless somebody said otherwise.
const fn yes() -> bool {
    true
}

/// Whether something of `owner` (none: everybody's) is seen by callers of `tenant` (none: an administrator).
fn seen_by(owner: Option<&TenantId>, tenant: Option<&TenantId>) -> bool {
    match (owner, tenant) {
        (Some(owner), Some(tenant)) => owner == tenant,
        (None, _) | (_, None) => true,
    }
}
