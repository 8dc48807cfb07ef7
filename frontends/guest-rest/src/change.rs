//! Changes of guests that exist: the remark at once, power and deletion as jobs.
//!
//! The original publishes a message to its nodes and answers; whether the guest's state allows the action shows
//! only in a log. So does this: the answer says that the job is stored, and a refusal by the state is a failed job.

use std::sync::Arc;

use babelvisor_core::capability::CapabilitySet;
use babelvisor_core::command::{Command, DeleteVm, Power, PowerAction};
use babelvisor_core::frontend::{Request, Routed};
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::{Caller, Vm, VmId};
use babelvisor_core::{Error, ErrorKind};
use babelvisor_schemas::Operation;
use futures_util::StreamExt as _;

use crate::GuestRest;
use crate::decode;
use crate::error::{Fault, Outcome};

/// How many jobs of one call are stored at a time.
const AT_ONCE: usize = 32;

impl GuestRest {
    pub(crate) async fn update(
        &self,
        operation: &Operation,
        caller: &Caller,
        routed: &Routed,
        request: &Request,
    ) -> Outcome {
        let body = decode::body(request)?;
        let Some(remark) = decode::remark(operation, &body, routed)? else {
            return Ok(self.encoder.done());
        };
        let vm = self.find(caller, routed.param("uuid")).await?;
        let vm = self
            .core
            .annotate(caller, vm.id, |record| {
                record.remark.clone_from(&remark);
                Ok(())
            })
            .await?;
        Ok(self.encoder.one(&self.core.now(), &vm))
    }

    pub(crate) async fn power(
        &self,
        operation: &Operation,
        caller: &Caller,
        routed: &Routed,
        action: PowerAction,
    ) -> Outcome {
        self.each(operation, caller, routed, |vm| {
            Command::Power(Power { vm, action })
        })
        .await
    }

    pub(crate) async fn delete(&self, operation: &Operation, caller: &Caller, routed: &Routed) -> Outcome {
        self.each(operation, caller, routed, |vm| {
            Command::DeleteVm(DeleteVm {
                vm,
                volumes: true,
                keep_data_volumes: false,
            })
        })
        .await
    }

    /// Gives a command to every guest of the path, in its order. All must exist, and the backend of each must be
    /// able to do it, before the first job is stored.
    async fn each(
        &self,
        operation: &Operation,
        caller: &Caller,
        routed: &Routed,
        command: impl Fn(VmId) -> Command,
    ) -> Outcome {
        let mut vms = Vec::new();
        for uuid in decode::uuids(operation, routed)? {
            vms.push(self.find(caller, uuid).await?);
        }
        for vm in &vms {
            self.able(vm, &command(vm.id))?;
        }
        let mut jobs = Vec::with_capacity(vms.len());
        for vm in &vms {
            jobs.push(self.core.submit(caller, command(vm.id), SubmitOptions::BLIND));
        }
        let answers: Vec<_> = futures_util::stream::iter(jobs).buffered(AT_ONCE).collect().await;
        for answer in answers {
            match answer {
                Ok(_) => {}
                // It was there a moment ago: an earlier job, perhaps of this very call, has deleted it.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.encoder.done())
    }

    /// Whether the guest's backend can do it at all. The core asks again for each job; here it is about refusing
    /// the whole call.
    fn able(&self, vm: &Arc<Vm>, command: &Command) -> Result<(), Fault> {
        let Some(backend) = self.core.backends().get(&vm.record.backend) else {
            let text = format!("backend {} is not configured on this gateway", vm.record.backend);
            return Err(Error::new(ErrorKind::BackendUnavailable, text).into());
        };
        let set: &CapabilitySet = &backend.capabilities();
        for capability in command.needs() {
            let support = set.get(capability);
            if !support.usable() {
                let (name, word) = (capability.as_ref().to_owned(), support.word());
                let reason = support.reason().unwrap_or_default();
                let text = format!("backend {} cannot do {name}: {word}: {reason}", vm.record.backend);
                return Err(Error::unsupported(text).into());
            }
        }
        Ok(())
    }
}
