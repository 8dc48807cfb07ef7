//! The real binary, killed with SIGKILL at every step of create, start and delete, and between every call of the
//! hypervisor and its record. After the restart the job is done, undone or named stuck, and what the hypervisor
//! holds agrees with the registry.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use babelvisor_conformance::testbed::{Gateway, Redis};
use common::calls::Client;
use common::crash::{
    KILL_AT, Store, Truth, accepted, admin, assert_killed, config, domains, ended, only_job, recovered,
    restart, start, truth, try_create, try_guest, vm, volumes,
};
use common::setup::Which;
use serde_json::Value;

/// Set to run every place on every pair of hypervisor and store.
const LONG: &str = "BABELVISOR_LONG";
const MOMENTS: [&str; 4] = ["begin", "begun", "called", "done"];
/// Gateways alive at once in one test.
const AT_ONCE: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn killed_at_every_place_on_the_memory_backend() {
    everywhere(Which::Memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn killed_at_every_place_on_libvirts_test_driver() {
    let before = (domains(Which::TestUnix), volumes(Which::TestUnix));
    everywhere(Which::TestUnix).await;
    assert_eq!((domains(Which::TestUnix), volumes(Which::TestUnix)), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn killed_at_every_place_on_qemu() {
    let before = (domains(Which::Qemu), volumes(Which::Qemu));
    everywhere(Which::Qemu).await;
    assert_eq!((domains(Which::Qemu), volumes(Which::Qemu)), before);
}

/// One life that is cut short: where, on what, and how the other words for it are.
struct Case {
    which: Which,
    place: String,
    name: String,
    redis: Option<Arc<Redis>>,
}

/// Every place in the life of a VM of this set-up.
fn places(which: Which) -> Vec<String> {
    // libvirt's test driver cannot take a first-boot medium's bytes, so the core plans none there.
    let seeded = which != Which::TestUnix;
    let mut steps = vec!["create/volume-0"];
    steps.extend(seeded.then_some("create/seed"));
    steps.extend(["create/define", "create/start", "start/start"]);
    steps.extend(["delete/plan", "delete/off", "delete/undefine", "delete/volume-0"]);
    steps.extend(seeded.then_some("delete/volume-1"));
    let moments = |step| MOMENTS.iter().map(move |moment| format!("{step}:{moment}"));
    let mut places: Vec<String> = steps.into_iter().flat_map(moments).collect();
    for command in ["create", "start", "delete"] {
        places.extend(["begin", "done"].map(|moment| format!("{command}/finish:{moment}")));
    }
    places
}

async fn everywhere(which: Which) {
    let redis = Arc::new(Redis::start().unwrap());
    let mut cases = Vec::new();
    for on_redis in [false, true] {
        for place in places(which) {
            // A QEMU guest costs seconds: with the second store only the widest gap is tried by default.
            let narrow = which == Which::Qemu && on_redis && std::env::var_os(LONG).is_none();
            if narrow && !place.ends_with(":called") {
                continue;
            }
            let store = if on_redis { "redis" } else { "own" };
            cases.push(Case {
                which,
                name: format!("{}-{store}", place.replace(['/', ':'], "-")),
                place,
                redis: on_redis.then(|| redis.clone()),
            });
        }
    }
    let total = cases.len();
    let permits = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let passed = Arc::new(AtomicUsize::new(0));
    let mut running = tokio::task::JoinSet::new();
    for case in cases {
        let (permits, passed) = (permits.clone(), passed.clone());
        running.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            rehearse(&case).await;
            passed.fetch_add(1, Ordering::Relaxed);
        });
    }
    let mut broken = Vec::new();
    while let Some(outcome) = running.join_next().await {
        if let Err(error) = outcome {
            broken.push(error.to_string());
        }
    }
    assert!(
        broken.is_empty(),
        "{} of {total} cases failed: {broken:#?}",
        broken.len()
    );
    assert_eq!(passed.load(Ordering::Relaxed), total);
}

async fn rehearse(case: &Case) {
    let Case {
        which, place, name, ..
    } = case;
    let store = case
        .redis
        .as_ref()
        .map_or(Store::Embedded, |redis| Store::Redis(redis, name));
    let mut gateway = start(&config(*which, store, ""), &[(KILL_AT, place)]);
    let command = place.split('/').next().unwrap();
    let known = lead_to(&gateway, command, name).await;
    assert_killed(&mut gateway, place);
    let at_death = known
        .as_ref()
        .map(|id| truth(*which, gateway.state_dir(), name, id))
        .unwrap_or_else(|| truth(*which, gateway.state_dir(), name, "no id was told"));

    restart(&mut gateway, None);
    let job = only_job(&gateway, command).await;
    let id = job["id"]
        .as_str()
        .unwrap_or_else(|| panic!("{place}: the job is lost"));
    let job = ended(&gateway, id).await;
    assert_eq!(
        job["state"],
        "succeeded",
        "{place} {name}: {job}\n{}",
        gateway.log()
    );
    assert_eq!(job["left_behind"], serde_json::json!([]), "{place}: {job}");
    // The test would prove nothing if the job had ended before the gateway did.
    let over = place.ends_with("finish:done");
    assert_eq!(job["epoch"], if over { 1 } else { 2 }, "{place}: {job}");
    assert_eq!(recovered(&gateway).await, u64::from(!over), "{place}");

    let uuid = job["vm"].as_str().unwrap().to_owned();
    assert!(known.is_none_or(|known| known == uuid), "{place}: {job}");
    agrees(case, &gateway, &uuid, command).await;
    started_once(case, &gateway, &at_death, &uuid, command);
    if command != "delete" {
        let path = format!("/api/guests/{uuid}");
        let answer = try_guest(&gateway, "DELETE", &path, None).await;
        assert!(accepted(answer.as_ref()), "{place}: {answer:?}");
        Client::of(&gateway).until_gone(&uuid).await;
        let left = only_job(&gateway, "delete").await;
        ended(&gateway, left["id"].as_str().unwrap()).await;
        agrees(case, &gateway, &uuid, "delete").await;
    }
}

/// Brings a VM to where the deadly command can be given, and gives it. The VM's id, where it was told in time.
async fn lead_to(gateway: &Gateway, command: &str, name: &str) -> Option<String> {
    if command == "create" {
        let answer = try_create(gateway, name).await?;
        return answer["data"][0]["uuid"].as_str().map(str::to_owned);
    }
    let client = Client::of(gateway);
    let uuid = client.create_guest(name).await;
    client.until_status(&uuid, 1).await;
    if command == "delete" {
        try_guest(gateway, "DELETE", &format!("/api/guests/{uuid}"), None).await;
    } else {
        try_guest(
            gateway,
            "PUT",
            &format!("/api/guests/_force_shutdown/{uuid}"),
            None,
        )
        .await;
        client.until_status(&uuid, 5).await;
        try_guest(gateway, "PUT", &format!("/api/guests/_boot/{uuid}"), None).await;
    }
    Some(uuid)
}

/// What the hypervisor holds and what the gateway says of it are the same, and what the command promised.
async fn agrees(case: &Case, gateway: &Gateway, uuid: &str, command: &str) {
    let Case {
        which, place, name, ..
    } = case;
    let there = truth(*which, gateway.state_dir(), name, uuid);
    let told = vm(gateway, uuid).await;
    let rows = admin(gateway, "/_gw/vms").await["vms"]
        .as_array()
        .unwrap()
        .clone();
    let rows: Vec<&Value> = rows.iter().filter(|row| row["name"] == name.as_str()).collect();
    if command == "delete" {
        assert_eq!(there, Truth::default(), "{place}: something is left");
        assert_eq!(told, Value::Null, "{place}");
        assert!(rows.is_empty(), "{place}: {rows:?}");
        return;
    }
    assert_eq!(rows.len(), 1, "{place}: {rows:?}");
    assert_eq!(there.domains.len(), 1, "{place}: {there:?}");
    assert_eq!(there.domains[0].id, uuid, "{place}");
    assert!(there.domains[0].running, "{place}: {there:?}");
    let mut expected = vec![format!("{uuid}-root.qcow2")];
    expected.extend((*which != Which::TestUnix).then(|| format!("{uuid}-seed.img")));
    assert_eq!(there.volumes, expected, "{place}");
    assert_eq!(told["power"], "running", "{place}: {told}");
    assert_eq!(told["activity"], Value::Null, "{place}: {told}");
    assert_eq!(told["fault"], Value::Null, "{place}: {told}");
    assert_eq!(told["reachable"], true, "{place}: {told}");
}

/// A VM that ran when the gateway died was not started a second time.
fn started_once(case: &Case, gateway: &Gateway, at_death: &Truth, uuid: &str, command: &str) {
    if command == "delete" {
        return;
    }
    let now = truth(case.which, gateway.state_dir(), &case.name, uuid);
    for domain in at_death.domains.iter().filter(|domain| domain.running) {
        assert_eq!(now.domains, vec![domain.clone()], "{}", case.place);
    }
    let ran = case.place.contains("start:called") || case.place.contains("start:done");
    assert!(
        !ran || at_death.domains[0].running,
        "{}: {at_death:?}",
        case.place
    );
}
