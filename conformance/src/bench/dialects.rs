//! The dialects with sign-in: one machine, lists of fifty, and fifty found among all by an indexed field. The same goals as for
//! the others; the sign-in is part of every request.

use std::time::Duration;

use babelvisor_conformance::testbed::http::call;
use md5::Md5;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use super::Outcome;
use super::client::{Client, prepare};
use super::figures::{Goal, Row, Table, Unit, micros};
use super::load::{Target, both_of};
use super::server::{PASSWORD, Programs, USER};

/// One turn of load.
const TURN: Duration = Duration::from_millis(500);
/// How many machines a list shows.
const LIST: u32 = 50;

/// Rows for ZStack and v1-compute.
pub(crate) async fn reads(
    table: &mut Table,
    programs: &Programs,
    ours: Target,
    victim: &str,
    size: u32,
) -> Outcome<()> {
    let zstack = format!("Authorization: OAuth {}\r\n", zstack_session(ours).await?);
    let (token, cluster) = compute_session(ours).await?;
    let compute = format!("Authorization: Bearer {token}\r\n");
    let bare = victim.replace('-', "");
    let names = prepare(
        "GET",
        &format!("/zstack/v1/vm-instances?limit={LIST}&sort=name&fields=name"),
        &zstack,
    );
    let names: Value = serde_json::from_slice(&Client::connect(ours.address).await?.body(&names).await?)?;
    let names = names.get("inventories").and_then(Value::as_array);
    let names: Vec<&str> = names
        .into_iter()
        .flatten()
        .filter_map(|one| one.get("name")?.as_str())
        .collect();
    let found = format!("/zstack/v1/vm-instances?q=name?={}", names.join(","));
    let kinds = [
        (
            "zstack one",
            format!("/zstack/v1/vm-instances/{bare}"),
            &zstack,
            1,
        ),
        (
            "zstack list 50",
            format!("/zstack/v1/vm-instances?limit={LIST}&sort=name"),
            &zstack,
            LIST,
        ),
        ("zstack 50 by name", found, &zstack, LIST),
        (
            "v1 one",
            format!("/v1/compute/inspect?cluster_uuid={cluster}&tenant=&compute_uuid={victim}"),
            &compute,
            1,
        ),
        (
            "v1 list 50",
            format!("/v1/compute/list?cluster_uuid={cluster}&tenant=&page_num=0&page_size={LIST}"),
            &compute,
            LIST,
        ),
    ];
    for (name, path, session, most) in kinds {
        let request = prepare("GET", &path, session);
        let body = Client::connect(ours.address).await?.body(&request).await?;
        let there = machines(&body)?;
        let wanted = usize::try_from(most.min(size))?;
        if there != wanted {
            return Err(format!("{name} shows {there} machines, not {wanted}").into());
        }
        let floor = programs.bare(&body)?;
        let (left, right) = both_of(ours, floor.target, &request, 8, TURN).await?;
        table.row(&Row {
            what: &format!("{name}, 8 connections, {} B", body.len()),
            size,
            unit: Unit::PerSecond,
            ours: left.per_second,
            floor: Some(("bare hyper", right.per_second)),
            goal: Goal::AtLeast(0.5),
        });
        let (left, right) = both_of(ours, floor.target, &request, 1, TURN / 2).await?;
        table.row(&Row {
            what: &format!("{name}, alone, p50"),
            size,
            unit: Unit::Micros,
            ours: micros(left.median),
            floor: Some(("bare hyper", micros(right.median))),
            goal: if most == 1 { Goal::AtMost(1.5) } else { Goal::None },
        });
    }
    Ok(())
}

/// How many machines an answer shows.
fn machines(body: &[u8]) -> Outcome<usize> {
    let answer: Value = serde_json::from_slice(body)?;
    let list = ["/inventories", "/data/domains"]
        .iter()
        .find_map(|place| answer.pointer(place)?.as_array());
    Ok(list.map_or_else(|| usize::from(answer.pointer("/data/uuid").is_some()), Vec::len))
}

async fn zstack_session(ours: Target) -> Outcome<String> {
    let password = hex(&Sha512::digest(PASSWORD));
    let body = json!({"logInByAccount": {"accountName": USER, "password": password}});
    let answer = call(ours.address, "PUT", "/zstack/v1/accounts/login").json(&body);
    let answer = answer.send().await?.json()?;
    text(&answer, "/inventory/uuid")
}

/// Token and cluster.
async fn compute_session(ours: Target) -> Outcome<(String, String)> {
    let password = hex(&Md5::digest(PASSWORD));
    let body = json!({"tenant": "default", "user": USER, "password": password});
    let answer = call(ours.address, "POST", "/v1/authentication/login").json(&body);
    let answer = answer.send().await?.json()?;
    Ok((
        text(&answer, "/data/token")?,
        text(&answer, "/data/default_cluster_uuid")?,
    ))
}

fn text(answer: &Value, place: &str) -> Outcome<String> {
    let found = answer.pointer(place).and_then(Value::as_str);
    Ok(found.ok_or_else(|| format!("no {place} in {answer}"))?.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
