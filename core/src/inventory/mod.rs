//! The inventory: the live view that every query is answered from. Backends' events, record changes and job
//! changes are folded in here, each as one new [`Snapshot`]; readers never wait and never reach a hypervisor.

mod cache;
mod snapshot;
mod upkeep;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

pub use cache::FragmentCache;
pub use snapshot::{BackendState, Snapshot};
pub use upkeep::Upkeep;

use crate::backend::BackendEvent;
use crate::error::Error;
use crate::model::{
    BackendId, Flavor, FlavorId, Image, ImageId, Job, PowerState, Timestamp, Topology, Vm, VmFacts, VmId,
    VmRecord,
};

/// The live view of all backends and the registry.
#[derive(Debug, Default)]
pub struct Inventory {
    current: ArcSwap<Snapshot>,
    writer: Mutex<()>,
    revision: AtomicU64,
}

/// What a fold asks the upkeep to do outside the lock.
#[derive(Debug, Default)]
pub struct Chores {
    /// VMs without a record.
    pub adopt: Vec<Arc<VmFacts>>,
    /// VMs with a record that their backend no longer lists.
    pub missing: Vec<VmId>,
}

impl Inventory {
    /// This moment.
    pub fn now(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes the next moment. The closure must be quick and must not block: readers are never held up, but
    /// other writers are.
    fn update<T>(&self, change: impl FnOnce(&mut Snapshot, &dyn Fn() -> u64) -> T) -> T {
        let _one_writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&self.current.load());
        let revise = || self.revision.fetch_add(1, Ordering::Relaxed) + 1;
        let result = change(&mut next, &revise);
        self.current.store(Arc::new(next));
        result
    }

    /// Folds in what a backend's watch reports.
    pub fn backend_event(&self, backend: &BackendId, event: BackendEvent) -> Chores {
        match event {
            BackendEvent::Resync(all) => self.resync(backend, all),
            BackendEvent::Changed(facts) => self.facts(vec![*facts]),
            BackendEvent::Gone(id) => Chores {
                missing: self.forget_facts(backend, &[id]),
                ..Chores::default()
            },
            BackendEvent::Topology(topology) => {
                self.topology(backend, topology);
                Chores::default()
            }
            BackendEvent::Down(error) => {
                self.set_up(backend, Some(error));
                Chores::default()
            }
        }
    }

    fn resync(&self, backend: &BackendId, all: Vec<VmFacts>) -> Chores {
        let listed: std::collections::HashSet<VmId> = all.iter().map(|facts| facts.id).collect();
        let missing: Vec<VmId> = self
            .now()
            .vms
            .values()
            .filter(|vm| vm.facts.as_ref().is_some_and(|facts| facts.backend == *backend))
            .filter(|vm| !listed.contains(&vm.id))
            .map(|vm| vm.id)
            .collect();
        let mut chores = self.facts(all);
        chores.missing = self.forget_facts(backend, &missing);
        self.set_up(backend, None);
        chores
    }

    /// Folds in what backends say of VMs.
    pub fn facts(&self, all: Vec<VmFacts>) -> Chores {
        self.update(|next, revise| {
            let mut chores = Chores::default();
            for facts in all {
                let facts = Arc::new(facts);
                match next.vms.get(&facts.id).cloned() {
                    Some(vm) => {
                        if vm.facts.as_deref() != Some(&*facts) || !vm.reachable {
                            next.place(Arc::new(Vm {
                                facts: Some(facts),
                                revision: revise(),
                                reachable: true,
                                changed: Timestamp::now(),
                                ..Vm::clone(&vm)
                            }));
                        }
                    }
                    None => {
                        next.strangers.insert(facts.id, facts.clone());
                        chores.adopt.push(facts);
                    }
                }
            }
            chores
        })
    }

    /// Drops the facts of VMs that `backend` no longer has; returns those that have a record. A VM whose
    /// facts meanwhile come from another backend has moved there and is left alone.
    fn forget_facts(&self, backend: &BackendId, ids: &[VmId]) -> Vec<VmId> {
        self.update(|next, revise| {
            let mut recorded = Vec::new();
            for id in ids {
                next.strangers.remove(id);
                if let Some(vm) = next.vms.get(id).cloned()
                    && vm.facts.as_ref().is_some_and(|facts| facts.backend == *backend)
                {
                    recorded.push(*id);
                    next.place(Arc::new(Vm {
                        facts: None,
                        revision: revise(),
                        changed: Timestamp::now(),
                        ..Vm::clone(&vm)
                    }));
                }
            }
            recorded
        })
    }

    /// Notes a power state that a finished job has just brought about, ahead of the backend's own event.
    pub fn presume_power(&self, id: VmId, power: PowerState) {
        self.update(|next, revise| {
            if let Some(vm) = next.vms.get(&id).cloned()
                && let Some(facts) = &vm.facts
                && facts.power != power
            {
                next.place(Arc::new(Vm {
                    facts: Some(Arc::new(VmFacts {
                        power,
                        ..VmFacts::clone(facts)
                    })),
                    revision: revise(),
                    changed: Timestamp::now(),
                    ..Vm::clone(&vm)
                }));
            }
        });
    }

    /// Folds in VM records of the store; older versions than those already seen are ignored.
    pub fn records(&self, records: Vec<(VmRecord, u64)>) {
        self.update(|next, revise| {
            for (record, version) in records {
                let old = next.vms.get(&record.id).cloned();
                if old.as_ref().is_some_and(|vm| vm.record_version >= version) {
                    continue;
                }
                let stranger = next.strangers.remove(&record.id);
                let facts = old.as_ref().and_then(|vm| vm.facts.clone()).or(stranger);
                let vm = Vm {
                    id: record.id,
                    revision: revise(),
                    record_version: version,
                    activity: next.activity(record.id),
                    reachable: next.backend_up(&record.backend),
                    changed: old.map_or(record.first_seen, |vm| vm.changed),
                    facts,
                    record: Arc::new(record),
                };
                next.place(Arc::new(vm));
            }
        });
    }

    /// Folds in a job's state: what it does to its VM shows there until it ends.
    pub fn job(&self, job: &Job) {
        let id = job.command.vm();
        let key = (job.submitted, job.id);
        self.update(|next, revise| {
            let before = next.activity(id);
            let mut lines = next.activities.get(&id).cloned().unwrap_or_default();
            match job.activity() {
                Some((_, activity)) => {
                    lines.insert(key, activity);
                }
                None => {
                    lines.remove(&key);
                }
            }
            if lines.is_empty() {
                next.activities.remove(&id);
            } else {
                next.activities.insert(id, lines);
            }
            let activity = next.activity(id);
            if activity != before
                && let Some(vm) = next.vms.get(&id).cloned()
            {
                next.place(Arc::new(Vm {
                    activity,
                    revision: revise(),
                    ..Vm::clone(&vm)
                }));
            }
        });
    }

    fn topology(&self, backend: &BackendId, topology: Topology) {
        self.update(|next, _| {
            next.hosts.retain(|_, host| host.backend != *backend);
            next.pools.retain(|_, pool| pool.backend != *backend);
            next.networks.retain(|_, network| network.backend != *backend);
            next.hosts
                .extend(topology.hosts.into_iter().map(|host| (host.id, Arc::new(host))));
            next.pools
                .extend(topology.pools.into_iter().map(|pool| (pool.id, Arc::new(pool))));
            next.networks.extend(
                topology
                    .networks
                    .into_iter()
                    .map(|network| (network.id, Arc::new(network))),
            );
        });
    }

    fn set_up(&self, backend: &BackendId, error: Option<Error>) {
        let up = error.is_none();
        self.update(|next, revise| {
            let was_up = next.backend_up(backend);
            next.backends.insert(
                backend.clone(),
                BackendState {
                    up,
                    since: Timestamp::now(),
                    error,
                },
            );
            if was_up == up {
                return;
            }
            let affected: Vec<Arc<Vm>> = next
                .vms
                .values()
                .filter(|vm| vm.record.backend == *backend)
                .cloned()
                .collect();
            for vm in affected {
                next.place(Arc::new(Vm {
                    reachable: up,
                    revision: revise(),
                    ..Vm::clone(&vm)
                }));
            }
        });
    }

    /// Folds in an image, or its removal.
    pub fn image(&self, id: ImageId, image: Option<Image>) {
        self.update(|next, _| {
            if let Some(old) = next.images.remove(&id) {
                next.images_by_number.remove(&old.number);
            }
            if let Some(image) = image.map(Arc::new) {
                next.images_by_number.insert(image.number, image.clone());
                next.images.insert(id, image);
            }
        });
    }

    /// Folds in a flavor, or its removal.
    pub fn flavor(&self, id: FlavorId, flavor: Option<Flavor>) {
        self.update(|next, _| {
            next.flavors = next
                .flavors
                .iter()
                .filter(|(_, old)| old.id != id)
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            if let Some(flavor) = flavor {
                next.flavors.insert(flavor.short_id.clone(), Arc::new(flavor));
            }
        });
    }
}
