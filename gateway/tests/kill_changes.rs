//! The real binary, killed with SIGKILL in the middle of what the dialects with sign-in can do besides creating, switching
//! and deleting: changing hardware, snapshots, volumes, images, copies, moves, the trash. After the restart the job ends as
//! if nothing had happened: the world is what the same command makes of it in a gateway that lives on.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use babelvisor_conformance::testbed::http::call;
use babelvisor_conformance::testbed::{Gateway, eventually};
use common::crash::{
    KILL_AT, Store, admin, assert_killed, config, domains, ended, libvirtd, only_job, restart, virsh, volumes,
};
use common::setup::Which;
use common::{ACCOUNTS, gateway};
use serde_json::{Value, json};

/// Set to run every moment of every command on QEMU, too.
const LONG: &str = "BABELVISOR_LONG";
const MOMENTS: [&str; 4] = ["begin", "begun", "called", "done"];
/// Gateways alive at once.
const AT_ONCE: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);
/// The digest of the first account's password.
const DIGEST: &str = concat!(
    "7b6428832329f02608a2c5c477216d4abdbe6b102ad3e8f3ddb5335db07358ba",
    "1695f147a1cb3f0477759a7fd22b3770b721d94da3fd0e4ffab2d80d9d392ccb"
);

/// A command and the steps in which it can die.
#[derive(Debug, Clone, Copy)]
struct Deed {
    command: &'static str,
    steps: &'static [&'static str],
    /// Whether libvirt's QEMU driver is asked to do it without `BABELVISOR_LONG`, too.
    on_qemu: bool,
}

const fn deed(command: &'static str, steps: &'static [&'static str], on_qemu: bool) -> Deed {
    Deed {
        command,
        steps,
        on_qemu,
    }
}

const DEEDS: [Deed; 14] = [
    deed("change", &["change-0"], true),
    deed("save", &["save"], false),
    deed("restore", &["restore"], false),
    deed("trash", &["off"], false),
    deed("clone", &["volume-0", "define"], true),
    deed("create_volume", &["volume"], false),
    deed("resize_volume", &["resize"], false),
    deed("delete_volume", &["remove"], false),
    deed("snapshot", &["snapshot"], true),
    deed("revert", &["revert"], false),
    deed("delete_snapshot", &["remove"], false),
    deed("copy_image", &["volume"], false),
    deed("delete_image", &["remove-0"], false),
    deed("migrate", &["migrate"], false),
];

/// A ZStack client that is signed in, with what it made.
struct Client<'g> {
    gateway: &'g Gateway,
    session: String,
}

impl<'g> Client<'g> {
    async fn of(gateway: &'g Gateway) -> Self {
        let mut client = Self {
            gateway,
            session: String::new(),
        };
        let body = json!({"logInByAccount": {"accountName": ACCOUNTS[0].0, "password": DIGEST}});
        let answer = client.send("PUT", "accounts/login", Some(&body)).await.unwrap();
        client.session = answer.1["inventory"]["uuid"].as_str().unwrap().to_owned();
        client
    }

    /// Status and body; none when the gateway died over it.
    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let request = call(self.gateway.address(), method, &format!("/zstack/v1/{path}")).deadline(MINUTE);
        let request = request.header("authorization", &format!("OAuth {}", self.session));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.ok()?;
        Some((answer.status, answer.json().unwrap_or(Value::Null)))
    }

    /// Begins a job and gives its uuid; none when the gateway died over it.
    async fn begin(&self, method: &str, path: &str, body: &Value) -> Option<String> {
        let body = (!body.is_null()).then_some(body);
        let (status, answer) = self.send(method, path, body).await?;
        assert_eq!(status, 202, "{method} {path}: {answer}");
        let location = answer["location"].as_str().unwrap();
        Some(location.rsplit('/').next().unwrap().to_owned())
    }

    /// Does a job to its good end and gives what it made.
    async fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let job = self.begin(method, path, body).await.unwrap();
        let what = format!("{method} {path} {body} ends");
        eventually(&what, MINUTE, || async {
            let (status, answer) = self.send("GET", &format!("api-jobs/{job}"), None).await?;
            assert!(status == 200 || status == 202, "{what}: {status} {answer}");
            (status == 200).then_some(answer["inventory"].clone())
        })
        .await
        .unwrap()
    }

    async fn first(&self, path: &str) -> Value {
        let (_, answer) = self.send("GET", path, None).await.unwrap();
        answer["inventories"][0].clone()
    }

    async fn uuid(&self, path: &str) -> String {
        let one = self.first(path).await;
        one["uuid"]
            .as_str()
            .unwrap_or_else(|| panic!("{path} has nothing"))
            .to_owned()
    }
}

/// What exists before the deadly command.
struct Stage {
    vm: String,
    root: String,
    /// A data volume, attached to nothing.
    data: String,
    snapshot: String,
    image: String,
}

/// A running VM, and what the command needs besides.
async fn set(client: &Client<'_>, deed: Deed, name: &str) -> Stage {
    let image = client.uuid("images?q=name=tiny").await;
    let offering = client.uuid("instance-offerings?q=name=small").await;
    let network = client.uuid("l3-networks?limit=1").await;
    let params = json!({"name": name, "instanceOfferingUuid": offering, "imageUuid": image, "l3NetworkUuids": [network]});
    let vm = client
        .done("POST", "vm-instances", &json!({ "params": params }))
        .await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut stage = Stage {
        vm: text(&vm["uuid"]),
        root: text(&vm["rootVolumeUuid"]),
        data: String::new(),
        snapshot: String::new(),
        image: String::new(),
    };
    let actions = format!("vm-instances/{}/actions", stage.vm);
    if [
        "resize_volume",
        "delete_volume",
        "copy_image",
        "change",
        "create_volume",
    ]
    .contains(&deed.command)
    {
        let disk = json!({"params": {"name": "disk", "diskSize": 1_u64 << 30}});
        let disk = client.done("POST", "disk-offerings", &disk).await;
        if deed.command == "create_volume" {
            stage.data = text(&disk["uuid"]);
        } else {
            let wish = json!({"params": {"name": name, "diskOfferingUuid": disk["uuid"]}});
            let volume = client.done("POST", "volumes/data", &wish).await;
            stage.data = text(&volume["uuid"]);
        }
    }
    if ["revert", "delete_snapshot"].contains(&deed.command) {
        let wish = json!({"params": {"name": "before"}});
        let path = format!("volumes/{}/volume-snapshots", stage.root);
        let snapshot = client.done("POST", &path, &wish).await;
        stage.snapshot = text(&snapshot["uuid"]);
    }
    if ["revert", "clone"].contains(&deed.command) {
        client
            .done("PUT", &actions, &json!({"stopVmInstance": {"type": "cold"}}))
            .await;
    }
    if deed.command == "delete_image" {
        client
            .done("PUT", &actions, &json!({"stopVmInstance": {"type": "cold"}}))
            .await;
        let path = format!("images/root-volume-templates/from/volumes/{}", stage.root);
        let image = client
            .done("POST", &path, &json!({"params": {"name": name}}))
            .await;
        stage.image = text(&image["uuid"]);
        client
            .done("DELETE", &format!("images/{}", stage.image), &Value::Null)
            .await;
    }
    if deed.command == "restore" {
        compute(client.gateway, "save", &stage.vm).await;
        client.until_at_rest().await;
    }
    if deed.command == "delete_volume" {
        client
            .done("DELETE", &format!("volumes/{}", stage.data), &Value::Null)
            .await;
    }
    stage
}

impl Client<'_> {
    /// Waits until no VM has anything going on.
    async fn until_at_rest(&self) {
        eventually("all jobs have ended", MINUTE, || async {
            let jobs = admin(self.gateway, "/_gw/jobs").await;
            let jobs = jobs["jobs"].as_array().unwrap().clone();
            jobs.iter().all(|job| job["ended"].is_string()).then_some(())
        })
        .await
        .unwrap();
    }
}

/// A call of v1-compute about one VM; it may not live to be answered.
async fn compute(gateway: &Gateway, word: &str, vm: &str) {
    let post = async |path: &str, token: &str, body: Value| {
        let request = call(gateway.address(), "POST", path).deadline(MINUTE);
        let request = request
            .header("authorization", &format!("Bearer {token}"))
            .json(&body);
        request.send().await.ok()?.json().ok()
    };
    let md5 = "14dbf3d4219712654957eeeb7c401c2e";
    let body = json!({"tenant": "default", "user": ACCOUNTS[0].0, "password": md5});
    let login = post("/v1/authentication/login", "none", body).await.unwrap();
    let token = login["data"]["token"]
        .as_str()
        .unwrap_or_else(|| panic!("{login}"));
    let vm = uuid_with_hyphens(vm);
    let body = json!({"cluster_uuid": "", "tenant": "", "compute_uuid": vm, "compute_name": ""});
    if let Some(answer) = post(&format!("/v1/compute/{word}"), token, body).await {
        assert_eq!(answer["scode"], 0, "{word}: {answer}");
    }
}

fn uuid_with_hyphens(simple: &str) -> String {
    uuid::Uuid::try_parse(simple).unwrap().to_string()
}

/// Gives the deadly command; nobody may live to hear the answer.
async fn give(client: &Client<'_>, deed: Deed, stage: &Stage, name: &str) {
    let actions = format!("vm-instances/{}/actions", stage.vm);
    let (method, path, body) = match deed.command {
        "change" => (
            "POST",
            format!("volumes/{}/vm-instances/{}", stage.data, stage.vm),
            json!({}),
        ),
        "save" | "restore" => return compute(client.gateway, deed.command, &stage.vm).await,
        "trash" => ("DELETE", format!("vm-instances/{}", stage.vm), Value::Null),
        "clone" => {
            let body =
                json!({"cloneVmInstance": {"names": [format!("{name}-copy")], "strategy": "JustCreate"}});
            ("PUT", actions, body)
        }
        "create_volume" => {
            let body = json!({"params": {"name": name, "diskOfferingUuid": stage.data}});
            ("POST", "volumes/data".to_owned(), body)
        }
        "resize_volume" => (
            "PUT",
            format!("volumes/data/resize/{}/actions", stage.data),
            json!({"resizeDataVolume": {"size": 2_u64 << 30}}),
        ),
        "delete_volume" => (
            "PUT",
            format!("volumes/{}/actions", stage.data),
            json!({"expungeDataVolume": {}}),
        ),
        "snapshot" => (
            "POST",
            format!("volumes/{}/volume-snapshots", stage.root),
            json!({"params": {"name": "deadly"}}),
        ),
        "revert" => (
            "PUT",
            format!("volume-snapshots/{}/actions", stage.snapshot),
            json!({"revertVolumeFromSnapshot": {}}),
        ),
        "delete_snapshot" => (
            "DELETE",
            format!("volume-snapshots/{}", stage.snapshot),
            Value::Null,
        ),
        "copy_image" => (
            "POST",
            format!("images/data-volume-templates/from/volumes/{}", stage.data),
            json!({"params": {"name": name}}),
        ),
        "delete_image" => (
            "PUT",
            format!("images/{}/actions", stage.image),
            json!({"expungeImage": {}}),
        ),
        "migrate" => ("PUT", actions, json!({"migrateVm": {}})),
        other => panic!("nobody knows how to {other}"),
    };
    client.begin(method, &path, &body).await;
}

/// What a hypervisor holds, without ids and names, which differ from run to run.
fn world(which: Which, gateway: &Gateway, before: &Before) -> Value {
    if which == Which::Memory {
        let state = babelvisor_memory::read_state(&gateway.state_dir().join("hypervisor.json")).unwrap();
        let mut vms: Vec<Value> = state
            .vms
            .iter()
            .map(|vm| {
                json!({"power": vm.power.as_ref(), "saved": vm.saved, "nics": vm.nics.len(), 
                       "disks": vm.disks.iter().map(|disk| disk.capacity).collect::<Vec<_>>()})
            })
            .collect();
        vms.sort_by_key(Value::to_string);
        let mut volumes: Vec<u64> = state.volumes.iter().map(|volume| volume.capacity).collect();
        volumes.sort_unstable();
        return json!({"vms": vms, "volumes": volumes});
    }
    let mut vms: Vec<Value> = domains(which)
        .iter()
        .filter(|name| !before.domains.contains(name))
        .map(|name| {
            let count = |arguments: &[&str]| {
                let text = virsh(which, arguments);
                text.lines().filter(|line| !line.trim().is_empty()).count()
            };
            json!({"power": virsh(which, &["domstate", name]).trim(), "disks": count(&["domblklist", name]),
                   "nics": count(&["domiflist", name]), "snapshots": count(&["snapshot-list", name, "--name"]),
                   "saved": virsh(which, &["dominfo", name]).contains("Managed save:   yes")})
        })
        .collect();
    vms.sort_by_key(Value::to_string);
    json!({"vms": vms, "volumes": volumes(which).len() - before.volumes})
}

/// What was there before.
#[derive(Default)]
struct Before {
    domains: Vec<String>,
    volumes: usize,
}

impl Before {
    fn now(which: Which) -> Self {
        match which {
            Which::Memory => Self::default(),
            Which::TestUnix | Which::Qemu => Self {
                domains: domains(which),
                volumes: volumes(which).len(),
            },
        }
    }
}

/// What the gateway itself says of its VMs, volumes, snapshots and images.
async fn told(client: &Client<'_>) -> Value {
    let vms = admin(client.gateway, "/_gw/vms").await;
    let mut told: Vec<Value> = vms["vms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vm| {
            json!([
                vm["power"],
                vm["activity"],
                vm["fault"],
                vm["reachable"],
                vm["vcpus"],
                vm["memory"]
            ])
        })
        .collect();
    told.sort_by_key(Value::to_string);
    let mut objects = Vec::new();
    for (path, members) in [
        ("volumes", ["type", "status", "size"]),
        ("volume-snapshots", ["name", "state", "latest"]),
        ("images", ["name", "status", "state"]),
    ] {
        let (_, answer) = client.send("GET", path, None).await.unwrap();
        let all = answer["inventories"].as_array().unwrap().clone();
        let mut rows: Vec<String> = all
            .iter()
            .map(|one| members.map(|member| one[member].to_string()).join(" "))
            .collect();
        rows.sort();
        objects.push(json!({path: rows}));
    }
    json!({"vms": told, "objects": objects})
}

fn start(which: Which, place: Option<&str>) -> Gateway {
    let hosts = if which == Which::Memory {
        "hosts = { count = 2, cpus = 64, memory = 549755813888 }"
    } else {
        ""
    };
    let text = config(which, Store::Embedded, hosts)
        + "\n[[flavor]]\nname = \"small\"\nvcpus = 1\nmemory_mib = 256\n";
    let (name, secret, arguments) = ACCOUNTS[0];
    let mut builder = gateway().config(&text).account(name, secret, arguments);
    if let Some(place) = place {
        builder = builder.env(KILL_AT, place);
    }
    tokio::task::block_in_place(|| builder.start()).unwrap()
}

/// The end of a deed that nobody disturbs, or that is cut off at `place`.
async fn rehearse(which: Which, deed: Deed, place: Option<&str>) -> Value {
    let before = Before::now(which);
    let mut gateway = start(which, place);
    let name = format!("k-{}", deed.command.replace('_', "-"));
    {
        let client = Client::of(&gateway).await;
        let stage = set(&client, deed, &name).await;
        give(&client, deed, &stage, &name).await;
    }
    if let Some(place) = place {
        assert_killed(&mut gateway, place);
        restart(&mut gateway, None);
    }
    let job = only_job(&gateway, deed.command).await;
    let id = job["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{deed:?} {place:?}: the job is lost"));
    let job = ended(&gateway, id).await;
    assert_eq!(job["state"], "succeeded", "{place:?}: {job}\n{}", gateway.log());
    assert_eq!(job["left_behind"], json!([]), "{place:?}: {job}");
    let over = place.is_none_or(|place| place.ends_with("finish:done"));
    assert_eq!(job["epoch"], if over { 1 } else { 2 }, "{place:?}: {job}");
    let client = Client::of(&gateway).await;
    client.until_at_rest().await;
    let end = json!({"world": world(which, &gateway, &before), "told": told(&client).await});
    if which != Which::Memory {
        clear(&client).await;
    }
    end
}

/// Removes everything, for the next one on the same hypervisor.
async fn clear(client: &Client<'_>) {
    let all = async |path: &str| -> Vec<String> {
        let (_, answer) = client.send("GET", path, None).await.unwrap();
        let all = answer["inventories"].as_array().unwrap().clone();
        all.iter()
            .map(|one| one["uuid"].as_str().unwrap().to_owned())
            .collect()
    };
    for vm in all("vm-instances").await {
        let path = format!("vm-instances/{vm}");
        let (_, one) = client.send("GET", &path, None).await.unwrap();
        if one["inventories"][0]["state"] != "Destroyed" {
            client.done("DELETE", &path, &Value::Null).await;
        }
        client
            .done(
                "PUT",
                &format!("{path}/actions"),
                &json!({"expungeVmInstance": {}}),
            )
            .await;
    }
    for volume in all("volumes?q=type=Data").await {
        let path = format!("volumes/{volume}");
        let (_, one) = client.send("GET", &path, None).await.unwrap();
        if one["inventories"][0]["status"] != "Deleted" {
            client.done("DELETE", &path, &Value::Null).await;
        }
        client
            .done(
                "PUT",
                &format!("{path}/actions"),
                &json!({"expungeDataVolume": {}}),
            )
            .await;
    }
}

/// Where a deed can die.
fn places(deed: Deed, moments: &[&str]) -> Vec<String> {
    let steps = deed.steps.iter();
    let mut places: Vec<String> = steps
        .flat_map(|step| {
            moments
                .iter()
                .map(move |moment| format!("{}/{step}:{moment}", deed.command))
        })
        .collect();
    places.push(format!("{}/finish:begin", deed.command));
    places
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_in_every_new_command_on_the_memory_backend() {
    let permits = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut running = tokio::task::JoinSet::new();
    let everything = std::env::var_os(LONG).is_some();
    let moments: &[&str] = if everything {
        &MOMENTS
    } else {
        &["begun", "called"]
    };
    for deed in DEEDS {
        let permits = permits.clone();
        running.spawn(async move {
            let permit = permits.acquire_owned().await.unwrap();
            let undisturbed = rehearse(Which::Memory, deed, None).await;
            for place in places(deed, moments) {
                let end = rehearse(Which::Memory, deed, Some(&place)).await;
                assert_eq!(end, undisturbed, "{place}");
            }
            drop(permit);
        });
    }
    let mut broken = Vec::new();
    while let Some(outcome) = running.join_next().await {
        broken.extend(outcome.err().map(|error| error.to_string()));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// One hypervisor for all: one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_in_new_commands_on_qemu() {
    libvirtd();
    let before = (domains(Which::Qemu), volumes(Which::Qemu));
    let everything = std::env::var_os(LONG).is_some();
    for deed in DEEDS {
        // One host: nothing can move.
        if deed.command == "migrate" || !(deed.on_qemu || everything) {
            continue;
        }
        let undisturbed = rehearse(Which::Qemu, deed, None).await;
        let moments: &[&str] = if everything {
            &["begun", "called"]
        } else {
            &["called"]
        };
        for place in places(deed, moments)
            .into_iter()
            .take(if everything { 9 } else { 1 })
        {
            let end = rehearse(Which::Qemu, deed, Some(&place)).await;
            assert_eq!(end, undisturbed, "{place}");
        }
    }
    assert_eq!((domains(Which::Qemu), volumes(Which::Qemu)), before);
}
