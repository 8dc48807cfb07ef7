//! operate, reboot and delete. The first two answer when the work is stored, and clients poll `one`; delete
//! waits, because its `data` is the result.

use std::time::Duration;

use babelvisor_core::command::{Command, DeleteVm, Power};
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::{Job, JobState, Timestamp, Vm};
use babelvisor_core::{Error, ErrorKind};

use crate::PveOpen;
use crate::auth::Visitor;
use crate::decode::Switching;
use crate::encode::Data;
use crate::error::{Code, Fault};
use crate::state::{Ruling, Standing};

impl PveOpen {
    /// `operate`.
    pub(crate) async fn operate(
        &self,
        visitor: &Visitor,
        id: &str,
        switching: Switching,
    ) -> Result<Data, Fault> {
        let vm = self.find(visitor, id).await?;
        in_reach(&vm)?;
        let how = self.settings.power_off;
        self.rule(visitor, &vm, |standing| match switching {
            Switching::On => standing.switch_on(),
            Switching::Off => standing.switch_off(how),
        })
        .await
    }

    /// `reboot`.
    pub(crate) async fn reboot(&self, visitor: &Visitor, id: &str) -> Result<Data, Fault> {
        let vm = self.find(visitor, id).await?;
        if !vm.reachable {
            return Err(Fault::code(Code::RebootUnusable));
        }
        self.rule(visitor, &vm, Standing::reboot).await
    }

    /// Does what `judge` says of the machine's state.
    async fn rule(
        &self,
        visitor: &Visitor,
        vm: &Vm,
        judge: impl Fn(Standing) -> Ruling + Send + Sync,
    ) -> Result<Data, Fault> {
        let action = match judge(Standing::of(vm, Timestamp::now())) {
            Ruling::Do(action) => action,
            Ruling::Nothing => return Ok(Data::Flag(true)),
            Ruling::Refuse(fault) => return Err(fault),
        };
        let command = Command::Power(Power { vm: vm.id, action });
        match self
            .core
            .submit(&visitor.caller, command, SubmitOptions::REFUSE)
            .await
        {
            Ok(_) => Ok(Data::Flag(true)),
            Err(error) => Err(self.overtaken(visitor, vm, error, judge).await),
        }
    }

    /// Somebody was quicker: the machine's new state says it better than the error, if it refuses now.
    async fn overtaken(
        &self,
        visitor: &Visitor,
        vm: &Vm,
        error: Error,
        judge: impl Fn(Standing) -> Ruling,
    ) -> Fault {
        match error.kind {
            ErrorKind::NotFound => Fault::code(Code::NoMachine),
            ErrorKind::Busy | ErrorKind::IllegalState => match self.core.vm(&visitor.caller, vm.id).await {
                Ok(vm) => match judge(Standing::of(&vm, Timestamp::now())) {
                    Ruling::Refuse(fault) => fault,
                    Ruling::Do(_) | Ruling::Nothing => Fault::from(error),
                },
                Err(_) => Fault::code(Code::NoMachine),
            },
            _ => Fault::from(error),
        }
    }

    /// `delete`: true when the machine is gone, false when it cannot be deleted (now), 1005 when it is still
    /// being deleted after `longest`.
    pub(crate) async fn delete(&self, visitor: &Visitor, id: &str, longest: Duration) -> Result<Data, Fault> {
        let vm = self.find(visitor, id).await?;
        in_reach(&vm)?;
        if !Standing::of(&vm, Timestamp::now()).deletable() {
            return Ok(Data::Flag(false));
        }
        // Also the disks of an adopted machine: at a move from the original service, all machines are adopted.
        let command = Command::DeleteVm(DeleteVm {
            vm: vm.id,
            volumes: true,
            keep_data_volumes: false,
        });
        let job = match self
            .core
            .submit(&visitor.caller, command, SubmitOptions::REFUSE)
            .await
        {
            Ok(job) => job,
            Err(error) => return refused(&vm, error),
        };
        let job = self.core.wait(job.id, longest).await?;
        deleted(&vm, &job)
    }
}

/// Nothing can be accepted for a machine whose backend does not answer: nobody could say when it would begin.
fn in_reach(vm: &Vm) -> Result<(), Fault> {
    if vm.reachable {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::BackendUnavailable,
        format!("backend {} does not answer", vm.record.backend),
    )
    .into())
}

fn refused(vm: &Vm, error: Error) -> Result<Data, Fault> {
    match error.kind {
        ErrorKind::NotFound => Err(Fault::code(Code::NoMachine)),
        ErrorKind::Busy | ErrorKind::IllegalState | ErrorKind::Unsupported => {
            tracing::info!(vm = %vm.id, %error, "delete answered false");
            Ok(Data::Flag(false))
        }
        _ => Err(Fault::from(error)),
    }
}

fn deleted(vm: &Vm, job: &Job) -> Result<Data, Fault> {
    match job.state {
        JobState::Succeeded => Ok(Data::Flag(true)),
        JobState::Failed | JobState::Cancelled => {
            let error = job.error.as_ref().map(ToString::to_string);
            tracing::info!(vm = %vm.id, job = %job.id, error, "delete answered false");
            Ok(Data::Flag(false))
        }
        JobState::Queued | JobState::Running => Err(Fault::code(Code::InProgress)),
    }
}
