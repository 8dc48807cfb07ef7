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

use crate::command::{Command, PowerAction, SnapshotAction, VolumeAction};
use crate::error::{Error, Result};
use crate::model::{ChangeKind, PowerState, Vm, VmChange, VmFacts};

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

        (A::Save, S::Running | S::Blocked | S::Paused) => Verdict::Legal,
        (A::Save, S::Off | S::Crashed | S::ShuttingDown | S::Suspended) => Verdict::Illegal,

        (A::Restore, S::Off) => Verdict::Legal,
        (A::Restore, S::Running | S::Blocked) => Verdict::AlreadySo,
        (A::Restore, S::Paused | S::Crashed | S::ShuttingDown | S::Suspended) => Verdict::Illegal,
    }
}

/// As [`verdict`], knowing whether memory is saved: only that can be restored, and what is saved is saved already.
pub const fn verdict_on(action: PowerAction, state: PowerState, saved: bool) -> Verdict {
    use PowerAction as A;
    use PowerState as S;
    match (action, state, saved) {
        (A::Restore, S::Off, false) => Verdict::Illegal,
        (A::Save, S::Off, true) => Verdict::AlreadySo,
        _ => verdict(action, state),
    }
}

/// When a change of hardware or settings may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// While the VM is off.
    Off,
    /// While its guest runs.
    Running,
    /// Whenever its state is known and not about to change by itself.
    Standing,
}

/// The table of changes.
pub const fn occasion(change: ChangeKind) -> Occasion {
    use ChangeKind as C;
    match change {
        C::Video => Occasion::Off,
        C::GuestPassword => Occasion::Running,
        C::Cpu
        | C::Memory
        | C::BootOrder
        | C::Autostart
        | C::AttachDisk
        | C::DetachDisk
        | C::DiskQos
        | C::AttachNic
        | C::DetachNic
        | C::UpdateNic
        | C::NicQos
        | C::InsertMedium
        | C::EjectMedium
        | C::ConsolePassword => Occasion::Standing,
    }
}

/// Whether a change may be made on `occasion` in `state`.
pub const fn fits(occasion: Occasion, state: PowerState) -> bool {
    use PowerState as S;
    match (occasion, state) {
        (_, S::NoState | S::ShuttingDown | S::Suspended) => false,
        (Occasion::Off | Occasion::Standing, S::Off | S::Crashed) => true,
        (Occasion::Running | Occasion::Standing, S::Running | S::Blocked) => true,
        (Occasion::Standing, S::Paused) => true,
        (Occasion::Off, S::Running | S::Blocked | S::Paused) => false,
        (Occasion::Running, S::Off | S::Crashed | S::Paused) => false,
    }
}

/// Judges one change against what the backend reports.
///
/// # Errors
/// `IllegalState`, saying what would have to be so.
pub fn judge_change(change: &VmChange, facts: &VmFacts) -> Result<()> {
    let refused = |why: String| Err(Error::illegal_state("vm", facts.id, why));
    let kind = change.kind();
    if !fits(occasion(kind), facts.power) {
        let wanted = match occasion(kind) {
            Occasion::Off => "the vm must be off",
            Occasion::Running => "the vm must be running",
            Occasion::Standing => "the vm must be off, running or paused",
        };
        let (kind, state) = (
            kind.as_ref().replace('_', " "),
            facts.power.as_ref().replace('_', " "),
        );
        return refused(format!(
            "cannot change {kind} while the power state is {state}: {wanted}"
        ));
    }
    let alive = matches!(
        facts.power,
        PowerState::Running | PowerState::Blocked | PowerState::Paused
    );
    match change {
        VmChange::Cpu { max, .. } if alive && *max != facts.cpu.max => refused(format!(
            "the most vcpus can only be changed while the vm is off, it runs with {}",
            facts.cpu.max
        )),
        VmChange::Memory { max, .. } if alive && *max != facts.memory.max => refused(format!(
            "the most memory can only be changed while the vm is off, it runs with {} bytes",
            facts.memory.max
        )),
        VmChange::Cpu { .. }
        | VmChange::Memory { .. }
        | VmChange::BootOrder { .. }
        | VmChange::Autostart { .. }
        | VmChange::Video { .. }
        | VmChange::AttachDisk(_)
        | VmChange::DetachDisk { .. }
        | VmChange::DiskQos { .. }
        | VmChange::AttachNic(_)
        | VmChange::DetachNic { .. }
        | VmChange::UpdateNic { .. }
        | VmChange::NicQos { .. }
        | VmChange::InsertMedium { .. }
        | VmChange::EjectMedium { .. }
        | VmChange::ConsolePassword { .. }
        | VmChange::GuestPassword { .. } => Ok(()),
    }
}

/// Judges a command against the VM as it is seen now.
///
/// # Errors
/// `IllegalState` with the state and the action in words.
pub fn judge(command: &Command, vm: &Vm) -> Result<Verdict> {
    let fit = |occasion: Occasion, what: &str| {
        if fits(occasion, vm.power()) {
            return Ok(Verdict::Legal);
        }
        let state = vm.power().as_ref().replace('_', " ");
        let text = format!("cannot {what} a vm whose power state is {state}");
        Err(Error::illegal_state("vm", vm.id, text))
    };
    match command {
        Command::CreateVm(_) | Command::DeleteVm(_) | Command::TrashVm(_) => Ok(Verdict::Legal),
        Command::Power(power) => {
            let saved = vm.facts.as_ref().is_some_and(|facts| facts.saved);
            match verdict_on(power.action, vm.power(), saved) {
                Verdict::Illegal => Err(refusal(power.action, vm.id, vm.power())),
                legal => Ok(legal),
            }
        }
        Command::ChangeVm(change) => match &vm.facts {
            Some(facts) => {
                change
                    .changes
                    .iter()
                    .try_for_each(|change| judge_change(change, facts))?;
                Ok(Verdict::Legal)
            }
            None => fit(Occasion::Standing, "change"),
        },
        Command::Snapshot(job) => match &job.action {
            SnapshotAction::Create(spec) if spec.memory => fit(Occasion::Running, "snapshot the memory of")
                .or_else(|refused| match vm.power() {
                    PowerState::Paused => Ok(Verdict::Legal),
                    _ => Err(refused),
                }),
            SnapshotAction::Create(_) => fit(Occasion::Standing, "snapshot"),
            SnapshotAction::Revert { .. } => fit(Occasion::Standing, "revert"),
            SnapshotAction::Delete { .. } => fit(Occasion::Standing, "remove a snapshot of"),
        },
        Command::Volume(job) => match &job.action {
            VolumeAction::Create(_) => Ok(Verdict::Legal),
            VolumeAction::Resize { .. } => fit(Occasion::Standing, "resize a volume of"),
            VolumeAction::Delete { .. } => Err(Error::illegal_state(
                "vm",
                vm.id,
                "the volume is attached to this vm, detach it first",
            )),
        },
        // A disk that a guest writes to meanwhile would be copied torn.
        Command::Image(_) => fit(Occasion::Off, "copy a disk of"),
        Command::MigrateVm(_) => fit(Occasion::Running, "migrate").or_else(|refused| match vm.power() {
            PowerState::Paused => Ok(Verdict::Legal),
            _ => Err(refused),
        }),
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
            (PowerAction::Save, "-yyy----"),
            (PowerAction::Restore, "-==--y--"),
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
    fn only_saved_memory_is_restored() {
        let off = PowerState::Off;
        assert_eq!(verdict_on(PowerAction::Restore, off, false), Verdict::Illegal);
        assert_eq!(verdict_on(PowerAction::Restore, off, true), Verdict::Legal);
        assert_eq!(verdict_on(PowerAction::Save, off, true), Verdict::AlreadySo);
        assert_eq!(verdict_on(PowerAction::Start, off, true), Verdict::Legal);
    }

    #[test]
    fn changes_have_their_occasions() {
        // In the order of the states: no_state running blocked paused shutting_down off crashed suspended.
        let table = [
            (Occasion::Off, "-----yy-"),
            (Occasion::Running, "-yy-----"),
            (Occasion::Standing, "-yyy-yy-"),
        ];
        for (occasion, expected) in table {
            let judged: String = PowerState::iter()
                .map(|state| if fits(occasion, state) { 'y' } else { '-' })
                .collect();
            assert_eq!(judged, expected, "{occasion:?}");
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
            (PowerAction::Restore, PowerState::Running),
        ];
        for (action, state) in reached {
            assert_eq!(verdict(action, state), Verdict::AlreadySo, "{action:?}");
        }
    }
}
