//! Machines and their interfaces.

use babelvisor_core::model::{ResourceId, Vm, VmId};
use uuid::Uuid;

use super::volume::volumes;
use super::{
    AFFINITY_GROUP, CLUSTER, HOST, IMAGE, INSTANCE_OFFERING, L3_NETWORK, Row, VOLUME, ZONE, address, machines,
};
use crate::query::index::Key;
use crate::query::table::{Field, Join, Relation, Resource, Rows, World, field, relation};
use crate::query::value::{Value, id, said};

/// Virtual machines, those in the trash included.
pub(crate) static VM_INSTANCE: Resource = Resource {
    class: "org.zstack.header.vm.VmInstanceInventory",
    fields: VM_FIELDS,
    relations: VM_RELATIONS,
    rows: Rows::OfVms {
        of: |_, vm, rows| rows.push(Row::Vm(vm)),
        beside: None,
    },
    by_uuid: Some(|world, id| world.now.vms.get(&VmId(id)).map(|vm| Row::Vm(vm))),
};

static VM_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Vm(vm), |_| id(vm.id)).indexed(Key::Vm),
    field!("name", Text, Row::Vm(vm), |_| vm.name()).indexed(Key::Name),
    field!("description", Text, Row::Vm(vm), |_| said(&vm.record.remark)),
    field!("zoneUuid", Uuid, Row::Vm(vm), |world| host(world, vm)
        .map(|host| id(host.zone_id())))
    .indexed(Key::Zone),
    field!("clusterUuid", Uuid, Row::Vm(vm), |world| host(world, vm)
        .map(|host| id(host.cluster_id())))
    .indexed(Key::Cluster),
    field!("imageUuid", Uuid, Row::Vm(vm), |_| vm.record.image.map(id)).indexed(Key::Image),
    field!("hostUuid", Uuid, Row::Vm(vm), |_| last_host(vm)
        .filter(|_| machines::placed(vm)))
    .indexed(Key::Host),
    field!("lastHostUuid", Uuid, Row::Vm(vm), |_| last_host(vm)).indexed(Key::Host),
    field!("instanceOfferingUuid", Uuid, Row::Vm(vm), |_| vm
        .record
        .flavor
        .map(id))
    .indexed(Key::Offering),
    field!("rootVolumeUuid", Uuid, Row::Vm(vm), |world| root_volume(
        world, vm
    ))
    .indexed(Key::Volume),
    field!("platform", Text, Row::Vm(vm), |world| {
        let image = vm.record.image.and_then(|id| world.now.images.get(&id));
        machines::platform(vm, image.map(AsRef::as_ref))
    }),
    field!("defaultL3NetworkUuid", Uuid, Row::Vm(vm), |_| default_network(vm)),
    field!("type", Text, Row::Vm(_), |_| "UserVm"),
    field!("hypervisorType", Text, Row::Vm(vm), |world| {
        host(world, vm).map(|host| machines::hypervisor(&host.hypervisor))
    }),
    field!("memorySize", Number, Row::Vm(vm), |_| vm.memory()),
    field!("cpuNum", Number, Row::Vm(vm), |_| vm.vcpus()),
    field!("cpuSpeed", Number, Row::Vm(vm), |world| machines::cpu_speed(
        world.now, vm
    )),
    field!("allocatorStrategy", Text, Row::Vm(vm), |world| {
        machines::allocator(world.now, vm)
    }),
    field!("createDate", Date, Row::Vm(vm), |_| vm.record.first_seen),
    field!("lastOpDate", Date, Row::Vm(vm), |_| machines::last_change(vm)),
    field!("state", Text, Row::Vm(vm), |_| machines::state(vm)).indexed(Key::State),
];

static VM_RELATIONS: &[Relation] = &[
    relation!("vmNics", &VM_NIC, Join::SameVm, Row::Vm(vm), |_| nics(vm)).shown(),
    relation!("allVolumes", &VOLUME, Join::SameVm, Row::Vm(vm), |world| volumes(
        world, vm
    ))
    .shown(),
    relation!("rootVolume", &VOLUME, Join::SameVm, Row::Vm(vm), |world| {
        volumes(world, vm).into_iter().take(1).collect()
    }),
    relation!("zone", &ZONE, Join::Key("zoneUuid"), Row::Vm(vm), |world| {
        host(world, vm).map(Row::Zone).into_iter().collect()
    }),
    relation!(
        "cluster",
        &CLUSTER,
        Join::Key("clusterUuid"),
        Row::Vm(vm),
        |world| host(world, vm).map(Row::Cluster).into_iter().collect()
    ),
    relation!("host", &HOST, Join::Key("hostUuid"), Row::Vm(vm), |world| {
        host(world, vm)
            .filter(|_| machines::placed(vm))
            .map(Row::Host)
            .into_iter()
            .collect()
    }),
    relation!(
        "lastHost",
        &HOST,
        Join::Key("lastHostUuid"),
        Row::Vm(vm),
        |world| host(world, vm).map(Row::Host).into_iter().collect()
    ),
    relation!("image", &IMAGE, Join::Key("imageUuid"), Row::Vm(vm), |world| {
        let image = vm.record.image.and_then(|id| world.now.images.get(&id));
        image.map(|image| Row::Image(image)).into_iter().collect()
    }),
    relation!(
        "instanceOffering",
        &INSTANCE_OFFERING,
        Join::Key("instanceOfferingUuid"),
        Row::Vm(vm),
        |world| {
            let flavor = vm.record.flavor.and_then(|id| world.now.entries.flavors.get(&id));
            flavor.map(|flavor| Row::Flavor(flavor)).into_iter().collect()
        }
    ),
    relation!(
        "affinityGroup",
        &AFFINITY_GROUP,
        Join::Walk,
        Row::Vm(vm),
        |world| {
            let groups = world.now.affinity_groups_of(vm.id);
            groups.map(|group| Row::AffinityGroup(group)).collect()
        }
    ),
];

/// Interfaces of machines.
pub(crate) static VM_NIC: Resource = Resource {
    class: "org.zstack.header.vm.VmNicInventory",
    fields: NIC_FIELDS,
    relations: NIC_RELATIONS,
    rows: Rows::OfVms {
        of: |_, vm, rows| rows.extend(nics(vm)),
        beside: None,
    },
    by_uuid: None,
};

static NIC_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Nic(_, nic), |_| id(nic.id)).indexed(Key::Nic),
    field!("vmInstanceUuid", Uuid, Row::Nic(vm, _), |_| id(vm.id)).indexed(Key::Vm),
    field!("usedIpUuid", Uuid, Row::Nic(vm, nic), |_| {
        let network = machines::l3_network(vm.home(), nic);
        address(nic).map(|ip| id(machines::used_ip(vm.home(), network, ip)))
    }),
    field!("l3NetworkUuid", Uuid, Row::Nic(vm, nic), |_| id(
        machines::l3_network(vm.home(), nic)
    ))
    .indexed(Key::Network),
    field!("ip", Text, Row::Nic(_, nic), |_| address(nic)
        .map(|ip| ip.to_string()))
    .indexed(Key::Address),
    field!("mac", Text, Row::Nic(_, nic), |_| &nic.mac).indexed(Key::Mac),
    field!("netmask", Text, Row::Nic(_, nic), |world| {
        let range = machines::range(world.now, nic, address(nic));
        range.map(|range| range.netmask().to_string())
    }),
    field!("gateway", Text, Row::Nic(_, nic), |world| {
        let range = machines::range(world.now, nic, address(nic));
        range
            .and_then(|range| range.gateway)
            .map(|gateway| gateway.to_string())
    }),
    field!("metaData", Text, Row::Nic(..), |_| Value::Null),
    field!("internalName", Text, Row::Nic(_, nic), |_| nic.target.as_deref()),
    field!("deviceId", Number, Row::Nic(_, nic), |_| nic.slot),
    field!("createDate", Date, Row::Nic(vm, _), |_| vm.record.first_seen),
    field!("lastOpDate", Date, Row::Nic(vm, _), |_| machines::last_change(vm)),
];

static NIC_RELATIONS: &[Relation] = &[
    relation!(
        "vmInstance",
        &VM_INSTANCE,
        Join::SameVm,
        Row::Nic(vm, _),
        |_| vec![Row::Vm(vm)]
    ),
    relation!(
        "l3Network",
        &L3_NETWORK,
        Join::Key("l3NetworkUuid"),
        Row::Nic(_, nic),
        |world| {
            let network = nic.network.and_then(|id| world.now.networks.get(&id));
            network.map(|network| Row::L3(network)).into_iter().collect()
        }
    ),
];

/// The interfaces of `vm`.
fn nics<'w>(vm: &'w Vm) -> Vec<Row<'w>> {
    let nics = vm.facts.iter().flat_map(|facts| &facts.nics);
    nics.map(|nic| Row::Nic(vm, nic)).collect()
}

/// The host that `vm` is on or was on last.
fn host<'w>(world: &World<'w>, vm: &Vm) -> Option<&'w babelvisor_core::model::Host> {
    let host = vm.facts.as_ref()?.host;
    world.now.hosts.get(&host).map(AsRef::as_ref)
}

fn last_host<'w>(vm: &Vm) -> Option<Value<'w>> {
    vm.facts.as_ref().map(|facts| id(facts.host))
}

fn root_volume<'w>(world: &World<'w>, vm: &'w Vm) -> Option<Value<'w>> {
    let first = volumes(world, vm).into_iter().next()?;
    match first {
        Row::Volume(volume) => Some(id(volume.id(world))),
        _ => None,
    }
}

fn default_network<'w>(vm: &Vm) -> Option<Value<'w>> {
    let chosen = machines::default_network(vm);
    let first = || {
        let nic = vm.facts.as_ref()?.nics.first()?;
        Some(machines::l3_network(vm.home(), nic).uuid())
    };
    chosen
        .and_then(|text| Uuid::try_parse(text).ok())
        .or_else(first)
        .map(Value::Uuid)
}

/// What other parts of a machine say in the words of tags.
pub(super) fn told_tags<'w>(vm: &'w Vm, system: bool) -> Vec<Value<'w>> {
    if !system {
        let marks = vm.record.tags.iter();
        return marks
            .map(|(key, value)| {
                if value.is_empty() {
                    key.clone()
                } else {
                    format!("{key}::{value}")
                }
            })
            .map(Value::from)
            .collect();
    }
    let hostname = vm.record.hostname.iter().map(|name| format!("hostname::{name}"));
    let keys = vm.record.ssh_keys.iter().map(|key| format!("sshkey::{key}"));
    hostname.chain(keys).map(Value::from).collect()
}
