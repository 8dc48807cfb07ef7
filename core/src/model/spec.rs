//! What a new VM shall be: the placed, backend-neutral specification that a create command carries.

use serde::{Deserialize, Serialize};

use super::{Firmware, VolumeFormat};
use crate::secret::Sealed;

/// A new VM, with every choice made: names, sizes, pool, image location, networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmSpec {
    /// The backend's name for it: legal and free there.
    pub name: String,
    /// Display name, put into the definition as a title.
    pub title: String,
    /// vCPUs, at least 1.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Firmware.
    pub firmware: Firmware,
    /// Disks in order; the first is the root disk.
    pub volumes: Vec<VolumeSpec>,
    /// Interfaces in order.
    pub nics: Vec<NicSpec>,
    /// Console password, sealed.
    pub console_password: Option<Sealed>,
    /// What the guest shall find at its first boot.
    pub guest: Option<GuestSetup>,
}

/// A disk to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// The pool's name on the backend.
    pub pool: String,
    /// Name within the pool; carries the VM's id, so that a second try finds its own volume.
    pub name: String,
    /// Virtual size in bytes; 0 for a copy or layer means as large as its image.
    pub capacity: u64,
    /// Layout to make.
    pub format: VolumeFormat,
    /// What it starts from.
    pub source: VolumeSource,
}

/// What a new volume starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// Nothing.
    Blank,
    /// A full copy of an image.
    Copy {
        /// The backend's key of the image.
        image: String,
        /// The image's layout.
        format: VolumeFormat,
    },
    /// A copy-on-write layer over an image.
    Layer {
        /// The backend's key of the image.
        image: String,
        /// The image's layout.
        format: VolumeFormat,
    },
}

/// An interface to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NicSpec {
    /// What it is plugged into.
    pub source: NicSource,
    /// MAC address; the backend chooses without.
    pub mac: Option<String>,
}

/// What an interface is plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NicSource {
    /// A network of the backend, by name.
    Network(String),
    /// A bridge of the host, by name.
    Bridge(String),
    /// The hypervisor's own user-mode network.
    User,
}

/// First-boot set-up, delivered as the backend can (cloud-init seed).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuestSetup {
    /// Host name.
    pub hostname: String,
    /// The administrator to set up.
    pub admin_user: String,
    /// The administrator's password, sealed.
    pub admin_password: Option<Sealed>,
    /// Public SSH keys.
    pub ssh_keys: Vec<String>,
}
