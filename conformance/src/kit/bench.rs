//! What a check works with: calls as a job makes them, names of its own, and a list of everything that it made,
//! which is removed however the check ends.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use babelvisor_core::backend::{Backend, CallContext, VmRef};
use babelvisor_core::capability::{Capability, CapabilitySet};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    AgentState, Firmware, GuestSetup, JobId, NicSource, NicSpec, PowerState, Timestamp, VmFacts, VmId,
    VmSpec, Volume, VolumeFormat, VolumeSource, VolumeSpec,
};
use babelvisor_core::secret::{Keyring, Secret};
use babelvisor_core::{Error, ErrorKind, Result};

use super::config::KitConfig;
use super::verdict::{During as _, Stop, Verdict, ensure, fail, words};

/// Pause between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(10);

/// What all checks of a run share.
pub(crate) struct Kit {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) config: KitConfig,
    pub(crate) capabilities: Arc<CapabilitySet>,
    /// Where volumes are made; `None` when the backend has no pool.
    pub(crate) pool: Option<String>,
    /// What interfaces are plugged into.
    pub(crate) nic: NicSource,
    pub(crate) keyring: Arc<Keyring>,
    /// Part of every name that this run gives.
    pub(crate) tag: String,
    pub(crate) counter: AtomicU64,
    /// VMs that were there before the run, by id.
    pub(crate) before: Vec<VmFacts>,
}

impl Kit {
    pub(crate) fn has(&self, capability: Capability) -> bool {
        self.capabilities.get(capability).usable()
    }
}

/// What a check has made.
#[derive(Default)]
struct Made {
    vms: BTreeSet<VmId>,
    volumes: Vec<(String, String)>,
}

/// One check's place to work.
pub(crate) struct Bench {
    kit: Arc<Kit>,
    made: Mutex<Made>,
}

impl std::ops::Deref for Bench {
    type Target = Kit;
    fn deref(&self) -> &Kit {
        &self.kit
    }
}

impl Bench {
    pub(crate) fn new(kit: &Arc<Kit>) -> Arc<Self> {
        Arc::new(Self {
            kit: Arc::clone(kit),
            made: Mutex::default(),
        })
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of a job that was never tried before.
    pub(crate) fn call(&self) -> CallContext {
        CallContext {
            job: Some(JobId::random()),
            ..CallContext::plain(
                Instant::now() + self.config.call_time(),
                Arc::clone(&self.keyring),
            )
        }
    }

    /// The same job's second try.
    pub(crate) fn again(&self, call: &CallContext) -> CallContext {
        CallContext {
            begun: call
                .begun
                .or_else(|| Timestamp::now().checked_sub(Duration::from_secs(1)).ok()),
            deadline: Instant::now() + self.config.call_time(),
            ..call.clone()
        }
    }

    /// A new job's call whose deadline is over.
    pub(crate) fn expired(&self) -> CallContext {
        let now = Instant::now();
        CallContext {
            deadline: now.checked_sub(Duration::from_secs(1)).unwrap_or(now),
            ..self.call()
        }
    }

    /// A name that nothing else has: plain letters, digits and hyphens.
    pub(crate) fn name(&self, word: &str) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("kit-{}-{number}-{word}", self.tag)
    }

    /// The pool that volumes are made in.
    pub(crate) fn pool(&self) -> Verdict<String> {
        match &self.pool {
            Some(pool) => Ok(pool.clone()),
            None if self.has(Capability::TopologyList) => {
                fail("the backend declares volumes but has no active pool")
            }
            None => Err(Stop::Skipped(
                "no pool is known: name one (pool = \"…\"), because topology.list is not declared".to_owned(),
            )),
        }
    }

    /// An empty volume to be.
    pub(crate) fn blank(&self) -> Verdict<VolumeSpec> {
        Ok(VolumeSpec {
            pool: self.pool()?,
            name: self.name("volume"),
            capacity: self.config.volume,
            format: self.config.formats.first().copied().unwrap_or(VolumeFormat::Raw),
            source: VolumeSource::Blank,
            bus: None,
        })
    }

    /// A volume to be that is copied from the image, as large as it.
    pub(crate) fn copy(&self) -> Verdict<VolumeSpec> {
        let image = self.image()?;
        Ok(VolumeSpec {
            capacity: 0,
            format: image.format,
            source: VolumeSource::Copy {
                image: image.native,
                format: image.format,
            },
            ..self.blank()?
        })
    }

    /// A volume to be that is a layer over the image, as large as it.
    pub(crate) fn layer(&self) -> Verdict<VolumeSpec> {
        let image = self.image()?;
        Ok(VolumeSpec {
            capacity: 0,
            format: VolumeFormat::Qcow2,
            source: VolumeSource::Layer {
                image: image.native,
                format: image.format,
            },
            ..self.blank()?
        })
    }

    fn image(&self) -> Verdict<super::config::KitImage> {
        match &self.config.image {
            Some(image) => Ok(image.clone()),
            None => fail("the check needs an image and was let through without one"),
        }
    }

    /// Makes a volume; it is removed after the check.
    pub(crate) async fn create_volume(&self, call: &CallContext, spec: &VolumeSpec) -> Result<Volume> {
        self.owns_volume(&spec.pool, &spec.name);
        self.backend.create_volume(call, spec).await
    }

    /// A volume that is removed after the check.
    pub(crate) fn owns_volume(&self, pool: &str, name: &str) {
        let key = (pool.to_owned(), name.to_owned());
        let mut made = self.made();
        if !made.volumes.contains(&key) {
            made.volumes.push(key);
        }
    }

    pub(crate) async fn delete_volume(&self, spec: &VolumeSpec) -> Result<()> {
        self.backend
            .delete_volume(&self.call(), &spec.pool, &spec.name)
            .await
    }

    /// Whether a volume of that name is there, found out by somebody else who wants the name.
    pub(crate) async fn name_is_taken(&self, spec: &VolumeSpec) -> Verdict<bool> {
        let other = VolumeSpec {
            source: VolumeSource::Blank,
            capacity: self.config.volume,
            ..spec.clone()
        };
        self.owns_volume(&spec.pool, &spec.name);
        match self.backend.create_volume(&self.call(), &other).await {
            Ok(_) => {
                self.delete_volume(spec)
                    .await
                    .during("removing a volume that was made to see whether its name is free")?;
                Ok(false)
            }
            Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(true),
            Err(error) => fail(format!(
                "making a volume under the name {:?} was answered with {}",
                spec.name,
                words(&error)
            )),
        }
    }

    /// First-boot set-up with that password in it.
    pub(crate) fn setup(&self, password: &str) -> Verdict<GuestSetup> {
        Ok(GuestSetup {
            hostname: "kit-guest".to_owned(),
            admin_user: "admin".to_owned(),
            admin_password: Some(
                self.keyring
                    .seal(&Secret::new(password))
                    .during("sealing a password")?,
            ),
            ssh_keys: vec!["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMadeUp kit".to_owned()],
            ..GuestSetup::default()
        })
    }

    /// A small VM to be.
    pub(crate) fn spec(&self, name: String, volumes: Vec<VolumeSpec>) -> VmSpec {
        VmSpec {
            title: format!("{name} <made> by \"the\" kit & removed"),
            name,
            vcpus: self.config.vcpus,
            memory: self.config.memory,
            firmware: Firmware::Bios,
            volumes,
            nics: vec![NicSpec {
                source: self.nic.clone(),
                mac: None,
                model: None,
            }],
            console_password: None,
            guest: None,
            ..VmSpec::default()
        }
    }

    /// Defines a VM; it is removed after the check.
    pub(crate) async fn define(
        &self,
        call: &CallContext,
        vm: VmId,
        spec: &VmSpec,
        disks: &[Volume],
        seed: Option<&Volume>,
    ) -> Result<VmFacts> {
        self.owns_vm(vm);
        self.backend.define(call, vm, spec, disks, seed).await
    }

    /// A VM that is removed after the check.
    pub(crate) fn owns_vm(&self, vm: VmId) {
        self.made().vms.insert(vm);
    }

    /// A defined VM, off, without disks.
    pub(crate) async fn off(&self) -> Verdict<VmRef> {
        let spec = self.spec(self.name("vm"), Vec::new());
        let facts = self
            .define(&self.call(), VmId::random(), &spec, &[], None)
            .await
            .during("defining a VM without disks")?;
        Ok(refer(&facts))
    }

    /// A running VM without disks.
    pub(crate) async fn running(&self) -> Verdict<VmRef> {
        let vm = self.off().await?;
        self.power(&vm, PowerAction::Start)
            .await
            .during("starting a VM")?;
        Ok(vm)
    }

    /// A VM that was never made.
    pub(crate) fn nobody(&self) -> VmRef {
        let id = VmId::random();
        VmRef {
            id,
            native: id.to_string(),
        }
    }

    pub(crate) async fn power(&self, vm: &VmRef, action: PowerAction) -> Result<()> {
        self.backend.power(&self.call(), vm, action).await
    }

    /// The VM, if it exists.
    pub(crate) async fn find(&self, vm: &VmRef) -> Verdict<Option<VmFacts>> {
        self.backend.get(&self.call(), vm).await.during("reading a VM")
    }

    /// The VM, which must exist.
    pub(crate) async fn get(&self, vm: &VmRef) -> Verdict<VmFacts> {
        match self.find(vm).await? {
            Some(facts) => Ok(facts),
            None => fail(format!("vm {} is not there any more", vm.id)),
        }
    }

    /// Its power state; a VM that waits for a resource counts as running.
    pub(crate) async fn state(&self, vm: &VmRef) -> Verdict<PowerState> {
        Ok(plain(self.get(vm).await?.power))
    }

    /// The state that a change must have reached when its call returned.
    pub(crate) async fn expect_state(&self, vm: &VmRef, state: PowerState, after: &str) -> Verdict {
        let now = self.state(vm).await?;
        ensure!(
            now == state,
            "after {after} the VM is {}, not {}",
            now.as_ref(),
            state.as_ref()
        );
        Ok(())
    }

    /// Everything that the backend lists.
    pub(crate) async fn list(&self) -> Verdict<Vec<VmFacts>> {
        self.backend.list(&self.call()).await.during("listing VMs")
    }

    /// A VM that hears the power button: booted from the image where guests need one.
    pub(crate) async fn listening(&self) -> Verdict<VmRef> {
        match self.config.guest {
            super::config::GuestHabit::Obeys => return self.running().await,
            super::config::GuestHabit::Deaf => return fail("the check needs a guest that listens"),
            super::config::GuestHabit::NeedsImage => {}
        }
        let vm = self.booted().await?;
        self.until("the guest's agent is connected", &vm, |facts| {
            facts.agent == AgentState::Connected
        })
        .await?;
        Ok(vm)
    }

    /// A running VM that boots from the image.
    pub(crate) async fn booted(&self) -> Verdict<VmRef> {
        let call = self.call();
        let root = if self.has(Capability::VolumeLayer) {
            self.layer()?
        } else {
            self.copy()?
        };
        let disk = self
            .create_volume(&call, &root)
            .await
            .during("making a root disk from the image")?;
        let mut spec = self.spec(self.name("guest"), vec![root]);
        spec.memory = spec.memory.max(192 << 20);
        let facts = self
            .define(&call, VmId::random(), &spec, &[disk], None)
            .await
            .during("defining a VM")?;
        let vm = refer(&facts);
        self.power(&vm, PowerAction::Start)
            .await
            .during("starting a VM from the image")?;
        Ok(vm)
    }

    /// Waits until the VM is as wanted, at most as long as a guest may take to boot.
    pub(crate) async fn until(
        &self,
        what: &str,
        vm: &VmRef,
        wanted: impl Fn(&VmFacts) -> bool,
    ) -> Verdict<VmFacts> {
        let deadline = Instant::now() + Duration::from_millis(self.config.bounds.boot);
        loop {
            let facts = self.get(vm).await?;
            if wanted(&facts) {
                return Ok(facts);
            }
            ensure!(
                Instant::now() < deadline,
                "not within {} ms: {what}",
                self.config.bounds.boot
            );
            tokio::time::sleep(LOOK * 20).await;
        }
    }

    /// Removes everything that the check made; names what could not be removed.
    pub(crate) async fn clean(&self) -> Vec<String> {
        let made = std::mem::take(&mut *self.made());
        let mut left = Vec::new();
        if !made.vms.is_empty() {
            let listed = self.backend.list(&self.call()).await.unwrap_or_default();
            for id in &made.vms {
                let vm = listed
                    .iter()
                    .find(|facts| facts.id == *id)
                    .map_or_else(|| self.fallback(*id), refer);
                match self.remove_vm(&vm).await {
                    Ok(()) => {}
                    Err(error) if self.never_made(Capability::VmDelete, &error) => {}
                    Err(error) => left.push(format!("vm {id} ({})", words(&error))),
                }
            }
        }
        for (pool, name) in made.volumes.iter().rev() {
            // A name that was refused when it was to be made is refused here, too: nothing is there then.
            match self.backend.delete_volume(&self.call(), pool, name).await {
                Ok(()) => {}
                Err(error) if error.kind == ErrorKind::InvalidInput => {}
                Err(error) if self.never_made(Capability::VolumeDelete, &error) => {}
                Err(error) => left.push(format!("volume {pool}/{name} ({})", words(&error))),
            }
        }
        left
    }

    /// Checks that make something need the capability to remove it; without it, only refused calls were made.
    fn never_made(&self, removal: Capability, error: &Error) -> bool {
        !self.has(removal) && error.kind == ErrorKind::Unsupported
    }

    fn fallback(&self, id: VmId) -> VmRef {
        VmRef {
            id,
            native: id.to_string(),
        }
    }

    async fn remove_vm(&self, vm: &VmRef) -> Result<()> {
        match self.backend.undefine(&self.call(), vm).await {
            Err(error) if error.kind == ErrorKind::IllegalState => {
                self.power(vm, PowerAction::ForceOff).await?;
                self.backend.undefine(&self.call(), vm).await
            }
            done => done,
        }
    }
}

/// How a VM is named towards its backend.
pub(crate) fn refer(facts: &VmFacts) -> VmRef {
    VmRef {
        id: facts.id,
        native: facts.native.clone(),
    }
}

/// Running and waiting for a resource are the same to whoever started a VM.
pub(crate) const fn plain(state: PowerState) -> PowerState {
    match state {
        PowerState::Blocked => PowerState::Running,
        other => other,
    }
}

/// What must not differ between two looks at a VM that nobody changed: all but what a guest does by itself.
pub(crate) fn lasting(facts: &VmFacts) -> VmFacts {
    let mut facts = facts.clone();
    facts.power = plain(facts.power);
    facts.agent = AgentState::Absent;
    facts.definition = None;
    facts.memory.current = facts.memory.max;
    for nic in &mut facts.nics {
        nic.addresses.clear();
    }
    facts
}
