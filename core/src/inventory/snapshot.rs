//! One moment of the world: every VM, host, pool and network of every backend, merged with what the
//! registry remembers. Immutable; readers hold an `Arc` of it and need no lock. Its maps are persistent
//! (structure-sharing), so that a new moment costs the change and not the world.

use std::sync::Arc;

use imbl::{HashMap, OrdMap};

use super::entries::Entries;
use crate::error::Error;
use crate::model::{
    AccountInfo, Activity, BackendId, Flavor, Host, HostId, Image, ImageId, JobId, Network, NetworkId,
    PoolId, StoragePool, TenantId, Timestamp, Vm, VmFacts, VmId,
};

/// Whether a backend answers.
#[derive(Debug, Clone)]
pub struct BackendState {
    /// Whether its watch is connected and has sent its first full list.
    pub up: bool,
    /// Since when.
    pub since: Timestamp,
    /// Why not.
    pub error: Option<Error>,
}

/// Two readings of one VM are the same when nothing visible of it has changed between them: what makes the
/// difference of two moments cheap to find.
impl PartialEq for Vm {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.revision == other.revision
    }
}

/// One moment of the world.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every VM that is not gone, the trashed ones included.
    pub vms: HashMap<VmId, Arc<Vm>>,
    /// The visible VMs by number: the order of creation or discovery.
    pub by_number: OrdMap<u64, Arc<Vm>>,
    /// The visible VMs of each tenant by number.
    pub by_tenant: HashMap<TenantId, OrdMap<u64, Arc<Vm>>>,
    /// The VMs in the trash by number.
    pub trash: OrdMap<u64, Arc<Vm>>,
    /// VMs by their ten-character alias.
    pub by_short_id: HashMap<String, VmId>,
    /// Hosts.
    pub hosts: HashMap<HostId, Arc<Host>>,
    /// Pools.
    pub pools: HashMap<PoolId, Arc<StoragePool>>,
    /// Networks.
    pub networks: HashMap<NetworkId, Arc<Network>>,
    /// Images.
    pub images: OrdMap<ImageId, Arc<Image>>,
    /// Images by number. Like all maps here it shows what is, not what a caller may use: see [`Image::usable`]
    /// and [`Image::seen_by`].
    pub images_by_number: OrdMap<u64, Arc<Image>>,
    /// Flavors by their ten-character alias.
    pub flavors: OrdMap<String, Arc<Flavor>>,
    /// What else only the gateway remembers.
    pub entries: Entries,
    /// Accounts by name, without proofs of passwords.
    pub accounts: OrdMap<String, Arc<AccountInfo>>,
    /// Backends.
    pub backends: HashMap<BackendId, BackendState>,
    /// Grows when a host, an image or a flavor changes: encoded forms of VMs that name them depend on it, besides
    /// [`Vm::revision`].
    pub surroundings: u64,
    /// Unfinished jobs of each VM, oldest first.
    pub(super) activities: HashMap<VmId, OrdMap<(Timestamp, JobId), Activity>>,
    /// Reports that no VM shows: of VMs without a record (adoption is on its way, or the VM is gone and its
    /// backend has not said so yet), and of VMs whose own backend reports them, too.
    pub(super) strangers: HashMap<VmId, OrdMap<BackendId, Arc<VmFacts>>>,
}

impl Snapshot {
    /// The visible VMs that `tenant` may see, by number; all of them without a tenant.
    pub fn visible(&self, tenant: Option<&TenantId>) -> OrdMap<u64, Arc<Vm>> {
        match tenant {
            None => self.by_number.clone(),
            Some(tenant) => self.by_tenant.get(tenant).cloned().unwrap_or_default(),
        }
    }

    /// The VM with this ten-character alias.
    pub fn by_short_id(&self, short_id: &str) -> Option<&Arc<Vm>> {
        self.vms.get(self.by_short_id.get(short_id)?)
    }

    /// The name of the host that a VM is on; empty while it is on none.
    pub fn host_name(&self, vm: &Vm) -> &str {
        vm.facts
            .as_ref()
            .and_then(|facts| self.hosts.get(&facts.host))
            .map_or("", |host| host.name.as_str())
    }

    /// Whether `backend` answers.
    pub fn backend_up(&self, backend: &BackendId) -> bool {
        self.backends.get(backend).is_some_and(|state| state.up)
    }

    /// Puts a VM into every index, or takes it out of those that it no longer belongs to.
    pub(super) fn place(&mut self, vm: Arc<Vm>) {
        let record = &vm.record;
        if let Some(old) = self.vms.get(&vm.id).cloned()
            && (old.record.tenant != record.tenant || old.record.number != record.number)
        {
            self.unplace_visible(&old);
        }
        if record.gone_at.is_some() {
            self.remove(vm.id);
            return;
        }
        if vm.visible() {
            self.trash.remove(&record.number);
            self.by_number.insert(record.number, vm.clone());
            self.by_tenant
                .entry(record.tenant.clone())
                .or_default()
                .insert(record.number, vm.clone());
        } else {
            self.unplace_visible(&vm);
            self.trash.insert(record.number, vm.clone());
        }
        self.by_short_id.insert(record.short_id.clone(), vm.id);
        self.vms.insert(vm.id, vm);
    }

    /// Takes a VM out of every index.
    pub(super) fn remove(&mut self, id: VmId) {
        if let Some(old) = self.vms.remove(&id) {
            self.unplace_visible(&old);
            self.by_short_id.remove(&old.record.short_id);
        }
    }

    fn unplace_visible(&mut self, vm: &Vm) {
        let tenant = &vm.record.tenant;
        self.by_number.remove(&vm.record.number);
        self.trash.remove(&vm.record.number);
        if let Some(of_tenant) = self.by_tenant.get_mut(tenant) {
            of_tenant.remove(&vm.record.number);
            if of_tenant.is_empty() {
                self.by_tenant.remove(tenant);
            }
        }
    }

    /// Keeps a report that no VM shows.
    pub(super) fn set_aside(&mut self, facts: Arc<VmFacts>) {
        self.strangers
            .entry(facts.id)
            .or_default()
            .insert(facts.backend.clone(), facts);
    }

    /// Takes such a report back.
    pub(super) fn take_aside(&mut self, id: VmId, backend: &BackendId) -> Option<Arc<VmFacts>> {
        let reports = self.strangers.get_mut(&id)?;
        let taken = reports.remove(backend);
        if reports.is_empty() {
            self.strangers.remove(&id);
        }
        taken
    }

    /// Of all reports of a VM the one to show: that of `home`, else the first backend's by name, so that it
    /// does not depend on which came first. The others are set aside.
    pub(super) fn best_report(
        &mut self,
        home: &BackendId,
        id: VmId,
        shown: Option<Arc<VmFacts>>,
    ) -> Option<Arc<VmFacts>> {
        if let Some(shown) = shown {
            if shown.backend == *home && !self.strangers.contains_key(&id) {
                return Some(shown);
            }
            self.set_aside(shown);
        }
        let reports = self.strangers.get(&id)?;
        let best = if reports.contains_key(home) {
            home.clone()
        } else {
            reports.keys().next()?.clone()
        };
        self.take_aside(id, &best)
    }

    pub(super) fn activity(&self, vm: VmId) -> Option<Activity> {
        self.activities
            .get(&vm)
            .and_then(|jobs| jobs.get_min().map(|(_, activity)| *activity))
    }
}
