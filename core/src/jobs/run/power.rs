//! Changing the power state.

use std::sync::Arc;

use crate::backend::Backend;
use crate::command::PowerAction;
use crate::error::{Error, Result};
use crate::jobs::context::JobContext;
use crate::jobs::undo::Undo;
use crate::model::{PowerState, VmFacts, VmId};
use crate::state::{self, Verdict};

pub(super) async fn change_power(context: &mut JobContext, vm: VmId, action: PowerAction) -> Result<()> {
    // The layers said so, too, unless the command was taken blindly or queued.
    if let Some(vm) = context.inventory.now().vms.get(&vm) {
        state::standing(vm)?;
    }
    match judge(context, vm, action).await? {
        Verdict::AlreadySo => Ok(()),
        Verdict::Illegal => {
            let power = context
                .inventory
                .now()
                .vms
                .get(&vm)
                .map_or(PowerState::NoState, |vm| vm.power());
            Err(state::refusal(action, vm, power))
        }
        Verdict::Legal => match action {
            PowerAction::ForceReboot => {
                power_step(context, "off", vm, PowerAction::ForceOff, None).await?;
                power_step(context, "start", vm, PowerAction::Start, None).await
            }
            PowerAction::Start
            | PowerAction::Shutdown
            | PowerAction::ForceOff
            | PowerAction::Reboot
            | PowerAction::Reset
            | PowerAction::Suspend
            | PowerAction::Resume
            | PowerAction::Save
            | PowerAction::Restore => power_step(context, action.as_ref(), vm, action, None).await,
        },
    }
}

/// Judges by the inventory; before saying no, or that nothing is to do, looks at the backend itself, because
/// an event may be on its way. A force reboot that was cut off after switching off goes on.
async fn judge(context: &JobContext, vm: VmId, action: PowerAction) -> Result<Verdict> {
    let half_way = action == PowerAction::ForceReboot && context.steps.contains_key("off");
    if half_way {
        return Ok(Verdict::Legal);
    }
    let seen = context
        .inventory
        .now()
        .vms
        .get(&vm)
        .and_then(|vm| vm.facts.as_ref().map(|facts| seen_verdict(action, facts)));
    match seen {
        Some(Verdict::Legal) => Ok(Verdict::Legal),
        Some(Verdict::AlreadySo | Verdict::Illegal) | None => {
            let facts = context
                .backend
                .get(&context.plain_call(), &context.vm_ref(vm))
                .await?;
            let facts = facts.ok_or_else(|| Error::not_found("vm", vm))?;
            let verdict = seen_verdict(action, &facts);
            context.inventory.facts(vec![facts]);
            Ok(verdict)
        }
    }
}

pub(super) async fn power_step(
    context: &mut JobContext,
    name: &str,
    vm: VmId,
    action: PowerAction,
    undo: Option<Undo>,
) -> Result<()> {
    let native = context.vm_ref(vm);
    let native = &native;
    let absent_is_off = action == PowerAction::ForceOff;
    let call = |backend: Arc<dyn Backend>, call| async move {
        match backend.power(&call, native, action).await {
            Err(error) if absent_is_off && error.kind == crate::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    };
    let remembered = context.has_done(name);
    context.step(name, undo, call).await?;
    if matches!(action, PowerAction::Save | PowerAction::Restore) {
        super::refresh(context, vm).await;
    }
    // What was reached before a crash may be otherwise now.
    if !remembered && let Some(power) = reached(action) {
        context.inventory.presume_power(vm, power);
    }
    Ok(())
}

/// The power state that an action has reached when its backend call returns.
const fn reached(action: PowerAction) -> Option<PowerState> {
    match action {
        PowerAction::Start | PowerAction::Resume | PowerAction::ForceReboot | PowerAction::Restore => {
            Some(PowerState::Running)
        }
        PowerAction::Shutdown | PowerAction::ForceOff => Some(PowerState::Off),
        // Whether memory is saved is the backend's to report, see `refresh`.
        PowerAction::Save => None,
        PowerAction::Suspend => Some(PowerState::Paused),
        PowerAction::Reboot | PowerAction::Reset => None,
    }
}

fn seen_verdict(action: PowerAction, facts: &VmFacts) -> Verdict {
    state::verdict_on(action, facts.power, facts.saved)
}
