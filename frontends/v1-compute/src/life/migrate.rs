//! Moves of running machines to another host.

use babelvisor_core::command::Command;
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::HostId;
use serde_json::json;

use super::longwork::not_under_way;
use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::Data;
use crate::error::Fault;

impl V1Compute {
    /// `compute.migrate`.
    pub(crate) async fn migrate(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        let host = HostId(call.params.uuid("destination")?);
        if !self.core.now().hosts.contains_key(&host) {
            return Err(Fault::unknown("host", &host.to_string()));
        }
        let job = self
            .core
            .migrate_vm(&call.caller, vm.id, host, SubmitOptions::REFUSE)
            .await?;
        self.note_job(&call.caller, vm.id, job.id).await?;
        Data::of(&json!({"compute_name": vm.name()}))
    }

    /// `compute.migrate_abort`: answered when the move has ended, the machine running where it was.
    pub(crate) async fn migrate_abort(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        let job = self.last_job(&call.caller, &vm).await?;
        let moving = job.filter(|job| matches!(job.command, Command::MigrateVm(_)) && !job.state.ended());
        let Some(job) = moving else {
            return Err(not_under_way(&vm, "migration"));
        };
        self.core.cancel(&call.caller, job.id).await?;
        let ended = self.core.wait(job.id, call.operation.longest_wait).await?;
        match ended.state {
            babelvisor_core::model::JobState::Succeeded => {
                let why = "the migration was over before it could be aborted";
                Err(babelvisor_core::Error::illegal_state("vm", vm.id, why).into())
            }
            _ => Ok(Data::empty()),
        }
    }
}
