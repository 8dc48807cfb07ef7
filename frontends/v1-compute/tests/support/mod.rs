//! A small site for the tests: a real core over an embedded store and a simulated hypervisor, with flavors, images
//! and accounts, and a client that goes the way of the server: route, then answer or refuse.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::backend::Backend;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_core::inventory::{Inventory, Upkeep};
use babelvisor_core::jobs::{Engine, EngineSettings};
use babelvisor_core::layers::{Core, Policy};
use babelvisor_core::model::{
    Area, BackendId, Billing, Caller, ImageKind, ImageLocation, Purpose, Role, TenantId, Vm, VmId,
    VolumeFormat,
};
use babelvisor_core::registry::accounts::NewAccount;
use babelvisor_core::registry::{FlavorSeed, ImageSeed, Registry};
use babelvisor_core::secret::{Keyring, Secret};
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_memory::{Control, ForeignVm, ImageConfig, MemoryBackend, MemoryConfig};
use babelvisor_schemas::{Dialect, Layer, Operation, Part, Route, contract};
use babelvisor_v1_compute::{Settings, Switch, V1Compute};
use md5::Digest as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub const GIB: u64 = 1 << 30;

/// The host part of the address that the tests call.
pub const HOST: &str = "hci.example";
/// The account that tests sign in with, an administrator of the tenant `system`.
pub const ADMIN: &str = "admin";
/// An ordinary user of the tenant `home`.
pub const USER: &str = "ann";

pub struct Site {
    pub core: Arc<Core>,
    pub control: Control,
    pub frontend: Arc<dyn Frontend>,
    upkeep: JoinSet<()>,
    engine: JoinSet<()>,
    // Last, so that the store's file is closed before its folder goes.
    _folder: tempfile::TempDir,
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub operation: Option<&'static str>,
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
}

impl Answer {
    pub fn scode(&self) -> i64 {
        self.body["scode"].as_i64().expect("a code that is an integer")
    }

    pub fn desc(&self) -> &str {
        self.body["desc"].as_str().expect("a desc")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The data of a success that fits its schema.
    #[track_caller]
    pub fn good(self) -> Value {
        assert_eq!(self.status, 200);
        assert_eq!(self.scode(), 0, "{}", self.body);
        if let Some(id) = self.operation {
            operation(id)
                .validate(Part::Answer, Layer::Document, &self.body)
                .unwrap_or_else(|faults| panic!("{id}: {faults:?}\n{}", self.body));
        }
        self.body["data"].clone()
    }

    /// A refusal with this code, which says what about.
    #[track_caller]
    pub fn bad(self, scode: i64) -> String {
        assert_eq!((self.status, self.scode()), (200, scode), "{}", self.body);
        contract(Dialect::V1Compute)
            .errors()
            .validate_body(&self.body)
            .unwrap_or_else(|faults| panic!("{faults:?}\n{}", self.body));
        self.desc().to_owned()
    }

    /// The only result of a batch, whatever it is.
    #[track_caller]
    pub fn only(self) -> Value {
        let data = self.good();
        let results = data["results"].as_array().expect("results");
        assert_eq!(results.len(), 1, "{data}");
        results[0].clone()
    }
}

/// Settings of a site that asks for no sign-in.
pub fn open() -> Settings {
    Settings {
        authentication: Switch::Off,
        tenant: "home".to_owned(),
        ..Settings::default()
    }
}

impl Site {
    /// A site without sign-in: everybody is a user of `home`.
    pub async fn open() -> Self {
        Self::with(open()).await
    }

    /// A site with an administrator of `system` and a user of `home`.
    pub async fn closed() -> Self {
        let site = Self::with(Settings::default()).await;
        site.account(ADMIN, "system", Role::Admin).await;
        site.account(USER, "home", Role::User).await;
        site
    }

    pub async fn with(settings: Settings) -> Self {
        Self::on(settings, MemoryConfig::default()).await
    }

    /// The same on a hypervisor of one's own; two images are added to it.
    pub async fn on(settings: Settings, mut config: MemoryConfig) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let store = tokio::task::spawn_blocking(move || EmbeddedStore::open(&path))
            .await
            .unwrap()
            .expect("a store");
        let registry = Registry::new(Arc::new(store));
        let backend_id = BackendId::new("sim");
        config
            .images
            .extend(["debian", "installer"].map(|name| ImageConfig {
                name: name.to_owned(),
                size: 2 * GIB,
                pool: None,
                format: VolumeFormat::Qcow2,
            }));
        let memory = MemoryBackend::new(backend_id.clone(), config);
        let control = memory.control();
        let backends: HashMap<BackendId, Arc<dyn Backend>> =
            HashMap::from([(backend_id.clone(), memory as Arc<dyn Backend>)]);
        seed(&registry, &backend_id).await;

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
        let frontend = V1Compute::new(core.clone(), settings);
        control.clear_call_log();
        Self {
            core,
            control,
            frontend,
            upkeep,
            engine: running,
            _folder: folder,
        }
    }

    /// The same core behind other settings.
    pub fn facing(&self, settings: Settings) -> Arc<dyn Frontend> {
        V1Compute::new(self.core.clone(), settings)
    }

    pub async fn account(&self, name: &str, tenant: &str, role: Role) {
        let account = NewAccount {
            name: name.to_owned(),
            tenant: TenantId::new(tenant),
            role,
            identity_verified: false,
            vm_quota: None,
            password: Secret::new(password_of(name)),
        };
        let registry = self.core.registry();
        registry.add_account(account).await.expect("an account");
        eventually("the account is known", || {
            self.core.now().accounts.contains_key(name).then_some(())
        })
        .await;
    }

    /// Signs in; the whole answer's data.
    pub async fn login(&self, name: &str) -> Value {
        let body = json!({"User": name, "Tenant": "", "Password": md5_of(&password_of(name))});
        self.post("/v1/authentication/login", &body).await.good()
    }

    /// A token of the account `name`.
    pub async fn token(&self, name: &str) -> String {
        self.login(name).await["token"]
            .as_str()
            .expect("a token")
            .to_owned()
    }

    /// A client that has signed in as `name`.
    pub async fn client(&self, name: &str) -> Client<'_> {
        Client {
            site: self,
            headers: vec![(
                "authorization".to_owned(),
                format!("Bearer {}", self.token(name).await),
            )],
        }
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], b"").await
    }

    pub async fn post(&self, target: &str, body: &Value) -> Answer {
        self.send("POST", target, &[], body.to_string().as_bytes()).await
    }

    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(&*self.frontend, method, target, headers, body).await
    }

    /// Every machine of every tenant.
    pub fn all(&self) -> Vec<Arc<Vm>> {
        self.core.now().by_number.values().cloned().collect()
    }

    /// The machine with this uuid, in the recycle bin or not.
    pub fn vm(&self, uuid: &str) -> Arc<Vm> {
        let id: VmId = uuid.parse().expect("a uuid");
        self.core.now().vms.get(&id).expect("the machine").clone()
    }

    /// Waits until no job is at the machine and what the last one did is known.
    pub async fn settled(&self, uuid: &str) -> Arc<Vm> {
        let id: VmId = uuid.parse().expect("a uuid");
        eventually("the machine is settled", || {
            let vm = self.core.now().vms.get(&id)?.clone();
            // The job's end and what it made of the record come as two changes.
            let recorded = vm.record.planned.is_none() || vm.record.fault.is_some();
            (vm.activity.is_none() && recorded).then_some(vm)
        })
        .await
    }

    /// A machine that somebody made without the gateway, running; it belongs to the tenant `home`.
    pub async fn foreign(&self, name: &str) -> String {
        let vm = self
            .control
            .spawn_foreign_vm(ForeignVm::named(name))
            .expect("a guest");
        eventually("the guest is adopted", || self.core.now().vms.get(&vm).cloned())
            .await
            .id
            .to_string()
    }

    /// The uuid of the image with this name.
    pub fn image(&self, name: &str) -> String {
        let now = self.core.now();
        let found = now.images.values().find(|image| image.name == name);
        found.expect("the image").id.to_string()
    }

    /// The uuid of the first pool.
    pub fn pool(&self) -> String {
        let now = self.core.now();
        now.pools.values().next().expect("a pool").id.to_string()
    }

    /// The uuid of the cluster.
    pub fn cluster(&self) -> String {
        let now = self.core.now();
        now.hosts
            .values()
            .next()
            .expect("a host")
            .cluster_id()
            .to_string()
    }
}

/// Somebody who has signed in.
pub struct Client<'s> {
    pub site: &'s Site,
    pub headers: Vec<(String, String)>,
}

impl Client<'_> {
    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, b"").await
    }

    pub async fn post(&self, target: &str, body: &Value) -> Answer {
        self.send("POST", target, body.to_string().as_bytes()).await
    }

    pub async fn send(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        self.site.send(method, target, &headers, body).await
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

pub fn password_of(name: &str) -> String {
    format!("made-up-password-of-{name}")
}

/// MD5 in lower-case hex, as clients send passwords.
pub fn md5_of(text: &str) -> String {
    let digest = md5::Md5::digest(text.as_bytes());
    digest.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

async fn seed(registry: &Registry, backend: &BackendId) {
    for (name, vcpus, memory) in [("small", 1, GIB), ("large", 4, 8 * GIB)] {
        let flavor = FlavorSeed {
            name: name.to_owned(),
            short_id: None,
            vcpus,
            memory,
            disk: 20 * GIB,
            gpus: 0,
            gpu_model: None,
            bandwidth: 0,
            price: 0.0,
            discount: 1.0,
            family: String::new(),
            purpose: Purpose::Office,
            area: Area::South,
            billing: Billing::Both,
        };
        registry.seed_flavor(flavor).await.expect("a flavor");
    }
    for (name, kind) in [("debian", ImageKind::Disk), ("installer", ImageKind::Iso)] {
        let image = ImageSeed {
            name: name.to_owned(),
            number: None,
            kind,
            os: "Debian".to_owned(),
            os_version: "13".to_owned(),
            family: String::new(),
            admin_user: "admin".to_owned(),
            size: 2 * GIB,
            locations: vec![ImageLocation {
                backend: backend.clone(),
                native: name.to_owned(),
                format: VolumeFormat::Qcow2,
            }],
        };
        registry.seed_image(image).await.expect("an image");
    }
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
            .map(|(name, value)| (name.to_lowercase(), (*value).to_owned()))
            .collect(),
        body: body.to_vec().into(),
        scheme: "http",
        host: format!("{HOST}:9990"),
        peer: "127.0.0.1:1".to_owned(),
        request_id: "trace-1".to_owned(),
    };
    let reply = match contract(Dialect::V1Compute).route(method, path) {
        Route::Found { operation, .. } if operation.built => {
            let routed = Routed {
                operations: vec![operation.id.as_str()],
                params: Vec::new(),
            };
            frontend.answer(routed, request).await
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
    Answer {
        operation: reply.operation,
        status: reply.status,
        body: serde_json::from_slice(&reply.body).expect("every answer is JSON"),
        headers: reply.headers,
    }
}

pub fn operation(id: &str) -> &'static Operation {
    contract(Dialect::V1Compute).operation(id).expect("an operation")
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
