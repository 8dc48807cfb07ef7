//! Whether a command is legal now: the state table, and what trash and faults forbid.

use crate::command::Command;
use crate::error::{Error, Result};
use crate::model::Vm;
use crate::state;

/// Refuses what the VM's power state, fault or trash mark forbids.
pub(super) fn check(command: &Command, vm: &Vm) -> Result<()> {
    match command {
        Command::CreateVm(_) | Command::DeleteVm(_) => Ok(()),
        Command::Power(power) => {
            if vm.record.fault.is_some() {
                return Err(Error::illegal_state(
                    "vm",
                    vm.id,
                    "its creation failed, it can only be deleted",
                ));
            }
            if vm.record.trashed_at.is_some() {
                return Err(Error::illegal_state(
                    "vm",
                    vm.id,
                    "it is in the trash, recover it first",
                ));
            }
            // A job that is under way will change the state before this one begins; it judges again then.
            if vm.activity.is_some() {
                return Ok(());
            }
            debug_assert_eq!(power.vm, vm.id);
            state::judge(command, vm).map(|_| ())
        }
    }
}
