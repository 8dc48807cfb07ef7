//! The trait's methods: each is logged, may be refused, is slow or fails as told, and then changes or reads
//! the world.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use babelvisor_core::backend::{
    Backend, BackendEvent, ByteStream, CallContext, Console, MigrationTarget, VmRef,
};
use babelvisor_core::capability::{Capability, CapabilitySet};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    BackendId, GuestSetup, PoolVolume, Screenshot, SnapshotFacts, SnapshotSpec, Topology, VmChange, VmFacts,
    VmId, VmSpec, Volume, VolumeSource, VolumeSpec,
};
use babelvisor_core::secret::Secret;
use babelvisor_core::{Error, Result};
use tokio::sync::{mpsc, watch};

use crate::capability::{Method, declared};
use crate::config::{MemoryConfig, When};
use crate::control::Control;
use crate::convert::Plan;
use crate::error;
use crate::guests::{console, define, set_password, undefine};
use crate::quirks::{CallRecord, Quirks};
use crate::tasks;
use crate::world::{Link, Password, World};

/// What the backend and its control share.
pub(crate) struct Hypervisor {
    pub(crate) id: BackendId,
    capabilities: Arc<CapabilitySet>,
    world: Mutex<World>,
    quirks: Mutex<Quirks>,
    pub(crate) link: watch::Sender<Link>,
}

impl Hypervisor {
    /// The world; never held over an await.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn quirks(&self) -> MutexGuard<'_, Quirks> {
        self.quirks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no call gets through, if so.
    pub(crate) fn down(&self) -> Option<Error> {
        let link = self.link.borrow();
        link.down
            .as_ref()
            .map(|reason| error::unavailable(&self.id, reason))
    }

    /// Ends when the connection is lost, counted from this call.
    pub(crate) fn lost(&self) -> impl Future<Output = Error> + Send + use<> {
        let mut link = self.link.subscribe();
        let losses = link.borrow().losses;
        let id = self.id.clone();
        async move {
            let reason = match link.wait_for(|link| link.losses != losses).await {
                Ok(link) => link.down.clone(),
                Err(_) => Some("the simulated hypervisor is gone".to_owned()),
            };
            error::unavailable(
                &id,
                reason
                    .as_deref()
                    .unwrap_or("the connection was lost for a moment"),
            )
        }
    }

    /// Ends when the connection is up.
    pub(crate) async fn found(&self) {
        let mut link = self.link.subscribe();
        // The sender is ours: waiting cannot fail.
        let _ = link.wait_for(|link| link.down.is_none()).await;
    }
}

/// A backend whose hypervisor lives in this process.
pub struct MemoryBackend {
    hypervisor: Arc<Hypervisor>,
}

/// What a call that was let through must still do.
struct Ticket {
    /// The answer that is lost after the effect.
    lost: Option<Error>,
    /// The time that a boot or shutdown takes.
    time: Duration,
}

impl Ticket {
    /// The call's answer; an error of its own beats the injected one.
    fn answer<T>(self, result: Result<T>) -> Result<T> {
        match (result, self.lost) {
            (Ok(_), Some(lost)) => Err(lost),
            (result, _) => result,
        }
    }
}

impl MemoryBackend {
    /// A hypervisor as `config` describes it. One that cannot come up (a config that cannot be meant, see
    /// [`MemoryConfig::check`]; a state file that cannot be read) exists all the same, and is unavailable
    /// with the reason.
    pub fn new(id: BackendId, config: MemoryConfig) -> Arc<Self> {
        let capabilities = Arc::new(declared(&config.lacks));
        let reports_addresses = capabilities.get(Capability::GuestAddresses).usable();
        let link = watch::Sender::new(Link::default());
        let world = World::new(&id, &config, reports_addresses, link.clone());
        Arc::new(Self {
            hypervisor: Arc::new(Hypervisor {
                id,
                capabilities,
                world: Mutex::new(world),
                quirks: Mutex::new(Quirks::new(config.delays, config.faults)),
                link,
            }),
        })
    }

    /// The other end: what tests and people besides the gateway can do to the hypervisor.
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.hypervisor))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.hypervisor.world()
    }

    /// Logs a call and lets it through, late or not at all as told.
    async fn admit(&self, call: &CallContext, record: CallRecord) -> Result<Ticket> {
        let hypervisor = &*self.hypervisor;
        let time = {
            let mut quirks = hypervisor.quirks();
            quirks.note(record.clone());
            quirks.delay(&record)
        };
        // Listened for before the look, so that no loss falls between the two.
        let lost = hypervisor.lost();
        if let Some(reason) = hypervisor.down() {
            return Err(reason);
        }
        let support = hypervisor.capabilities.get(record.capability);
        if !support.usable() {
            return Err(Error::unsupported(support.reason().unwrap_or_default()));
        }
        let before = match record.capability {
            Capability::PowerStart | Capability::PowerShutdown => Duration::ZERO,
            _ => time,
        };
        tasks::pause(lost, call, record.method.as_ref(), before).await?;
        let fault = hypervisor.quirks().fault(&record);
        match fault {
            Some((When::Before, error)) => Err(error),
            Some((When::After, error)) => Ok(Ticket {
                lost: Some(error),
                time,
            }),
            None => Ok(Ticket { lost: None, time }),
        }
    }
}

/// The record of a call about a VM, or about none.
fn about(call: &CallContext, method: Method, capability: Capability, vm: Option<VmId>) -> CallRecord {
    CallRecord {
        method,
        capability,
        vm,
        volume: None,
        job: call.job,
    }
}

/// The record of a call about a volume.
fn about_volume(
    call: &CallContext,
    method: Method,
    capability: Capability,
    pool: &str,
    name: &str,
) -> CallRecord {
    CallRecord {
        volume: Some(format!("{pool}/{name}")),
        ..about(call, method, capability, None)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn id(&self) -> &BackendId {
        &self.hypervisor.id
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn capabilities(&self) -> Arc<CapabilitySet> {
        Arc::clone(&self.hypervisor.capabilities)
    }

    async fn watch(&self, out: mpsc::Sender<BackendEvent>) {
        crate::watch::watch(&self.hypervisor, out).await;
    }

    async fn list(&self, call: &CallContext) -> Result<Vec<VmFacts>> {
        let ticket = self
            .admit(call, about(call, Method::List, Capability::VmList, None))
            .await?;
        // Copied out of the lock: ten thousand guests must not hold up the others.
        let all = self.world().all();
        ticket.answer(Ok(all.iter().map(|facts| VmFacts::clone(facts)).collect()))
    }

    async fn get(&self, call: &CallContext, vm: &VmRef) -> Result<Option<VmFacts>> {
        let ticket = self
            .admit(call, about(call, Method::Get, Capability::VmList, Some(vm.id)))
            .await?;
        let found = self
            .world()
            .guests
            .get(&vm.id)
            .map(|guest| Arc::clone(&guest.facts));
        ticket.answer(Ok(found.map(|facts| VmFacts::clone(&facts))))
    }

    async fn topology(&self, call: &CallContext) -> Result<Topology> {
        let ticket = self
            .admit(
                call,
                about(call, Method::Topology, Capability::TopologyList, None),
            )
            .await?;
        ticket.answer(Ok(self.world().topology()))
    }

    async fn create_volume(&self, call: &CallContext, volume: &VolumeSpec) -> Result<Volume> {
        let capability = match volume.source {
            VolumeSource::Blank => Capability::VolumeCreate,
            VolumeSource::Copy { .. } => Capability::VolumeCopy,
            VolumeSource::Layer { .. } => Capability::VolumeLayer,
        };
        let record = about_volume(call, Method::CreateVolume, capability, &volume.pool, &volume.name);
        let ticket = self.admit(call, record).await?;
        let made = self.world().create_volume(call.job, volume);
        ticket.answer(made)
    }

    async fn delete_volume(&self, call: &CallContext, pool: &str, name: &str) -> Result<()> {
        let record = about_volume(call, Method::DeleteVolume, Capability::VolumeDelete, pool, name);
        let ticket = self.admit(call, record).await?;
        let deleted = self.world().delete_volume(pool, name);
        ticket.answer(deleted)
    }

    async fn create_seed(
        &self,
        call: &CallContext,
        vm: VmId,
        pool: &str,
        seed_name: &str,
        setup: &GuestSetup,
    ) -> Result<Volume> {
        let record = CallRecord {
            vm: Some(vm),
            ..about_volume(call, Method::CreateSeed, Capability::GuestSetup, pool, seed_name)
        };
        let ticket = self.admit(call, record).await?;
        // A real backend writes the password into the seed: one that cannot be opened must fail here, too.
        if let Some(sealed) = &setup.admin_password {
            call.keyring.open(sealed)?;
        }
        let made = self.world().create_seed(call.job, vm, pool, seed_name, setup);
        ticket.answer(made)
    }

    async fn define(
        &self,
        call: &CallContext,
        vm: VmId,
        spec: &VmSpec,
        disks: &[Volume],
        seed: Option<&Volume>,
    ) -> Result<VmFacts> {
        let ticket = self
            .admit(call, about(call, Method::Define, Capability::VmCreate, Some(vm)))
            .await?;
        let password = match &spec.console_password {
            Some(sealed) => Some(Password {
                plain: Some(call.keyring.open(sealed)?),
                sealed: sealed.clone(),
            }),
            None => None,
        };
        let plan = Plan::of_spec(vm, spec, disks, seed, call.job)?;
        let defined = {
            let mut world = self.world();
            define(
                &mut world,
                call,
                plan,
                password,
                &spec.attached,
                disks.iter().chain(seed),
            )
        };
        ticket.answer(defined.map(|facts| VmFacts::clone(&facts)))
    }

    async fn undefine(&self, call: &CallContext, vm: &VmRef) -> Result<()> {
        let ticket = self
            .admit(
                call,
                about(call, Method::Undefine, Capability::VmDelete, Some(vm.id)),
            )
            .await?;
        let removed = undefine(&mut self.world(), vm.id);
        ticket.answer(removed)
    }

    async fn power(&self, call: &CallContext, vm: &VmRef, action: PowerAction) -> Result<()> {
        let capability = match action {
            PowerAction::Start => Capability::PowerStart,
            PowerAction::Shutdown => Capability::PowerShutdown,
            PowerAction::ForceOff | PowerAction::ForceReboot => Capability::PowerForceOff,
            PowerAction::Reboot => Capability::PowerReboot,
            PowerAction::Reset => Capability::PowerReset,
            PowerAction::Suspend => Capability::PowerSuspend,
            PowerAction::Resume => Capability::PowerResume,
            PowerAction::Save => Capability::PowerSave,
            PowerAction::Restore => Capability::PowerRestore,
        };
        let ticket = self
            .admit(call, about(call, Method::Power, capability, Some(vm.id)))
            .await?;
        let done = tasks::power(&self.hypervisor, call, vm.id, action, ticket.time).await;
        ticket.answer(done)
    }

    async fn console(&self, call: &CallContext, vm: &VmRef) -> Result<Console> {
        let record = about(call, Method::Console, Capability::ConsoleEndpoint, Some(vm.id));
        let ticket = self.admit(call, record).await?;
        let found = console(&self.world(), vm.id);
        ticket.answer(found)
    }

    async fn console_password(&self, call: &CallContext, vm: &VmRef) -> Result<Option<Secret>> {
        let record = about(
            call,
            Method::ConsolePassword,
            Capability::ConsolePassword,
            Some(vm.id),
        );
        let ticket = self.admit(call, record).await?;
        let password = match self.world().guests.get(&vm.id) {
            None => Err(Error::not_found("vm", vm.id)),
            Some(guest) => match &guest.password {
                None => Ok(None),
                Some(Password {
                    plain: Some(plain), ..
                }) => Ok(Some(plain.clone())),
                Some(Password { plain: None, sealed }) => call.keyring.open(sealed).map(Some),
            },
        };
        ticket.answer(password)
    }

    async fn set_console_password(&self, call: &CallContext, vm: &VmRef, password: &Secret) -> Result<()> {
        let record = about(
            call,
            Method::SetConsolePassword,
            Capability::ConsolePassword,
            Some(vm.id),
        );
        let ticket = self.admit(call, record).await?;
        let password = Password {
            plain: Some(password.clone()),
            sealed: call.keyring.seal(password)?,
        };
        let set = set_password(&mut self.world(), vm.id, password);
        ticket.answer(set)
    }

    async fn change(&self, call: &CallContext, vm: &VmRef, change: &VmChange) -> Result<()> {
        let record = about(call, Method::Change, change.needs(), Some(vm.id));
        let ticket = self.admit(call, record).await?;
        let password = match change {
            VmChange::ConsolePassword {
                password: Some(sealed),
            } => Some(Password {
                plain: Some(call.keyring.open(sealed)?),
                sealed: sealed.clone(),
            }),
            // A real backend sends it to the guest: one that cannot be opened must fail here, too.
            VmChange::GuestPassword { password, .. } => {
                call.keyring.open(password)?;
                None
            }
            _ => None,
        };
        let changed = self.world().change(vm.id, change, password);
        ticket.answer(changed)
    }

    async fn volume(&self, call: &CallContext, place: &PoolVolume) -> Result<Option<Volume>> {
        let PoolVolume { pool, name } = place;
        let record = about_volume(call, Method::Volume, Capability::VolumeCreate, pool, name);
        let ticket = self.admit(call, record).await?;
        let found = self.world().volume(pool, name);
        ticket.answer(Ok(found))
    }

    async fn resize_volume(
        &self,
        call: &CallContext,
        place: &PoolVolume,
        _attached: Option<&VmRef>,
        capacity: u64,
    ) -> Result<Volume> {
        let PoolVolume { pool, name } = place;
        let record = about_volume(call, Method::ResizeVolume, Capability::VolumeResize, pool, name);
        let ticket = self.admit(call, record).await?;
        let resized = self.world().resize_volume(pool, name, capacity);
        ticket.answer(resized)
    }

    async fn upload_volume(
        &self,
        call: &CallContext,
        spec: &VolumeSpec,
        bytes: ByteStream,
    ) -> Result<Volume> {
        let capability = Capability::VolumeUpload;
        let record = about_volume(call, Method::UploadVolume, capability, &spec.pool, &spec.name);
        let ticket = self.admit(call, record).await?;
        let come = tasks::drain(bytes, spec.capacity).await?;
        if come != spec.capacity {
            let text = format!("{come} bytes came, {} were announced", spec.capacity);
            return Err(Error::invalid("capacity", text));
        }
        let made = self.world().uploaded(call.job, spec);
        ticket.answer(made)
    }

    async fn create_snapshot(
        &self,
        call: &CallContext,
        vm: &VmRef,
        snapshot: &SnapshotSpec,
    ) -> Result<SnapshotFacts> {
        let capability = match snapshot.memory {
            true => Capability::SnapshotMemory,
            false => Capability::SnapshotCreate,
        };
        let record = about(call, Method::CreateSnapshot, capability, Some(vm.id));
        let ticket = self.admit(call, record).await?;
        let made = self.world().create_snapshot(vm.id, snapshot);
        ticket.answer(made)
    }

    async fn revert_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        let capability = Capability::SnapshotRevert;
        let record = about(call, Method::RevertSnapshot, capability, Some(vm.id));
        let ticket = self.admit(call, record).await?;
        let reverted = self.world().revert_snapshot(vm.id, name);
        ticket.answer(reverted)
    }

    async fn delete_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        let capability = Capability::SnapshotDelete;
        let record = about(call, Method::DeleteSnapshot, capability, Some(vm.id));
        let ticket = self.admit(call, record).await?;
        let removed = self.world().delete_snapshot(vm.id, name);
        ticket.answer(removed)
    }

    async fn snapshots(&self, call: &CallContext, vm: &VmRef) -> Result<Vec<SnapshotFacts>> {
        let capability = Capability::SnapshotCreate;
        let record = about(call, Method::Snapshots, capability, Some(vm.id));
        let ticket = self.admit(call, record).await?;
        let found = self.world().snapshots(vm.id);
        ticket.answer(found)
    }

    async fn migrate(&self, call: &CallContext, vm: &VmRef, to: &MigrationTarget) -> Result<()> {
        let record = about(call, Method::Migrate, Capability::VmMigrate, Some(vm.id));
        let ticket = self.admit(call, record).await?;
        if to.address.is_some() {
            return Err(Error::unsupported(
                "a simulated hypervisor cannot reach another one; a vm moves between its own hosts",
            ));
        }
        let moved = self.world().migrate(vm.id, to.host);
        ticket.answer(moved)
    }

    async fn screenshot(&self, call: &CallContext, vm: &VmRef) -> Result<Screenshot> {
        let record = about(
            call,
            Method::Screenshot,
            Capability::ConsoleScreenshot,
            Some(vm.id),
        );
        let ticket = self.admit(call, record).await?;
        let shown = self.world().screenshot(vm.id);
        ticket.answer(shown)
    }
}
