//! The trait that a plugin author implements: one hypervisor, or the manager of several, behind one
//! `[[backend]]` entry.
//!
//! Rules for every method:
//! - It is called only if [`Backend::capabilities`] says `Native` or `Emulated`; the defaults here refuse.
//!   Declared ⇔ implemented is tested by the conformance kit.
//! - "Already so" is success: starting a running VM, deleting an absent volume. A job that was cut off
//!   between the call and its record makes the same call again.
//! - What it creates carries the job's id where the backend has room for it, and a call for the same job
//!   that finds its own object returns that object. An object of the same name made by anybody else is
//!   `AlreadyExists`.
//! - It gives up at [`CallContext::deadline`] with `Timeout` and never blocks the runtime.
//! - It returns when the work is done, not when the backend accepted it. Long work of a manager that hands
//!   out task handles keeps the handle ([`CallContext::keep_handle`]) before it waits, and a later call with
//!   [`CallContext::handle`] adopts that task instead of starting another.
//! - [`Backend::migrate`] and [`Backend::upload_volume`] may be broken off: when their future is dropped the work
//!   stops, and a VM stays where it was.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::capability::CapabilitySet;
use crate::command::PowerAction;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{
    BackendId, GraphicsKind, GuestSetup, HostId, JobId, PoolVolume, Screenshot, SnapshotFacts, SnapshotSpec,
    Timestamp, Topology, VmChange, VmFacts, VmId, VmSpec, Volume, VolumeSpec,
};
use crate::secret::{Keyring, Secret};

/// Keeps the handle of a long task in the job's journal.
#[async_trait]
pub trait HandleKeeper: Send + Sync {
    /// Stores `handle` durably before returning.
    async fn keep(&self, handle: &str) -> Result<()>;
}

/// Hears how far a long call has come.
pub trait ProgressSink: Send + Sync {
    /// The call has come to `percent`, 0 to 100, of its work. Cheap; from any thread, as often as it changes. What
    /// is less than before is ignored.
    fn report(&self, percent: u8);
}

/// What surrounds one call of a job's step.
#[derive(Clone)]
pub struct CallContext {
    /// The job; objects made by the call carry it.
    pub job: Option<JobId>,
    /// When the call must have returned.
    pub deadline: Instant,
    /// When this step was first begun by an earlier, cut-off try: what it made is not older than this.
    pub begun: Option<Timestamp>,
    /// The handle that an earlier try of this step had kept.
    pub handle: Option<String>,
    /// Where to keep a handle.
    pub keeper: Option<Arc<dyn HandleKeeper>>,
    /// Where to report progress.
    pub progress: Option<Arc<dyn ProgressSink>>,
    /// Opens sealed passwords of specs.
    pub keyring: Arc<Keyring>,
}

impl CallContext {
    /// A call outside any job, for reads and tests.
    pub fn plain(deadline: Instant, keyring: Arc<Keyring>) -> Self {
        Self {
            job: None,
            deadline,
            begun: None,
            handle: None,
            keeper: None,
            progress: None,
            keyring,
        }
    }

    /// Stores the handle of a task that was just started.
    ///
    /// # Errors
    /// Those of the store; the task must then not be waited for.
    pub async fn keep_handle(&self, handle: &str) -> Result<()> {
        match &self.keeper {
            Some(keeper) => keeper.keep(handle).await,
            None => Ok(()),
        }
    }

    /// Reports that the call has come to `percent` of its work.
    pub fn report(&self, percent: u8) {
        if let Some(progress) = &self.progress {
            progress.report(percent);
        }
    }

    /// Time left until the deadline; zero when it has passed.
    pub fn left(&self) -> std::time::Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Names a VM towards its backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRef {
    /// Canonical id.
    pub id: VmId,
    /// The backend's own key.
    pub native: String,
}

/// Where a VM's console is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// Protocol.
    pub kind: GraphicsKind,
    /// Host or address that a client connects to.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Where a VM moves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationTarget {
    /// The host.
    pub host: HostId,
    /// The other backend's [`Backend::migration_address`]; none for a host of the same backend.
    pub address: Option<String>,
}

/// Where the bytes of an upload come from.
pub type ByteStream = std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>>;

/// What a backend's `watch` reports.
#[derive(Debug, Clone)]
pub enum BackendEvent {
    /// The connection is up and these are all VMs: at the beginning, and again after every gap. From here on
    /// VMs are placed on it, so its first [`BackendEvent::Topology`] comes before.
    Resync(Vec<VmFacts>),
    /// One VM is new or changed.
    Changed(Box<VmFacts>),
    /// One VM is gone.
    Gone(VmId),
    /// Hosts, pools or networks as they are now.
    Topology(Topology),
    /// The connection is lost; VMs keep their last facts and count as unreachable.
    Down(Error),
}

/// A hypervisor behind one `[[backend]]` entry.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The configured id.
    fn id(&self) -> &BackendId;

    /// The folder under `backends/` that this is: `memory`, `libvirt` …
    fn kind(&self) -> &'static str;

    /// What it can do now, through this connection. Cheap; called for every change.
    fn capabilities(&self) -> Arc<CapabilitySet>;

    /// Keeps the inventory fresh: sends [`BackendEvent`]s until `out` closes. Reconnects by itself and
    /// never returns early except when `out` is closed.
    async fn watch(&self, out: mpsc::Sender<BackendEvent>);

    /// All VMs (`vm.list`).
    async fn list(&self, call: &CallContext) -> Result<Vec<VmFacts>>;

    /// One VM (`vm.list`), `None` if it does not exist.
    async fn get(&self, call: &CallContext, vm: &VmRef) -> Result<Option<VmFacts>>;

    /// Hosts, pools, networks (`topology.list`).
    async fn topology(&self, call: &CallContext) -> Result<Topology>;

    /// Makes one volume (`volume.create`, `volume.copy`, `volume.layer` by its source).
    async fn create_volume(&self, call: &CallContext, volume: &VolumeSpec) -> Result<Volume> {
        let _ = (call, volume);
        Err(unimplemented_by(self.kind(), "create_volume"))
    }

    /// Removes the volume `name` of `pool` (`volume.delete`); absent is success.
    async fn delete_volume(&self, call: &CallContext, pool: &str, name: &str) -> Result<()> {
        let _ = (call, pool, name);
        Err(unimplemented_by(self.kind(), "delete_volume"))
    }

    /// Prepares the first-boot set-up for `vm` (`guest.setup`) and returns the volume that carries it, to be
    /// put into an optical drive. The volume's name is `seed_name`, in `pool`.
    async fn create_seed(
        &self,
        call: &CallContext,
        vm: VmId,
        pool: &str,
        seed_name: &str,
        setup: &GuestSetup,
    ) -> Result<Volume> {
        let _ = (call, vm, pool, seed_name, setup);
        Err(unimplemented_by(self.kind(), "create_seed"))
    }

    /// Defines a VM, powered off (`vm.create`), from a spec whose `volumes` exist already, in order, as
    /// `disks`; `seed` goes into an optical drive.
    async fn define(
        &self,
        call: &CallContext,
        vm: VmId,
        spec: &VmSpec,
        disks: &[Volume],
        seed: Option<&Volume>,
    ) -> Result<VmFacts> {
        let _ = (call, vm, spec, disks, seed);
        Err(unimplemented_by(self.kind(), "define"))
    }

    /// Removes a VM's definition with what belongs to it: saved memory, NVRAM, snapshot metadata
    /// (`vm.delete`). The VM is off; absent is success. Volumes stay.
    async fn undefine(&self, call: &CallContext, vm: &VmRef) -> Result<()> {
        let _ = (call, vm);
        Err(unimplemented_by(self.kind(), "undefine"))
    }

    /// Changes the power state (`power.*`). Returns when the state is reached; `Reboot` and `Reset` when the
    /// guest was asked. `ForceReboot` never arrives here: the job makes it of `ForceOff` and `Start`.
    async fn power(&self, call: &CallContext, vm: &VmRef, action: PowerAction) -> Result<()> {
        let _ = (call, vm, action);
        Err(unimplemented_by(self.kind(), "power"))
    }

    /// Where the console of a running VM is (`console.endpoint`).
    async fn console(&self, call: &CallContext, vm: &VmRef) -> Result<Console> {
        let _ = (call, vm);
        Err(unimplemented_by(self.kind(), "console"))
    }

    /// Reads the console password (`console.password`); `None` when there is none.
    async fn console_password(&self, call: &CallContext, vm: &VmRef) -> Result<Option<Secret>> {
        let _ = (call, vm);
        Err(unimplemented_by(self.kind(), "console_password"))
    }

    /// Sets the console password, live and in the definition (`console.password`).
    async fn set_console_password(&self, call: &CallContext, vm: &VmRef, password: &Secret) -> Result<()> {
        let _ = (call, vm, password);
        Err(unimplemented_by(self.kind(), "set_console_password"))
    }

    /// Makes one change (the capability is the change's own), on the running machine and in its definition. "Already
    /// so" is success. It is whole or not at all.
    async fn change(&self, call: &CallContext, vm: &VmRef, change: &VmChange) -> Result<()> {
        let _ = (call, vm, change);
        Err(unimplemented_by(self.kind(), "change"))
    }

    /// One volume as it is now (`volume.create`), `None` if it does not exist.
    async fn volume(&self, call: &CallContext, place: &PoolVolume) -> Result<Option<Volume>> {
        let _ = (call, place);
        Err(unimplemented_by(self.kind(), "volume"))
    }

    /// Makes a volume at least `capacity` bytes large (`volume.resize`). `attached` is the VM that has it, whose
    /// running guest sees the new size. Larger already is success; nothing is ever made smaller.
    async fn resize_volume(
        &self,
        call: &CallContext,
        place: &PoolVolume,
        attached: Option<&VmRef>,
        capacity: u64,
    ) -> Result<Volume> {
        let _ = (call, place, attached, capacity);
        Err(unimplemented_by(self.kind(), "resize_volume"))
    }

    /// Makes the volume `spec` (blank, `capacity` being the bytes to come) and fills it with the stream
    /// (`volume.upload`). A volume that an earlier try left half-filled is filled anew.
    async fn upload_volume(
        &self,
        call: &CallContext,
        spec: &VolumeSpec,
        bytes: ByteStream,
    ) -> Result<Volume> {
        let _ = (call, spec, bytes);
        Err(unimplemented_by(self.kind(), "upload_volume"))
    }

    /// Makes a snapshot (`snapshot.create`, with memory `snapshot.memory`). One of that name is ours: success.
    async fn create_snapshot(
        &self,
        call: &CallContext,
        vm: &VmRef,
        snapshot: &SnapshotSpec,
    ) -> Result<SnapshotFacts> {
        let _ = (call, vm, snapshot);
        Err(unimplemented_by(self.kind(), "create_snapshot"))
    }

    /// Goes back to a snapshot (`snapshot.revert`): one with memory ends running or paused as it was, one without
    /// leaves the VM off.
    async fn revert_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        let _ = (call, vm, name);
        Err(unimplemented_by(self.kind(), "revert_snapshot"))
    }

    /// Removes a snapshot (`snapshot.delete`); those based on it stay. Absent is success.
    async fn delete_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        let _ = (call, vm, name);
        Err(unimplemented_by(self.kind(), "delete_snapshot"))
    }

    /// All snapshots of a VM, parents before children (`snapshot.create`).
    async fn snapshots(&self, call: &CallContext, vm: &VmRef) -> Result<Vec<SnapshotFacts>> {
        let _ = (call, vm);
        Err(unimplemented_by(self.kind(), "snapshots"))
    }

    /// Where another backend of the same kind sends a running VM to (`vm.migrate`); `None` if nowhere.
    fn migration_address(&self) -> Option<String> {
        None
    }

    /// Moves a running VM to another host (`vm.migrate`). Disks that both hosts reach at the same place stay, others
    /// are copied. Gone from here and running there is success, and so is being there already; on failure it runs
    /// here as before.
    async fn migrate(&self, call: &CallContext, vm: &VmRef, to: &MigrationTarget) -> Result<()> {
        let _ = (call, vm, to);
        Err(unimplemented_by(self.kind(), "migrate"))
    }

    /// A picture of a running VM's screen (`console.screenshot`).
    async fn screenshot(&self, call: &CallContext, vm: &VmRef) -> Result<Screenshot> {
        let _ = (call, vm);
        Err(unimplemented_by(self.kind(), "screenshot"))
    }
}

/// A method that the capability table should have kept from being called.
fn unimplemented_by(kind: &str, method: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("backend {kind} has no {method}"))
}
