//! A small site for the tests: a real core over an embedded store and a simulated hypervisor with two images, and
//! a client that goes the way of the server: route, then answer or refuse. Every answer that passes through it is
//! held to the contract: a whole `state`, codes of the table, the HTTP status equal to the code, and for good
//! answers the document's schema.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use babelvisor_core::backend::Backend;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_core::inventory::{Inventory, Upkeep};
use babelvisor_core::jobs::{Engine, EngineSettings};
use babelvisor_core::layers::{Core, Policy};
use babelvisor_core::model::{
    BackendId, Caller, ImageKind, ImageLocation, Job, Role, TenantId, Timestamp, Vm, VmId, VolumeFormat,
};
use babelvisor_core::registry::{ImageSeed, Registry};
use babelvisor_core::secret::Keyring;
use babelvisor_core::store::JobFilter;
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_guest_rest::{GuestRest, Settings};
use babelvisor_memory::{CallRecord, Control, ForeignVm, ImageConfig, MemoryBackend, MemoryConfig, Method};
use babelvisor_schemas::{Dialect, Layer, Operation, Part, Route, contract};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub const GIB: u64 = 1 << 30;
/// The numbers of the images.
pub const DEBIAN: u64 = 1;
pub const ISO: u64 = 2;
/// A uuid that no guest has.
pub const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

pub struct Site {
    pub core: Arc<Core>,
    /// The first hypervisor.
    pub control: Control,
    /// The other hypervisors.
    pub others: Vec<Control>,
    pub frontend: Arc<dyn Frontend>,
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
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.as_str())
    }

    /// `412/41203`, or `200` where there is no branch.
    pub fn code(&self) -> String {
        let state = &self.body["state"];
        let trunk = state["code"].as_str().expect("a code is a string");
        state["sub"]["code"]
            .as_str()
            .map_or_else(|| trunk.to_owned(), |sub| format!("{trunk}/{sub}"))
    }

    pub fn sub_text(&self) -> &str {
        self.body["state"]["sub"]["zh-cn"].as_str().expect("a branch")
    }

    #[track_caller]
    pub fn good(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.body);
        &self.body["data"]
    }

    #[track_caller]
    pub fn refused(&self, code: &str) -> &Self {
        assert_eq!(self.code(), code, "{}", self.body);
        self
    }
}

impl Site {
    pub async fn new() -> Self {
        Self::with(Settings::default(), MemoryConfig::default()).await
    }

    pub async fn with(settings: Settings, config: MemoryConfig) -> Self {
        Self::on(settings, vec![("sim", config)]).await
    }

    /// A site on these hypervisors; every one of them has the image.
    pub async fn on(settings: Settings, hypervisors: Vec<(&str, MemoryConfig)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        let store = tokio::task::spawn_blocking(move || EmbeddedStore::open(&path))
            .await
            .unwrap()
            .expect("a store");
        let registry = Registry::new(Arc::new(store));
        let mut backends: HashMap<BackendId, Arc<dyn Backend>> = HashMap::new();
        let mut controls = Vec::new();
        for (id, config) in hypervisors {
            let image = ImageConfig {
                name: "debian".to_owned(),
                size: 2 * GIB,
                pool: None,
                format: VolumeFormat::Qcow2,
            };
            let config = MemoryConfig {
                images: vec![image],
                ..config
            };
            let memory = MemoryBackend::new(BackendId::new(id), config);
            controls.push(memory.control());
            backends.insert(BackendId::new(id), memory);
        }
        for (name, number, kind) in [
            ("debian", DEBIAN, ImageKind::Disk),
            ("netinst", ISO, ImageKind::Iso),
        ] {
            registry
                .seed_image(image_seed(backends.keys(), name, number, kind))
                .await
                .expect("an image");
        }

        let inventory = Arc::new(Inventory::default());
        let keyring = Arc::new(Keyring::ephemeral());
        let (jobs, changes) = mpsc::unbounded_channel();
        let upkeep = Upkeep {
            inventory: inventory.clone(),
            registry: registry.clone(),
            backends: backends.clone(),
            adopted_tenant: TenantId::new("default"),
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
        for id in core.backends().keys() {
            eventually("the backend is up", || core.now().backend_up(id).then_some(())).await;
            let known = || {
                core.now()
                    .pools
                    .values()
                    .any(|pool| pool.backend == *id)
                    .then_some(())
            };
            eventually("the topology is known", known).await;
        }
        let frontend = GuestRest::new(core.clone(), settings);
        let control = controls.remove(0);
        control.clear_call_log();
        Self {
            core,
            control,
            others: controls,
            frontend,
            upkeep,
            engine: running,
            _folder: folder,
        }
    }

    /// The same core behind other settings.
    pub fn facing(&self, settings: Settings) -> Arc<dyn Frontend> {
        GuestRest::new(self.core.clone(), settings)
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, b"").await
    }

    pub async fn put(&self, target: &str) -> Answer {
        self.send("PUT", target, b"").await
    }

    pub async fn delete(&self, target: &str) -> Answer {
        self.send("DELETE", target, b"").await
    }

    pub async fn patch(&self, uuid: &str, body: &Value) -> Answer {
        self.send(
            "PATCH",
            &format!("/api/guest/{uuid}"),
            body.to_string().as_bytes(),
        )
        .await
    }

    pub async fn post(&self, body: &Value) -> Answer {
        self.send("POST", "/api/guest", body.to_string().as_bytes()).await
    }

    pub async fn send(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        send(
            &*self.frontend,
            method,
            target,
            &[("content-type", "application/json")],
            body,
        )
        .await
    }

    /// Creates guests and waits until they run. Their uuids.
    pub async fn guests(&self, name: &str, quantity: u32) -> Vec<String> {
        let mut body = wish();
        body["name"] = json!(name);
        body["quantity"] = json!(quantity);
        let answer = self.post(&body).await;
        let uuids: Vec<String> = answer.good().as_array().unwrap().iter().map(uuid_of).collect();
        for uuid in &uuids {
            self.until_status(uuid, 1).await;
            self.settled(uuid).await;
        }
        uuids
    }

    pub async fn guest(&self, name: &str) -> String {
        self.guests(name, 1).await.remove(0)
    }

    /// A guest that somebody made without the gateway.
    pub async fn foreign(&self, vm: ForeignVm) -> String {
        let id = self.control.spawn_foreign_vm(vm).expect("a guest");
        eventually("the guest is adopted", || self.core.now().vms.get(&id).cloned()).await;
        id.to_string()
    }

    pub fn vm(&self, uuid: &str) -> Arc<Vm> {
        let id: VmId = uuid.parse().expect("a uuid");
        self.core.now().vms.get(&id).expect("the guest").clone()
    }

    /// Polls the guest until it shows `status`, as clients do.
    pub async fn until_status(&self, uuid: &str, status: u8) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let seen = self.get(&format!("/api/guest/{uuid}")).await.good().clone();
            if seen["status"] == status {
                return seen;
            }
            assert!(
                Instant::now() < deadline,
                "status {} never became {status}",
                seen["status"]
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until no job is at the guest.
    pub async fn settled(&self, uuid: &str) {
        let id: VmId = uuid.parse().expect("a uuid");
        eventually("the guest is settled", || {
            self.core
                .now()
                .vms
                .get(&id)
                .is_none_or(|vm| vm.activity.is_none())
                .then_some(())
        })
        .await;
    }

    /// Waits until the guest is gone.
    pub async fn gone(&self, uuid: &str) {
        let id: VmId = uuid.parse().expect("a uuid");
        eventually("the guest is gone", || {
            (!self.core.now().vms.contains_key(&id)).then_some(())
        })
        .await;
    }

    pub async fn jobs(&self) -> Vec<Job> {
        let filter = JobFilter {
            unfinished: false,
            limit: 0,
        };
        self.core.registry().store().jobs(&filter).await.expect("jobs")
    }

    /// Every change that the hypervisor was asked for.
    pub fn changes(&self) -> Vec<CallRecord> {
        let reads = [
            Method::List,
            Method::Get,
            Method::Topology,
            Method::Console,
            Method::ConsolePassword,
        ];
        self.control
            .call_log()
            .into_iter()
            .filter(|call| !reads.contains(&call.method))
            .collect()
    }

    pub async fn annotate(
        &self,
        uuid: &str,
        change: impl Fn(&mut babelvisor_core::model::VmRecord) + Send + Sync,
    ) {
        let change = |record: &mut babelvisor_core::model::VmRecord| {
            change(record);
            Ok(())
        };
        self.core
            .annotate(&administrator(), self.vm(uuid).id, change)
            .await
            .expect("annotated");
    }

    pub async fn trash(&self, uuid: &str) {
        self.annotate(uuid, |record| record.trashed_at = Some(Timestamp::now()))
            .await;
    }
}

/// The body of the document's example.
pub fn wish() -> Value {
    json!({
        "cpu": 4, "memory": 4, "os_template_id": DEBIAN, "quantity": 1, "name": "", "password": "pswd.com",
        "lease_term": 100,
    })
}

/// The example with some fields changed.
pub fn wish_with(changes: Value) -> Value {
    let mut body = wish();
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// The example without a field.
pub fn wish_without(field: &str) -> Value {
    let mut body = wish();
    body.as_object_mut().unwrap().remove(field);
    body
}

pub fn uuid_of(guest: &Value) -> String {
    guest["uuid"].as_str().expect("a uuid").to_owned()
}

pub fn administrator() -> Caller {
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

pub fn operation(id: &str) -> &'static Operation {
    contract(Dialect::GuestRest).operation(id).expect("an operation")
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
        host: "gw.example:8008".to_owned(),
        peer: "127.0.0.1:1".to_owned(),
        request_id: "trace-1".to_owned(),
    };
    let (reply, operation) = match contract(Dialect::GuestRest).route(method, path) {
        Route::Found { operation, params } if operation.built => {
            let params = operation
                .paths()
                .flat_map(|path| path.param_names())
                .filter_map(|name| Some((name, params.get(name)?.to_owned())))
                .collect();
            let routed = Routed {
                operations: vec![operation.id.as_str()],
                params,
            };
            (frontend.answer(routed, request).await, Some(operation))
        }
        Route::Found { operation, .. } => (
            frontend.refuse(
                Refusal::NotBuilt {
                    operation: operation.id.as_str(),
                },
                &request,
            ),
            None,
        ),
        Route::WrongMethod { allowed } => (frontend.refuse(Refusal::WrongMethod { allowed }, &request), None),
        Route::UnknownPath => (frontend.refuse(Refusal::UnknownPath, &request), None),
        Route::Candidates(_) => panic!("no address of this dialect has several operations"),
    };
    read(reply, operation)
}

/// Reads an answer and holds it to the contract.
#[track_caller]
pub fn read(reply: Reply, operation: Option<&Operation>) -> Answer {
    let body: Value = serde_json::from_slice(&reply.body).expect("every answer is JSON");
    let kind = reply
        .headers
        .iter()
        .find(|(name, _)| *name == "content-type")
        .expect("a content type");
    assert_eq!(kind.1, "application/json; charset=utf-8");
    for (name, value) in &reply.headers {
        assert!(
            value.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
            "header {name} is plain text: {value}"
        );
    }
    let state = &body["state"];
    assert_eq!(state["code"], reply.status.to_string(), "{body}");
    let table = contract(Dialect::GuestRest).errors();
    let trunk = table
        .row(state["code"].as_str().unwrap())
        .expect("a code of the table");
    assert_eq!(
        (state["en-us"].as_str(), state["zh-cn"].as_str()),
        (trunk.en.as_deref(), trunk.zh.as_deref())
    );
    if let Some(sub) = state.get("sub") {
        let row = table
            .row(sub["code"].as_str().unwrap())
            .expect("a branch of the table");
        assert!(
            !row.never_sent && row.parent.as_deref() == state["code"].as_str(),
            "{body}"
        );
        assert!(
            sub["zh-cn"]
                .as_str()
                .unwrap()
                .contains(row.zh.as_deref().unwrap()),
            "{body}"
        );
    }
    if reply.status == 200 {
        let operation = operation.expect("only an operation succeeds");
        if let Err(violations) = operation.validate(Part::Answer, Layer::Document, &body) {
            // A patch without a remark answers like an action; the document shows only the other kind.
            let bare_patch = operation.id == "guest.update" && body.get("data").is_none();
            assert!(bare_patch, "{}: {violations:?} in {body}", operation.id);
        }
    }
    Answer {
        status: reply.status,
        headers: reply.headers,
        body,
        bytes: reply.body.to_vec(),
    }
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

fn image_seed<'a>(
    backends: impl Iterator<Item = &'a BackendId>,
    name: &str,
    number: u64,
    kind: ImageKind,
) -> ImageSeed {
    ImageSeed {
        name: name.to_owned(),
        number: Some(number),
        kind,
        os: "Debian".to_owned(),
        os_version: "13".to_owned(),
        family: String::new(),
        admin_user: "root".to_owned(),
        size: 2 * GIB,
        locations: backends
            .map(|backend| ImageLocation {
                backend: backend.clone(),
                native: "debian".to_owned(),
                format: VolumeFormat::Qcow2,
            })
            .collect(),
    }
}
