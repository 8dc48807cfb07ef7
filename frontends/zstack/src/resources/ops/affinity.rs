//! Affinity groups: create, update, change of state, delete, and their members. The core keeps to them when it chooses
//! hosts.

use babelvisor_core::Error;
use babelvisor_core::model::{AffinityGroup, AffinityGroupId, AffinityPolicy, VmId};
use serde_json::json;

use super::{delete_mode, keep_tags, one_of, said, state_event};
use crate::decode::Call;
use crate::find::named;
use crate::operations::{Row, Started, boxed, job};
use crate::resources::AFFINITY_GROUP;
use crate::{Zstack, decode, error};

/// Operations on affinity groups.
pub(super) const ROWS: &[Row] = &[
    job(
        "CreateAffinityGroup",
        boxed!(create),
        boxed!(super::nothing, told),
    ),
    job(
        "UpdateAffinityGroup",
        boxed!(update),
        boxed!(super::nothing, told),
    ),
    job(
        "ChangeAffinityGroupState",
        boxed!(state),
        boxed!(super::nothing, told),
    ),
    job(
        "DeleteAffinityGroup",
        boxed!(delete),
        boxed!(super::nothing, told),
    ),
    job("AddVmToAffinityGroup", boxed!(add), boxed!(super::nothing, told)),
    job(
        "RemoveVmFromAffinityGroup",
        boxed!(remove),
        boxed!(super::nothing, told),
    ),
];

/// Policies as requests spell them, without letter case: answers print them in capitals.
const POLICIES: [(&str, AffinityPolicy); 2] = [
    ("antiSoft", AffinityPolicy::AntiAffinitySoft),
    ("antiHard", AffinityPolicy::AntiAffinityHard),
];

async fn create(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let asked = call.needed("policy")?;
    let policy = POLICIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(asked));
    let (_, policy) = policy.ok_or_else(|| one_of(call, "policy", "antiSoft, antiHard"))?;
    if call
        .text("type")
        .is_some_and(|kind| !kind.eq_ignore_ascii_case("host"))
    {
        return Err(one_of(call, "type", "host"));
    }
    let tenant = Some(call.caller.tenant.clone());
    let mut group = AffinityGroup::new(call.needed("name")?, *policy, tenant);
    if let Some(id) = call.id("resourceUuid", AffinityGroupId::NOUN)? {
        group.id = AffinityGroupId(id);
    }
    group.description = said(call, "description").unwrap_or_default();
    let made = zstack.core.add_entry(&call.caller, group).await?;
    keep_tags(zstack, call, made.id).await?;
    Ok(Started::Done(zstack.told_now(
        &call.caller,
        &AFFINITY_GROUP,
        made.id.0,
    )?))
}

async fn edit(
    zstack: &Zstack,
    call: &Call,
    field: &str,
    change: impl Fn(&mut AffinityGroup) -> Result<(), Error> + Send + Sync,
) -> Result<Started, Error> {
    let id = AffinityGroupId(call.path_id(field, AffinityGroupId::NOUN)?);
    let edited = zstack.core.edit_entry(&call.caller, id, change).await;
    edited.map_err(|error| match error.field {
        None => named(error, field),
        Some(_) => error,
    })?;
    Ok(Started::Done(zstack.told_now(
        &call.caller,
        &AFFINITY_GROUP,
        id.0,
    )?))
}

async fn update(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    edit(zstack, call, "uuid", |group| {
        if let Some(name) = call.text("name") {
            group.name = name.to_owned();
        }
        if let Some(description) = said(call, "description") {
            group.description = description;
        }
        Ok(())
    })
    .await
}

async fn state(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let enabled = state_event(call)?;
    edit(zstack, call, "uuid", |group| {
        group.enabled = enabled;
        Ok(())
    })
    .await
}

async fn delete(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    delete_mode(call)?;
    let id = AffinityGroupId(call.path_id("uuid", AffinityGroupId::NOUN)?);
    let removed = zstack.core.remove_entry::<AffinityGroup>(&call.caller, id).await;
    removed.map_err(|error| named(error, "uuid"))?;
    Ok(Started::Done(json!({})))
}

async fn add(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    edit(zstack, call, "affinityGroupUuid", |group| {
        if !group.enabled {
            return Err(super::refused(
                "affinity group",
                group.id.0,
                "is disabled, enable it first",
            ));
        }
        group.members.insert(vm.id);
        Ok(())
    })
    .await
}

async fn remove(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let asked = call
        .asked("uuid")
        .ok_or_else(|| error::mandatory(&call.operation.id, "uuid"))?;
    let id = decode::uuid(asked).ok_or_else(|| error::no_resource("uuid", VmId::NOUN, asked))?;
    edit(zstack, call, "affinityGroupUuid", |group| {
        // A machine that is gone meanwhile is taken out like any other.
        if group.members.remove(&VmId(id)) {
            Ok(())
        } else {
            Err(error::no_resource("uuid", VmId::NOUN, &id.simple().to_string()))
        }
    })
    .await
}
