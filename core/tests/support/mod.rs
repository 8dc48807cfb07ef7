//! A gateway's core in a test: real embedded store, real engine and upkeep, the memory backend as partner.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::backend::Backend;
use babelvisor_core::inventory::{Inventory, Upkeep};
use babelvisor_core::jobs::{Engine, EngineSettings};
use babelvisor_core::layers::{Core, CreateRequest, Policy, Root};
use babelvisor_core::model::*;
use babelvisor_core::outbound::Outbound;
use babelvisor_core::registry::{ImageSeed, Registry};
use babelvisor_core::secret::Keyring;
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_core::store::{Change, Store};
use babelvisor_memory::{Control, ImageConfig, MemoryBackend, MemoryConfig};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

pub const GIB: u64 = 1 << 30;

/// What outlives a gateway: the store's file, the key, the hypervisor.
pub struct Site {
    pub store: Arc<dyn Store>,
    pub keyring: Arc<Keyring>,
    pub backend: Arc<MemoryBackend>,
    pub policy: Policy,
    pub outbound: Outbound,
    _dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        Self::with(MemoryConfig::default())
    }

    pub fn with(mut config: MemoryConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        config.images.push(ImageConfig {
            name: "debian".to_owned(),
            size: GIB,
            pool: None,
            format: VolumeFormat::Qcow2,
        });
        Self {
            store: Arc::new(EmbeddedStore::open(&dir.path().join("store.redb")).unwrap()),
            keyring: Arc::new(Keyring::ephemeral()),
            backend: MemoryBackend::new(BackendId::new("sim"), config),
            policy: Policy::default(),
            outbound: Outbound::default(),
            _dir: dir,
        }
    }

    pub fn as_backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    pub fn hypervisor(&self) -> Control {
        self.backend.control()
    }

    /// A gateway on this site, in a runtime of its own, so that it can be killed.
    pub fn gateway(&self) -> Gateway {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let backend: Arc<dyn Backend> = self.backend.clone();
        let backends = HashMap::from([(backend.id().clone(), backend)]);
        let registry = Registry::new(self.store.clone());
        let inventory = Arc::new(Inventory::default());
        let settings = EngineSettings {
            lease: Duration::from_millis(400),
            outbound: self.outbound.clone(),
            ..EngineSettings::default()
        };
        let engine = Engine::new(
            registry.clone(),
            inventory.clone(),
            self.keyring.clone(),
            backends.clone(),
            settings,
        );
        let (jobs, heard) = mpsc::unbounded_channel();
        let upkeep = upkeep(&inventory, &registry, &backends, &self.keyring, jobs);
        let kept = inventory.clone();
        let policy = self.policy.clone();
        let core = Core::new(
            inventory,
            registry,
            engine.clone(),
            backends,
            self.keyring.clone(),
            policy,
        );
        let started = core.clone();
        runtime.block_on(async move {
            let mut tasks = upkeep.start().await.unwrap();
            let mut engine_tasks = engine.start(heard);
            tokio::spawn(async move { while tasks.join_next().await.is_some() {} });
            tokio::spawn(async move { while engine_tasks.join_next().await.is_some() {} });
            let seed = ImageSeed {
                name: "debian".to_owned(),
                number: None,
                kind: ImageKind::Disk,
                os: "Debian".to_owned(),
                os_version: "12".to_owned(),
                family: String::new(),
                admin_user: "root".to_owned(),
                size: GIB,
                locations: vec![ImageLocation {
                    backend: BackendId::new("sim"),
                    native: "debian".to_owned(),
                    format: VolumeFormat::Qcow2,
                }],
            };
            started.registry().seed_image(seed).await.unwrap();
            eventually("the backend is up and the image is known", || {
                let now = started.now();
                now.backend_up(&BackendId::new("sim")) && !now.images.is_empty() && !now.pools.is_empty()
            })
            .await;
        });
        Gateway {
            core,
            inventory: kept,
            keyring: self.keyring.clone(),
            runtime: Some(runtime),
        }
    }
}

fn upkeep(
    inventory: &Arc<Inventory>,
    registry: &Registry,
    backends: &HashMap<BackendId, Arc<dyn Backend>>,
    keyring: &Arc<Keyring>,
    jobs: mpsc::UnboundedSender<Change>,
) -> Upkeep {
    Upkeep {
        inventory: inventory.clone(),
        registry: registry.clone(),
        backends: backends.clone(),
        adopted_tenant: TenantId::new("default"),
        keyring: keyring.clone(),
        jobs,
    }
}

/// A running gateway.
pub struct Gateway {
    pub core: Arc<Core>,
    pub inventory: Arc<Inventory>,
    keyring: Arc<Keyring>,
    runtime: Option<Runtime>,
}

impl Gateway {
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    /// An upkeep on this gateway's parts besides the running one, to do single chores with.
    pub fn upkeep(&self) -> Upkeep {
        let (jobs, _) = mpsc::unbounded_channel();
        let registry = self.core.registry();
        upkeep(
            &self.inventory,
            registry,
            self.core.backends(),
            &self.keyring,
            jobs,
        )
    }

    /// Ends every task of this gateway where it stands.
    pub fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub fn request(&self, name: &str) -> CreateRequest {
        CreateRequest {
            name: name.to_owned(),
            vcpus: 1,
            memory: GIB,
            disk: 2 * GIB,
            root: Root::Image(self.core.now().images.values().next().unwrap().clone()),
            ..CreateRequest::default()
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub fn admin() -> Caller {
    Caller {
        account: None,
        tenant: TenantId::new("default"),
        role: Role::Admin,
        vm_quota: None,
        dialect: "test",
        operation: "test".to_owned(),
        request_id: "test".to_owned(),
    }
}

/// Waits until `met`, at most ten seconds.
pub async fn eventually(what: &str, met: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !met() {
        assert!(Instant::now() < end, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
