//! Destroy, recover, expunge: into the trash, out of it, and away for good.

use babelvisor_core::command::{Command, DeleteVm};
use babelvisor_core::model::{Vm, VmId};
use babelvisor_core::{Error, ErrorKind};
use serde_json::json;

use crate::Zstack;
use crate::decode::Call;
use crate::operations::Started;

/// `DestroyVmInstance`. What is not there is as good as destroyed, if its uuid is one.
pub(super) async fn destroy(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let done = || Ok(Started::Done(json!({})));
    let vm = match zstack.vm_in(call, "uuid").await {
        Ok(vm) => vm,
        Err(error) if error.kind == ErrorKind::NotFound && call.path_id("uuid", VmId::NOUN).is_ok() => {
            return done();
        }
        Err(error) => return Err(error),
    };
    if vm.record.trashed_at.is_some() {
        return done();
    }
    let job = zstack
        .core
        .trash_vm(&call.caller, vm.id, call.options.clone())
        .await?;
    Ok(Started::Job(Box::new(job)))
}

/// `RecoverVmInstance`: it is stopped then.
pub(super) async fn recover(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    destroyed(&vm)?;
    let vm = zstack.core.recover_vm(&call.caller, vm.id).await?;
    Ok(Started::Done(zstack.vm_value(&vm)?))
}

/// `ExpungeVmInstance`: the machine and its root volume go; data volumes stay, as they do in the original.
pub(super) async fn expunge(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "uuid").await?;
    destroyed(&vm)?;
    let command = Command::DeleteVm(DeleteVm {
        vm: vm.id,
        volumes: true,
        keep_data_volumes: true,
    });
    let job = zstack
        .core
        .submit(&call.caller, command, call.options.clone())
        .await?;
    Ok(Started::Job(Box::new(job)))
}

/// Refuses a machine that is not in the trash, or on its way out of the world.
fn destroyed(vm: &Vm) -> Result<(), Error> {
    let shown = super::state::state(vm);
    if shown == "Destroyed" {
        return Ok(());
    }
    let text = format!(
        "current vm instance state[{shown}] doesn't allow to proceed message, allowed states are [Destroyed]"
    );
    Err(Error::illegal_state(VmId::NOUN, vm.id, text))
}
