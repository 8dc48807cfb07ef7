//! What the gateway stands on dies while jobs run: the Redis server, or libvirtd. Nothing that was acknowledged is
//! lost, and the gateway heals by itself.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use babelvisor_conformance::testbed::process::{Signal, send_signal};
use babelvisor_conformance::testbed::{Gateway, Libvirtd, Redis, eventually};
use common::calls::Client;
use common::crash::{
    HALT_AT, Store, accepted, config, ended, jobs, libvirtd, only_job, start, truth, try_create, try_guest,
    vm,
};
use common::setup::Which;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

/// Each call of the simulated hypervisor takes this long, so that a job is under way for about a second.
const SLOWLY: &str = "[backend.delays]\ncreate_volume = 150\ncreate_seed = 150\ndefine = 150\npower = 150\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redis_is_killed_while_jobs_run_and_no_acknowledged_job_is_lost() {
    let mut redis = Redis::start().unwrap();
    let gateway = start(
        &config(Which::Memory, Store::Redis(&redis, "around"), SLOWLY),
        &[],
    );
    let mut acknowledged = BTreeSet::new();
    let mut recovered = 0;
    for (round, wait) in [60_u64, 230, 410, 560].into_iter().enumerate() {
        let names: Vec<String> = (0..5).map(|number| format!("r{round}-{number}")).collect();
        for name in &names {
            let answer = try_create(&gateway, name).await;
            assert!(accepted(answer.as_ref()), "{answer:?}");
            acknowledged.insert(name.clone());
        }
        tokio::time::sleep(Duration::from_millis(wait)).await;
        tokio::task::block_in_place(|| redis.kill9());
        // Longer than the lease: whoever held a job holds it no more when the server is back.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        let refused = try_create(&gateway, "while-it-is-away").await;
        assert!(
            !accepted(refused.as_ref()),
            "accepted without a store: {refused:?}"
        );
        tokio::task::block_in_place(|| redis.restart()).unwrap();
        recovered += all_end_well(&gateway).await;
    }
    assert!(recovered > 0, "no job was cut off: the test has tried nothing");

    let made = jobs(&gateway).await;
    let made = made.iter().filter(|job| job["command"] == "create");
    let made: BTreeSet<String> = made.map(|job| job["vm"].as_str().unwrap().to_owned()).collect();
    assert_eq!(made.len(), acknowledged.len());
    for name in &acknowledged {
        let uuid = Client::of(&gateway).guest_named(name).await["uuid"].clone();
        let uuid = uuid.as_str().unwrap_or_else(|| panic!("{name} is lost"));
        assert!(made.contains(uuid));
        let there = truth(Which::Memory, gateway.state_dir(), name, uuid);
        assert_eq!(
            (there.domains.len(), there.volumes.len()),
            (1, 2),
            "{name}: {there:?}"
        );
        assert!(there.domains[0].running, "{name}");
        until_settled(&gateway, uuid, "running").await;
    }
}

/// Waits for every job and returns how many were run by more than one claim.
async fn all_end_well(gateway: &Gateway) -> usize {
    eventually("the gateway has its store again", MINUTE, || async {
        use babelvisor_conformance::testbed::http::get;
        let answer = get(gateway.admin(), "/_gw/jobs").send().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await
    .unwrap();
    let mut taken_over = 0;
    for job in jobs(gateway).await {
        let job = ended(gateway, job["id"].as_str().unwrap()).await;
        assert_eq!(job["state"], "succeeded", "{job}\n{}", gateway.log());
        taken_over += usize::from(job["epoch"].as_u64().unwrap() > 1);
    }
    taken_over
}

/// Waits until operators see the VM in this state, with nothing going on.
async fn until_settled(gateway: &Gateway, uuid: &str, power: &str) {
    let what = format!("{uuid} is {power} and at rest");
    let settled = eventually(&what, Duration::from_secs(10), || async {
        let seen = vm(gateway, uuid).await;
        (seen["power"] == power && seen["activity"] == Value::Null).then_some(())
    });
    if let Err(error) = settled.await {
        panic!("{error}: {}", vm(gateway, uuid).await);
    }
}

/// One gateway sleeps through the death of Redis and all that the other one does meanwhile: it must not show old
/// news for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_missed_changes_catches_up() {
    let mut redis = Redis::start().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("secret.key");
    let shared = format!("[secrets]\nkey_file = {:?}\n", key_file.to_str().unwrap());
    let text = config(Which::TestUnix, Store::Redis(&redis, "missed"), &shared);
    let awake = start(&text, &[]);
    let mut asleep = start(&text, &[]);
    let client = Client::of(&awake);
    let kept = client.create_guest("missed-kept").await;
    let lost = client.create_guest("missed-lost").await;
    for uuid in [&kept, &lost] {
        until_settled(&awake, uuid, "running").await;
        until_settled(&asleep, uuid, "running").await;
    }

    asleep.process().signal(Signal::Stop).unwrap();
    tokio::task::block_in_place(|| redis.restart()).unwrap();
    all_end_well(&awake).await;
    for (method, path) in [
        ("DELETE", format!("/api/guests/{lost}")),
        ("PUT", format!("/api/guests/_force_shutdown/{kept}")),
    ] {
        let answer = eventually("the call is accepted", MINUTE, || async {
            let answer = try_guest(&awake, method, &path, None).await;
            accepted(answer.as_ref()).then_some(())
        });
        answer.await.unwrap();
    }
    client.until_gone(&lost).await;
    client.until_status(&kept, 5).await;
    all_end_well(&awake).await;
    asleep.process().signal(Signal::Continue).unwrap();

    Client::of(&asleep).until_gone(&lost).await;
    until_settled(&asleep, &kept, "off").await;
    client.guest("DELETE", &format!("/api/guests/{kept}"), None).await;
    Client::of(&asleep).until_gone(&kept).await;
}

/// A gateway that was frozen in the middle of a job, and wakes when another has long finished it, keeps its hands
/// off: it must not remake the disk under the running VM.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_was_frozen_does_not_touch_what_it_lost() {
    use common::crash::{KILL_AT, assert_killed};
    use std::os::unix::fs::MetadataExt as _;

    let place = "create/volume-0:begun";
    let redis = Redis::start().unwrap();
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("secret.key");
    let shared = format!("[secrets]\nkey_file = {:?}\n", key_file.to_str().unwrap());
    let text = config(Which::Qemu, Store::Redis(&redis, "frozen"), &shared);
    let mut first = start(&text, &[(KILL_AT, place)]);
    try_create(&first, "frozen").await;
    assert_killed(&mut first, place);

    // The second try knows that there was a first, and would make the disk anew.
    let mut frozen = start(&text, &[(HALT_AT, place)]);
    let stat = format!("/proc/{}/stat", frozen.process().pid());
    eventually("the second gateway freezes", MINUTE, || async {
        let stat = std::fs::read_to_string(&stat).unwrap();
        stat.rsplit(')')
            .next()?
            .trim_start()
            .starts_with('T')
            .then_some(())
    })
    .await
    .unwrap();
    let third = start(&text, &[]);
    let job = only_job(&third, "create").await;
    let job = ended(&third, job["id"].as_str().unwrap()).await;
    assert_eq!(
        (&job["state"], &job["epoch"]),
        (&json!("succeeded"), &json!(3)),
        "{job}"
    );
    let uuid = job["vm"].as_str().unwrap();
    let disk = libvirtd().pool_dir().join(format!("{uuid}-root.qcow2"));
    let before = (
        truth(Which::Qemu, third.state_dir(), "frozen", uuid),
        std::fs::metadata(&disk).unwrap().ino(),
    );
    assert!(before.0.domains[0].running, "{before:?}");

    frozen.process().signal(Signal::Continue).unwrap();
    eventually("the frozen gateway gives the job up", MINUTE, || async {
        frozen
            .log()
            .contains("a job was left for another worker")
            .then_some(())
    })
    .await
    .unwrap();
    let after = (
        truth(Which::Qemu, third.state_dir(), "frozen", uuid),
        std::fs::metadata(&disk).unwrap().ino(),
    );
    assert_eq!(after, before, "{}", frozen.log());
    let client = Client::of(&third);
    client.guest("DELETE", &format!("/api/guests/{uuid}"), None).await;
    client.until_gone(uuid).await;
}

/// libvirtd dies between the steps of a creation, and while it copies a disk: jobs wait for it and go on.
///
/// Not while it starts a guest: libvirt 9 may then come back with a domain that it calls paused and lets nobody
/// touch, and the job ends after minutes with that domain named as left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn libvirtd_is_killed_between_the_steps_of_a_job() {
    let own = Libvirtd::start().unwrap();
    let image = [
        "vol-create-as",
        "default",
        "tiny.qcow2",
        "8M",
        "--format",
        "qcow2",
    ];
    own.virsh(&image).unwrap();
    for step in [
        "volume-0:begun",
        "volume-0:called",
        "seed:begun",
        "seed:called",
        "define:begun",
        "define:called",
        "start:begun",
        "start:called",
    ] {
        let place = format!("create/{step}");
        let mut gateway = start(&on(&own), &[(HALT_AT, &place)]);
        let stat = format!("/proc/{}/stat", gateway.process().pid());
        let name = place.replace(['/', ':'], "-");
        // The answer may only come once the gateway moves again.
        let (answer, ()) = tokio::join!(try_create(&gateway, &name), async {
            until_frozen(&stat).await;
            tokio::task::block_in_place(|| {
                own.kill9().unwrap();
                own.start_daemon().unwrap();
            });
            send_signal(pid_of(&stat), Signal::Continue).unwrap();
        });
        assert!(accepted(answer.as_ref()), "{place}: {answer:?}");
        made_whole_then_removed(&own, &gateway, &name).await;
        assert!(
            gateway.log().contains("lost the connection to libvirt"),
            "{place}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn libvirtd_is_killed_while_it_copies_a_disk() {
    let own = Libvirtd::start().unwrap();
    let image = own.pool_dir().join("tiny.qcow2");
    // Large enough that the copy is still under way when its file is seen.
    std::fs::write(&image, vec![7_u8; 400 << 20]).unwrap();
    own.virsh(&["pool-refresh", "default"]).unwrap();
    let text = on(&own).replace("format = \"qcow2\"", "format = \"raw\"");
    let gateway = start(&text, &[]);
    let daemon = own.daemon_pid().unwrap();
    let answer = try_create(&gateway, "copied").await;
    assert!(accepted(answer.as_ref()), "{answer:?}");
    let uuid = answer.unwrap()["data"][0]["uuid"].as_str().unwrap().to_owned();
    let disk = own.pool_dir().join(format!("{uuid}-root.raw"));
    tokio::task::block_in_place(|| {
        while !disk.exists() {
            assert!(!gateway.log().contains("job ended"), "{}", gateway.log());
            std::thread::yield_now();
        }
        send_signal(daemon, Signal::Kill).unwrap();
        own.start_daemon().unwrap();
    });
    made_whole_then_removed(&own, &gateway, "copied").await;
    let log = gateway.log();
    let cut_off = log
        .lines()
        .any(|line| line.contains("trying again") && line.contains("volume-0"));
    assert!(
        cut_off,
        "the copy was over before the daemon was: the test has tried nothing\n{log}"
    );
}

/// The configuration of a gateway on this libvirtd's QEMU driver.
fn on(own: &Libvirtd) -> String {
    config(Which::Qemu, Store::Embedded, "").replace(libvirtd().uri_qemu(), own.uri_qemu())
}

/// The only VM of the hypervisor is whole, with a whole disk; then it is deleted and nothing is left.
async fn made_whole_then_removed(own: &Libvirtd, gateway: &Gateway, name: &str) {
    let list = |what: &[&str]| {
        let text = own.virsh(what).unwrap();
        let words = text.lines().filter_map(|line| line.split_whitespace().next());
        words.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    let image = std::fs::read(own.pool_dir().join("tiny.qcow2")).unwrap();
    all_end_well(gateway).await;
    let client = Client::of(gateway);
    let uuid = client.guest_named(name).await["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    until_settled(gateway, &uuid, "running").await;
    assert_eq!(
        list(&["list", "--all", "--name"]),
        BTreeSet::from([name.to_owned()])
    );
    let volumes = list(&["vol-list", "default"]);
    assert_eq!(volumes.len(), 3, "{name}: {volumes:?}");
    if let Ok(disk) = std::fs::read(own.pool_dir().join(format!("{uuid}-root.raw"))) {
        assert!(disk == image, "{name}: half a disk was taken for a whole one");
    }
    client.guest("DELETE", &format!("/api/guests/{uuid}"), None).await;
    client.until_gone(&uuid).await;
    all_end_well(gateway).await;
    assert_eq!(list(&["list", "--all", "--name"]), BTreeSet::new());
    assert_eq!(
        list(&["vol-list", "default"]),
        BTreeSet::from(["tiny.qcow2".to_owned()])
    );
}

async fn until_frozen(stat: &str) {
    eventually("the gateway freezes", MINUTE, || async {
        let stat = std::fs::read_to_string(stat).unwrap();
        stat.rsplit(')')
            .next()?
            .trim_start()
            .starts_with('T')
            .then_some(())
    })
    .await
    .unwrap();
}

fn pid_of(stat: &str) -> u32 {
    stat.split('/').nth(2).unwrap().parse().unwrap()
}
