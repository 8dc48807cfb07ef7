//! Changes of the power state, for one VM and for several.
//!
//! The document wants the state that an action starts from: what is so already is an error here, although the core's
//! table would let it be. Which states those are is the core's table alone; the guest agent is asked for by reboot_ga
//! only, because the other actions do without it (they press the power button).

use babelvisor_core::command::{Command, Power, PowerAction};
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::{AgentState, Caller, PowerState, Vm};
use babelvisor_core::state::{self, Verdict};
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas::{AnswerWhen, Operation};
use serde_json::{Map, Value};

use super::batch;
use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::Data;
use crate::error::Fault;

/// What an operation does to a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Switch {
    /// This.
    Plain(PowerAction),
    /// Reboot, if the guest agent answers.
    ThroughAgent,
    /// Go on from saved memory, or wake a guest that went to sleep.
    Wake,
}

/// The operations without `batch_`.
const SWITCHES: [(&str, Switch); 10] = [
    ("start", Switch::Plain(PowerAction::Start)),
    ("shutdown", Switch::Plain(PowerAction::Shutdown)),
    ("shutoff", Switch::Plain(PowerAction::ForceOff)),
    ("reboot", Switch::Plain(PowerAction::Reboot)),
    ("reboot_ga", Switch::ThroughAgent),
    ("reset", Switch::Plain(PowerAction::Reset)),
    ("suspend", Switch::Plain(PowerAction::Suspend)),
    ("resume", Switch::Plain(PowerAction::Resume)),
    ("save", Switch::Plain(PowerAction::Save)),
    ("restore", Switch::Wake),
];

impl Switch {
    /// What the operation does; the same for its batch form.
    fn of(operation: &Operation) -> Option<Self> {
        let name = operation
            .id
            .trim_start_matches("compute.")
            .trim_start_matches("batch_");
        SWITCHES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, switch)| *switch)
    }

    fn action(self, vm: &Vm) -> Result<PowerAction, Fault> {
        match self {
            Self::Plain(action) => Ok(action),
            Self::Wake if vm.power() == PowerState::Suspended => Ok(PowerAction::Start),
            Self::Wake => Ok(PowerAction::Restore),
            Self::ThroughAgent => {
                let agent = vm
                    .facts
                    .as_ref()
                    .map_or_else(Default::default, |facts| facts.agent);
                // A VM that does not run has no agent either: of that, its state says more.
                if agent != AgentState::Connected && vm.power() == PowerState::Running {
                    let why = "the guest agent is not connected";
                    return Err(Error::illegal_state("vm", vm.id, why).into());
                }
                Ok(PowerAction::Reboot)
            }
        }
    }
}

impl V1Compute {
    /// `compute.start` and its sisters.
    pub(crate) async fn power(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let identifier = ComputeIdentifier::of(&call.params);
        self.switch(&call.caller, call.operation, &identifier).await?;
        Ok(Data::empty())
    }

    /// `compute.batch_start` and its sisters.
    pub(crate) async fn batch_power(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        batch::each(self, call, |caller, operation, identifier| async move {
            self.switch(caller, operation, &identifier)
                .await
                .map(|()| Map::new())
        })
        .await
    }

    async fn switch(
        &self,
        caller: &Caller,
        operation: &'static Operation,
        identifier: &ComputeIdentifier,
    ) -> Result<(), Fault> {
        let switch =
            Switch::of(operation).ok_or_else(|| Error::new(ErrorKind::NotImplemented, &*operation.id))?;
        let vm = self.machine(caller, identifier, false).await?;
        let action = switch.action(&vm)?;
        let command = Command::Power(Power { vm: vm.id, action });
        not_already_so(&command, &vm)?;
        self.change(caller, operation, command).await
    }

    /// Takes a change and waits for as long as the operation's contract says.
    pub(crate) async fn change(
        &self,
        caller: &Caller,
        operation: &Operation,
        command: Command,
    ) -> Result<(), Fault> {
        let job = self.core.submit(caller, command, SubmitOptions::REFUSE).await?;
        match operation.answer_when {
            AnswerWhen::Accepted | AnswerWhen::Started => {}
            AnswerWhen::Done => {
                self.core.wait_for_success(job.id, operation.longest_wait).await?;
            }
        }
        Ok(())
    }
}

/// Refuses an action whose end has been reached before it begins.
fn not_already_so(command: &Command, vm: &Vm) -> Result<(), Fault> {
    // A VM in the middle of something is refused as busy, whatever its state is at the moment.
    if vm.activity.is_some() || vm.record.fault.is_some() {
        return Ok(());
    }
    match state::judge(command, vm)? {
        Verdict::Legal | Verdict::Illegal => Ok(()),
        Verdict::AlreadySo => {
            let state = vm.power().as_ref().replace('_', " ");
            let why = format!(
                "cannot {} a vm whose power state is {state} already",
                command.name().replace('_', " ")
            );
            Err(Error::illegal_state("vm", vm.id, why).into())
        }
    }
}

/// The identifier of a batch item as the document prints it, with what `more` adds.
pub(super) fn printed(identifier: &ComputeIdentifier, more: Map<String, Value>) -> Value {
    let mut printed = match identifier.value() {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    for (name, value) in [
        ("vdc_agent", Value::from("")),
        ("vdc_agent_list", Value::Null),
        ("desktop_pool_uuid", Value::from("")),
    ] {
        printed.insert(name.to_owned(), value);
    }
    printed.extend(more);
    Value::Object(printed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use babelvisor_schemas::{Dialect, contract};

    use super::*;
    use crate::life::testing::vm;

    #[test]
    fn every_power_operation_has_its_action_and_its_batch_form_the_same() {
        for (name, switch) in SWITCHES {
            for id in [format!("compute.{name}"), format!("compute.batch_{name}")] {
                let operation = contract(Dialect::V1Compute).operation(&id).unwrap();
                assert_eq!(Switch::of(operation), Some(switch), "{id}");
            }
        }
        let list = contract(Dialect::V1Compute).operation("compute.list").unwrap();
        assert_eq!(Switch::of(list), None);
    }

    #[test]
    fn only_reboot_ga_asks_for_the_agent() {
        let mut machine = vm();
        assert_eq!(
            Switch::ThroughAgent.action(&machine).ok(),
            Some(PowerAction::Reboot)
        );
        if let Some(facts) = &mut machine.facts {
            Arc::make_mut(facts).agent = AgentState::Disconnected;
        }
        assert_eq!(Switch::ThroughAgent.action(&machine).unwrap_err().scode(), 22003);
        let plain = Switch::Plain(PowerAction::Shutdown);
        assert_eq!(plain.action(&machine).ok(), Some(PowerAction::Shutdown));
    }

    #[test]
    fn restore_also_wakes_a_guest_that_went_to_sleep() {
        let mut machine = vm();
        if let Some(facts) = &mut machine.facts {
            Arc::make_mut(facts).power = PowerState::Suspended;
        }
        assert_eq!(Switch::Wake.action(&machine).ok(), Some(PowerAction::Start));
    }

    #[test]
    fn what_is_so_already_is_refused_and_what_is_busy_is_left_to_the_store() {
        let mut machine = vm();
        let start = Command::Power(Power {
            vm: machine.id,
            action: PowerAction::Start,
        });
        assert_eq!(not_already_so(&start, &machine).unwrap_err().scode(), 22003);
        machine.activity = Some(babelvisor_core::model::Activity::Stopping);
        assert!(not_already_so(&start, &machine).is_ok());
    }
}
