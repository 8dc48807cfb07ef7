//! A small site for the tests: a real core over an embedded store and a simulated hypervisor, with an image, an
//! offering and accounts, and a client that goes the way of the server: route, then answer or refuse.
#![allow(dead_code, unreachable_pub, missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::backend::Backend;
use babelvisor_core::frontend::{Frontend, Request};
use babelvisor_core::inventory::{Inventory, Upkeep};
use babelvisor_core::jobs::{Engine, EngineSettings};
use babelvisor_core::layers::{Core, Policy};
use babelvisor_core::model::{
    BackendId, Caller, DiskOffering, Flavor, Image, ImageKind, ImageLocation, Role, TenantId, VolumeFormat,
};
use babelvisor_core::outbound::{AllowList, Outbound, OutboundSettings};
use babelvisor_core::registry::Registry;
use babelvisor_core::registry::accounts::NewAccount;
use babelvisor_core::secret::{Keyring, Secret};
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_memory::{Control, ImageConfig, MemoryBackend, MemoryConfig};
use babelvisor_schemas::{Dialect, Layer, Operation, Part, contract};
use babelvisor_server::{Mount, RouteOutcome};
use babelvisor_zstack::{Settings, Zstack};
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const GIB: u64 = 1 << 30;
/// The account that tests sign in with.
pub const USER: &str = "admin";

pub const MACHINES: &str = "/zstack/v1/vm-instances";
pub const LOGIN: &str = "/zstack/v1/accounts/login";

pub fn machine(uuid: &str) -> String {
    format!("{MACHINES}/{uuid}")
}

pub fn actions(uuid: &str) -> String {
    format!("{MACHINES}/{uuid}/actions")
}

/// The catalogue of the site, as its uuids.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pub image: String,
    pub iso: String,
    pub small: String,
    pub large: String,
    pub disk: String,
    pub network: String,
}

pub struct Site {
    pub core: Arc<Core>,
    pub control: Control,
    pub catalogue: Catalogue,
    /// A session of [`USER`].
    pub session: String,
    mount: Mount,
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
    /// Null where the body is not JSON.
    pub body: Value,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn good(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body
    }

    /// The code of the error object.
    #[track_caller]
    pub fn code(&self) -> &str {
        assert_eq!(self.status, 503, "{}", self.text);
        self.body["error"]["code"].as_str().expect("a code")
    }

    pub fn details(&self) -> &str {
        self.body["error"]["details"].as_str().expect("details")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Site {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        Self::with_hosts(settings, 1).await
    }

    pub async fn with_hosts(settings: Settings, hosts: u32) -> Self {
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
        let mut config = MemoryConfig {
            images: vec![image("debian"), image("installer")],
            ..MemoryConfig::default()
        };
        config.hosts.count = hosts;
        let memory = MemoryBackend::new(backend_id.clone(), config);
        let control = memory.control();
        let backends: HashMap<BackendId, Arc<dyn Backend>> =
            HashMap::from([(backend_id.clone(), memory as Arc<dyn Backend>)]);

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
            EngineSettings {
                // Nobody delivers here: what is due stays in the store.
                outbound: Outbound::new(OutboundSettings {
                    webhook: AllowList::parse(&["127.0.0.0/8"]).expect("a range"),
                    ..OutboundSettings::default()
                }),
                ..EngineSettings::default()
            },
        );
        let running = engine.start(changes);
        let core = Core::new(inventory, registry, engine, backends, keyring, Policy::default());
        eventually("the backend is up", || {
            core.now().backend_up(&backend_id).then_some(())
        })
        .await;
        let network = eventually("the topology is known", || {
            let now = core.now();
            let network = now.networks.values().map(|network| network.id.simple()).min()?;
            (!now.pools.is_empty()).then_some(network)
        })
        .await;
        let catalogue = seed(&core, &backend_id, network).await;
        let frontend: Arc<dyn Frontend> = Zstack::new(core.clone(), settings);
        control.clear_call_log();
        let mut site = Self {
            core,
            control,
            catalogue,
            session: String::new(),
            mount: Mount::from_contract(Dialect::Zstack, frontend),
            upkeep,
            engine: running,
            _folder: folder,
        };
        site.account(USER, "home", Role::Admin, None).await;
        site.session = site.log_in(USER).await;
        site
    }

    pub async fn account(&self, name: &str, tenant: &str, role: Role, quota: Option<u32>) {
        let account = NewAccount {
            name: name.to_owned(),
            tenant: TenantId::new(tenant),
            role,
            identity_verified: true,
            vm_quota: quota,
            password: Secret::new(password_of(name)),
        };
        self.core
            .registry()
            .add_account(account)
            .await
            .expect("an account");
    }

    /// A session of the account `name`.
    pub async fn log_in(&self, name: &str) -> String {
        let body = json!({"logInByAccount": {"accountName": name, "password": sha512(&password_of(name))}});
        let answer = self.send("PUT", LOGIN, &[], &body.to_string()).await.good();
        answer["inventory"]["uuid"]
            .as_str()
            .expect("a session")
            .to_owned()
    }

    /// A call as [`USER`].
    pub async fn call(&self, method: &str, target: &str, body: &Value) -> Answer {
        self.call_as(&self.session, method, target, body).await
    }

    pub async fn call_as(&self, session: &str, method: &str, target: &str, body: &Value) -> Answer {
        let oauth = format!("OAuth {session}");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let headers = [
            ("authorization", oauth.as_str()),
            ("content-type", "application/json"),
        ];
        self.send(method, target, &headers, &body).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.call("GET", target, &Value::Null).await
    }

    /// An asynchronous call, polled to its end.
    pub async fn done(&self, method: &str, target: &str, body: &Value) -> Answer {
        self.done_as(&self.session, method, target, body).await
    }

    pub async fn done_as(&self, session: &str, method: &str, target: &str, body: &Value) -> Answer {
        let accepted = self.call_as(session, method, target, body).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text);
        self.end_of(session, &accepted).await
    }

    /// Polls the location of an answer until the work has ended.
    pub async fn end_of(&self, session: &str, accepted: &Answer) -> Answer {
        let location = location_of(accepted);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let polled = self.call_as(session, "GET", &location, &Value::Null).await;
            if polled.status != 202 {
                return polled;
            }
            assert!(Instant::now() < deadline, "{location} never ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// An action on a machine, polled to its end.
    pub async fn act(&self, uuid: &str, action: &str, parameters: Value) -> Answer {
        let body = json!({ action: parameters });
        self.done("PUT", &actions(uuid), &body).await
    }

    /// What makes a small machine.
    pub fn wanted(&self, name: &str) -> Value {
        json!({
            "name": name,
            "instanceOfferingUuid": self.catalogue.small,
            "imageUuid": self.catalogue.image,
            "l3NetworkUuids": [self.catalogue.network],
        })
    }

    /// Creates a machine and waits until it runs. Returns its inventory.
    pub async fn created(&self, parameters: Value) -> Value {
        let answer = self
            .done("POST", MACHINES, &json!({ "params": parameters }))
            .await;
        answer.good()["inventory"].clone()
    }

    /// The uuid of a new machine that runs.
    pub async fn running(&self, name: &str) -> String {
        uuid_of(&self.created(self.wanted(name)).await)
    }

    /// The uuid of a new machine that is off.
    pub async fn stopped(&self, name: &str) -> String {
        let mut wanted = self.wanted(name);
        wanted["strategy"] = json!("JustCreate");
        uuid_of(&self.created(wanted).await)
    }

    pub async fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let target = target.strip_prefix("http://localhost:8080").unwrap_or(target);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.as_bytes().to_vec().into(),
            scheme: "http",
            host: "localhost:8080".to_owned(),
            peer: "127.0.0.1:40001".to_owned(),
            request_id: "trace-1".to_owned(),
        };
        let frontend = &self.mount.frontend;
        let reply = match self.mount.table.route(method, path) {
            RouteOutcome::Found(routed) => frontend.answer(routed, request).await,
            RouteOutcome::NotBuilt { operation } => frontend.refuse(
                babelvisor_core::frontend::Refusal::NotBuilt { operation },
                &request,
            ),
            RouteOutcome::WrongMethod { allowed } => frontend.refuse(
                babelvisor_core::frontend::Refusal::WrongMethod { allowed },
                &request,
            ),
            RouteOutcome::UnknownPath => {
                frontend.refuse(babelvisor_core::frontend::Refusal::UnknownPath, &request)
            }
        };
        let text = String::from_utf8(reply.body.to_vec()).expect("text");
        Answer {
            status: reply.status,
            headers: reply.headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }
}

async fn seed(core: &Core, backend: &BackendId, network: String) -> Catalogue {
    let caller = administrator();
    let image = |name: &str, kind| {
        let mut image = Image::new(name, kind, None);
        image.os = "Debian".to_owned();
        image.size = 2 * GIB;
        image.state = babelvisor_core::model::EntryState::Ready;
        image.locations = vec![ImageLocation {
            backend: backend.clone(),
            native: name.to_owned(),
            format: VolumeFormat::Qcow2,
        }];
        image
    };
    let debian = core.add_entry(&caller, image("debian", ImageKind::Disk)).await;
    let iso = core.add_entry(&caller, image("installer", ImageKind::Iso)).await;
    let small = core.add_entry(&caller, Flavor::new("small", 1, GIB, None)).await;
    let large = core
        .add_entry(&caller, Flavor::new("large", 2, 2 * GIB, None))
        .await;
    let disk = core
        .add_entry(&caller, DiskOffering::new("five", 5 * GIB, None))
        .await;
    Catalogue {
        image: debian.expect("an image").id.simple(),
        iso: iso.expect("an ISO").id.simple(),
        small: small.expect("an offering").id.simple(),
        large: large.expect("an offering").id.simple(),
        disk: disk.expect("a disk offering").id.simple(),
        network,
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

/// As clients send it.
pub fn sha512(text: &str) -> String {
    let digest = sha2::Sha512::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn uuid_of(inventory: &Value) -> String {
    inventory["uuid"].as_str().expect("a uuid").to_owned()
}

#[track_caller]
pub fn location_of(accepted: &Answer) -> String {
    let location = accepted.body["location"].as_str().expect("a location");
    assert!(
        location.starts_with("http://localhost:8080/zstack/v1/api-jobs/"),
        "{location}"
    );
    location.to_owned()
}

pub fn operation(id: &str) -> &'static Operation {
    contract(Dialect::Zstack).operation(id).expect("an operation")
}

/// Judges an answer by the document.
#[track_caller]
pub fn documented(id: &str, body: &Value) {
    let verdict = operation(id).validate(Part::Answer, Layer::Document, body);
    assert_eq!(verdict, Ok(()), "{id}: {body}");
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
