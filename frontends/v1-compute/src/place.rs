//! Where things belong in this dialect: clusters and zones as the backends report them, tenants as accounts and
//! machines name them. The core has names for most of them; here they get the uuids that clients send back. A uuid
//! is computed from the name, so that it is the same in every gateway and after every start.

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Host, TenantId, Vm};
use uuid::Uuid;

/// The name of cluster and zone where no backend has reported any yet.
const DEFAULT: &str = "default";
/// Everything that this dialect names and nobody else does is computed within this.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1c_2a54_9d0b_4c9e_8a37_51e6_0b7d_c2f4);

/// A cluster or zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Area {
    /// Its name.
    pub(crate) name: String,
    /// Its uuid, as every dialect has it.
    pub(crate) uuid: Uuid,
}

/// The uuid of what only this dialect names: `kind` is `tenant`, `layer2` …
pub(crate) fn computed(kind: &str, name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{kind}\u{0}{name}").as_bytes())
}

/// The uuid of a tenant, which is also that of its only namespace.
pub(crate) fn tenant_uuid(tenant: &TenantId) -> Uuid {
    computed("tenant", tenant.as_str())
}

/// The uuid of a tenant's group `default`, in which all its machines are that are in no other.
pub(crate) fn default_group(tenant: &TenantId) -> Uuid {
    computed("group", tenant.as_str())
}

/// Whether a client's `tenant` is that one: its uuid, its name, or nothing at all.
pub(crate) fn names_tenant(said: &str, tenant: &TenantId) -> bool {
    said.is_empty() || said == tenant.as_str() || is(said, tenant_uuid(tenant))
}

/// Whether a client's `cluster_uuid` is that one, or nothing at all.
pub(crate) fn names_cluster(said: &str, cluster: &Area) -> bool {
    said.is_empty() || is(said, cluster.uuid)
}

/// Whether `text` spells `uuid`.
pub(crate) fn is(text: &str, uuid: Uuid) -> bool {
    Uuid::try_parse(text).is_ok_and(|said| said == uuid)
}

fn cluster(host: &Host) -> Area {
    Area {
        name: host.cluster.clone(),
        uuid: host.cluster_id().0,
    }
}

fn zone(host: &Host) -> Area {
    Area {
        name: host.zone.clone(),
        uuid: host.zone_id().0,
    }
}

/// A host that is nowhere: it lends its cluster and zone while no backend has reported one.
fn nowhere() -> Host {
    use babelvisor_core::model::{BackendId, HostId};
    Host {
        id: HostId(Uuid::nil()),
        backend: BackendId::new(DEFAULT),
        name: String::new(),
        address: None,
        cpus: 0,
        memory: 0,
        memory_free: None,
        hypervisor: String::new(),
        cluster: DEFAULT.to_owned(),
        zone: DEFAULT.to_owned(),
    }
}

/// All clusters by name, never none: `default` before all others.
pub(crate) fn clusters(now: &Snapshot) -> Vec<Area> {
    areas(now, cluster)
}

/// All zones by name, never none: `default` before all others.
pub(crate) fn zones(now: &Snapshot) -> Vec<Area> {
    areas(now, zone)
}

fn areas(now: &Snapshot, of: fn(&Host) -> Area) -> Vec<Area> {
    let mut areas: Vec<Area> = now.hosts.values().map(|host| of(host)).collect();
    if areas.is_empty() {
        areas.push(of(&nowhere()));
    }
    areas.sort_by_cached_key(|area| (area.name != DEFAULT, area.clone()));
    areas.dedup();
    areas
}

/// The host that a VM is on, or that its backend would make it on.
fn host<'s>(now: &'s Snapshot, vm: &Vm) -> Option<&'s Host> {
    let reported = vm.facts.as_ref().and_then(|facts| now.hosts.get(&facts.host));
    let found = reported.or_else(|| {
        now.hosts
            .values()
            .filter(|host| host.backend == vm.record.backend)
            .min_by(|one, other| one.name.cmp(&other.name))
    });
    found.map(std::convert::AsRef::as_ref)
}

/// The cluster of a VM.
pub(crate) fn cluster_of(now: &Snapshot, vm: &Vm) -> Area {
    host(now, vm).map_or_else(|| cluster(&nowhere()), cluster)
}

/// The zone of a VM.
pub(crate) fn zone_of(now: &Snapshot, vm: &Vm) -> Area {
    host(now, vm).map_or_else(|| zone(&nowhere()), zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_cluster_and_a_zone_named_default() {
        let now = Snapshot::default();
        assert_eq!(clusters(&now).first().unwrap().name, "default");
        assert_eq!(zones(&now).first().unwrap().name, "default");
        assert!(!clusters(&now).first().unwrap().uuid.is_nil());
    }

    #[test]
    fn a_tenant_is_named_by_uuid_by_name_or_not_at_all() {
        let (home, other) = (TenantId::new("home"), TenantId::new("other"));
        assert!(names_tenant("", &home) && names_tenant("home", &home));
        assert!(names_tenant(&tenant_uuid(&home).to_string(), &home));
        assert!(names_tenant(
            &tenant_uuid(&home).to_string().to_uppercase(),
            &home
        ));
        assert!(!names_tenant(&tenant_uuid(&other).to_string(), &home));
        assert_ne!(default_group(&home), tenant_uuid(&home));
    }
}
