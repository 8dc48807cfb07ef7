//! What becomes of jobs that cannot be done, killed in the middle of being undone; and of what changed on the
//! hypervisor while no gateway was looking.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod common;

use std::time::Duration;

use babelvisor_conformance::testbed::http::get;
use babelvisor_conformance::testbed::{Redis, eventually};
use common::calls::Client;
use common::crash::{
    KILL_AT, Store, Truth, accepted, admin, assert_killed, config, ended, only_job, pool, recovered, restart,
    start, truth, try_create, try_guest, virsh, vm, volumes,
};
use common::setup::Which;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// The tests here compare what a whole pool holds.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_while_undoing_on_libvirts_test_driver() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let redis = Redis::start().unwrap();
    for (number, place) in ["undo-volume-0:begin", "undo-volume-0:called", "finish:begin"]
        .iter()
        .enumerate()
    {
        let name = format!("undo-{number}");
        let on_redis = Store::Redis(&redis, &name);
        for store in [Store::Embedded, on_redis] {
            undone(
                Which::TestUnix,
                store,
                "define:begun",
                &format!("create/{place}"),
                &name,
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_while_undoing_on_qemu() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for (number, place) in [
        "undo-start:begin",
        "undo-start:called",
        "undo-define:begin",
        "undo-define:called",
        "undo-seed:called",
        "undo-volume-0:called",
        "finish:begin",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("undo-{number}");
        undone(
            Which::Qemu,
            Store::Embedded,
            "define:done",
            &format!("create/{place}"),
            &name,
        )
        .await;
    }
}

/// The disk is taken away while the gateway is dead, so that the creation fails and must be taken back, over one
/// more death.
async fn undone(which: Which, store: Store<'_>, first: &str, place: &str, name: &str) {
    let first = format!("create/{first}");
    let before = volumes(which);
    let mut gateway = start(&config(which, store, ""), &[(KILL_AT, &first)]);
    try_create(&gateway, name).await;
    assert_killed(&mut gateway, &first);
    let root = volumes(which);
    let root = root
        .iter()
        .find(|volume| !before.contains(volume) && volume.ends_with("-root.qcow2"));
    let root = root.unwrap_or_else(|| panic!("{place}: no disk was made"));
    virsh(which, &["vol-delete", root, pool(which)]);

    gateway.set_env(KILL_AT, Some(place));
    // It may die before it says that it is ready.
    let _ = tokio::task::block_in_place(|| gateway.restart());
    assert_killed(&mut gateway, place);
    restart(&mut gateway, None);
    let job = only_job(&gateway, "create").await;
    let job = ended(&gateway, job["id"].as_str().unwrap()).await;
    assert_eq!(
        (&job["state"], &job["epoch"]),
        (&json!("failed"), &json!(3)),
        "{place}: {job}"
    );
    assert_eq!(job["left_behind"], json!([]), "{place}: {job}");
    assert_eq!(recovered(&gateway).await, 1, "{place}");

    let uuid = job["vm"].as_str().unwrap();
    assert!(root.starts_with(uuid), "{place}: {job}");
    assert_eq!(
        truth(which, gateway.state_dir(), name, uuid),
        Truth::default(),
        "{place}"
    );
    assert_eq!(volumes(which), before, "{place}");
    let told = vm(&gateway, uuid).await;
    assert_eq!(told["fault"], job["error"], "{place}: {told}");
    assert_eq!(told["activity"], Value::Null, "{place}: {told}");
    let answer = try_guest(&gateway, "DELETE", &format!("/api/guests/{uuid}"), None).await;
    assert!(accepted(answer.as_ref()), "{place}: {answer:?}");
    Client::of(&gateway).until_gone(uuid).await;
}

fn define_foreign(which: Which, name: &str) {
    let kind = if which == Which::TestUnix { "test" } else { "qemu" };
    let xml = format!(
        "<domain type='{kind}'><name>{name}</name><memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), xml).unwrap();
    virsh(which, &["define", file.path().to_str().unwrap()]);
}

/// What can neither be done nor undone is named, over every crash, and stays where people can find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_cannot_be_undone_is_named() {
    let stuck = "[[backend.faults]]\non = \"define\"\nkind = \"internal\"\ntimes = 1000\n\
                 [[backend.faults]]\non = \"delete_volume\"\nkind = \"internal\"\ntimes = 1000\n";
    let redis = Redis::start().unwrap();
    for store in [Store::Embedded, Store::Redis(&redis, "stuck")] {
        let place = "create/undo-volume-0:begin";
        let mut gateway = start(&config(Which::Memory, store, stuck), &[(KILL_AT, place)]);
        try_create(&gateway, "stuck").await;
        assert_killed(&mut gateway, place);
        restart(&mut gateway, None);
        let job = only_job(&gateway, "create").await;
        let job = ended(&gateway, job["id"].as_str().unwrap()).await;
        assert_eq!(
            (&job["state"], &job["epoch"]),
            (&json!("failed"), &json!(2)),
            "{job}"
        );
        let uuid = job["vm"].as_str().unwrap();
        let there = truth(Which::Memory, gateway.state_dir(), "stuck", uuid);
        assert_eq!((there.domains.len(), there.volumes.len()), (0, 2), "{there:?}");
        for volume in &there.volumes {
            let named = job["left_behind"].as_array().unwrap();
            let named = named.iter().any(|text| text.as_str().unwrap().contains(volume));
            assert!(named, "{volume} is left and not named: {job}");
        }
        restart(&mut gateway, None);
        let again = ended(&gateway, job["id"].as_str().unwrap()).await;
        assert_eq!(again, job, "the same after one more restart");
        assert_eq!(vm(&gateway, uuid).await["fault"]["kind"], "internal");
    }
}

/// The address of a job that was acknowledged answers before, during and after a crash, and tells of the same job.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_jobs_address_outlives_the_gateway() {
    let slowly = "[backend.delays]\ndefine = 600\n";
    let redis = Redis::start().unwrap();
    for store in [Store::Embedded, Store::Redis(&redis, "address")] {
        let mut gateway = start(&config(Which::Memory, store, slowly), &[]);
        let answer = try_create(&gateway, "polled").await;
        assert!(accepted(answer.as_ref()), "{answer:?}");
        let before = only_job(&gateway, "create").await;
        let path = format!("/_gw/jobs/{}", before["id"].as_str().unwrap());
        let polled = admin(&gateway, &path).await;
        assert_eq!(
            (&polled["id"], &polled["state"]),
            (&before["id"], &json!("running")),
            "{polled}"
        );
        tokio::task::block_in_place(|| gateway.kill9());
        restart(&mut gateway, None);
        let polled = get(gateway.admin(), &path).send().await.unwrap();
        assert_eq!(polled.status, 200, "{}", polled.text());
        let after = ended(&gateway, before["id"].as_str().unwrap()).await;
        for field in ["id", "vm", "command", "operation", "submitted", "tenant"] {
            assert_eq!(after[field], before[field], "{field}");
        }
        assert_eq!(
            (&after["state"], &after["epoch"]),
            (&json!("succeeded"), &json!(2)),
            "{after}"
        );
        assert_eq!(recovered(&gateway).await, 1);
        let path = format!("/_gw/jobs/{}", "0".repeat(8) + "-0000-0000-0000-000000000000");
        assert_eq!(get(gateway.admin(), &path).send().await.unwrap().status, 404);
    }
}

/// VMs that came and went while the gateway was dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_changed_behind_a_dead_gateway_is_noticed() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let redis = Redis::start().unwrap();
    for (which, store, name) in [
        (Which::TestUnix, Store::Embedded, "behind-own"),
        (Which::TestUnix, Store::Redis(&redis, "behind"), "behind-redis"),
        (Which::Qemu, Store::Embedded, "behind-qemu"),
    ] {
        let mut gateway = start(&config(which, store, ""), &[]);
        let client = Client::of(&gateway);
        let (gone, kept) = (format!("{name}-gone"), format!("{name}-kept"));
        let gone_id = client.create_guest(&gone).await;
        let kept_id = client.create_guest(&kept).await;
        for id in [&gone_id, &kept_id] {
            client.until_status(id, 1).await;
        }
        let job = only_job_of(&gateway, &kept_id).await;
        ended(&gateway, &job).await;
        ended(&gateway, &only_job_of(&gateway, &gone_id).await).await;
        tokio::task::block_in_place(|| gateway.kill9());
        virsh(which, &["destroy", &gone]);
        virsh(which, &["undefine", &gone]);
        virsh(which, &["destroy", &kept]);
        let new = format!("{name}-new");
        define_foreign(which, &new);
        restart(&mut gateway, None);

        client.until_gone(&gone_id).await;
        client.until_status(&kept_id, 5).await;
        eventually("the new domain is adopted", MINUTE, || async {
            let row = client.guest_named(&new).await;
            row["uuid"].is_string().then_some(())
        })
        .await
        .unwrap();
        client
            .guest("DELETE", &format!("/api/guests/{kept_id}"), None)
            .await;
        client.until_gone(&kept_id).await;
        assert_eq!(
            truth(which, gateway.state_dir(), &kept, &kept_id),
            Truth::default()
        );
        virsh(which, &["undefine", &new]);
        // A disk of a VM that somebody removed by hand is theirs to keep or remove.
        for volume in truth(which, gateway.state_dir(), &gone, &gone_id).volumes {
            virsh(which, &["vol-delete", &volume, pool(which)]);
        }
    }
}

/// What a job remembers of its VM is from before the crash: what the hypervisor says now is what counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_resumed_job_does_not_tell_old_news() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (which, name, place) = (Which::TestUnix, "old-news", "create/finish:begin");
    let mut gateway = start(&config(which, Store::Embedded, ""), &[(KILL_AT, place)]);
    try_create(&gateway, name).await;
    assert_killed(&mut gateway, place);
    virsh(which, &["destroy", name]);
    restart(&mut gateway, None);
    let job = only_job(&gateway, "create").await;
    let job = ended(&gateway, job["id"].as_str().unwrap()).await;
    assert_eq!(
        (&job["state"], &job["epoch"]),
        (&json!("succeeded"), &json!(2)),
        "{job}"
    );
    let uuid = job["vm"].as_str().unwrap();
    let told = eventually("it is told to be off", Duration::from_secs(5), || async {
        (vm(&gateway, uuid).await["power"] == "off").then_some(())
    });
    assert!(told.await.is_ok(), "{}", vm(&gateway, uuid).await);
    let client = Client::of(&gateway);
    client.guest("DELETE", &format!("/api/guests/{uuid}"), None).await;
    client.until_gone(uuid).await;
}

/// The id of the job that made a VM.
async fn only_job_of(gateway: &babelvisor_conformance::testbed::Gateway, vm: &str) -> String {
    let jobs = common::crash::jobs(gateway).await;
    let job = jobs.iter().find(|job| job["vm"] == vm).unwrap();
    job["id"].as_str().unwrap().to_owned()
}
