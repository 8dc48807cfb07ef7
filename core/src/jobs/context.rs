//! What a running job sees of the world: its journalled steps.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::killpoint;
use super::progress::Progress;
use super::undo::Undo;
use crate::backend::{Backend, CallContext, HandleKeeper, VmRef};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Inventory;
use crate::model::{Job, MOST_RESULT, Timestamp, VmId, check_size};
use crate::outbound::Outbound;
use crate::registry::Registry;
use crate::secret::Keyring;
use crate::store::{Claim, Claimed, JournalEntry, Store};

/// What the journal says of one step.
#[derive(Debug, Default, Clone)]
pub(super) struct StepTrace {
    pub(super) order: usize,
    pub(super) begun: Option<Timestamp>,
    pub(super) handle: Option<String>,
    pub(super) output: Option<serde_json::Value>,
    pub(super) undo: Option<Undo>,
    pub(super) undone: bool,
}

/// Signals to a running job from outside.
#[derive(Debug)]
pub(super) struct Signals {
    /// Another gateway claimed the job: stop without a trace.
    pub(super) lost: AtomicBool,
    /// Somebody asked for it to stop.
    cancelled: AtomicBool,
    /// Wakes a call that may be broken off.
    asked_to_stop: Notify,
    /// The journal could not be written: what was done is not known to whoever comes next, so nothing more may
    /// be done, undoing included, before the journal has been read again.
    unrecorded: AtomicBool,
    lease: Duration,
    held_until: Mutex<Instant>,
}

impl Signals {
    /// Of a job that was claimed, or a claim asked for, at `asked`.
    pub(super) fn new(asked: Instant, lease: Duration) -> Self {
        Self {
            lost: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            asked_to_stop: Notify::new(),
            unrecorded: AtomicBool::new(false),
            lease,
            held_until: Mutex::new(asked + lease),
        }
    }

    /// Somebody asked for the job to stop.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.asked_to_stop.notify_waiters();
    }

    /// The claim was renewed by a call that began at `asked`.
    pub(super) fn renewed(&self, asked: Instant) {
        let mut until = self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(asked + self.lease);
    }

    /// Whether the job must be left to whoever claims it next.
    pub(super) fn must_leave(&self) -> bool {
        self.lost.load(Ordering::Acquire) || self.unrecorded.load(Ordering::Acquire)
    }

    fn run_out(&self) -> bool {
        let until = self.held_until.lock().unwrap_or_else(PoisonError::into_inner);
        Instant::now() >= *until
    }
}

/// A running job.
pub struct JobContext {
    pub(super) claim: Claim,
    pub(super) job: Job,
    pub(super) store: Arc<dyn Store>,
    pub(super) inventory: Arc<Inventory>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) signals: Arc<Signals>,
    pub(super) steps: BTreeMap<String, StepTrace>,
    /// Set once the journal says that the job is being undone: why, and whether it was cancelled.
    pub(super) undoing: Option<(Error, bool)>,
    progress: Arc<Progress>,
    /// What it says of its success to whoever asked.
    result: Option<serde_json::Value>,
    outbound: Outbound,
    /// All backends of this gateway, for commands that concern two.
    peers: HashMap<crate::model::BackendId, Arc<dyn Backend>>,
    /// Whether a request to stop comes too late.
    no_way_back: bool,
    /// Whether steps are journalled; a one-step command needs none.
    journalled: bool,
    deadline: Instant,
}

/// What surrounds every job of one engine.
pub(super) struct Surroundings {
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Registry,
    pub(super) inventory: Arc<Inventory>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) backends: HashMap<crate::model::BackendId, Arc<dyn Backend>>,
    pub(super) outbound: Outbound,
}

impl JobContext {
    pub(super) fn new(around: &Surroundings, claimed: Claimed, signals: Arc<Signals>) -> Result<Self> {
        let Claimed { claim, job, journal } = claimed;
        let backend = around
            .backends
            .get(&job.backend)
            .cloned()
            .ok_or_else(|| Error::not_found("backend", &job.backend))?;
        let left = job.deadline.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
        let progress = Progress::new(around.store.clone(), claim.clone(), job.progress);
        let mut context = Self {
            journalled: !job.command.one_step(),
            deadline: Instant::now() + left,
            claim,
            job,
            store: around.store.clone(),
            inventory: around.inventory.clone(),
            backend,
            keyring: around.keyring.clone(),
            signals,
            steps: BTreeMap::new(),
            undoing: None,
            progress,
            result: None,
            outbound: around.outbound.clone(),
            peers: around.backends.clone(),
            no_way_back: false,
        };
        for entry in journal {
            context.replay(entry)?;
        }
        Ok(context)
    }

    fn replay(&mut self, entry: JournalEntry) -> Result<()> {
        match entry {
            JournalEntry::Begun { step, at, undo } => {
                let undo = undo.map(serde_json::from_value).transpose().map_err(unreadable)?;
                let trace = self.trace(step);
                trace.begun.get_or_insert(at);
                trace.undo = undo;
                trace.undone = false;
            }
            JournalEntry::Handle { step, handle } => self.trace(step).handle = Some(handle),
            JournalEntry::Done { step, output } => self.trace(step).output = Some(output),
            JournalEntry::Undone { step } => self.trace(step).undone = true,
            JournalEntry::Undoing { error, cancelled } => self.undoing = Some((error, cancelled)),
        }
        Ok(())
    }

    fn trace(&mut self, step: String) -> &mut StepTrace {
        let order = self.steps.len();
        self.steps.entry(step).or_insert(StepTrace {
            order,
            ..StepTrace::default()
        })
    }

    /// Runs one step, or returns what it returned when it ran before.
    ///
    /// `name` is unique within the job. `undo` is stored before the call, so that a step that is cut off in
    /// the middle can be undone.
    ///
    /// # Errors
    /// Those of the call; `Timeout` after the job's deadline; `Conflict` when another gateway has the job.
    pub(super) async fn step<T, F, Fut>(&mut self, name: &str, undo: Option<Undo>, call: F) -> Result<T>
    where
        T: Serialize + DeserializeOwned,
        F: Fn(Arc<dyn Backend>, CallContext) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let trace = self.steps.get(name).cloned().unwrap_or_default();
        if let Some(output) = trace.output {
            return serde_json::from_value(output).map_err(unreadable);
        }
        self.may_go_on()?;
        let command = self.job.command.name();
        killpoint::pass(command, name, "begin");
        // A try that met somebody else's object made nothing: there was none.
        let begun = trace.begun.filter(|_| !trace.undone);
        if self.journalled && begun.is_none() {
            let stored = undo
                .as_ref()
                .map(serde_json::to_value)
                .transpose()
                .map_err(unreadable)?;
            let at = Timestamp::now();
            self.journal(&JournalEntry::Begun {
                step: name.to_owned(),
                at,
                undo: stored,
            })
            .await?;
            let order = self.steps.len();
            let fresh = StepTrace {
                order,
                begun: Some(at),
                undo,
                ..StepTrace::default()
            };
            self.steps.insert(name.to_owned(), fresh);
        }
        killpoint::pass(command, name, "begun");
        let output = match self.call(name, begun, trace.handle, call).await {
            Err(error) if self.journalled && error.kind == ErrorKind::AlreadyExists => {
                self.met_a_foreign_object(name).await?;
                return Err(error);
            }
            outcome => outcome?,
        };
        killpoint::pass(command, name, "called");
        if self.journalled {
            let value = serde_json::to_value(&output).map_err(unreadable)?;
            let entry = JournalEntry::Done {
                step: name.to_owned(),
                output: value,
            };
            self.journal(&entry).await?;
            if let JournalEntry::Done { step, output } = entry {
                self.steps.entry(step).or_default().output = Some(output);
            }
        }
        killpoint::pass(command, name, "done");
        Ok(output)
    }

    /// Notes that a step made nothing, because somebody else's object was in the way: so nobody will undo it, nor
    /// take that object for what an earlier try of this job made.
    async fn met_a_foreign_object(&mut self, step: &str) -> Result<()> {
        let entry = JournalEntry::Undone {
            step: step.to_owned(),
        };
        self.journal(&entry).await?;
        self.replay(entry)
    }

    /// Makes a backend call, again while the backend is only out of reach and time is left: a hypervisor
    /// daemon that restarts takes about a second. A later try is told that there was an earlier one, because
    /// a call whose connection broke may have been carried out, in part or in full.
    async fn call<T, F, Fut>(
        &self,
        step: &str,
        mut begun: Option<Timestamp>,
        handle: Option<String>,
        call: F,
    ) -> Result<T>
    where
        F: Fn(Arc<dyn Backend>, CallContext) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut pause = Duration::from_millis(100);
        loop {
            self.may_go_on()?;
            self.hold().await?;
            let this_try = Timestamp::now();
            let context = CallContext {
                job: Some(self.job.id),
                deadline: self.deadline,
                begun,
                handle: handle.clone(),
                keeper: Some(Arc::new(Keeper {
                    store: self.store.clone(),
                    claim: self.claim.clone(),
                    step: step.to_owned(),
                    signals: self.signals.clone(),
                })),
                progress: Some(self.progress.clone()),
                keyring: self.keyring.clone(),
            };
            let outcome = tokio::select! {
                outcome = call(self.backend.clone(), context) => outcome,
                () = self.to_break_off() => Err(Error::new(ErrorKind::Conflict, "the job was cancelled")),
            };
            match outcome {
                Err(error)
                    if error.kind == ErrorKind::BackendUnavailable && pause < Duration::from_secs(7) =>
                {
                    tracing::warn!(job = %self.job.id, step, %error, "backend out of reach, trying again");
                    tokio::time::sleep(pause.min(self.deadline.saturating_duration_since(Instant::now())))
                        .await;
                    pause *= 2;
                    begun.get_or_insert(this_try);
                }
                outcome => return outcome,
            }
        }
    }

    /// Ends when somebody has asked for a job to stop whose call may be broken off.
    async fn to_break_off(&self) {
        if !self.job.command.breaks_off() {
            return std::future::pending().await;
        }
        loop {
            // Made before the look, so that no request falls between the two.
            let asked = self.signals.asked_to_stop.notified();
            if self.stopped_on_request() {
                return;
            }
            asked.await;
        }
    }

    /// Whether the job may make another backend call: the claim must still be ours, nobody may have cancelled
    /// it, and its time must not be over. The undo of a job is not cancelled and has its own time.
    pub(super) fn may_go_on(&self) -> Result<()> {
        if self.signals.lost.load(Ordering::Acquire) {
            return Err(taken_over());
        }
        if self.signals.unrecorded.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::BackendUnavailable,
                "store: the journal could not be written; the job goes on once it can be",
            ));
        }
        if self.undoing.is_some() {
            return Ok(());
        }
        if self.stopped_on_request() {
            return Err(Error::new(ErrorKind::Conflict, "the job was cancelled"));
        }
        if Instant::now() >= self.deadline {
            return Err(Error::new(ErrorKind::Timeout, "the job's deadline has passed"));
        }
        Ok(())
    }

    /// Makes sure that the claim holds before the hypervisor is called, which no fence protects. It may have run
    /// out unnoticed while this process, or its whole machine, was frozen.
    ///
    /// # Errors
    /// `Conflict` when another gateway has the job; those of the store.
    pub(super) async fn hold(&self) -> Result<()> {
        if !self.signals.run_out() {
            return Ok(());
        }
        let asked = Instant::now();
        match self.store.renew(&self.claim, self.signals.lease).await {
            Ok(()) => {
                self.signals.renewed(asked);
                Ok(())
            }
            Err(error) if error.kind == ErrorKind::Conflict => {
                self.signals.lost.store(true, Ordering::Release);
                Err(taken_over())
            }
            Err(error) => {
                self.signals.unrecorded.store(true, Ordering::Release);
                Err(error)
            }
        }
    }

    /// Appends to the journal. After a failure the job is left as it is: it is not known whether the entry was
    /// written, and an undo that believed the job's memory rather than the journal could undo what is done.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn journal(&self, entry: &JournalEntry) -> Result<()> {
        let written = self.store.journal(&self.claim, entry).await;
        if written.is_err() {
            self.signals.unrecorded.store(true, Ordering::Release);
        }
        written
    }

    /// Says what the job found or made, for the dialect that answers for it: canonical ids and numbers. Said again
    /// by a gateway that takes the job over, because only the end stores it.
    ///
    /// # Errors
    /// `Internal` for more than [`MOST_RESULT`] bytes.
    pub(super) fn set_result(&mut self, result: serde_json::Value) -> Result<()> {
        check_size("the job's result", &result, MOST_RESULT)?;
        self.result = Some(result);
        Ok(())
    }

    /// What was said with [`JobContext::set_result`].
    pub(super) fn take_result(&mut self) -> Option<serde_json::Value> {
        self.result.take()
    }

    /// Says how far the whole job has come, 0 to 99; what is less than before is ignored.
    pub(super) fn progress(&self, percent: u8) {
        self.progress.reach(percent);
    }

    /// What the following steps' backend calls report (each 0 to 100) is the part from `from` to `to` of the whole.
    pub(super) fn weigh(&self, from: u8, to: u8) {
        self.progress.weigh(from, to);
    }

    /// The client for addresses that users name.
    pub(super) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// From here on the job cannot be taken back: a request to stop comes too late.
    pub(super) fn no_way_back(&mut self) {
        self.no_way_back = true;
    }

    /// Whether somebody asked for the job to stop while it still could.
    pub(super) fn stopped_on_request(&self) -> bool {
        self.signals.cancelled.load(Ordering::Acquire) && !self.no_way_back
    }

    /// Whether the journal says that the step is done.
    pub(super) fn has_done(&self, step: &str) -> bool {
        self.steps.get(step).is_some_and(|trace| trace.output.is_some())
    }

    /// Whether the time is not over after `pause`.
    pub(super) fn has_time_for(&self, pause: Duration) -> bool {
        Instant::now() + pause < self.deadline
    }

    /// Gives the undo a time of its own, since the job's may be what ran out.
    pub(super) fn extend_for_undo(&mut self, time: Duration) {
        self.deadline = Instant::now() + time;
    }

    /// Another backend of this gateway.
    pub(super) fn peer(&self, id: &crate::model::BackendId) -> Result<Arc<dyn Backend>> {
        self.peers.get(id).cloned().ok_or_else(|| {
            let text = format!("backend {id} is not configured on this gateway");
            Error::new(ErrorKind::BackendUnavailable, text).about("backend", id)
        })
    }

    /// How the VM is called on its backend: as its facts say, or, while there are none, by its id.
    pub(super) fn vm_ref(&self, id: VmId) -> VmRef {
        let now = self.inventory.now();
        let facts = now.vms.get(&id).and_then(|vm| vm.facts.as_ref());
        VmRef {
            id,
            native: facts.map_or_else(|| id.to_string(), |facts| facts.native.clone()),
        }
    }

    /// A context for calls outside steps.
    pub(super) fn plain_call(&self) -> CallContext {
        CallContext {
            job: Some(self.job.id),
            ..CallContext::plain(self.deadline, self.keyring.clone())
        }
    }
}

fn taken_over() -> Error {
    Error::new(ErrorKind::Conflict, "another gateway has taken the job over")
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::internal(format!("a journal entry cannot be read or written: {error}"))
}

struct Keeper {
    store: Arc<dyn Store>,
    claim: Claim,
    step: String,
    signals: Arc<Signals>,
}

#[async_trait]
impl HandleKeeper for Keeper {
    async fn keep(&self, handle: &str) -> Result<()> {
        let entry = JournalEntry::Handle {
            step: self.step.clone(),
            handle: handle.to_owned(),
        };
        let written = self.store.journal(&self.claim, &entry).await;
        if written.is_err() {
            self.signals.unrecorded.store(true, Ordering::Release);
        }
        written
    }
}
