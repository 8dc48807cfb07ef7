//! The devices of a VM as inspect prints them: disks, drives, interfaces, video adapters, the boot order.

use std::borrow::Cow;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{
    Bandwidth, BootDevice, Disk, GraphicsKind, Image, MediumKind, Nic, RemovableMedium, Vm, VmFacts, VolumeId,
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::entry::{nics, recorded, setting};

/// Bytes of the document's kB.
const KB: u64 = 1024;
/// Where inspect numbers kinds of boot devices.
const CDROM: u8 = 1;
const FLOPPY: u8 = 2;
const DISK: u8 = 3;
const NETWORK: u8 = 4;

/// A disk; one of its sources is set.
#[derive(Serialize)]
pub(super) struct ShownDisk<'a> {
    disk_target_device: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_target_bus: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_vsd_source: Option<VolumeSource<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_source_passthrough: Option<HostDisk<'a>>,
    disk_cache_mode: &'static str,
    backing_store: BackingStore,
    disks_serial: &'static str,
    wwn: &'static str,
    disk_is_system: bool,
}

/// What a disk is a layer over, which is not told.
#[derive(Default, Serialize)]
struct BackingStore {
    index: u32,
    format: Option<Value>,
    source: Option<Value>,
    backing_store: Option<Value>,
}

/// A volume of a pool.
#[derive(Serialize)]
struct VolumeSource<'a> {
    volume_uuid: String,
    volume_name: Cow<'a, str>,
    disk_capacity: u64,
    pool_uuid: String,
    pool_name: &'a str,
    replica: &'static str,
    drive_type: &'static str,
    redundancy: u32,
    attribute: Option<Value>,
    vsd_vendor: &'static str,
}

/// A disk that lies in no pool.
#[derive(Serialize)]
struct HostDisk<'a> {
    disk_id: String,
    host_uuid: String,
    host_ip: &'a str,
    disk_capacity: u64,
    disk_path: &'a str,
}

/// An interface.
#[derive(Serialize)]
pub(super) struct ShownInterface<'a> {
    interface_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface_model_type: Option<&'a str>,
    interface_type: &'a str,
    mac_address: &'a str,
    ips: Vec<String>,
    in_bount: Limits,
    out_bount: Limits,
    target_dev: &'a str,
    vlan_tag_ids: [u16; 0],
    driver: Option<Value>,
    vhost_queue: u32,
    port_group: String,
    port_group_name: &'static str,
    bound_ip: &'a str,
    name: &'static str,
}

/// Limits of one direction of an interface: kB/s, kB/s, kB; all 0 without.
#[derive(Default, Serialize)]
struct Limits {
    average: u64,
    peak: u64,
    burst: u64,
}

impl Limits {
    fn of(limits: Option<Bandwidth>) -> Self {
        limits.map_or_else(Self::default, |limits| Self {
            average: limits.average.div_ceil(KB),
            peak: limits.peak.div_ceil(KB),
            burst: limits.burst.div_ceil(KB),
        })
    }
}

/// A video adapter.
#[derive(Serialize)]
pub(super) struct ShownVideo<'a> {
    model_type: &'a str,
}

/// A kind of boot device and the device.
#[derive(Serialize)]
pub(super) struct BootEntry {
    #[serde(rename = "type")]
    kind: u8,
    value: String,
}

/// A volume's id: that of its record, or computed from where it lies.
pub(crate) fn volume_id(now: &Snapshot, vm: &Vm, disk: &Disk) -> VolumeId {
    match &disk.volume {
        Some(volume) => now.volume_id(vm.home(), volume),
        None => VolumeId::computed(vm.home(), &disk.source),
    }
}

pub(super) fn disks<'a>(now: &'a Snapshot, vm: &'a Vm, facts: &'a VmFacts) -> Vec<ShownDisk<'a>> {
    let host = now.hosts.get(&facts.host);
    let shown = facts.disks.iter().map(|disk| {
        let id = volume_id(now, vm, disk);
        let in_pool = disk.volume.as_ref().map(|volume| VolumeSource {
            volume_uuid: id.to_string(),
            volume_name: Cow::Borrowed(&volume.name),
            disk_capacity: disk.capacity,
            pool_uuid: now
                .pools
                .values()
                .find(|pool| pool.backend == facts.backend && pool.name == volume.pool)
                .map(|pool| pool.id.to_string())
                .unwrap_or_default(),
            pool_name: &volume.pool,
            replica: "1",
            drive_type: "",
            redundancy: 1,
            attribute: None,
            vsd_vendor: "",
        });
        let loose = disk.volume.is_none().then(|| HostDisk {
            disk_id: id.to_string(),
            host_uuid: facts.host.to_string(),
            host_ip: host.and_then(|host| host.address.as_deref()).unwrap_or_default(),
            disk_capacity: disk.capacity,
            disk_path: &disk.source,
        });
        ShownDisk {
            disk_target_device: &disk.target,
            disk_target_bus: known(&disk.bus, &["ide", "scsi", "virtio", "sata"]),
            disk_vsd_source: in_pool,
            disk_source_passthrough: loose,
            disk_cache_mode: "default",
            backing_store: BackingStore::default(),
            disks_serial: "",
            wwn: "",
            disk_is_system: disk.root,
        }
    });
    shown.collect()
}

pub(super) fn interfaces<'a>(vm: &'a Vm, port_group: impl Fn(&Nic) -> String) -> Vec<ShownInterface<'a>> {
    let shown = nics(vm).iter().map(|nic| ShownInterface {
        interface_id: nic.id.to_string(),
        interface_model_type: known(&nic.model, &["virtio", "e1000", "rtl8139"]),
        interface_type: &nic.source,
        mac_address: &nic.mac,
        ips: nic.addresses.iter().map(ToString::to_string).collect(),
        in_bount: Limits::of(nic.inbound),
        out_bount: Limits::of(nic.outbound),
        target_dev: nic.target.as_deref().unwrap_or_default(),
        vlan_tag_ids: [],
        driver: None,
        vhost_queue: 0,
        port_group: port_group(nic),
        port_group_name: "default",
        bound_ip: recorded(vm, &setting::bound_ip(nic.slot as usize)).unwrap_or_default(),
        name: "",
    });
    shown.collect()
}

pub(super) fn video(facts: &VmFacts) -> Vec<ShownVideo<'_>> {
    facts
        .video
        .iter()
        .map(|model| ShownVideo {
            // Adapters without a word of their own in the document are compatible with VGA.
            model_type: known(model, &["qxl", "virtio", "none"]).unwrap_or("vga"),
        })
        .collect()
}

/// The first drive of a kind, as an object that is empty where there is no medium in it.
pub(super) fn drive(now: &Snapshot, vm: &Vm, facts: &VmFacts, kind: MediumKind) -> Map<String, Value> {
    let mut shown = Map::new();
    let drive = super::media::drive(vm, facts, kind);
    if let Some(RemovableMedium {
        source: Some(source), ..
    }) = drive
    {
        let image = image_of(now, vm, source);
        let name = image.map_or_else(|| file_name(source), |image| image.name.as_str());
        shown.insert("name".to_owned(), name.into());
        shown.insert(
            "image_uuid".to_owned(),
            image.map(|image| image.id.to_string()).unwrap_or_default().into(),
        );
    }
    shown
}

/// The image that a medium is: by the backend's key, or by the file that both name.
fn image_of<'a>(now: &'a Snapshot, vm: &Vm, source: &str) -> Option<&'a Image> {
    let here = |image: &Image, same: &dyn Fn(&str) -> bool| {
        let mut locations = image.locations.iter();
        locations.any(|location| location.backend == *vm.home() && same(&location.native))
    };
    let find = |same: &dyn Fn(&str) -> bool| {
        let mut images = now.images.values().map(AsRef::as_ref);
        images.find(|image| here(image, same))
    };
    find(&|native| native == source).or_else(|| find(&|native| file_name(native) == file_name(source)))
}

fn file_name(source: &str) -> &str {
    source.rsplit('/').next().unwrap_or(source)
}

/// The devices of each kind that the VM boots from, in its order; those of kinds that it does not boot from follow.
pub(super) fn boot_order(facts: &VmFacts) -> Vec<BootEntry> {
    let all = [
        BootDevice::Disk,
        BootDevice::Cdrom,
        BootDevice::Floppy,
        BootDevice::Network,
    ];
    let rest = all.into_iter().filter(|kind| !facts.boot.contains(kind));
    facts
        .boot
        .iter()
        .copied()
        .chain(rest)
        .flat_map(|kind| devices(facts, kind))
        .collect()
}

fn devices(facts: &VmFacts, kind: BootDevice) -> Vec<BootEntry> {
    let drives = |word: &str, number: u8| {
        let drives = facts.removable.iter().filter(|drive| drive.kind == word);
        let entries = drives.map(|drive| BootEntry {
            kind: number,
            value: drive.target.clone(),
        });
        entries.collect()
    };
    match kind {
        BootDevice::Disk => facts
            .disks
            .iter()
            .map(|disk| BootEntry {
                kind: DISK,
                value: disk.target.clone(),
            })
            .collect(),
        BootDevice::Cdrom => drives("cdrom", CDROM),
        BootDevice::Floppy => drives("floppy", FLOPPY),
        BootDevice::Network => facts
            .nics
            .iter()
            .map(|nic| BootEntry {
                kind: NETWORK,
                value: nic.mac.clone(),
            })
            .collect(),
    }
}

/// The word, if the document has it; a device of another kind is shown without one.
fn known<'a>(word: &'a str, words: &[&str]) -> Option<&'a str> {
    words.contains(&word).then_some(word)
}

/// Names of the devices alone.
pub(super) fn names(order: &[BootEntry]) -> Vec<String> {
    order.iter().map(|entry| entry.value.clone()).collect()
}

/// The port of the display of a kind; 0 while there is none.
pub(super) fn port(facts: &VmFacts, kind: GraphicsKind) -> u16 {
    facts
        .graphics
        .iter()
        .find(|display| display.kind == kind)
        .and_then(|display| display.port)
        .unwrap_or_default()
}
