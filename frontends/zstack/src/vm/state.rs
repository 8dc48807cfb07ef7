//! What a machine's state is called here.
//!
//! | canonical | here |
//! |---|---|
//! | in the trash | Destroyed; Expunging while it is being removed |
//! | creation failed | Error |
//! | being created | Created |
//! | its backend does not answer, nothing known | Unknown |
//! | starting, restoring | Starting |
//! | shutting down, saving | Stopping |
//! | rebooting, suspending, resuming, migrating, being deleted | Rebooting, Pausing, Resuming, Migrating, Destroying |
//! | running, blocked | Running |
//! | paused, suspended by its guest | Paused |
//! | off, crashed | Stopped |
//!
//! Any other activity (a disk being read, hardware being changed) shows as the power state below it.

use babelvisor_core::model::{Activity, PowerState, Vm};

/// The state of `vm`.
pub(crate) fn state(vm: &Vm) -> &'static str {
    let record = &vm.record;
    if record.trashed_at.is_some() {
        return match vm.activity {
            Some(Activity::Deleting) => "Expunging",
            _ => "Destroyed",
        };
    }
    if let Some(shown) = vm.activity.and_then(in_activity) {
        return shown;
    }
    if record.fault.is_some() {
        return "Error";
    }
    if !vm.reachable {
        return "Unknown";
    }
    match vm.power() {
        PowerState::NoState => "Unknown",
        PowerState::Running | PowerState::Blocked => "Running",
        PowerState::Paused | PowerState::Suspended => "Paused",
        PowerState::ShuttingDown => "Stopping",
        PowerState::Off | PowerState::Crashed => "Stopped",
    }
}

/// What an activity is called; none for one that this dialect has no word for.
const fn in_activity(activity: Activity) -> Option<&'static str> {
    match activity {
        Activity::Creating | Activity::Importing => Some("Created"),
        Activity::Starting | Activity::Restoring => Some("Starting"),
        Activity::Stopping | Activity::Saving => Some("Stopping"),
        Activity::Rebooting => Some("Rebooting"),
        Activity::Suspending => Some("Pausing"),
        Activity::Resuming => Some("Resuming"),
        Activity::Migrating => Some("Migrating"),
        Activity::Deleting => Some("Destroying"),
        Activity::Cloning | Activity::Exporting | Activity::Reconfiguring | Activity::Snapshotting => None,
    }
}

/// Whether a machine is on a host now, or on its way there: what decides between `hostUuid` and `lastHostUuid`.
pub(crate) fn placed(vm: &Vm) -> bool {
    match vm.power() {
        PowerState::Running
        | PowerState::Blocked
        | PowerState::Paused
        | PowerState::ShuttingDown
        | PowerState::Suspended => true,
        PowerState::NoState | PowerState::Off | PowerState::Crashed => false,
    }
}
