//! Offerings: named sizes of machines and of data volumes.

use babelvisor_core::model::{DiskOfferingId, FlavorId};

use super::{Row, VM_INSTANCE, VOLUME, VolumeRow, enabled, vms_by};
use crate::query::index::Key;
use crate::query::table::{Field, Join, Relation, Resource, Rows, field, relation};
use crate::query::value::{id, said};

/// Sizes of machines.
pub(crate) static INSTANCE_OFFERING: Resource = Resource {
    class: "org.zstack.header.configuration.InstanceOfferingInventory",
    fields: INSTANCE_FIELDS,
    relations: INSTANCE_RELATIONS,
    rows: Rows::Own(|world| {
        let flavors = world.now.entries.flavors.values();
        let rows = flavors.map(|flavor| Row::Flavor(flavor));
        rows.filter(|row| super::sees(world, *row)).collect()
    }),
    by_uuid: Some(|world, id| {
        let flavor = world.now.entries.flavors.get(&FlavorId(id));
        flavor.map(|flavor| Row::Flavor(flavor))
    }),
};

static INSTANCE_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::Flavor(flavor), |_| id(flavor.id)),
    field!("name", Text, Row::Flavor(flavor), |_| &flavor.name),
    field!("description", Text, Row::Flavor(flavor), |_| said(
        &flavor.description
    )),
    field!("cpuNum", Number, Row::Flavor(flavor), |_| flavor.vcpus),
    field!("cpuSpeed", Number, Row::Flavor(flavor), |_| flavor.cpu_speed),
    field!("memorySize", Number, Row::Flavor(flavor), |_| flavor.memory),
    field!("type", Text, Row::Flavor(_), |_| "UserVm"),
    field!(
        "allocatorStrategy",
        Text,
        Row::Flavor(flavor),
        |_| if flavor.allocator.is_empty() {
            INSTANCE_ALLOCATOR
        } else {
            &flavor.allocator
        }
    ),
    field!("sortKey", Number, Row::Flavor(flavor), |_| flavor.sort_key),
    field!("createDate", Date, Row::Flavor(flavor), |_| flavor.created),
    field!("lastOpDate", Date, Row::Flavor(flavor), |_| flavor.changed),
    field!("state", Text, Row::Flavor(flavor), |_| enabled(flavor.enabled)),
];

static INSTANCE_RELATIONS: &[Relation] = &[relation!(
    "vmInstance",
    &VM_INSTANCE,
    Join::Walk,
    Row::Flavor(flavor),
    |world| vms_by(world, Key::Offering, flavor.id)
)];

/// What an offering without a strategy is shown with.
pub(crate) const INSTANCE_ALLOCATOR: &str = "LeastVmPreferredHostAllocatorStrategy";
/// The same for disk offerings.
const DISK_ALLOCATOR: &str = "DefaultPrimaryStorageAllocationStrategy";

/// Sizes of data volumes.
pub(crate) static DISK_OFFERING: Resource = Resource {
    class: "org.zstack.header.configuration.DiskOfferingInventory",
    fields: DISK_FIELDS,
    relations: DISK_RELATIONS,
    rows: Rows::Own(|world| {
        let offerings = world.now.entries.disk_offerings.values();
        let rows = offerings.map(|offering| Row::DiskOffering(offering));
        rows.filter(|row| super::sees(world, *row)).collect()
    }),
    by_uuid: Some(|world, id| {
        let offering = world.now.entries.disk_offerings.get(&DiskOfferingId(id));
        offering.map(|offering| Row::DiskOffering(offering))
    }),
};

static DISK_FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::DiskOffering(offering), |_| id(offering.id)),
    field!("name", Text, Row::DiskOffering(offering), |_| &offering.name),
    field!("description", Text, Row::DiskOffering(offering), |_| said(
        &offering.description
    )),
    field!("diskSize", Number, Row::DiskOffering(offering), |_| offering
        .disk_size),
    field!("sortKey", Number, Row::DiskOffering(offering), |_| offering
        .sort_key),
    field!("state", Text, Row::DiskOffering(offering), |_| enabled(
        offering.enabled
    )),
    field!("type", Text, Row::DiskOffering(_), |_| "DefaultDiskOfferingType"),
    field!("createDate", Date, Row::DiskOffering(offering), |_| offering
        .created),
    field!("lastOpDate", Date, Row::DiskOffering(offering), |_| offering
        .changed),
    field!(
        "allocatorStrategy",
        Text,
        Row::DiskOffering(offering),
        |_| if offering.allocator.is_empty() {
            DISK_ALLOCATOR
        } else {
            &offering.allocator
        }
    ),
];

static DISK_RELATIONS: &[Relation] = &[relation!(
    "volume",
    &VOLUME,
    Join::Walk,
    Row::DiskOffering(offering),
    |world| {
        let records = world.now.entries.volumes.values();
        let made = records.filter(|record| record.disk_offering == Some(offering.id));
        made.map(|record| Row::Volume(VolumeRow::of_record(world, record)))
            .collect()
    }
)];
