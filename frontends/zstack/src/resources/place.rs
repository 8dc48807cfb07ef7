//! Zones, clusters and hosts. Zones and clusters are names that the configuration gives to backends: each is shown by
//! one of its hosts.

use babelvisor_core::model::{BackendId, Host, HostId};

use super::{
    L2_NETWORK, L3_NETWORK, PRIMARY_STORAGE, Row, VM_INSTANCE, connected, enabled, machines, networks, pools,
    vms_by,
};
use crate::query::index::Key;
use crate::query::table::{Field, Join, Relation, Resource, Rows, World, field, relation};
use crate::query::value::{Value, id};

/// Zones.
pub(crate) static ZONE: Resource = Resource {
    class: "org.zstack.header.zone.ZoneInventory",
    fields: ZONE_FIELDS,
    relations: ZONE_RELATIONS,
    rows: Rows::Own(|world| {
        let mut hosts = hosts(world);
        hosts.dedup_by(|one, two| one.zone == two.zone);
        hosts.into_iter().map(Row::Zone).collect()
    }),
    by_uuid: None,
};

static ZONE_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Zone(host), |_| id(host.zone_id())),
    field!("name", Text, Row::Zone(host), |_| &host.zone),
    field!("description", Text, Row::Zone(_), |_| Value::Null),
    field!("state", Text, Row::Zone(_), |_| enabled(true)),
    field!("type", Text, Row::Zone(_), |_| "zstack"),
    field!("createDate", Date, Row::Zone(_), |_| Value::Null),
    field!("lastOpDate", Date, Row::Zone(_), |_| Value::Null),
];

static ZONE_RELATIONS: &[Relation] = &[
    relation!("cluster", &CLUSTER, Join::Walk, Row::Zone(host), |world| {
        let mut hosts = hosts_in_zone(world, host);
        hosts.dedup_by(|one, two| one.cluster == two.cluster);
        hosts.into_iter().map(Row::Cluster).collect()
    }),
    relation!("host", &HOST, Join::Walk, Row::Zone(host), |world| {
        hosts_in_zone(world, host).into_iter().map(Row::Host).collect()
    }),
    relation!("vmInstance", &VM_INSTANCE, Join::Walk, Row::Zone(host), |world| {
        vms_by(world, Key::Zone, host.zone_id())
    }),
    relation!(
        "primaryStorage",
        &PRIMARY_STORAGE,
        Join::Walk,
        Row::Zone(host),
        |world| {
            let pools = pools(world).into_iter();
            let there = pools.filter(|pool| in_zone(world, &pool.backend, host));
            there.map(Row::PrimaryStorage).collect()
        }
    ),
    relation!("l2Network", &L2_NETWORK, Join::Walk, Row::Zone(host), |world| {
        let networks = networks(world).into_iter();
        let there = networks.filter(|network| in_zone(world, &network.backend, host));
        there.map(Row::L2).collect()
    }),
    relation!("l3Network", &L3_NETWORK, Join::Walk, Row::Zone(host), |world| {
        let networks = networks(world).into_iter();
        let there = networks.filter(|network| in_zone(world, &network.backend, host));
        there.map(Row::L3).collect()
    }),
];

/// Clusters.
pub(crate) static CLUSTER: Resource = Resource {
    class: "org.zstack.header.cluster.ClusterInventory",
    fields: CLUSTER_FIELDS,
    relations: CLUSTER_RELATIONS,
    rows: Rows::Own(|world| {
        let mut hosts = hosts(world);
        hosts.dedup_by(|one, two| (&one.zone, &one.cluster) == (&two.zone, &two.cluster));
        hosts.into_iter().map(Row::Cluster).collect()
    }),
    by_uuid: None,
};

static CLUSTER_FIELDS: &[Field] = &[
    field!("name", Text, Row::Cluster(host), |_| &host.cluster),
    field!("uuid", Uuid, Row::Cluster(host), |_| id(host.cluster_id())),
    field!("description", Text, Row::Cluster(_), |_| Value::Null),
    field!("state", Text, Row::Cluster(_), |_| enabled(true)),
    field!("hypervisorType", Text, Row::Cluster(host), |_| {
        machines::hypervisor(&host.hypervisor)
    }),
    field!("createDate", Date, Row::Cluster(_), |_| Value::Null),
    field!("lastOpDate", Date, Row::Cluster(_), |_| Value::Null),
    field!("zoneUuid", Uuid, Row::Cluster(host), |_| id(host.zone_id())),
    field!("type", Text, Row::Cluster(_), |_| "zstack"),
];

static CLUSTER_RELATIONS: &[Relation] = &[
    relation!("zone", &ZONE, Join::Walk, Row::Cluster(host), |_| vec![
        Row::Zone(host)
    ]),
    relation!("host", &HOST, Join::Walk, Row::Cluster(host), |world| {
        let hosts = hosts_in_zone(world, host).into_iter();
        hosts
            .filter(|other| other.cluster == host.cluster)
            .map(Row::Host)
            .collect()
    }),
    relation!(
        "vmInstance",
        &VM_INSTANCE,
        Join::Walk,
        Row::Cluster(host),
        |world| vms_by(world, Key::Cluster, host.cluster_id())
    ),
    relation!(
        "primaryStorage",
        &PRIMARY_STORAGE,
        Join::Walk,
        Row::Cluster(host),
        |world| {
            let pools = pools(world).into_iter();
            let there = pools.filter(|pool| in_cluster(world, &pool.backend, host));
            there.map(Row::PrimaryStorage).collect()
        }
    ),
    relation!(
        "l2Network",
        &L2_NETWORK,
        Join::Walk,
        Row::Cluster(host),
        |world| {
            let networks = networks(world).into_iter();
            let there = networks.filter(|network| in_cluster(world, &network.backend, host));
            there.map(Row::L2).collect()
        }
    ),
];

/// Hosts.
pub(crate) static HOST: Resource = Resource {
    class: "org.zstack.header.host.HostInventory",
    fields: HOST_FIELDS,
    relations: HOST_RELATIONS,
    rows: Rows::Own(|world| hosts(world).into_iter().map(Row::Host).collect()),
    by_uuid: Some(|world, id| world.now.hosts.get(&HostId(id)).map(|host| Row::Host(host))),
};

static HOST_FIELDS: &[Field] = &[
    field!("zoneUuid", Uuid, Row::Host(host), |_| id(host.zone_id())),
    field!("name", Text, Row::Host(host), |_| &host.name),
    field!("uuid", Uuid, Row::Host(host), |_| id(host.id)),
    field!("clusterUuid", Uuid, Row::Host(host), |_| id(host.cluster_id())),
    field!("description", Text, Row::Host(_), |_| Value::Null),
    field!("managementIp", Text, Row::Host(host), |_| host.address.as_deref()),
    field!("hypervisorType", Text, Row::Host(host), |_| machines::hypervisor(
        &host.hypervisor
    )),
    field!("state", Text, Row::Host(_), |_| enabled(true)),
    field!("status", Text, Row::Host(host), |world| connected(
        world.now.backend_up(&host.backend)
    )),
    field!("totalCpuCapacity", Number, Row::Host(host), |_| host.cpus),
    field!("availableCpuCapacity", Number, Row::Host(host), |world| {
        let used = used(world, host, |vm| u64::from(vm.vcpus()));
        u64::from(host.cpus).saturating_sub(used)
    }),
    field!("cpuSockets", Number, Row::Host(_), |_| Value::Null),
    field!("totalMemoryCapacity", Number, Row::Host(host), |_| host.memory),
    field!("availableMemoryCapacity", Number, Row::Host(host), |world| {
        host.memory_free
            .unwrap_or_else(|| host.memory.saturating_sub(used(world, host, |vm| vm.memory())))
    }),
    field!("cpuNum", Number, Row::Host(host), |_| host.cpus),
    field!("createDate", Date, Row::Host(_), |_| Value::Null),
    field!("lastOpDate", Date, Row::Host(_), |_| Value::Null),
];

static HOST_RELATIONS: &[Relation] = &[
    relation!("zone", &ZONE, Join::Walk, Row::Host(host), |_| vec![Row::Zone(
        host
    )]),
    relation!("cluster", &CLUSTER, Join::Walk, Row::Host(host), |_| vec![
        Row::Cluster(host)
    ]),
    relation!("vmInstance", &VM_INSTANCE, Join::Walk, Row::Host(host), |world| {
        let there = vms_by(world, Key::Host, host.id).into_iter();
        there
            .filter(|row| matches!(row, Row::Vm(vm) if machines::placed(vm)))
            .collect()
    }),
];

/// Every host, those of a zone and of a cluster beside each other.
fn hosts<'w>(world: &World<'w>) -> Vec<&'w Host> {
    let mut hosts: Vec<&Host> = world.now.hosts.values().map(AsRef::as_ref).collect();
    hosts.sort_by(|one, two| {
        let key = |host: &Host| {
            (
                host.zone.clone(),
                host.cluster.clone(),
                host.name.clone(),
                host.id,
            )
        };
        key(one).cmp(&key(two))
    });
    hosts
}

fn hosts_in_zone<'w>(world: &World<'w>, of: &Host) -> Vec<&'w Host> {
    let mut hosts = hosts(world);
    hosts.retain(|host| host.zone == of.zone);
    hosts
}

/// The hosts of a backend.
pub(super) fn hosts_of<'w>(world: &World<'w>, backend: &BackendId) -> Vec<&'w Host> {
    let mut hosts = hosts(world);
    hosts.retain(|host| host.backend == *backend);
    hosts
}

fn in_zone(world: &World<'_>, backend: &BackendId, of: &Host) -> bool {
    let mut hosts = world.now.hosts.values().filter(|host| host.backend == *backend);
    hosts.any(|host| host.zone == of.zone)
}

fn in_cluster(world: &World<'_>, backend: &BackendId, of: &Host) -> bool {
    let mut hosts = world.now.hosts.values().filter(|host| host.backend == *backend);
    hosts.any(|host| host.zone == of.zone && host.cluster == of.cluster)
}

/// What the machines that run on a host take of it, whoever they belong to.
fn used(world: &World<'_>, host: &Host, of: impl Fn(&babelvisor_core::model::Vm) -> u64) -> u64 {
    let there = vms_by(world, Key::Host, host.id).into_iter();
    there
        .map(|row| match row {
            Row::Vm(vm) if machines::placed(vm) => of(vm),
            _ => 0,
        })
        .sum()
}
