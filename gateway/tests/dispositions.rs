//! Nothing is silently ignored: for every documented field of every built operation, two calls that differ in that
//! field alone are made at sites of their own, and what became of them must fit what the dispositions say.
//!
//! What differs between two runs of the very same call (random names, times, ids) is noise and does not count.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

mod site;

use std::collections::{BTreeMap, BTreeSet};

use babelvisor_schemas::{Dialect, Disposition, WARNING_HEADER, contract};
use serde_json::{Value, json};
use site::calls::{Call, Case, cases, prepare};
use site::{Answer, Site, built};
use tokio::task::JoinSet;

/// How many cases run at once; each has three sites.
const AT_ONCE: usize = 4;

fn dialect_of(operation: &str) -> Dialect {
    let found = built().find(|known| known.id == operation);
    found.expect("an operation that is built").dialect
}

/// Everything that a call may have brought about, by place.
struct Outcome {
    answer: Answer,
    /// What the client sees, in the answer and in later reads of both dialects.
    seen: Value,
    /// What the hypervisor has, and was asked for.
    done: Value,
    /// What only the gateway remembers.
    remembered: Value,
}

async fn outcome(operation: &str, call: &Call) -> Outcome {
    let site = Site::new().await;
    prepare(&site, operation).await;
    let answer = site.call(dialect_of(operation), call).await;
    site.settled().await;
    let mut body = answer.body.clone();
    // Its links repeat the query: an echo is no effect.
    body.as_object_mut().expect("an object").remove("paging");
    let guests = site.send(Dialect::GuestRest, "GET", "/api/guests", b"").await;
    let machines = site
        .send(
            Dialect::PveOpen,
            "GET",
            "/v1/pve/open/mypage?page=1&pageSize=25",
            b"",
        )
        .await;
    let machines = machines.body["data"]["data"]
        .as_array()
        .expect("machines")
        .clone();
    let seen = json!({
        "status": answer.status, "body": body, "guests": guests.body["data"], "machines": machines,
        "terms": machines.iter().map(term).collect::<Vec<_>>(),
    });
    let now = site.core.now();
    // By their numbers: the ids of new machines differ from run to run.
    let mut records: Vec<_> = now.vms.values().map(|vm| &vm.record).collect();
    records.sort_by_key(|record| record.number);
    let remembered: Vec<Value> = records
        .iter()
        .map(|record| serde_json::to_value(record).unwrap())
        .collect();
    let jobs: Vec<Value> = site
        .jobs(false)
        .await
        .iter()
        .map(|job| serde_json::to_value(&job.command).unwrap())
        .collect();
    let done = json!({"jobs": jobs, "machines": hypervisor(&site)});
    Outcome {
        answer,
        seen,
        done,
        remembered: remembered.into(),
    }
}

/// How long a machine's term is, in hours: the instants themselves differ from run to run.
fn term(machine: &Value) -> Option<i64> {
    let length = machine["expirationTime"].as_i64()? - machine["createTime"].as_i64()?;
    Some((length + 1_800_000) / 3_600_000)
}

/// The machines of the hypervisor by name, with what the first boot sets up in them.
fn hypervisor(site: &Site) -> BTreeMap<String, Value> {
    let machine = |vm: babelvisor_core::model::VmFacts| {
        let seed = site.control.seed(vm.id);
        let login = seed.and_then(|seed| seed.admin_password).map(|sealed| {
            let secret = site.core.open(&sealed).expect("our own key");
            secret.expose().to_owned()
        });
        let facts = json!({
            "login": login, "boots": site.control.boots(vm.id), "facts": serde_json::to_value(&vm).unwrap(),
        });
        (vm.name, facts)
    };
    site.control.vms().into_iter().map(machine).collect()
}

/// Every leaf of a value by its place.
fn leaves(value: &Value, place: String, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                leaves(member, format!("{place}/{name}"), into);
            }
            into.insert(format!("{place}/#"), members.len().to_string());
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, format!("{place}/{index}"), into);
            }
            into.insert(format!("{place}/#"), items.len().to_string());
        }
        leaf => {
            into.insert(place, leaf.to_string());
        }
    }
}

/// The places where two values differ.
fn differences(one: &Value, other: &Value) -> BTreeSet<String> {
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    leaves(one, String::new(), &mut left);
    leaves(other, String::new(), &mut right);
    let places = left.keys().chain(right.keys());
    places
        .filter(|place| left.get(*place) != right.get(*place))
        .cloned()
        .collect()
}

/// What a change of the field changed, noise apart.
#[derive(Debug)]
struct Effects {
    seen: bool,
    done: bool,
    remembered: bool,
    refused: bool,
}

fn effects(same: &[Outcome; 2], other: &Outcome) -> Effects {
    let changed = |part: fn(&Outcome) -> &Value| {
        let noise = differences(part(&same[0]), part(&same[1]));
        let change = differences(part(&same[0]), part(other));
        change.difference(&noise).next().is_some()
    };
    Effects {
        seen: changed(|outcome| &outcome.seen),
        done: changed(|outcome| &outcome.done),
        remembered: changed(|outcome| &outcome.remembered),
        refused: !same[0].answer.is_good() || !other.answer.is_good(),
    }
}

/// Whether what happened is what a disposition promises.
fn fits(disposition: Disposition, effects: &Effects) -> Result<(), String> {
    let held = match disposition {
        // By which means is for the reason to say; that there is an effect is not.
        Disposition::Honoured | Disposition::Emulated => effects.seen || effects.done,
        Disposition::Recorded => (effects.seen || effects.remembered) && !effects.done && !effects.refused,
        Disposition::Ignored => !effects.seen && !effects.done && !effects.remembered,
        Disposition::Rejected => effects.refused && !effects.done,
    };
    held.then_some(())
        .ok_or_else(|| format!("is called {}, but: {effects:?}", disposition.name()))
}

/// The header names the field if, and only if, it falls short.
fn warned(case: &Case, disposition: Disposition, outcomes: &[&Outcome]) -> Result<(), String> {
    let (_, name) = case.field.split_once('.').unwrap();
    let headers: Vec<&str> = outcomes
        .iter()
        .filter_map(|outcome| outcome.answer.header(WARNING_HEADER))
        .collect();
    let named = |word: &str| {
        headers
            .iter()
            .any(|header| header.contains(&format!("{name} is {word}: ")))
    };
    let word = disposition.name();
    if disposition.falls_short() && !named(word) {
        return Err(format!("no warning says that it is {word}: {headers:?}"));
    }
    let others = ["honoured", "emulated", "recorded", "ignored", "rejected"];
    match others.into_iter().find(|other| *other != word && named(other)) {
        Some(other) => Err(format!("a warning calls it {other}: {headers:?}")),
        None => Ok(()),
    }
}

/// What is wrong with the disposition of a case's field; nothing, if all is well.
async fn judge(case: Case) -> Vec<String> {
    let one = outcome(case.operation, &case.one).await;
    let again = outcome(case.operation, &case.one).await;
    let other = outcome(case.operation, &case.other).await;
    let place = format!("{} {}", case.operation, case.field);
    if !one.answer.is_good() {
        return vec![format!("{place}: the call itself fails: {}", one.answer.body)];
    }
    let fate = contract(dialect_of(case.operation))
        .disposition(case.operation, case.field)
        .unwrap_or_else(|| panic!("{place} has no disposition"));
    let disposition = fate.on(Some("memory")).0;
    let same = [one, again];
    let effects = effects(&same, &other);
    let mut faults = Vec::new();
    faults.extend(fits(disposition, &effects).err());
    faults.extend(warned(&case, disposition, &[&same[0], &other]).err());
    // The same observation must not fit a claim that would be wrong.
    let wrong: &[Disposition] = match disposition {
        Disposition::Honoured | Disposition::Emulated => &[Disposition::Ignored],
        Disposition::Recorded | Disposition::Ignored => &[
            Disposition::Honoured,
            Disposition::Emulated,
            Disposition::Rejected,
        ],
        Disposition::Rejected => &[Disposition::Recorded, Disposition::Ignored],
    };
    for claim in wrong.iter().filter(|claim| fits(**claim, &effects).is_ok()) {
        faults.push(format!("could as well be called {}: {effects:?}", claim.name()));
    }
    faults
        .into_iter()
        .map(|fault| format!("{place}: {fault}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_does_what_its_disposition_says() {
    let mut waiting = cases();
    let mut running = JoinSet::new();
    let mut faults = Vec::new();
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < AT_ONCE
            && let Some(case) = waiting.pop()
        {
            running.spawn(judge(case));
        }
        faults.extend(running.join_next().await.unwrap().unwrap());
    }
    faults.sort();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_documented_field_of_every_built_operation_has_its_case() {
    let mut expected = BTreeSet::new();
    for operation in built() {
        for field in operation.documented_fields() {
            expected.insert((operation.id.clone(), field));
        }
    }
    let cases: Vec<(String, String)> = cases()
        .iter()
        .map(|case| (case.operation.to_owned(), case.field.to_owned()))
        .collect();
    let unique: BTreeSet<(String, String)> = cases.iter().cloned().collect();
    assert_eq!(unique.len(), cases.len(), "a field has two cases");
    assert_eq!(unique, expected);
    assert_eq!(built().count(), 23);
}

#[test]
fn a_wrong_disposition_does_not_fit() {
    let effects = |seen, done, remembered, refused| Effects {
        seen,
        done,
        remembered,
        refused,
    };
    let nothing = effects(false, false, false, false);
    let all = effects(true, true, true, false);
    let kept = effects(false, false, true, false);
    let refused = effects(true, false, false, true);
    for (disposition, holds, fails) in [
        (Disposition::Honoured, &all, &nothing),
        (Disposition::Honoured, &all, &kept),
        (Disposition::Emulated, &all, &nothing),
        (Disposition::Recorded, &kept, &all),
        (Disposition::Recorded, &kept, &nothing),
        (Disposition::Ignored, &nothing, &kept),
        (Disposition::Ignored, &nothing, &all),
        (Disposition::Rejected, &refused, &all),
    ] {
        assert!(fits(disposition, holds).is_ok(), "{}", disposition.name());
        assert!(fits(disposition, fails).is_err(), "{}", disposition.name());
    }
}

#[test]
fn what_differs_by_backend_is_known_before_one_is_chosen() {
    let kinds = ["memory", "libvirt"];
    for operation in built() {
        let fields = contract(operation.dialect).dispositions().get(&operation.id);
        for (field, fate) in fields.into_iter().flatten() {
            for (kind, here) in &fate.backends {
                assert!(kinds.contains(&kind.as_str()), "{} {field}: {kind}", operation.id);
                assert!(
                    !matches!(here.disposition, Disposition::Ignored | Disposition::Rejected),
                    "{} {field} on {kind}",
                    operation.id
                );
            }
        }
    }
}
