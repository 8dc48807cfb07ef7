//! What a new VM shall be: the placed, backend-neutral specification that a create command carries.

use serde::{Deserialize, Serialize};

use super::{
    BootDevice, DiskAttachment, Firmware, GraphicsKind, HostId, MediumSpec, VideoAdapter, VolumeFormat,
};
use crate::secret::Sealed;

/// A new VM, with every choice made: names, sizes, pool, image location, networks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VmSpec {
    /// The backend's name for it: legal and free there.
    pub name: String,
    /// Display name, put into the definition as a title.
    pub title: String,
    /// vCPUs, at least 1.
    pub vcpus: u32,
    /// vCPUs that can be reached while running; 0 is as many as `vcpus`.
    #[serde(default)]
    pub max_vcpus: u32,
    /// Sockets × cores × threads; the backend chooses without.
    #[serde(default)]
    pub topology: Option<(u32, u32, u32)>,
    /// CPU model by its name on the backend; the backend chooses without.
    #[serde(default)]
    pub cpu_model: Option<String>,
    /// Memory in bytes.
    pub memory: u64,
    /// Memory that can be reached while running, in bytes; 0 is as much as `memory`.
    #[serde(default)]
    pub max_memory: u64,
    /// Firmware.
    pub firmware: Firmware,
    /// What it boots from, in order; the root disk without.
    #[serde(default)]
    pub boot: Vec<BootDevice>,
    /// Disks in order; the first is the root disk.
    pub volumes: Vec<VolumeSpec>,
    /// Volumes that exist and are plugged in after `volumes`.
    #[serde(default)]
    pub attached: Vec<DiskAttachment>,
    /// Optical and floppy drives.
    #[serde(default)]
    pub media: Vec<MediumSpec>,
    /// Interfaces in order.
    pub nics: Vec<NicSpec>,
    /// Displays; the backend's usual one without.
    #[serde(default)]
    pub graphics: Vec<GraphicsKind>,
    /// Video adapters; the backend's usual one without.
    #[serde(default)]
    pub video: Vec<VideoAdapter>,
    /// Console password, sealed.
    pub console_password: Option<Sealed>,
    /// What the guest shall find at its first boot.
    pub guest: Option<GuestSetup>,
    /// The host to define it on, where the backend has several; it chooses without.
    #[serde(default)]
    pub host: Option<HostId>,
}

/// A disk to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// The pool's name on the backend.
    pub pool: String,
    /// Name within the pool; carries the VM's or volume's id, so that a second try finds its own volume.
    pub name: String,
    /// Virtual size in bytes; 0 for a copy or layer means as large as its image.
    pub capacity: u64,
    /// Layout to make.
    pub format: VolumeFormat,
    /// What it starts from.
    pub source: VolumeSource,
    /// How a VM that is made with it has it attached: `virtio`, `scsi`, `sata`, `ide`; the backend chooses without.
    #[serde(default)]
    pub bus: Option<String>,
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NicSpec {
    /// What it is plugged into.
    pub source: NicSource,
    /// MAC address; the backend chooses without.
    pub mac: Option<String>,
    /// `virtio`, `e1000` …; the backend chooses without.
    #[serde(default)]
    pub model: Option<String>,
}

/// What an interface is plugged into.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NicSource {
    /// A network of the backend, by name.
    Network(String),
    /// A bridge of the host, by name.
    Bridge(String),
    /// The hypervisor's own user-mode network.
    #[default]
    User,
}

/// First-boot set-up, delivered as the backend can (cloud-init seed).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GuestSetup {
    /// Host name.
    pub hostname: String,
    /// The administrator to set up.
    pub admin_user: String,
    /// The administrator's password, sealed.
    pub admin_password: Option<Sealed>,
    /// Public SSH keys.
    pub ssh_keys: Vec<String>,
    /// The client's own cloud-init user data, sealed; goes beside ours.
    #[serde(default)]
    pub user_data: Option<Sealed>,
    /// Addresses that interfaces shall have.
    #[serde(default)]
    pub addresses: Vec<StaticAddress>,
}

/// An address that the guest gives one of its interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticAddress {
    /// The interface's place among `nics`.
    pub nic: usize,
    /// Address.
    pub address: std::net::IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
    /// Default gateway.
    #[serde(default)]
    pub gateway: Option<std::net::IpAddr>,
}
