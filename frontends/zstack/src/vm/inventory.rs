//! A machine, its interfaces and its volumes as this dialect shows them. Members without a value are left out, as
//! the original does. A machine is encoded once for each change of what it depends on, because clients poll lists
//! far more often than machines change.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use babelvisor_core::Error;
use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{
    AddressRange, BackendId, Disk, Image, Network, NetworkId, Nic, PoolId, Timestamp, Vm, VolumeFormat,
    VolumeId,
};
use bytes::Bytes;
use serde::Serialize;

use super::state::{placed, state};
use crate::{Zstack, encode};

/// `VmRecord::settings`: the default network's uuid, where a client chose one.
pub(crate) const DEFAULT_NETWORK: &str = "zstack-default-l3";
/// `VmRecord::settings`: CPU speed in MHz.
pub(crate) const CPU_SPEED: &str = "cpu-speed";

/// Everything that a machine's encoded form depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Of the VM.
    revision: u64,
    /// Of hosts, images and flavors.
    surroundings: u64,
    /// Of the records of its volumes and the ranges of its networks.
    around: u64,
}

/// `org.zstack.header.vm.VmInstanceInventory`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VmInstanceInventory<'a> {
    pub(crate) uuid: String,
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zone_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_host_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance_offering_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) root_volume_uuid: Option<String>,
    pub(crate) platform: &'a str,
    #[serde(rename = "defaultL3NetworkUuid", skip_serializing_if = "Option::is_none")]
    pub(crate) default_l3_network_uuid: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hypervisor_type: Option<&'static str>,
    pub(crate) memory_size: u64,
    pub(crate) cpu_num: u32,
    pub(crate) cpu_speed: u64,
    pub(crate) allocator_strategy: &'a str,
    pub(crate) create_date: String,
    pub(crate) last_op_date: String,
    pub(crate) state: &'static str,
    pub(crate) vm_nics: Vec<VmNicInventory>,
    pub(crate) all_volumes: Vec<VolumeInventory>,
}

/// `org.zstack.header.vm.VmNicInventory`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VmNicInventory {
    pub(crate) uuid: String,
    pub(crate) vm_instance_uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) used_ip_uuid: Option<String>,
    #[serde(rename = "l3NetworkUuid")]
    pub(crate) l3_network_uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ip: Option<String>,
    pub(crate) mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) netmask: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) internal_name: Option<String>,
    pub(crate) device_id: u32,
    pub(crate) create_date: String,
    pub(crate) last_op_date: String,
}

/// `org.zstack.header.volume.VolumeInventory`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeInventory {
    pub(crate) uuid: String,
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) primary_storage_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vm_instance_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_offering_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) root_image_uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) install_path: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) format: &'static str,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actual_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device_id: Option<u32>,
    pub(crate) state: &'static str,
    pub(crate) status: &'static str,
    pub(crate) create_date: String,
    pub(crate) last_op_date: String,
    pub(crate) is_shareable: bool,
}

impl Zstack {
    /// `vm` as JSON.
    ///
    /// # Errors
    /// `Internal`, if it cannot be written.
    pub(crate) fn vm_json(&self, now: &Snapshot, vm: &Vm) -> Result<Bytes, Error> {
        let stamp = Stamp {
            revision: vm.revision,
            surroundings: now.surroundings,
            around: around(now, vm),
        };
        self.machines
            .get_or(vm.id, stamp, || encode::json_of(&self.vm_inventory(now, vm)))
    }

    /// `vm` as this dialect shows it.
    pub(crate) fn vm_inventory<'a>(&self, now: &'a Snapshot, vm: &'a Vm) -> VmInstanceInventory<'a> {
        let record = &vm.record;
        let facts = vm.facts.as_deref();
        let host = facts.and_then(|facts| now.hosts.get(&facts.host));
        let image = record.image.and_then(|id| now.images.get(&id));
        let flavor = record.flavor.and_then(|id| now.entries.flavors.get(&id));
        let all_volumes = self.volumes_of(now, vm);
        let root = all_volumes.iter().find(|volume| volume.kind == "Root");
        let chosen = record.settings.get(DEFAULT_NETWORK).cloned();
        let first_network = || {
            let nic = facts?.nics.first()?;
            Some(l3_network(&facts?.backend, nic).simple())
        };
        let last_host = facts.map(|facts| facts.host.simple());
        VmInstanceInventory {
            uuid: vm.id.simple(),
            name: vm.name(),
            description: Some(record.remark.as_str()).filter(|text| !text.is_empty()),
            zone_uuid: host.map(|host| host.zone_id().simple()),
            cluster_uuid: host.map(|host| host.cluster_id().simple()),
            image_uuid: record.image.map(|id| id.simple()),
            host_uuid: last_host.clone().filter(|_| placed(vm)),
            last_host_uuid: last_host,
            instance_offering_uuid: record.flavor.map(|id| id.simple()),
            root_volume_uuid: root.map(|volume| volume.uuid.clone()),
            platform: platform(vm, image.map(AsRef::as_ref)),
            default_l3_network_uuid: chosen.or_else(first_network),
            kind: "UserVm",
            hypervisor_type: host.map(|host| hypervisor(&host.hypervisor)),
            memory_size: vm.memory(),
            cpu_num: vm.vcpus(),
            cpu_speed: record
                .settings
                .get(CPU_SPEED)
                .and_then(|speed| speed.parse().ok())
                .unwrap_or_else(|| flavor.map_or(0, |flavor| flavor.cpu_speed)),
            allocator_strategy: flavor
                .map(|flavor| flavor.allocator.as_str())
                .filter(|name| !name.is_empty())
                .unwrap_or("LeastVmPreferredHostAllocatorStrategy"),
            create_date: self.date(record.first_seen),
            last_op_date: self.date(last_change(vm)),
            state: state(vm),
            vm_nics: self.nics_of(now, vm),
            all_volumes,
        }
    }

    /// The interfaces of `vm`.
    pub(crate) fn nics_of(&self, now: &Snapshot, vm: &Vm) -> Vec<VmNicInventory> {
        let Some(facts) = vm.facts.as_deref() else {
            return Vec::new();
        };
        let nics = facts.nics.iter();
        nics.map(|nic| self.nic_inventory(now, vm, &facts.backend, nic))
            .collect()
    }

    /// One interface of `vm`.
    pub(crate) fn nic_inventory(
        &self,
        now: &Snapshot,
        vm: &Vm,
        backend: &BackendId,
        nic: &Nic,
    ) -> VmNicInventory {
        let network = nic.network.and_then(|id| now.networks.get(&id));
        let ip = nic.addresses.iter().find(|address| address.is_ipv4());
        let ip = ip.or_else(|| nic.addresses.first());
        let range = ip.and_then(|ip| range_of(network?, *ip));
        let l3_network = l3_network(backend, nic);
        VmNicInventory {
            uuid: nic.id.simple(),
            vm_instance_uuid: vm.id.simple(),
            used_ip_uuid: ip.map(|ip| used_ip(backend, l3_network, *ip).simple()),
            l3_network_uuid: l3_network.simple(),
            ip: ip.map(ToString::to_string),
            mac: nic.mac.clone(),
            netmask: range.map(|range| range.netmask().to_string()),
            gateway: range
                .and_then(|range| range.gateway)
                .map(|gateway| gateway.to_string()),
            internal_name: nic.target.clone(),
            device_id: nic.slot,
            create_date: self.date(vm.record.first_seen),
            last_op_date: self.date(last_change(vm)),
        }
    }

    /// The volumes of `vm` in device order, its root volume first.
    pub(crate) fn volumes_of(&self, now: &Snapshot, vm: &Vm) -> Vec<VolumeInventory> {
        let Some(facts) = vm.facts.as_deref() else {
            return Vec::new();
        };
        let root = root_disk(&facts.disks);
        let data = facts
            .disks
            .iter()
            .enumerate()
            .filter(|(place, _)| Some(*place) != root);
        let ordered = root
            .and_then(|place| facts.disks.get(place))
            .into_iter()
            .map(|disk| (disk, true))
            .chain(data.map(|(_, disk)| (disk, false)));
        (0..)
            .zip(ordered)
            .map(|(device, (disk, is_root))| {
                self.disk_inventory(now, vm, &facts.backend, disk, is_root, device)
            })
            .collect()
    }

    fn disk_inventory(
        &self,
        now: &Snapshot,
        vm: &Vm,
        backend: &BackendId,
        disk: &Disk,
        root: bool,
        device: u32,
    ) -> VolumeInventory {
        let record = disk
            .volume
            .as_ref()
            .and_then(|place| now.volume_at(backend, place));
        let kind = if root { "Root" } else { "Data" };
        let named = record.map(|record| record.display_name.clone());
        let name = named.filter(|name| !name.is_empty()).unwrap_or_else(|| {
            if root {
                format!("Root-Volume-For-VM-{}", vm.id.simple())
            } else {
                format!("DATA-for-{}-{device}", vm.id.simple())
            }
        });
        let image = record.and_then(|record| record.image);
        VolumeInventory {
            uuid: disk_volume(now, backend, disk).simple(),
            name,
            description: record
                .map(|record| record.description.clone())
                .filter(|text| !text.is_empty()),
            primary_storage_uuid: disk
                .volume
                .as_ref()
                .map(|place| PoolId::computed(backend, &place.pool).simple()),
            vm_instance_uuid: Some(vm.id.simple()),
            disk_offering_uuid: record
                .and_then(|record| record.disk_offering)
                .map(|id| id.simple()),
            root_image_uuid: image.or(vm.record.image.filter(|_| root)).map(|id| id.simple()),
            install_path: Some(disk.source.clone()).filter(|path| !path.is_empty()),
            kind,
            format: format_name(disk.format),
            size: disk.capacity,
            actual_size: record.map(|record| record.allocation).filter(|bytes| *bytes > 0),
            device_id: Some(device),
            state: if record.is_none_or(|record| record.enabled) {
                "Enabled"
            } else {
                "Disabled"
            },
            status: "Ready",
            create_date: self.date(record.map_or(vm.record.first_seen, |record| record.first_seen)),
            last_op_date: self.date(record.map_or_else(|| last_change(vm), |record| record.changed)),
            is_shareable: record.is_some_and(|record| record.shareable),
        }
    }
}

/// What its volumes' records and its networks' ranges are, as one number: neither is told by the inventory's own
/// counters.
fn around(now: &Snapshot, vm: &Vm) -> u64 {
    let Some(facts) = vm.facts.as_deref() else {
        return 0;
    };
    let mut hasher = DefaultHasher::new();
    for place in facts.disks.iter().filter_map(|disk| disk.volume.as_ref()) {
        let record = now.volume_at(&facts.backend, place);
        record.map(|record| (record.id, record.changed)).hash(&mut hasher);
    }
    for network in facts.nics.iter().filter_map(|nic| nic.network) {
        let ranges = now.networks.get(&network).map(|network| &network.ranges);
        for range in ranges.into_iter().flatten() {
            (range.first, range.prefix, range.gateway).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// When `vm` last changed. Its record's changes count as well as its facts'.
pub(crate) fn last_change(vm: &Vm) -> Timestamp {
    vm.changed.max(vm.record.first_seen)
}

/// The place of the disk that a machine boots from: the one that says so, else the first.
pub(crate) fn root_disk(disks: &[Disk]) -> Option<usize> {
    disks
        .iter()
        .position(|disk| disk.root)
        .or_else(|| (!disks.is_empty()).then_some(0))
}

/// The uuid of the volume behind a disk: its record's, else computed from where it lies.
pub(crate) fn disk_volume(now: &Snapshot, backend: &BackendId, disk: &Disk) -> VolumeId {
    match &disk.volume {
        Some(place) => now.volume_at(backend, place).map_or_else(
            || VolumeId::computed(backend, &format!("{}/{}", place.pool, place.name)),
            |record| record.id,
        ),
        None => VolumeId::computed(backend, &disk.source),
    }
}

/// The network of an interface; one that its backend does not report as a network has an id of its name.
pub(crate) fn l3_network(backend: &BackendId, nic: &Nic) -> NetworkId {
    nic.network
        .unwrap_or_else(|| NetworkId::computed(backend, &format!("nic-source/{}", nic.source)))
}

/// The uuid of an address in use.
pub(crate) fn used_ip(backend: &BackendId, network: NetworkId, ip: IpAddr) -> NetworkId {
    NetworkId::computed(backend, &format!("used-ip/{network}/{ip}"))
}

/// The range of `network` that holds `ip`.
pub(crate) fn range_of(network: &Network, ip: IpAddr) -> Option<&AddressRange> {
    let IpAddr::V4(ip) = ip else { return None };
    network.ranges.iter().find(|range| {
        let mask = range.netmask().to_bits();
        ip.to_bits() & mask == range.network().to_bits()
    })
}

/// The name of a layout.
pub(crate) const fn format_name(format: VolumeFormat) -> &'static str {
    match format {
        VolumeFormat::Raw => "raw",
        VolumeFormat::Qcow2 => "qcow2",
        VolumeFormat::Other => "other",
    }
}

/// The name of a kind of hypervisor, from what its host calls it.
pub(crate) fn hypervisor(words: &str) -> &'static str {
    let words = words.to_ascii_lowercase();
    if words.contains("qemu") || words.contains("kvm") {
        "KVM"
    } else {
        "Simulator"
    }
}

/// The documented platforms.
pub(crate) const PLATFORMS: [&str; 5] = ["Linux", "Windows", "WindowsVirtio", "Other", "Paravirtualization"];

/// The platform of `vm`: as set, else its image's, else what the name of its image's system says.
pub(crate) fn platform<'a>(vm: &'a Vm, image: Option<&'a Image>) -> &'a str {
    let stated = vm.record.os.as_deref();
    let stated = stated.or(image.map(|image| image.platform.as_str()));
    if let Some(stated) = stated.filter(|text| PLATFORMS.contains(text)) {
        return stated;
    }
    image.map_or("Linux", platform_of_image)
}

/// The platform of an image that states none: by the name of its system.
pub(crate) fn platform_of_image(image: &Image) -> &str {
    if PLATFORMS.contains(&image.platform.as_str()) {
        return &image.platform;
    }
    if image.os.to_ascii_lowercase().contains("windows") {
        "Windows"
    } else {
        "Linux"
    }
}
