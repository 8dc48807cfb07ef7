//! Snapshots: making them, going back to them, removing them.

use std::sync::Arc;

use super::volumes::disk_of;
use super::{Core, SubmitOptions, audit, authorise, capable, legal};
use crate::command::{Command, SnapshotAction, SnapshotJob};
use crate::error::{Error, Result};
use crate::inventory::Heard;
use crate::model::{Caller, EntryState, Job, SnapshotId, SnapshotRecord, SnapshotSpec, VmId, VolumeId};
use crate::registry::entry_write;
use crate::store::Expect;

/// A snapshot that a client asks for.
#[derive(Debug, Clone, Default)]
pub struct SnapshotRequest {
    /// The snapshot's id where the client chooses it.
    pub id: Option<SnapshotId>,
    /// Display name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether the memory of a running VM is kept, too.
    pub memory: bool,
    /// One volume alone; all writable disks without.
    pub volume: Option<VolumeId>,
}

impl Core {
    /// Takes the making of a snapshot, whose record is visible at once.
    ///
    /// # Errors
    /// `NotFound`, `IllegalState`, `InvalidInput` for a volume that the VM does not have; those of
    /// [`Core::submit`].
    pub async fn create_snapshot(
        &self,
        caller: &Caller,
        vm: VmId,
        request: SnapshotRequest,
        options: SubmitOptions,
    ) -> Result<(Arc<SnapshotRecord>, Job)> {
        authorise::may_change(caller)?;
        if let Some(job) = self.known_job(caller, None, &options).await?
            && let Command::Snapshot(made) = &job.command
        {
            return Ok((self.entry(caller, made.snapshot).await?, job));
        }
        super::create::check_name(&request.name)?;
        let vm = self.vm(caller, vm).await?;
        let disks = match request.volume {
            Some(id) => {
                let view = self.volume(caller, id).await?;
                let disk = disk_of(&vm, &view.place);
                let disk = disk.ok_or_else(|| {
                    let text = format!("volume {id} is not attached to vm {}", vm.id);
                    Error::invalid("volume", text)
                })?;
                Some(vec![disk.target.clone()])
            }
            None => None,
        };
        let id = request.id.unwrap_or_else(SnapshotId::random);
        let native = format!("bv-{}", id.simple());
        let mut record = SnapshotRecord::new(vm.id, native.clone(), Some(vm.record.tenant.clone()));
        record.id = id;
        record.volume = request.volume;
        record.display_name = request.name.clone();
        record.description = request.description;
        record.memory = request.memory;
        let command = Command::Snapshot(SnapshotJob {
            vm: vm.id,
            snapshot: id,
            action: SnapshotAction::Create(SnapshotSpec {
                name: native,
                title: request.name,
                memory: request.memory,
                disks,
            }),
        });
        if !options.accept_blindly {
            legal::check(&command, &vm)?;
        }
        capable::check(&command, self.backend(vm.home())?.as_ref())?;
        audit::asked(caller, &command);
        let writes = vec![entry_write(&record, Expect::Absent)?];
        let job = self
            .accept(caller, command, vm.home().clone(), writes, options)
            .await?;
        self.inventory.entries(vec![Heard::written(record, 1)]);
        Ok((self.entry(caller, id).await?, job))
    }

    /// Goes back to a snapshot.
    ///
    /// # Errors
    /// `NotFound`, `IllegalState`; those of [`Core::submit`].
    pub async fn revert_snapshot(
        &self,
        caller: &Caller,
        id: SnapshotId,
        options: SubmitOptions,
    ) -> Result<Job> {
        let record = self.entry::<SnapshotRecord>(caller, id).await?;
        match &record.state {
            EntryState::Ready => {}
            EntryState::Creating | EntryState::Failed(_) => {
                return Err(Error::illegal_state(SnapshotId::NOUN, id, "it is not complete"));
            }
        }
        let command = Command::Snapshot(SnapshotJob {
            vm: record.vm,
            snapshot: id,
            action: SnapshotAction::Revert {
                name: record.native.clone(),
            },
        });
        self.submit(caller, command, options).await
    }

    /// Removes a snapshot; those based on it stay.
    ///
    /// # Errors
    /// `NotFound`; those of [`Core::submit`].
    pub async fn delete_snapshot(
        &self,
        caller: &Caller,
        id: SnapshotId,
        options: SubmitOptions,
    ) -> Result<Job> {
        let record = self.entry::<SnapshotRecord>(caller, id).await?;
        let command = Command::Snapshot(SnapshotJob {
            vm: record.vm,
            snapshot: id,
            action: SnapshotAction::Delete {
                name: record.native.clone(),
            },
        });
        self.submit(caller, command, options).await
    }
}
