//! Storage: every pool of a backend, as the primary storage of volumes and as the backup storage of images.

use babelvisor_core::model::{PoolId, StoragePool};
use uuid::Uuid;

use super::image::pool_of;
use super::place::hosts_of;
use super::{CLUSTER, IMAGE, Row, ZONE, connected, derived, enabled, pools};
use crate::query::table::{Field, Join, Relation, Resource, Rows, World, field, relation};
use crate::query::value::{Value, id};

/// Pools as places of volumes.
pub(crate) static PRIMARY_STORAGE: Resource = Resource {
    class: "org.zstack.header.storage.primary.PrimaryStorageInventory",
    fields: PRIMARY_FIELDS,
    relations: PRIMARY_RELATIONS,
    rows: Rows::Own(|world| pools(world).into_iter().map(Row::PrimaryStorage).collect()),
    by_uuid: Some(|world, id| {
        let pool = world.now.pools.get(&PoolId(id));
        pool.map(|pool| Row::PrimaryStorage(pool))
    }),
};

static PRIMARY_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::PrimaryStorage(pool), |_| id(pool.id)),
    field!("zoneUuid", Uuid, Row::PrimaryStorage(pool), |world| zone(
        world, pool
    )),
    field!("name", Text, Row::PrimaryStorage(pool), |_| &pool.name),
    field!("url", Text, Row::PrimaryStorage(pool), |_| url(pool)),
    field!("description", Text, Row::PrimaryStorage(_), |_| Value::Null),
    field!("totalCapacity", Number, Row::PrimaryStorage(pool), |_| pool
        .capacity),
    field!("availableCapacity", Number, Row::PrimaryStorage(pool), |_| pool
        .available),
    field!("totalPhysicalCapacity", Number, Row::PrimaryStorage(pool), |_| {
        pool.capacity
    }),
    field!(
        "availablePhysicalCapacity",
        Number,
        Row::PrimaryStorage(pool),
        |_| pool.available
    ),
    field!("systemUsedCapacity", Number, Row::PrimaryStorage(_), |_| 0_u64),
    field!("type", Text, Row::PrimaryStorage(pool), |_| kind(pool)),
    field!("state", Text, Row::PrimaryStorage(_), |_| enabled(true)),
    field!("status", Text, Row::PrimaryStorage(pool), |world| status(
        world, pool
    )),
    field!("mountPath", Text, Row::PrimaryStorage(pool), |_| &pool.name),
    field!("createDate", Date, Row::PrimaryStorage(_), |_| Value::Null),
    field!("lastOpDate", Date, Row::PrimaryStorage(_), |_| Value::Null),
    field!("attachedClusterUuids", Uuid, Row::PrimaryStorage(pool), |world| {
        let hosts = hosts_of(world, &pool.backend);
        distinct(hosts.into_iter().map(|host| host.cluster_id().0))
    }),
];

static PRIMARY_RELATIONS: &[Relation] = &[
    relation!("zone", &ZONE, Join::Walk, Row::PrimaryStorage(pool), |world| {
        hosts_of(world, &pool.backend)
            .into_iter()
            .take(1)
            .map(Row::Zone)
            .collect()
    }),
    relation!(
        "cluster",
        &CLUSTER,
        Join::Walk,
        Row::PrimaryStorage(pool),
        |world| {
            hosts_of(world, &pool.backend)
                .into_iter()
                .map(Row::Cluster)
                .collect()
        }
    ),
];

/// Pools as places of images.
pub(crate) static BACKUP_STORAGE: Resource = Resource {
    class: "org.zstack.header.storage.backup.BackupStorageInventory",
    fields: BACKUP_FIELDS,
    relations: BACKUP_RELATIONS,
    rows: Rows::Own(|world| pools(world).into_iter().map(Row::BackupStorage).collect()),
    by_uuid: None,
};

static BACKUP_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::BackupStorage(pool), |_| backup_storage(pool)),
    field!("name", Text, Row::BackupStorage(pool), |_| &pool.name),
    field!("url", Text, Row::BackupStorage(pool), |_| url(pool)),
    field!("description", Text, Row::BackupStorage(_), |_| Value::Null),
    field!("totalCapacity", Number, Row::BackupStorage(pool), |_| pool
        .capacity),
    field!("availableCapacity", Number, Row::BackupStorage(pool), |_| pool
        .available),
    field!("type", Text, Row::BackupStorage(pool), |_| kind(pool)),
    field!("state", Text, Row::BackupStorage(_), |_| enabled(true)),
    field!("status", Text, Row::BackupStorage(pool), |world| status(
        world, pool
    )),
    field!("createDate", Date, Row::BackupStorage(_), |_| Value::Null),
    field!("lastOpDate", Date, Row::BackupStorage(_), |_| Value::Null),
    field!("attachedZoneUuids", Uuid, Row::BackupStorage(pool), |world| {
        let hosts = hosts_of(world, &pool.backend);
        distinct(hosts.into_iter().map(|host| host.zone_id().0))
    }),
];

static BACKUP_RELATIONS: &[Relation] = &[
    relation!("zone", &ZONE, Join::Walk, Row::BackupStorage(pool), |world| {
        hosts_of(world, &pool.backend)
            .into_iter()
            .take(1)
            .map(Row::Zone)
            .collect()
    }),
    relation!("image", &IMAGE, Join::Walk, Row::BackupStorage(pool), |world| {
        let images = world.now.images_by_number.values();
        let here = images.filter(|image| {
            let mut places = image.locations.iter().filter_map(|at| pool_of(world, at));
            places.any(|place| place.id == pool.id)
        });
        here.map(|image| Row::Image(image)).collect()
    }),
];

/// The id of a pool as backup storage: another one than as primary storage, because it is another resource.
pub(crate) fn backup_storage(pool: &StoragePool) -> Uuid {
    derived(pool.id, "backup-storage")
}

fn zone<'w>(world: &World<'w>, pool: &StoragePool) -> Option<Value<'w>> {
    let hosts = hosts_of(world, &pool.backend);
    hosts.first().map(|host| id(host.zone_id()))
}

fn url(pool: &StoragePool) -> String {
    format!("{}://{}/{}", pool.kind, pool.backend, pool.name)
}

/// The documented types where one fits, else the backend's own word.
fn kind(pool: &StoragePool) -> &str {
    match pool.kind.as_str() {
        "dir" | "fs" | "logical" | "zfs" | "disk" => "LocalStorage",
        "netfs" => "NFS",
        "rbd" => "Ceph",
        other => other,
    }
}

fn status(world: &World<'_>, pool: &StoragePool) -> &'static str {
    connected(pool.active && world.now.backend_up(&pool.backend))
}

/// Ids, each once.
pub(super) fn distinct<'w>(ids: impl Iterator<Item = Uuid>) -> Vec<Value<'w>> {
    let ids: std::collections::BTreeSet<Uuid> = ids.collect();
    ids.into_iter().map(Value::Uuid).collect()
}
