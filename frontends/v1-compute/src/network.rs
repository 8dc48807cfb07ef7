//! The one layer-2 network of the site and its port groups. A port group is a network of the backends by its name;
//! beside those there is one that stands for the site's own choice, which clients look for by its name.

use std::collections::BTreeSet;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Network, Nic, Vm};
use babelvisor_core::query;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::V1Compute;
use crate::call::Call;
use crate::encode::{Data, RangeState};
use crate::error::Fault;
use crate::lookups::range_states;
use crate::operations::{Row, row};
use crate::place;

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("layer2.list", layer2_list),
    row!("layer2.inspect", layer2_inspect),
];

/// The smallest MTU that every Ethernet has; what a backend's bridges really have is not reported.
const ETHERNET_MTU: u32 = 1500;

/// A layer-2 network, capitals as its document has them.
#[derive(Serialize)]
struct Layer2<'a> {
    #[serde(rename = "Name")]
    name: &'a str,
    #[serde(rename = "Ctime")]
    ctime: Option<i64>,
    #[serde(rename = "Mtime")]
    mtime: Option<i64>,
    #[serde(rename = "Bridge")]
    bridge: Map<String, Value>,
    #[serde(rename = "Mtu")]
    mtu: u32,
    #[serde(rename = "Uplink")]
    uplink: Vec<String>,
    #[serde(rename = "AttachQuantity")]
    attach_quantity: usize,
    #[serde(rename = "VlanMode")]
    vlan_mode: &'static str,
    #[serde(rename = "PortGroups")]
    port_groups: Vec<String>,
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "Zone")]
    zone: String,
    #[serde(rename = "ZoneName")]
    zone_name: String,
}

#[derive(Serialize)]
struct Layer2List<'a> {
    list: [Layer2<'a>; 1],
    total_count: usize,
    each_range_list_state: Vec<RangeState>,
}

#[derive(Serialize)]
struct Inspected<'a> {
    #[serde(rename = "Layer2Info")]
    layer2: Layer2<'a>,
    port_group_list: Vec<ShownPortGroup<'a>>,
}

#[derive(Serialize)]
struct ShownPortGroup<'a> {
    port_group_name: &'a str,
    port_group_uuid: String,
    create_time: Option<i64>,
    update_time: Option<i64>,
    vlan_id: Option<u16>,
    layer2_name: &'a str,
    ext_ids: Map<String, Value>,
    attach_quantity: usize,
    bandwidth: Option<u64>,
    enable_dhcp: bool,
}

/// The uuid of the port group with this name.
fn port_group_uuid(name: &str) -> Uuid {
    place::computed("port-group", name)
}

impl V1Compute {
    /// `layer2.list`. The `name` that clients send is no filter.
    pub(crate) async fn layer2_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let now = self.core.now();
        self.cluster(&now, call.params.text("cluster_uuid"))?;
        Data::of(&Layer2List {
            list: [self.layer2(&now, call)],
            total_count: 1,
            each_range_list_state: range_states(&now, 1),
        })
    }

    /// `layer2.inspect`.
    pub(crate) async fn layer2_inspect(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let now = self.core.now();
        self.cluster(&now, call.params.text("cluster_uuid"))?;
        let said = call.params.uuid("uuid")?;
        if said != self.layer2_uuid() {
            return Err(Fault::unknown("layer-2 network", &said.to_string()));
        }
        let names = self.port_groups(&now);
        let shown = names.iter().map(|name| ShownPortGroup {
            port_group_name: name,
            port_group_uuid: port_group_uuid(name).to_string(),
            create_time: None,
            update_time: None,
            vlan_id: None,
            layer2_name: &self.settings.layer2,
            ext_ids: Map::new(),
            attach_quantity: attached(&now, call, Some(name)),
            bandwidth: None,
            enable_dhcp: gives_addresses(&now, name),
        });
        Data::of(&Inspected {
            layer2: self.layer2(&now, call),
            port_group_list: shown.collect(),
        })
    }

    fn layer2(&self, now: &Snapshot, call: &Call<'_>) -> Layer2<'_> {
        let zone = place::zones(now).into_iter().next();
        let names = self.port_groups(now);
        Layer2 {
            name: &self.settings.layer2,
            ctime: None,
            mtime: None,
            bridge: Map::new(),
            mtu: ETHERNET_MTU,
            uplink: Vec::new(),
            attach_quantity: attached(now, call, None),
            vlan_mode: "",
            port_groups: names
                .iter()
                .map(|name| port_group_uuid(name).to_string())
                .collect(),
            uuid: self.layer2_uuid().to_string(),
            zone: zone
                .as_ref()
                .map(|zone| zone.uuid.to_string())
                .unwrap_or_default(),
            zone_name: zone.map(|zone| zone.name).unwrap_or_default(),
        }
    }

    fn layer2_uuid(&self) -> Uuid {
        place::computed("layer2", &self.settings.layer2)
    }

    /// The names of all port groups: the site's own choice, then the networks of the backends.
    fn port_groups(&self, now: &Snapshot) -> Vec<String> {
        let networks = now.networks.values().map(|network| network.name.clone());
        let mut names: BTreeSet<String> = networks.collect();
        names.remove(&self.settings.port_group);
        std::iter::once(self.settings.port_group.clone())
            .chain(names)
            .collect()
    }

    /// The backends' name of the network behind the port group that `said` names by uuid or name; none for the
    /// site's own choice, which is also meant by nothing at all.
    ///
    /// # Errors
    /// 22001 for a port group that does not exist.
    pub(crate) fn port_group(&self, now: &Snapshot, said: &str) -> Result<Option<String>, Fault> {
        let own = &self.settings.port_group;
        if said.is_empty() || said == own || place::is(said, port_group_uuid(own)) {
            return Ok(None);
        }
        let mut names = self.port_groups(now).into_iter();
        let found = names.find(|name| name == said || place::is(said, port_group_uuid(name)));
        found.map(Some).ok_or_else(|| Fault::unknown("port group", said))
    }

    /// The uuid of the port group that an interface is in; empty for one that is on no network of a backend.
    pub(crate) fn port_group_of(&self, now: &Snapshot, nic: &Nic) -> String {
        let network = nic.network.and_then(|id| now.networks.get(&id));
        network.map_or_else(String::new, |network| port_group_uuid(&network.name).to_string())
    }
}

/// How many interfaces of the caller's machines are on the network with this name, or on any.
fn attached(now: &Snapshot, call: &Call<'_>, name: Option<&str>) -> usize {
    let mine = |vm: &&std::sync::Arc<Vm>| query::may_see(&call.caller, vm);
    let nics = now
        .by_number
        .values()
        .filter(mine)
        .flat_map(|vm| vm.facts.iter())
        .flat_map(|facts| facts.nics.iter());
    let network = |nic: &Nic| nic.network.and_then(|id| now.networks.get(&id));
    nics.filter(|nic| match name {
        None => true,
        Some(name) => network(nic).is_some_and(|network| network.name == name),
    })
    .count()
}

/// Whether a network of this name gives out addresses.
fn gives_addresses(now: &Snapshot, name: &str) -> bool {
    let named = |network: &&std::sync::Arc<Network>| network.name == name;
    now.networks
        .values()
        .filter(named)
        .any(|network| !network.ranges.is_empty())
}
