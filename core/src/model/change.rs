//! One change of an existing VM's hardware or settings, as data: what a backend's `change` gets, what the state
//! table judges and what a job stores. A change applies to the running machine and to its definition alike, and
//! "already so" is success, because a job that was cut off makes it again.

use serde::{Deserialize, Serialize};

use super::{BootDevice, NicSpec, PoolVolume, VolumeFormat};
use crate::capability::Capability;
use crate::secret::Sealed;

/// A change of an existing VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, strum::EnumDiscriminants)]
#[strum_discriminants(
    name(ChangeKind),
    derive(Hash, PartialOrd, Ord, strum::EnumIter, strum::AsRefStr),
    strum(serialize_all = "snake_case"),
    doc = "The kinds of [`VmChange`], for tables.",
    allow(missing_docs)
)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum VmChange {
    /// Virtual processors. A running VM takes a new `current` up to its present `max` only.
    Cpu {
        /// vCPUs in use.
        current: u32,
        /// vCPUs that can be reached while running.
        max: u32,
        /// Sockets × cores × threads; none leaves it to the backend.
        #[serde(default)]
        topology: Option<(u32, u32, u32)>,
    },
    /// Memory in bytes. A running VM takes a new `current` up to its present `max` only.
    Memory {
        /// Bytes in use.
        current: u64,
        /// Bytes that can be reached while running.
        max: u64,
    },
    /// What it boots from, in order; takes effect at the next start.
    BootOrder {
        /// First to last; not empty.
        order: Vec<BootDevice>,
    },
    /// Whether it starts with its host.
    Autostart {
        /// On or off.
        on: bool,
    },
    /// The video adapters of the definition, all of them, in order.
    Video {
        /// First to last; at least one.
        adapters: Vec<VideoAdapter>,
    },
    /// Plug a volume in. It is so already when the VM has the volume.
    AttachDisk(DiskAttachment),
    /// Unplug a disk; its volume stays. It is so already when there is no such disk.
    DetachDisk {
        /// Target name inside the definition: `vdb`, `scsi1`.
        target: String,
    },
    /// Limit a disk; the limits replace those that it had.
    DiskQos {
        /// Target name inside the definition.
        target: String,
        /// The limits.
        limits: DiskLimits,
    },
    /// Plug an interface in. `mac` is set, and it is so already when the VM has an interface with it.
    AttachNic(NicSpec),
    /// Unplug an interface. It is so already when there is none with that address.
    DetachNic {
        /// MAC address, lower case with colons.
        mac: String,
    },
    /// Change what an interface is plugged into, its address or its model. What `to` leaves out stays.
    UpdateNic {
        /// The interface's present MAC address.
        mac: String,
        /// What it shall be.
        to: NicSpec,
    },
    /// Limit an interface; the limits replace those that it had.
    NicQos {
        /// MAC address.
        mac: String,
        /// What the guest receives; none is no limit.
        inbound: Option<Bandwidth>,
        /// What the guest sends; none is no limit.
        outbound: Option<Bandwidth>,
    },
    /// Put a medium into a drive, which is made if the VM has none (of a running VM: if the backend can).
    InsertMedium {
        /// Which kind of drive.
        kind: MediumKind,
        /// The drive; the first of its kind without.
        target: Option<String>,
        /// The backend's key of the volume or file, as in an image's location.
        source: String,
    },
    /// Empty a drive.
    EjectMedium {
        /// Which kind of drive.
        kind: MediumKind,
        /// The drive; all of its kind without.
        target: Option<String>,
    },
    /// Set or remove the console password, live and in the definition.
    ConsolePassword {
        /// The password, sealed; none removes it.
        password: Option<Sealed>,
    },
    /// Set a password inside the running guest, through its agent.
    GuestPassword {
        /// Login.
        user: String,
        /// Password, sealed.
        password: Sealed,
    },
}

impl VmChange {
    /// The change's kind.
    pub fn kind(&self) -> ChangeKind {
        ChangeKind::from(self)
    }

    /// What a backend must be able to do for it.
    pub fn needs(&self) -> Capability {
        self.kind().needs()
    }

    /// The volume that it takes hold of or lets go, where it names one.
    pub fn volume(&self) -> Option<&PoolVolume> {
        match self {
            Self::AttachDisk(disk) => Some(&disk.volume),
            Self::Cpu { .. }
            | Self::Memory { .. }
            | Self::BootOrder { .. }
            | Self::Autostart { .. }
            | Self::Video { .. }
            | Self::DetachDisk { .. }
            | Self::DiskQos { .. }
            | Self::AttachNic(_)
            | Self::DetachNic { .. }
            | Self::UpdateNic { .. }
            | Self::NicQos { .. }
            | Self::InsertMedium { .. }
            | Self::EjectMedium { .. }
            | Self::ConsolePassword { .. }
            | Self::GuestPassword { .. } => None,
        }
    }
}

impl ChangeKind {
    /// What a backend must be able to do for it.
    pub const fn needs(self) -> Capability {
        match self {
            Self::Cpu => Capability::ConfigCpu,
            Self::Memory => Capability::ConfigMemory,
            Self::BootOrder => Capability::ConfigBoot,
            Self::Autostart => Capability::ConfigAutostart,
            Self::Video => Capability::ConfigVideo,
            Self::AttachDisk => Capability::DiskAttach,
            Self::DetachDisk => Capability::DiskDetach,
            Self::DiskQos => Capability::DiskQos,
            Self::AttachNic => Capability::NicAttach,
            Self::DetachNic => Capability::NicDetach,
            Self::UpdateNic => Capability::NicUpdate,
            Self::NicQos => Capability::NicQos,
            Self::InsertMedium | Self::EjectMedium => Capability::MediaChange,
            Self::ConsolePassword => Capability::ConsolePassword,
            Self::GuestPassword => Capability::GuestPassword,
        }
    }
}

/// A volume to plug in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskAttachment {
    /// The volume.
    pub volume: PoolVolume,
    /// Its layout, declared.
    pub format: VolumeFormat,
    /// `virtio`, `scsi`, `sata`, `ide`; the backend chooses without.
    #[serde(default)]
    pub bus: Option<String>,
    /// Whether the guest may not write.
    #[serde(default)]
    pub readonly: bool,
    /// Whether other VMs may have it attached at the same time.
    #[serde(default)]
    pub shareable: bool,
}

/// A video adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoAdapter {
    /// `vga`, `virtio`, `qxl`, `cirrus` …
    pub model: String,
    /// Video memory in bytes; the backend chooses without.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Screens; the backend chooses without.
    #[serde(default)]
    pub heads: Option<u32>,
}

/// Limits of a disk; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiskLimits {
    /// Bytes a second, both directions together.
    pub total_bytes: u64,
    /// Bytes a second read.
    pub read_bytes: u64,
    /// Bytes a second written.
    pub write_bytes: u64,
    /// Operations a second, both directions together.
    pub total_iops: u64,
    /// Reads a second.
    pub read_iops: u64,
    /// Writes a second.
    pub write_iops: u64,
}

/// Limits of one direction of an interface, in bytes a second; 0 is not stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bandwidth {
    /// The long-term rate.
    pub average: u64,
    /// The rate of a burst.
    pub peak: u64,
    /// How many bytes may go at the peak rate.
    pub burst: u64,
}

/// Kinds of removable media.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::AsRefStr, strum::EnumIter,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum MediumKind {
    /// Optical disc.
    Cdrom,
    /// Floppy disk.
    Floppy,
}

/// A medium that a new VM starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediumSpec {
    /// Which kind of drive.
    pub kind: MediumKind,
    /// What is in it, as in an image's location; none is an empty drive.
    #[serde(default)]
    pub source: Option<String>,
}
