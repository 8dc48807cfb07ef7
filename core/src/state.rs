//! What is legal in which power state: one table, for every dialect. A dialect that accepts blindly (Guest
//! REST power calls) still runs against this table; its refusal then becomes a failed job.
//!
//! ```text
//!              start                    suspend
//!   off ────────────────▶ running ────────────────▶ paused
//!   crashed ◀──(fault)──   │  ▲ ◀────────────────     │
//!    ▲                     │  │       resume          │
//!    │ shutdown            │  ╰── reboot, reset       │
//!    ╰── shutting_down ◀───┤                          │
//!                          ╰───── force_off ──▶ off ◀─╯
//! ```

use crate::command::{Command, PowerAction};
use crate::error::{Error, Result};
use crate::model::{PowerState, Vm};

/// What a power action meets in a power state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do it.
    Legal,
    /// Nothing to do: it is so already.
    AlreadySo,
    /// Not now.
    Illegal,
}

/// The table: may `action` begin in `state`?
pub const fn verdict(action: PowerAction, state: PowerState) -> Verdict {
    use PowerAction as A;
    use PowerState as S;
    match (action, state) {
        (_, S::NoState) => Verdict::Illegal,

        (A::Start, S::Off | S::Crashed | S::Suspended) => Verdict::Legal,
        (A::Start, S::Running | S::Blocked) => Verdict::AlreadySo,
        (A::Start, S::Paused | S::ShuttingDown) => Verdict::Illegal,

        (A::Shutdown, S::Running | S::Blocked | S::ShuttingDown) => Verdict::Legal,
        (A::Shutdown, S::Off | S::Crashed) => Verdict::AlreadySo,
        (A::Shutdown, S::Paused | S::Suspended) => Verdict::Illegal,

        (A::ForceOff, S::Running | S::Blocked | S::Paused | S::ShuttingDown | S::Suspended) => Verdict::Legal,
        (A::ForceOff, S::Off | S::Crashed) => Verdict::AlreadySo,

        (A::Reboot | A::Reset, S::Running | S::Blocked) => Verdict::Legal,
        (A::Reset, S::Paused) => Verdict::Legal,
        (A::Reboot, S::Paused) => Verdict::Illegal,
        (A::Reboot | A::Reset, S::Off | S::Crashed | S::ShuttingDown | S::Suspended) => Verdict::Illegal,

        (A::ForceReboot, S::Running | S::Blocked | S::Paused | S::ShuttingDown | S::Suspended) => {
            Verdict::Legal
        }
        (A::ForceReboot, S::Off | S::Crashed) => Verdict::Illegal,

        (A::Suspend, S::Running | S::Blocked) => Verdict::Legal,
        (A::Suspend, S::Paused) => Verdict::AlreadySo,
        (A::Suspend, S::Off | S::Crashed | S::ShuttingDown | S::Suspended) => Verdict::Illegal,

        (A::Resume, S::Paused) => Verdict::Legal,
        (A::Resume, S::Running | S::Blocked) => Verdict::AlreadySo,
        (A::Resume, S::Off | S::Crashed | S::ShuttingDown | S::Suspended) => Verdict::Illegal,
    }
}

/// Judges a command against the VM as it is seen now.
///
/// # Errors
/// `IllegalState` with the state and the action in words.
pub fn judge(command: &Command, vm: &Vm) -> Result<Verdict> {
    match command {
        Command::CreateVm(_) => Ok(Verdict::Legal),
        Command::DeleteVm(_) => Ok(Verdict::Legal),
        Command::Power(power) => match verdict(power.action, vm.power()) {
            Verdict::Illegal => Err(refusal(power.action, vm.id, vm.power())),
            legal => Ok(legal),
        },
    }
}

/// Refuses a change of power for a VM that only waits to be removed or recovered.
///
/// # Errors
/// `IllegalState`.
pub fn standing(vm: &Vm) -> Result<()> {
    let refused = |why: &str| Err(Error::illegal_state("vm", vm.id, why));
    if vm.record.fault.is_some() {
        refused("its creation failed, it can only be deleted")
    } else if vm.record.trashed_at.is_some() {
        refused("it is in the trash, recover it first")
    } else {
        Ok(())
    }
}

/// The refusal of `action` in `state`, in words.
pub fn refusal(action: PowerAction, vm: crate::model::VmId, state: PowerState) -> Error {
    let (action, state) = (
        action.as_ref().replace('_', " "),
        state.as_ref().replace('_', " "),
    );
    Error::illegal_state(
        "vm",
        vm,
        format!("cannot {action} a vm whose power state is {state}"),
    )
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn the_table_says_what_it_is_meant_to_say() {
        // In the order of the states: no_state running blocked paused shutting_down off crashed suspended.
        // y: do it, =: it is so already, -: not now.
        let table = [
            (PowerAction::Start, "-==--yyy"),
            (PowerAction::Shutdown, "-yy-y==-"),
            (PowerAction::ForceOff, "-yyyy==y"),
            (PowerAction::Reboot, "-yy-----"),
            (PowerAction::Reset, "-yyy----"),
            (PowerAction::ForceReboot, "-yyyy--y"),
            (PowerAction::Suspend, "-yy=----"),
            (PowerAction::Resume, "-==y----"),
        ];
        assert_eq!(table.len(), PowerAction::iter().count());
        for (action, expected) in table {
            let judged: String = PowerState::iter()
                .map(|state| match verdict(action, state) {
                    Verdict::Legal => 'y',
                    Verdict::AlreadySo => '=',
                    Verdict::Illegal => '-',
                })
                .collect();
            assert_eq!(judged, expected, "{action:?}");
        }
    }

    #[test]
    fn every_action_is_legal_somewhere_and_none_without_a_state() {
        for action in PowerAction::iter() {
            assert!(
                PowerState::iter().any(|state| verdict(action, state) == Verdict::Legal),
                "{action:?}"
            );
            assert_eq!(
                verdict(action, PowerState::NoState),
                Verdict::Illegal,
                "{action:?}"
            );
        }
    }

    #[test]
    fn an_action_that_reaches_a_state_finds_it_already_so() {
        let reached = [
            (PowerAction::Start, PowerState::Running),
            (PowerAction::Shutdown, PowerState::Off),
            (PowerAction::ForceOff, PowerState::Off),
            (PowerAction::Suspend, PowerState::Paused),
            (PowerAction::Resume, PowerState::Running),
        ];
        for (action, state) in reached {
            assert_eq!(verdict(action, state), Verdict::AlreadySo, "{action:?}");
        }
    }
}
