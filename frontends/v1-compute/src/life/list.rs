//! The reads of many VMs: the list with its filters and pages, and the counts by state. Answered from the inventory;
//! an entry is encoded once for each change of its VM.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{GroupId, TenantId, Vm, VmGroup};
use babelvisor_core::query;
use bytes::Bytes;
use serde::Serialize;

use super::belonging::{self, Groups};
use super::counts::Counts;
use super::entry;
use super::filter::Filter;
use crate::V1Compute;
use crate::call::Call;
use crate::encode::{Data, RangeState, unwritable};
use crate::error::Fault;
use crate::place::{self, Area};

/// What an encoded entry depends on.
#[derive(Debug)]
pub(crate) struct Stamp {
    revision: u64,
    surroundings: u64,
    group: Option<Arc<VmGroup>>,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        let same_group = match (&self.group, &other.group) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.revision == other.revision && self.surroundings == other.surroundings && same_group
    }
}

impl V1Compute {
    /// `compute.list`.
    pub(crate) async fn list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let now = self.core.now();
        let page = call.params.page()?;
        let clusters = asked_clusters(&now, call.params.text("cluster_uuid"))?;
        let filter = Filter::parse(&call.params);
        let found = self.matching(&now, call, &clusters, &filter);

        let groups = Groups::default();
        let mut in_group: BTreeMap<String, usize> = BTreeMap::new();
        let mut counted: HashMap<(Option<GroupId>, &TenantId), usize> = HashMap::new();
        for vm in &found {
            *counted.entry((vm.record.group, &vm.record.tenant)).or_default() += 1;
        }
        for ((group, tenant), count) in counted {
            *in_group.entry(groups.uuid(group, tenant)).or_default() += count;
        }
        let in_cluster = |cluster: &Area| match clusters.len() {
            1 => found.len(),
            _ => found
                .iter()
                .filter(|vm| place::cluster_of(&now, vm) == *cluster)
                .count(),
        };
        let states = clusters
            .iter()
            .map(|cluster| RangeState::good(cluster, in_cluster(cluster)))
            .collect();
        let total = found.len();

        let mut json = b"{\"domains\":[".to_vec();
        for (place, vm) in page.cut(found).into_iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            json.extend_from_slice(&self.entry(&now, vm)?);
        }
        let tail = serde_json::to_vec(&Tail {
            total_count: total,
            each_range_list_state: states,
            object_group_counts: in_group,
            cluster_total_resource: None,
        })
        .map_err(unwritable)?;
        json.extend_from_slice(b"],");
        json.extend_from_slice(tail.get(1..).unwrap_or_default());
        Ok(Data::json(json))
    }

    /// `compute.state_summary`.
    pub(crate) async fn state_summary(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let now = self.core.now();
        let clusters = asked_clusters(&now, call.params.text("cluster_uuid"))?;
        let machine = call.params.optional_uuid("filter_machine_uuid")?;
        let found = self.matching(&now, call, &clusters, &Filter::default());
        let here = found.into_iter().map(|vm| &**vm).filter(|vm| {
            machine.is_none_or(|machine| vm.facts.as_ref().is_some_and(|facts| facts.host.0 == machine))
        });
        Data::of(&Counts::of(here))
    }

    /// The VMs that a call sees and its filters let through, in the order of the document: by creation, then name.
    fn matching<'s>(
        &self,
        now: &'s Snapshot,
        call: &Call<'_>,
        clusters: &[Area],
        filter: &Filter,
    ) -> Vec<&'s Arc<Vm>> {
        let everywhere = clusters.len() == place::clusters(now).len();
        let said = call.params.text("tenant");
        let mut tenants: HashMap<&TenantId, bool> = HashMap::new();
        let mut named = |tenant: &'s TenantId| {
            said.is_empty()
                || *tenants
                    .entry(tenant)
                    .or_insert_with(|| place::names_tenant(said, tenant))
        };
        let trash = call.params.flag("include_trash_vm");
        let open = filter.is_open();
        let mut passes = |vm: &Arc<Vm>, tenant: &'s TenantId| {
            named(tenant)
                && (everywhere || clusters.contains(&place::cluster_of(now, vm)))
                && (open || filter.passes(vm, || belonging::of(now, vm)))
        };
        let scope = query::scope(&call.caller);
        let mut found: Vec<&Arc<Vm>> = match (trash, scope) {
            (true, _) => now
                .vms
                .values()
                .filter(|vm| query::may_see(&call.caller, vm) && passes(vm, &vm.record.tenant))
                .collect(),
            (false, None) => now
                .by_number
                .values()
                .filter(|vm| passes(vm, &vm.record.tenant))
                .collect(),
            (false, Some(tenant)) => now
                .by_tenant
                .get(tenant)
                .into_iter()
                .flat_map(|vms| vms.values())
                .filter(|vm| passes(vm, &vm.record.tenant))
                .collect(),
        };
        // The order of numbers is nearly that of creation: there is little to move.
        found.sort_by(|one, other| {
            let seconds = |vm: &Vm| vm.record.first_seen.as_second();
            seconds(one)
                .cmp(&seconds(other))
                .then_with(|| one.name().cmp(other.name()))
        });
        found
    }

    /// A VM as an entry of the list.
    fn entry(&self, now: &Snapshot, vm: &Vm) -> Result<Bytes, Fault> {
        let stamp = Stamp {
            revision: vm.revision,
            surroundings: now.surroundings,
            group: belonging::group(now, vm),
        };
        self.life.entries.get_or(vm.id, stamp, || {
            let encoded = entry::encode(vm, &belonging::of(now, vm), |nic| self.port_group_of(now, nic));
            encoded.map(Bytes::from).map_err(unwritable)
        })
    }
}

/// What follows the entries.
#[derive(Serialize)]
struct Tail {
    total_count: usize,
    each_range_list_state: Vec<RangeState>,
    object_group_counts: BTreeMap<String, usize>,
    cluster_total_resource: Option<()>,
}

/// The clusters that a call is about: all of them where it names none.
///
/// # Errors
/// 22001 for one that does not exist.
pub(crate) fn asked_clusters(now: &Snapshot, said: &str) -> Result<Vec<Area>, Fault> {
    let mut clusters = place::clusters(now);
    clusters.retain(|cluster| place::names_cluster(said, cluster));
    if clusters.is_empty() {
        return Err(Fault::unknown("cluster", said));
    }
    Ok(clusters)
}
