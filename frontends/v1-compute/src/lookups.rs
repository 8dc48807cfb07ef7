//! What clients look up before they make a machine: members of the management cluster, clusters, zones, tenants and
//! specifications. Every list is answered from the inventory.

use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{AccountInfo, Caller, Flavor, PowerState, Role, TenantId, Vm};
use babelvisor_core::query;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::V1Compute;
use crate::auth::{self, role};
use crate::call::Call;
use crate::decode::Params;
use crate::encode::{Data, RangeState};
use crate::error::Fault;
use crate::operations::{Row, row};
use crate::place::{self, Area};

/// The operations of this file.
pub(crate) const ROWS: &[Row] = &[
    row!("system.member_list", member_list),
    row!("cluster.list", cluster_list),
    row!("zone.list", zone_list),
    row!("tenant.list", tenant_list),
    row!("specification.list", specification_list),
];

/// The tenant that lists show only on request.
const SYSTEM: &str = "system";

#[derive(Serialize)]
struct List<T> {
    list: Vec<T>,
    total_count: usize,
}

impl<T> List<T> {
    fn page(params: &Params, all: Vec<T>) -> Result<Self, Fault> {
        Ok(Self {
            total_count: all.len(),
            list: params.page()?.cut(all),
        })
    }
}

#[derive(Serialize)]
struct Members<'a> {
    leader: &'a str,
    candidates: [&'a str; 1],
    ready: bool,
    alias_source: &'static str,
}

#[derive(Serialize)]
struct Cluster<'a> {
    cluster_uuid: String,
    cluster_name: String,
    /// When a cluster was made is known to nobody.
    ctime: Option<i64>,
    candidates: [&'a str; 1],
}

/// A zone, fields and capitals as its document has them.
#[derive(Serialize)]
struct Zone {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "UUID")]
    uuid: String,
    #[serde(rename = "Domains")]
    domains: Option<Vec<String>>,
    #[serde(rename = "Labels")]
    labels: Option<Vec<String>>,
    #[serde(rename = "Func")]
    func: [&'static str; 2],
    #[serde(rename = "Ctime")]
    ctime: Option<i64>,
    #[serde(rename = "RelatedZone")]
    related_zone: &'static str,
    #[serde(rename = "Role")]
    role: &'static str,
    #[serde(rename = "zonePolicy")]
    zone_policy: &'static str,
    #[serde(rename = "Status")]
    status: u8,
    #[serde(rename = "RelatedZoneName")]
    related_zone_name: &'static str,
    #[serde(rename = "Statistic")]
    statistic: Statistic,
}

/// Of a zone's figures those that are counted here.
#[derive(Serialize, Default)]
struct Statistic {
    #[serde(rename = "VmCount")]
    vms: u64,
    #[serde(rename = "VmRunning")]
    running: u64,
    #[serde(rename = "VmStopped")]
    stopped: u64,
}

#[derive(Serialize)]
struct Tenant {
    name: String,
    uuid: String,
    cluster_uuid: String,
    create_time: Option<i64>,
    namespace: String,
    user_num: usize,
    normal_user_num: usize,
    policy_num: usize,
    group_num: usize,
    ldap_enabled: bool,
    administrator: Option<Administrator>,
}

#[derive(Serialize)]
struct Administrator {
    user_name: String,
    user_uuid: String,
    user_role: &'static str,
}

#[derive(Serialize)]
struct Tenants {
    list: Vec<Tenant>,
    latest_used_tenants: Vec<String>,
    total_count: usize,
}

#[derive(Serialize)]
struct Specification {
    name: String,
    uuid: String,
    create_time: i64,
    kind: &'static str,
    #[serde(rename = "type")]
    family: &'static str,
    tenant: String,
    cluster_uuid: String,
    creator: &'static str,
    creator_name: &'static str,
    creator_tenant: &'static str,
    desc: String,
    tenant_name: String,
    is_share: bool,
    unified_vm_spec: UnifiedVmSpec,
}

/// A create body without identity.
#[derive(Serialize)]
struct UnifiedVmSpec {
    cpunr: u32,
    max_cpu_nr: u32,
    cpu_sockets: u32,
    cpu_socket_cores: u32,
    mem_size: u64,
    mem_max: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    os: &'static str,
    meta: Map<String, Value>,
    disks: Vec<Value>,
    interfaces: Vec<Value>,
    baseline: &'static str,
    zone: String,
}

/// Whether `filter`, if there is one, is a part of `text`.
pub(crate) fn part_of(filter: &str, text: &str) -> bool {
    filter.is_empty() || text.contains(filter)
}

impl V1Compute {
    /// `system.member_list`: the gateway that was called, under the name that it was called by.
    pub(crate) async fn member_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let host = auth::host(call.request);
        Data::of(&Members {
            leader: host,
            candidates: [host],
            ready: true,
            alias_source: "",
        })
    }

    /// `cluster.list`.
    pub(crate) async fn cluster_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let host = auth::host(call.request);
        let clusters = place::clusters(&self.core.now());
        let all = clusters.into_iter().map(|cluster| Cluster {
            cluster_uuid: cluster.uuid.to_string(),
            cluster_name: cluster.name,
            ctime: None,
            candidates: [host],
        });
        Data::of(&List::page(&call.params, all.collect())?)
    }

    /// `zone.list`.
    pub(crate) async fn zone_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let now = self.core.now();
        self.cluster(&now, call.params.text("cluster_uuid"))?;
        let name = call.params.text("filter_name");
        let zones = place::zones(&now);
        let named = zones.into_iter().filter(|zone| part_of(name, &zone.name));
        let all = named.map(|zone| zone_entry(&now, &call.caller, zone));
        Data::of(&List::page(&call.params, all.collect())?)
    }

    /// `tenant.list`: the tenant `system` is shown with `system=true` only.
    pub(crate) async fn tenant_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (name, system) = (call.params.text("filter_name"), call.params.flag("system"));
        let now = self.core.now();
        let cluster = first_cluster(&now);
        let accounts = self.core.accounts(&call.caller);
        let tenants = self.core.tenants(&call.caller);
        let shown = tenants
            .into_iter()
            .filter(|tenant| part_of(name, tenant.as_str()) && (system || tenant.as_str() != SYSTEM));
        let all: Vec<Tenant> = shown
            .map(|tenant| tenant_entry(&now, &cluster, &accounts, &tenant))
            .collect();
        Data::of(&Tenants {
            total_count: all.len(),
            list: call.params.page()?.cut(all),
            latest_used_tenants: Vec::new(),
        })
    }

    /// `specification.list`: the flavors. Those of everybody are shown unless the call says otherwise.
    pub(crate) async fn specification_list(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let params = &call.params;
        let (name, tenant) = (params.text("filter_name"), params.text("tenant"));
        let shared = params.text("include_share") != "false";
        let now = self.core.now();
        let zone = place::zones(&now).into_iter().next();
        let zone = zone.map(|zone| zone.uuid.to_string()).unwrap_or_default();
        let cluster = first_cluster(&now);
        let mut flavors = self.core.entries::<Flavor>(&call.caller);
        flavors.retain(|flavor| {
            flavor.enabled
                && part_of(name, &flavor.name)
                && match &flavor.tenant {
                    None => shared,
                    Some(owner) => place::names_tenant(tenant, owner),
                }
        });
        flavors.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
        let all = flavors
            .iter()
            .map(|flavor| specification(flavor, &cluster, &zone, &call.caller));
        Data::of(&List::page(params, all.collect())?)
    }

    /// The cluster that `said` names; the first one for nothing at all.
    ///
    /// # Errors
    /// 22001 for a cluster that does not exist.
    pub(crate) fn cluster(&self, now: &Snapshot, said: &str) -> Result<Area, Fault> {
        let mut clusters = place::clusters(now).into_iter();
        let found = clusters.find(|cluster| place::names_cluster(said, cluster));
        found.ok_or_else(|| Fault::unknown("cluster", said))
    }

    /// The tenant that `said` names, among those that the caller sees; none for nothing at all.
    ///
    /// # Errors
    /// 22001 for a tenant that does not exist or is not the caller's.
    pub(crate) fn tenant(&self, caller: &Caller, said: &str) -> Result<Option<TenantId>, Fault> {
        if said.is_empty() {
            return Ok(None);
        }
        if place::names_tenant(said, &caller.tenant) {
            return Ok(Some(caller.tenant.clone()));
        }
        let mut tenants = self.core.tenants(caller).into_iter();
        let found = tenants.find(|tenant| place::names_tenant(said, tenant));
        found.map(Some).ok_or_else(|| Fault::unknown("tenant", said))
    }
}

/// The cluster that is meant where none is named.
pub(crate) fn first_cluster(now: &Snapshot) -> Area {
    // There is always one.
    place::clusters(now).into_iter().next().unwrap_or_else(|| Area {
        name: String::new(),
        uuid: place::computed("cluster", ""),
    })
}

/// How lists of one answer report that they are whole: one state for each cluster.
pub(crate) fn range_states(now: &Snapshot, total: usize) -> Vec<RangeState> {
    vec![RangeState::good(&first_cluster(now), total)]
}

fn zone_entry(now: &Snapshot, caller: &Caller, zone: Area) -> Zone {
    let mut statistic = Statistic::default();
    let here = |vm: &&Arc<Vm>| query::may_see(caller, vm) && place::zone_of(now, vm) == zone;
    for vm in now.by_number.values().filter(here) {
        statistic.vms += 1;
        match vm.power() {
            PowerState::Running | PowerState::Blocked => statistic.running += 1,
            PowerState::Off | PowerState::Crashed => statistic.stopped += 1,
            PowerState::NoState | PowerState::Paused | PowerState::ShuttingDown | PowerState::Suspended => {}
        }
    }
    Zone {
        name: zone.name,
        uuid: zone.uuid.to_string(),
        domains: None,
        labels: None,
        func: ["Storage", "Compute"],
        ctime: None,
        related_zone: "",
        role: "master",
        zone_policy: "",
        status: 1,
        related_zone_name: "",
        statistic,
    }
}

fn tenant_entry(now: &Snapshot, cluster: &Area, accounts: &[Arc<AccountInfo>], tenant: &TenantId) -> Tenant {
    let mut own: Vec<&Arc<AccountInfo>> = accounts
        .iter()
        .filter(|account| account.tenant == *tenant)
        .collect();
    own.sort_by_key(|account| account.created);
    let uuid = place::tenant_uuid(tenant).to_string();
    let groups = now.entries.vm_groups.values();
    let administrator = own.iter().find(|account| account.role == Role::Admin);
    Tenant {
        name: tenant.as_str().to_owned(),
        cluster_uuid: cluster.uuid.to_string(),
        create_time: own.first().map(|account| account.created.as_second()),
        namespace: uuid.clone(),
        uuid,
        user_num: own.len(),
        normal_user_num: own.iter().filter(|account| account.role != Role::Admin).count(),
        policy_num: 0,
        // The tenant's default group counts.
        group_num: 1 + groups
            .filter(|group| group.tenant.as_ref() == Some(tenant))
            .count(),
        ldap_enabled: false,
        administrator: administrator.map(|account| Administrator {
            user_name: account.name.clone(),
            user_uuid: account.id.to_string(),
            user_role: role(account.role),
        }),
    }
}

fn specification(flavor: &Flavor, cluster: &Area, zone: &str, caller: &Caller) -> Specification {
    let owner = flavor.tenant.as_ref().unwrap_or(&caller.tenant);
    Specification {
        name: flavor.name.clone(),
        uuid: flavor.id.to_string(),
        create_time: flavor.created.as_second(),
        kind: "Specification",
        family: "unifiedvm",
        tenant: place::tenant_uuid(owner).to_string(),
        cluster_uuid: cluster.uuid.to_string(),
        creator: "",
        creator_name: "",
        creator_tenant: "",
        desc: flavor.description.clone(),
        tenant_name: owner.as_str().to_owned(),
        is_share: flavor.tenant.is_none(),
        unified_vm_spec: UnifiedVmSpec {
            cpunr: flavor.vcpus,
            max_cpu_nr: flavor.vcpus,
            cpu_sockets: 1,
            cpu_socket_cores: flavor.vcpus,
            mem_size: flavor.memory,
            mem_max: flavor.memory,
            kind: "GUS",
            os: "",
            meta: Map::new(),
            disks: if flavor.disk > 0 {
                vec![json!({"disk_unified_vsd": {"capacity": flavor.disk}})]
            } else {
                Vec::new()
            },
            interfaces: Vec::new(),
            baseline: "",
            zone: zone.to_owned(),
        },
    }
}
