//! The layers between a frontend and the work, stacked in one readable function: [`Core::submit`].

mod accounts;
mod audit;
mod authorise;
mod capable;
mod create;
mod entries;
mod holds;
mod images;
pub mod lapse;
mod legal;
mod machines;
mod placement;
pub mod retention;
mod snapshots;
mod stillborn;
mod volumes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use create::distinct_name;
pub use create::{
    ConsoleChoice, CreateRequest, DiskRequest, GuestLogin, MediumRequest, NicRequest, Root, Wish, random_name,
};
pub use images::{ImageFrom, ImageRequest};
pub use machines::CloneRequest;
pub use snapshots::SnapshotRequest;
#[cfg(test)]
pub(crate) use stillborn::forget_calls_at;
pub(crate) use stillborn::stored_call;
pub use stillborn::{MOST_PER_SOURCE, MOST_STILLBORN, Origin, forget_calls};
pub use volumes::VolumeRequest;

use crate::backend::{Backend, CallContext, Console, VmRef};
use crate::command::{COMMAND_VERSION, Command, WhenBusy};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::{Inventory, Snapshot};
use crate::jobs::{Engine, job_id_taken};
use crate::model::{BackendId, Caller, Hook, Job, JobId, JobState, Timestamp, Vm, VmId, VmRecord};
use crate::query;
use crate::registry::Registry;
use crate::secret::{Keyring, Sealed, Secret};
use crate::store::Write;

/// Choices of the site that the layers judge by.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long a job may take, from acceptance to end.
    pub job_deadline: Duration,
    /// Pool for new volumes where a request names none; the backend's first active pool without.
    pub pool: Option<String>,
    /// Network for new interfaces where a request names none; the backend's first active network without,
    /// and user-mode networking where there is none.
    pub network: Option<String>,
    /// Whether new disks are copy-on-write layers over their image rather than full copies.
    pub layered_disks: bool,
    /// Whether images get first-boot set-up where the backend can deliver it.
    pub guest_setup: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            job_deadline: Duration::from_secs(600),
            pool: None,
            network: None,
            layered_disks: false,
            guest_setup: true,
        }
    }
}

/// How a frontend wants a command to be taken.
#[derive(Debug, Clone)]
pub struct SubmitOptions {
    /// What to do when another job holds the VM.
    pub when_busy: WhenBusy,
    /// Accept whatever the VM's state is, as the original does: the refusal then becomes a failed job.
    pub accept_blindly: bool,
    /// The job's id where the client chooses it; the same id with the same digest, or without one with the same
    /// command, is the same job.
    pub job: Option<JobId>,
    /// Of the request ([`Core::digest`]).
    pub digest: Option<String>,
    /// Whom to tell of the end.
    pub hook: Option<Hook>,
    /// What the dialect needs to say the result at the poll.
    pub note: Option<serde_json::Value>,
}

impl SubmitOptions {
    /// Queue behind other jobs; refuse what the state forbids.
    pub const QUEUE: Self = Self {
        when_busy: WhenBusy::Queue,
        accept_blindly: false,
        job: None,
        digest: None,
        hook: None,
        note: None,
    };
    /// Refuse when busy; refuse what the state forbids.
    pub const REFUSE: Self = Self {
        when_busy: WhenBusy::Refuse,
        accept_blindly: false,
        job: None,
        digest: None,
        hook: None,
        note: None,
    };
    /// Queue and accept blindly.
    pub const BLIND: Self = Self {
        when_busy: WhenBusy::Queue,
        accept_blindly: true,
        job: None,
        digest: None,
        hook: None,
        note: None,
    };
}

/// The core as frontends see it.
pub struct Core {
    inventory: Arc<Inventory>,
    registry: Registry,
    engine: Arc<Engine>,
    backends: HashMap<BackendId, Arc<dyn Backend>>,
    keyring: Arc<Keyring>,
    policy: Policy,
    holds: holds::Holds,
    stillborn: stillborn::Shares,
}

impl Core {
    /// The core on these parts.
    pub fn new(
        inventory: Arc<Inventory>,
        registry: Registry,
        engine: Arc<Engine>,
        backends: HashMap<BackendId, Arc<dyn Backend>>,
        keyring: Arc<Keyring>,
        policy: Policy,
    ) -> Arc<Self> {
        Arc::new(Self {
            inventory,
            registry,
            engine,
            backends,
            keyring,
            policy,
            holds: holds::Holds::default(),
            stillborn: stillborn::Shares::default(),
        })
    }

    /// This moment of the inventory; no hypervisor is asked.
    pub fn now(&self) -> Arc<Snapshot> {
        self.inventory.now()
    }

    /// The registry.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The backends by id.
    pub fn backends(&self) -> &HashMap<BackendId, Arc<dyn Backend>> {
        &self.backends
    }

    /// A VM that the caller may see. An id that the inventory does not know is looked up in the registry
    /// once, because another gateway may have made it a moment ago.
    ///
    /// # Errors
    /// `NotFound` when it does not exist, is gone, or belongs to somebody else.
    pub async fn vm(&self, caller: &Caller, id: VmId) -> Result<Arc<Vm>> {
        let unknown = || Error::not_found("vm", id);
        let known = self.now().vms.get(&id).cloned();
        let vm = match known {
            Some(vm) => vm,
            None => {
                let (record, version) = self.registry.vm(id).await?.ok_or_else(unknown)?;
                if record.gone_at.is_some() {
                    return Err(unknown());
                }
                self.inventory.records(vec![(record, version)]);
                self.now().vms.get(&id).cloned().ok_or_else(unknown)?
            }
        };
        if query::may_see(caller, &vm) {
            Ok(vm)
        } else {
            Err(unknown())
        }
    }

    /// Takes a change: every layer in its order, then the job.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, `IllegalState`, `Unsupported`, `Busy`, `BackendUnavailable`; in every case
    /// nothing has been done.
    pub async fn submit(&self, caller: &Caller, command: Command, options: SubmitOptions) -> Result<Job> {
        authorise::may_change(caller)?;
        if let Some(known) = self.known_job(caller, Some(&command), &options).await? {
            return Ok(known);
        }
        let vm = command
            .vm()
            .ok_or_else(|| Error::internal("a command about no vm has an entrance of its own"))?;
        let vm = self.vm(caller, vm).await?;
        if !options.accept_blindly {
            legal::check(&command, &vm)?;
        }
        let backend = self.backend(vm.home())?;
        capable::check(&command, backend.as_ref())?;
        audit::asked(caller, &command);
        self.accept(caller, command, vm.home().clone(), Vec::new(), options)
            .await
    }

    /// Stores the job. Here and not earlier a change begins to exist.
    async fn accept(
        &self,
        caller: &Caller,
        command: Command,
        backend: BackendId,
        writes: Vec<Write>,
        options: SubmitOptions,
    ) -> Result<Job> {
        let submitted = Timestamp::now();
        let deadline = submitted
            .checked_add(self.policy.job_deadline)
            .map_err(|_| Error::internal("the job's deadline is beyond the calendar"))?;
        let job = Job {
            id: options.job.unwrap_or_else(JobId::random),
            subjects: command.subjects(),
            command: command.clone(),
            command_version: COMMAND_VERSION,
            backend,
            tenant: caller.tenant.clone(),
            dialect: caller.dialect.to_owned(),
            operation: caller.operation.clone(),
            state: JobState::Queued,
            submitted,
            started: None,
            ended: None,
            deadline,
            progress: 0,
            cancel_requested: false,
            epoch: 0,
            error: None,
            left_behind: Vec::new(),
            result: None,
            digest: options.digest,
            hook: options.hook,
            note: options.note,
        };
        let accepted = self.engine.submit(job, writes, options.when_busy).await;
        // The same request was taken at the same moment, and has its own idea of what is to be made.
        let accepted = accepted.and_then(|job| match job.command == command {
            true => Ok(job),
            false => Err(job_id_taken(job.id)),
        });
        audit::answered(caller, &accepted);
        accepted
    }

    /// A job that the caller may see.
    ///
    /// # Errors
    /// `NotFound` for an unknown one and for somebody else's.
    pub async fn job(&self, caller: &Caller, id: JobId) -> Result<Job> {
        let job = self.registry.store().job(id).await?;
        let job = job.filter(|job| query::scope(caller).is_none_or(|tenant| job.tenant == *tenant));
        job.ok_or_else(|| Error::not_found(JobId::NOUN, id))
    }

    /// Asks for a job to stop and returns it as it then is. A queued one has ended, and the VM that it was to
    /// make is gone with its secrets; a running one stops before its next step and is undone; one that has ended,
    /// or is past the point where it could be undone, goes on as it was.
    ///
    /// # Errors
    /// `Forbidden`; `NotFound` as [`Core::job`].
    pub async fn cancel(&self, caller: &Caller, id: JobId) -> Result<Job> {
        authorise::may_change(caller)?;
        self.job(caller, id).await?;
        tracing::info!(target: "audit", request = caller.request_id, job = %id, "asked to cancel");
        self.engine.cancel(id).await
    }

    /// Waits for a job's end, at most for `longest`; the job as it then is.
    ///
    /// # Errors
    /// `NotFound`; those of the store.
    pub async fn wait(&self, job: JobId, longest: Duration) -> Result<Job> {
        self.engine.wait(job, Instant::now() + longest).await
    }

    /// Waits for a job's success.
    ///
    /// # Errors
    /// The job's own error; `Timeout` when it has not ended after `longest` (it goes on).
    pub async fn wait_for_success(&self, job: JobId, longest: Duration) -> Result<Job> {
        let job = self.wait(job, longest).await?;
        match (&job.error, job.state.ended()) {
            (Some(error), true) => Err(error.clone()),
            (None, true) => Ok(job),
            (_, false) => Err(
                Error::new(ErrorKind::Timeout, "the work has not ended yet, it goes on").about("job", job.id),
            ),
        }
    }

    /// Changes what the registry remembers of a VM; takes effect at once, no backend is asked.
    ///
    /// # Errors
    /// `Forbidden`, `NotFound`, or what `change` refuses.
    pub async fn annotate(
        &self,
        caller: &Caller,
        id: VmId,
        change: impl Fn(&mut VmRecord) -> Result<()> + Send + Sync,
    ) -> Result<Arc<Vm>> {
        authorise::may_change(caller)?;
        self.vm(caller, id).await?;
        let edited = self.registry.edit_vm(id, change).await?;
        self.inventory.records(vec![edited]);
        self.vm(caller, id).await
    }

    /// Where a VM's console is. This asks the hypervisor: ports are known to it alone.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported`, `IllegalState` for a VM that is off, `BackendUnavailable`.
    pub async fn console(&self, caller: &Caller, id: VmId) -> Result<Console> {
        let vm = self.vm(caller, id).await?;
        let backend = self.backend(vm.home())?;
        capable::one(crate::capability::Capability::ConsoleEndpoint, backend.as_ref())?;
        let call = CallContext::plain(Instant::now() + Duration::from_secs(10), self.keyring.clone());
        let native = vm
            .facts
            .as_ref()
            .map_or_else(|| id.to_string(), |facts| facts.native.clone());
        backend.console(&call, &VmRef { id, native }).await
    }

    /// Seals a secret for a record or command.
    ///
    /// # Errors
    /// `Internal`.
    pub fn seal(&self, secret: &Secret) -> Result<Sealed> {
        self.keyring.seal(secret)
    }

    /// Opens a sealed secret for a dialect that shows it to the owner.
    ///
    /// # Errors
    /// `Internal` when the key is missing.
    pub fn open(&self, sealed: &Sealed) -> Result<Secret> {
        self.keyring.open(sealed)
    }

    fn backend(&self, id: &BackendId) -> Result<Arc<dyn Backend>> {
        self.backends.get(id).cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::BackendUnavailable,
                format!("backend {id} is not configured on this gateway"),
            )
            .about("backend", id)
        })
    }
}
