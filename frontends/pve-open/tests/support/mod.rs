//! A small site for the tests: a real core over an embedded store and a simulated hypervisor, with packages,
//! images and accounts, and a client that goes the way of the server: route, then answer or refuse.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod catalogue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::backend::Backend;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_core::inventory::{Inventory, Upkeep};
use babelvisor_core::jobs::{Engine, EngineSettings};
use babelvisor_core::layers::{Core, Policy};
use babelvisor_core::model::{BackendId, Caller, Role, TenantId, Vm, VolumeFormat};
use babelvisor_core::registry::Registry;
use babelvisor_core::registry::accounts::NewAccount;
use babelvisor_core::secret::{Keyring, Secret};
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_memory::{Control, ForeignVm, ImageConfig, MemoryBackend, MemoryConfig};
use babelvisor_pve_open::{PveOpen, Settings, Switch};
use babelvisor_schemas::{Dialect, Operation, Route, contract};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const GIB: u64 = 1 << 30;

pub const CREATE: &str = "/v1/pve/open/createquantity";
pub const RENT: &str = "/v1/pve/open/createRent";

/// The account that tests sign in with.
pub const USER: &str = "A27550582";
/// Its key.
pub const KEY: &str = "made-up-key-of-A27550582";

pub fn one(id: &str) -> String {
    format!("/v1/pve/open/one/{id}")
}

pub fn operate(id: &str, kind: u8) -> String {
    format!("/v1/pve/open/operate/{id}?type={kind}")
}

pub fn reboot(id: &str) -> String {
    format!("/v1/pve/open/reboot/{id}")
}

pub fn delete(id: &str) -> String {
    format!("/v1/pve/open/delete/{id}")
}

pub struct Site {
    pub core: Arc<Core>,
    pub control: Control,
    pub frontend: Arc<dyn Frontend>,
    pub packages: HashMap<&'static str, String>,
    pub images: HashMap<&'static str, String>,
    upkeep: JoinSet<()>,
    engine: JoinSet<()>,
    // Last, so that the store's file is closed before its folder goes.
    _folder: tempfile::TempDir,
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
}

impl Answer {
    pub fn code(&self) -> i64 {
        self.body["code"].as_i64().expect("a code")
    }

    pub fn data(&self) -> &Value {
        &self.body["data"]
    }

    pub fn msg(&self) -> &str {
        self.body["msg"].as_str().expect("a msg")
    }

    #[track_caller]
    pub fn good(self) -> Value {
        assert_eq!(self.code(), 0, "{}", self.body);
        self.body["data"].clone()
    }
}

/// Settings of a site that asks for no token.
pub fn open() -> Settings {
    Settings {
        authentication: Switch::Off,
        tenant: "home".to_owned(),
        ..Settings::default()
    }
}

impl Site {
    /// A site without sign-in.
    pub async fn open() -> Self {
        Self::with(open()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let store = tokio::task::spawn_blocking(move || EmbeddedStore::open(&path))
            .await
            .unwrap()
            .expect("a store");
        let registry = Registry::new(Arc::new(store));
        let backend_id = BackendId::new("sim");
        let image = |name: &str| ImageConfig {
            name: name.to_owned(),
            size: 2 * GIB,
            pool: None,
            format: VolumeFormat::Qcow2,
        };
        let config = MemoryConfig {
            images: vec![image("debian"), image("windows")],
            ..MemoryConfig::default()
        };
        let memory = MemoryBackend::new(backend_id.clone(), config);
        let control = memory.control();
        let backends: HashMap<BackendId, Arc<dyn Backend>> =
            HashMap::from([(backend_id.clone(), memory as Arc<dyn Backend>)]);
        let (packages, images) = catalogue::seed(&registry, &backend_id).await;

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
        eventually("the backend is up", || {
            core.now().backend_up(&backend_id).then_some(())
        })
        .await;
        eventually("the topology is known", || {
            (!core.now().pools.is_empty()).then_some(())
        })
        .await;
        let frontend = PveOpen::new(core.clone(), settings);
        control.clear_call_log();
        Self {
            core,
            control,
            frontend,
            packages,
            images,
            upkeep,
            engine: running,
            _folder: folder,
        }
    }

    /// The same core behind other settings.
    pub fn facing(&self, settings: Settings) -> Arc<dyn Frontend> {
        PveOpen::new(self.core.clone(), settings)
    }

    pub async fn account(&self, name: &str, tenant: &str, role: Role) {
        self.new_account(name, tenant, role, true, None).await;
    }

    pub async fn new_account(
        &self,
        name: &str,
        tenant: &str,
        role: Role,
        verified: bool,
        quota: Option<u32>,
    ) {
        let account = NewAccount {
            name: name.to_owned(),
            tenant: TenantId::new(tenant),
            role,
            identity_verified: verified,
            vm_quota: quota,
            password: Secret::new(key_of(name)),
        };
        self.core
            .registry()
            .add_account(account)
            .await
            .expect("an account");
    }

    /// A token of the account `name`.
    pub async fn token(&self, name: &str) -> String {
        let body = serde_json::json!({"uuid": name, "secret": key_of(name)});
        let data = self.post("/v1/auth/getToken", &body).await.good();
        data["token"].as_str().expect("a token").to_owned()
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], b"").await
    }

    pub async fn delete(&self, target: &str) -> Answer {
        self.send("DELETE", target, &[], b"").await
    }

    pub async fn post(&self, target: &str, body: &Value) -> Answer {
        self.send("POST", target, &[], body.to_string().as_bytes()).await
    }

    /// With a token in the newest edition's header.
    pub async fn as_token(&self, token: &str, method: &str, target: &str, body: &[u8]) -> Answer {
        self.send(method, target, &[("finovy-access-token", token)], body)
            .await
    }

    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(&*self.frontend, method, target, headers, body).await
    }

    /// Creates a machine by use and waits until it is there, off. Returns its id.
    pub async fn machine(&self) -> String {
        self.created("/v1/pve/open/createquantity", &self.by_use()).await
    }

    /// Creates a rented machine and waits until it is there.
    pub async fn rented(&self, kind: i64, number: i64) -> String {
        self.created("/v1/pve/open/createRent", &self.rent(kind, number))
            .await
    }

    async fn created(&self, path: &str, body: &Value) -> String {
        let before: Vec<String> = self.all().iter().map(|vm| vm.record.short_id.clone()).collect();
        assert_eq!(self.post(path, body).await.good(), Value::Bool(true));
        let new = self
            .all()
            .into_iter()
            .find(|vm| !before.contains(&vm.record.short_id))
            .expect("visible at once");
        let id = new.record.short_id.clone();
        self.settled(&id).await;
        id
    }

    pub fn by_use(&self) -> Value {
        serde_json::json!({"packageId": self.packages["small"], "imageId": self.images["debian"]})
    }

    pub fn rent(&self, kind: i64, number: i64) -> Value {
        serde_json::json!({
            "packageId": self.packages["rental"],
            "imageId": self.images["debian"],
            "periodNumber": number,
            "periodType": kind,
        })
    }

    /// Every machine of every tenant.
    pub fn all(&self) -> Vec<Arc<Vm>> {
        self.core.now().by_number.values().cloned().collect()
    }

    pub fn vm(&self, id: &str) -> Arc<Vm> {
        self.core.now().by_short_id(id).expect("the machine").clone()
    }

    /// Waits until no job is at the machine and what the last one did is known.
    pub async fn settled(&self, id: &str) -> Arc<Vm> {
        eventually("the machine is settled", || {
            let vm = self.core.now().by_short_id(id)?.clone();
            // The job's end and what it made of the record come as two changes.
            let recorded = vm.record.planned.is_none() || vm.record.fault.is_some();
            (vm.activity.is_none() && recorded).then_some(vm)
        })
        .await
    }

    /// Polls `one` until it shows `status`, as clients do.
    pub async fn until_status(&self, id: &str, status: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let seen = self.get(&format!("/v1/pve/open/one/{id}")).await.good()["status"].clone();
            if seen == status {
                return;
            }
            assert!(Instant::now() < deadline, "status {seen} never became {status}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Switches a machine on and waits until it is.
    pub async fn on(&self, id: &str) {
        self.get(&format!("/v1/pve/open/operate/{id}?type=1"))
            .await
            .good();
        self.until_status(id, "2").await;
        self.settled(id).await;
    }

    /// Ends the term of a machine now.
    pub async fn expire(&self, id: &str) {
        let past = babelvisor_core::model::Timestamp::now() - Duration::from_secs(60);
        self.core
            .annotate(&administrator(), self.vm(id).id, |record| {
                record.expires_at = Some(past);
                Ok(())
            })
            .await
            .expect("annotated");
    }

    /// A machine that somebody made without the gateway.
    pub async fn foreign(&self, name: &str) -> String {
        let vm = self
            .control
            .spawn_foreign_vm(ForeignVm::named(name))
            .expect("a guest");
        let adopted = eventually("the guest is adopted", || self.core.now().vms.get(&vm).cloned()).await;
        adopted.record.short_id.clone()
    }
}

pub fn administrator() -> Caller {
    Caller {
        account: None,
        tenant: TenantId::new("home"),
        role: Role::Admin,
        vm_quota: None,
        dialect: "test",
        operation: "test".to_owned(),
        request_id: "test".to_owned(),
    }
}

pub fn key_of(name: &str) -> String {
    format!("made-up-key-of-{name}")
}

/// Routes as the server does, then answers or refuses.
pub async fn send(
    frontend: &dyn Frontend,
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
    let reply = match contract(Dialect::PveOpen).route(method, path) {
        Route::Found { operation, params } if operation.built => {
            let params = operation
                .paths()
                .flat_map(|path| path.param_names())
                .filter_map(|name| Some((name, params.get(name)?.to_owned())))
                .collect();
            frontend
                .answer(
                    Routed {
                        operations: vec![operation.id.as_str()],
                        params,
                    },
                    request,
                )
                .await
        }
        Route::Found { operation, .. } => frontend.refuse(
            Refusal::NotBuilt {
                operation: operation.id.as_str(),
            },
            &request,
        ),
        Route::WrongMethod { allowed } => frontend.refuse(Refusal::WrongMethod { allowed }, &request),
        Route::UnknownPath => frontend.refuse(Refusal::UnknownPath, &request),
        Route::Candidates(_) => panic!("no address of this dialect has several operations"),
    };
    read(reply)
}

pub fn read(reply: Reply) -> Answer {
    let body = serde_json::from_slice(&reply.body).expect("every answer is JSON");
    Answer {
        status: reply.status,
        headers: reply.headers,
        body,
    }
}

pub fn operation(id: &str) -> &'static Operation {
    contract(Dialect::PveOpen).operation(id).expect("an operation")
}

/// Polls until `look` finds something.
pub async fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
