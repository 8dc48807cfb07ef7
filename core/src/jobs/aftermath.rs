//! What a job's end means for the records: of the VM, and of volumes, images, snapshots and groups that it has
//! made, changed or removed. Written in the same store call as the end, so that both are there or neither.

use serde_json::Value;

use super::ending::{changes_record, lay_to_rest, note_changes};
use super::engine::Engine;
use crate::command::{Command, CreateVm, ImageAction, SnapshotAction, VolumeAction};
use crate::error::{Error, Result};
use crate::inventory::{Entry, Heard, Inventory};
use crate::model::{
    AffinityGroup, EntryState, Image, ImageLocation, Job, JobState, PoolVolume, SnapshotFacts,
    SnapshotRecord, Timestamp, VmId, VmRecord, Volume, VolumeId, VolumeRecord,
};
use crate::registry::{entry_removal, entry_write, vm_write};
use crate::store::{Expect, JobEnd, Write};

/// An entry as it shall be; none removes it.
#[derive(Debug)]
struct Edit<T: Entry> {
    id: T::Id,
    new: Option<T>,
    version: u64,
}

impl<T: Entry> Edit<T> {
    fn write(&self) -> Result<Write> {
        let expect = Expect::Version(self.version);
        match &self.new {
            Some(entry) => entry_write(entry, expect),
            None => entry_removal::<T>(self.id, expect),
        }
    }

    fn heard(self) -> Heard<T> {
        match self.new {
            Some(entry) => Heard::written(entry, self.version + 1),
            None => Heard::removed(self.id, self.version + 1),
        }
    }
}

/// The records as they shall be.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    vm: Option<(VmRecord, u64)>,
    volumes: Vec<Edit<VolumeRecord>>,
    images: Vec<Edit<Image>>,
    snapshots: Vec<Edit<SnapshotRecord>>,
    groups: Vec<Edit<AffinityGroup>>,
}

impl Aftermath {
    /// Whether no record changes.
    pub(super) fn is_empty(&self) -> bool {
        self.vm.is_none()
            && self.volumes.is_empty()
            && self.images.is_empty()
            && self.snapshots.is_empty()
            && self.groups.is_empty()
    }

    /// The writes that make it so, if nobody else wrote since.
    pub(super) fn writes(&self) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        if let Some((record, version)) = &self.vm {
            writes.push(vm_write(record, Expect::Version(*version))?);
        }
        for edit in &self.volumes {
            writes.push(edit.write()?);
        }
        for edit in &self.images {
            writes.push(edit.write()?);
        }
        for edit in &self.snapshots {
            writes.push(edit.write()?);
        }
        for edit in &self.groups {
            writes.push(edit.write()?);
        }
        Ok(writes)
    }

    /// Shows it, once it is stored.
    pub(super) fn show(self, inventory: &Inventory) {
        if let Some((record, version)) = self.vm {
            inventory.records(vec![(record, version + 1)]);
        }
        inventory.entries(self.volumes.into_iter().map(Edit::heard).collect());
        inventory.entries(self.images.into_iter().map(Edit::heard).collect());
        inventory.entries(self.snapshots.into_iter().map(Edit::heard).collect());
        inventory.entries(self.groups.into_iter().map(Edit::heard).collect());
    }
}

impl Engine {
    /// What the end of `job` makes of the records, as they are now.
    pub(super) async fn aftermath(&self, job: &Job, end: &JobEnd) -> Result<Aftermath> {
        let mut after = Aftermath {
            vm: self.record_after(&job.command, end).await?,
            ..Aftermath::default()
        };
        let succeeded = end.state == JobState::Succeeded;
        match &job.command {
            Command::CreateVm(create) => self.volumes_of_creation(create, end, &mut after).await?,
            Command::DeleteVm(delete) if succeeded => self.left_by(delete.vm, job, end, &mut after).await?,
            Command::Volume(volume) => match (&volume.action, succeeded) {
                (VolumeAction::Create(_) | VolumeAction::Resize { .. }, true) => {
                    let made: Option<Volume> = result(end);
                    let edit = self.edit::<VolumeRecord>(volume.volume, |record| {
                        record.state = EntryState::Ready;
                        if let Some(made) = &made {
                            record.capacity = made.capacity;
                            record.allocation = made.allocation;
                            record.format = made.format;
                        }
                    });
                    after.volumes.extend(edit.await?);
                }
                (VolumeAction::Create(_), false) => {
                    let edit = self.edit::<VolumeRecord>(volume.volume, |record| not_made(record, end));
                    after.volumes.extend(edit.await?);
                }
                (VolumeAction::Delete { .. }, true) => {
                    let edit = self.edit::<VolumeRecord>(volume.volume, is_gone);
                    after.volumes.extend(edit.await?);
                }
                (VolumeAction::Resize { .. } | VolumeAction::Delete { .. }, false) => {}
            },
            Command::Image(image) => match (&image.action, succeeded) {
                (ImageAction::Copy { .. } | ImageAction::Fetch { .. }, true) => {
                    let made: Option<Volume> = result(end);
                    let made = made.ok_or_else(|| Error::internal("an image was made without a volume"))?;
                    let edit = self.edit::<Image>(image.image, |record| {
                        record.state = EntryState::Ready;
                        record.size = made.capacity;
                        record.actual_size = made.allocation;
                        record.format = Some(made.format);
                        record.locations = vec![ImageLocation {
                            backend: made.backend.clone(),
                            native: image_key(&image.action, &made),
                            format: made.format,
                        }];
                    });
                    after.images.extend(edit.await?);
                }
                (ImageAction::Copy { .. } | ImageAction::Fetch { .. }, false)
                | (ImageAction::Delete { .. }, true) => {
                    after.images.extend(self.removal::<Image>(image.image).await?);
                }
                (ImageAction::Delete { .. }, false) => {}
            },
            Command::Snapshot(snapshot) => match (&snapshot.action, succeeded) {
                (SnapshotAction::Create(_), true) => {
                    let made: Option<SnapshotFacts> = result(end);
                    let parent = made.as_ref().and_then(|made| made.parent.as_deref());
                    let parent = parent.and_then(|native| {
                        let now = self.around.inventory.now();
                        let mut others = now.snapshots_of(snapshot.vm);
                        others.find(|other| other.native == native).map(|other| other.id)
                    });
                    let edit = self.edit::<SnapshotRecord>(snapshot.snapshot, |record| {
                        record.state = EntryState::Ready;
                        record.parent = parent;
                        if let Some(made) = &made {
                            record.size = made.size;
                            record.memory = made.memory;
                        }
                    });
                    after.snapshots.extend(edit.await?);
                }
                (SnapshotAction::Create(_), false) => {
                    after
                        .snapshots
                        .extend(self.removal::<SnapshotRecord>(snapshot.snapshot).await?);
                }
                (SnapshotAction::Delete { .. }, true) => {
                    self.snapshot_goes(snapshot.vm, snapshot.snapshot, &mut after)
                        .await?;
                }
                (SnapshotAction::Revert { .. }, _) | (SnapshotAction::Delete { .. }, false) => {}
            },
            Command::DeleteVm(_)
            | Command::TrashVm(_)
            | Command::Power(_)
            | Command::ChangeVm(_)
            | Command::MigrateVm(_) => {}
        }
        Ok(after)
    }

    /// What the end makes of the VM's record; none if the record stays as it is.
    async fn record_after(&self, command: &Command, end: &JobEnd) -> Result<Option<(VmRecord, u64)>> {
        let Some(vm) = command.vm().filter(|_| changes_record(command, end.state)) else {
            return Ok(None);
        };
        let Some((mut record, version)) = self.around.registry.vm(vm).await? else {
            return Ok(None);
        };
        match (command, end.state) {
            (Command::CreateVm(_), JobState::Succeeded) => {
                let now = self.around.inventory.now();
                let facts = now.vms.get(&vm).and_then(|vm| vm.facts.as_ref());
                record.definition = facts.and_then(|facts| facts.definition.clone());
                record.planned = None;
            }
            (Command::CreateVm(_), JobState::Cancelled) => lay_to_rest(&mut record),
            (Command::CreateVm(_), _) => {
                record.fault = end.error.clone();
                if end.left_behind.is_empty() {
                    // All is undone: whatever has these names from now on is somebody else's.
                    record.volumes.clear();
                }
            }
            (Command::DeleteVm(_), _) => lay_to_rest(&mut record),
            (Command::TrashVm(_), _) => record.trashed_at = Some(Timestamp::now()),
            (Command::MigrateVm(migrate), _) => record.backend = migrate.to.clone(),
            (Command::ChangeVm(change), _) => note_changes(&mut record, &change.changes),
            (Command::Power(_) | Command::Snapshot(_) | Command::Volume(_) | Command::Image(_), _) => {}
        }
        Ok(Some((record, version)))
    }

    /// The records of data volumes that were to be made together with a VM.
    async fn volumes_of_creation(
        &self,
        create: &CreateVm,
        end: &JobEnd,
        after: &mut Aftermath,
    ) -> Result<()> {
        for volume in &create.spec.volumes {
            let id = volume
                .name
                .split('.')
                .next()
                .and_then(|stem| stem.parse::<VolumeId>().ok());
            let Some(id) = id else { continue };
            let edit = match end.state {
                JobState::Succeeded => {
                    self.edit::<VolumeRecord>(id, |record| record.state = EntryState::Ready)
                        .await?
                }
                JobState::Queued | JobState::Running | JobState::Failed | JobState::Cancelled => {
                    self.edit::<VolumeRecord>(id, |record| not_made(record, end))
                        .await?
                }
            };
            after.volumes.extend(edit);
        }
        Ok(())
    }

    /// What goes with a VM: the records of its snapshots and of the volumes that were removed, and its place in
    /// groups.
    async fn left_by(&self, vm: VmId, job: &Job, end: &JobEnd, after: &mut Aftermath) -> Result<()> {
        let now = self.around.inventory.now();
        let removed: Vec<PoolVolume> = result(end).unwrap_or_default();
        for place in &removed {
            if let Some(record) = now.volume_at(&job.backend, place) {
                after
                    .volumes
                    .extend(self.edit::<VolumeRecord>(record.id, is_gone).await?);
            }
        }
        for snapshot in now.snapshots_of(vm) {
            after
                .snapshots
                .extend(self.removal::<SnapshotRecord>(snapshot.id).await?);
        }
        for group in now.affinity_groups_of(vm) {
            let leave = |group: &mut AffinityGroup| {
                group.members.remove(&vm);
            };
            after
                .groups
                .extend(self.edit::<AffinityGroup>(group.id, leave).await?);
        }
        Ok(())
    }

    /// A snapshot is gone: those based on it are now based on what it was based on.
    async fn snapshot_goes(
        &self,
        vm: VmId,
        id: crate::model::SnapshotId,
        after: &mut Aftermath,
    ) -> Result<()> {
        let now = self.around.inventory.now();
        let parent = now.entry::<SnapshotRecord>(id).and_then(|record| record.parent);
        for child in now.snapshots_of(vm).filter(|record| record.parent == Some(id)) {
            let edit = self.edit::<SnapshotRecord>(child.id, |record| record.parent = parent);
            after.snapshots.extend(edit.await?);
        }
        after.snapshots.extend(self.removal::<SnapshotRecord>(id).await?);
        Ok(())
    }

    /// An entry with a change; none if it does not exist, or is as it shall be.
    async fn edit<T: Entry>(&self, id: T::Id, change: impl FnOnce(&mut T)) -> Result<Option<Edit<T>>> {
        let found = self.around.registry.entry::<T>(id).await?;
        Ok(found.and_then(|(old, version)| {
            let mut new = old.clone();
            change(&mut new);
            if new == old {
                return None;
            }
            new.touch(Timestamp::now());
            Some(Edit {
                id,
                new: Some(new),
                version,
            })
        }))
    }

    async fn removal<T: Entry>(&self, id: T::Id) -> Result<Option<Edit<T>>> {
        let found = self.around.registry.entry::<T>(id).await?;
        Ok(found.map(|(_, version)| Edit {
            id,
            new: None,
            version,
        }))
    }

    /// Reads the entry that a job was about, for a gateway that only waited for it.
    pub(super) async fn catch_up_entries(&self, job: &Job) -> Result<()> {
        match &job.command {
            Command::Volume(of) => self.catch_up::<VolumeRecord>(of.volume).await,
            Command::Image(of) => self.catch_up::<Image>(of.image).await,
            Command::Snapshot(of) => self.catch_up::<SnapshotRecord>(of.snapshot).await,
            Command::CreateVm(_)
            | Command::DeleteVm(_)
            | Command::TrashVm(_)
            | Command::Power(_)
            | Command::ChangeVm(_)
            | Command::MigrateVm(_) => Ok(()),
        }
    }

    async fn catch_up<T: Entry>(&self, id: T::Id) -> Result<()> {
        let found = self.around.registry.entry::<T>(id).await?;
        let heard = found.map(|(entry, version)| Heard::written(entry, version));
        self.around.inventory.entries(heard.into_iter().collect());
        Ok(())
    }
}

/// What the job said of its success.
fn result<T: serde::de::DeserializeOwned>(end: &JobEnd) -> Option<T> {
    end.result
        .clone()
        .and_then(|value: Value| serde_json::from_value(value).ok())
}

/// A volume that could not be made is gone, unless something of it is left for a person to look at.
fn not_made(record: &mut VolumeRecord, end: &JobEnd) {
    match &end.error {
        Some(error) if !end.left_behind.is_empty() => record.state = EntryState::Failed(error.clone()),
        Some(_) | None => is_gone(record),
    }
}

fn is_gone(record: &mut VolumeRecord) {
    record.gone_at = Some(Timestamp::now());
}

/// How an image's location names its volume.
fn image_key(action: &ImageAction, made: &Volume) -> String {
    let (pool, name) = match action {
        ImageAction::Copy { volume } => (&volume.pool, &volume.name),
        ImageAction::Fetch { place, .. } => (&place.pool, &place.name),
        ImageAction::Delete { .. } => return made.native.clone(),
    };
    format!("{pool}/{name}")
}
