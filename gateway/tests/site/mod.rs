//! A small site for tests that hold both built dialects to their data: one core over a store that can be made to
//! fail and a simulated hypervisor, the real frontends on it, and a client that goes the way of the server.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

pub mod calls;
pub mod seeds;
mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::backend::Backend;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_core::inventory::{Inventory, Upkeep};
use babelvisor_core::jobs::{Engine, EngineSettings};
use babelvisor_core::layers::{Core, Policy};
use babelvisor_core::model::{BackendId, Job, PowerState, TenantId, VmId, VolumeFormat};
use babelvisor_core::registry::Registry;
use babelvisor_core::secret::Keyring;
use babelvisor_core::store::JobFilter;
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_guest_rest::GuestRest;
use babelvisor_memory::{Control, ForeignVm, ImageConfig, MemoryBackend, MemoryConfig};
use babelvisor_pve_open::{PveOpen, Switch};
use babelvisor_schemas::{Dialect, Operation, Strictness};
use babelvisor_server::{Mount, RouteOutcome};
use babelvisor_v1_compute::V1Compute;
use babelvisor_zstack::Zstack;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use store::FailingStore;

const GIB: u64 = 1 << 30;

/// The machines that are there before anybody asks for one: name, power, vCPUs.
pub const MACHINES: [(&str, PowerState, u32); 6] = [
    ("web", PowerState::Running, 1),
    ("db", PowerState::Running, 4),
    ("cold", PowerState::Off, 2),
    ("spare", PowerState::Off, 3),
    ("napping", PowerState::Paused, 1),
    ("dozing", PowerState::Paused, 2),
];

pub struct Site {
    pub core: Arc<Core>,
    pub control: Control,
    pub store: Arc<FailingStore>,
    guest: Arc<dyn Frontend>,
    pve: Arc<dyn Frontend>,
    zstack: Arc<dyn Frontend>,
    compute: Arc<dyn Frontend>,
    upkeep: JoinSet<()>,
    engine: JoinSet<()>,
    // Last, so that the store's file is closed before its folder goes.
    _folder: tempfile::TempDir,
}

/// An answer, read.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The code in the dialect's own place: the branch where there is one.
    pub fn code(&self) -> String {
        let text = |place: &str| {
            self.body
                .pointer(place)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let number = || self.body["code"].as_i64().map(|code| code.to_string());
        text("/state/sub/code")
            .or_else(|| text("/state/code"))
            .or_else(number)
            .unwrap_or_else(|| panic!("no code in {}", self.body))
    }

    pub fn is_good(&self) -> bool {
        ["200", "0"].contains(&self.code().as_str())
    }
}

impl Site {
    pub async fn new() -> Self {
        Self::with(Strictness::Warn).await
    }

    /// A site without machines.
    pub async fn empty() -> Self {
        Self::on(Strictness::Warn, &[]).await
    }

    /// A site whose dialects are both as strict as that.
    pub async fn with(strictness: Strictness) -> Self {
        Self::on(strictness, &MACHINES).await
    }

    async fn on(strictness: Strictness, machines: &[(&str, PowerState, u32)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let opened = tokio::task::spawn_blocking(move || EmbeddedStore::open(&path));
        let store = Arc::new(FailingStore::new(opened.await.unwrap().expect("a store")));
        let registry = Registry::new(store.clone());
        let id = BackendId::new("sim");
        let image = |name: &str| ImageConfig {
            name: name.to_owned(),
            size: 2 * GIB,
            pool: None,
            format: VolumeFormat::Qcow2,
        };
        let memory = MemoryBackend::new(
            id.clone(),
            MemoryConfig {
                images: vec![image("debian"), image("ubuntu")],
                ..MemoryConfig::default()
            },
        );
        let control = memory.control();
        let backends: HashMap<BackendId, Arc<dyn Backend>> =
            HashMap::from([(id.clone(), memory as Arc<dyn Backend>)]);
        seeds::plant(&registry, &id).await;

        let inventory = Arc::new(Inventory::default());
        let keyring = Arc::new(Keyring::ephemeral());
        let (jobs, changes) = mpsc::unbounded_channel();
        let upkeep = Upkeep {
            inventory: inventory.clone(),
            registry: registry.clone(),
            backends: backends.clone(),
            adopted_tenant: TenantId::new("home"),
            keyring: keyring.clone(),
            jobs,
        };
        let upkeep = upkeep.start().await.expect("upkeep");
        let engine = Engine::new(
            registry.clone(),
            inventory.clone(),
            keyring.clone(),
            backends.clone(),
            EngineSettings::default(),
        );
        let running = engine.start(changes);
        let core = Core::new(inventory, registry, engine, backends, keyring, Policy::default());
        eventually("the backend is up", || core.now().backend_up(&id).then_some(())).await;
        eventually("the topology is known", || {
            (!core.now().pools.is_empty()).then_some(())
        })
        .await;
        // One after the other, so that they have the same numbers every time.
        for (place, &(name, power, vcpus)) in (1_u128..).zip(machines) {
            let foreign = ForeignVm {
                id: Some(fixed_id(place)),
                power,
                vcpus,
                ..ForeignVm::named(name)
            };
            let vm = control.spawn_foreign_vm(foreign).expect("a machine");
            eventually("it is adopted", || core.now().vms.get(&vm).cloned()).await;
        }
        let guest = GuestRest::new(
            core.clone(),
            babelvisor_guest_rest::Settings {
                tenant: "home".to_owned(),
                strictness,
                ..babelvisor_guest_rest::Settings::default()
            },
        );
        let pve = PveOpen::new(
            core.clone(),
            babelvisor_pve_open::Settings {
                authentication: Switch::Off,
                tenant: "home".to_owned(),
                strictness,
                ..babelvisor_pve_open::Settings::default()
            },
        );
        let zstack = Zstack::new(
            core.clone(),
            babelvisor_zstack::Settings {
                strictness,
                ..babelvisor_zstack::Settings::default()
            },
        );
        let compute = V1Compute::new(
            core.clone(),
            babelvisor_v1_compute::Settings {
                strictness,
                ..babelvisor_v1_compute::Settings::default()
            },
        );
        control.clear_call_log();
        Self {
            core,
            control,
            store,
            guest,
            pve,
            zstack,
            compute,
            upkeep,
            engine: running,
            _folder: folder,
        }
    }

    /// The real frontend of a built dialect.
    pub fn frontend(&self, dialect: Dialect) -> &dyn Frontend {
        match dialect {
            Dialect::GuestRest => &*self.guest,
            Dialect::PveOpen => &*self.pve,
            Dialect::Zstack => &*self.zstack,
            Dialect::V1Compute => &*self.compute,
            Dialect::KvmTaskFeed => panic!("{dialect} is not built"),
        }
    }

    /// The same, to be kept.
    pub fn shared(&self, dialect: Dialect) -> Arc<dyn Frontend> {
        match dialect {
            Dialect::GuestRest => self.guest.clone(),
            Dialect::PveOpen => self.pve.clone(),
            Dialect::Zstack => self.zstack.clone(),
            Dialect::V1Compute => self.compute.clone(),
            Dialect::KvmTaskFeed => panic!("{dialect} is not built"),
        }
    }

    /// Sends one of [`calls`]; `{web}` in its target stands for that machine's id in the dialect.
    pub async fn call(&self, dialect: Dialect, call: &calls::Call) -> Answer {
        let mut target = call.target.clone();
        for (place, (name, _, _)) in (1_u128..).zip(MACHINES) {
            let mark = format!("{{{name}}}");
            if target.contains(&mark) {
                let vm = self
                    .core
                    .now()
                    .vms
                    .get(&fixed_id(place))
                    .expect("the machine")
                    .clone();
                let id = match dialect {
                    Dialect::PveOpen => vm.record.short_id.clone(),
                    _ => vm.id.to_string(),
                };
                target = target.replace(&mark, &id);
            }
        }
        let body = call.body.as_ref().map_or_else(String::new, Value::to_string);
        self.send(dialect, call.method, &target, body.as_bytes()).await
    }

    pub async fn send(&self, dialect: Dialect, method: &str, target: &str, body: &[u8]) -> Answer {
        send(self.frontend(dialect), dialect, method, target, &[], body).await
    }

    /// Makes the account and signs it in; the header that calls of the dialect then carry.
    pub async fn signed_in(&self, dialect: Dialect) -> (&'static str, String) {
        if self
            .core
            .registry()
            .account(seeds::USER)
            .await
            .expect("a store")
            .is_none()
        {
            seeds::account(self.core.registry()).await;
        }
        match dialect {
            Dialect::Zstack => {
                let body =
                    json!({"logInByAccount": {"accountName": seeds::USER, "password": seeds::KEY_SHA512}});
                let body = body.to_string();
                let answer = self.send(dialect, "PUT", "/zstack/v1/accounts/login", body.as_bytes());
                let answer = answer.await;
                let token = answer.body["inventory"]["uuid"].as_str();
                (
                    "authorization",
                    format!("OAuth {}", token.unwrap_or_else(|| panic!("{answer:?}"))),
                )
            }
            Dialect::V1Compute => {
                let body = json!({"tenant": "home", "user": seeds::USER, "password": seeds::KEY_MD5});
                let body = body.to_string();
                let answer = self.send(dialect, "POST", "/v1/authentication/login", body.as_bytes());
                let answer = answer.await;
                let token = answer.body["data"]["token"].as_str();
                (
                    "authorization",
                    format!("Bearer {}", token.unwrap_or_else(|| panic!("{answer:?}"))),
                )
            }
            Dialect::GuestRest | Dialect::PveOpen | Dialect::KvmTaskFeed => {
                panic!("{dialect} needs no session here")
            }
        }
    }

    /// Waits until no job is under way.
    pub async fn settled(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let idle = self.core.now().vms.values().all(|vm| vm.activity.is_none());
            if self.jobs(true).await.is_empty() && idle {
                return;
            }
            assert!(Instant::now() < deadline, "the jobs never ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Jobs, oldest first.
    pub async fn jobs(&self, unfinished: bool) -> Vec<Job> {
        let filter = JobFilter { unfinished, limit: 0 };
        let mut jobs = self.core.registry().store().jobs(&filter).await.expect("jobs");
        jobs.sort_by_key(|job| (job.submitted, job.id));
        jobs
    }
}

/// The id of the machine in that place.
fn fixed_id(place: u128) -> VmId {
    format!("00000000-0000-4000-8000-{place:012x}")
        .parse()
        .expect("an id")
}

/// Routes as the server does, then answers or refuses.
pub async fn send(
    frontend: &dyn Frontend,
    dialect: Dialect,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: body.to_vec().into(),
        scheme: "http",
        host: "localhost".to_owned(),
        peer: "127.0.0.1:1".to_owned(),
        request_id: "trace-1".to_owned(),
    };
    let refuse = |refusal| frontend.refuse(refusal, &request);
    let table = Mount::from_contract(dialect, Arc::new(Nobody)).table;
    read(match table.route(method, path) {
        RouteOutcome::Found(routed) => frontend.answer(routed, request).await,
        RouteOutcome::NotBuilt { operation } => refuse(Refusal::NotBuilt { operation }),
        RouteOutcome::WrongMethod { allowed } => refuse(Refusal::WrongMethod { allowed }),
        RouteOutcome::UnknownPath => refuse(Refusal::UnknownPath),
    })
}

/// Stands where a mount wants a frontend and only its table is asked.
struct Nobody;

#[async_trait::async_trait]
impl Frontend for Nobody {
    fn dialect(&self) -> &'static str {
        "nobody"
    }

    async fn answer(&self, _: Routed, _: Request) -> Reply {
        Reply::default()
    }

    fn refuse(&self, _: Refusal, _: &Request) -> Reply {
        Reply::default()
    }
}

pub fn read(reply: Reply) -> Answer {
    Answer {
        status: reply.status,
        // ZStack's REST layer says no in plain text, and nothing at all while a job runs.
        body: serde_json::from_slice(&reply.body)
            .unwrap_or_else(|_| String::from_utf8_lossy(&reply.body).into_owned().into()),
        headers: reply.headers,
    }
}

/// The dialects whose every operation has its own cases in [`calls`].
pub const RENTALS: [Dialect; 2] = [Dialect::GuestRest, Dialect::PveOpen];

/// The dialects whose callers sign in, with many more operations.
pub const SIGNED_IN: [Dialect; 2] = [Dialect::Zstack, Dialect::V1Compute];

/// Every operation of [`RENTALS`] that is built, with its dialect.
pub fn built() -> impl Iterator<Item = &'static Operation> {
    built_of(&RENTALS)
}

/// Every operation of these dialects that is built.
pub fn built_of(dialects: &[Dialect]) -> impl Iterator<Item = &'static Operation> {
    babelvisor_schemas::all_operations()
        .filter(|operation| operation.built && dialects.contains(&operation.dialect))
}

/// Polls until `look` finds something.
pub async fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
