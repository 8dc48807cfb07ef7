//! The engine: takes accepted commands into the store, claims ready jobs, runs them, keeps their leases, and
//! tells those who wait.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::context::{JobContext, Signals, Surroundings};
use super::{killpoint, run, undo};
use crate::backend::Backend;
use crate::command::{Command, WhenBusy};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Inventory;
use crate::model::{BackendId, Job, JobId, JobState, Timestamp, VmId};
use crate::registry::{Registry, vm_write};
use crate::secret::{Keyring, random_text};
use crate::store::{Admission, Change, Claim, Claimed, Expect, JobEnd, Submitted, WorkerId, Write};

/// The engine's clocks and sizes.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// How long a claim holds without renewal: after this time another gateway takes a dead one's jobs over.
    pub lease: Duration,
    /// How many jobs run at once in this process.
    pub workers: usize,
    /// How long a running job may go on after the gateway was told to stop.
    pub drain: Duration,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            workers: 64,
            drain: Duration::from_secs(20),
        }
    }
}

/// Runs jobs.
pub struct Engine {
    around: Surroundings,
    worker: WorkerId,
    settings: EngineSettings,
    slots: Arc<Semaphore>,
    running: Mutex<HashMap<JobId, (Claim, Arc<Signals>)>>,
    waiting: Mutex<HashMap<JobId, watch::Sender<Option<Job>>>>,
    stopping: watch::Sender<bool>,
}

impl Engine {
    /// An engine on these parts; nothing runs before [`Engine::start`].
    pub fn new(
        registry: Registry,
        inventory: Arc<Inventory>,
        keyring: Arc<Keyring>,
        backends: HashMap<BackendId, Arc<dyn Backend>>,
        settings: EngineSettings,
    ) -> Arc<Self> {
        let store = registry.store().clone();
        Arc::new(Self {
            around: Surroundings {
                store,
                registry,
                inventory,
                keyring,
                backends,
            },
            // Unique per process start: a restarted gateway must not be mistaken for its former self.
            worker: WorkerId(format!("{}-{}", std::process::id(), random_text(12))),
            slots: Arc::new(Semaphore::new(settings.workers)),
            settings,
            running: Mutex::default(),
            waiting: Mutex::default(),
            stopping: watch::Sender::new(false),
        })
    }

    /// Who this process is towards the store.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// Starts claiming, renewing and listening to job changes, until the set is dropped.
    pub fn start(self: &Arc<Self>, changes: mpsc::UnboundedReceiver<Change>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().claim_jobs());
        tasks.spawn(self.clone().renew_claims());
        tasks.spawn(self.clone().listen(changes));
        tasks
    }

    /// Stores a job, with the records that belong to it, and returns it. It may be running when this returns.
    ///
    /// # Errors
    /// `Busy` when a subject is taken and `when_busy` says so; `Conflict` for a known job id with another
    /// command, or for records that changed; those of the store. In all cases nothing is accepted.
    pub async fn submit(self: &Arc<Self>, job: Job, writes: Vec<Write>, when_busy: WhenBusy) -> Result<Job> {
        let connected = self.around.inventory.now().backend_up(&job.backend) && !*self.stopping.borrow();
        let slot = if connected {
            self.slots.clone().try_acquire_owned().ok()
        } else {
            None
        };
        let asked = Instant::now();
        let claim_for = slot.is_some().then(|| (self.worker.clone(), self.settings.lease));
        let submitted = self
            .around
            .store
            .submit(&job, writes, Admission { when_busy, claim_for })
            .await?;
        match submitted {
            Submitted::Claimed(claim) => {
                self.around.inventory.job(&job);
                let claimed = Claimed {
                    job: claimed_job(job.clone(), &claim),
                    claim,
                    journal: Vec::new(),
                };
                let engine = self.clone();
                tokio::spawn(async move {
                    engine.work(claimed, asked).await;
                    drop(slot);
                });
                Ok(job)
            }
            Submitted::Queued => {
                self.around.inventory.job(&job);
                Ok(job)
            }
            Submitted::Known(known) if known.command == job.command && known.tenant == job.tenant => {
                Ok(*known)
            }
            Submitted::Known(known) => Err(Error::new(
                ErrorKind::Conflict,
                format!("job {} exists already with another command or caller", known.id),
            )
            .about("job", known.id)),
        }
    }

    /// The job, once it has ended or at `until`, whichever comes first.
    ///
    /// # Errors
    /// `NotFound` for an unknown job; those of the store.
    pub async fn wait(&self, id: JobId, until: Instant) -> Result<Job> {
        let mut ended = {
            let mut waiting = self.waiting();
            waiting
                .entry(id)
                .or_insert_with(|| watch::Sender::new(None))
                .subscribe()
        };
        // It may have ended before we listened.
        let stored = self
            .around
            .store
            .job(id)
            .await?
            .ok_or_else(|| Error::not_found("job", id))?;
        if stored.state.ended() {
            self.forget_waiters(id);
            return self.caught_up(stored).await;
        }
        let told = tokio::time::timeout_at(until.into(), ended.wait_for(Option::is_some)).await;
        let told = told.ok().and_then(|ended| ended.ok().and_then(|job| job.clone()));
        if let Some(job) = told {
            return self.caught_up(job).await;
        }
        drop(ended);
        self.forget_waiters(id);
        let stored = self
            .around
            .store
            .job(id)
            .await?
            .ok_or_else(|| Error::not_found("job", id))?;
        self.caught_up(stored).await
    }

    /// Whoever was told of an end must find what it changed: the store may be ahead of our inventory.
    async fn caught_up(&self, job: Job) -> Result<Job> {
        if job.state.ended() && changes_record(&job.command, job.state) {
            let record = self.around.registry.vm(job.command.vm()).await?;
            self.around.inventory.records(record.into_iter().collect());
        }
        self.around.inventory.job(&job);
        Ok(job)
    }

    /// Stops taking jobs, lets running ones end for a while, and leaves the rest to be taken over.
    pub async fn drain(&self) {
        self.stopping.send_replace(true);
        let until = Instant::now() + self.settings.drain;
        while Instant::now() < until && !self.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many jobs run here now.
    pub fn running_count(&self) -> usize {
        self.running().len()
    }

    async fn claim_jobs(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            let Ok(slot) = self.slots.clone().acquire_owned().await else {
                return;
            };
            if *stopping.borrow() {
                return;
            }
            let now = self.around.inventory.now();
            let connected: Vec<BackendId> = self
                .around
                .backends
                .keys()
                .filter(|id| now.backend_up(id))
                .cloned()
                .collect();
            let claim = async {
                if connected.is_empty() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    return Ok(None);
                }
                let wait = Duration::from_secs(1);
                self.around
                    .store
                    .claim(&self.worker, &connected, self.settings.lease, wait)
                    .await
            };
            let asked = Instant::now();
            let claimed = tokio::select! {
                claimed = claim => claimed,
                _ = stopping.changed() => return,
            };
            match claimed {
                Ok(Some(claimed)) => {
                    let engine = self.clone();
                    tokio::spawn(async move {
                        engine.work(claimed, asked).await;
                        drop(slot);
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "jobs cannot be claimed");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    async fn renew_claims(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.settings.lease / 3);
        loop {
            tick.tick().await;
            let claims: Vec<_> = self.running().values().cloned().collect();
            for (claim, signals) in claims {
                let asked = Instant::now();
                match self.around.store.renew(&claim, self.settings.lease).await {
                    Ok(()) => signals.renewed(asked),
                    Err(error) if error.kind == ErrorKind::Conflict => {
                        signals.lost.store(true, Ordering::Release);
                    }
                    Err(error) => tracing::warn!(job = %claim.job, %error, "a lease could not be renewed"),
                }
            }
        }
    }

    async fn listen(self: Arc<Self>, mut changes: mpsc::UnboundedReceiver<Change>) {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Job(job) => self.heard(&job),
                Change::Gap => self.look_again().await,
                Change::Record { .. } => {}
            }
        }
    }

    fn heard(&self, job: &Job) {
        if job.cancel_requested
            && let Some((_, signals)) = self.running().get(&job.id)
        {
            signals.cancelled.store(true, Ordering::Release);
        }
        if job.state.ended()
            && let Some(waiting) = self.waiting().remove(&job.id)
        {
            waiting.send_replace(Some(job.clone()));
        }
    }

    /// After a gap in the changes, asks for every job that somebody waits for.
    async fn look_again(&self) {
        let ids: Vec<JobId> = self.waiting().keys().copied().collect();
        for id in ids {
            if let Ok(Some(job)) = self.around.store.job(id).await {
                self.heard(&job);
            }
        }
    }

    /// Runs a job that was claimed by a call that began at `asked`.
    async fn work(self: Arc<Self>, claimed: Claimed, asked: Instant) {
        let id = claimed.job.id;
        let taken_over = claimed.claim.epoch > 1;
        if taken_over {
            tracing::warn!(job = %id, epoch = claimed.claim.epoch, "took a job over that another worker left");
            metrics::counter!("gateway_job_recovered_total").increment(1);
        }
        let signals = Arc::new(Signals::new(asked, self.settings.lease));
        signals
            .cancelled
            .store(claimed.job.cancel_requested, Ordering::Release);
        self.running()
            .insert(id, (claimed.claim.clone(), signals.clone()));
        if let Err(error) = self.run_to_end(claimed, signals).await {
            tracing::error!(job = %id, %error, "a job was left for another worker");
            metrics::counter!("gateway_job_lease_lost_total").increment(1);
        }
        self.running().remove(&id);
    }

    /// Runs a claimed job to its recorded end.
    ///
    /// An error means that the end could not be recorded, because the claim or the store was lost: the job
    /// stays claimed until its lease runs out, and whoever claims it then goes on.
    async fn run_to_end(&self, claimed: Claimed, signals: Arc<Signals>) -> Result<()> {
        let mut context = JobContext::new(&self.around, claimed, signals)?;
        let outcome = match context.undoing.clone() {
            Some((error, _)) => Err(error),
            None => run::run(&mut context).await,
        };
        let end = match outcome {
            Ok(()) => JobEnd {
                state: JobState::Succeeded,
                error: None,
                left_behind: Vec::new(),
                command: None,
            },
            Err(error) => {
                if context.signals.must_leave() {
                    return Err(error);
                }
                let stopped = context.signals.cancelled.load(Ordering::Acquire);
                let cancelled = context
                    .undoing
                    .as_ref()
                    .map_or(stopped, |(_, cancelled)| *cancelled);
                let left_behind = if context.job.command.one_step() {
                    Vec::new()
                } else {
                    undo::undo(&mut context, &error, cancelled).await?
                };
                let state = if cancelled {
                    JobState::Cancelled
                } else {
                    JobState::Failed
                };
                JobEnd {
                    state,
                    error: Some(error),
                    left_behind,
                    command: None,
                }
            }
        };
        self.finish(&context, end).await
    }

    /// Records the end, together with what it means for the VM's record.
    async fn finish(&self, context: &JobContext, mut end: JobEnd) -> Result<()> {
        let mut job = context.job.clone();
        let command = job.command.name();
        end.command = without_secrets(&job.command);
        killpoint::pass(command, "finish", "begin");
        loop {
            let edited = self.record_after(context, &end).await?;
            let writes = match &edited {
                Some((record, version)) => vec![vm_write(record, Expect::Version(*version))?],
                None => Vec::new(),
            };
            match self.around.store.finish(&context.claim, &end, writes).await {
                Ok(()) => {
                    if let Some((record, version)) = edited {
                        self.around.inventory.records(vec![(record, version + 1)]);
                    }
                    break;
                }
                // Either somebody edited the record meanwhile, or the claim is lost; renewing tells which.
                Err(error) if error.kind == ErrorKind::Conflict && edited.is_some() => {
                    self.around
                        .store
                        .renew(&context.claim, self.settings.lease)
                        .await?;
                }
                Err(error) => return Err(error),
            }
        }
        killpoint::pass(command, "finish", "done");
        if let Some(error) = &end.error {
            tracing::warn!(job = %job.id, command, vm = %job.command.vm(), %error, "job ended without success");
        }
        metrics::counter!("gateway_jobs_total", "command" => command, "state" => end.state.as_ref().to_owned())
            .increment(1);
        job.state = end.state;
        job.error = end.error;
        job.left_behind = end.left_behind;
        job.ended = Some(Timestamp::now());
        self.around.inventory.job(&job);
        self.heard(&job);
        Ok(())
    }

    /// What the job's end makes of the VM's record; none if the record stays as it is.
    async fn record_after(
        &self,
        context: &JobContext,
        end: &JobEnd,
    ) -> Result<Option<(crate::model::VmRecord, u64)>> {
        let vm: VmId = context.job.command.vm();
        if !changes_record(&context.job.command, end.state) {
            return Ok(None);
        }
        let Some((mut record, version)) = self.around.registry.vm(vm).await? else {
            return Ok(None);
        };
        match (&context.job.command, end.state) {
            (Command::CreateVm(_), JobState::Succeeded) => {
                let now = self.around.inventory.now();
                let facts = now.vms.get(&vm).and_then(|vm| vm.facts.as_ref());
                record.definition = facts.and_then(|facts| facts.definition.clone());
                record.planned = None;
            }
            (Command::CreateVm(_), JobState::Cancelled) => record.gone_at = Some(Timestamp::now()),
            (Command::CreateVm(_), _) => record.fault = end.error.clone(),
            (Command::DeleteVm(_), _) => {
                record.gone_at = Some(Timestamp::now());
                record.admin_password = None;
                record.console_password = None;
            }
            (Command::Power(_), _) => {}
        }
        Ok(Some((record, version)))
    }

    fn forget_waiters(&self, id: JobId) {
        let mut waiting = self.waiting();
        if waiting
            .get(&id)
            .is_some_and(|sender| sender.receiver_count() == 0)
        {
            waiting.remove(&id);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<JobId, (Claim, Arc<Signals>)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<Option<Job>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn claimed_job(job: Job, claim: &Claim) -> Job {
    Job {
        state: JobState::Running,
        epoch: claim.epoch,
        started: Some(Timestamp::now()),
        ..job
    }
}

/// Whether a job's end in `state` is noted in its VM's record.
const fn changes_record(command: &Command, state: JobState) -> bool {
    match command {
        Command::CreateVm(_) => true,
        Command::DeleteVm(_) => matches!(state, JobState::Succeeded),
        Command::Power(_) => false,
    }
}

/// The command without its sealed secrets, which nobody needs once the job has ended; none if it has none.
fn without_secrets(command: &Command) -> Option<Command> {
    match command {
        Command::CreateVm(create) => {
            let mut create = create.clone();
            create.spec.console_password = None;
            if let Some(guest) = &mut create.spec.guest {
                guest.admin_password = None;
            }
            Some(Command::CreateVm(create))
        }
        Command::DeleteVm(_) | Command::Power(_) => None,
    }
}
