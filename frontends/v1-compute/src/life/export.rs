//! Disks written out as images of the repository, and imports that are under way.

use std::time::Duration;

use babelvisor_core::Error;
use babelvisor_core::command::Command;
use babelvisor_core::layers::{ImageFrom, ImageRequest, SubmitOptions};
use babelvisor_core::model::{Image, ImageKind, Job, JobState, Timestamp, VolumeFormat};
use serde_json::{Value, json};

use super::disk::named;
use super::longwork::{not_under_way, percent};
use crate::V1Compute;
use crate::call::{Call, ComputeIdentifier};
use crate::encode::Data;
use crate::error::{Code, Fault};

/// For how long an export that has ended is still told as 100: one client gives up when it never sees that.
const REMEMBERED: Duration = Duration::from_secs(60);

impl V1Compute {
    /// `compute.disk_export`.
    pub(crate) async fn disk_export(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let exports = call.params.get("disk").and_then(Value::as_array);
        let [export] = exports.map(Vec::as_slice).unwrap_or_default() else {
            return Err(Fault::parameter("disk: exactly one disk is exported at a time"));
        };
        let text = |name: &str| export.get(name).and_then(Value::as_str).unwrap_or_default();
        let (name, kind) = (text("image_name"), text("image_type"));
        if name.is_empty() {
            return Err(Fault::parameter("disk.image_name is missing"));
        }
        let format = layout(kind)?;
        if !text("snapshot_uuid").is_empty() {
            return Err(
                Error::unsupported("a disk is exported as it is, not as a snapshot of it was").into(),
            );
        }
        if !text("repository_uuid").is_empty() {
            self.repository(text("repository_uuid"))?;
        }
        let disk = named(&facts, text("device"))?;
        let place = disk.volume.as_ref();
        let place = place.ok_or_else(|| Error::unsupported("the disk is no volume of a pool"))?;
        let now = self.core.now();
        let volume = now.volume_id(vm.home(), place);
        let name = with_suffix(name, kind);
        let taken = self
            .core
            .entries::<Image>(&call.caller)
            .iter()
            .any(|image| image.name == name && image.trashed_at.is_none());
        if taken {
            return Err(Fault::saying(
                Code::Exists,
                format!("the repository has an image {name} already"),
            ));
        }
        let mut image = Image::new(name, ImageKind::Disk, Some(vm.record.tenant.clone()));
        image.os = vm.record.os.clone().unwrap_or_default();
        let request = ImageRequest {
            image,
            from: ImageFrom::Volume(volume),
            format: Some(format),
            pool: self.repository_pool(&now, vm.home())?,
        };
        let caller = call.acting_in(Some(vm.record.tenant.clone()));
        let (_, job) = self
            .core
            .make_image(&caller, request, SubmitOptions::REFUSE)
            .await?;
        self.note_job(&call.caller, vm.id, job.id).await?;
        Data::of(&json!({"name": vm.name()}))
    }

    /// `compute.disk_export_progress`.
    pub(crate) async fn disk_export_progress(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        let job = self.last_job(&call.caller, &vm).await?;
        let job = job.filter(|job| matches!(job.command, Command::Image(_)));
        let Some(job) = job else {
            return Err(Fault::code(Code::NotExporting));
        };
        match told(&job, Timestamp::now()) {
            Some(progress) => Data::of(&json!({"progress": progress})),
            None => Err(match &job.error {
                Some(error) => Fault::saying(Code::NotExporting, format!("the export has failed: {error}")),
                None => Fault::code(Code::NotExporting),
            }),
        }
    }

    /// `compute.import_progress`.
    pub(crate) async fn import_progress(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        match self.import_of(call, &vm).await? {
            Some(job) => Data::of(&json!({"progress": percent(&job), "detail": {}})),
            None => Err(not_under_way(&vm, "import")),
        }
    }

    /// `compute.import_abort`: the machine and its volumes are taken back.
    pub(crate) async fn import_abort(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let vm = self
            .machine(&call.caller, &ComputeIdentifier::of(&call.params), false)
            .await?;
        let Some(job) = self.import_of(call, &vm).await? else {
            return Err(not_under_way(&vm, "import"));
        };
        self.core.cancel(&call.caller, job.id).await?;
        self.core.wait(job.id, call.operation.longest_wait).await?;
        Data::of(&json!({"compute_name": vm.name()}))
    }

    /// The job that reads a machine's disks in, while it does.
    async fn import_of(
        &self,
        call: &Call<'_>,
        vm: &babelvisor_core::model::Vm,
    ) -> Result<Option<Job>, Fault> {
        let job = self.last_job(&call.caller, vm).await?;
        Ok(job.filter(|job| match &job.command {
            Command::CreateVm(create) => create.importing && !job.state.ended(),
            _ => false,
        }))
    }
}

/// What is told of an export at `now`; none once it has ended for a while, or without success.
fn told(job: &Job, now: Timestamp) -> Option<u8> {
    let recent = job.ended.is_none_or(|ended| {
        let age = now.duration_since(ended);
        Duration::try_from(age).is_ok_and(|age| age <= REMEMBERED) || age.is_negative()
    });
    match job.state {
        JobState::Queued | JobState::Running => Some(percent(job)),
        JobState::Succeeded if recent => Some(100),
        JobState::Succeeded | JobState::Failed | JobState::Cancelled => None,
    }
}

/// The layout that a type names.
fn layout(kind: &str) -> Result<VolumeFormat, Fault> {
    match kind {
        "raw" => Ok(VolumeFormat::Raw),
        "qcow2" => Ok(VolumeFormat::Qcow2),
        "" => Err(Fault::parameter("disk.image_type is missing")),
        _ => Err(Error::unsupported(format!(
            "images of type {kind} cannot be written, raw and qcow2 can"
        ))
        .into()),
    }
}

/// The file name of an image: one client leaves the suffix out and asks for it later.
fn with_suffix(name: &str, kind: &str) -> String {
    if name.ends_with(&format!(".{kind}")) {
        name.to_owned()
    } else {
        format!("{name}.{kind}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gets_its_suffix_once() {
        assert_eq!(with_suffix("disk", "qcow2"), "disk.qcow2");
        assert_eq!(with_suffix("disk.qcow2", "qcow2"), "disk.qcow2");
        assert_eq!(with_suffix("disk.raw", "qcow2"), "disk.raw.qcow2");
    }

    #[test]
    fn only_layouts_that_can_be_written_are_taken() {
        assert!(layout("raw").is_ok() && layout("qcow2").is_ok());
        assert!(layout("vmdk").is_err_and(|fault| fault.is(Code::Unsupported)));
        assert!(layout("").is_err_and(|fault| fault.is(Code::Parameter)));
    }
}
