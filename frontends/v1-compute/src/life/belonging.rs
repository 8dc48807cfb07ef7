//! Where a VM belongs, gathered for its printed forms: cluster, zone, tenant, group, user, and the guest's system.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{GroupId, TenantId, Vm, VmGroup};

use super::entry::{Place, recorded, setting};
use crate::place;

/// The name of the group of VMs that are in no other.
const DEFAULT_GROUP: &str = "default";

/// The uuids of groups as text. That of a tenant's default group is computed, which is too dear for each VM of ten
/// thousand.
#[derive(Default)]
pub(crate) struct Groups(RefCell<HashMap<TenantId, String>>);

impl Groups {
    /// The uuid of the group, or of the tenant's default one.
    pub(crate) fn uuid(&self, group: Option<GroupId>, tenant: &TenantId) -> String {
        match group {
            Some(group) => group.to_string(),
            None => self
                .0
                .borrow_mut()
                .entry(tenant.clone())
                .or_insert_with(|| place::default_group(tenant).to_string())
                .clone(),
        }
    }
}

/// The VM's group; none is its tenant's default one. A group that is gone counts as none.
pub(crate) fn group(now: &Snapshot, vm: &Vm) -> Option<Arc<VmGroup>> {
    vm.record
        .group
        .and_then(|id| now.entries.vm_groups.get(&id).cloned())
}

/// Uuid and name of a group, or of the tenant's default one.
pub(crate) fn named_group(now: &Snapshot, group: Option<GroupId>, tenant: &TenantId) -> (String, String) {
    match group.and_then(|id| now.entries.vm_groups.get(&id)) {
        Some(group) => (group.id.to_string(), group.name.clone()),
        None => (place::default_group(tenant).to_string(), DEFAULT_GROUP.to_owned()),
    }
}

/// Where `vm` belongs.
pub(crate) fn of(now: &Snapshot, vm: &Vm) -> Place {
    let record = &vm.record;
    let (cluster, zone) = (place::cluster_of(now, vm), place::zone_of(now, vm));
    let (group, group_name) = named_group(now, record.group, &record.tenant);
    let image = record.image.and_then(|id| now.images.get(&id));
    let of_image = || image.map(|image| format!("{} {}", image.os, image.os_version).trim().to_owned());
    Place {
        cluster_uuid: cluster.uuid.to_string(),
        cluster_name: cluster.name,
        tenant: place::tenant_uuid(&record.tenant).to_string(),
        tenant_name: record.tenant.as_str().to_owned(),
        zone: zone.uuid.to_string(),
        zone_name: zone.name,
        group,
        group_name,
        owner: recorded(vm, setting::OWNER).unwrap_or_default().to_owned(),
        owner_name: recorded(vm, setting::OWNER_NAME).unwrap_or_default().to_owned(),
        os: record.os.clone().or_else(of_image).unwrap_or_default(),
    }
}
