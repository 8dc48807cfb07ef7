//! `UpdateVmInstance` and `ChangeInstanceOffering`: what the gateway remembers of a machine at once, its size by a
//! job. `0` for a size leaves it as it is.

use babelvisor_core::Error;
use babelvisor_core::model::{Flavor, FlavorId, Vm, VmChange};
use serde_json::Value;

use super::inventory::DEFAULT_NETWORK;
use crate::Zstack;
use crate::decode::Call;
use crate::operations::Started;

/// `UpdateVmInstance`. What is left out stays.
pub(super) async fn update(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    let name = call.text("name");
    // Empty text takes a description away.
    let description = call.body.get("description").and_then(Value::as_str);
    let network = call.id("defaultL3NetworkUuid", "network")?;
    let network = network
        .map(|id| zstack.network("defaultL3NetworkUuid", id))
        .transpose()?;
    let platform = call.text("platform");
    let changes = sizes(&vm, size(call, "cpuNum")?, size(call, "memorySize")?)?;
    let job = submit(zstack, call, &vm, changes).await?;
    let vm = zstack
        .core
        .annotate(&call.caller, vm.id, |record| {
            if let Some(name) = name {
                record.display_name = Some(name.to_owned());
            }
            if let Some(description) = description {
                record.remark = description.to_owned();
            }
            if let Some(platform) = platform {
                record.os = Some(platform.to_owned());
            }
            if let Some(network) = &network {
                let network = network.id.simple();
                record.settings.insert(DEFAULT_NETWORK.to_owned(), network);
            }
            Ok(())
        })
        .await?;
    match job {
        Some(job) => Ok(job),
        None => Ok(Started::Done(zstack.vm_value(&vm)?)),
    }
}

/// `ChangeInstanceOffering`: the sizes of another offering.
pub(super) async fn change_offering(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let id = FlavorId(call.needed_id("instanceOfferingUuid", FlavorId::NOUN)?);
    let flavor = zstack.entry::<Flavor>(call, "instanceOfferingUuid", id).await?;
    if !flavor.enabled {
        return Err(Error::invalid(
            "instanceOfferingUuid",
            format!("invalid field[instanceOfferingUuid], {} is disabled", flavor.name),
        ));
    }
    let changes = sizes(&vm, Some(u64::from(flavor.vcpus)), Some(flavor.memory))?;
    let job = submit(zstack, call, &vm, changes).await?;
    let vm = zstack
        .core
        .annotate(&call.caller, vm.id, |record| {
            record.flavor = Some(id);
            Ok(())
        })
        .await?;
    match job {
        Some(job) => Ok(job),
        None => Ok(Started::Done(zstack.vm_value(&vm)?)),
    }
}

/// A size of the wrapper; 0 is none.
fn size(call: &Call, name: &str) -> Result<Option<u64>, Error> {
    let Some(number) = call.number(name) else {
        return Ok(None);
    };
    let size = u64::try_from(number)
        .map_err(|_| Error::invalid(name, format!("invalid field[{name}], it cannot be negative")))?;
    Ok(Some(size).filter(|size| *size > 0))
}

/// What makes `vm` as large as asked; nothing for what it is already.
fn sizes(vm: &Vm, vcpus: Option<u64>, memory: Option<u64>) -> Result<Vec<VmChange>, Error> {
    let mut changes = Vec::new();
    let facts = vm.facts.as_deref();
    if let Some(vcpus) = vcpus.filter(|vcpus| *vcpus != u64::from(vm.vcpus())) {
        let vcpus = u32::try_from(vcpus)
            .map_err(|_| Error::invalid("cpuNum", "invalid field[cpuNum], so many vCPUs cannot be had"))?;
        changes.push(VmChange::Cpu {
            current: vcpus,
            max: vcpus.max(facts.map_or(0, |facts| facts.cpu.max)),
            topology: None,
        });
    }
    if let Some(memory) = memory.filter(|memory| *memory != vm.memory()) {
        changes.push(VmChange::Memory {
            current: memory,
            max: memory.max(facts.map_or(0, |facts| facts.memory.max)),
        });
    }
    Ok(changes)
}

async fn submit(
    zstack: &Zstack,
    call: &Call,
    vm: &Vm,
    changes: Vec<VmChange>,
) -> Result<Option<Started>, Error> {
    if changes.is_empty() {
        return Ok(None);
    }
    super::change(zstack, call, vm.id, changes).await.map(Some)
}
