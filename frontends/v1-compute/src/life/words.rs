//! The dialect's words for what a VM is and does: `state`, `ga_state` and `action`. The lists, the details, the
//! filters and the counts all speak from these tables.
//!
//! A hibernated VM is `shutoff` with the action `save`: that is what the product's desktop client takes for asleep
//! (it offers "wake" for the state `pmsuspend` and for the action `save`); the document leaves it open.

use babelvisor_core::model::{Activity, AgentState, PowerState, Vm, VmRecord};

use super::details::more;

/// Set in a record's settings where the VM's disks are read in by the call that makes it.
pub(crate) const IMPORTED: &str = "compute.imported";

/// What a VM does, in the document's words and those that its clients know besides.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::AsRefStr,
    strum::EnumString,
    strum::EnumIter,
)]
#[strum(serialize_all = "lowercase")]
pub(crate) enum Action {
    /// Nothing.
    Noaction,
    /// It is copied, or is the copy.
    Cloning,
    /// It hibernates, or has.
    Save,
    /// It moves between hosts.
    Migrating,
    /// Anything that has no word of its own.
    Pending,
    /// Its disks are read in.
    Importing,
    /// It wakes up.
    Restoring,
    /// A disk is written out.
    Exporting,
    /// Reading its disks in has failed.
    Importfail,
    /// Making it has failed.
    Error,
}

/// `state`.
pub(crate) const fn state(power: PowerState) -> &'static str {
    match power {
        PowerState::NoState => "nostate",
        PowerState::Running => "running",
        PowerState::Blocked => "blocked",
        PowerState::Paused => "paused",
        PowerState::ShuttingDown => "shutdown",
        PowerState::Off => "shutoff",
        PowerState::Crashed => "crashed",
        PowerState::Suspended => "pmsuspend",
    }
}

/// `ga_state`.
pub(crate) const fn agent(agent: AgentState) -> &'static str {
    match agent {
        AgentState::Connected => "connected",
        AgentState::Disconnected | AgentState::Absent => "disconnected",
    }
}

/// Whether the VM's memory lies on disk.
pub(crate) fn asleep(vm: &Vm) -> bool {
    vm.facts
        .as_ref()
        .is_some_and(|facts| facts.saved && facts.power == PowerState::Off)
}

/// `action`.
pub(crate) fn action(vm: &Vm) -> Action {
    match vm.activity {
        // The copy shows as its source does.
        Some(Activity::Creating) if vm.record.settings.contains_key(more::PARENT) => Action::Cloning,
        Some(activity) => under_way(activity),
        None if vm.record.fault.is_some() && imported(&vm.record) => Action::Importfail,
        None if vm.record.fault.is_some() => Action::Error,
        None if asleep(vm) => Action::Save,
        None => Action::Noaction,
    }
}

const fn under_way(activity: Activity) -> Action {
    match activity {
        Activity::Cloning => Action::Cloning,
        Activity::Saving => Action::Save,
        Activity::Restoring => Action::Restoring,
        Activity::Migrating => Action::Migrating,
        Activity::Importing => Action::Importing,
        Activity::Exporting => Action::Exporting,
        Activity::Creating
        | Activity::Starting
        | Activity::Stopping
        | Activity::Rebooting
        | Activity::Suspending
        | Activity::Resuming
        | Activity::Reconfiguring
        | Activity::Snapshotting
        | Activity::Deleting => Action::Pending,
    }
}

fn imported(record: &VmRecord) -> bool {
    record.settings.contains_key(IMPORTED)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn the_eight_states_have_eight_words() {
        let words: Vec<&str> = PowerState::iter().map(state).collect();
        assert_eq!(
            words,
            [
                "nostate",
                "running",
                "blocked",
                "paused",
                "shutdown",
                "shutoff",
                "crashed",
                "pmsuspend"
            ]
        );
    }

    #[test]
    fn every_action_has_one_word_and_is_found_by_it() {
        let words: HashSet<String> = Action::iter().map(|action| action.as_ref().to_owned()).collect();
        assert_eq!(words.len(), Action::iter().count());
        for action in Action::iter() {
            assert_eq!(action.as_ref().parse(), Ok(action));
        }
        assert!("Noaction".parse::<Action>().is_err());
    }
}
