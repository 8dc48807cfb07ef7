//! Affinity groups and their members.

use babelvisor_core::model::{AffinityGroupId, AffinityPolicy};

use super::{Row, VM_INSTANCE, derived, enabled};
use crate::query::table::{Field, Join, Relation, Resource, Rows, field, relation};
use crate::query::value::{id, said};

/// Affinity groups.
pub(crate) static AFFINITY_GROUP: Resource = Resource {
    class: "org.zstack.header.affinitygroup.AffinityGroupInventory",
    fields: FIELDS,
    relations: RELATIONS,
    rows: Rows::Own(|world| {
        let groups = world.now.entries.affinity_groups.values();
        let rows = groups.map(|group| Row::AffinityGroup(group));
        rows.filter(|row| super::sees(world, *row)).collect()
    }),
    by_uuid: Some(|world, id| {
        let group = world.now.entries.affinity_groups.get(&AffinityGroupId(id));
        group.map(|group| Row::AffinityGroup(group))
    }),
};

static FIELDS: &[Field] = &[
    field!("uuid", Uuid, Row::AffinityGroup(group), |_| id(group.id)),
    field!("name", Text, Row::AffinityGroup(group), |_| &group.name),
    field!("description", Text, Row::AffinityGroup(group), |_| said(
        &group.description
    )),
    field!("policy", Text, Row::AffinityGroup(group), |_| policy(
        group.policy
    )),
    field!("version", Text, Row::AffinityGroup(group), |_| said(
        &group.version
    )),
    field!("type", Text, Row::AffinityGroup(_), |_| "HOST"),
    field!("appliance", Text, Row::AffinityGroup(_), |_| "CUSTOMER"),
    field!("state", Text, Row::AffinityGroup(group), |_| enabled(
        group.enabled
    )),
    field!("createDate", Date, Row::AffinityGroup(group), |_| group.created),
    field!("lastOpDate", Date, Row::AffinityGroup(group), |_| group.changed),
];

static RELATIONS: &[Relation] = &[
    relation!("usages", &USAGE, Join::Walk, Row::AffinityGroup(group), |world| {
        let members = group.members.iter().filter(|vm| world.now.vms.contains_key(*vm));
        members.map(|vm| Row::Usage(group, *vm)).collect()
    })
    .shown(),
    relation!(
        "vmInstance",
        &VM_INSTANCE,
        Join::Walk,
        Row::AffinityGroup(group),
        |world| {
            let members = group.members.iter().filter_map(|vm| world.now.vms.get(vm));
            members.map(|vm| Row::Vm(vm)).collect()
        }
    ),
];

/// A member of a group.
static USAGE: Resource = Resource {
    class: "org.zstack.header.affinitygroup.AffinityGroupUsageInventory",
    fields: &[
        field!("uuid", Uuid, Row::Usage(group, vm), |_| derived(
            group.id,
            &vm.simple()
        )),
        field!("affinityGroupUuid", Uuid, Row::Usage(group, _), |_| id(group.id)),
        field!("resourceUuid", Uuid, Row::Usage(_, vm), |_| id(vm)),
        // The manual's word, although members are machines.
        field!("resourceType", Text, Row::Usage(..), |_| "HOST"),
        field!("createDate", Date, Row::Usage(group, _), |_| group.created),
        field!("lastOpDate", Date, Row::Usage(group, _), |_| group.changed),
    ],
    relations: &[relation!(
        "vmInstance",
        &VM_INSTANCE,
        Join::Walk,
        Row::Usage(_, vm),
        |world| world.now.vms.get(&vm).map(|vm| Row::Vm(vm)).into_iter().collect()
    )],
    rows: Rows::Own(|_| Vec::new()),
    by_uuid: None,
};

/// A policy as answers print it.
pub(crate) const fn policy(policy: AffinityPolicy) -> &'static str {
    match policy {
        AffinityPolicy::AntiAffinitySoft => "ANTISOFT",
        AffinityPolicy::AntiAffinityHard => "ANTIHARD",
        AffinityPolicy::AffinitySoft => "PROSOFT",
        AffinityPolicy::AffinityHard => "PROHARD",
    }
}
