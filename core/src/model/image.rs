//! Images: a registry record with locations. Also ISOs and templates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BackendId, ImageId, TenantId, Timestamp, VolumeFormat};
use crate::error::Error;

/// An image that VMs or volumes can be made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The image's id.
    pub id: ImageId,
    /// A small integer for dialects that number their templates; unique among images, at least 1. A new image
    /// with 0 is given one when it is stored.
    pub number: u64,
    /// Display name.
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// What it is for.
    pub kind: ImageKind,
    /// The system's family as shown: `Debian`, `Ubuntu Server`, `Windows Server`.
    pub os: String,
    /// The system's release as shown.
    pub os_version: String,
    /// The kind of system in the client's own word: `Linux`, `Windows` …
    #[serde(default)]
    pub platform: String,
    /// A word that must be equal to the flavor's where both state one (storage or region family).
    pub family: String,
    /// The login that the image's first-boot set-up makes or has.
    pub admin_user: String,
    /// Virtual size in bytes, 0 if not known; a VM's root disk is at least as large.
    pub size: u64,
    /// Bytes that it takes, 0 if not known.
    #[serde(default)]
    pub actual_size: u64,
    /// Layout, while no location says it.
    #[serde(default)]
    pub format: Option<VolumeFormat>,
    /// Where it can be had.
    pub locations: Vec<ImageLocation>,
    /// Where it was fetched from.
    #[serde(default)]
    pub url: Option<String>,
    /// Whom it belongs to; none is everybody.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Whether something new may be made from it.
    #[serde(default = "super::yes")]
    pub enabled: bool,
    /// Whether it is there.
    #[serde(default)]
    pub state: EntryState,
    /// Whether it serves the platform rather than its users.
    #[serde(default)]
    pub system: bool,
    /// Whether the configuration names it: such an image cannot be removed by a call.
    #[serde(default)]
    pub seeded: bool,
    /// What it may be used for, in words of the dialect that made it.
    #[serde(default)]
    pub usages: Vec<String>,
    /// What a dialect only records.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// When it was made.
    #[serde(default)]
    pub created: Timestamp,
    /// When it was last changed.
    #[serde(default)]
    pub changed: Timestamp,
    /// When it was moved to the trash.
    #[serde(default)]
    pub trashed_at: Option<Timestamp>,
}

impl Image {
    /// An enabled image that is not there yet, with a random id, made now.
    pub fn new(name: impl Into<String>, kind: ImageKind, tenant: Option<TenantId>) -> Self {
        let created = Timestamp::now();
        Self {
            id: ImageId::random(),
            number: 0,
            name: name.into(),
            description: String::new(),
            kind,
            os: String::new(),
            os_version: String::new(),
            platform: String::new(),
            family: String::new(),
            admin_user: "root".to_owned(),
            size: 0,
            actual_size: 0,
            format: None,
            locations: Vec::new(),
            url: None,
            tenant,
            enabled: true,
            state: EntryState::Creating,
            system: false,
            seeded: false,
            usages: Vec::new(),
            settings: BTreeMap::new(),
            created,
            changed: created,
            trashed_at: None,
        }
    }

    /// Whether something new can be made from it: it is there, enabled, and not in the trash.
    pub fn usable(&self) -> bool {
        self.enabled && self.state == EntryState::Ready && self.trashed_at.is_none()
    }

    /// Whether it is everybody's or belongs to `tenant`; an administrator (none) sees all.
    pub fn seen_by(&self, tenant: Option<&TenantId>) -> bool {
        super::seen_by(self.tenant.as_ref(), tenant)
    }

    /// Layout: that of its first location, or as announced.
    pub fn layout(&self) -> Option<VolumeFormat> {
        self.locations
            .first()
            .map(|location| location.format)
            .or(self.format)
    }
}

/// What an image is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::EnumIter, strum::AsRefStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ImageKind {
    /// A disk to boot from.
    Disk,
    /// An optical disc.
    Iso,
    /// The content of a data volume.
    Data,
    /// A floppy disc.
    Floppy,
}

/// Whether the thing behind a record is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// It is.
    #[default]
    Ready,
    /// A job is at it.
    Creating,
    /// It could not be made.
    Failed(Error),
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
