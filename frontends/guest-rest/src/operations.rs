//! The operations of this dialect, by the ids of the contract.

use babelvisor_core::command::PowerAction;

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Get,
    List,
    Search,
    Update,
    Delete,
    Power(PowerAction),
}

/// `force_reboot` is off and on again, never the reset button: the node of the original destroys and creates
/// the domain.
const ACTIONS: [(&str, Action); 13] = [
    ("guest.create", Action::Create),
    ("guest.get", Action::Get),
    ("guest.list", Action::List),
    ("guest.search", Action::Search),
    ("guest.update", Action::Update),
    ("guest.delete", Action::Delete),
    ("guest.reboot", Action::Power(PowerAction::Reboot)),
    ("guest.force_reboot", Action::Power(PowerAction::ForceReboot)),
    ("guest.shutdown", Action::Power(PowerAction::Shutdown)),
    ("guest.force_shutdown", Action::Power(PowerAction::ForceOff)),
    ("guest.boot", Action::Power(PowerAction::Start)),
    ("guest.suspend", Action::Power(PowerAction::Suspend)),
    ("guest.resume", Action::Power(PowerAction::Resume)),
];

impl Action {
    /// The action of the operation `id`; none for one that is not built.
    pub(crate) fn of(id: &str) -> Option<Self> {
        ACTIONS
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, action)| *action)
    }
}

#[cfg(test)]
mod tests {
    use babelvisor_schemas::{Dialect, contract};

    use super::*;

    #[test]
    fn exactly_the_operations_that_the_contract_calls_built_are_here() {
        for operation in contract(Dialect::GuestRest).operations() {
            assert_eq!(
                Action::of(&operation.id).is_some(),
                operation.built,
                "{}",
                operation.id
            );
        }
    }
}
