//! The inventory: the live view that every query is answered from. Backends' events, record changes and job
//! changes are folded in here, each as one new [`Snapshot`]; readers never wait and never reach a hypervisor.

mod cache;
mod entries;
mod entry_kinds;
mod remembered;
mod snapshot;
mod sweep;
mod upkeep;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use uuid::Uuid;

pub use cache::FragmentCache;
pub use entries::{Entries, Entry, Heard};
pub use snapshot::{BackendState, Snapshot};
pub use upkeep::Upkeep;

use crate::backend::BackendEvent;
use crate::error::Error;
use crate::model::{
    AccountInfo, Activity, BackendId, Host, Job, JobId, PowerState, Timestamp, Topology, Vm, VmFacts, VmId,
    VmRecord,
};
use crate::store::RecordKind;
use remembered::Remembered;

/// The live view of all backends and the registry.
///
/// What it hears arrives in any order: a record before or after the facts it belongs to, a job's end before its
/// beginning, two backends with one VM. The view depends on what was heard, not on the order: newest record,
/// ended for good once ended, and the facts of the record's own backend before those of any other.
#[derive(Debug, Default)]
pub struct Inventory {
    current: ArcSwap<Snapshot>,
    past: Mutex<Past>,
    revision: AtomicU64,
}

/// What must not come to life again when old news of it arrives late. Also the right to write: whoever holds
/// it is the one writer.
#[derive(Debug, Default)]
struct Past {
    ended: Remembered<JobId, ()>,
    gone: Remembered<VmId, u64>,
    /// Of the entries that are shown.
    versions: HashMap<(RecordKind, Uuid), u64>,
    /// Of those that were removed.
    removed: Remembered<(RecordKind, Uuid), u64>,
}

/// What a fold asks the upkeep to do outside the lock.
#[derive(Debug, Default)]
pub struct Chores {
    /// VMs without a record.
    pub adopt: Vec<Arc<VmFacts>>,
    /// VMs with a record that their backend does not list.
    pub missing: Vec<VmId>,
    /// VMs that another backend than the record's lists while the record's does not.
    pub moved: Vec<(VmId, BackendId)>,
}

impl Inventory {
    /// This moment.
    pub fn now(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes the next moment. The closure must be quick and must not block: readers are never held up, but
    /// other writers are.
    fn update<T>(&self, change: impl FnOnce(&mut Snapshot, &mut Past, &dyn Fn() -> u64) -> T) -> T {
        let mut one_writer = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&self.current.load());
        let revise = || self.revision.fetch_add(1, Ordering::Relaxed) + 1;
        let result = change(&mut next, &mut one_writer, &revise);
        self.current.store(Arc::new(next));
        result
    }

    /// Folds in what a backend's watch reports.
    pub fn backend_event(&self, backend: &BackendId, event: BackendEvent) -> Chores {
        match event {
            BackendEvent::Resync(all) => self.resync(backend, all),
            BackendEvent::Changed(facts) => self.facts(vec![*facts]),
            BackendEvent::Gone(id) => self.forget_facts(backend, &[id]),
            BackendEvent::Topology(topology) => {
                self.topology(backend, topology);
                Chores::default()
            }
            BackendEvent::Down(error) => {
                self.update(|next, _, revise| set_up(next, backend, Some(error), revise));
                Chores::default()
            }
        }
    }

    /// Folds in a backend's whole list, as one moment: nobody sees half of it.
    fn resync(&self, backend: &BackendId, all: Vec<VmFacts>) -> Chores {
        self.update(|next, _, revise| {
            let listed: HashSet<VmId> = all.iter().map(|facts| facts.id).collect();
            let known = next
                .vms
                .values()
                .filter(|vm| vm.home() == backend)
                .map(|vm| vm.id);
            let unshown = next.strangers.iter();
            let unshown = unshown.filter(|(_, reports)| reports.contains_key(backend));
            let mut missing: Vec<VmId> = known.chain(unshown.map(|(id, _)| *id)).collect();
            missing.retain(|id| !listed.contains(id));
            set_up(next, backend, None, revise);
            let mut chores = Chores::default();
            for facts in all {
                fold_facts(next, facts, revise, &mut chores);
            }
            for id in missing {
                fold_absence(next, backend, id, revise, &mut chores);
            }
            chores
        })
    }

    /// Folds in what backends say of VMs.
    pub fn facts(&self, all: Vec<VmFacts>) -> Chores {
        self.update(|next, _, revise| {
            let mut chores = Chores::default();
            for facts in all {
                fold_facts(next, facts, revise, &mut chores);
            }
            chores
        })
    }

    /// Drops the facts of VMs that `backend` no longer has.
    pub fn forget_facts(&self, backend: &BackendId, ids: &[VmId]) -> Chores {
        self.update(|next, _, revise| {
            let mut chores = Chores::default();
            for id in ids {
                fold_absence(next, backend, *id, revise, &mut chores);
            }
            chores
        })
    }

    /// What still waits for somebody to see to it on `backend`: chores that could not be done when they came
    /// up, because the store was away or a job was at the VM.
    pub fn loose_ends(&self, backend: &BackendId) -> Chores {
        let now = self.now();
        let mut chores = Chores::default();
        if !now.backend_up(backend) {
            return chores;
        }
        for (id, reports) in &now.strangers {
            if !now.vms.contains_key(id) {
                chores.adopt.extend(reports.get(backend).cloned());
            }
        }
        for vm in now.vms.values() {
            match &vm.facts {
                None if vm.record.backend == *backend => chores.missing.push(vm.id),
                Some(facts) if facts.backend == *backend && vm.record.backend != *backend => {
                    chores.moved.push((vm.id, backend.clone()));
                }
                None | Some(_) => {}
            }
        }
        chores
    }

    /// Notes a power state that a finished job has just brought about, ahead of the backend's own event.
    pub fn presume_power(&self, id: VmId, power: PowerState) {
        self.update(|next, _, revise| {
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
        self.update(|next, past, revise| {
            for (record, version) in records {
                let id = record.id;
                let old = next.vms.get(&id).cloned();
                let seen = old
                    .as_ref()
                    .map(|vm| vm.record_version)
                    .max(past.gone.get(&id).copied());
                if seen.is_some_and(|seen| seen >= version) {
                    continue;
                }
                let shown = old.as_ref().and_then(|vm| vm.facts.clone());
                if record.gone_at.is_some() {
                    past.gone.insert(id, version);
                    next.remove(id);
                    // Its backend has not said so yet, or it will come back: what is known of it is kept.
                    if let Some(facts) = shown {
                        next.set_aside(facts);
                    }
                    continue;
                }
                let facts = next.best_report(&record.backend, id, shown);
                let home = facts.as_ref().map_or(&record.backend, |facts| &facts.backend);
                let vm = Vm {
                    id,
                    revision: revise(),
                    record_version: version,
                    activity: next.activity(id),
                    reachable: next.backend_up(home),
                    changed: old.map_or(record.first_seen, |vm| vm.changed),
                    facts,
                    record: Arc::new(record),
                };
                next.place(Arc::new(vm));
            }
        });
    }

    /// Folds in a job's state: what it does to its VM shows there until it ends. Late news of a job that has
    /// ended changes nothing.
    pub fn job(&self, job: &Job) {
        self.update(|next, past, revise| {
            if job.state.ended() {
                past.ended.insert(job.id, ());
            } else if past.ended.get(&job.id).is_some() {
                return;
            }
            let ended = job.state.ended();
            for (vm, activity) in job.command.activities() {
                let shown = (!ended).then_some(activity);
                set_activity(next, vm, (job.submitted, job.id), shown, revise);
            }
        });
    }

    /// The unfinished jobs that it knows of, with their VMs.
    pub fn open_jobs(&self) -> Vec<(VmId, Timestamp, JobId)> {
        let now = self.now();
        let of_vm = |(vm, jobs): (&VmId, &imbl::OrdMap<(Timestamp, JobId), _>)| {
            let vm = *vm;
            jobs.keys()
                .map(move |(submitted, job)| (vm, *submitted, *job))
                .collect::<Vec<_>>()
        };
        now.activities.iter().flat_map(of_vm).collect()
    }

    /// Folds in that a job has ended of which only the fact is known, as after a gap in the changes.
    pub fn job_ended(&self, vm: VmId, submitted: Timestamp, job: JobId) {
        self.update(|next, past, revise| {
            past.ended.insert(job, ());
            set_activity(next, vm, (submitted, job), None, revise);
        });
    }

    fn topology(&self, backend: &BackendId, topology: Topology) {
        self.update(|next, _, revise| {
            // Pools fill and empty all the time, hosts hardly ever change.
            let known = next.hosts.values().filter(|host| host.backend == *backend);
            let same = |host: &Host| next.hosts.get(&host.id).is_some_and(|known| **known == *host);
            if known.count() != topology.hosts.len() || !topology.hosts.iter().all(same) {
                next.surroundings = revise();
            }
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

    /// Folds in an account, or its removal.
    pub fn account(&self, name: &str, account: Option<AccountInfo>) {
        self.update(|next, _, _| match account {
            Some(account) => {
                next.accounts.insert(name.to_owned(), Arc::new(account));
            }
            None => {
                next.accounts.remove(name);
            }
        });
    }
}

/// Folds in one report of one VM.
fn fold_facts(next: &mut Snapshot, facts: VmFacts, revise: &dyn Fn() -> u64, chores: &mut Chores) {
    let facts = Arc::new(facts);
    let Some(vm) = next.vms.get(&facts.id).cloned() else {
        next.set_aside(facts.clone());
        chores.adopt.push(facts);
        return;
    };
    if facts.backend != vm.record.backend
        && let Some(shown) = &vm.facts
        && shown.backend != facts.backend
        && (shown.backend == vm.record.backend || shown.backend < facts.backend)
    {
        if !next.backend_up(&shown.backend) {
            chores.moved.push((facts.id, facts.backend.clone()));
        }
        next.set_aside(facts);
        return;
    }
    if let Some(shown) = &vm.facts
        && shown.backend != facts.backend
    {
        next.set_aside(shown.clone());
    }
    if facts.backend != vm.record.backend {
        chores.moved.push((facts.id, facts.backend.clone()));
    }
    next.take_aside(facts.id, &facts.backend);
    let reachable = next.backend_up(&facts.backend);
    if vm.facts.as_deref() != Some(&*facts) || vm.reachable != reachable {
        next.place(Arc::new(Vm {
            facts: Some(facts),
            revision: revise(),
            reachable,
            changed: Timestamp::now(),
            ..Vm::clone(&vm)
        }));
    }
}

/// Folds in that `backend` does not have a VM. Where another backend has it, it has moved there.
fn fold_absence(
    next: &mut Snapshot,
    backend: &BackendId,
    id: VmId,
    revise: &dyn Fn() -> u64,
    chores: &mut Chores,
) {
    next.take_aside(id, backend);
    let Some(vm) = next.vms.get(&id).cloned() else {
        return;
    };
    if vm.home() != backend {
        return;
    }
    let facts = next.best_report(&vm.record.backend, id, None);
    match &facts {
        Some(facts) => chores.moved.push((id, facts.backend.clone())),
        None => chores.missing.push(id),
    }
    if vm.facts.is_some() {
        let home = facts.as_ref().map_or(&vm.record.backend, |facts| &facts.backend);
        next.place(Arc::new(Vm {
            revision: revise(),
            reachable: next.backend_up(home),
            changed: Timestamp::now(),
            facts,
            ..Vm::clone(&vm)
        }));
    }
}

fn set_up(next: &mut Snapshot, backend: &BackendId, error: Option<Error>, revise: &dyn Fn() -> u64) {
    let up = error.is_none();
    let known = next.backends.get(backend);
    let since = known
        .filter(|state| state.up == up)
        .map_or_else(Timestamp::now, |state| state.since);
    next.backends
        .insert(backend.clone(), BackendState { up, since, error });
    let affected = next.vms.values();
    let affected = affected.filter(|vm| vm.home() == backend && vm.reachable != up);
    let affected: Vec<Arc<Vm>> = affected.cloned().collect();
    for vm in affected {
        next.place(Arc::new(Vm {
            reachable: up,
            revision: revise(),
            ..Vm::clone(&vm)
        }));
    }
}

/// Notes what the job `key` does to a VM, or that it does nothing more.
fn set_activity(
    next: &mut Snapshot,
    vm: VmId,
    key: (Timestamp, JobId),
    activity: Option<Activity>,
    revise: &dyn Fn() -> u64,
) {
    let before = next.activity(vm);
    let mut jobs = next.activities.get(&vm).cloned().unwrap_or_default();
    match activity {
        Some(activity) => jobs.insert(key, activity),
        None => jobs.remove(&key),
    };
    if jobs.is_empty() {
        next.activities.remove(&vm);
    } else {
        next.activities.insert(vm, jobs);
    }
    let activity = next.activity(vm);
    if activity != before
        && let Some(vm) = next.vms.get(&vm).cloned()
    {
        next.place(Arc::new(Vm {
            activity,
            revision: revise(),
            ..Vm::clone(&vm)
        }));
    }
}
