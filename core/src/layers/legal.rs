//! Whether a command is legal now: the state table, and what trash and faults forbid.

use crate::command::Command;
use crate::error::Result;
use crate::model::Vm;
use crate::state;

/// Refuses what the VM's power state, fault or trash mark forbids.
pub(super) fn check(command: &Command, vm: &Vm) -> Result<()> {
    match command {
        Command::CreateVm(_) | Command::DeleteVm(_) => Ok(()),
        Command::Power(_) => {
            state::standing(vm)?;
            // A job that is under way will change the state before this one begins; it judges again then.
            if vm.activity.is_some() {
                return Ok(());
            }
            state::judge(command, vm).map(|_| ())
        }
    }
}
