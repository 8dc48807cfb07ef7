//! What each command carries.

use serde::{Deserialize, Serialize};

use super::PowerAction;
use crate::model::{
    BackendId, HostId, ImageId, PoolVolume, SnapshotId, SnapshotSpec, VmChange, VmId, VmSpec, VolumeFormat,
    VolumeId, VolumeSpec,
};

/// Makes a VM. The caller's record of the VM is stored together with the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateVm {
    /// The id that the VM will have (libvirt: its domain UUID).
    pub vm: VmId,
    /// What it shall be.
    pub spec: VmSpec,
    /// Whether to start it once defined.
    pub start: bool,
    /// The VM whose disks the spec's volumes copy: it must not change meanwhile.
    #[serde(default)]
    pub from: Option<VmId>,
    /// Whether its disks are read in from an image that somebody brought: shows as importing.
    #[serde(default)]
    pub importing: bool,
}

/// Removes a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeleteVm {
    /// The VM.
    pub vm: VmId,
    /// Whether its volumes go, too.
    pub volumes: bool,
    /// Whether data volumes stay even so: those that have a record of their own.
    #[serde(default)]
    pub keep_data_volumes: bool,
}

/// Moves a VM to the trash: off, not starting with its host, and marked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrashVm {
    /// The VM.
    pub vm: VmId,
}

/// Changes a VM's power state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Power {
    /// The VM.
    pub vm: VmId,
    /// What to do.
    pub action: PowerAction,
}

/// Changes a VM's hardware or settings: several changes are made in order, and the first that fails ends the job
/// with those before it made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeVm {
    /// The VM.
    pub vm: VmId,
    /// What to change; at least one.
    pub changes: Vec<VmChange>,
    /// The volume that is plugged in or out, where it has an id: nothing else may happen to it meanwhile.
    #[serde(default)]
    pub volume: Option<VolumeId>,
}

/// Makes, reverts to or removes a snapshot. The snapshot's record is stored together with the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotJob {
    /// The VM.
    pub vm: VmId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What to do.
    pub action: SnapshotAction,
}

/// What to do with a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum SnapshotAction {
    /// Make it.
    Create(SnapshotSpec),
    /// Go back to it.
    Revert {
        /// The backend's name of it.
        name: String,
    },
    /// Remove it; those based on it stay.
    Delete {
        /// The backend's name of it.
        name: String,
    },
}

/// Makes, resizes or removes a volume that has a record of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeJob {
    /// The volume.
    pub volume: VolumeId,
    /// The VM that has it attached.
    #[serde(default)]
    pub vm: Option<VmId>,
    /// What to do.
    pub action: VolumeAction,
}

/// What to do with a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum VolumeAction {
    /// Make it.
    Create(VolumeSpec),
    /// Make it larger.
    Resize {
        /// Where it is.
        place: PoolVolume,
        /// Bytes.
        capacity: u64,
    },
    /// Remove it.
    Delete {
        /// Where it is.
        place: PoolVolume,
    },
}

/// Makes or removes an image. The image's record is stored together with the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageJob {
    /// The image.
    pub image: ImageId,
    /// The VM whose disk is read, which shows as exporting.
    #[serde(default)]
    pub vm: Option<VmId>,
    /// The volume that is read.
    #[serde(default)]
    pub volume: Option<VolumeId>,
    /// What to do.
    pub action: ImageAction,
}

/// What to do with an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum ImageAction {
    /// Copy a volume of the same backend.
    Copy {
        /// Where the copy goes, and what it copies.
        volume: VolumeSpec,
    },
    /// Get it from the network.
    Fetch {
        /// `http://` or `https://`, vetted against the outbound rules when it was taken and again when it is read.
        url: String,
        /// Where it goes: pool and name.
        place: PoolVolume,
        /// Its layout, declared.
        format: VolumeFormat,
    },
    /// Remove its volumes.
    Delete {
        /// Where they are.
        places: Vec<PoolVolume>,
    },
}

/// Moves a VM to another host, of the same backend or of another of the same kind, while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MigrateVm {
    /// The VM.
    pub vm: VmId,
    /// The backend that it goes to.
    pub to: BackendId,
    /// The host that it goes to.
    pub host: HostId,
}
