//! Entries: records of things that only the gateway remembers (offerings, groups, tags, volume records …). Each
//! kind says here once what the core must know of it; storing, loading, following and showing are then the
//! same code for all.

use std::fmt;
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Inventory, Snapshot};
use crate::error::Result;
use crate::model::{
    AffinityGroup, AffinityGroupId, ApiKey, ApiKeyId, BackendId, Caller, DiskOffering, DiskOfferingId,
    Flavor, FlavorId, GroupId, PoolVolume, ResourceId, SnapshotId, SnapshotRecord, Tag, TagId, TagResource,
    TenantId, Timestamp, VmGroup, VmId, VolumeId, VolumeRecord,
};
use crate::query;
use crate::registry::{Registry, read_entry};
use crate::store::{Record, RecordKind, Write};

/// A record of something that only the gateway remembers.
///
/// Stored as JSON under its id. An id that was removed leaves a tombstone in the store and is never given out
/// again.
pub trait Entry:
    Serialize + DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// Where the store keeps it.
    const KIND: RecordKind;

    /// Its id.
    type Id: ResourceId;

    /// Its id.
    fn id(&self) -> Self::Id;

    /// Whom it belongs to; none is everybody.
    fn tenant(&self) -> Option<&TenantId>;

    /// Notes that it was changed at `now`.
    fn touch(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// Whether the thing is gone and only its record is kept: such an entry does not exist for callers.
    fn gone(&self) -> bool {
        false
    }

    /// Whether a caller may see it: everybody's, its own tenant's, and an administrator all.
    fn seen_by(&self, caller: &Caller) -> bool {
        match (self.tenant(), query::scope(caller)) {
            (Some(owner), Some(tenant)) => owner == tenant,
            (None, _) | (_, None) => true,
        }
    }

    /// Completes a new one with what is given out once (numbers, aliases), and says which records note that.
    ///
    /// # Errors
    /// Those of the store.
    fn admit(&mut self, registry: &Registry) -> impl Future<Output = Result<Vec<Write>>> + Send {
        let _ = registry;
        async { Ok(Vec::new()) }
    }

    /// Whether it may be stored as it is, when a client asks for it.
    ///
    /// # Errors
    /// `InvalidInput`, `AlreadyExists`, `NotFound`, as its rules say.
    fn check(&self, now: &Snapshot) -> Result<()>;

    /// Whether a client may turn it into `new`.
    ///
    /// # Errors
    /// As its rules say.
    fn check_edit(&self, new: &Self) -> Result<()> {
        let _ = new;
        Ok(())
    }

    /// Whether a client may remove it.
    ///
    /// # Errors
    /// As its rules say.
    fn check_removal(&self, now: &Snapshot) -> Result<()> {
        let _ = now;
        Ok(())
    }

    /// All of them in a moment of the inventory.
    fn all(now: &Snapshot) -> &OrdMap<Self::Id, Arc<Self>>;

    /// The same, for the one who makes the next moment.
    fn all_mut(next: &mut Snapshot) -> &mut OrdMap<Self::Id, Arc<Self>>;

    /// Brings the indexes in step: `old` has just left the map, `new` has just entered it. `revise` counts up
    /// what encoded forms of VMs are stamped with.
    fn index(
        next: &mut Snapshot,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        revise: &dyn Fn() -> u64,
    ) {
        let _ = (next, old, new, revise);
    }
}

/// The entries of one moment by id, and their indexes. Images are beside it, in [`Snapshot::images`].
#[derive(Debug, Clone, Default)]
pub struct Entries {
    /// Flavors.
    pub flavors: OrdMap<FlavorId, Arc<Flavor>>,
    /// Disk offerings.
    pub disk_offerings: OrdMap<DiskOfferingId, Arc<DiskOffering>>,
    /// Affinity groups.
    pub affinity_groups: OrdMap<AffinityGroupId, Arc<AffinityGroup>>,
    /// Tags.
    pub tags: OrdMap<TagId, Arc<Tag>>,
    /// Groups of VMs.
    pub vm_groups: OrdMap<GroupId, Arc<VmGroup>>,
    /// API keys.
    pub api_keys: OrdMap<ApiKeyId, Arc<ApiKey>>,
    /// Volume records, without those of volumes that are gone.
    pub volumes: OrdMap<VolumeId, Arc<VolumeRecord>>,
    /// Snapshot records.
    pub snapshots: OrdMap<SnapshotId, Arc<SnapshotRecord>>,
    pub(super) tags_of: Index<TagResource, TagId>,
    pub(super) groups_of: Index<VmId, AffinityGroupId>,
    pub(super) snapshots_of: Index<VmId, SnapshotId>,
    pub(super) volume_at: HashMap<BackendId, HashMap<PoolVolume, VolumeId>>,
    pub(super) key_of_hash: HashMap<String, ApiKeyId>,
}

/// Ids by something that several entries have in common.
pub(super) type Index<K, I> = HashMap<K, OrdSet<I>>;

/// Notes `id` under `key`.
pub(super) fn note<K: std::hash::Hash + Eq + Clone, I: Ord + Clone>(index: &mut Index<K, I>, key: K, id: I) {
    index.entry(key).or_default().insert(id);
}

/// Takes `id` from under `key`.
pub(super) fn unnote<K: std::hash::Hash + Eq + Clone, I: Ord + Clone>(
    index: &mut Index<K, I>,
    key: &K,
    id: &I,
) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

impl Snapshot {
    /// An entry by id, whoever may see it.
    pub fn entry<T: Entry>(&self, id: T::Id) -> Option<&Arc<T>> {
        T::all(self).get(&id)
    }

    /// The tags on a resource, whoever may see them.
    pub fn tags_of(&self, resource: &TagResource) -> impl Iterator<Item = &Arc<Tag>> {
        let ids = self.entries.tags_of.get(resource).into_iter().flatten();
        ids.filter_map(|id| self.entries.tags.get(id))
    }

    /// The affinity groups that a VM is in, whoever may see them.
    pub fn affinity_groups_of(&self, vm: VmId) -> impl Iterator<Item = &Arc<AffinityGroup>> {
        let ids = self.entries.groups_of.get(&vm).into_iter().flatten();
        ids.filter_map(|id| self.entries.affinity_groups.get(id))
    }

    /// The records of a VM's snapshots, whoever may see them.
    pub fn snapshots_of(&self, vm: VmId) -> impl Iterator<Item = &Arc<SnapshotRecord>> {
        let ids = self.entries.snapshots_of.get(&vm).into_iter().flatten();
        ids.filter_map(|id| self.entries.snapshots.get(id))
    }

    /// The record of the volume that a backend knows by this name.
    pub fn volume_at(&self, backend: &BackendId, place: &PoolVolume) -> Option<&Arc<VolumeRecord>> {
        let id = self.entries.volume_at.get(backend)?.get(place)?;
        self.entries.volumes.get(id)
    }

    /// The API key with this SHA-256 (lower-case hex).
    pub fn api_key_of_hash(&self, hash: &str) -> Option<&Arc<ApiKey>> {
        self.entries.api_keys.get(self.entries.key_of_hash.get(hash)?)
    }
}

/// News of one entry.
#[derive(Debug, Clone)]
pub struct Heard<T: Entry> {
    /// Its id.
    pub id: T::Id,
    /// What it is now; none if it was removed.
    pub entry: Option<T>,
    /// The record's version.
    pub version: u64,
}

impl<T: Entry> Heard<T> {
    /// It was written with this version.
    pub fn written(entry: T, version: u64) -> Self {
        Self {
            id: entry.id(),
            entry: Some(entry),
            version,
        }
    }

    /// It was removed with this version.
    pub fn removed(id: T::Id, version: u64) -> Self {
        let entry = None;
        Self { id, entry, version }
    }
}

impl Inventory {
    /// Folds in news of entries; older versions than those already seen are ignored.
    pub fn entries<T: Entry>(&self, heard: Vec<Heard<T>>) {
        if heard.is_empty() {
            return;
        }
        self.update(|next, past, revise| {
            for Heard { id, entry, version } in heard {
                let key = (T::KIND, id.uuid());
                let seen = past.versions.get(&key).max(past.removed.get(&key));
                if seen.is_some_and(|seen| *seen >= version) {
                    continue;
                }
                match entry.filter(|entry| !entry.gone()).map(Arc::new) {
                    Some(new) => {
                        past.versions.insert(key, version);
                        let old = T::all_mut(next).insert(id, new.clone());
                        T::index(next, old.as_ref(), Some(&new), revise);
                    }
                    None => {
                        past.versions.remove(&key);
                        past.removed.insert(key, version);
                        let old = T::all_mut(next).remove(&id);
                        T::index(next, old.as_ref(), None, revise);
                    }
                }
            }
        });
    }

    /// Drops entries of which the store has no record at all, not even a tombstone.
    fn forget_entries<T: Entry>(&self, ids: &[T::Id]) {
        if ids.is_empty() {
            return;
        }
        self.update(|next, past, revise| {
            for id in ids {
                past.versions.remove(&(T::KIND, id.uuid()));
                let old = T::all_mut(next).remove(id);
                T::index(next, old.as_ref(), None, revise);
            }
        });
    }

    /// Folds in records of entries. One that this release cannot read is left out: it must not hide the others.
    fn entry_records<T: Entry>(&self, records: &[Record]) {
        let heard = records.iter().filter_map(|record| {
            let id = Uuid::parse_str(&record.key).ok().map(T::Id::of_uuid);
            match (id, read_entry::<T>(record)) {
                (Some(id), Ok(entry)) => Some(Heard {
                    id,
                    entry,
                    version: record.version,
                }),
                (None, Ok(_)) => {
                    tracing::error!(
                        kind = record.kind.as_ref(),
                        key = record.key,
                        "a record's key is no id"
                    );
                    None
                }
                (_, Err(error)) => {
                    tracing::error!(%error, "a record is left out");
                    None
                }
            }
        });
        self.entries(heard.collect::<Vec<Heard<T>>>());
    }
}

/// What the upkeep does with one kind of entry, without knowing its type.
#[derive(Debug)]
pub(super) struct Kind {
    /// Where the store keeps it.
    pub(super) kind: RecordKind,
    /// Folds in records.
    pub(super) records: fn(&Inventory, &[Record]),
    /// The ids in a moment.
    pub(super) known: fn(&Snapshot) -> Vec<Uuid>,
    /// Drops entries.
    pub(super) forget: fn(&Inventory, &[Uuid]),
}

impl Kind {
    pub(super) const fn of<T: Entry>() -> Self {
        Self {
            kind: T::KIND,
            records: Inventory::entry_records::<T>,
            known: |now| T::all(now).keys().map(|id| id.uuid()).collect(),
            forget: |inventory, ids| {
                let ids: Vec<T::Id> = ids.iter().copied().map(T::Id::of_uuid).collect();
                inventory.forget_entries::<T>(&ids);
            },
        }
    }
}
