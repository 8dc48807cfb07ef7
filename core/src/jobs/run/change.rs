//! Changing hardware and settings of a VM.

use std::sync::Arc;

use crate::backend::Backend;
use crate::command::ChangeVm;
use crate::error::{Error, Result};
use crate::jobs::context::JobContext;
use crate::model::{VmChange, VmId};
use crate::state;

/// Makes the changes in order. Each is idempotent, so that one that was cut off is made again; those that were made
/// before one that fails stay.
pub(super) async fn change_vm(context: &mut JobContext, wanted: &ChangeVm) -> Result<()> {
    let vm = wanted.vm;
    if let Some(vm) = context.inventory.now().vms.get(&vm) {
        state::standing(vm)?;
    }
    let outcome = make(context, wanted).await;
    super::refresh(context, vm).await;
    outcome
}

async fn make(context: &mut JobContext, wanted: &ChangeVm) -> Result<()> {
    let vm = wanted.vm;
    for (place, change) in wanted.changes.iter().enumerate() {
        let step = format!("change-{place}");
        if !context.has_done(&step) {
            judge(context, vm, change).await?;
        }
        let native = context.vm_ref(vm);
        let native = &native;
        let call =
            |backend: Arc<dyn Backend>, call| async move { backend.change(&call, native, change).await };
        context.step(&step, None, call).await?;
    }
    Ok(())
}

/// Judges by the inventory; before saying no, looks at the backend itself, because an event may be on its way.
async fn judge(context: &JobContext, vm: VmId, change: &VmChange) -> Result<()> {
    let now = context.inventory.now();
    let seen = now.vms.get(&vm).and_then(|vm| vm.facts.as_ref());
    if seen.is_some_and(|facts| state::judge_change(change, facts).is_ok()) {
        return Ok(());
    }
    let call = context.plain_call();
    let facts = context.backend.get(&call, &context.vm_ref(vm)).await?;
    let facts = facts.ok_or_else(|| Error::not_found("vm", vm))?;
    let judged = state::judge_change(change, &facts);
    context.inventory.facts(vec![facts]);
    judged
}
