//! Both stores, each as two gateways see it, and gateways on them that have no backends: for what happens between
//! a frontend, the store and another gateway.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::any::Any;
use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::inventory::{Inventory, Upkeep};
use babelvisor_core::jobs::{Engine, EngineSettings};
use babelvisor_core::layers::{Core, Policy};
use babelvisor_core::model::*;
use babelvisor_core::registry::Registry;
use babelvisor_core::secret::Keyring;
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_core::store::redis::RedisStore;
use babelvisor_core::store::{Change, Store};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// One store as two gateways see it; it ends with this value.
pub struct Stores {
    pub one: Arc<dyn Store>,
    pub other: Arc<dyn Store>,
    pub keyring: Arc<Keyring>,
    _kept: Box<dyn Any + Send + Sync>,
}

pub async fn embedded() -> Stores {
    let dir = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&dir.path().join("store.redb")).unwrap());
    Stores {
        one: store.clone(),
        other: store,
        keyring: Arc::new(Keyring::ephemeral()),
        _kept: Box::new(dir),
    }
}

pub async fn redis() -> Stores {
    // Another process may take the port between the look and the start: then look again.
    for _ in 0..10 {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut server = Server(
            Command::new("redis-server")
                .args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-server must be installed for these tests"),
        );
        let until = Instant::now() + Duration::from_secs(20);
        let url = format!("redis://127.0.0.1:{port}/");
        while Instant::now() < until && server.0.try_wait().unwrap().is_none() {
            if let Ok(one) = RedisStore::connect(&url, "test:1:").await {
                let other = RedisStore::connect(&url, "test:1:").await.unwrap();
                return Stores {
                    one: Arc::new(one),
                    other: Arc::new(other),
                    keyring: Arc::new(Keyring::ephemeral()),
                    _kept: Box::new(server),
                };
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    panic!("redis-server does not start");
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stores {
    /// A gateway on each of the two handles.
    pub async fn gateways(&self) -> (Gate, Gate) {
        (self.gateway(&self.one).await, self.gateway(&self.other).await)
    }

    fn upkeep(
        &self,
        registry: &Registry,
        inventory: &Arc<Inventory>,
        jobs: mpsc::UnboundedSender<Change>,
    ) -> Upkeep {
        Upkeep {
            inventory: inventory.clone(),
            registry: registry.clone(),
            backends: HashMap::new(),
            adopted_tenant: TenantId::new("default"),
            keyring: self.keyring.clone(),
            jobs,
        }
    }

    /// An upkeep on a gateway's parts besides the running one, to do single chores with.
    pub fn second_upkeep(&self, gate: &Gate) -> Upkeep {
        let (jobs, _) = mpsc::unbounded_channel();
        self.upkeep(gate.core.registry(), &gate.inventory, jobs)
    }

    /// A gateway without backends.
    pub async fn gateway(&self, store: &Arc<dyn Store>) -> Gate {
        let registry = Registry::new(store.clone());
        let inventory = Arc::new(Inventory::default());
        let engine = Engine::new(
            registry.clone(),
            inventory.clone(),
            self.keyring.clone(),
            HashMap::new(),
            EngineSettings::default(),
        );
        let (jobs, heard) = mpsc::unbounded_channel();
        let upkeep = self.upkeep(&registry, &inventory, jobs);
        let tasks = upkeep.start().await.unwrap();
        let core = Core::new(
            inventory.clone(),
            registry,
            engine,
            HashMap::new(),
            self.keyring.clone(),
            Policy::default(),
        );
        Gate {
            core,
            inventory,
            _tasks: tasks,
            _heard: Box::new(heard),
        }
    }
}

/// A gateway without backends; it ends with this value.
pub struct Gate {
    pub core: Arc<Core>,
    pub inventory: Arc<Inventory>,
    _tasks: JoinSet<()>,
    _heard: Box<dyn Any + Send>,
}

/// A caller of a tenant.
pub fn caller(role: Role, tenant: &str) -> Caller {
    Caller {
        role,
        tenant: TenantId::new(tenant),
        ..super::admin()
    }
}

/// Runs each case on both stores.
#[macro_export]
macro_rules! on_both_stores {
    ($($case:ident),* $(,)?) => {
        mod embedded {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::stores::embedded().await).await;
            }
        )*}

        mod redis {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::stores::redis().await).await;
            }
        )*}
    };
}
