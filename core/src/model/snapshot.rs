//! Snapshots of a VM, as a backend is asked for them and reports them. What the gateway remembers of one is its
//! record.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A snapshot to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSpec {
    /// The backend's name for it; made of the snapshot's id, so that a second try finds its own.
    pub name: String,
    /// What people read, in the backend's own listing.
    pub title: String,
    /// Whether the memory of a running VM is kept, too; otherwise the disks alone, as after a power cut.
    pub memory: bool,
    /// Targets of the disks to include; all writable ones without.
    #[serde(default)]
    pub disks: Option<Vec<String>>,
}

/// A snapshot as its backend has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// The backend's name.
    pub name: String,
    /// The name of the snapshot that it is based on.
    #[serde(default)]
    pub parent: Option<String>,
    /// When it was made, if the backend says.
    #[serde(default)]
    pub created: Option<Timestamp>,
    /// Bytes that it takes, 0 if not known.
    #[serde(default)]
    pub size: u64,
    /// Whether it carries memory.
    #[serde(default)]
    pub memory: bool,
}

/// A picture of a VM's screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screenshot {
    /// Media type: `image/png`, `image/x-portable-pixmap`.
    pub media_type: String,
    /// The picture.
    pub bytes: bytes::Bytes,
}
