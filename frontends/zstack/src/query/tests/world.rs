//! Random worlds: moments of an inventory with a few machines and what is around them.

use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{
    AddressRange, BackendId, Flavor, FlavorId, Host, HostId, Image, ImageId, ImageKind, Network, NetworkId,
    PoolVolume, TenantId, Timestamp, Vm, VmFacts, VmId, VmRecord, VolumeId, VolumeKind, VolumeRecord,
};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use serde_json::json;

use crate::query::index::Index;
use crate::query::table::World;

pub(super) const NAMES: [&str; 6] = ["web-1", "WEB-1", "web-2", "db", "ünïx", "a b%_c"];
pub(super) const TENANTS: [&str; 2] = ["home", "away"];

/// What a random machine is made of.
#[derive(Debug, Clone)]
pub(super) struct Seed {
    pub(super) name: usize,
    pub(super) remark: Option<usize>,
    pub(super) tenant: usize,
    pub(super) host: Option<u8>,
    pub(super) power: usize,
    pub(super) vcpus: u32,
    pub(super) memory: u64,
    pub(super) image: Option<u8>,
    pub(super) flavor: Option<u8>,
    pub(super) trashed: bool,
    pub(super) hostname: Option<usize>,
    pub(super) nics: Vec<(u8, Option<u8>)>,
    pub(super) disks: u8,
    pub(super) seen: i64,
}

pub(super) fn seed() -> impl Strategy<Value = Seed> {
    let some = || proptest::option::of(0..2_u8);
    let what = (
        0..NAMES.len(),
        proptest::option::of(0..NAMES.len()),
        0..2_usize,
        proptest::option::of(0..3_u8),
    );
    let size = (0..4_usize, 1..4_u32, 1..4_u64, some(), some());
    let nics = proptest::collection::vec((0..2_u8, proptest::option::of(1..6_u8)), 0..3);
    let rest = (
        prop::bool::weighted(0.2),
        proptest::option::of(0..NAMES.len()),
        nics,
        0..3_u8,
        0..5_i64,
    );
    (what, size, rest).prop_map(|((name, remark, tenant, host), size, rest)| {
        let (power, vcpus, memory, image, flavor) = size;
        let (trashed, hostname, nics, disks, seen) = rest;
        Seed {
            name,
            remark,
            tenant,
            host,
            power,
            vcpus,
            memory,
            image,
            flavor,
            trashed,
            hostname,
            nics,
            disks,
            seen,
        }
    })
}

pub(super) fn backend() -> BackendId {
    BackendId::new("b")
}

pub(super) fn host_id(number: u8) -> HostId {
    HostId::computed(&backend(), &format!("host-{number}"))
}

pub(super) fn image_id(number: u8) -> ImageId {
    ImageId::computed(&backend(), &format!("image-{number}"))
}

pub(super) fn flavor_id(number: u8) -> FlavorId {
    FlavorId::computed(&backend(), &format!("flavor-{number}"))
}

pub(super) fn network_id(number: u8) -> NetworkId {
    NetworkId::computed(&backend(), &format!("net-{number}"))
}

pub(super) fn volume_id(number: u64) -> VolumeId {
    VolumeId::computed(&backend(), &format!("volume-{number}"))
}

pub(super) fn vm_id(number: u64) -> VmId {
    VmId::computed(&backend(), &format!("vm-{number}"))
}

pub(super) fn at(day: i64) -> Timestamp {
    Timestamp::from_second(1_500_000_000 + day * 86_400).unwrap()
}

pub(super) fn machine(number: u64, revision: u64, seed: &Seed) -> Vm {
    const POWERS: [&str; 4] = ["running", "off", "paused", "crashed"];
    let id = vm_id(number);
    let record: VmRecord = serde_json::from_value(json!({
        "id": id, "backend": "b", "tenant": TENANTS[seed.tenant], "number": number,
        "short_id": format!("short{number}"), "first_seen": at(seed.seen), "origin": "created",
        "display_name": NAMES[seed.name],
        "remark": seed.remark.map_or("", |remark| NAMES[remark]),
        "hostname": seed.hostname.map(|name| NAMES[name]),
        "image": seed.image.map(image_id), "flavor": seed.flavor.map(flavor_id),
        "trashed_at": seed.trashed.then(|| at(9)),
        "tags": {"team": NAMES[seed.name]},
    }))
    .unwrap();
    let facts: Option<VmFacts> =
        seed.host.map(|host| {
            let nics = seed.nics.iter().enumerate().map(|(slot, (network, last))| {
                json!({
                    "id": babelvisor_core::model::NicId::computed(&backend(), &format!("{number}/{slot}")),
                    "slot": slot, "mac": format!("52:54:00:00:{number:02x}:{slot:02x}"), "model": "virtio",
                    "source": format!("net-{network}"), "network": network_id(*network),
                    "addresses": last.map(|last| format!("10.0.0.{last}")).into_iter().collect::<Vec<_>>(),
                })
            });
            let disks = (0..seed.disks).map(|place| json!({
            "target": format!("vd{place}"), "bus": "virtio", "source": format!("/p/vm-{number}-{place}"),
            "volume": {"pool": "p", "name": format!("vm-{number}-{place}")},
            "format": "qcow2", "capacity": (u64::from(place) + 1) << 30, "root": place == 0,
        }));
            serde_json::from_value(json!({
                "id": id, "backend": "b", "native": id, "name": format!("n{number}"), "host": host_id(host),
                "power": POWERS[seed.power],
                "cpu": {"current": seed.vcpus, "max": seed.vcpus},
                "memory": {"current": seed.memory << 30, "max": seed.memory << 30},
                "nics": nics.collect::<Vec<_>>(), "disks": disks.collect::<Vec<_>>(),
            }))
            .unwrap()
        });
    Vm {
        id,
        revision,
        record: Arc::new(record),
        record_version: 1,
        facts: facts.map(Arc::new),
        activity: None,
        reachable: true,
        changed: at(seed.seen + 1),
    }
}

pub(super) fn free_volume(number: u64, seed: &Seed) -> VolumeRecord {
    let place = PoolVolume {
        pool: "p".to_owned(),
        name: format!("free-{number}"),
    };
    let tenant = TenantId::new(TENANTS[seed.tenant]);
    let mut record = VolumeRecord::new(backend(), place, VolumeKind::Data, Some(tenant));
    record.id = volume_id(number);
    record.display_name = NAMES[seed.name].to_owned();
    record.capacity = seed.memory << 30;
    record.shareable = seed.trashed;
    record
}

/// A moment with these machines, numbered from 1.
pub(super) fn moment(machines: &[Option<Seed>], revision: u64) -> Snapshot {
    let mut now = Snapshot::default();
    for number in 0..3_u8 {
        let host = Host {
            id: host_id(number),
            backend: backend(),
            name: format!("host-{number}"),
            address: Some(format!("192.168.0.{number}")),
            cpus: 8,
            memory: 64 << 30,
            memory_free: None,
            hypervisor: "QEMU 9".to_owned(),
            cluster: format!("cluster-{}", number % 2),
            zone: format!("zone-{}", number / 2),
        };
        now.hosts.insert(host.id, Arc::new(host));
    }
    for number in 0..2_u8 {
        let mut image = Image::new(NAMES[usize::from(number)], ImageKind::Disk, None);
        image.id = image_id(number);
        image.number = u64::from(number) + 1;
        let image = Arc::new(image);
        now.images_by_number.insert(image.number, image.clone());
        now.images.insert(image.id, image);
        let mut flavor = Flavor::new(NAMES[usize::from(number)], 1, 1 << 30, None);
        flavor.id = flavor_id(number);
        now.entries.flavors.insert(flavor.id, Arc::new(flavor));
        let network = Network {
            id: network_id(number),
            backend: backend(),
            name: format!("net-{number}"),
            bridge: None,
            active: true,
            ranges: vec![AddressRange {
                first: [10, 0, 0, 1].into(),
                last: [10, 0, 0, 9].into(),
                prefix: 24,
                gateway: None,
            }],
        };
        now.networks.insert(network.id, Arc::new(network));
    }
    for (number, seed) in (1..).zip(machines) {
        let Some(seed) = seed else { continue };
        // Some have made a volume that no machine has now.
        if number % 2 == 0 {
            let record = free_volume(number, seed);
            now.entries.volumes.insert(record.id, Arc::new(record));
        }
        let vm = Arc::new(machine(number, revision, seed));
        now.vms.insert(vm.id, vm.clone());
        if seed.trashed {
            now.trash.insert(number, vm);
        } else {
            let tenant = vm.record.tenant.clone();
            now.by_number.insert(number, vm.clone());
            now.by_tenant.entry(tenant).or_default().insert(number, vm);
        }
    }
    now
}

pub(super) fn world<'w>(
    now: &'w Snapshot,
    index: &'w Index,
    scope: Option<&'w TenantId>,
    zone: &'w TimeZone,
) -> World<'w> {
    World {
        now,
        index,
        scope,
        zone,
    }
}

/// Two thousand machines of which a handful fulfil each indexed condition.
pub(super) fn many() -> Snapshot {
    let seeds: Vec<Option<Seed>> = (0..2000_u32)
        .map(|number| {
            let odd = number % 400 == 7;
            Some(Seed {
                name: if odd { 3 } else { 0 },
                remark: None,
                tenant: usize::from(odd),
                host: Some(if odd { 2 } else { 0 }),
                power: usize::from(odd),
                vcpus: 1,
                memory: 1,
                image: Some(u8::from(odd)),
                flavor: Some(u8::from(odd)),
                trashed: false,
                hostname: None,
                nics: vec![(u8::from(odd), None)],
                disks: 1,
                seen: 0,
            })
        })
        .collect();
    moment(&seeds, 1)
}
