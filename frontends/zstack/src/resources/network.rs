//! Networks: every network of a backend, as wires (L2) and as addresses (L3), with the ranges that it gives out.

use babelvisor_core::model::{AddressRange, Network, NetworkId};
use uuid::Uuid;

use super::place::hosts_of;
use super::storage::distinct;
use super::{CLUSTER, Row, VM_NIC, ZONE, derived, enabled, networks, vms_by};
use crate::query::index::Key;
use crate::query::table::{Field, Join, Relation, Resource, Rows, World, field, relation};
use crate::query::value::{Value, id};

/// Wires.
pub(crate) static L2_NETWORK: Resource = Resource {
    class: "org.zstack.header.network.l2.L2NetworkInventory",
    fields: L2_FIELDS,
    relations: L2_RELATIONS,
    rows: Rows::Own(|world| networks(world).into_iter().map(Row::L2).collect()),
    by_uuid: None,
};

static L2_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::L2(network), |_| wires(network)),
    field!("name", Text, Row::L2(network), |_| &network.name),
    field!("description", Text, Row::L2(_), |_| Value::Null),
    field!("zoneUuid", Uuid, Row::L2(network), |world| zone(world, network)),
    field!("physicalInterface", Text, Row::L2(network), |_| {
        network.bridge.as_deref().unwrap_or(&network.name)
    }),
    field!("type", Text, Row::L2(_), |_| "L2NoVlanNetwork"),
    field!("createDate", Date, Row::L2(_), |_| Value::Null),
    field!("lastOpDate", Date, Row::L2(_), |_| Value::Null),
    field!("attachedClusterUuids", Uuid, Row::L2(network), |world| {
        let hosts = hosts_of(world, &network.backend);
        distinct(hosts.into_iter().map(|host| host.cluster_id().0))
    }),
];

static L2_RELATIONS: &[Relation] = &[
    relation!("l3Network", &L3_NETWORK, Join::Walk, Row::L2(network), |_| vec![
        Row::L3(network)
    ]),
    relation!("zone", &ZONE, Join::Walk, Row::L2(network), |world| {
        hosts_of(world, &network.backend)
            .into_iter()
            .take(1)
            .map(Row::Zone)
            .collect()
    }),
    relation!("cluster", &CLUSTER, Join::Walk, Row::L2(network), |world| {
        hosts_of(world, &network.backend)
            .into_iter()
            .map(Row::Cluster)
            .collect()
    }),
];

/// Addresses.
pub(crate) static L3_NETWORK: Resource = Resource {
    class: "org.zstack.header.network.l3.L3NetworkInventory",
    fields: L3_FIELDS,
    relations: L3_RELATIONS,
    rows: Rows::Own(|world| networks(world).into_iter().map(Row::L3).collect()),
    by_uuid: Some(|world, id| {
        let network = world.now.networks.get(&NetworkId(id));
        network.map(|network| Row::L3(network))
    }),
};

static L3_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::L3(network), |_| id(network.id)),
    field!("name", Text, Row::L3(network), |_| &network.name),
    field!("description", Text, Row::L3(_), |_| Value::Null),
    field!("type", Text, Row::L3(_), |_| "L3BasicNetwork"),
    field!("zoneUuid", Uuid, Row::L3(network), |world| zone(world, network)),
    field!("l2NetworkUuid", Uuid, Row::L3(network), |_| wires(network)),
    field!("state", Text, Row::L3(network), |_| enabled(network.active)),
    field!("dnsDomain", Text, Row::L3(_), |_| Value::Null),
    field!("system", Flag, Row::L3(_), |_| false),
    field!("category", Text, Row::L3(_), |_| "Private"),
    field!("createDate", Date, Row::L3(_), |_| Value::Null),
    field!("lastOpDate", Date, Row::L3(_), |_| Value::Null),
    field!("dns", Text, Row::L3(_), |_| Vec::<Value<'_>>::new()),
];

static L3_RELATIONS: &[Relation] = &[
    relation!("ipRanges", &IP_RANGE, Join::Walk, Row::L3(network), |_| {
        network
            .ranges
            .iter()
            .map(|range| Row::Range(network, range))
            .collect()
    })
    .shown(),
    relation!("l2Network", &L2_NETWORK, Join::Walk, Row::L3(network), |_| vec![
        Row::L2(network)
    ]),
    relation!("zone", &ZONE, Join::Walk, Row::L3(network), |world| {
        hosts_of(world, &network.backend)
            .into_iter()
            .take(1)
            .map(Row::Zone)
            .collect()
    }),
    relation!("vmNic", &VM_NIC, Join::Walk, Row::L3(network), |world| {
        let mut nics = Vec::new();
        for row in vms_by(world, Key::Network, network.id) {
            let Row::Vm(vm) = row else { continue };
            let there = vm.facts.iter().flat_map(|facts| &facts.nics);
            let there = there.filter(|nic| nic.network == Some(network.id));
            nics.extend(there.map(|nic| Row::Nic(vm, nic)));
        }
        nics
    }),
];

/// Ranges of addresses.
pub(crate) static IP_RANGE: Resource = Resource {
    class: "org.zstack.header.network.l3.IpRangeInventory",
    fields: RANGE_FIELDS,
    relations: RANGE_RELATIONS,
    rows: Rows::Own(|world| {
        let networks = networks(world).into_iter();
        networks
            .flat_map(|network| network.ranges.iter().map(move |range| Row::Range(network, range)))
            .collect()
    }),
    by_uuid: None,
};

static RANGE_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Range(network, range), |_| range_id(
        network, range
    )),
    field!("l3NetworkUuid", Uuid, Row::Range(network, _), |_| id(network.id)),
    field!("name", Text, Row::Range(network, range), |_| format!(
        "{}-{}",
        network.name, range.first
    )),
    field!("description", Text, Row::Range(..), |_| Value::Null),
    field!("startIp", Text, Row::Range(_, range), |_| range.first.to_string()),
    field!("endIp", Text, Row::Range(_, range), |_| range.last.to_string()),
    field!("netmask", Text, Row::Range(_, range), |_| range
        .netmask()
        .to_string()),
    field!("gateway", Text, Row::Range(_, range), |_| range
        .gateway
        .map(|gateway| gateway.to_string())),
    field!("networkCidr", Text, Row::Range(_, range), |_| format!(
        "{}/{}",
        range.network(),
        range.prefix
    )),
    field!("createDate", Date, Row::Range(..), |_| Value::Null),
    field!("lastOpDate", Date, Row::Range(..), |_| Value::Null),
];

static RANGE_RELATIONS: &[Relation] = &[relation!(
    "l3Network",
    &L3_NETWORK,
    Join::Walk,
    Row::Range(network, _),
    |_| vec![Row::L3(network)]
)];

/// The id of a network's wires.
pub(crate) fn wires(network: &Network) -> Uuid {
    derived(network.id, "l2")
}

/// The id of a range.
pub(crate) fn range_id(network: &Network, range: &AddressRange) -> Uuid {
    derived(network.id, &format!("range/{}-{}", range.first, range.last))
}

fn zone<'w>(world: &World<'w>, network: &Network) -> Option<Value<'w>> {
    let hosts = hosts_of(world, &network.backend);
    hosts.first().map(|host| id(host.zone_id()))
}
