//! `GetFreeIp`: addresses of a network that no interface has.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use babelvisor_core::Error;
use babelvisor_core::model::{AddressRange, Network, NetworkId, ResourceId};
use bytes::Bytes;
use serde::Serialize;

use super::network::range_id;
use super::{Index, Key};
use crate::decode::Call;
use crate::operations::{Row as Operation, boxed, sync};
use crate::query::value::Value;
use crate::{Zstack, encode, error};

/// The operation.
pub(crate) const ROWS: &[Operation] = &[sync("GetFreeIp", boxed!(free))];

/// How many addresses are answered unless told.
const DEFAULT_LIMIT: usize = 100;
/// How many are answered at most.
const MOST: usize = 1000;

/// `org.zstack.header.network.l3.FreeIpInventory`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FreeIp {
    ip_range_uuid: String,
    ip: Ipv4Addr,
    netmask: Ipv4Addr,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<Ipv4Addr>,
}

async fn free(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let id = NetworkId(call.path_id("l3NetworkUuid", NetworkId::NOUN)?);
    let now = zstack.core.now();
    let network = now.networks.get(&id);
    let network =
        network.ok_or_else(|| error::no_resource("l3NetworkUuid", NetworkId::NOUN, &id.simple()))?;
    let number = |name: &str| call.asked(name).map(|text| text.trim().parse::<usize>());
    let limit = match number("limit") {
        None => DEFAULT_LIMIT,
        Some(Ok(limit)) => limit.min(MOST),
        Some(Err(_)) => return Err(Error::invalid("limit", "a whole number from 0 was expected")),
    };
    let start = match call.asked("start") {
        None => Ipv4Addr::UNSPECIFIED,
        Some(text) => text
            .trim()
            .parse()
            .map_err(|_| Error::invalid("start", "an IPv4 address was expected"))?,
    };
    let index = zstack.indexes.of(&now);
    let mut taken = HashSet::new();
    for numbers in index.find(&now, Key::Network, &[Value::Uuid(id.uuid())]) {
        for vm in numbers.into_iter().filter_map(|number| Index::vm(&now, number)) {
            let nics = vm.facts.iter().flat_map(|facts| &facts.nics);
            let here = nics.filter(|nic| nic.network == Some(id));
            taken.extend(here.flat_map(|nic| nic.addresses.iter().copied()));
        }
    }
    let ranges = network.ranges.iter();
    let free: Vec<FreeIp> = ranges
        .flat_map(|range| addresses(network, range, start, &taken))
        .take(limit)
        .collect();
    encode::json_of(&serde_json::json!({ "inventories": free }))
}

/// The addresses of `range` from `start` on that guests can be given and none has.
fn addresses<'a>(
    network: &'a Network,
    range: &'a AddressRange,
    start: Ipv4Addr,
    taken: &'a HashSet<IpAddr>,
) -> impl Iterator<Item = FreeIp> + 'a {
    let netmask = range.netmask();
    let (own, last) = (
        range.network().to_bits(),
        range.network().to_bits() | !netmask.to_bits(),
    );
    (range.first.max(start).to_bits()..=range.last.to_bits())
        .filter(move |bits| range.prefix >= 31 || (*bits != own && *bits != last))
        .map(Ipv4Addr::from_bits)
        .filter(move |ip| range.gateway != Some(*ip) && !taken.contains(&IpAddr::V4(*ip)))
        .map(move |ip| FreeIp {
            ip_range_uuid: range_id(network, range).simple().to_string(),
            ip,
            netmask,
            gateway: range.gateway,
        })
}

#[cfg(test)]
mod tests {
    use babelvisor_core::model::BackendId;

    use super::*;

    #[test]
    fn neither_the_networks_own_addresses_nor_those_in_use_are_free() {
        let backend = BackendId::new("b");
        let range = AddressRange {
            first: Ipv4Addr::new(192, 168, 7, 0),
            last: Ipv4Addr::new(192, 168, 7, 255),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(192, 168, 7, 1)),
        };
        let network = Network {
            id: NetworkId::computed(&backend, "n"),
            backend,
            name: "n".to_owned(),
            bridge: None,
            active: true,
            ranges: vec![range],
        };
        let taken = HashSet::from([IpAddr::V4(Ipv4Addr::new(192, 168, 7, 3))]);
        let free = |start: [u8; 4]| -> Vec<u8> {
            let found = addresses(&network, &range, Ipv4Addr::from(start), &taken);
            found.map(|free| free.ip.octets()[3]).collect()
        };
        let all = free([0, 0, 0, 0]);
        assert_eq!((all.len(), &all[..3]), (252, &[2, 4, 5][..]));
        assert_eq!(free([192, 168, 7, 253]), [253, 254]);
        assert_eq!(free([192, 168, 8, 0]), Vec::<u8>::new());
    }
}
