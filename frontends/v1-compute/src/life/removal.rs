//! Deletion: for good, or into the recycle bin.

use std::time::{Duration, Instant};

use babelvisor_core::command::{Command, DeleteVm, TrashVm};
use babelvisor_core::model::{Caller, Role, Vm};
use babelvisor_core::{Error, ErrorKind, state};
use babelvisor_schemas::Operation;
use serde_json::Map;

use super::batch;
use super::entry::setting;
use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::Data;
use crate::error::Fault;

/// How long the hypervisor's word that a machine is gone may take.
const SHORTLY: Duration = Duration::from_secs(1);

/// What a deletion asks for; both are off unless sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Removal {
    /// For good, rather than into the recycle bin.
    real: bool,
    /// With its volumes.
    volumes: bool,
}

impl Removal {
    fn of(call: &Call<'_>) -> Self {
        let real = match call.caller.role {
            Role::Admin => call.params.flag("real_delete"),
            // Document: for whoever is no administrator it is always the recycle bin.
            Role::User | Role::Viewer => false,
        };
        Self {
            real,
            volumes: call.params.flag("is_delete_volumes"),
        }
    }
}

impl V1Compute {
    /// `compute.delete`.
    pub(crate) async fn delete(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let identifier = ComputeIdentifier::of(&call.params);
        self.remove(&call.caller, call.operation, &identifier, Removal::of(call))
            .await?;
        Ok(Data::empty())
    }

    /// `compute.batch_delete`.
    pub(crate) async fn batch_delete(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let removal = Removal::of(call);
        batch::each(self, call, |caller, operation, identifier| async move {
            self.remove(caller, operation, &identifier, removal)
                .await
                .map(|()| Map::new())
        })
        .await
    }

    async fn remove(
        &self,
        caller: &Caller,
        operation: &Operation,
        identifier: &ComputeIdentifier,
        removal: Removal,
    ) -> Result<(), Fault> {
        let vm = self.machine(caller, identifier, removal.real).await?;
        if removal.real {
            let command = Command::DeleteVm(DeleteVm {
                vm: vm.id,
                volumes: removal.volumes,
                keep_data_volumes: false,
            });
            return match self.change(caller, operation, command).await {
                // Document: a volume that could not be removed stays behind, and that is no error.
                Err(_) if self.gone(caller, &vm).await => Ok(()),
                outcome => outcome,
            };
        }
        off(&vm)?;
        self.change(caller, operation, Command::TrashVm(TrashVm { vm: vm.id }))
            .await?;
        self.core
            .annotate(caller, vm.id, |record| {
                record
                    .settings
                    .insert(setting::TRASHED_VOLUMES.to_owned(), removal.volumes.to_string());
                Ok(())
            })
            .await?;
        Ok(())
    }
}

impl V1Compute {
    /// Whether the hypervisor no longer has a machine that it had. Its word may come a moment after the job's end.
    async fn gone(&self, caller: &Caller, vm: &Vm) -> bool {
        if vm.facts.is_none() {
            return false;
        }
        let until = Instant::now() + SHORTLY;
        loop {
            match self.core.vm(caller, vm.id).await {
                Ok(seen) if seen.facts.is_some() && Instant::now() < until => {
                    tokio::time::sleep(SHORTLY / 20).await;
                }
                Ok(seen) => return seen.facts.is_none(),
                Err(error) => return error.kind == ErrorKind::NotFound,
            }
        }
    }
}

/// Into the recycle bin goes only what is off; a machine that runs can only be deleted for good.
fn off(vm: &Vm) -> Result<(), Fault> {
    if vm.record.fault.is_some() || vm.activity.is_some() || state::fits(state::Occasion::Off, vm.power()) {
        return Ok(());
    }
    let state = vm.power().as_ref().replace('_', " ");
    let why = format!("a vm whose power state is {state} cannot go into the recycle bin, shut it off first");
    Err(Error::illegal_state("vm", vm.id, why).into())
}
