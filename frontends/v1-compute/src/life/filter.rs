//! Which VMs a list shows: every documented filter, as a plain function of a VM. Text filters match a part of the
//! text unless they name an object by its id.

use babelvisor_core::model::{AgentState, PowerState, Vm};
use strum::IntoEnumIterator;

use super::entry::{self, Place};
use super::words::{self, Action};
use crate::decode::Params;

/// What a list asks for. The fields are the query's, without `filter_`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    name: Option<String>,
    uuid: Option<String>,
    user_uuid: Option<String>,
    /// Any of these.
    host_type: Vec<String>,
    vm_ip: Option<String>,
    mac_address: Option<String>,
    object_group: Option<String>,
    fuzzy: Option<String>,
    zone: Option<String>,
    active_active: Option<bool>,
    state: Option<PowerState>,
    agent: Option<AgentState>,
    action: Option<Action>,
}

impl Filter {
    /// From a query that the schema has judged. A word that the tables do not have would match nothing; the schema
    /// does not let one through.
    pub(crate) fn parse(query: &Params) -> Self {
        let text = |name: &str| Some(query.text(name).trim().to_owned()).filter(|text| !text.is_empty());
        let folded = |name: &str| text(name).map(|text| text.to_lowercase());
        let agent = |word: String| {
            let known = [AgentState::Connected, AgentState::Disconnected];
            known.into_iter().find(|agent| words::agent(*agent) == word)
        };
        Self {
            name: text("filter_name"),
            uuid: folded("filter_uuid"),
            user_uuid: folded("filter_user_uuid"),
            host_type: query
                .list("filter_host_type")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            vm_ip: folded("filter_vm_ip"),
            mac_address: folded("filter_mac_address"),
            object_group: folded("filter_object_group"),
            fuzzy: text("filter_fuzzy"),
            zone: folded("filter_zone"),
            active_active: text("filter_recover_to_related_zones").map(|word| word == "1"),
            state: text("filter_state")
                .and_then(|word| PowerState::iter().find(|state| words::state(*state) == word)),
            agent: text("filter_agent").and_then(agent),
            action: text("filter_action").and_then(|word| word.parse().ok()),
        }
    }

    /// Whether every VM passes.
    pub(crate) fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a VM passes. `place` is asked only where a filter needs it.
    pub(crate) fn passes(&self, vm: &Vm, place: impl Fn() -> Place) -> bool {
        let part = |wanted: &Option<String>, text: &dyn Fn() -> String| {
            wanted
                .as_ref()
                .is_none_or(|wanted| text().contains(wanted.as_str()))
        };
        let uuid = || vm.id.to_string();
        part(&self.name, &|| vm.name().to_owned())
            && part(&self.uuid, &uuid)
            && self.fuzzy.as_ref().is_none_or(|wanted| fuzzy(vm, wanted))
            && (self.host_type.is_empty() || self.host_type.iter().any(|kind| kind == entry::kind(vm)))
            && self.state.is_none_or(|state| vm.power() == state)
            && self.action.is_none_or(|action| words::action(vm) == action)
            && self.agent.is_none_or(|agent| words::agent(agent_of(vm)) == words::agent(agent))
            && self.vm_ip.as_ref().is_none_or(|wanted| has_address(vm, wanted))
            && self.mac_address.as_ref().is_none_or(|wanted| has_mac(vm, wanted))
            // There is one cluster: active-active is off for all.
            && self.active_active.is_none_or(|on| !on)
            && self.in_its_place(place)
    }

    fn in_its_place(&self, place: impl Fn() -> Place) -> bool {
        if self.object_group.is_none() && self.zone.is_none() && self.user_uuid.is_none() {
            return true;
        }
        let place = place();
        let same = |wanted: &Option<String>, id: &str| wanted.as_ref().is_none_or(|wanted| wanted == id);
        same(&self.object_group, &place.group)
            && same(&self.zone, &place.zone)
            && same(&self.user_uuid, &place.owner)
    }
}

fn agent_of(vm: &Vm) -> AgentState {
    vm.facts
        .as_ref()
        .map_or_else(Default::default, |facts| facts.agent)
}

fn has_address(vm: &Vm, part: &str) -> bool {
    let mut addresses = entry::nics(vm).iter().flat_map(|nic| &nic.addresses);
    addresses.any(|address| address.to_string().contains(part))
}

fn has_mac(vm: &Vm, part: &str) -> bool {
    entry::nics(vm)
        .iter()
        .any(|nic| nic.mac.to_lowercase().contains(part))
}

/// Name, id, address or MAC address contains it; all but the name without regard to case.
fn fuzzy(vm: &Vm, wanted: &str) -> bool {
    let folded = wanted.to_lowercase();
    vm.name().contains(wanted)
        || vm.id.to_string().contains(&folded)
        || has_address(vm, &folded)
        || has_mac(vm, &folded)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::life::testing::{place, vm};

    fn filter(name: &str, value: &str) -> Filter {
        Filter::parse(&Params::of(json!({name: value})))
    }

    #[test]
    fn each_filter_lets_what_fits_through_and_nothing_else() {
        let one = vm();
        let uuid = one.id.to_string();
        let cases = [
            ("filter_name", "eb", "EB"),
            ("filter_uuid", &uuid[..8], "no-such-uuid"),
            ("filter_host_type", "GUS,GVPROXY", "GVPROXY"),
            ("filter_vm_ip", "10.0.0", "10.0.1"),
            ("filter_mac_address", "52:54:00:AA", "52:54:01"),
            ("filter_fuzzy", "52:54:00:AA:BB", "zzz"),
            ("filter_object_group", "GROUP", "grou"),
            ("filter_zone", "zone", "other"),
            ("filter_user_uuid", "owner", "nobody"),
            ("filter_state", "running", "shutoff"),
            ("filter_agent", "connected", "disconnected"),
            ("filter_action", "noaction", "cloning"),
            ("filter_recover_to_related_zones", "2", "1"),
        ];
        for (name, fits, does_not) in cases {
            assert!(
                filter(name, fits).passes(&one, place),
                "{name}={fits} lets it through"
            );
            assert!(!filter(name, does_not).passes(&one, place), "{name}={does_not}");
        }
    }

    #[test]
    fn fuzzy_looks_at_name_uuid_address_and_mac() {
        let one = vm();
        let uuid = one.id.to_string().to_uppercase();
        for part in ["web", &uuid[..13], "10.0.0.7", "52:54:00:AA"] {
            assert!(filter("filter_fuzzy", part).passes(&one, place), "{part}");
        }
        assert!(
            !filter("filter_fuzzy", "WEB").passes(&one, place),
            "a name keeps its case"
        );
    }

    #[test]
    fn an_empty_filter_is_none() {
        assert!(filter("filter_name", " ").is_open());
        assert!(Filter::parse(&Params::default()).is_open());
        assert!(!filter("filter_name", "a").is_open());
    }
}
