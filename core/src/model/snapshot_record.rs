//! What the gateway remembers of a snapshot of a VM or of one of its volumes.

use serde::{Deserialize, Serialize};

use super::{EntryState, SnapshotId, TenantId, Timestamp, VmId, VolumeId};

/// What the gateway remembers of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The snapshot's id.
    pub id: SnapshotId,
    /// The VM.
    pub vm: VmId,
    /// The volume, if it was asked for one volume alone.
    #[serde(default)]
    pub volume: Option<VolumeId>,
    /// The backend's own name of it.
    pub native: String,
    /// Display name.
    #[serde(default)]
    pub display_name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// The snapshot that it builds upon.
    #[serde(default)]
    pub parent: Option<SnapshotId>,
    /// Whether it holds the VM's memory.
    #[serde(default)]
    pub memory: bool,
    /// Bytes that it takes, 0 if not known.
    #[serde(default)]
    pub size: u64,
    /// Whether it is there.
    #[serde(default)]
    pub state: EntryState,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub changed: Timestamp,
    /// Whom it belongs to; none is everybody.
    #[serde(default)]
    pub tenant: Option<TenantId>,
}

impl SnapshotRecord {
    /// The record of a snapshot that is about to be made, with a random id.
    pub fn new(vm: VmId, native: impl Into<String>, tenant: Option<TenantId>) -> Self {
        let created = Timestamp::now();
        Self {
            id: SnapshotId::random(),
            vm,
            volume: None,
            native: native.into(),
            display_name: String::new(),
            description: String::new(),
            parent: None,
            memory: false,
            size: 0,
            state: EntryState::Creating,
            created,
            changed: created,
            tenant,
        }
    }
}
