//! The engine: takes accepted commands into the store, claims ready jobs, runs them, keeps their leases, and
//! tells those who wait.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::context::{JobContext, Signals, Surroundings};
use super::ending::{changes_record, without_secrets};
use super::hooks::delivery_of_job;
use super::{killpoint, run, undo};
use crate::backend::Backend;
use crate::command::WhenBusy;
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Inventory;
use crate::model::{BackendId, Job, JobId, JobState, MOST_NOTE, Timestamp, check_size};
use crate::outbound::Outbound;
use crate::registry::Registry;
use crate::secret::{Keyring, random_text};
use crate::store::{Admission, Change, Claim, Claimed, JobEnd, Submitted, WorkerId, Write};

/// The engine's clocks and sizes.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// How long a claim holds without renewal: after this time another gateway takes a dead one's jobs over.
    pub lease: Duration,
    /// How many jobs run at once in this process.
    pub workers: usize,
    /// How long a running job may go on after the gateway was told to stop.
    pub drain: Duration,
    /// The client for web hooks and images; by default it connects to nothing.
    pub outbound: Outbound,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            workers: 64,
            drain: Duration::from_secs(20),
            outbound: Outbound::default(),
        }
    }
}

/// Runs jobs.
pub struct Engine {
    pub(super) around: Surroundings,
    pub(super) worker: WorkerId,
    pub(super) settings: EngineSettings,
    slots: Arc<Semaphore>,
    running: Mutex<HashMap<JobId, (Claim, Arc<Signals>)>>,
    waiting: Mutex<HashMap<JobId, watch::Sender<Option<Job>>>>,
    /// Unfinished jobs that somebody asked to stop. A request may be heard before its job runs here.
    to_cancel: Mutex<HashSet<JobId>>,
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
                outbound: settings.outbound.clone(),
            },
            // Unique per process start: a restarted gateway must not be mistaken for its former self.
            worker: WorkerId(format!("{}-{}", std::process::id(), random_text(12))),
            slots: Arc::new(Semaphore::new(settings.workers)),
            settings,
            running: Mutex::default(),
            waiting: Mutex::default(),
            to_cancel: Mutex::default(),
            stopping: watch::Sender::new(false),
        })
    }

    /// Who this process is towards the store.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// The client for addresses that users name.
    pub fn outbound(&self) -> &Outbound {
        &self.around.outbound
    }

    /// Starts claiming, renewing and listening to job changes, until the set is dropped.
    pub fn start(self: &Arc<Self>, changes: mpsc::UnboundedReceiver<Change>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().claim_jobs());
        tasks.spawn(self.clone().renew_claims());
        tasks.spawn(self.clone().listen(changes));
        tasks.spawn(self.clone().end_overdue());
        tasks
    }

    /// Stores a job, with the records that belong to it, and returns it. It may be running when this returns.
    ///
    /// # Errors
    /// `Busy` when a subject is taken and `when_busy` says so; `Conflict` for a known job id with another
    /// request, or for records that changed; `InvalidInput` (field `hook`) for a web hook that would not be posted;
    /// `Internal` for a note that is too long; those of the store. In all cases nothing is accepted.
    pub async fn submit(self: &Arc<Self>, job: Job, writes: Vec<Write>, when_busy: WhenBusy) -> Result<Job> {
        if let Some(note) = &job.note {
            check_size("the job's note", note, MOST_NOTE)?;
        }
        if let Some(hook) = &job.hook {
            self.outbound().check_hook(hook).await?;
        }
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
            Submitted::Known(known) => {
                let same = known.is_same_request(&job.tenant, job.digest.as_deref(), Some(&job.command));
                same.then_some(*known).ok_or_else(|| job_id_taken(job.id))
            }
        }
    }

    /// The job, once it has ended or at `until`, whichever comes first.
    ///
    /// # Errors
    /// `NotFound` for an unknown job; those of the store.
    pub async fn wait(&self, id: JobId, until: Instant) -> Result<Job> {
        let mut waiter = Waiter::new(self, id);
        // It may have ended before we listened.
        let stored = self.stored(id).await?;
        if stored.state.ended() {
            return self.caught_up(stored).await;
        }
        let told = tokio::time::timeout_at(until.into(), waiter.ended.wait_for(Option::is_some)).await;
        let told = told.ok().and_then(|ended| ended.ok().and_then(|job| job.clone()));
        match told {
            Some(job) => self.caught_up(job).await,
            None => self.caught_up(self.stored(id).await?).await,
        }
    }

    pub(super) async fn stored(&self, id: JobId) -> Result<Job> {
        let found = self.around.store.job(id).await?;
        found.ok_or_else(|| Error::not_found(JobId::NOUN, id))
    }

    /// Whoever was told of an end must find what it changed: the store may be ahead of our inventory.
    pub(crate) async fn caught_up(&self, job: Job) -> Result<Job> {
        if job.state.ended()
            && changes_record(&job.command, job.state)
            && let Some(vm) = job.command.vm()
        {
            let record = self.around.registry.vm(vm).await?;
            self.around.inventory.records(record.into_iter().collect());
        }
        if job.state.ended() {
            self.catch_up_entries(&job).await?;
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

    /// How many jobs somebody waits for here now.
    pub fn waiting_count(&self) -> usize {
        self.waiting().len()
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

    pub(super) fn heard(&self, job: &Job) {
        if job.state.ended() {
            self.to_cancel().remove(&job.id);
        } else if job.cancel_requested {
            // Noted first: it may just be on its way into `running`, where it will look.
            self.to_cancel().insert(job.id);
            if let Some((_, signals)) = self.running().get(&job.id) {
                signals.cancel();
            }
        }
        if job.state.ended()
            && let Some(waiting) = self.waiting().remove(&job.id)
        {
            waiting.send_replace(Some(job.clone()));
        }
    }

    /// After a gap in the changes, asks for every job that runs here or that somebody waits for.
    async fn look_again(&self) {
        let mut ids: Vec<JobId> = self.waiting().keys().copied().collect();
        ids.extend(self.running().keys());
        ids.extend(self.to_cancel().iter());
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
        if claimed.job.cancel_requested {
            signals.cancel();
        }
        let _leaves = Running::enter(&self, &claimed.claim, &signals);
        if self.to_cancel().contains(&id) {
            signals.cancel();
        }
        if let Err(error) = self.run_to_end(claimed, signals).await {
            tracing::error!(job = %id, %error, "a job was left for another worker");
            metrics::counter!("gateway_job_lease_lost_total").increment(1);
        }
    }

    /// Runs a claimed job to its recorded end.
    ///
    /// An error means that the end could not be recorded, because the claim or the store was lost: the job
    /// stays claimed until its lease runs out, and whoever claims it then goes on.
    async fn run_to_end(&self, claimed: Claimed, signals: Arc<Signals>) -> Result<()> {
        let mut context = JobContext::new(&self.around, claimed, signals)?;
        let outcome = match context.undoing.clone() {
            Some((error, _)) => Err(error),
            None => calmly(run::run(&mut context)).await,
        };
        let end = match outcome {
            Ok(()) => JobEnd {
                state: JobState::Succeeded,
                error: None,
                left_behind: Vec::new(),
                command: None,
                result: context.take_result(),
            },
            Err(error) => {
                if context.signals.must_leave() {
                    return Err(error);
                }
                let stopped = context.stopped_on_request();
                let cancelled = context
                    .undoing
                    .as_ref()
                    .map_or(stopped, |(_, cancelled)| *cancelled);
                let mut left_behind = run::unfinished(&context);
                if !context.job.command.one_step() {
                    left_behind.extend(undo::undo(&mut context, &error, cancelled).await?);
                }
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
                    result: None,
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
            let after = self.aftermath(&context.job, &end).await?;
            let mut writes = after.writes()?;
            writes.extend(delivery_of_job(&context.job)?);
            match self.around.store.finish(&context.claim, &end, writes).await {
                Ok(()) => {
                    after.show(&self.around.inventory);
                    break;
                }
                // Either somebody edited a record meanwhile, or the claim is lost; renewing tells which.
                Err(error) if error.kind == ErrorKind::Conflict && !after.is_empty() => {
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
            tracing::warn!(job = %job.id, command, vm = job.command.vm().map(|vm| vm.to_string()), %error, "job ended without success");
        }
        metrics::counter!("gateway_jobs_total", "command" => command, "state" => end.state.as_ref().to_owned())
            .increment(1);
        job.state = end.state;
        job.error = end.error;
        job.left_behind = end.left_behind;
        job.result = end.result;
        if job.state == JobState::Succeeded {
            job.progress = 100;
        }
        job.ended = Some(Timestamp::now());
        self.around.inventory.job(&job);
        self.heard(&job);
        Ok(())
    }

    fn to_cancel(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.to_cancel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<JobId, (Claim, Arc<Signals>)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<Option<Job>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The client chose a job id that it, or somebody else, has used for another request.
pub(crate) fn job_id_taken(id: JobId) -> Error {
    let text = format!("job {id} exists already for another request or caller; choose a new id");
    Error::new(ErrorKind::Conflict, text).about(JobId::NOUN, id)
}

fn claimed_job(job: Job, claim: &Claim) -> Job {
    Job {
        state: JobState::Running,
        epoch: claim.epoch,
        started: Some(Timestamp::now()),
        ..job
    }
}

/// A panic in a step is a fault of ours that fails the job, and is undone like any other failure: a job whose
/// worker vanished without a word would be claimed, and fail in the same way, for ever.
async fn calmly(work: impl Future<Output = Result<()>>) -> Result<()> {
    let caught = std::panic::AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|_| Err(Error::internal("a step of the job panicked; the log says where")))
}

/// Somebody who waits for a job's end. Leaves nothing behind, however the waiting ends.
struct Waiter<'e> {
    engine: &'e Engine,
    id: JobId,
    ended: watch::Receiver<Option<Job>>,
}

impl<'e> Waiter<'e> {
    fn new(engine: &'e Engine, id: JobId) -> Self {
        let mut waiting = engine.waiting();
        let sender = waiting.entry(id).or_insert_with(|| watch::Sender::new(None));
        let ended = sender.subscribe();
        Self { engine, id, ended }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.engine.waiting();
        // Ours is among the receivers still.
        if waiting
            .get(&self.id)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            waiting.remove(&self.id);
        }
    }
}

/// A job among those that run here, and whose claims are renewed, until this is dropped.
struct Running<'e> {
    engine: &'e Engine,
    claim: Claim,
}

impl<'e> Running<'e> {
    fn enter(engine: &'e Engine, claim: &Claim, signals: &Arc<Signals>) -> Self {
        let entry = (claim.clone(), signals.clone());
        // We may have lost the job and claimed it again while its earlier run hangs in a call.
        if let Some((_, earlier)) = engine.running().insert(claim.job, entry) {
            earlier.lost.store(true, Ordering::Release);
        }
        let claim = claim.clone();
        Self { engine, claim }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.engine.running();
        let own = running.get(&self.claim.job);
        if own.is_some_and(|(claim, _)| claim.epoch == self.claim.epoch) {
            running.remove(&self.claim.job);
        }
    }
}
