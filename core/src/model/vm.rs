//! The virtual machine: what its backend reports ([`VmFacts`]), what only the gateway remembers
//! ([`VmRecord`]), and the two merged as every query sees them ([`Vm`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    BackendId, Disk, FlavorId, Graphics, HostId, ImageId, JobId, Nic, PoolVolume, RemovableMedium, TenantId,
    Timestamp, VmId,
};
use crate::error::Error;
use crate::secret::Sealed;

/// The power state: libvirt's eight, which two dialects print as they are.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumIter,
    strum::AsRefStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PowerState {
    /// Nothing is known, or the VM is still being created.
    NoState,
    /// vCPUs run.
    Running,
    /// Running, but waiting for a resource.
    Blocked,
    /// vCPUs are stopped, memory is kept.
    Paused,
    /// The guest is on its way down.
    ShuttingDown,
    /// Not running.
    Off,
    /// Ended by a fault.
    Crashed,
    /// Suspended by the guest's own power management.
    Suspended,
}

/// What a queued or running job does to a VM; `None` is the activity's absence.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumIter,
    strum::AsRefStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Activity {
    /// Being created.
    Creating,
    /// Being started.
    Starting,
    /// Being shut down or forced off.
    Stopping,
    /// Being rebooted or reset.
    Rebooting,
    /// vCPUs being stopped.
    Suspending,
    /// vCPUs being continued.
    Resuming,
    /// Being copied.
    Cloning,
    /// Memory being written to disk.
    Saving,
    /// Memory being read from disk.
    Restoring,
    /// Moving between hosts.
    Migrating,
    /// A disk being read in.
    Importing,
    /// A disk being written out.
    Exporting,
    /// Hardware or settings being changed.
    Reconfiguring,
    /// A snapshot being made, reverted or removed.
    Snapshotting,
    /// Being deleted.
    Deleting,
}

/// How the firmware boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    /// Legacy BIOS.
    #[default]
    Bios,
    /// UEFI.
    Uefi,
}

/// A kind of device to boot from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootDevice {
    /// The first disk.
    Disk,
    /// The optical drive.
    Cdrom,
    /// A network interface (PXE).
    Network,
    /// The floppy drive.
    Floppy,
}

/// Virtual processors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Cpu {
    /// vCPUs now.
    pub current: u32,
    /// vCPUs that can be reached while running.
    pub max: u32,
    /// Sockets × cores × threads, if stated.
    #[serde(default)]
    pub topology: Option<(u32, u32, u32)>,
    /// The CPU model's name, if stated.
    #[serde(default)]
    pub model: Option<String>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Memory {
    /// Bytes now.
    pub current: u64,
    /// Bytes that can be reached while running.
    pub max: u64,
}

/// The guest agent's channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    /// No channel configured.
    #[default]
    Absent,
    /// A channel, but nobody answers.
    Disconnected,
    /// The agent answers.
    Connected,
}

/// A host device passed through to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDevice {
    /// `pci`, `usb` or `mdev`.
    pub kind: String,
    /// The host's address of it.
    pub address: String,
}

/// What a backend reports of one VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmFacts {
    /// The VM's id: the domain UUID on libvirt, computed elsewhere.
    pub id: VmId,
    /// The backend that reports it.
    pub backend: BackendId,
    /// The backend's own key (libvirt: the UUID as text).
    pub native: String,
    /// The backend's name of it.
    pub name: String,
    /// The host that it is defined on.
    pub host: HostId,
    /// The power state.
    pub power: PowerState,
    /// Whether saved memory waits to be restored.
    #[serde(default)]
    pub saved: bool,
    /// Whether the definition survives a stop.
    #[serde(default)]
    pub persistent: bool,
    /// Whether it starts with its host.
    #[serde(default)]
    pub autostart: bool,
    /// vCPUs.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Firmware.
    #[serde(default)]
    pub firmware: Firmware,
    /// Boot order.
    #[serde(default)]
    pub boot: Vec<BootDevice>,
    /// Disks (without removable media), in device order.
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Optical and floppy drives.
    #[serde(default)]
    pub removable: Vec<RemovableMedium>,
    /// Interfaces, in device order.
    #[serde(default)]
    pub nics: Vec<Nic>,
    /// Displays.
    #[serde(default)]
    pub graphics: Vec<Graphics>,
    /// Video adapters' model names.
    #[serde(default)]
    pub video: Vec<String>,
    /// Passed-through devices.
    #[serde(default)]
    pub host_devices: Vec<HostDevice>,
    /// The guest agent.
    #[serde(default)]
    pub agent: AgentState,
    /// The backend's own description, without secrets (libvirt: domain XML), if it has one in words.
    #[serde(default)]
    pub definition: Option<Arc<str>>,
    /// The job that made it, if we did: how a second try of that job finds it.
    #[serde(default)]
    pub made_by: Option<JobId>,
}

/// What the gateway itself remembers of one VM. Made when a VM is created through us or first seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VmRecord {
    /// The VM.
    pub id: VmId,
    /// The backend that has or will have it.
    pub backend: BackendId,
    /// Whom it belongs to.
    pub tenant: TenantId,
    /// A small integer, counted up, never reused.
    pub number: u64,
    /// Ten letters and digits, never reused.
    pub short_id: String,
    /// When the gateway made or first saw it.
    pub first_seen: Timestamp,
    /// How it came to us.
    pub origin: VmOrigin,
    /// Display name; none follows the backend's name.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Free text.
    #[serde(default)]
    pub remark: String,
    /// Free key-value marks.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The guest's host name, as asked for.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Public SSH keys that the guest was or shall be given.
    #[serde(default)]
    pub ssh_keys: Vec<String>,
    /// The guest's system in words (`Linux`, `Windows`), as asked for.
    #[serde(default)]
    pub os: Option<String>,
    /// The group that it is sorted into.
    #[serde(default)]
    pub group: Option<super::GroupId>,
    /// What a dialect only records, by names of its own (`ha-level`, `monitors`): shown again, never acted upon.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The image that it was made from.
    #[serde(default)]
    pub image: Option<ImageId>,
    /// The flavor that it was made with.
    #[serde(default)]
    pub flavor: Option<FlavorId>,
    /// The guest's administrator, as set at creation.
    #[serde(default)]
    pub admin_user: Option<String>,
    /// The administrator's password, sealed; some dialects show it to the owner.
    #[serde(default)]
    pub admin_password: Option<Sealed>,
    /// The console password, sealed.
    #[serde(default)]
    pub console_password: Option<Sealed>,
    /// The lease as the caller gave it: a number without a stated unit, kept unchanged.
    #[serde(default)]
    pub lease_term: Option<i64>,
    /// When a rented VM's term ends.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Volumes that we made for it, so that they can go with it: pool and name on its backend.
    #[serde(default)]
    pub volumes: Vec<PoolVolume>,
    /// When lease enforcement suspended it.
    #[serde(default)]
    pub lapsed_at: Option<Timestamp>,
    /// When it was moved to the trash.
    #[serde(default)]
    pub trashed_at: Option<Timestamp>,
    /// The backend's description at creation.
    #[serde(default)]
    pub definition: Option<Arc<str>>,
    /// Why creation failed; such a VM needs cleaning up.
    #[serde(default)]
    pub fault: Option<Error>,
    /// What the spec asked for, shown while the backend does not have the VM yet.
    #[serde(default)]
    pub planned: Option<Planned>,
    /// When it went away; the record stays so that its ids are never given out again.
    #[serde(default)]
    pub gone_at: Option<Timestamp>,
}

/// How a VM came to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmOrigin {
    /// Created through the gateway.
    Created,
    /// Found on a backend.
    Adopted,
}

/// Sizes and networks of a VM that is still being created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// vCPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Sizes of the disks in bytes.
    pub disks: Vec<u64>,
    /// Names of the networks.
    pub networks: Vec<String>,
    /// The host, where it was chosen beforehand.
    #[serde(default)]
    pub host: Option<HostId>,
}

/// A VM as every query sees it: facts and record of one moment. Cheap to clone behind its `Arc`.
#[derive(Debug, Clone)]
pub struct Vm {
    /// The VM's id.
    pub id: VmId,
    /// Grows with every visible change of this VM; caches of encoded forms key on it.
    pub revision: u64,
    /// What the gateway remembers.
    pub record: Arc<VmRecord>,
    /// The record's version in the store, for compare-and-set.
    pub record_version: u64,
    /// What the backend reports; none while it is being created or after creation failed.
    pub facts: Option<Arc<VmFacts>>,
    /// What the oldest unfinished job does to it.
    pub activity: Option<Activity>,
    /// Whether its backend answers.
    pub reachable: bool,
    /// When the facts last changed.
    pub changed: Timestamp,
}

impl Vm {
    /// The display name: the registry's, or else the backend's.
    pub fn name(&self) -> &str {
        match (&self.record.display_name, &self.facts) {
            (Some(name), _) => name,
            (None, Some(facts)) => &facts.name,
            (None, None) => "",
        }
    }

    /// The backend that a change of it goes to: whichever reports it, or else will have it.
    pub fn home(&self) -> &BackendId {
        self.facts
            .as_ref()
            .map_or(&self.record.backend, |facts| &facts.backend)
    }

    /// The power state; `NoState` without facts.
    pub fn power(&self) -> PowerState {
        self.facts
            .as_ref()
            .map_or(PowerState::NoState, |facts| facts.power)
    }

    /// vCPUs now, or as planned.
    pub fn vcpus(&self) -> u32 {
        match (&self.facts, &self.record.planned) {
            (Some(facts), _) => facts.cpu.current,
            (None, Some(planned)) => planned.vcpus,
            (None, None) => 0,
        }
    }

    /// Memory in bytes now, or as planned.
    pub fn memory(&self) -> u64 {
        match (&self.facts, &self.record.planned) {
            (Some(facts), _) => facts.memory.current,
            (None, Some(planned)) => planned.memory,
            (None, None) => 0,
        }
    }

    /// The virtual size of all disks in bytes, or as planned.
    pub fn disk_bytes(&self) -> u64 {
        match (&self.facts, &self.record.planned) {
            (Some(facts), _) => facts.disks.iter().map(|disk| disk.capacity).sum(),
            (None, Some(planned)) => planned.disks.iter().sum(),
            (None, None) => 0,
        }
    }

    /// Whether this VM is shown to ordinary lists: neither gone nor in the trash.
    pub fn visible(&self) -> bool {
        self.record.gone_at.is_none() && self.record.trashed_at.is_none()
    }
}
