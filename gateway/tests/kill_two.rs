//! Two gateways on one Redis and one hypervisor. Either may be killed at any moment: the other finishes its jobs,
//! nothing is done twice, nothing that was acknowledged is lost, and no two VMs share an id.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on shall panic"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use babelvisor_conformance::testbed::process::{Signal, send_signal};
use babelvisor_conformance::testbed::{Gateway, Redis, eventually};
use common::calls::Client;
use common::crash::{
    KILL_AT, Store, accepted, admin, assert_killed, config, domains, ended, jobs, recovered, restart, start,
    truth, try_create, try_guest, vm, volumes,
};
use common::setup::Which;
use common::witness::Witness;
use serde_json::Value;

/// Set to go on for many more rounds.
const LONG: &str = "BABELVISOR_LONG";
/// Set to repeat a run that failed; it is printed with the failure.
const SEED: &str = "BABELVISOR_SEED";
/// What the VMs of the random test are called.
const PREFIX: &str = "two-";
/// How long events may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the whole pool of the test driver holds is compared.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn either_of_two_is_killed_at_random_on_libvirts_test_driver() {
    let _alone = ONE_AT_A_TIME.lock().await;
    at_random(Which::TestUnix, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn either_of_two_is_killed_at_random_on_qemu() {
    at_random(Which::Qemu, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_other_finishes_what_one_left_at_each_place() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let pair = Pair::start(Which::TestUnix, "places");
    let [mut dying, other] = pair.gateways;
    let mut taken_over = 0;
    for (number, place) in [
        "create/volume-0:begun",
        "create/volume-0:called",
        "create/define:called",
        "create/start:begun",
        "create/start:called",
        "create/finish:begin",
        "start/start:called",
        "delete/plan:done",
        "delete/off:called",
        "delete/undefine:called",
        "delete/volume-0:called",
    ]
    .into_iter()
    .enumerate()
    {
        restart(&mut dying, Some(place));
        let name = format!("place-{number}");
        let command = place.split('/').next().unwrap();
        let client = Client::of(&other);
        let mut known = None;
        if command == "create" {
            try_create(&dying, &name).await;
        } else {
            let uuid = client.create_guest(&name).await;
            client.until_status(&uuid, 1).await;
            if command == "start" {
                client
                    .guest("PUT", &format!("/api/guests/_force_shutdown/{uuid}"), None)
                    .await;
                client.until_status(&uuid, 5).await;
            }
            all_ended(&other).await;
            // It has heard of the VM when it answers for it.
            Client::of(&dying)
                .until_status(&uuid, if command == "start" { 5 } else { 1 })
                .await;
            let (method, path) = if command == "start" {
                ("PUT", format!("/api/guests/_boot/{uuid}"))
            } else {
                ("DELETE", format!("/api/guests/{uuid}"))
            };
            try_guest(&dying, method, &path, None).await;
            known = Some(uuid);
        }
        assert_killed(&mut dying, place);
        let job = jobs(&other)
            .await
            .into_iter()
            .find(|job| job["command"] == command)
            .unwrap();
        let job = ended(&other, job["id"].as_str().unwrap()).await;
        assert_eq!(job["state"], "succeeded", "{place}: {job}\n{}", other.log());
        assert_eq!(job["epoch"], 2, "{place}: {job}");
        taken_over += 1;
        assert_eq!(recovered(&other).await, taken_over, "{place}");
        let uuid = job["vm"].as_str().unwrap().to_owned();
        assert!(known.is_none_or(|known| known == uuid));
        if command != "delete" {
            let there = truth(Which::TestUnix, other.state_dir(), &name, &uuid);
            assert_eq!(
                (there.domains.len(), there.volumes.len()),
                (1, 1),
                "{place}: {there:?}"
            );
            assert!(there.domains[0].running, "{place}: {there:?}");
            client.guest("DELETE", &format!("/api/guests/{uuid}"), None).await;
        }
        client.until_gone(&uuid).await;
        all_ended(&other).await;
        let there = truth(Which::TestUnix, other.state_dir(), &name, &uuid);
        assert!(
            there.domains.is_empty() && there.volumes.is_empty(),
            "{place}: {there:?}"
        );
    }
}

/// Two gateways with one store, one key and one hypervisor.
struct Pair {
    gateways: [Gateway; 2],
    _redis: Redis,
    _keys: tempfile::TempDir,
}

impl Pair {
    fn start(which: Which, prefix: &str) -> Self {
        let redis = Redis::start().unwrap();
        let keys = tempfile::tempdir().unwrap();
        let key_file = keys.path().join("secret.key");
        let shared = format!("[secrets]\nkey_file = {:?}\n", key_file.to_str().unwrap());
        let text = config(which, Store::Redis(&redis, prefix), &shared);
        Self {
            gateways: [start(&text, &[(KILL_AT, "")]), start(&text, &[])],
            _redis: redis,
            _keys: keys,
        }
    }
}

/// Small, known, and enough to pick moments.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

async fn at_random(which: Which, rounds: u64) {
    let rounds = if std::env::var_os(LONG).is_some() {
        rounds * 5 / 2
    } else {
        rounds
    };
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seed: u64 = std::env::var(SEED).map_or(clock.subsec_nanos().into(), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let mut dice = Dice(seed | 1);
    let before = (domains(which), volumes(which));
    let witness = Witness::start(which);
    let mut pair = Pair::start(which, "random");
    let mut known = Known::default();
    let mut taken_over = BTreeSet::new();

    // Jobs of the test driver are over in milliseconds. Rounds that cut none off have tried nothing, so there are more.
    let window = if which == Which::Qemu { 250 } else { 50 };
    for round in 0..rounds * 4 {
        if round >= rounds && !taken_over.is_empty() {
            break;
        }
        let victim = usize::try_from(dice.throw(2)).unwrap();
        let moment = Duration::from_millis(dice.throw(window));
        let wishes = wishes(&mut dice, round, &pair.gateways[1 - victim]).await;
        let pid = pair.gateways[victim].process().pid();
        let shot = tokio::spawn(async move {
            tokio::time::sleep(moment).await;
            tokio::task::block_in_place(|| send_signal(pid, Signal::Kill)).unwrap();
        });
        for (number, wish) in wishes.iter().enumerate() {
            let turn = if shot.is_finished() {
                1 - victim
            } else {
                number % 2
            };
            let made = wish.send(&pair.gateways[turn]).await;
            known.acknowledged.extend(made);
        }
        shot.await.unwrap();
        assert_killed(&mut pair.gateways[victim], "at random");
        let survivor = &pair.gateways[1 - victim];
        all_ended(survivor).await;
        for job in jobs(survivor).await {
            if job["epoch"].as_u64().unwrap() > 1 {
                taken_over.insert(job["id"].to_string());
            }
        }
        restart(&mut pair.gateways[victim], None);
        known.agree(which, &pair.gateways).await;
    }
    known.no_effect_twice(&witness, &pair.gateways[0]).await;
    assert!(
        !taken_over.is_empty(),
        "no job was cut off: the test has tried nothing"
    );

    for (number, row) in ours(&pair.gateways[0]).await.into_iter().enumerate() {
        let path = format!("/api/guests/{}", row["id"].as_str().unwrap());
        let answer = try_guest(&pair.gateways[number % 2], "DELETE", &path, None).await;
        assert!(accepted(answer.as_ref()), "{answer:?}");
    }
    all_ended(&pair.gateways[0]).await;
    known.agree(which, &pair.gateways).await;
    known.no_effect_twice(&witness, &pair.gateways[1]).await;
    assert_eq!((domains(which), volumes(which)), before);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Create,
    Off,
    On,
    Delete,
}

#[derive(Debug)]
struct Wish {
    what: What,
    name: String,
    uuid: String,
}

impl Wish {
    /// The id of the VM that was acknowledged with it, if any was.
    async fn send(&self, gateway: &Gateway) -> Option<String> {
        let uuid = &self.uuid;
        let answer = match self.what {
            What::Create => try_create(gateway, &self.name).await,
            What::Off => {
                try_guest(
                    gateway,
                    "PUT",
                    &format!("/api/guests/_force_shutdown/{uuid}"),
                    None,
                )
                .await
            }
            What::On => try_guest(gateway, "PUT", &format!("/api/guests/_boot/{uuid}"), None).await,
            What::Delete => try_guest(gateway, "DELETE", &format!("/api/guests/{uuid}"), None).await,
        };
        let answer = answer.filter(|answer| accepted(Some(answer)))?;
        answer["data"][0]["uuid"].as_str().map(str::to_owned)
    }
}

/// Three new VMs, and something for each that is there, in turn.
async fn wishes(dice: &mut Dice, round: u64, gateway: &Gateway) -> Vec<Wish> {
    let mut wishes = Vec::new();
    for number in 0..3 {
        wishes.push(Wish {
            what: What::Create,
            name: format!("{PREFIX}{round}-{number}"),
            uuid: String::new(),
        });
    }
    for row in ours(gateway).await {
        let mut wish = |what| {
            wishes.push(Wish {
                what,
                name: row["name"].as_str().unwrap().to_owned(),
                uuid: row["id"].as_str().unwrap().to_owned(),
            });
        };
        match dice.throw(4) {
            0 => wish(What::Delete),
            1 => wish(What::Off),
            2 => wish(What::On),
            _ => {
                wish(What::Off);
                wish(What::On);
            }
        }
    }
    wishes
}

/// The VMs of this test as operators see them.
async fn ours(gateway: &Gateway) -> Vec<Value> {
    let mut rows = admin(gateway, "/_gw/vms").await["vms"]
        .as_array()
        .unwrap()
        .clone();
    rows.retain(|row| row["name"].as_str().unwrap().starts_with(PREFIX));
    rows
}

/// Waits until no job is open.
async fn all_ended(gateway: &Gateway) {
    for job in jobs(gateway).await {
        if job["ended"].is_null() {
            ended(gateway, job["id"].as_str().unwrap()).await;
        }
    }
}

/// What the test has seen so far.
#[derive(Default)]
struct Known {
    /// Ids of VMs whose creation was acknowledged.
    acknowledged: BTreeSet<String>,
    /// Name, number and short id of every VM by id, also of those that are gone.
    vms: BTreeMap<String, (String, u64, String)>,
}

impl Known {
    /// Hypervisor, registry and both gateways say the same; nothing acknowledged is lost; no id is given twice.
    async fn agree(&mut self, which: Which, gateways: &[Gateway; 2]) {
        let all = jobs(&gateways[0]).await;
        let of = |command: &str| -> BTreeSet<String> {
            let good = all
                .iter()
                .filter(|job| job["command"] == command && job["state"] == "succeeded");
            good.map(|job| job["vm"].as_str().unwrap().to_owned()).collect()
        };
        for job in &all {
            assert_eq!(job["state"], "succeeded", "{job}");
        }
        let (made, gone) = (of("create"), of("delete"));
        assert!(
            self.acknowledged.is_subset(&made),
            "{:?} are lost",
            self.acknowledged.difference(&made)
        );
        let expected: BTreeSet<String> = made.difference(&gone).cloned().collect();
        for gateway in gateways {
            let listed = eventually("a gateway lists what the jobs have made", PATIENCE, || async {
                let rows = ours(gateway).await;
                let ids = rows.iter().map(|row| row["id"].as_str().unwrap().to_owned());
                let same = ids.collect::<BTreeSet<String>>() == expected;
                (same && rows.iter().all(|row| row["activity"].is_null())).then_some(rows)
            });
            let Ok(rows) = listed.await else {
                panic!(
                    "{expected:?} expected: {:#?}\n{}",
                    ours(gateway).await,
                    gateway.log()
                );
            };
            for row in rows {
                let text = |field: &str| row[field].as_str().unwrap().to_owned();
                let aliases = (text("name"), row["number"].as_u64().unwrap(), text("short_id"));
                let known = self.vms.entry(text("id")).or_insert_with(|| aliases.clone());
                assert_eq!(*known, aliases, "an alias has changed: {row}");
            }
        }
        let numbers: BTreeSet<u64> = self.vms.values().map(|(_, number, _)| *number).collect();
        let short: BTreeSet<&String> = self.vms.values().map(|(.., short)| short).collect();
        assert_eq!(
            (numbers.len(), short.len()),
            (self.vms.len(), self.vms.len()),
            "{:?}",
            self.vms
        );

        // The test driver takes no first-boot medium.
        let volumes = if which == Which::Qemu { 2 } else { 1 };
        for id in &expected {
            let name = &self.vms[id].0;
            let there = truth(which, gateways[0].state_dir(), name, id);
            assert_eq!(
                (there.domains.len(), there.volumes.len()),
                (1, volumes),
                "{name}: {there:?}"
            );
            let power = if there.domains[0].running {
                "running"
            } else {
                "off"
            };
            for gateway in gateways {
                let told = eventually("power is told as it is", PATIENCE, || async {
                    (vm(gateway, id).await["power"] == power).then_some(())
                });
                assert!(told.await.is_ok(), "{name} is {power}: {}", vm(gateway, id).await);
            }
        }
        let there = domains(which).into_iter().filter(|name| name.starts_with(PREFIX));
        let names: Vec<String> = expected.iter().map(|id| self.vms[id].0.clone()).collect();
        assert_eq!(
            there.collect::<BTreeSet<_>>(),
            names.into_iter().collect(),
            "on the hypervisor"
        );
    }

    /// Each VM was defined, started, stopped and removed exactly as often as its jobs, in their order, say.
    async fn no_effect_twice(&self, witness: &Witness, gateway: &Gateway) {
        let mut jobs = jobs(gateway).await;
        jobs.reverse();
        for (id, (name, ..)) in &self.vms {
            let mut expected: BTreeMap<String, usize> = BTreeMap::new();
            let mut count = |word: &str| *expected.entry(word.to_owned()).or_default() += 1;
            let mut running = false;
            for job in jobs.iter().filter(|job| job["vm"] == id.as_str()) {
                match job["command"].as_str().unwrap() {
                    "create" => {
                        count("Defined");
                        count("Started");
                        running = true;
                    }
                    "start" if !running => {
                        count("Started");
                        running = true;
                    }
                    "force_off" if running => {
                        count("Stopped");
                        running = false;
                    }
                    "delete" => {
                        if running {
                            count("Stopped");
                        }
                        count("Undefined");
                        running = false;
                    }
                    _ => {}
                }
            }
            let seen = eventually("libvirt has told everything", PATIENCE, || async {
                (witness.of(name) == expected).then_some(())
            });
            assert!(
                seen.await.is_ok(),
                "{name}: {:?}, expected {expected:?}",
                witness.of(name)
            );
        }
    }
}
