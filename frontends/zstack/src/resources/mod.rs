//! Resources: for each kind a table of its fields and relations, which queries, joins, sorting and answers walk.
//! A row is a look at the inventory; nothing is copied until it is encoded.

mod account;
mod affinity;
pub(crate) mod free_ip;
mod image;
pub(crate) mod machines;
mod network;
mod offering;
pub(crate) mod ops;
mod place;
mod snapshot;
pub(crate) mod storage;
mod vm;
mod volume;

use std::net::IpAddr;

use babelvisor_core::model::{
    AccountInfo, AddressRange, AffinityGroup, Disk, DiskOffering, Flavor, Host, Image, ImageLocation,
    Network, Nic, ResourceId, SnapshotRecord, StoragePool, TagResource, TenantId, Vm, VmId, VolumeId,
};
use uuid::Uuid;

pub(crate) use account::ACCOUNT;
pub(crate) use affinity::AFFINITY_GROUP;
pub(crate) use image::IMAGE;
pub(crate) use network::{IP_RANGE, L2_NETWORK, L3_NETWORK};
pub(crate) use offering::{DISK_OFFERING, INSTANCE_OFFERING};
pub(crate) use place::{CLUSTER, HOST, ZONE};
pub(crate) use snapshot::{VOLUME_SNAPSHOT, VOLUME_SNAPSHOT_TREE};
pub(crate) use storage::{BACKUP_STORAGE, PRIMARY_STORAGE};
pub(crate) use vm::{VM_INSTANCE, VM_NIC};
pub(crate) use volume::{SHAREABLE_REF, VOLUME, VolumeRow, native_of};

pub(crate) use machines::state;

use crate::query::index::{Index, Key, union};
use crate::query::table::World;
use crate::query::value::Value;

/// One row of some resource.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Row<'w> {
    /// A machine.
    Vm(&'w Vm),
    /// An interface of a machine.
    Nic(&'w Vm, &'w Nic),
    /// A volume, attached or not.
    Volume(VolumeRow<'w>),
    /// A shareable volume in a machine that has it.
    Shared(VolumeRow<'w>),
    /// A snapshot.
    Snapshot(&'w SnapshotRecord),
    /// A tree of snapshots, by the one that it grows from.
    Tree(&'w SnapshotRecord),
    /// A snapshot in its tree, and how far from the root.
    Leaf(&'w SnapshotRecord, usize),
    /// An image.
    Image(&'w Image),
    /// Where an image lies.
    ImageAt(&'w Image, &'w ImageLocation),
    /// An instance offering.
    Flavor(&'w Flavor),
    /// A disk offering.
    DiskOffering(&'w DiskOffering),
    /// An affinity group.
    AffinityGroup(&'w AffinityGroup),
    /// A member of a group.
    Usage(&'w AffinityGroup, VmId),
    /// The zone of a host.
    Zone(&'w Host),
    /// The cluster of a host.
    Cluster(&'w Host),
    /// A host.
    Host(&'w Host),
    /// A pool, as the place of volumes.
    PrimaryStorage(&'w StoragePool),
    /// A pool, as the place of images.
    BackupStorage(&'w StoragePool),
    /// A network's wires.
    L2(&'w Network),
    /// A network's addresses.
    L3(&'w Network),
    /// A range of a network's addresses.
    Range(&'w Network, &'w AddressRange),
    /// An account.
    Account(&'w AccountInfo),
}

/// Whether the caller sees a row. What it does not see does not exist for it, in joins as well.
pub(crate) fn sees(world: &World<'_>, row: Row<'_>) -> bool {
    let Some(tenant) = world.scope else { return true };
    let owned = |owner: Option<&TenantId>| owner.is_none_or(|owner| owner == tenant);
    match row {
        Row::Vm(vm) | Row::Nic(vm, _) => vm.record.tenant == *tenant,
        Row::Volume(volume) | Row::Shared(volume) => match (volume.vm, volume.record) {
            (Some(vm), _) => vm.record.tenant == *tenant,
            (None, Some(record)) => owned(record.tenant.as_ref()),
            (None, None) => false,
        },
        Row::Snapshot(record) | Row::Tree(record) | Row::Leaf(record, _) => {
            let vm = world.now.vms.get(&record.vm);
            vm.map_or_else(|| owned(record.tenant.as_ref()), |vm| vm.record.tenant == *tenant)
        }
        Row::Image(image) | Row::ImageAt(image, _) => owned(image.tenant.as_ref()),
        Row::Flavor(flavor) => owned(flavor.tenant.as_ref()),
        Row::DiskOffering(offering) => owned(offering.tenant.as_ref()),
        Row::AffinityGroup(group) | Row::Usage(group, _) => owned(group.tenant.as_ref()),
        Row::Account(account) => account.tenant == *tenant,
        // The site's own: whoever makes something has to say where.
        Row::Zone(_)
        | Row::Cluster(_)
        | Row::Host(_)
        | Row::PrimaryStorage(_)
        | Row::BackupStorage(_)
        | Row::L2(_)
        | Row::L3(_)
        | Row::Range(..) => true,
    }
}

/// The system's tags on a row, or else those of people.
pub(crate) fn tags<'w>(world: &World<'w>, row: Row<'w>, system: bool) -> Vec<Value<'w>> {
    let resource = match row {
        Row::Vm(vm) => TagResource::of(vm.id),
        Row::Nic(_, nic) => TagResource::of(nic.id),
        Row::Volume(volume) => TagResource::of(volume.id(world)),
        Row::Snapshot(record) => TagResource::of(record.id),
        Row::Image(image) => TagResource::of(image.id),
        Row::Flavor(flavor) => TagResource::of(flavor.id),
        Row::DiskOffering(offering) => TagResource::of(offering.id),
        Row::AffinityGroup(group) => TagResource::of(group.id),
        Row::Zone(host) => TagResource::of(host.zone_id()),
        Row::Cluster(host) => TagResource::of(host.cluster_id()),
        Row::Host(host) => TagResource::of(host.id),
        Row::PrimaryStorage(pool) => TagResource::of(pool.id),
        Row::L3(network) => TagResource::of(network.id),
        Row::Account(account) => TagResource::of(account.id),
        Row::Shared(_)
        | Row::Tree(_)
        | Row::Leaf(..)
        | Row::ImageAt(..)
        | Row::Usage(..)
        | Row::BackupStorage(_)
        | Row::L2(_)
        | Row::Range(..) => return Vec::new(),
    };
    let tags = world.now.tags_of(&resource).filter(|tag| tag.system == system);
    let found: Vec<Value<'w>> = tags.map(|tag| Value::from(&tag.text)).collect();
    let mut texts = found.clone();
    if let Row::Vm(vm) = row {
        let told = vm::told_tags(vm, system);
        texts.extend(told.into_iter().filter(|tag| !found.contains(tag)));
    }
    texts
}

/// The address of an interface that this dialect shows: its first of IPv4, else its first.
pub(crate) fn address(nic: &Nic) -> Option<IpAddr> {
    let four = nic.addresses.iter().find(|address| address.is_ipv4());
    four.or_else(|| nic.addresses.first()).copied()
}

/// The id that a disk's volume has without a record.
pub(crate) fn native_volume(vm: &Vm, disk: &Disk) -> VolumeId {
    match &disk.volume {
        Some(place) => VolumeId::computed(vm.home(), &format!("{}/{}", place.pool, place.name)),
        None => VolumeId::computed(vm.home(), &disk.source),
    }
}

/// `Enabled` or `Disabled`.
pub(crate) const fn enabled(yes: bool) -> &'static str {
    if yes { "Enabled" } else { "Disabled" }
}

/// `Connected` or `Disconnected`.
pub(crate) const fn connected(yes: bool) -> &'static str {
    if yes { "Connected" } else { "Disconnected" }
}

/// The id of something that has none of its own, from what it belongs to.
pub(crate) fn derived<I: ResourceId>(of: I, what: &str) -> Uuid {
    Uuid::new_v5(&of.uuid(), what.as_bytes())
}

/// Every pool, by backend and name.
fn pools<'w>(world: &World<'w>) -> Vec<&'w StoragePool> {
    let mut pools: Vec<&StoragePool> = world.now.pools.values().map(AsRef::as_ref).collect();
    pools.sort_by(|one, two| (&one.backend, &one.name).cmp(&(&two.backend, &two.name)));
    pools
}

/// Every network, by backend and name.
fn networks<'w>(world: &World<'w>) -> Vec<&'w Network> {
    let mut networks: Vec<&Network> = world.now.networks.values().map(AsRef::as_ref).collect();
    networks.sort_by(|one, two| (&one.backend, &one.name).cmp(&(&two.backend, &two.name)));
    networks
}

/// The machines that the index finds by an id, whoever they belong to.
fn vms_by<'w, I: ResourceId>(world: &World<'w>, key: Key, id: I) -> Vec<Row<'w>> {
    let found = world.index.find(world.now, key, &[Value::Uuid(id.uuid())]);
    let numbers = union(found).into_iter();
    numbers
        .filter_map(|number| Index::vm(world.now, number).map(|vm| Row::Vm(vm)))
        .collect()
}
