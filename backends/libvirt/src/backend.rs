//! The core's [`Backend`] over one libvirt host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use babelvisor_core::backend::{
    Backend, BackendEvent, ByteStream, CallContext, Console, MigrationTarget, VmRef,
};
use babelvisor_core::capability::{Capability, CapabilitySet};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    BackendId, GuestSetup, PoolVolume, Screenshot, SnapshotFacts, SnapshotSpec, Topology, VmChange, VmFacts,
    VmId, VmSpec, Volume, VolumeSpec,
};
use babelvisor_core::secret::Secret;
use babelvisor_core::{Error, Result};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::config::LibvirtConfig;
use crate::connection::{CallError, Host, HostOptions};
use crate::plan::{self, Plan};
use crate::quirks::Driver;
use crate::read::{Memory, Profile, Reader};
use crate::{
    capability, change, console, copying, define, error, firstboot, migration, read, screen, snapshots,
    tasks, upload, volumes, watch,
};

/// One libvirt host behind a `[[backend]]` entry.
pub struct LibvirtBackend {
    id: BackendId,
    config: Arc<LibvirtConfig>,
    host: Host,
    profile: ArcSwapOption<Profile>,
    capabilities: ArcSwapOption<CapabilitySet>,
    memory: Arc<Memory>,
}

impl LibvirtBackend {
    /// Starts to connect to the host; returns at once, whether or not it can be reached.
    ///
    /// # Errors
    /// `InvalidInput` for settings that make no sense; `BackendUnavailable` when libvirt's event loop cannot be had.
    pub fn start(id: BackendId, config: LibvirtConfig) -> Result<LibvirtBackend> {
        config.check()?;
        let options = HostOptions {
            fast: config.fast_connections,
            slow: config.slow_connections,
            ..HostOptions::new(id.as_str(), config.uri.as_str())
        };
        let quirks = Driver::from_uri(&config.uri).quirks();
        let host = Host::start(options).map_err(|e| error::convert(e, quirks, "backend", &id))?;
        Ok(LibvirtBackend {
            capabilities: ArcSwapOption::from_pointee(capability::of(Driver::from_uri(&config.uri))),
            id,
            config: Arc::new(config),
            host,
            profile: ArcSwapOption::empty(),
            memory: Arc::new(Memory::default()),
        })
    }

    /// The host's connections.
    pub fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn name(&self) -> &BackendId {
        &self.id
    }

    pub(crate) fn memory(&self) -> Arc<Memory> {
        Arc::clone(&self.memory)
    }

    pub(crate) fn reconcile_every(&self) -> Duration {
        Duration::from_secs(u64::from(self.config.reconcile_seconds))
    }

    fn driver(&self) -> Driver {
        self.profile
            .load()
            .as_ref()
            .map_or_else(|| Driver::from_uri(&self.config.uri), |p| p.driver)
    }

    pub(crate) fn error(&self, error: CallError, noun: &str, id: impl std::fmt::Display) -> Error {
        error::convert(error, self.driver().quirks(), noun, id)
    }

    /// The daemon behind the connection may be another now.
    pub(crate) fn forget_profile(&self) {
        self.profile.store(None);
    }

    async fn profile(&self, deadline: Instant) -> std::result::Result<Arc<Profile>, CallError> {
        if let Some(profile) = self.profile.load_full() {
            return Ok(profile);
        }
        let id = self.id.clone();
        let profile = Arc::new(self.host.fast(deadline, move |c| read::profile(c, &id)).await?);
        self.capabilities
            .store(Some(Arc::new(capability::of(profile.driver))));
        self.profile.store(Some(Arc::clone(&profile)));
        Ok(profile)
    }

    async fn reader(&self, deadline: Instant) -> std::result::Result<Reader, CallError> {
        Ok(Reader {
            backend: self.id.clone(),
            profile: self.profile(deadline).await?,
            memory: Arc::clone(&self.memory),
        })
    }

    pub(crate) async fn read_all(&self, deadline: Instant) -> std::result::Result<Vec<VmFacts>, CallError> {
        let reader = self.reader(deadline).await?;
        self.host.fast(deadline, move |c| reader.list(c)).await
    }

    pub(crate) async fn read_domain(
        &self,
        uuid: Uuid,
        deadline: Instant,
    ) -> std::result::Result<Option<VmFacts>, CallError> {
        let reader = self.reader(deadline).await?;
        self.host.fast(deadline, move |c| reader.get(c, uuid)).await
    }

    pub(crate) async fn read_topology(&self, deadline: Instant) -> std::result::Result<Topology, CallError> {
        let reader = self.reader(deadline).await?;
        let config = Arc::clone(&self.config);
        self.host
            .fast(deadline, move |c| reader.topology(c, &config))
            .await
    }

    /// Refuses what this driver cannot do before anything is tried.
    fn require(&self, capability: Capability) -> Result<()> {
        let known = self.capabilities();
        let support = known.get(capability);
        if support.usable() {
            return Ok(());
        }
        Err(Error::unsupported(
            support.reason().unwrap_or("this driver cannot do it"),
        ))
    }

    /// The domain UUID behind a reference.
    fn uuid(vm: &VmRef) -> Result<Uuid> {
        Uuid::parse_str(&vm.native).map_err(|_| {
            Error::internal(format!(
                "{:?} is not a domain UUID, which libvirt's keys are",
                vm.native
            ))
            .about("vm", vm.id)
        })
    }
}

#[async_trait]
impl Backend for LibvirtBackend {
    fn id(&self) -> &BackendId {
        &self.id
    }

    fn kind(&self) -> &'static str {
        "libvirt"
    }

    fn capabilities(&self) -> Arc<CapabilitySet> {
        self.capabilities
            .load_full()
            .unwrap_or_else(|| Arc::new(capability::of(self.driver())))
    }

    async fn watch(&self, out: mpsc::Sender<BackendEvent>) {
        watch::run(self, out).await;
    }

    async fn list(&self, call: &CallContext) -> Result<Vec<VmFacts>> {
        self.read_all(call.deadline)
            .await
            .map_err(|e| self.error(e, "backend", &self.id))
    }

    async fn get(&self, call: &CallContext, vm: &VmRef) -> Result<Option<VmFacts>> {
        let uuid = Self::uuid(vm)?;
        self.read_domain(uuid, call.deadline)
            .await
            .map_err(|e| self.error(e, "vm", vm.id))
    }

    async fn topology(&self, call: &CallContext) -> Result<Topology> {
        self.read_topology(call.deadline)
            .await
            .map_err(|e| self.error(e, "backend", &self.id))
    }

    async fn create_volume(&self, call: &CallContext, volume: &VolumeSpec) -> Result<Volume> {
        let (id, spec, context) = (self.id.clone(), volume.clone(), call.clone());
        let create = self
            .host
            .slow(call.deadline, move |c| volumes::create(c, &id, &spec, &context));
        let made = copying::watched(&self.host, volume, call, create).await;
        let made = made.map_err(|e| self.error(e, "volume", &volume.name))?;
        self.memory.forget_volume(&made.native);
        Ok(made)
    }

    async fn delete_volume(&self, call: &CallContext, pool: &str, name: &str) -> Result<()> {
        let (pool, volume, deadline) = (pool.to_owned(), name.to_owned(), call.deadline);
        let removed = self
            .host
            .slow(deadline, move |c| volumes::remove(c, &pool, &volume, deadline))
            .await;
        if let Some(path) = removed.map_err(|e| self.error(e, "volume", name))? {
            self.memory.forget_volume(&path);
        }
        Ok(())
    }

    async fn create_seed(
        &self,
        call: &CallContext,
        vm: VmId,
        pool: &str,
        seed_name: &str,
        setup: &GuestSetup,
    ) -> Result<Volume> {
        let image = firstboot::image(vm, setup, None, &call.keyring)?;
        let (id, pool, name, context) = (
            self.id.clone(),
            pool.to_owned(),
            seed_name.to_owned(),
            call.clone(),
        );
        let made = self
            .host
            .slow(call.deadline, move |c| {
                upload::store(c, &id, &pool, &name, &image, &context)
            })
            .await;
        let made = made.map_err(|e| self.error(e, "volume", seed_name))?;
        self.memory.forget_volume(&made.native);
        Ok(made)
    }

    async fn define(
        &self,
        call: &CallContext,
        vm: VmId,
        spec: &VmSpec,
        disks: &[Volume],
        seed: Option<&Volume>,
    ) -> Result<VmFacts> {
        let password = spec
            .console_password
            .as_ref()
            .map(|sealed| call.keyring.open(sealed))
            .transpose()?;
        let about = |e| self.error(e, "vm", vm);
        // Only now it is known which interfaces the addresses of the first boot are for.
        let seed_content = match (&spec.guest, seed) {
            (Some(setup), Some(_)) if !setup.addresses.is_empty() => {
                let macs = plan::macs(vm, spec);
                Some(firstboot::image(vm, setup, Some(&macs), &call.keyring)?)
            }
            (Some(_) | None, _) => None,
        };
        let reader = self.reader(call.deadline).await.map_err(about)?;
        let (config, context) = (Arc::clone(&self.config), call.clone());
        let (spec, disks, seed) = (spec.clone(), disks.to_vec(), seed.cloned());
        self.host
            .slow(call.deadline, move |c| {
                let plan = Plan {
                    config: &config,
                    profile: &reader.profile,
                    vm,
                    spec: &spec,
                    disks: &disks,
                    seed: seed.as_ref(),
                    seed_content: seed_content.as_deref(),
                    console_password: password.as_ref().map(Secret::expose),
                };
                define::define(c, &plan, &context)?;
                let facts = reader.get(c, vm.0)?;
                facts.ok_or_else(|| Error::not_found("vm", vm).into())
            })
            .await
            .map_err(about)
    }

    async fn undefine(&self, call: &CallContext, vm: &VmRef) -> Result<()> {
        let (uuid, driver) = (Self::uuid(vm)?, self.driver());
        self.host
            .slow(call.deadline, move |c| define::undefine(c, uuid, driver))
            .await
            .map_err(|e| self.error(e, "vm", vm.id))
    }

    async fn power(&self, call: &CallContext, vm: &VmRef, action: PowerAction) -> Result<()> {
        let uuid = Self::uuid(vm)?;
        let changed = tasks::change(&self.host, self.driver(), uuid, action, call).await;
        self.memory.note_move(uuid);
        changed.map_err(|e| self.error(e, "vm", vm.id))
    }

    async fn console(&self, call: &CallContext, vm: &VmRef) -> Result<Console> {
        let uuid = Self::uuid(vm)?;
        let about = |e| self.error(e, "vm", vm.id);
        let profile = self.profile(call.deadline).await.map_err(about)?;
        let config = Arc::clone(&self.config);
        let deadline = call.deadline;
        self.host
            .fast(deadline, move |c| console::endpoint(c, uuid, &config, &profile))
            .await
            .map_err(about)
    }

    async fn console_password(&self, call: &CallContext, vm: &VmRef) -> Result<Option<Secret>> {
        let uuid = Self::uuid(vm)?;
        let found = self
            .host
            .fast(call.deadline, move |c| console::password(c, uuid))
            .await;
        found.map_err(|e| self.error(e, "vm", vm.id))
    }

    async fn set_console_password(&self, call: &CallContext, vm: &VmRef, password: &Secret) -> Result<()> {
        let (uuid, password, driver) = (Self::uuid(vm)?, password.clone(), self.driver());
        let set = self
            .host
            .slow(call.deadline, move |c| {
                console::set_password(c, uuid, Some(&password), driver)
            })
            .await;
        set.map_err(|e| self.error(e, "vm", vm.id))
    }

    async fn change(&self, call: &CallContext, vm: &VmRef, change: &VmChange) -> Result<()> {
        let uuid = Self::uuid(vm)?;
        let made = change::make(&self.host, self.driver(), uuid, change, call).await;
        self.memory.note_move(uuid);
        made.map_err(|e| self.error(e, "vm", vm.id))
    }

    async fn volume(&self, call: &CallContext, place: &PoolVolume) -> Result<Option<Volume>> {
        let (id, wanted) = (self.id.clone(), place.clone());
        let found = self
            .host
            .slow(call.deadline, move |c| volumes::look(c, &id, &wanted))
            .await;
        found.map_err(|e| self.error(e, "volume", &place.name))
    }

    async fn resize_volume(
        &self,
        call: &CallContext,
        place: &PoolVolume,
        // Whoever has it is looked for: a tool that changes an image under another running guest destroys it.
        _attached: Option<&VmRef>,
        capacity: u64,
    ) -> Result<Volume> {
        self.require(Capability::VolumeResize)?;
        let (id, wanted) = (self.id.clone(), place.clone());
        let resized = self
            .host
            .slow(call.deadline, move |c| volumes::resize(c, &id, &wanted, capacity))
            .await;
        let volume = resized.map_err(|e| self.error(e, "volume", &place.name))?;
        self.memory.forget_volume(&volume.native);
        Ok(volume)
    }

    async fn upload_volume(
        &self,
        call: &CallContext,
        spec: &VolumeSpec,
        bytes: ByteStream,
    ) -> Result<Volume> {
        self.require(Capability::VolumeUpload)?;
        let (pieces, inbox) = upload::channel();
        let (id, wanted, context) = (self.id.clone(), spec.clone(), call.clone());
        let received = self.host.slow(call.deadline, move |c| {
            upload::receive(c, &id, &wanted, inbox, &context)
        });
        tokio::pin!(received);
        let pumped = upload::pump(bytes, pieces, spec.capacity, call);
        // Whoever receives ends first when it fails; then the source is not read to its end.
        let outcome = tokio::select! {
            outcome = &mut received => outcome,
            () = pumped => received.await,
        };
        let volume = outcome.map_err(|e| self.error(e, "volume", &spec.name))?;
        self.memory.forget_volume(&volume.native);
        Ok(volume)
    }

    async fn create_snapshot(
        &self,
        call: &CallContext,
        vm: &VmRef,
        snapshot: &SnapshotSpec,
    ) -> Result<SnapshotFacts> {
        let (uuid, spec) = (Self::uuid(vm)?, snapshot.clone());
        let made = self
            .host
            .slow(call.deadline, move |c| snapshots::create(c, uuid, &spec))
            .await;
        made.map_err(|e| self.error(e, "vm", vm.id))
    }

    async fn revert_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        let (uuid, wanted) = (Self::uuid(vm)?, name.to_owned());
        let reverted = self
            .host
            .slow(call.deadline, move |c| snapshots::revert(c, uuid, &wanted))
            .await;
        self.memory.note_move(uuid);
        reverted.map_err(|e| self.error(e, "vm", vm.id))
    }

    async fn delete_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        let (uuid, wanted) = (Self::uuid(vm)?, name.to_owned());
        let removed = self
            .host
            .slow(call.deadline, move |c| snapshots::delete(c, uuid, &wanted))
            .await;
        removed.map_err(|e| self.error(e, "vm", vm.id))
    }

    async fn snapshots(&self, call: &CallContext, vm: &VmRef) -> Result<Vec<SnapshotFacts>> {
        let uuid = Self::uuid(vm)?;
        let found = self
            .host
            .fast(call.deadline, move |c| snapshots::list(c, uuid))
            .await;
        found.map_err(|e| self.error(e, "vm", vm.id))
    }

    fn migration_address(&self) -> Option<String> {
        migration::address(&self.config)
    }

    async fn migrate(&self, call: &CallContext, vm: &VmRef, to: &MigrationTarget) -> Result<()> {
        self.require(Capability::VmMigrate)?;
        let uuid = Self::uuid(vm)?;
        let about = |e| self.error(e, "vm", vm.id);
        let profile = self.profile(call.deadline).await.map_err(about)?;
        let Some(address) = &to.address else {
            // The only host of this backend is its own.
            return match profile.host == to.host {
                true => Ok(()),
                false => Err(Error::not_found("host", to.host)),
            };
        };
        let moved = migration::migrate(&self.host, uuid, address, self.config.shared_storage, call).await;
        self.memory.note_move(uuid);
        moved.map_err(about)
    }

    async fn screenshot(&self, call: &CallContext, vm: &VmRef) -> Result<Screenshot> {
        let uuid = Self::uuid(vm)?;
        let picture = self
            .host
            .slow(call.deadline, move |c| screen::picture(c, uuid))
            .await;
        picture.map_err(|e| self.error(e, "vm", vm.id))
    }
}
