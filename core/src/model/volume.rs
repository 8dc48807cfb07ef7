//! Volumes, and disks: a volume as one VM has it attached.

use serde::{Deserialize, Serialize};

use super::{BackendId, DiskLimits, JobId, PoolId, VolumeId};

/// How a volume's bytes are laid out. Declared, never probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::AsRefStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum VolumeFormat {
    /// Plain bytes.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
    /// Something else that the backend names.
    Other,
}

/// A volume in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Computed from backend, pool and name.
    pub id: VolumeId,
    /// The backend that has it.
    pub backend: BackendId,
    /// Its pool.
    pub pool: PoolId,
    /// The backend's own key (libvirt: the path).
    pub native: String,
    /// Name within the pool.
    pub name: String,
    /// Layout.
    pub format: VolumeFormat,
    /// Virtual size in bytes.
    pub capacity: u64,
    /// Bytes in use.
    pub allocation: u64,
    /// The job that made it, if we did and the backend can say so.
    #[serde(default)]
    pub made_by: Option<JobId>,
}

/// Names a volume towards its backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolVolume {
    /// The pool's name on the backend.
    pub pool: String,
    /// Name within the pool.
    pub name: String,
}

/// A volume attached to a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Target name inside the VM's definition: `vda`, `scsi0`.
    pub target: String,
    /// `virtio`, `scsi`, `sata`, `ide` …
    pub bus: String,
    /// The pool volume, if the source is one.
    #[serde(default)]
    pub volume: Option<PoolVolume>,
    /// Path or network address of the source, as the backend writes it.
    pub source: String,
    /// Layout.
    pub format: VolumeFormat,
    /// Virtual size in bytes; 0 if not known.
    pub capacity: u64,
    /// Whether the guest may not write.
    #[serde(default)]
    pub readonly: bool,
    /// Whether it is the disk that the VM boots from.
    #[serde(default)]
    pub root: bool,
    /// Limits of its throughput.
    #[serde(default)]
    pub limits: DiskLimits,
}

/// An optical or floppy drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovableMedium {
    /// Target name inside the VM's definition.
    pub target: String,
    /// `cdrom` or `floppy`.
    pub kind: String,
    /// What is inserted.
    #[serde(default)]
    pub source: Option<String>,
}
