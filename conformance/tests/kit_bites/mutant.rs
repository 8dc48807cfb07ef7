//! The memory backend with one fault planted. Every method forwards; what a fault changes stands at the method that
//! it changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use babelvisor_core::backend::{
    Backend, BackendEvent, ByteStream, CallContext, Console, MigrationTarget, VmRef,
};
use babelvisor_core::capability::{Capability, CapabilitySet, Support};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    BackendId, Firmware, GuestSetup, HostId, PoolVolume, PowerState, Screenshot, SnapshotFacts, SnapshotSpec,
    Topology, VmChange, VmFacts, VmId, VmSpec, Volume, VolumeSpec,
};
use babelvisor_core::secret::{Keyring, Secret};
use babelvisor_core::{Error, ErrorKind, Result};
use babelvisor_memory::{Control, MemoryBackend};
use tokio::sync::mpsc;

use crate::events::retell;
use crate::fault::Fault;
use crate::hardware::Traces;

pub(crate) struct Mutant {
    pub(crate) inner: Arc<MemoryBackend>,
    pub(crate) control: Control,
    pub(crate) fault: Option<Fault>,
    remembered: Mutex<BTreeMap<VmId, VmFacts>>,
    shown: Mutex<BTreeMap<VmId, String>>,
    pub(crate) last_volume: Mutex<Option<(Instant, VolumeSpec)>>,
    pub(crate) taken: AtomicUsize,
    pub(crate) locked: AtomicBool,
    listened: AtomicBool,
    pub(crate) hardware: Mutex<Traces>,
}

impl Mutant {
    pub(crate) fn wrap(inner: Arc<MemoryBackend>, fault: Option<Fault>) -> Arc<dyn Backend> {
        Arc::new(Self {
            control: inner.control(),
            inner,
            fault,
            remembered: Mutex::default(),
            shown: Mutex::default(),
            last_volume: Mutex::default(),
            taken: AtomicUsize::new(0),
            locked: AtomicBool::new(false),
            listened: AtomicBool::new(false),
            hardware: Mutex::default(),
        })
    }

    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// The call as it goes on.
    pub(crate) fn on(&self, call: &CallContext) -> CallContext {
        let mut call = call.clone();
        if self.is(Fault::IgnoresDeadline) {
            call.deadline = Instant::now() + Duration::from_secs(60);
        }
        call
    }

    /// Does `work` even if it is too late, and says that it was too late.
    pub(crate) async fn late<T>(
        &self,
        call: &CallContext,
        answer: Result<T>,
        again: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        match answer {
            Err(error)
                if self.is(Fault::LateAllTheSame)
                    && error.kind == ErrorKind::Timeout
                    && call.left().is_zero() =>
            {
                let _ = again.await;
                Err(error)
            }
            answer => answer,
        }
    }

    pub(crate) fn unhurried(call: &CallContext) -> CallContext {
        CallContext {
            deadline: Instant::now() + Duration::from_secs(60),
            ..call.clone()
        }
    }

    /// What this backend says of a VM.
    fn say(&self, mut facts: VmFacts) -> VmFacts {
        if self.is(Fault::VmForgetsJob) {
            facts.made_by = None;
        }
        if self.is(Fault::StopChangesMac) && facts.power == PowerState::Running {
            for nic in &mut facts.nics {
                nic.mac = "52:54:00:00:00:01".to_owned();
            }
        }
        if let Some(password) = self.shown.lock().unwrap().get(&facts.id) {
            facts.video.push(password.clone());
        }
        self.hardware_said(facts)
    }
}

#[async_trait]
impl Backend for Mutant {
    fn id(&self) -> &BackendId {
        self.inner.id()
    }

    fn kind(&self) -> &'static str {
        "mutant"
    }

    fn capabilities(&self) -> Arc<CapabilitySet> {
        let honest = self.inner.capabilities();
        Arc::new(CapabilitySet::build(|capability| match capability {
            Capability::PowerReset if self.is(Fault::LyingCapability) => Support::Native,
            Capability::GuestAddresses if self.is(Fault::LyingAddresses) => Support::Native,
            Capability::ConfigVideo if self.is(Fault::LyingChange) => Support::Native,
            Capability::SnapshotCreate if self.is(Fault::HiddenSnapshots) => {
                Support::NotYet("no snapshots".to_owned())
            }
            Capability::PowerReset if self.is(Fault::HiddenCapability) => {
                Support::Impossible("no reset button".to_owned())
            }
            other => honest.get(other).clone(),
        }))
    }

    async fn watch(&self, out: mpsc::Sender<BackendEvent>) {
        let later = self.listened.swap(true, Ordering::SeqCst);
        if later && self.is(Fault::OneListenerOnly) {
            let first = self.control.vms();
            let call = CallContext::plain(
                Instant::now() + Duration::from_secs(5),
                Arc::new(Keyring::ephemeral()),
            );
            let topology = self.inner.topology(&call).await.unwrap();
            let _ = out.send(BackendEvent::Topology(topology)).await;
            let _ = out.send(BackendEvent::Resync(first)).await;
            out.closed().await;
            return;
        }
        match self.fault {
            None => self.inner.watch(out).await,
            Some(fault) => retell(&self.inner, fault, out).await,
        }
    }

    async fn list(&self, call: &CallContext) -> Result<Vec<VmFacts>> {
        let all = self.inner.list(&self.on(call)).await?;
        let listed = all
            .into_iter()
            .filter(|facts| !self.is(Fault::ListForgets) || facts.power != PowerState::Off)
            .map(|facts| self.say(facts));
        Ok(listed.collect())
    }

    async fn get(&self, call: &CallContext, vm: &VmRef) -> Result<Option<VmFacts>> {
        let found = self.inner.get(&self.on(call), vm).await?;
        let Some(facts) = found.map(|facts| self.say(facts)) else {
            return Ok(None);
        };
        if self.is(Fault::GetIsStale) {
            let mut remembered = self.remembered.lock().unwrap();
            return Ok(Some(remembered.entry(facts.id).or_insert(facts).clone()));
        }
        Ok(Some(facts))
    }

    async fn topology(&self, call: &CallContext) -> Result<Topology> {
        let mut topology = self.inner.topology(&self.on(call)).await?;
        if self.is(Fault::HostsChangeIds) {
            for host in &mut topology.hosts {
                host.id = HostId::random();
            }
        }
        if self.is(Fault::RoomIsLost) {
            let taken = self.taken.load(Ordering::SeqCst) as u64;
            for pool in &mut topology.pools {
                pool.available = pool.available.saturating_sub(taken);
            }
        }
        Ok(topology)
    }

    async fn create_volume(&self, call: &CallContext, volume: &VolumeSpec) -> Result<Volume> {
        self.create_volume_wrongly(&self.on(call), volume).await
    }

    async fn delete_volume(&self, call: &CallContext, pool: &str, name: &str) -> Result<()> {
        self.delete_volume_wrongly(&self.on(call), pool, name).await
    }

    async fn create_seed(
        &self,
        call: &CallContext,
        vm: VmId,
        pool: &str,
        seed_name: &str,
        setup: &GuestSetup,
    ) -> Result<Volume> {
        let mut setup = setup.clone();
        if self.is(Fault::SeedIsBlind) {
            setup.admin_password = None;
        }
        self.inner
            .create_seed(&self.on(call), vm, pool, seed_name, &setup)
            .await
    }

    async fn define(
        &self,
        call: &CallContext,
        vm: VmId,
        spec: &VmSpec,
        disks: &[Volume],
        seed: Option<&Volume>,
    ) -> Result<VmFacts> {
        let call = self.on(call);
        let (mut spec, mut disks, mut seed) = (spec.clone(), disks.to_vec(), seed);
        match self.fault {
            Some(Fault::MemoryInKib) => spec.memory /= 1024,
            Some(Fault::LosesADisk) => {
                disks.pop();
                spec.volumes.pop();
            }
            Some(Fault::DisksReversed) => disks.reverse(),
            Some(Fault::FirmwareIgnored) => spec.firmware = Firmware::Bios,
            Some(Fault::SeedIsForgotten) => seed = None,
            Some(fault) if fault.shows_in().is_some() => self.forget_wishes(fault, &mut spec),
            Some(Fault::DefineTwiceIsTwo) if call.begun.is_some() => {
                let mut second = spec.clone();
                second.name = format!("{}-{}", second.name, VmId::random().simple());
                self.inner
                    .define(&call, VmId::random(), &second, &disks, seed)
                    .await?;
            }
            Some(Fault::LockOutlivesCut) => {
                if self.locked.swap(true, Ordering::SeqCst) {
                    return Err(Error::new(ErrorKind::Busy, "another definition is under way"));
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
                self.locked.store(false, Ordering::SeqCst);
            }
            _ => {}
        }
        let made = self.inner.define(&call, vm, &spec, &disks, seed).await;
        let late = Self::unhurried(&call);
        let made = self
            .late(&call, made, self.inner.define(&late, vm, &spec, &disks, seed))
            .await;
        let made = match made {
            Err(error) if error.kind == ErrorKind::AlreadyExists => {
                let there = self.control.vm(vm);
                let anybodys = self.is(Fault::DefineIsAnybodys)
                    // Only who looked before the other had finished is wrong.
                    || self.is(Fault::RaceHasTwoWinners) && call.begun.is_none();
                match there {
                    Some(facts) if anybodys => facts,
                    _ => return Err(error),
                }
            }
            made => made?,
        };
        if self.is(Fault::DefineStarts) {
            let vm = VmRef {
                id: made.id,
                native: made.native.clone(),
            };
            self.inner.power(&call, &vm, PowerAction::Start).await?;
        }
        Ok(self.say(made))
    }

    async fn undefine(&self, call: &CallContext, vm: &VmRef) -> Result<()> {
        let call = self.on(call);
        let known = self.control.vm(vm.id);
        match (self.fault, &known) {
            (Some(Fault::UndefineAbsentIsNotFound), None) => return Err(Error::not_found("vm", vm.id)),
            (Some(Fault::UndefineKills), Some(_)) => {
                self.inner.power(&call, vm, PowerAction::ForceOff).await?;
            }
            _ => {}
        }
        self.remember_before_undefine(&call, vm).await;
        let done = self.inner.undefine(&call, vm).await;
        let late = Self::unhurried(&call);
        self.late(&call, done, self.inner.undefine(&late, vm)).await?;
        if self.is(Fault::UndefineTakesVolumes) {
            for volume in known
                .iter()
                .flat_map(|facts| &facts.disks)
                .filter_map(|disk| disk.volume.as_ref())
            {
                self.inner
                    .delete_volume(&call, &volume.pool, &volume.name)
                    .await?;
            }
        }
        Ok(())
    }

    async fn power(&self, call: &CallContext, vm: &VmRef, action: PowerAction) -> Result<()> {
        let call = self.on(call);
        let now = self.control.vm(vm.id).map(|facts| facts.power);
        match (self.fault, action) {
            (Some(Fault::StartIsNothing), PowerAction::Start)
            | (Some(Fault::SuspendIsNothing), PowerAction::Suspend) => return Ok(()),
            (Some(Fault::StartTwiceIsRefused), PowerAction::Start) if now == Some(PowerState::Running) => {
                return Err(Error::illegal_state("vm", vm.id, "the VM runs already"));
            }
            (Some(Fault::StartTwiceIsRestart), PowerAction::Start) if now == Some(PowerState::Running) => {
                self.inner.power(&call, vm, PowerAction::ForceOff).await?;
            }
            (Some(Fault::ShutdownReturnsEarly), PowerAction::Shutdown)
                if now == Some(PowerState::Running) =>
            {
                let (inner, vm) = (Arc::clone(&self.inner), vm.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    inner.power(&call, &vm, PowerAction::Shutdown).await
                });
                return Ok(());
            }
            (Some(Fault::ForceOffTakesAnother), PowerAction::ForceOff) => {
                let other = self
                    .control
                    .vms()
                    .into_iter()
                    .find(|facts| facts.name.starts_with("vm-") && facts.power == PowerState::Running);
                if let Some(other) = other {
                    self.control.power_from_outside(other.id, PowerState::Off)?;
                }
            }
            (Some(Fault::UnknownIsSuccess), _) if now.is_none() => return Ok(()),
            (Some(fault), _) if fault.shows_in().is_some() => {
                return self.power_with_hardware(fault, &call, vm, action).await;
            }
            (Some(Fault::Panics), PowerAction::Reboot) => {
                // As a panic does, without a word on the terminal.
                std::panic::resume_unwind(Box::new("a planted panic"))
            }
            (Some(Fault::Hangs), PowerAction::Reset) => std::future::pending().await,
            _ => {}
        }
        let done = self.inner.power(&call, vm, action).await;
        let late = Self::unhurried(&call);
        let done = self.late(&call, done, self.inner.power(&late, vm, action)).await;
        match done {
            Err(error) if error.kind == ErrorKind::IllegalState && self.is(Fault::IllegalIsSuccess) => Ok(()),
            Err(error) if error.kind == ErrorKind::IllegalState && self.is(Fault::IllegalIsInvalid) => {
                Err(Error::invalid("action", error.detail))
            }
            Err(error) if error.kind == ErrorKind::NotFound && self.is(Fault::UnknownIsNameless) => {
                Err(Error::new(ErrorKind::NotFound, "not found"))
            }
            done => done,
        }
    }

    async fn console(&self, call: &CallContext, vm: &VmRef) -> Result<Console> {
        let found = self.inner.console(&self.on(call), vm).await;
        match (self.fault, found) {
            (Some(Fault::OneConsoleForAll), Ok(console)) => Ok(Console {
                port: 5900,
                ..console
            }),
            (Some(Fault::ConsoleWhileOff), Err(error)) if error.kind == ErrorKind::IllegalState => {
                Ok(Console {
                    kind: babelvisor_core::model::GraphicsKind::Vnc,
                    host: "127.0.0.1".to_owned(),
                    port: 5900,
                })
            }
            (_, found) => found,
        }
    }

    async fn console_password(&self, call: &CallContext, vm: &VmRef) -> Result<Option<Secret>> {
        self.inner.console_password(&self.on(call), vm).await
    }

    async fn set_console_password(&self, call: &CallContext, vm: &VmRef, password: &Secret) -> Result<()> {
        if self.is(Fault::PasswordIsNothing) && self.control.vm(vm.id).is_some() {
            return Ok(());
        }
        self.inner
            .set_console_password(&self.on(call), vm, password)
            .await?;
        if self.is(Fault::PasswordIsShown) {
            let shown = password.expose().to_owned();
            self.shown.lock().unwrap().insert(vm.id, shown);
        }
        Ok(())
    }

    async fn change(&self, call: &CallContext, vm: &VmRef, change: &VmChange) -> Result<()> {
        self.change_wrongly(&self.on(call), vm, change).await
    }

    async fn volume(&self, call: &CallContext, place: &PoolVolume) -> Result<Option<Volume>> {
        if self.is(Fault::LookIsBlind) {
            return Ok(None);
        }
        self.inner.volume(&self.on(call), place).await
    }

    async fn resize_volume(
        &self,
        call: &CallContext,
        place: &PoolVolume,
        attached: Option<&VmRef>,
        capacity: u64,
    ) -> Result<Volume> {
        self.resize_wrongly(&self.on(call), place, attached, capacity)
            .await
    }

    async fn upload_volume(
        &self,
        call: &CallContext,
        spec: &VolumeSpec,
        bytes: ByteStream,
    ) -> Result<Volume> {
        self.upload_wrongly(&self.on(call), spec, bytes).await
    }

    async fn create_snapshot(
        &self,
        call: &CallContext,
        vm: &VmRef,
        snapshot: &SnapshotSpec,
    ) -> Result<SnapshotFacts> {
        self.snapshot_wrongly(&self.on(call), vm, snapshot).await
    }

    async fn revert_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        self.revert_wrongly(&self.on(call), vm, name).await
    }

    async fn delete_snapshot(&self, call: &CallContext, vm: &VmRef, name: &str) -> Result<()> {
        self.delete_snapshot_wrongly(&self.on(call), vm, name).await
    }

    async fn snapshots(&self, call: &CallContext, vm: &VmRef) -> Result<Vec<SnapshotFacts>> {
        self.snapshots_wrongly(&self.on(call), vm).await
    }

    async fn migrate(&self, call: &CallContext, vm: &VmRef, to: &MigrationTarget) -> Result<()> {
        self.migrate_wrongly(&self.on(call), vm, to).await
    }

    async fn screenshot(&self, call: &CallContext, vm: &VmRef) -> Result<Screenshot> {
        let answer = self.inner.screenshot(&self.on(call), vm).await;
        let text = || Screenshot {
            media_type: "image/png".to_owned(),
            bytes: "a picture of a screen".into(),
        };
        match answer {
            Ok(_) if self.is(Fault::PictureIsText) => Ok(text()),
            Err(_) if self.is(Fault::PictureWhileOff) => Ok(text()),
            answer => answer,
        }
    }
}
