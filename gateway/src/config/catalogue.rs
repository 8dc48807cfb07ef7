//! Images and flavors, as the configuration or a catalogue file lists them. Sizes are MiB and GiB here, because
//! people write them; bytes begin behind this file.

use babelvisor_core::model::{Area, BackendId, Billing, ImageKind, ImageLocation, Purpose, VolumeFormat};
use babelvisor_core::registry::{FlavorSeed, ImageSeed};
use serde::Deserialize;

const MIB: u64 = 1 << 20;
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
    name: String,
    /// The number that dialects with numbered templates show; given out by the gateway without.
    number: Option<u64>,
    /// The backend's key of it: a path, or `pool/volume`.
    native: String,
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
    /// The ten letters and digits that clients name it by; made by the gateway without.
    id: Option<String>,
    vcpus: u32,
    memory_mib: u64,
    #[serde(default)]
    disk_gib: u64,
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
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn number(&self) -> Option<u64> {
        self.number
    }

    /// The image with its locations among `backends`.
    pub(crate) fn seed(&self, backends: &[BackendId]) -> ImageSeed {
        let here = backends
            .iter()
            .filter(|id| self.backend.as_deref().is_none_or(|name| name == id.as_str()));
        ImageSeed {
            name: self.name.clone(),
            number: self.number,
            kind: self.kind,
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            family: self.family.clone(),
            admin_user: self.admin_user.clone(),
            size: self.size_gib * GIB,
            locations: here
                .map(|backend| ImageLocation {
                    backend: backend.clone(),
                    native: self.native.clone(),
                    format: self.format,
                })
                .collect(),
        }
    }

    /// What is wrong with it, if anything.
    pub(super) fn fault(&self, backends: &[&str]) -> Option<String> {
        if self.number == Some(0) || self.size_gib > 65536 {
            return Some(format!(
                "image {}: number is at least 1, size_gib at most 65536",
                self.name
            ));
        }
        let unknown = self.backend.as_deref().filter(|name| !backends.contains(name));
        unknown.map(|name| format!("image {}: there is no [[backend]] with id {name}", self.name))
    }
}

impl FlavorEntry {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The flavor in canonical units.
    pub(crate) fn seed(&self) -> FlavorSeed {
        FlavorSeed {
            name: self.name.clone(),
            short_id: self.id.clone(),
            vcpus: self.vcpus,
            memory: self.memory_mib * MIB,
            disk: self.disk_gib * GIB,
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
        let id_is_good =
            |id: &String| id.len() == 10 && id.chars().all(|letter| letter.is_ascii_alphanumeric());
        let wrong = if self.vcpus == 0 {
            "vcpus must be at least 1"
        } else if !(16..=1 << 26).contains(&self.memory_mib) {
            "memory_mib must be 16 to 67108864"
        } else if self.disk_gib > 65536 {
            "disk_gib must be 0 to 65536"
        } else if !self.id.as_ref().is_none_or(id_is_good) {
            "id must be ten letters and digits"
        } else if !(self.price.is_finite() && self.discount.is_finite() && self.price >= 0.0) {
            "price and discount must be numbers, price not below 0"
        } else {
            return None;
        };
        Some(format!("flavor {}: {wrong}", self.name))
    }
}
