//! What each command does, as steps. One function a command, read from top to bottom.

mod change;
mod create;
mod delete;
mod fetch;
mod migrate;
mod power;
mod snapshot;
mod volume;

pub(crate) use create::seed_volume;
pub(super) use delete::unfinished;

use super::context::JobContext;
use crate::command::Command;
use crate::error::Result;
use crate::model::VmId;

/// Runs the job's command to its end.
///
/// # Errors
/// Those of the steps; the engine then undoes.
pub(super) async fn run(context: &mut JobContext) -> Result<()> {
    match context.job.command.clone() {
        Command::CreateVm(create) => create::create_vm(context, &create).await,
        Command::DeleteVm(delete) => delete::delete_vm(context, &delete).await,
        Command::TrashVm(trash) => delete::trash_vm(context, trash.vm).await,
        Command::Power(power) => power::change_power(context, power.vm, power.action).await,
        Command::ChangeVm(change) => change::change_vm(context, &change).await,
        Command::Snapshot(job) => snapshot::snapshot(context, &job).await,
        Command::Volume(job) => volume::volume(context, &job).await,
        Command::Image(job) => volume::image(context, &job).await,
        Command::MigrateVm(migrate) => migrate::migrate(context, &migrate).await,
    }
}

/// Looks at the VM once more, so that whoever is told of the end reads what it changed. A look that fails is made
/// up for by the backend's own events.
async fn refresh(context: &JobContext, vm: VmId) {
    let call = context.plain_call();
    match context.backend.get(&call, &context.vm_ref(vm)).await {
        Ok(facts) => {
            context.inventory.facts(facts.into_iter().collect());
        }
        Err(error) => tracing::warn!(%vm, %error, "a changed vm could not be looked at"),
    }
}

/// Says what the job has made: a dialect answers with it, and the record of it is completed by it.
fn say<T: serde::Serialize>(context: &mut JobContext, made: &T) -> Result<()> {
    let made = serde_json::to_value(made)
        .map_err(|error| crate::Error::internal(format!("a result cannot be written: {error}")))?;
    context.set_result(made)
}
