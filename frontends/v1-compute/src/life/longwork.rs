//! Work that is asked after: the last long job of a machine is noted in its record, so that its progress is found
//! by every gateway and after a restart.

use babelvisor_core::Error;
use babelvisor_core::model::{Caller, Job, JobId, Vm, VmId};

use crate::V1Compute;
use crate::error::Fault;

/// Under which name the job is noted.
const LAST_JOB: &str = "compute.last_job";

impl V1Compute {
    /// Notes the job that clients will ask after.
    pub(super) async fn note_job(&self, caller: &Caller, vm: VmId, job: JobId) -> Result<(), Fault> {
        self.core
            .annotate(caller, vm, |record| {
                record.settings.insert(LAST_JOB.to_owned(), job.to_string());
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// The last long job of a machine; none if there was none, or it was long ago.
    pub(super) async fn last_job(&self, caller: &Caller, vm: &Vm) -> Result<Option<Job>, Fault> {
        let noted = vm.record.settings.get(LAST_JOB);
        let Some(id) = noted.and_then(|id| id.parse::<JobId>().ok()) else {
            return Ok(None);
        };
        match self.core.job(caller, id).await {
            Ok(job) => Ok(Some(job)),
            Err(error) if error.kind == babelvisor_core::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// How far a job is, below 100 until it has ended.
pub(super) fn percent(job: &Job) -> u8 {
    if job.state.ended() {
        100
    } else {
        job.progress.min(99)
    }
}

/// The refusal of a call that asks after work which is not under way.
pub(super) fn not_under_way(vm: &Vm, what: &str) -> Fault {
    Error::illegal_state("vm", vm.id, format!("no {what} of the machine is under way")).into()
}
