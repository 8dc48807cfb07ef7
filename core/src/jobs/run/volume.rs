//! Making, resizing and removing volumes, and the images that are made of them.

use std::sync::Arc;

use super::say;
use crate::backend::Backend;
use crate::command::{ImageAction, ImageJob, VolumeAction, VolumeJob};
use crate::error::Result;
use crate::jobs::context::JobContext;
use crate::jobs::undo::Undo;
use crate::model::{PoolVolume, VolumeSource, VolumeSpec};

pub(super) async fn volume(context: &mut JobContext, job: &VolumeJob) -> Result<()> {
    match &job.action {
        VolumeAction::Create(spec) => create(context, spec).await,
        VolumeAction::Resize { place, capacity } => {
            let attached = job.vm.map(|vm| context.vm_ref(vm));
            let (attached, capacity) = (attached.as_ref(), *capacity);
            let resize = |backend: Arc<dyn Backend>, call| async move {
                backend.resize_volume(&call, place, attached, capacity).await
            };
            let volume = context.step("resize", None, resize).await?;
            say(context, &volume)?;
            if let Some(vm) = job.vm {
                super::refresh(context, vm).await;
            }
            Ok(())
        }
        VolumeAction::Delete { place } => remove(context, "remove", place).await,
    }
}

pub(super) async fn image(context: &mut JobContext, job: &ImageJob) -> Result<()> {
    match &job.action {
        ImageAction::Copy { volume } => create(context, volume).await,
        ImageAction::Fetch { url, place, format } => {
            let spec = VolumeSpec {
                pool: place.pool.clone(),
                name: place.name.clone(),
                capacity: 0,
                format: *format,
                source: VolumeSource::Blank,
                bus: None,
            };
            super::fetch::fetch(context, url, spec).await
        }
        ImageAction::Delete { places } => {
            context.no_way_back();
            for (number, place) in places.iter().enumerate() {
                remove(context, &format!("remove-{number}"), place).await?;
            }
            Ok(())
        }
    }
}

async fn create(context: &mut JobContext, spec: &VolumeSpec) -> Result<()> {
    let undo = Undo::DeleteVolume {
        pool: spec.pool.clone(),
        name: spec.name.clone(),
    };
    let make = |backend: Arc<dyn Backend>, call| async move { backend.create_volume(&call, spec).await };
    let volume = context.step("volume", Some(undo), make).await?;
    say(context, &volume)
}

async fn remove(context: &mut JobContext, step: &str, PoolVolume { pool, name }: &PoolVolume) -> Result<()> {
    let remove =
        |backend: Arc<dyn Backend>, call| async move { backend.delete_volume(&call, pool, name).await };
    context.step(step, None, remove).await
}
