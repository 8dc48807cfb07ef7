//! Ends of jobs: what an end means for the VM's record, and the ends that no worker brings about, because the
//! job is still queued when it is cancelled or when its time is over.

use std::sync::Arc;

use super::engine::Engine;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Job, JobId, JobState, Timestamp, VmChange, VmRecord};
use crate::store::{JobEnd, JobFilter};

/// How often an end is tried again because somebody edited the VM's record at the same time.
const TRIES: usize = 16;

impl Engine {
    /// Asks for a job to stop, and returns it as it then is: a queued one has ended, together with what belongs
    /// to it; a running one stops before its next step and is undone; an ended one stays as it is.
    ///
    /// # Errors
    /// `NotFound`; those of the store.
    pub async fn cancel(&self, id: JobId) -> Result<Job> {
        let job = self.stored(id).await?;
        let error = Error::new(ErrorKind::Conflict, "the job was cancelled before it began").about("job", id);
        if job.state != JobState::Queued || !self.end_queued(&job, JobState::Cancelled, error).await? {
            self.around.store.cancel(id).await?;
        }
        let job = self.stored(id).await?;
        self.heard(&job);
        self.caught_up(job).await
    }

    /// Ends queued jobs whose time is over, for as long as it is polled: nobody may ever claim them, when their
    /// backend does not come back. One gateway does it at a time.
    pub(super) async fn end_overdue(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.settings.lease);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let lease = self.settings.lease * 3;
            let done = match self.around.store.lease("overdue", &self.worker, lease).await {
                Ok(true) => self.end_overdue_once().await,
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::warn!(%error, "jobs whose time is over could not be ended");
            }
        }
    }

    async fn end_overdue_once(&self) -> Result<()> {
        let unfinished = JobFilter {
            unfinished: true,
            limit: 0,
        };
        let now = Timestamp::now();
        let jobs = self.around.store.jobs(&unfinished).await?;
        let overdue = |job: &&Job| job.state == JobState::Queued && job.deadline <= now;
        for job in jobs.iter().filter(overdue) {
            let text = format!(
                "the job did not begin before its deadline: backend {} was out of reach, or earlier jobs took too long",
                job.backend
            );
            let error = Error::new(ErrorKind::Timeout, text).about("job", job.id);
            if self.end_queued(job, JobState::Failed, error).await? {
                tracing::warn!(job = %job.id, command = job.command.name(), "a queued job's time is over");
                let ended = self.stored(job.id).await?;
                self.heard(&ended);
                self.caught_up(ended).await?;
            }
        }
        Ok(())
    }

    /// Ends a job that nobody has claimed; false if somebody has.
    async fn end_queued(&self, job: &Job, state: JobState, error: Error) -> Result<bool> {
        let end = JobEnd {
            state,
            error: Some(error),
            left_behind: Vec::new(),
            command: without_secrets(&job.command),
            result: None,
        };
        let mut last = None;
        for _ in 0..TRIES {
            let mut writes = self.aftermath(job, &end).await?.writes()?;
            writes.extend(super::hooks::delivery_of_job(job)?);
            match self.around.store.end_queued(job.id, &end, writes).await {
                Err(error) if error.kind == ErrorKind::Conflict => last = Some(error),
                outcome => {
                    if matches!(outcome, Ok(true)) {
                        let (command, state) = (job.command.name(), state.as_ref().to_owned());
                        metrics::counter!("gateway_jobs_total", "command" => command, "state" => state)
                            .increment(1);
                    }
                    return outcome;
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::internal("a job's end was not tried")))
    }
}

/// What the registry remembers of settings that a job has changed.
pub(super) fn note_changes(record: &mut VmRecord, changes: &[VmChange]) {
    for change in changes {
        match change {
            VmChange::ConsolePassword { password } => record.console_password = password.clone(),
            VmChange::GuestPassword { user, password } => {
                record.admin_user = Some(user.clone());
                record.admin_password = Some(password.clone());
            }
            VmChange::Cpu { .. }
            | VmChange::Memory { .. }
            | VmChange::BootOrder { .. }
            | VmChange::Autostart { .. }
            | VmChange::Video { .. }
            | VmChange::AttachDisk(_)
            | VmChange::DetachDisk { .. }
            | VmChange::DiskQos { .. }
            | VmChange::AttachNic(_)
            | VmChange::DetachNic { .. }
            | VmChange::UpdateNic { .. }
            | VmChange::NicQos { .. }
            | VmChange::InsertMedium { .. }
            | VmChange::EjectMedium { .. } => {}
        }
    }
}

/// Whether a change is remembered in the VM's record.
const fn is_noted(change: &VmChange) -> bool {
    matches!(
        change,
        VmChange::ConsolePassword { .. } | VmChange::GuestPassword { .. }
    )
}

/// The VM is gone; its record keeps its ids from being given out again, but no secrets.
pub(super) fn lay_to_rest(record: &mut VmRecord) {
    record.gone_at = Some(Timestamp::now());
    record.admin_password = None;
    record.console_password = None;
}

/// Whether a job's end in `state` is noted in its VM's record.
pub(super) fn changes_record(command: &Command, state: JobState) -> bool {
    let succeeded = matches!(state, JobState::Succeeded);
    match command {
        Command::CreateVm(_) => true,
        Command::DeleteVm(_) | Command::TrashVm(_) | Command::MigrateVm(_) => succeeded,
        Command::ChangeVm(change) => succeeded && change.changes.iter().any(is_noted),
        Command::Power(_) | Command::Snapshot(_) | Command::Volume(_) | Command::Image(_) => false,
    }
}

/// The command without its sealed secrets, which nobody needs once the job has ended; none if it has none.
pub(super) fn without_secrets(command: &Command) -> Option<Command> {
    match command {
        Command::CreateVm(create) => {
            let mut create = create.clone();
            create.spec.console_password = None;
            if let Some(guest) = &mut create.spec.guest {
                guest.admin_password = None;
                guest.user_data = None;
            }
            Some(Command::CreateVm(create))
        }
        Command::ChangeVm(change) if change.changes.iter().any(is_noted) => {
            let mut change = change.clone();
            change.changes.retain(|change| !is_noted(change));
            Some(Command::ChangeVm(change))
        }
        Command::ChangeVm(_)
        | Command::DeleteVm(_)
        | Command::TrashVm(_)
        | Command::Power(_)
        | Command::Snapshot(_)
        | Command::Volume(_)
        | Command::Image(_)
        | Command::MigrateVm(_) => None,
    }
}
