//! Images and flavors, as the configuration or a catalogue file lists them. Sizes are GiB here, because
//! people write them; bytes begin behind this file.

use babelvisor_core::model::{Area, BackendId, Billing, ImageKind, ImageLocation, Purpose, VolumeFormat};
use babelvisor_core::registry::{FlavorSeed, ImageSeed};
use serde::Deserialize;

const GIB: u64 = 1 << 30;

/// A file of images and flavors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Catalogue {
    pub(crate) image: Vec<ImageEntry>,
    pub(crate) flavor: Vec<FlavorEntry>,
}

/// `[[image]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageEntry {
    /// Unique name.
    pub(crate) name: String,
    /// Path or volume key on the backend.
    source: String,
    /// `qcow2` or `raw`; declared, never probed.
    format: VolumeFormat,
    /// The backend that has it; without it, every backend of the configuration has it at the same place.
    backend: Option<String>,
    #[serde(default = "disk")]
    kind: ImageKind,
    #[serde(default = "linux")]
    os: String,
    #[serde(default)]
    os_version: String,
    /// Word that must equal the flavor's where both state one.
    #[serde(default)]
    family: String,
    #[serde(default = "root")]
    admin_user: String,
    /// Virtual size in GiB, rounded up; a root disk is at least as large.
    #[serde(default)]
    size_gib: u64,
}

/// `[[flavor]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlavorEntry {
    /// Unique name.
    name: String,
    vcpus: u32,
    /// GiB; fractions such as 0.25 are taken.
    memory_gib: f64,
    #[serde(default)]
    disk_gib: f64,
    #[serde(default)]
    gpus: u32,
    gpu_model: Option<String>,
    #[serde(default)]
    bandwidth_mbit: u32,
    #[serde(default)]
    price: f64,
    #[serde(default = "one")]
    discount: f64,
    #[serde(default)]
    family: String,
    #[serde(default)]
    purpose: Purpose,
    #[serde(default)]
    area: Area,
    #[serde(default)]
    billing: Billing,
}

fn disk() -> ImageKind {
    ImageKind::Disk
}
fn linux() -> String {
    "Linux".to_owned()
}
fn root() -> String {
    "root".to_owned()
}
fn one() -> f64 {
    1.0
}

impl ImageEntry {
    /// The image with its locations among `backends`.
    pub(crate) fn seed(&self, backends: &[BackendId]) -> ImageSeed {
        let here = backends.iter().filter(|id| self.backend.as_deref().is_none_or(|name| name == id.as_str()));
        ImageSeed {
            name: self.name.clone(),
            kind: self.kind,
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            family: self.family.clone(),
            admin_user: self.admin_user.clone(),
            size: self.size_gib * GIB,
            locations: here
                .map(|backend| ImageLocation {
                    backend: backend.clone(),
                    native: self.source.clone(),
                    format: self.format,
                })
                .collect(),
        }
    }

    /// What is wrong with it, if anything.
    pub(super) fn fault(&self, backends: &[&str]) -> Option<String> {
        let unknown = self.backend.as_deref().filter(|name| !backends.contains(name));
        unknown.map(|name| format!("image {}: there is no [[backend]] with id {name}", self.name))
    }
}

impl FlavorEntry {
    /// The flavor in canonical units.
    pub(crate) fn seed(&self) -> FlavorSeed {
        FlavorSeed {
            name: self.name.clone(),
            vcpus: self.vcpus,
            memory: bytes(self.memory_gib),
            disk: bytes(self.disk_gib),
            gpus: self.gpus,
            gpu_model: self.gpu_model.clone(),
            bandwidth: self.bandwidth_mbit,
            price: self.price,
            discount: self.discount,
            family: self.family.clone(),
            purpose: self.purpose,
            area: self.area,
            billing: self.billing,
        }
    }

    /// What is wrong with it, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        let sane = |gib: f64, least: f64| gib.is_finite() && gib >= least && gib <= 65536.0;
        let wrong = if self.vcpus == 0 {
            "vcpus must be at least 1"
        } else if !sane(self.memory_gib, 0.015_625) {
            "memory_gib must be 0.015625 (16 MiB) to 65536"
        } else if !sane(self.disk_gib, 0.0) {
            "disk_gib must be 0 to 65536"
        } else if !(self.price.is_finite() && self.discount.is_finite() && self.price >= 0.0) {
            "price and discount must be numbers, price not below 0"
        } else {
            return None;
        };
        Some(format!("flavor {}: {wrong}", self.name))
    }
}

/// Checked to be finite and small enough before.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds were checked")]
fn bytes(gib: f64) -> u64 {
    #[allow(clippy::cast_precision_loss, reason = "2^30 is exact")]
    let unit = GIB as f64;
    (gib * unit).round() as u64
}
