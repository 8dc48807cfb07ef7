//! Machines: one row for each operation, and a file for each family of them.

mod boot;
mod candidates;
mod clone;
mod console;
mod create;
mod destroy;
mod guest;
pub(crate) mod inventory;
mod media;
mod migrate;
mod nic;
mod power;
mod recorded;
pub(crate) mod state;
mod tags;
mod update;

use std::sync::Arc;

use babelvisor_core::Error;
use babelvisor_core::model::{Caller, Job, Vm, VmChange, VmId};

pub(crate) use inventory::Stamp;

use crate::decode::Call;
use crate::operations::{Row, Started, Told, boxed, job, sync};
use crate::{Zstack, encode};

/// Every operation on machines that is built.
pub(crate) const ROWS: &[Row] = &[
    job("CreateVmInstance", boxed!(create::create), boxed!(vm_of, told)),
    job(
        "DestroyVmInstance",
        boxed!(destroy::destroy),
        boxed!(nothing, told),
    ),
    job("RecoverVmInstance", boxed!(destroy::recover), boxed!(vm_of, told)),
    job(
        "ExpungeVmInstance",
        boxed!(destroy::expunge),
        boxed!(nothing, told),
    ),
    job("StartVmInstance", boxed!(power::start), boxed!(vm_of, told)),
    job("StopVmInstance", boxed!(power::stop), boxed!(vm_of, told)),
    job("RebootVmInstance", boxed!(power::reboot), boxed!(vm_of, told)),
    job("PauseVmInstance", boxed!(power::pause), boxed!(vm_of, told)),
    job("ResumeVmInstance", boxed!(power::resume), boxed!(vm_of, told)),
    job("UpdateVmInstance", boxed!(update::update), boxed!(vm_of, told)),
    sync("GetVmConsoleAddress", boxed!(console::address)),
    job(
        "ChangeInstanceOffering",
        boxed!(update::change_offering),
        boxed!(vm_of, told),
    ),
    job("AttachL3NetworkToVm", boxed!(nic::attach), boxed!(vm_of, told)),
    job("DetachL3NetworkFromVm", boxed!(nic::detach), boxed!(vm_of, told)),
    job("UpdateVmNicMac", boxed!(nic::update_mac), boxed!(vm_of, told)),
    job("SetNicQoS", boxed!(nic::set_limits), boxed!(nothing, told)),
    sync("GetNicQoS", boxed!(nic::limits)),
    job("DeleteNicQoS", boxed!(nic::remove_limit), boxed!(nothing, told)),
    job(
        "AttachIsoToVmInstance",
        boxed!(media::attach),
        boxed!(vm_of, told),
    ),
    job(
        "DetachIsoFromVmInstance",
        boxed!(media::detach),
        boxed!(vm_of, told),
    ),
    sync("GetCandidateIsoForAttachingVm", boxed!(media::candidates)),
    sync("GetCandidateVmForAttachingIso", boxed!(media::machines)),
    job(
        "SetVmConsolePassword",
        boxed!(console::set_password),
        boxed!(vm_of, told),
    ),
    sync("GetVmConsolePassword", boxed!(console::password)),
    job(
        "DeleteVmConsolePassword",
        boxed!(console::delete_password),
        boxed!(vm_of, told),
    ),
    sync("GetVmBootOrder", boxed!(boot::get)),
    job("SetVmBootOrder", boxed!(boot::set), boxed!(vm_of, told)),
    job("SetVmSshKey", boxed!(guest::set_ssh_key), boxed!(vm_of, told)),
    sync("GetVmSshKey", boxed!(guest::ssh_key)),
    job(
        "DeleteVmSshKey",
        boxed!(guest::delete_ssh_key),
        boxed!(vm_of, told),
    ),
    job(
        "SetVmHostname",
        boxed!(guest::set_hostname),
        boxed!(nothing, told),
    ),
    sync("GetVmHostname", boxed!(guest::hostname)),
    job(
        "DeleteVmHostname",
        boxed!(guest::delete_hostname),
        boxed!(nothing, told),
    ),
    job("SetVmStaticIp", boxed!(guest::set_address), boxed!(nothing, told)),
    job(
        "DeleteVmStaticIp",
        boxed!(guest::delete_address),
        boxed!(vm_of, told),
    ),
    job(
        "ChangeVmPassword",
        boxed!(guest::change_password),
        boxed!(nothing, told),
    ),
    job("CloneVmInstance", boxed!(clone::clone), boxed!(clone::told, told)),
    job("MigrateVm", boxed!(migrate::migrate), boxed!(vm_of, told)),
    sync(
        "GetVmMigrationCandidateHosts",
        boxed!(candidates::migration_hosts),
    ),
    sync(
        "GetVmStartingCandidateClustersHosts",
        boxed!(candidates::starting_hosts),
    ),
    sync(
        "GetCandidateZonesClustersHostsForCreatingVm",
        boxed!(candidates::destinations),
    ),
    sync(
        "GetCandidatePrimaryStoragesForCreatingVm",
        boxed!(candidates::storages),
    ),
    sync("GetVmAttachableL3Network", boxed!(candidates::networks)),
    sync("GetVmAttachableDataVolume", boxed!(candidates::volumes)),
    sync("GetVmCapabilities", boxed!(candidates::capabilities)),
    sync(
        "GetInterdependentL3NetworksImages",
        boxed!(candidates::interdependent),
    ),
    job(
        "SetVmInstanceHaLevel",
        boxed!(recorded::set_ha_level),
        boxed!(nothing, told),
    ),
    sync("GetVmInstanceHaLevel", boxed!(recorded::ha_level)),
    job(
        "DeleteVmInstanceHaLevel",
        boxed!(recorded::delete_ha_level),
        boxed!(nothing, told),
    ),
    job("SetVmQga", boxed!(recorded::set_qga), boxed!(nothing, told)),
    sync("GetVmQga", boxed!(recorded::qga)),
    job("SetVmRDP", boxed!(recorded::set_rdp), boxed!(nothing, told)),
    sync("GetVmRDP", boxed!(recorded::rdp)),
    job(
        "SetVmMonitorNumber",
        boxed!(recorded::set_monitors),
        boxed!(nothing, told),
    ),
    sync("GetVmMonitorNumber", boxed!(recorded::monitors)),
];

impl Zstack {
    /// The machine that the path names, those in the trash included.
    ///
    /// # Errors
    /// `NotFound` for one that does not exist, or not for this caller.
    pub(crate) async fn vm_in(&self, call: &Call, parameter: &str) -> Result<Arc<Vm>, Error> {
        let id = VmId(call.path_id(parameter, VmId::NOUN)?);
        self.core.vm(&call.caller, id).await.map_err(|mut error| {
            error.field = Some(parameter.to_owned());
            error
        })
    }

    /// `{"inventory": …}` of a machine as it is now.
    pub(crate) fn vm_body(&self, vm: &Vm) -> Result<bytes::Bytes, Error> {
        Ok(encode::inventory(&self.vm_json(&self.core.now(), vm)?))
    }

    /// The same as a value, for a call that is done at once.
    pub(crate) fn vm_value(&self, vm: &Vm) -> Result<serde_json::Value, Error> {
        let machine = serde_json::to_value(self.vm_inventory(&self.core.now(), vm));
        let machine =
            machine.map_err(|error| Error::internal(format!("an answer cannot be encoded: {error}")))?;
        Ok(serde_json::json!({ "inventory": machine }))
    }
}

/// Gives changes of hardware or settings to the core.
async fn change(zstack: &Zstack, call: &Call, vm: VmId, changes: Vec<VmChange>) -> Result<Started, Error> {
    let job = zstack
        .core
        .change_vm(&call.caller, vm, changes, call.options.clone())
        .await?;
    Ok(Started::Job(Box::new(job)))
}

/// A job's machine as it is when the client asks.
async fn vm_of(zstack: &Zstack, caller: &Caller, job: &Job) -> Result<Told, Error> {
    let Some(id) = job.command.vm() else {
        return Ok(Told::Result(encode::nothing()));
    };
    match zstack.core.vm(caller, id).await {
        Ok(vm) => zstack.vm_body(&vm).map(Told::Result),
        // It is gone since: that the job succeeded is all that there is to tell.
        Err(_) => Ok(Told::Result(encode::nothing())),
    }
}

/// A success without a result.
async fn nothing(_: &Zstack, _: &Caller, _: &Job) -> Result<Told, Error> {
    Ok(Told::Result(encode::nothing()))
}
