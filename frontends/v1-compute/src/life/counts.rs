//! How many VMs are in which state and do what: the answer of state/summary.
//!
//! A VM is counted under its state and, besides, under its action: the document names both groups side by side and
//! does not say that one excludes the other.

use babelvisor_core::model::{PowerState, Vm};
use serde::Serialize;

use super::words::{self, Action};

/// The answer's `data`, fields in the order of the document.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
pub(crate) struct Counts {
    total: u64,
    no_state_count: u64,
    running_count: u64,
    blocked_count: u64,
    paused_count: u64,
    shutdown_count: u64,
    shutoff_count: u64,
    crashed_count: u64,
    pmsuspend_count: u64,
    cloning_count: u64,
    save_count: u64,
    migrating_count: u64,
    pending_count: u64,
    importing_count: u64,
    unknown_count: u64,
    restoring_count: u64,
}

impl Counts {
    /// Counts VMs.
    pub(crate) fn of<'v>(vms: impl Iterator<Item = &'v Vm>) -> Self {
        let mut counts = Self::default();
        for vm in vms {
            counts.total += 1;
            *counts.state(vm.power()) += 1;
            if !vm.reachable {
                counts.unknown_count += 1;
            }
            if let Some(count) = counts.action(words::action(vm)) {
                *count += 1;
            }
        }
        counts
    }

    const fn state(&mut self, state: PowerState) -> &mut u64 {
        match state {
            PowerState::NoState => &mut self.no_state_count,
            PowerState::Running => &mut self.running_count,
            PowerState::Blocked => &mut self.blocked_count,
            PowerState::Paused => &mut self.paused_count,
            PowerState::ShuttingDown => &mut self.shutdown_count,
            PowerState::Off => &mut self.shutoff_count,
            PowerState::Crashed => &mut self.crashed_count,
            PowerState::Suspended => &mut self.pmsuspend_count,
        }
    }

    const fn action(&mut self, action: Action) -> Option<&mut u64> {
        match action {
            Action::Cloning => Some(&mut self.cloning_count),
            Action::Save => Some(&mut self.save_count),
            Action::Migrating => Some(&mut self.migrating_count),
            Action::Pending => Some(&mut self.pending_count),
            Action::Importing => Some(&mut self.importing_count),
            Action::Restoring => Some(&mut self.restoring_count),
            Action::Noaction | Action::Exporting | Action::Importfail | Action::Error => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use babelvisor_core::model::Activity;

    use super::*;
    use crate::life::testing::vm;

    #[test]
    fn a_vm_counts_once_by_state_and_once_by_what_it_does() {
        let running = vm();
        let mut cloned = vm();
        cloned.activity = Some(Activity::Cloning);
        cloned.reachable = false;
        let mut asleep = vm();
        if let Some(facts) = &mut asleep.facts {
            let facts = Arc::make_mut(facts);
            (facts.power, facts.saved) = (PowerState::Off, true);
        }
        let counts = Counts::of([running, cloned, asleep].iter());
        let expected = Counts {
            total: 3,
            running_count: 2,
            shutoff_count: 1,
            cloning_count: 1,
            save_count: 1,
            unknown_count: 1,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
    }
}
