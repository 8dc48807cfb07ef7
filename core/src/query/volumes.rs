//! Volumes as every dialect sees them: those with a record and those that a VM has attached, merged. Where a
//! volume is attached is known to the VM's facts alone.

use std::collections::HashSet;
use std::sync::Arc;

use super::may_see;
use crate::inventory::{Entry as _, Snapshot};
use crate::model::{
    BackendId, Caller, Disk, EntryState, PoolVolume, TenantId, Vm, VolumeFormat, VolumeId, VolumeKind,
    VolumeRecord,
};

/// A volume.
#[derive(Debug, Clone)]
pub struct VolumeView {
    /// Its id: the record's, or computed from backend, pool and name.
    pub id: VolumeId,
    /// The backend that has it.
    pub backend: BackendId,
    /// How the backend knows it.
    pub place: PoolVolume,
    /// What it is for.
    pub kind: VolumeKind,
    /// Layout.
    pub format: VolumeFormat,
    /// Virtual size in bytes.
    pub capacity: u64,
    /// Whom it belongs to; none is everybody.
    pub tenant: Option<TenantId>,
    /// What the registry remembers of it.
    pub record: Option<Arc<VolumeRecord>>,
    /// The VM that has it attached; the first by id where several have.
    pub vm: Option<Arc<Vm>>,
    /// The disk by which that VM has it.
    pub disk: Option<Disk>,
}

impl VolumeView {
    /// A volume with a record.
    pub fn of_record(now: &Snapshot, record: Arc<VolumeRecord>) -> Self {
        let place = record.place();
        let holders = now.holders_of(&record.backend, &place);
        let vm = holders.min_by_key(|vm| vm.id);
        Self::new(record, vm)
    }

    fn new(record: Arc<VolumeRecord>, vm: Option<Arc<Vm>>) -> Self {
        let place = record.place();
        let disk = vm.as_ref().and_then(|vm| disk_at(vm, &place)).cloned();
        let seen = disk.as_ref().map(|disk| disk.capacity).filter(|bytes| *bytes > 0);
        Self {
            id: record.id,
            backend: record.backend.clone(),
            kind: record.kind,
            format: record.format,
            capacity: seen.unwrap_or(record.capacity),
            tenant: record.tenant.clone(),
            place,
            record: Some(record),
            vm,
            disk,
        }
    }

    /// A volume without a record that a VM has attached, if the caller may see the VM.
    pub fn attached(now: &Snapshot, caller: &Caller, id: VolumeId) -> Option<Self> {
        let mut vms = now.vms.values().filter(|vm| may_see(caller, vm));
        vms.find_map(|vm| Self::unrecorded(now, vm).find(|view| view.id == id))
    }

    /// The volumes of a VM that have no record.
    fn unrecorded<'s>(now: &'s Snapshot, vm: &'s Arc<Vm>) -> impl Iterator<Item = Self> + 's {
        let disks = vm.facts.iter().flat_map(|facts| facts.disks.iter());
        disks.filter_map(move |disk| {
            let place = disk.volume.clone()?;
            if now.volume_at(vm.home(), &place).is_some() {
                return None;
            }
            Some(Self {
                id: computed_id(vm.home(), &place),
                backend: vm.home().clone(),
                place,
                kind: if disk.root {
                    VolumeKind::Root
                } else {
                    VolumeKind::Data
                },
                format: disk.format,
                capacity: disk.capacity,
                tenant: Some(vm.record.tenant.clone()),
                record: None,
                vm: Some(vm.clone()),
                disk: Some(disk.clone()),
            })
        })
    }

    /// The volumes of one VM, in the order of its disks.
    pub fn of_vm(now: &Snapshot, vm: &Arc<Vm>) -> Vec<Self> {
        let disks = vm.facts.iter().flat_map(|facts| facts.disks.iter());
        let mut unrecorded = Self::unrecorded(now, vm).peekable();
        disks
            .filter_map(|disk| {
                let place = disk.volume.as_ref()?;
                match now.volume_at(vm.home(), place) {
                    Some(record) => Some(Self::new(record.clone(), Some(vm.clone()))),
                    None => unrecorded.next(),
                }
            })
            .collect()
    }

    /// Every volume that the caller may see, by id; those in the trash included.
    pub fn all(now: &Snapshot, caller: &Caller) -> Vec<Self> {
        let mut seen: HashSet<VolumeId> = HashSet::new();
        let mut views = Vec::new();
        for vm in now.vms.values().filter(|vm| may_see(caller, vm)) {
            views.extend(
                Self::of_vm(now, vm)
                    .into_iter()
                    .filter(|view| seen.insert(view.id)),
            );
        }
        let records = now.entries.volumes.values();
        let free = records.filter(|record| record.seen_by(caller) && !seen.contains(&record.id));
        views.extend(free.map(|record| Self::new(record.clone(), None)));
        views.sort_by_key(|view| view.id);
        views
    }

    /// The display name: the record's, or else the name in the pool.
    pub fn name(&self) -> &str {
        match &self.record {
            Some(record) if !record.display_name.is_empty() => &record.display_name,
            Some(_) | None => &self.place.name,
        }
    }

    /// Whether it is there.
    pub fn state(&self) -> EntryState {
        self.record
            .as_ref()
            .map_or(EntryState::Ready, |record| record.state.clone())
    }

    /// A record for a volume that has none.
    pub fn to_record(&self) -> VolumeRecord {
        let mut record = VolumeRecord::new(
            self.backend.clone(),
            self.place.clone(),
            self.kind,
            self.tenant.clone(),
        );
        record.id = self.id;
        record.format = self.format;
        record.capacity = self.capacity;
        record.state = EntryState::Ready;
        record.made_for = self.vm.as_ref().map(|vm| vm.id);
        if let Some(vm) = &self.vm {
            record.first_seen = vm.record.first_seen;
        }
        record
    }
}

impl Snapshot {
    /// The id of the volume that a backend knows by this name.
    pub fn volume_id(&self, backend: &BackendId, place: &PoolVolume) -> VolumeId {
        self.volume_at(backend, place)
            .map_or_else(|| computed_id(backend, place), |record| record.id)
    }

    /// The VMs that have a volume attached.
    fn holders_of<'s>(
        &'s self,
        backend: &'s BackendId,
        place: &'s PoolVolume,
    ) -> impl Iterator<Item = Arc<Vm>> + 's {
        let vms = self.vms.values().filter(move |vm| vm.home() == backend);
        vms.filter(move |vm| disk_at(vm, place).is_some()).cloned()
    }
}

fn computed_id(backend: &BackendId, place: &PoolVolume) -> VolumeId {
    VolumeId::computed(backend, &format!("{}/{}", place.pool, place.name))
}

fn disk_at<'v>(vm: &'v Vm, place: &PoolVolume) -> Option<&'v Disk> {
    let mut disks = vm.facts.iter().flat_map(|facts| facts.disks.iter());
    disks.find(|disk| disk.volume.as_ref() == Some(place))
}
