//! Changes: how soon a power action is accepted, how soon it is done, and how soon a change that was made past the
//! gateway is seen. What a GET shows after an action is held against the hypervisor.

use super::Outcome;
use super::client::Client;
use super::figures::{Goal, Row, Table, Unit, micros, middle, percentile};
use super::raw::Raw;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const RUNNING: i64 = 1;
const OFF: i64 = 5;

/// Times of power actions, sorted.
pub(crate) struct Power {
    /// From the PUT to its answer: the job is stored.
    pub(crate) accepted: Duration,
    pub(crate) accepted_p99: Duration,
    /// From the PUT to a GET that shows its effect.
    pub(crate) seen: Duration,
    /// How often the hypervisor contradicted what the GET showed.
    pub(crate) wrong: u32,
}

/// Switches guests off and on again, one after the other.
pub(crate) async fn power(
    address: SocketAddr,
    guests: &[String],
    rounds: usize,
    agrees: impl Fn(&str, bool) -> Outcome<bool>,
) -> Outcome<Power> {
    let mut client = Client::connect(address).await?;
    let (mut accepted, mut seen, mut wrong) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        for (action, status) in [("_force_shutdown", OFF), ("_boot", RUNNING)] {
            for guest in guests {
                let start = Instant::now();
                client
                    .call("PUT", &format!("/api/guests/{action}/{guest}"))
                    .await?;
                accepted.push(start.elapsed());
                until_status(&mut client, guest, status).await?;
                seen.push(start.elapsed());
                wrong += u32::from(!agrees(guest, status == RUNNING)?);
            }
        }
    }
    Ok(Power {
        accepted: middle(&mut accepted)?,
        accepted_p99: percentile(&mut accepted, 99)?,
        seen: middle(&mut seen)?,
        wrong,
    })
}

/// From a change that was made past the gateway to a GET that shows it: median and 99th of a hundred.
pub(crate) async fn freshness(address: SocketAddr, raw: &Raw, guest: &str) -> Outcome<(Duration, Duration)> {
    let mut client = Client::connect(address).await?;
    let mut times = Vec::new();
    for _ in 0..100 {
        for (on, status) in [(false, OFF), (true, RUNNING)] {
            raw.switch(guest, on)?;
            let start = Instant::now();
            until_status(&mut client, guest, status).await?;
            times.push(start.elapsed());
        }
    }
    Ok((middle(&mut times)?, percentile(&mut times, 99)?))
}

async fn until_status(client: &mut Client, guest: &str, status: i64) -> Outcome<()> {
    let path = format!("/api/guest/{guest}");
    let start = Instant::now();
    // Without a pause: the pause would be what is measured.
    while start.elapsed() < PATIENCE {
        let body: Value = serde_json::from_slice(&client.call("GET", &path).await?)?;
        if body.pointer("/data/status").and_then(Value::as_i64) == Some(status) {
            return Ok(());
        }
    }
    Err(format!("{guest}: status {status} was not seen within {PATIENCE:?}").into())
}

/// Waits until a list says that it has so many guests.
pub(crate) async fn wait_for_total(address: SocketAddr, total: u64) -> Outcome<()> {
    let mut client = Client::connect(address).await?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let body = client.call("GET", "/api/guests?page=1&page_size=1").await?;
        let body: Value = serde_json::from_slice(&body)?;
        if body.pointer("/paging/total").and_then(Value::as_u64) >= Some(total) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err(format!("{total} guests were not listed within {PATIENCE:?}").into())
}

/// The uuids of running guests, at most `most`.
pub(crate) async fn running(address: SocketAddr, most: usize) -> Outcome<Vec<String>> {
    let mut client = Client::connect(address).await?;
    let body = client.call("GET", "/api/guests?page=1&page_size=100").await?;
    let body: Value = serde_json::from_slice(&body)?;
    let guests = body.get("data").and_then(Value::as_array).ok_or("no data")?;
    Ok(guests
        .iter()
        .filter(|guest| guest.get("status").and_then(Value::as_i64) == Some(RUNNING))
        .filter_map(|guest| guest.get("uuid")?.as_str().map(str::to_owned))
        .take(most)
        .collect())
}

/// Acceptance and completion on a backend that takes no time, held against `floor`: what an answer and a stored
/// record cost at least, and so many microseconds above it.
pub(crate) async fn jobs(
    table: &mut Table,
    store: &str,
    address: SocketAddr,
    size: u32,
    floor: (&str, Duration),
    allowed: Option<f64>,
) -> Outcome<()> {
    let guests = running(address, 40).await?;
    let power = power(address, &guests, 5, |_, _| Ok(true)).await?;
    let (words, floor) = floor;
    let goal = allowed.map_or(Goal::None, |more| {
        Goal::AtMost(((1.0 + more / micros(floor)) * 100.0).round() / 100.0)
    });
    table.row(&Row {
        what: &format!("job accepted, {store}, p50"),
        size,
        unit: Unit::Micros,
        ours: micros(power.accepted),
        floor: Some((words, micros(floor))),
        goal,
    });
    table.row(&Row {
        what: &format!("job accepted, {store}, p99"),
        size,
        unit: Unit::Micros,
        ours: micros(power.accepted_p99),
        floor: None,
        goal: Goal::None,
    });
    table.row(&Row {
        what: &format!("PUT until seen in a GET, {store}"),
        size,
        unit: Unit::Micros,
        ours: micros(power.seen),
        floor: None,
        goal: Goal::AtMost(600.0),
    });
    Ok(())
}
