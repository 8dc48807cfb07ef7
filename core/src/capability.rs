//! What a backend can do, as data: every capability has a verdict, and a verdict that is not "native" has a
//! reason. The capability check refuses by this table before any side effect, and the coverage report
//! prints it.

use serde::Serialize;
use strum::{EnumCount, IntoEnumIterator};

/// One thing that a backend may be able to do. The dotted names are what tables and reports use.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::EnumIter,
    strum::EnumCount,
    strum::AsRefStr,
    strum::EnumString,
)]
#[repr(u8)]
pub enum Capability {
    /// List, get and watch VMs.
    #[strum(serialize = "vm.list")]
    VmList,
    /// Define a VM from a spec, powered off.
    #[strum(serialize = "vm.create")]
    VmCreate,
    /// Remove a VM's definition.
    #[strum(serialize = "vm.delete")]
    VmDelete,
    /// Power on.
    #[strum(serialize = "power.start")]
    PowerStart,
    /// Ask the guest to power off.
    #[strum(serialize = "power.shutdown")]
    PowerShutdown,
    /// Cut the power.
    #[strum(serialize = "power.force_off")]
    PowerForceOff,
    /// Ask the guest to reboot.
    #[strum(serialize = "power.reboot")]
    PowerReboot,
    /// Press the reset button.
    #[strum(serialize = "power.reset")]
    PowerReset,
    /// Stop the vCPUs, keep memory.
    #[strum(serialize = "power.suspend")]
    PowerSuspend,
    /// Continue the vCPUs.
    #[strum(serialize = "power.resume")]
    PowerResume,
    /// Write memory to disk and stop; the next start goes on from there.
    #[strum(serialize = "power.save")]
    PowerSave,
    /// Go on from saved memory.
    #[strum(serialize = "power.restore")]
    PowerRestore,
    /// Change the vCPUs: while it is off, and while it runs up to the maximum.
    #[strum(serialize = "config.cpu")]
    ConfigCpu,
    /// Change the memory: while it is off, and while it runs up to the maximum.
    #[strum(serialize = "config.memory")]
    ConfigMemory,
    /// Change the boot order.
    #[strum(serialize = "config.boot")]
    ConfigBoot,
    /// Start with the host.
    #[strum(serialize = "config.autostart")]
    ConfigAutostart,
    /// Change the video adapters.
    #[strum(serialize = "config.video")]
    ConfigVideo,
    /// Plug a volume in, running or off.
    #[strum(serialize = "disk.attach")]
    DiskAttach,
    /// Unplug a disk, running or off.
    #[strum(serialize = "disk.detach")]
    DiskDetach,
    /// Limit a disk's throughput.
    #[strum(serialize = "disk.qos")]
    DiskQos,
    /// Plug an interface in, running or off.
    #[strum(serialize = "nic.attach")]
    NicAttach,
    /// Unplug an interface, running or off.
    #[strum(serialize = "nic.detach")]
    NicDetach,
    /// Change an interface's network, address or model.
    #[strum(serialize = "nic.update")]
    NicUpdate,
    /// Limit an interface's throughput.
    #[strum(serialize = "nic.qos")]
    NicQos,
    /// Insert and eject optical and floppy media.
    #[strum(serialize = "media.change")]
    MediaChange,
    /// Snapshot a VM's disks.
    #[strum(serialize = "snapshot.create")]
    SnapshotCreate,
    /// Snapshot a running VM with its memory.
    #[strum(serialize = "snapshot.memory")]
    SnapshotMemory,
    /// Go back to a snapshot.
    #[strum(serialize = "snapshot.revert")]
    SnapshotRevert,
    /// Remove a snapshot.
    #[strum(serialize = "snapshot.delete")]
    SnapshotDelete,
    /// Move a VM to another host while it runs.
    #[strum(serialize = "vm.migrate")]
    VmMigrate,
    /// Make an empty volume.
    #[strum(serialize = "volume.create")]
    VolumeCreate,
    /// Make a volume as a full copy of an image.
    #[strum(serialize = "volume.copy")]
    VolumeCopy,
    /// Make a volume as a copy-on-write layer over an image.
    #[strum(serialize = "volume.layer")]
    VolumeLayer,
    /// Remove a volume.
    #[strum(serialize = "volume.delete")]
    VolumeDelete,
    /// Make a volume larger, attached or not.
    #[strum(serialize = "volume.resize")]
    VolumeResize,
    /// Fill a new volume with bytes from the gateway.
    #[strum(serialize = "volume.upload")]
    VolumeUpload,
    /// Deliver first-boot set-up to the guest.
    #[strum(serialize = "guest.setup")]
    GuestSetup,
    /// Addresses of the guest, from leases or the agent.
    #[strum(serialize = "guest.addresses")]
    GuestAddresses,
    /// Set a password inside the running guest.
    #[strum(serialize = "guest.password")]
    GuestPassword,
    /// Where the console is.
    #[strum(serialize = "console.endpoint")]
    ConsoleEndpoint,
    /// Set and read the console password.
    #[strum(serialize = "console.password")]
    ConsolePassword,
    /// A picture of the screen.
    #[strum(serialize = "console.screenshot")]
    ConsoleScreenshot,
    /// Hosts, pools and networks.
    #[strum(serialize = "topology.list")]
    TopologyList,
}

/// Whether, and how, a backend does one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "support", content = "reason", rename_all = "snake_case")]
pub enum Support {
    /// The backend itself does it.
    Native,
    /// We do it by other means; the text says how.
    Emulated(String),
    /// It could be done but is not built; the text says what is missing.
    NotYet(String),
    /// It cannot be done; the text says why.
    Impossible(String),
}

impl Support {
    /// Whether a call may be made.
    pub const fn usable(&self) -> bool {
        match self {
            Self::Native | Self::Emulated(_) => true,
            Self::NotYet(_) | Self::Impossible(_) => false,
        }
    }

    /// The word that reports print.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Emulated(_) => "emulated",
            Self::NotYet(_) => "not yet",
            Self::Impossible(_) => "impossible",
        }
    }

    /// The reason, where there is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Native => None,
            Self::Emulated(reason) | Self::NotYet(reason) | Self::Impossible(reason) => Some(reason),
        }
    }
}

/// A verdict for every capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapabilitySet(Vec<Support>);

impl CapabilitySet {
    /// Asks `judge` for each capability; being a `match` there, it must answer all of them.
    pub fn build(judge: impl Fn(Capability) -> Support) -> Self {
        Self(Capability::iter().map(judge).collect())
    }

    /// The verdict on one capability.
    pub fn get(&self, capability: Capability) -> &Support {
        static MISSING: Support = Support::NotYet(String::new());
        self.0.get(capability as usize).unwrap_or(&MISSING)
    }

    /// All verdicts in the order of the enum.
    pub fn iter(&self) -> impl Iterator<Item = (Capability, &Support)> {
        Capability::iter().zip(self.0.iter())
    }

    /// How many capabilities there are.
    pub const COUNT: usize = Capability::COUNT;
}
