//! What the gateway remembers of a volume. Where it is attached is known to its VM's facts alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    BackendId, DiskOfferingId, EntryState, ImageId, PoolVolume, TenantId, Timestamp, VmId, VolumeFormat,
    VolumeId,
};

/// What a volume is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::EnumIter, strum::AsRefStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum VolumeKind {
    /// A VM boots from it.
    Root,
    /// Anything else.
    Data,
}

/// What the gateway remembers of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// The volume's id.
    pub id: VolumeId,
    /// The backend that has or will have it.
    pub backend: BackendId,
    /// The pool's name on the backend.
    pub pool: String,
    /// Name within the pool.
    pub name: String,
    /// Whom it belongs to; none is everybody.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Display name.
    #[serde(default)]
    pub display_name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// What it is for.
    pub kind: VolumeKind,
    /// Layout.
    pub format: VolumeFormat,
    /// Virtual size in bytes.
    pub capacity: u64,
    /// Bytes in use when they were last looked at.
    #[serde(default)]
    pub allocation: u64,
    /// The VM that it was made for.
    #[serde(default)]
    pub made_for: Option<VmId>,
    /// The offering that it was made with.
    #[serde(default)]
    pub disk_offering: Option<DiskOfferingId>,
    /// The image that it was made from.
    #[serde(default)]
    pub image: Option<ImageId>,
    /// Whether it may be attached.
    #[serde(default = "super::yes")]
    pub enabled: bool,
    /// Whether it is there.
    #[serde(default)]
    pub state: EntryState,
    /// Whether several VMs may have it attached at once.
    #[serde(default)]
    pub shareable: bool,
    /// What a dialect only records.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// When the gateway made or first saw it.
    pub first_seen: Timestamp,
    /// When it was last changed.
    pub changed: Timestamp,
    /// When it was moved to the trash.
    #[serde(default)]
    pub trashed_at: Option<Timestamp>,
    /// When it went away; the record stays so that its id is never given out again.
    #[serde(default)]
    pub gone_at: Option<Timestamp>,
}

impl VolumeRecord {
    /// The record of a volume that is about to be made, with a random id.
    pub fn new(backend: BackendId, volume: PoolVolume, kind: VolumeKind, tenant: Option<TenantId>) -> Self {
        let first_seen = Timestamp::now();
        Self {
            id: VolumeId::random(),
            backend,
            pool: volume.pool,
            name: volume.name,
            tenant,
            display_name: String::new(),
            description: String::new(),
            kind,
            format: VolumeFormat::Qcow2,
            capacity: 0,
            allocation: 0,
            made_for: None,
            disk_offering: None,
            image: None,
            enabled: true,
            state: EntryState::Creating,
            shareable: false,
            settings: BTreeMap::new(),
            first_seen,
            changed: first_seen,
            trashed_at: None,
            gone_at: None,
        }
    }

    /// How the backend knows it.
    pub fn place(&self) -> PoolVolume {
        PoolVolume {
            pool: self.pool.clone(),
            name: self.name.clone(),
        }
    }
}
