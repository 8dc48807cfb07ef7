//! Instance and disk offerings: create, update, change of state, delete.

use babelvisor_core::Error;
use babelvisor_core::model::{DiskOffering, DiskOfferingId, Flavor, FlavorId};
use serde_json::json;

use super::{delete_mode, keep_tags, one_of, owner, positive, said, state_event};
use crate::Zstack;
use crate::decode::Call;
use crate::find::named;
use crate::operations::{Row, Started, boxed, job};
use crate::resources::{DISK_OFFERING, INSTANCE_OFFERING};

/// Operations on offerings.
pub(super) const ROWS: &[Row] = &[
    job(
        "CreateInstanceOffering",
        boxed!(create_instance),
        boxed!(super::nothing, told),
    ),
    job(
        "UpdateInstanceOffering",
        boxed!(update_instance),
        boxed!(super::nothing, told),
    ),
    job(
        "ChangeInstanceOfferingState",
        boxed!(state_of_instance),
        boxed!(super::nothing, told),
    ),
    job(
        "DeleteInstanceOffering",
        boxed!(delete_instance),
        boxed!(super::nothing, told),
    ),
    job(
        "CreateDiskOffering",
        boxed!(create_disk),
        boxed!(super::nothing, told),
    ),
    job(
        "UpdateDiskOffering",
        boxed!(update_disk),
        boxed!(super::nothing, told),
    ),
    job(
        "ChangeDiskOfferingState",
        boxed!(state_of_disk),
        boxed!(super::nothing, told),
    ),
    job(
        "DeleteDiskOffering",
        boxed!(delete_disk),
        boxed!(super::nothing, told),
    ),
];

async fn create_instance(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    if !matches!(call.text("type"), None | Some("UserVm")) {
        return Err(one_of(call, "type", "UserVm"));
    }
    let vcpus = u32::try_from(positive(call, "cpuNum")?)
        .map_err(|_| Error::invalid("cpuNum", "so many CPUs are not had"))?;
    let mut flavor = Flavor::new(
        call.needed("name")?,
        vcpus,
        positive(call, "memorySize")?,
        owner(&call.caller),
    );
    if let Some(id) = call.id("resourceUuid", FlavorId::NOUN)? {
        flavor.id = FlavorId(id);
    }
    flavor.description = said(call, "description").unwrap_or_default();
    flavor.allocator = said(call, "allocatorStrategy").unwrap_or_default();
    flavor.sort_key = call.number("sortKey").unwrap_or_default();
    let made = zstack.core.add_entry(&call.caller, flavor).await?;
    keep_tags(zstack, call, made.id).await?;
    Ok(Started::Done(zstack.told_now(
        &call.caller,
        &INSTANCE_OFFERING,
        made.id.0,
    )?))
}

async fn edit_instance(
    zstack: &Zstack,
    call: &Call,
    change: impl Fn(&mut Flavor) + Send + Sync,
) -> Result<Started, Error> {
    let id = FlavorId(call.path_id("uuid", FlavorId::NOUN)?);
    let change = |flavor: &mut Flavor| {
        change(flavor);
        Ok(())
    };
    let edited = zstack.core.edit_entry(&call.caller, id, change).await;
    edited.map_err(|error| named(error, "uuid"))?;
    Ok(Started::Done(zstack.told_now(
        &call.caller,
        &INSTANCE_OFFERING,
        id.0,
    )?))
}

async fn update_instance(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    edit_instance(zstack, call, |flavor| {
        if let Some(name) = call.text("name") {
            flavor.name = name.to_owned();
        }
        if let Some(description) = said(call, "description") {
            flavor.description = description;
        }
        if let Some(strategy) = call.text("allocatorStrategy") {
            flavor.allocator = strategy.to_owned();
        }
    })
    .await
}

async fn state_of_instance(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let enabled = state_event(call)?;
    edit_instance(zstack, call, |flavor| flavor.enabled = enabled).await
}

async fn delete_instance(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    delete_mode(call)?;
    let id = FlavorId(call.path_id("uuid", FlavorId::NOUN)?);
    let removed = zstack.core.remove_entry::<Flavor>(&call.caller, id).await;
    removed.map_err(|error| named(error, "uuid"))?;
    Ok(Started::Done(json!({})))
}

/// The only type of disk offerings.
const DISK_TYPE: &str = "DefaultDiskOfferingType";

async fn create_disk(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    if !matches!(call.text("type"), None | Some(DISK_TYPE)) {
        return Err(one_of(call, "type", DISK_TYPE));
    }
    let mut offering = DiskOffering::new(
        call.needed("name")?,
        positive(call, "diskSize")?,
        owner(&call.caller),
    );
    if let Some(id) = call.id("resourceUuid", DiskOfferingId::NOUN)? {
        offering.id = DiskOfferingId(id);
    }
    offering.description = said(call, "description").unwrap_or_default();
    offering.allocator = said(call, "allocationStrategy").unwrap_or_default();
    offering.sort_key = call.number("sortKey").unwrap_or_default();
    let made = zstack.core.add_entry(&call.caller, offering).await?;
    keep_tags(zstack, call, made.id).await?;
    Ok(Started::Done(zstack.told_now(
        &call.caller,
        &DISK_OFFERING,
        made.id.0,
    )?))
}

async fn edit_disk(
    zstack: &Zstack,
    call: &Call,
    change: impl Fn(&mut DiskOffering) + Send + Sync,
) -> Result<Started, Error> {
    let id = DiskOfferingId(call.path_id("uuid", DiskOfferingId::NOUN)?);
    let change = |offering: &mut DiskOffering| {
        change(offering);
        Ok(())
    };
    let edited = zstack.core.edit_entry(&call.caller, id, change).await;
    edited.map_err(|error| named(error, "uuid"))?;
    Ok(Started::Done(zstack.told_now(
        &call.caller,
        &DISK_OFFERING,
        id.0,
    )?))
}

async fn update_disk(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    edit_disk(zstack, call, |offering| {
        if let Some(name) = call.text("name") {
            offering.name = name.to_owned();
        }
        if let Some(description) = said(call, "description") {
            offering.description = description;
        }
    })
    .await
}

async fn state_of_disk(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let enabled = state_event(call)?;
    edit_disk(zstack, call, |offering| offering.enabled = enabled).await
}

async fn delete_disk(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    delete_mode(call)?;
    let id = DiskOfferingId(call.path_id("uuid", DiskOfferingId::NOUN)?);
    let removed = zstack.core.remove_entry::<DiskOffering>(&call.caller, id).await;
    removed.map_err(|error| named(error, "uuid"))?;
    Ok(Started::Done(json!({})))
}
