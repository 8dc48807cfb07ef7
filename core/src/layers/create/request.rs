//! What a client asks for when it creates a VM: wishes, before placement.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::{
    AffinityGroupId, BackendId, BootDevice, ClusterId, DiskOfferingId, Firmware, FlavorId, GraphicsKind,
    GroupId, HostId, Image, MediumKind, NetworkId, PoolId, Timestamp, VideoAdapter, VmId, VolumeId, ZoneId,
};
use crate::secret::Secret;

/// What libvirt, QEMU and Proxmox can all hold; more is a slip of the client.
const MOST_VCPUS: u32 = 4096;
/// 64 TiB.
const MOST_MEMORY: u64 = 1 << 46;
/// Less than this cannot run firmware.
const LEAST_MEMORY: u64 = 16 << 20;
/// More disks or interfaces than buses have room for.
const MOST_DEVICES: usize = 64;

/// The guest's administrator.
#[derive(Debug, Clone)]
pub struct GuestLogin {
    /// Login; the image's own without.
    pub user: Option<String>,
    /// Password.
    pub password: Secret,
}

/// The console of a new VM.
#[derive(Debug, Clone, Default)]
pub enum ConsoleChoice {
    /// No password.
    #[default]
    Open,
    /// This password.
    Password(Secret),
}

/// What the root disk starts from.
#[derive(Debug, Clone, Default)]
pub enum Root {
    /// A disk image.
    Image(Arc<Image>),
    /// Nothing: the VM boots from a medium or the network.
    #[default]
    Blank,
    /// There is no root disk.
    None,
}

/// A further disk.
#[derive(Debug, Clone, Default)]
pub struct DiskRequest {
    /// The volume's id where the client chooses it.
    pub id: Option<VolumeId>,
    /// Display name.
    pub name: String,
    /// Bytes; at least the image's size is made.
    pub size: u64,
    /// What it starts from; nothing without.
    pub image: Option<Arc<Image>>,
    /// Where it goes.
    pub pool: Option<PoolId>,
    /// `virtio`, `scsi`, `sata`, `ide`; the backend chooses without.
    pub bus: Option<String>,
    /// The offering that the size comes from.
    pub offering: Option<DiskOfferingId>,
}

/// An interface.
#[derive(Debug, Clone, Default)]
pub struct NicRequest {
    /// What it is plugged into; the site's usual network without.
    pub network: Option<NetworkId>,
    /// MAC address; the backend chooses without.
    pub mac: Option<String>,
    /// `virtio`, `e1000` …; the backend chooses without.
    pub model: Option<String>,
    /// The address that first-boot set-up gives it.
    pub address: Option<IpAddr>,
}

/// A removable drive.
#[derive(Debug, Clone)]
pub struct MediumRequest {
    /// Which kind.
    pub kind: MediumKind,
    /// What is in it; empty without.
    pub image: Option<Arc<Image>>,
}

/// Where a VM shall go. What is not stated is chosen.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// A backend.
    pub backend: Option<BackendId>,
    /// A host.
    pub host: Option<HostId>,
    /// A cluster.
    pub cluster: Option<ClusterId>,
    /// A zone.
    pub zone: Option<ZoneId>,
    /// The pool of the root disk, and of every disk that states none.
    pub pool: Option<PoolId>,
    /// A group whose rule it shall keep, and which it joins.
    pub affinity: Option<AffinityGroupId>,
}

/// A VM that a client asks for, before placement.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// The VM's id where the client chooses it; one that was ever in use is refused.
    pub id: Option<VmId>,
    /// Display name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// vCPUs.
    pub vcpus: u32,
    /// vCPUs that can be reached while running; 0 is as many as `vcpus`.
    pub max_vcpus: u32,
    /// Sockets × cores × threads.
    pub topology: Option<(u32, u32, u32)>,
    /// CPU model by its name on the backend.
    pub cpu_model: Option<String>,
    /// Memory in bytes.
    pub memory: u64,
    /// Memory that can be reached while running, in bytes; 0 is as much as `memory`.
    pub max_memory: u64,
    /// Firmware.
    pub firmware: Firmware,
    /// What it boots from, in order; the root disk without.
    pub boot: Vec<BootDevice>,
    /// What the root disk starts from.
    pub root: Root,
    /// Root disk in bytes; at least the image's size is made.
    pub disk: u64,
    /// The bus of the root disk; the backend chooses without.
    pub root_bus: Option<String>,
    /// Further disks.
    pub disks: Vec<DiskRequest>,
    /// Removable drives.
    pub media: Vec<MediumRequest>,
    /// Interfaces; none stated is one on the site's usual network.
    pub nics: Option<Vec<NicRequest>>,
    /// Displays; the backend's usual one without.
    pub graphics: Vec<GraphicsKind>,
    /// Video adapters; the backend's usual one without.
    pub video: Vec<VideoAdapter>,
    /// Where it shall go.
    pub wish: Wish,
    /// The flavor that the sizes come from.
    pub flavor: Option<FlavorId>,
    /// The guest's administrator.
    pub login: Option<GuestLogin>,
    /// The guest's host name; made of the display name without.
    pub hostname: Option<String>,
    /// Public SSH keys for the administrator.
    pub ssh_keys: Vec<String>,
    /// The client's own cloud-init user data.
    pub user_data: Option<Secret>,
    /// The guest's system in words.
    pub os: Option<String>,
    /// The group that it is sorted into.
    pub group: Option<GroupId>,
    /// What the dialect only records.
    pub settings: BTreeMap<String, String>,
    /// The console.
    pub console: ConsoleChoice,
    /// Whether to start it.
    pub start: bool,
    /// Whether it shows as importing while it is made.
    pub importing: bool,
    /// The lease as the client gave it.
    pub lease_term: Option<i64>,
    /// When a rented VM's term ends.
    pub expires_at: Option<Timestamp>,
    /// Marks.
    pub tags: BTreeMap<String, String>,
}

impl CreateRequest {
    /// The image of the root disk.
    pub fn image(&self) -> Option<&Arc<Image>> {
        match &self.root {
            Root::Image(image) => Some(image),
            Root::Blank | Root::None => None,
        }
    }

    /// Every image that a backend must have for it.
    pub(in crate::layers) fn images(&self) -> impl Iterator<Item = &Arc<Image>> {
        let data = self.disks.iter().filter_map(|disk| disk.image.as_ref());
        let media = self.media.iter().filter_map(|medium| medium.image.as_ref());
        self.image().into_iter().chain(data).chain(media)
    }

    /// Refuses sizes, counts and names that no backend takes.
    pub(in crate::layers) fn check(&self) -> Result<()> {
        if self.vcpus == 0 || self.vcpus > MOST_VCPUS {
            return Err(Error::invalid(
                "vcpus",
                format!("vcpus must be 1 to {MOST_VCPUS}, not {}", self.vcpus),
            ));
        }
        if self.max_vcpus != 0 && !(self.vcpus..=MOST_VCPUS).contains(&self.max_vcpus) {
            let text = format!(
                "the most vcpus must be {} to {MOST_VCPUS}, not {}",
                self.vcpus, self.max_vcpus
            );
            return Err(Error::invalid("max_vcpus", text));
        }
        check_memory("memory", self.memory)?;
        if self.max_memory != 0 && !(self.memory..=MOST_MEMORY).contains(&self.max_memory) {
            let text = format!(
                "the most memory must be {} to {MOST_MEMORY} bytes, not {}",
                self.memory, self.max_memory
            );
            return Err(Error::invalid("max_memory", text));
        }
        if let Some((sockets, cores, threads)) = self.topology {
            let all = sockets.checked_mul(cores).and_then(|n| n.checked_mul(threads));
            let most = self.max_vcpus.max(self.vcpus);
            if all != Some(most) {
                let text =
                    format!("{sockets} sockets of {cores} cores of {threads} threads are not {most} vcpus");
                return Err(Error::invalid("topology", text));
            }
        }
        check_name(&self.name)?;
        let nics = self.nics.as_ref().map_or(0, Vec::len);
        if self.disks.len() > MOST_DEVICES || nics > MOST_DEVICES {
            let text = format!("a vm has at most {MOST_DEVICES} disks and as many interfaces");
            return Err(Error::invalid("disks", text));
        }
        if matches!(self.root, Root::Blank) && self.disk == 0 {
            return Err(Error::invalid("disk", "an empty root disk needs a size"));
        }
        for disk in &self.disks {
            if disk.size == 0 && disk.image.is_none() {
                return Err(Error::invalid("disks", "an empty disk needs a size"));
            }
        }
        Ok(())
    }
}

fn check_memory(field: &'static str, memory: u64) -> Result<()> {
    if (LEAST_MEMORY..=MOST_MEMORY).contains(&memory) {
        return Ok(());
    }
    let text = format!("memory must be {LEAST_MEMORY} to {MOST_MEMORY} bytes, not {memory}");
    Err(Error::invalid(field, text))
}

pub(in crate::layers) fn check_name(name: &str) -> Result<()> {
    if name.chars().any(|letter| letter == '\0') {
        return Err(Error::invalid("name", "a name must not contain NUL"));
    }
    if name.chars().count() > 255 {
        return Err(Error::invalid("name", "a name has at most 255 characters"));
    }
    Ok(())
}
