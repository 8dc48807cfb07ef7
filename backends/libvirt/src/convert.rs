//! libvirt's view of a domain as the core's facts.

use std::net::IpAddr;
use std::sync::Arc;

use babelvisor_core::model::{
    AgentState, BackendId, Bandwidth, BootDevice, Cpu, Disk, DiskLimits, Firmware, Graphics, GraphicsKind,
    HostDevice, HostId, Memory, Nic, NicId, PoolVolume, PowerState, RemovableMedium, VmFacts, VmId,
    VolumeFormat,
};
use virt_sys as sys;

use crate::raw::GuestInterface;
use crate::xml::DomainXml;
use crate::xml::view::{DiskXml, GraphicsXml, InterfaceXml};

/// The metadata field that carries the id of the job that made a domain.
pub(crate) const META_JOB: &str = "job";

/// What is known of a domain beside its definition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// `virDomainState`.
    pub state: u32,
    /// Whether a managed save waits.
    pub saved: bool,
    /// Whether it survives a stop.
    pub persistent: bool,
    /// Whether it starts with its host.
    pub autostart: bool,
    /// Volumes behind its disks, in the order of the definition's disks.
    pub volumes: Vec<DiskVolume>,
    /// Addresses, from leases or the agent.
    pub addresses: Vec<GuestInterface>,
    /// The definition as text, without secrets.
    pub definition: Option<Arc<str>>,
}

/// The volume behind one disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DiskVolume {
    /// Pool and name, when it is a volume of a pool.
    pub volume: Option<PoolVolume>,
    /// Virtual size in bytes; 0 when not known.
    pub capacity: u64,
}

/// `virDomainState` as the core's power state.
pub(crate) fn power(state: u32) -> PowerState {
    match state {
        sys::VIR_DOMAIN_RUNNING => PowerState::Running,
        sys::VIR_DOMAIN_BLOCKED => PowerState::Blocked,
        sys::VIR_DOMAIN_PAUSED => PowerState::Paused,
        sys::VIR_DOMAIN_SHUTDOWN => PowerState::ShuttingDown,
        sys::VIR_DOMAIN_SHUTOFF => PowerState::Off,
        sys::VIR_DOMAIN_CRASHED => PowerState::Crashed,
        sys::VIR_DOMAIN_PMSUSPENDED => PowerState::Suspended,
        _ => PowerState::NoState,
    }
}

/// libvirt's word for an image format as the core's. No word means raw.
pub(crate) fn format(word: Option<&str>) -> VolumeFormat {
    match word {
        None | Some("raw" | "iso") => VolumeFormat::Raw,
        Some("qcow2") => VolumeFormat::Qcow2,
        Some(_) => VolumeFormat::Other,
    }
}

/// A boot device class.
fn boot_device(class: &str) -> Option<BootDevice> {
    match class {
        "hd" => Some(BootDevice::Disk),
        "cdrom" => Some(BootDevice::Cdrom),
        "network" => Some(BootDevice::Network),
        "fd" => Some(BootDevice::Floppy),
        _ => None,
    }
}

/// The boot order: the classes of `<os>`, or the devices' own numbers.
fn boot(xml: &DomainXml) -> Vec<BootDevice> {
    if !xml.os.boot.is_empty() {
        return xml
            .os
            .boot
            .iter()
            .filter_map(|class| boot_device(class))
            .collect();
    }
    let disks = xml.disks.iter().filter_map(|disk| {
        let device = match disk.device.as_str() {
            "cdrom" => BootDevice::Cdrom,
            "floppy" => BootDevice::Floppy,
            _ => BootDevice::Disk,
        };
        Some((disk.boot_order?, device))
    });
    let nics = xml
        .interfaces
        .iter()
        .filter_map(|nic| Some((nic.boot_order?, BootDevice::Network)));
    let mut ordered: Vec<(u32, BootDevice)> = disks.chain(nics).collect();
    ordered.sort_by_key(|(order, _)| *order);
    let mut devices: Vec<BootDevice> = ordered.into_iter().map(|(_, device)| device).collect();
    devices.dedup();
    devices
}

/// Facts of one domain.
pub(crate) fn facts(backend: &BackendId, host: HostId, xml: &DomainXml, around: Surroundings) -> VmFacts {
    let disks: Vec<(&DiskXml, DiskVolume)> = xml
        .disks
        .iter()
        .zip(
            around
                .volumes
                .into_iter()
                .chain(std::iter::repeat_with(DiskVolume::default)),
        )
        .collect();
    let root = xml
        .disks
        .iter()
        .filter(|disk| disk.is_disk())
        .min_by_key(|disk| disk.boot_order.unwrap_or(u32::MAX))
        .map(|disk| disk.target.as_str());
    VmFacts {
        id: VmId(xml.uuid),
        backend: backend.clone(),
        native: xml.uuid.to_string(),
        name: xml.name.clone(),
        host,
        power: power(around.state),
        saved: around.saved,
        persistent: around.persistent,
        autostart: around.autostart,
        cpu: Cpu {
            current: xml.vcpus,
            max: xml.max_vcpus,
            topology: xml
                .topology
                .map(|t| (t.sockets.saturating_mul(t.dies), t.cores, t.threads)),
            model: xml.cpu_model.clone().or_else(|| xml.cpu_mode.clone()),
        },
        memory: Memory {
            current: xml.current_memory,
            max: xml.memory,
        },
        firmware: if xml.os.uefi {
            Firmware::Uefi
        } else {
            Firmware::Bios
        },
        boot: boot(xml),
        disks: disks
            .iter()
            .filter(|(disk, _)| disk.is_disk())
            .map(|(disk, volume)| self::disk(disk, volume, root == Some(disk.target.as_str())))
            .collect(),
        removable: disks
            .iter()
            .filter(|(disk, _)| !disk.is_disk())
            .map(|(disk, _)| RemovableMedium {
                target: disk.target.clone(),
                kind: disk.device.clone(),
                source: source(disk),
            })
            .collect(),
        nics: xml
            .interfaces
            .iter()
            .zip(0_u32..)
            .map(|(interface, slot)| nic(backend, xml, interface, slot, &around.addresses))
            .collect(),
        graphics: xml.graphics.iter().filter_map(graphics).collect(),
        video: xml.videos.iter().map(|video| video.model.clone()).collect(),
        host_devices: xml
            .hostdevs
            .iter()
            .map(|device| HostDevice {
                kind: device.kind.clone(),
                address: device.address.clone(),
            })
            .collect(),
        agent: match (xml.has_agent_channel(), xml.agent_connected()) {
            (_, true) => AgentState::Connected,
            (true, false) => AgentState::Disconnected,
            (false, false) => AgentState::Absent,
        },
        definition: around.definition,
        made_by: xml.metadata(META_JOB).and_then(|job| job.parse().ok()),
    }
}

/// A disk's source in one word: path, network address or `pool/volume`.
fn source(disk: &DiskXml) -> Option<String> {
    disk.source
        .clone()
        .or_else(|| Some(format!("{}/{}", disk.pool.as_ref()?, disk.volume.as_ref()?)))
}

fn disk(disk: &DiskXml, volume: &DiskVolume, root: bool) -> Disk {
    Disk {
        target: disk.target.clone(),
        bus: disk.bus.clone().unwrap_or_default(),
        volume: volume.volume.clone(),
        source: source(disk).unwrap_or_default(),
        format: format(disk.format.as_deref()),
        capacity: volume.capacity,
        readonly: disk.readonly,
        root,
        limits: limits(disk),
    }
}

fn limits(disk: &DiskXml) -> DiskLimits {
    let limit = |name: &str| {
        let found = disk.iotune.iter().find(|(key, _)| key == name);
        found.map_or(0, |(_, value)| *value)
    };
    DiskLimits {
        total_bytes: limit("total_bytes_sec"),
        read_bytes: limit("read_bytes_sec"),
        write_bytes: limit("write_bytes_sec"),
        total_iops: limit("total_iops_sec"),
        read_iops: limit("read_iops_sec"),
        write_iops: limit("write_iops_sec"),
    }
}

/// libvirt counts KiB.
fn bandwidth([average, peak, burst]: [u64; 3]) -> Bandwidth {
    Bandwidth {
        average: average.saturating_mul(1024),
        peak: peak.saturating_mul(1024),
        burst: burst.saturating_mul(1024),
    }
}

fn nic(
    backend: &BackendId,
    xml: &DomainXml,
    interface: &InterfaceXml,
    slot: u32,
    addresses: &[GuestInterface],
) -> Nic {
    let mac = interface.mac.clone().unwrap_or_default();
    let mut found: Vec<IpAddr> = addresses
        .iter()
        .filter(|guest| guest.mac.as_deref().is_some_and(|m| m.eq_ignore_ascii_case(&mac)))
        .flat_map(|guest| {
            guest
                .addresses
                .iter()
                .filter_map(|(address, _)| address.parse().ok())
                .filter(reachable)
        })
        .collect();
    found.sort();
    found.dedup();
    Nic {
        id: NicId::computed(backend, &format!("{}/{slot}", xml.uuid)),
        slot,
        mac,
        model: interface.model.clone().unwrap_or_default(),
        source: interface.source.clone().unwrap_or_else(|| interface.kind.clone()),
        network: match (interface.kind.as_str(), &interface.source) {
            ("network", Some(name)) => Some(super::read::network_id(backend, name)),
            _ => None,
        },
        target: interface.target.clone(),
        addresses: found,
        inbound: interface.inbound.map(bandwidth),
        outbound: interface.outbound.map(bandwidth),
    }
}

fn graphics(graphics: &GraphicsXml) -> Option<Graphics> {
    Some(Graphics {
        kind: graphics_kind(&graphics.kind)?,
        port: graphics.port,
        listen: graphics.listen.clone(),
        has_password: graphics.password.is_some(),
    })
}

/// Whether others can reach a guest by this address: every interface has a link-local one, even without a network.
fn reachable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback() && !v6.is_unspecified(),
    }
}

/// The protocols that the core knows.
pub(crate) fn graphics_kind(word: &str) -> Option<GraphicsKind> {
    match word {
        "vnc" => Some(GraphicsKind::Vnc),
        "spice" => Some(GraphicsKind::Spice),
        _ => None,
    }
}
