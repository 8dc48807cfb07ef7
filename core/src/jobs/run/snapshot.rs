//! Making, reverting to and removing snapshots.

use std::sync::Arc;

use super::say;
use crate::backend::Backend;
use crate::command::{SnapshotAction, SnapshotJob};
use crate::error::Result;
use crate::jobs::context::JobContext;
use crate::jobs::undo::Undo;

pub(super) async fn snapshot(context: &mut JobContext, job: &SnapshotJob) -> Result<()> {
    let vm = job.vm;
    let native = context.vm_ref(vm);
    let native = &native;
    match &job.action {
        SnapshotAction::Create(spec) => {
            let undo = Undo::DeleteSnapshot {
                vm,
                name: spec.name.clone(),
            };
            let make = |backend: Arc<dyn Backend>, call| async move {
                backend.create_snapshot(&call, native, spec).await
            };
            let facts = context.step("snapshot", Some(undo), make).await?;
            say(context, &facts)
        }
        SnapshotAction::Revert { name } => {
            let revert = |backend: Arc<dyn Backend>, call| async move {
                backend.revert_snapshot(&call, native, name).await
            };
            let outcome = context.step("revert", None, revert).await;
            super::refresh(context, vm).await;
            outcome
        }
        SnapshotAction::Delete { name } => {
            let remove = |backend: Arc<dyn Backend>, call| async move {
                backend.delete_snapshot(&call, native, name).await
            };
            context.step("remove", None, remove).await
        }
    }
}
