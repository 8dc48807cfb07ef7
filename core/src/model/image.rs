//! Images: a registry record with locations. Also ISOs and templates.

use serde::{Deserialize, Serialize};

use super::{BackendId, ImageId, VolumeFormat};

/// An image that VMs can be made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The image's id.
    pub id: ImageId,
    /// A small integer for dialects that number their templates; unique among images, at least 1.
    pub number: u64,
    /// Display name.
    pub name: String,
    /// What it is for.
    pub kind: ImageKind,
    /// The system's family as shown: `Debian`, `Ubuntu Server`, `Windows Server`.
    pub os: String,
    /// The system's release as shown.
    pub os_version: String,
    /// A word that must be equal to the flavor's where both state one (storage or region family).
    pub family: String,
    /// The login that the image's first-boot set-up makes or has.
    pub admin_user: String,
    /// Virtual size in bytes, 0 if not known; a VM's root disk is at least as large.
    pub size: u64,
    /// Where it can be had.
    pub locations: Vec<ImageLocation>,
}

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageKind {
    /// A disk to boot from.
    Disk,
    /// An optical disc.
    Iso,
}

/// Where a backend has an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageLocation {
    /// The backend.
    pub backend: BackendId,
    /// The backend's own key of the volume or template (libvirt: a path or `pool/volume`).
    pub native: String,
    /// Layout.
    pub format: VolumeFormat,
}
