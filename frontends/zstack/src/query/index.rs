//! Finds VMs by values of theirs without looking at the others. Kept beside the inventory and brought up to date when a
//! query needs it: the maps of two moments share what did not change, so that costs the change and not the world.
//!
//! What it finds may be too much (never too little): conditions are judged on every row that is found.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Vm, VmId, VolumeId};
use imbl::ordmap::DiffItem;
use imbl::{HashMap, OrdMap, OrdSet};
use uuid::Uuid;

use super::value::{Value, fold};
use crate::resources::{self, machines::l3_network};

/// By what VMs are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumIter)]
pub(crate) enum Key {
    /// Their own id.
    Vm,
    /// Display name.
    Name,
    /// State, as this dialect shows it.
    State,
    /// The host that they are on or were on last.
    Host,
    /// The cluster of that host.
    Cluster,
    /// Its zone.
    Zone,
    /// The image that they were made from.
    Image,
    /// The instance offering that they have.
    Offering,
    /// An interface.
    Nic,
    /// The MAC address of an interface.
    Mac,
    /// The address of an interface.
    Address,
    /// The network of an interface.
    Network,
    /// A volume.
    Volume,
}

/// What is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    Id(Uuid),
    Text(Box<str>),
}

impl Term {
    /// The term of a value; none for what is never looked up.
    pub(crate) fn of(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Uuid(id) => Some(Self::Id(*id)),
            Value::Text(text) => Some(Self::Text(fold(text).into())),
            Value::Null | Value::Number(_) | Value::Flag(_) | Value::Date(_) | Value::List(_) => None,
        }
    }
}

/// Numbers of VMs.
pub(crate) type Numbers = OrdSet<u64>;

/// The index of one moment.
#[derive(Default, Clone)]
pub(crate) struct Index {
    visible: OrdMap<u64, Arc<Vm>>,
    trash: OrdMap<u64, Arc<Vm>>,
    numbers: HashMap<(Key, Term), Numbers>,
}

impl Index {
    /// The index of `now`, made from this one.
    fn follow(&self, now: &Snapshot) -> Self {
        let mut next = self.clone();
        let maps = [(&self.visible, &now.by_number), (&self.trash, &now.trash)];
        // All that went before all that came: a VM that leaves the trash goes there and comes here.
        for (old, new) in maps {
            for change in old.diff(new) {
                match change {
                    DiffItem::Remove(_, vm) | DiffItem::Update { old: (_, vm), .. } => next.remove(vm),
                    DiffItem::Add(..) => {}
                }
            }
        }
        for (old, new) in maps {
            for change in old.diff(new) {
                match change {
                    DiffItem::Add(_, vm) | DiffItem::Update { new: (_, vm), .. } => next.add(vm),
                    DiffItem::Remove(..) => {}
                }
            }
        }
        next.visible = now.by_number.clone();
        next.trash = now.trash.clone();
        next
    }

    fn add(&mut self, vm: &Vm) {
        terms(vm, |key, term| {
            let numbers = self.numbers.entry((key, term)).or_default();
            numbers.insert(vm.record.number);
        });
    }

    fn remove(&mut self, vm: &Vm) {
        terms(vm, |key, term| {
            let place = (key, term);
            if let Some(numbers) = self.numbers.get_mut(&place) {
                numbers.remove(&vm.record.number);
                if numbers.is_empty() {
                    self.numbers.remove(&place);
                }
            }
        });
    }

    /// The VMs with one of these values, in one set or more for each value.
    pub(crate) fn find(&self, now: &Snapshot, key: Key, values: &[Value<'_>]) -> Vec<Numbers> {
        let terms = values.iter().filter_map(Term::of);
        let mut found = Vec::new();
        for term in terms {
            match (key, &term) {
                (Key::Vm, Term::Id(id)) => {
                    let vm = now.vms.get(&VmId(*id));
                    found.extend(vm.map(|vm| Numbers::unit(vm.record.number)));
                }
                (Key::Cluster, Term::Id(id)) => {
                    let hosts = now.hosts.values().filter(|host| host.cluster_id().0 == *id);
                    found.extend(hosts.filter_map(|host| self.at(Key::Host, Term::Id(host.id.0))));
                }
                (Key::Zone, Term::Id(id)) => {
                    let hosts = now.hosts.values().filter(|host| host.zone_id().0 == *id);
                    found.extend(hosts.filter_map(|host| self.at(Key::Host, Term::Id(host.id.0))));
                }
                (Key::Volume, Term::Id(id)) => {
                    // A volume with a record has its id; machines are noted under where it lies.
                    let record = now.entries.volumes.get(&VolumeId(*id));
                    let native = record.map_or(*id, |record| resources::native_of(record).0);
                    found.extend(self.at(key, Term::Id(native)));
                }
                _ => found.extend(self.at(key, term)),
            }
        }
        found
    }

    fn at(&self, key: Key, term: Term) -> Option<Numbers> {
        self.numbers.get(&(key, term)).cloned()
    }

    /// The VM with this number, in the trash or not.
    pub(crate) fn vm(now: &Snapshot, number: u64) -> Option<&Arc<Vm>> {
        now.by_number.get(&number).or_else(|| now.trash.get(&number))
    }
}

/// Every term that a VM is found by.
fn terms(vm: &Vm, mut note: impl FnMut(Key, Term)) {
    let text = |text: &str| Term::Text(fold(text).into());
    note(Key::Name, text(vm.name()));
    note(Key::State, text(resources::state(vm)));
    if let Some(image) = vm.record.image {
        note(Key::Image, Term::Id(image.0));
    }
    if let Some(flavor) = vm.record.flavor {
        note(Key::Offering, Term::Id(flavor.0));
    }
    let Some(facts) = &vm.facts else { return };
    note(Key::Host, Term::Id(facts.host.0));
    for nic in &facts.nics {
        note(Key::Nic, Term::Id(nic.id.0));
        note(Key::Mac, text(&nic.mac));
        if let Some(address) = resources::address(nic) {
            note(Key::Address, text(&address.to_string()));
        }
        note(Key::Network, Term::Id(l3_network(vm.home(), nic).0));
    }
    for disk in &facts.disks {
        note(Key::Volume, Term::Id(resources::native_volume(vm, disk).0));
    }
}

/// The newest index, shared by all queries.
#[derive(Default)]
pub(crate) struct Indexes {
    current: ArcSwap<Index>,
    /// Held by the one who brings it up to date: two would do the same work twice.
    writing: Mutex<()>,
}

impl Indexes {
    /// The index of `now`.
    pub(crate) fn of(&self, now: &Snapshot) -> Arc<Index> {
        let fits = |index: &Index| index.visible.ptr_eq(&now.by_number) && index.trash.ptr_eq(&now.trash);
        let current = self.current.load_full();
        if fits(&current) {
            return current;
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load_full();
        if fits(&current) {
            return current;
        }
        let next = Arc::new(current.follow(now));
        self.current.store(next.clone());
        next
    }
}

/// Sets as one, in order.
pub(crate) fn union(sets: Vec<Numbers>) -> Numbers {
    let mut sets = sets.into_iter();
    let first = sets.next().unwrap_or_default();
    if sets.len() == 0 {
        return first;
    }
    let all: BTreeSet<u64> = first.iter().copied().chain(sets.flatten()).collect();
    all.into_iter().collect()
}
