//! Images and where they lie.

use babelvisor_core::model::{EntryState, Image, ImageId, ImageKind, ImageLocation, StoragePool};

use super::storage::backup_storage;
use super::{BACKUP_STORAGE, Row, VM_INSTANCE, enabled, machines, vms_by};
use crate::query::index::Key;
use crate::query::table::{Field, Join, Relation, Resource, Rows, World, field, relation};
use crate::query::value::{Value, id, said};

/// Images of disks, of data volumes and of optical discs.
pub(crate) static IMAGE: Resource = Resource {
    class: "org.zstack.header.image.ImageInventory",
    fields: FIELDS,
    relations: RELATIONS,
    rows: Rows::Own(|world| {
        let images = world.now.images_by_number.values().map(AsRef::as_ref);
        let images = images.filter(|image| known_here(image));
        images
            .map(Row::Image)
            .filter(|row| super::sees(world, *row))
            .collect()
    }),
    by_uuid: Some(|world, id| {
        let image = world
            .now
            .images
            .get(&ImageId(id))
            .filter(|image| known_here(image));
        image.map(|image| Row::Image(image))
    }),
};

static FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Image(image), |_| id(image.id)),
    field!("name", Text, Row::Image(image), |_| &image.name),
    field!("description", Text, Row::Image(image), |_| said(
        &image.description
    )),
    field!("exportUrl", Text, Row::Image(_), |_| Value::Null),
    field!("state", Text, Row::Image(image), |_| enabled(image.enabled)),
    field!("status", Text, Row::Image(image), |_| status(image)),
    field!("size", Number, Row::Image(image), |_| image.size),
    field!("actualSize", Number, Row::Image(image), |_| Some(
        image.actual_size
    )
    .filter(|bytes| *bytes > 0)),
    field!("md5Sum", Text, Row::Image(_), |_| Value::Null),
    field!("url", Text, Row::Image(image), |_| image.url.as_deref()),
    field!("mediaType", Text, Row::Image(image), |_| media_type(image.kind)),
    field!("guestOsType", Text, Row::Image(image), |_| said(&image.os)),
    field!("type", Text, Row::Image(_), |_| "zstack"),
    field!("platform", Text, Row::Image(image), |_| {
        machines::platform_of_image(image)
    }),
    field!("format", Text, Row::Image(image), |_| format(image)),
    field!("system", Flag, Row::Image(image), |_| image.system),
    field!("createDate", Date, Row::Image(image), |_| image.created),
    field!("lastOpDate", Date, Row::Image(image), |_| image.changed),
    field!("exportMd5Sum", Text, Row::Image(_), |_| Value::Null),
];

static RELATIONS: &[Relation] = &[
    relation!("backupStorageRefs", &REF, Join::Walk, Row::Image(image), |_| {
        image.locations.iter().map(|at| Row::ImageAt(image, at)).collect()
    })
    .shown(),
    relation!(
        "backupStorage",
        &BACKUP_STORAGE,
        Join::Walk,
        Row::Image(image),
        |world| {
            let pools = image.locations.iter().filter_map(|at| pool_of(world, at));
            pools.map(Row::BackupStorage).collect()
        }
    ),
    relation!(
        "vmInstance",
        &VM_INSTANCE,
        Join::Walk,
        Row::Image(image),
        |world| vms_by(world, Key::Image, image.id)
    ),
];

/// Where an image lies.
static REF: Resource = Resource {
    class: "org.zstack.header.image.ImageBackupStorageRefInventory",
    fields: &[
        field!("imageUuid", Uuid, Row::ImageAt(image, _), |_| id(image.id)),
        field!("backupStorageUuid", Uuid, Row::ImageAt(_, at), |world| {
            pool_of(world, at).map(|pool| Value::Uuid(backup_storage(pool)))
        }),
        field!("installPath", Text, Row::ImageAt(_, at), |_| &at.native),
        field!("status", Text, Row::ImageAt(image, _), |_| status(image)),
        field!("createDate", Date, Row::ImageAt(image, _), |_| image.created),
        field!("lastOpDate", Date, Row::ImageAt(image, _), |_| image.changed),
    ],
    relations: &[relation!(
        "backupStorage",
        &BACKUP_STORAGE,
        Join::Walk,
        Row::ImageAt(_, at),
        |world| pool_of(world, at).map(Row::BackupStorage).into_iter().collect()
    )],
    rows: Rows::Own(|_| Vec::new()),
    by_uuid: None,
};

/// This dialect has no floppy discs.
fn known_here(image: &Image) -> bool {
    match image.kind {
        ImageKind::Disk | ImageKind::Iso | ImageKind::Data => true,
        ImageKind::Floppy => false,
    }
}

/// The pool that a location lies in: the one that it names, or the only one that its backend has.
pub(super) fn pool_of<'w>(world: &World<'w>, at: &ImageLocation) -> Option<&'w StoragePool> {
    let mut of_backend: Vec<&StoragePool> = world
        .now
        .pools
        .values()
        .map(AsRef::as_ref)
        .filter(|pool| pool.backend == at.backend)
        .collect();
    of_backend.sort_by(|one, two| one.name.cmp(&two.name));
    let named = |pool: &&&StoragePool| {
        let mut parts = at.native.split('/').rev().skip(1);
        parts.any(|part| part == pool.name)
    };
    match (of_backend.iter().find(named), of_backend.as_slice()) {
        (Some(pool), _) => Some(pool),
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

/// What an image is for, in this dialect's words.
pub(crate) const fn media_type(kind: ImageKind) -> &'static str {
    match kind {
        ImageKind::Disk => "RootVolumeTemplate",
        ImageKind::Data => "DataVolumeTemplate",
        ImageKind::Iso | ImageKind::Floppy => "ISO",
    }
}

fn status(image: &Image) -> &'static str {
    match (&image.trashed_at, &image.state) {
        (Some(_), _) => "Deleted",
        (None, EntryState::Ready) => "Ready",
        // One that could not be made will not become ready either.
        (None, EntryState::Creating | EntryState::Failed(_)) => "Creating",
    }
}

fn format(image: &Image) -> Option<&'static str> {
    match image.kind {
        ImageKind::Iso => Some("iso"),
        ImageKind::Disk | ImageKind::Data | ImageKind::Floppy => image.layout().map(machines::format_name),
    }
}
