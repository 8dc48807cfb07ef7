//! Volumes: those that machines have as disks, and those that wait to be attached.

use babelvisor_core::model::{Disk, EntryState, PoolId, ResourceId, Vm, VolumeId, VolumeKind, VolumeRecord};

use super::{
    DISK_OFFERING, IMAGE, PRIMARY_STORAGE, Row, VM_INSTANCE, VOLUME_SNAPSHOT, derived, enabled, machines,
};
use crate::query::index::{Index, Key, union};
use crate::query::table::{Field, Join, Relation, Resource, Rows, World, field, relation};
use crate::query::value::{Value, id, said};

/// A volume.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VolumeRow<'w> {
    /// The machine that has it.
    pub(crate) vm: Option<&'w Vm>,
    /// As what.
    pub(crate) disk: Option<&'w Disk>,
    /// Whether the machine boots from it.
    pub(crate) root: bool,
    /// Its place among the machine's volumes; the root volume is 0.
    pub(crate) device: u32,
    /// What the gateway remembers of it.
    pub(crate) record: Option<&'w VolumeRecord>,
}

impl<'w> VolumeRow<'w> {
    /// The volume of a record, as the machine has it that it is attached to.
    pub(crate) fn of_record(world: &World<'w>, record: &'w VolumeRecord) -> Self {
        let found = world
            .index
            .find(world.now, Key::Volume, &[Value::Uuid(record.id.uuid())]);
        let vms = union(found)
            .into_iter()
            .filter_map(|number| Index::vm(world.now, number));
        let attached = vms.flat_map(|vm| volumes(world, vm)).find_map(|row| match row {
            Row::Volume(volume) if volume.record.is_some_and(|known| known.id == record.id) => Some(volume),
            _ => None,
        });
        attached.unwrap_or(Self::alone(record))
    }

    /// The volume of a record, as nobody's.
    fn alone(record: &'w VolumeRecord) -> Self {
        Self {
            vm: None,
            disk: None,
            root: false,
            device: 0,
            record: Some(record),
        }
    }

    /// Its id: its record's, else computed from where it lies.
    pub(crate) fn id(&self, world: &World<'_>) -> VolumeId {
        match (self.record, self.vm, self.disk) {
            (Some(record), _, _) => record.id,
            (None, Some(vm), Some(disk)) => machines::disk_volume(world.now, vm.home(), disk),
            (None, _, _) => VolumeId(uuid::Uuid::nil()),
        }
    }

    /// The pool that it lies in.
    pub(super) fn pool(&self) -> Option<PoolId> {
        match (self.record, self.vm, self.disk) {
            (Some(record), _, _) => Some(PoolId::computed(&record.backend, &record.pool)),
            (None, Some(vm), Some(disk)) => {
                let place = disk.volume.as_ref()?;
                Some(PoolId::computed(vm.home(), &place.pool))
            }
            (None, _, _) => None,
        }
    }

    fn is_root(&self) -> bool {
        self.root || (self.vm.is_none() && self.record.is_some_and(|record| record.kind == VolumeKind::Root))
    }
}

/// Volumes.
pub(crate) static VOLUME: Resource = Resource {
    class: "org.zstack.header.volume.VolumeInventory",
    fields: FIELDS,
    relations: RELATIONS,
    rows: Rows::OfVms {
        of: |world, vm, rows| rows.extend(volumes(world, vm).into_iter().filter(|row| !is_shared(*row))),
        beside: Some(beside),
    },
    by_uuid: Some(by_uuid),
};

static FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Volume(volume), |world| id(volume.id(world))).indexed(Key::Volume),
    field!("name", Text, Row::Volume(volume), |_| name(volume)),
    field!("description", Text, Row::Volume(volume), |_| {
        volume.record.map(|record| said(&record.description))
    }),
    field!("primaryStorageUuid", Uuid, Row::Volume(volume), |_| volume
        .pool()
        .map(id)),
    field!("vmInstanceUuid", Uuid, Row::Volume(volume), |_| volume
        .vm
        .map(|vm| id(vm.id)))
    .indexed(Key::Vm),
    field!("diskOfferingUuid", Uuid, Row::Volume(volume), |_| {
        volume.record.and_then(|record| record.disk_offering).map(id)
    }),
    field!("rootImageUuid", Uuid, Row::Volume(volume), |_| {
        let own = volume.record.and_then(|record| record.image);
        own.or_else(|| volume.vm.filter(|_| volume.root)?.record.image)
            .map(id)
    }),
    field!("installPath", Text, Row::Volume(volume), |_| match volume.disk {
        Some(disk) => said(&disk.source),
        None => volume
            .record
            .map(|record| format!("{}/{}", record.pool, record.name))
            .into(),
    }),
    field!("type", Text, Row::Volume(volume), |_| if volume.is_root() {
        "Root"
    } else {
        "Data"
    }),
    field!("format", Text, Row::Volume(volume), |_| {
        let format = volume.disk.map(|disk| disk.format);
        format
            .or(volume.record.map(|record| record.format))
            .map(machines::format_name)
    }),
    field!("size", Number, Row::Volume(volume), |_| {
        let size = volume.disk.map(|disk| disk.capacity);
        size.or(volume.record.map(|record| record.capacity))
    }),
    field!("actualSize", Number, Row::Volume(volume), |_| {
        volume
            .record
            .map(|record| record.allocation)
            .filter(|bytes| *bytes > 0)
    }),
    field!("deviceId", Number, Row::Volume(volume), |_| volume
        .disk
        .map(|_| volume.device)),
    field!("state", Text, Row::Volume(volume), |_| {
        enabled(volume.record.is_none_or(|record| record.enabled))
    }),
    field!("status", Text, Row::Volume(volume), |_| status(volume)),
    field!("createDate", Date, Row::Volume(volume), |_| {
        let own = volume.record.map(|record| record.first_seen);
        own.or(volume.vm.map(|vm| vm.record.first_seen))
    }),
    field!("lastOpDate", Date, Row::Volume(volume), |_| {
        let own = volume.record.map(|record| record.changed);
        own.or(volume.vm.map(machines::last_change))
    }),
    field!("isShareable", Flag, Row::Volume(volume), |_| {
        volume.record.is_some_and(|record| record.shareable)
    }),
];

static RELATIONS: &[Relation] = &[
    relation!(
        "vmInstance",
        &VM_INSTANCE,
        Join::SameVm,
        Row::Volume(volume),
        |_| volume.vm.map(Row::Vm).into_iter().collect()
    ),
    relation!(
        "primaryStorage",
        &PRIMARY_STORAGE,
        Join::Walk,
        Row::Volume(volume),
        |world| {
            let pool = volume.pool().and_then(|id| world.now.pools.get(&id));
            pool.map(|pool| Row::PrimaryStorage(pool)).into_iter().collect()
        }
    ),
    relation!(
        "diskOffering",
        &DISK_OFFERING,
        Join::Walk,
        Row::Volume(volume),
        |world| {
            let offering = volume.record.and_then(|record| record.disk_offering);
            let offering = offering.and_then(|id| world.now.entries.disk_offerings.get(&id));
            offering
                .map(|offering| Row::DiskOffering(offering))
                .into_iter()
                .collect()
        }
    ),
    relation!("image", &IMAGE, Join::Walk, Row::Volume(volume), |world| {
        let own = volume.record.and_then(|record| record.image);
        let image = own.or_else(|| volume.vm.filter(|_| volume.root)?.record.image);
        let image = image.and_then(|id| world.now.images.get(&id));
        image.map(|image| Row::Image(image)).into_iter().collect()
    }),
    relation!(
        "snapshot",
        &VOLUME_SNAPSHOT,
        Join::Walk,
        Row::Volume(volume),
        |world| {
            let Some(vm) = volume.vm else { return Vec::new() };
            let id = volume.id(world);
            let records = world.now.snapshots_of(vm.id);
            let own = records.filter(|record| record.volume.map_or(volume.root, |of| of == id));
            own.map(|record| Row::Snapshot(record)).collect()
        }
    ),
];

/// Which machines have which shareable volumes.
pub(crate) static SHAREABLE_REF: Resource = Resource {
    class: "org.zstack.header.volume.ShareableVolumeVmInstanceRefInventory",
    fields: REF_FIELDS,
    relations: REF_RELATIONS,
    rows: Rows::OfVms {
        of: |world, vm, rows| {
            let shared = volumes(world, vm).into_iter().filter_map(|row| match row {
                Row::Volume(volume) if volume.record.is_some_and(|record| record.shareable) => {
                    Some(Row::Shared(volume))
                }
                _ => None,
            });
            rows.extend(shared);
        },
        beside: None,
    },
    by_uuid: None,
};

static REF_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Shared(volume), |world| {
        volume.vm.map(|vm| derived(volume.id(world), &vm.id.simple()))
    }),
    field!("volumeUuid", Uuid, Row::Shared(volume), |world| id(
        volume.id(world)
    ))
    .indexed(Key::Volume),
    field!("vmInstanceUuid", Uuid, Row::Shared(volume), |_| volume
        .vm
        .map(|vm| id(vm.id)))
    .indexed(Key::Vm),
    field!("deviceId", Number, Row::Shared(volume), |_| volume.device),
    field!("createDate", Date, Row::Shared(volume), |_| volume
        .record
        .map(|record| record.first_seen)),
    field!("lastOpDate", Date, Row::Shared(volume), |_| volume
        .record
        .map(|record| record.changed)),
];

static REF_RELATIONS: &[Relation] = &[
    relation!("volume", &VOLUME, Join::SameVm, Row::Shared(volume), |_| vec![
        Row::Volume(volume)
    ]),
    relation!(
        "vmInstance",
        &VM_INSTANCE,
        Join::SameVm,
        Row::Shared(volume),
        |_| volume.vm.map(Row::Vm).into_iter().collect()
    ),
];

/// The volumes of `vm` in device order, its root volume first.
pub(super) fn volumes<'w>(world: &World<'w>, vm: &'w Vm) -> Vec<Row<'w>> {
    let Some(facts) = vm.facts.as_deref() else {
        return Vec::new();
    };
    let root = machines::root_disk(&facts.disks);
    let first = root.and_then(|place| facts.disks.get(place));
    let data = facts
        .disks
        .iter()
        .enumerate()
        .filter(|(place, _)| Some(*place) != root);
    let ordered = first.into_iter().map(|disk| (disk, true));
    let ordered = ordered.chain(data.map(|(_, disk)| (disk, false)));
    let rows = (0..).zip(ordered).map(|(device, (disk, root))| {
        let place = disk.volume.as_ref();
        let record = place.and_then(|place| world.now.volume_at(&facts.backend, place));
        Row::Volume(VolumeRow {
            vm: Some(vm),
            disk: Some(disk),
            root,
            device,
            record: record.map(AsRef::as_ref),
        })
    });
    rows.collect()
}

/// Whether several machines may have it: such a volume is nobody's, and shown once.
fn is_shared(row: Row<'_>) -> bool {
    matches!(row, Row::Volume(volume) if volume.record.is_some_and(|record| record.shareable))
}

/// Volumes that no machine has for itself.
fn beside<'w>(world: &World<'w>) -> Vec<Row<'w>> {
    let records = world.now.entries.volumes.values().filter(|record| {
        let attached = Value::Uuid(record.id.uuid());
        record.shareable || world.index.find(world.now, Key::Volume, &[attached]).is_empty()
    });
    let rows = records.map(|record| Row::Volume(VolumeRow::alone(record)));
    rows.filter(|row| super::sees(world, *row)).collect()
}

/// The volume with this id, with or without a record.
fn by_uuid<'w>(world: &World<'w>, id: uuid::Uuid) -> Option<Row<'w>> {
    if let Some(record) = world.now.entries.volumes.get(&VolumeId(id)) {
        return Some(Row::Volume(if record.shareable {
            VolumeRow::alone(record)
        } else {
            VolumeRow::of_record(world, record)
        }));
    }
    let holders = world.index.find(world.now, Key::Volume, &[Value::Uuid(id)]);
    let holders = union(holders).into_iter();
    let holders = holders.filter_map(|number| Index::vm(world.now, number));
    holders.flat_map(|vm| volumes(world, vm)).find(|row| match row {
        Row::Volume(volume) => volume.id(world).0 == id,
        _ => false,
    })
}

fn name<'w>(volume: VolumeRow<'w>) -> Value<'w> {
    let named = volume.record.map(|record| record.display_name.as_str());
    match (named.filter(|name| !name.is_empty()), volume.vm, volume.record) {
        (Some(name), _, _) => name.into(),
        (None, Some(vm), _) if volume.root => format!("Root-Volume-For-VM-{}", vm.id.simple()).into(),
        (None, Some(vm), _) => format!("DATA-for-{}-{}", vm.id.simple(), volume.device).into(),
        (None, None, Some(record)) => (&record.name).into(),
        (None, None, None) => Value::Null,
    }
}

fn status(volume: VolumeRow<'_>) -> &'static str {
    let Some(record) = volume.record.filter(|_| volume.disk.is_none()) else {
        return "Ready";
    };
    match (&record.trashed_at, &record.state) {
        (Some(_), _) => "Deleted",
        (None, EntryState::Ready) => "Ready",
        (None, EntryState::Creating) => "Creating",
        (None, EntryState::Failed(_)) => "NotInstantiated",
    }
}

/// The id that the volume of a record has on a disk whose record is not known yet.
pub(crate) fn native_of(record: &VolumeRecord) -> VolumeId {
    VolumeId::computed(&record.backend, &format!("{}/{}", record.pool, record.name))
}
