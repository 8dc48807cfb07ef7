//! Snapshots, and the trees that they form.

use babelvisor_core::model::{EntryState, ResourceId, SnapshotId, SnapshotRecord};
use uuid::Uuid;

use super::volume::volumes;
use super::{Row, VOLUME, VolumeRow, derived, enabled, machines};
use crate::query::table::{Field, Join, Relation, Resource, Rows, World, field, relation};
use crate::query::value::{Value, id, said};

/// Deeper trees than hypervisors make are cut off here.
const DEEPEST: usize = 256;

/// Snapshots of volumes.
pub(crate) static VOLUME_SNAPSHOT: Resource = Resource {
    class: "org.zstack.header.storage.snapshot.VolumeSnapshotInventory",
    fields: FIELDS,
    relations: RELATIONS,
    rows: Rows::Own(|world| records(world).map(Row::Snapshot).collect()),
    by_uuid: Some(|world, id| {
        let record = world.now.entries.snapshots.get(&SnapshotId(id));
        record.map(|record| Row::Snapshot(record))
    }),
};

static FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Snapshot(record), |_| id(record.id)),
    field!(
        "name",
        Text,
        Row::Snapshot(record),
        |_| if record.display_name.is_empty() {
            &record.native
        } else {
            &record.display_name
        }
    ),
    field!("description", Text, Row::Snapshot(record), |_| said(
        &record.description
    )),
    field!("type", Text, Row::Snapshot(_), |_| "Hypervisor"),
    field!("volumeUuid", Uuid, Row::Snapshot(record), |world| volume_uuid(
        world, record
    )),
    field!("treeUuid", Uuid, Row::Snapshot(record), |world| tree(root(
        world, record
    ))),
    field!("parentUuid", Uuid, Row::Snapshot(record), |_| record
        .parent
        .map(id)),
    field!("primaryStorageUuid", Uuid, Row::Snapshot(record), |world| {
        volume(world, record).and_then(|volume| volume.pool()).map(id)
    }),
    field!(
        "primaryStorageInstallPath",
        Text,
        Row::Snapshot(record),
        |_| said(&record.native)
    ),
    field!("volumeType", Text, Row::Snapshot(record), |world| {
        volume(world, record).map(|volume| if volume.root { "Root" } else { "Data" })
    }),
    field!("format", Text, Row::Snapshot(record), |world| {
        let disk = volume(world, record).and_then(|volume| volume.disk);
        disk.map(|disk| machines::format_name(disk.format))
    }),
    field!("latest", Flag, Row::Snapshot(record), |world| latest(
        world, record
    )),
    field!("size", Number, Row::Snapshot(record), |_| record.size),
    field!("state", Text, Row::Snapshot(_), |_| enabled(true)),
    field!("status", Text, Row::Snapshot(record), |_| match record.state {
        EntryState::Ready => "Ready",
        EntryState::Creating => "Creating",
        EntryState::Failed(_) => "Deleting",
    }),
    field!("createDate", Date, Row::Snapshot(record), |_| record.created),
    field!("lastOpDate", Date, Row::Snapshot(record), |_| record.changed),
];

static RELATIONS: &[Relation] = &[
    relation!("volume", &VOLUME, Join::Walk, Row::Snapshot(record), |world| {
        volume(world, record).map(Row::Volume).into_iter().collect()
    }),
    relation!(
        "tree",
        &VOLUME_SNAPSHOT_TREE,
        Join::Walk,
        Row::Snapshot(record),
        |world| vec![Row::Tree(root(world, record))]
    ),
];

/// Trees of snapshots.
pub(crate) static VOLUME_SNAPSHOT_TREE: Resource = Resource {
    class: "org.zstack.header.storage.snapshot.VolumeSnapshotTreeInventory",
    fields: TREE_FIELDS,
    relations: TREE_RELATIONS,
    rows: Rows::Own(|world| {
        let roots = records(world).filter(|record| parent(world, record).is_none());
        roots.map(Row::Tree).collect()
    }),
    by_uuid: None,
};

static TREE_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Tree(root), |_| tree(root)),
    field!("volumeUuid", Uuid, Row::Tree(root), |world| volume_uuid(
        world, root
    )),
    field!("current", Flag, Row::Tree(root), |world| {
        members(world, root)
            .into_iter()
            .any(|record| latest(world, record))
    }),
    field!("createDate", Date, Row::Tree(root), |_| root.created),
    field!("lastOpDate", Date, Row::Tree(root), |world| {
        members(world, root)
            .into_iter()
            .map(|record| record.changed)
            .max()
    }),
];

static TREE_RELATIONS: &[Relation] = &[
    relation!("tree", &LEAF, Join::Walk, Row::Tree(root), |_| vec![Row::Leaf(
        root, 0
    )])
    .shown_as_one(),
    relation!("volume", &VOLUME, Join::Walk, Row::Tree(root), |world| {
        volume(world, root).map(Row::Volume).into_iter().collect()
    }),
    relation!(
        "snapshot",
        &VOLUME_SNAPSHOT,
        Join::Walk,
        Row::Tree(root),
        |world| members(world, root).into_iter().map(Row::Snapshot).collect()
    ),
];

/// A snapshot in its tree.
static LEAF: Resource = Resource {
    class: "org.zstack.header.storage.snapshot.SnapshotLeafInventory",
    fields: &[field!("parentUuid", Uuid, Row::Leaf(record, _), |_| record
        .parent
        .map(id))],
    relations: &[
        relation!(
            "inventory",
            &VOLUME_SNAPSHOT,
            Join::Walk,
            Row::Leaf(record, _),
            |_| vec![Row::Snapshot(record)]
        )
        .shown_as_one(),
        relation!("children", &LEAF, Join::Walk, Row::Leaf(record, depth), |world| {
            if depth >= DEEPEST {
                return Vec::new();
            }
            let children = world.now.snapshots_of(record.vm);
            let children = children.filter(|child| child.parent == Some(record.id));
            children.map(|child| Row::Leaf(child, depth + 1)).collect()
        })
        .shown(),
    ],
    rows: Rows::Own(|_| Vec::new()),
    by_uuid: None,
};

/// Every record that the caller sees, oldest first.
fn records<'w>(world: &World<'w>) -> impl Iterator<Item = &'w SnapshotRecord> {
    let all = world.now.entries.snapshots.values().map(AsRef::as_ref);
    let mut seen: Vec<&SnapshotRecord> = all
        .filter(|record| super::sees(world, Row::Snapshot(record)))
        .collect();
    seen.sort_by_key(|record| (record.created, record.id));
    seen.into_iter()
}

/// The volume that a snapshot is shown under: its own, or the root volume if it is one of a whole machine.
fn volume<'w>(world: &World<'w>, record: &SnapshotRecord) -> Option<VolumeRow<'w>> {
    let vm = world.now.vms.get(&record.vm)?;
    volumes(world, vm).into_iter().find_map(|row| match row {
        Row::Volume(volume) => {
            let same = record.volume.map_or(volume.root, |id| id == volume.id(world));
            same.then_some(volume)
        }
        _ => None,
    })
}

fn volume_uuid<'w>(world: &World<'w>, record: &SnapshotRecord) -> Option<Value<'w>> {
    let own = record.volume.map(|id| id.uuid());
    let found = || volume(world, record).map(|volume| volume.id(world).uuid());
    own.or_else(found).map(Value::Uuid)
}

/// The snapshot that this one builds upon, if it is still there.
fn parent<'w>(world: &World<'w>, record: &SnapshotRecord) -> Option<&'w SnapshotRecord> {
    let parent = world.now.entries.snapshots.get(&record.parent?)?;
    Some(parent)
}

/// The snapshot that its tree grows from.
fn root<'w>(world: &World<'w>, record: &'w SnapshotRecord) -> &'w SnapshotRecord {
    let mut root = record;
    for _ in 0..DEEPEST {
        match parent(world, root) {
            Some(above) => root = above,
            None => break,
        }
    }
    root
}

/// The id of the tree that grows from `root`.
fn tree(root: &SnapshotRecord) -> Uuid {
    derived(root.id, "tree")
}

/// The snapshots of the tree that grows from `root`.
fn members<'w>(world: &World<'w>, root: &'w SnapshotRecord) -> Vec<&'w SnapshotRecord> {
    let all = world.now.snapshots_of(root.vm).map(AsRef::as_ref);
    all.filter(|record| self::root(world, record).id == root.id)
        .collect()
}

/// Whether it is the newest of its volume: the one that the next builds upon.
fn latest(world: &World<'_>, record: &SnapshotRecord) -> bool {
    let siblings = world.now.snapshots_of(record.vm);
    let same = siblings.filter(|other| other.volume == record.volume);
    let newest = same.max_by_key(|other| (other.created, other.id));
    newest.is_some_and(|newest| newest.id == record.id)
}
