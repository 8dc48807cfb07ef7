//! Load on a server, and what it made of it.

use super::{Outcome, bare};
use babelvisor_conformance::testbed::eventually;
use babelvisor_conformance::testbed::http::{call, get};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ALONE: Duration = Duration::from_millis(800);
const TOGETHER: Duration = Duration::from_millis(1_500);
const PATIENCE: Duration = Duration::from_secs(120);

/// What one kind of request got.
pub(crate) struct Figures {
    /// Median time of a request when there is no other.
    pub(crate) median: Duration,
    /// Requests answered in a second over all connections.
    pub(crate) per_second: f64,
}

/// The body of one GET; anything but 200 is an error, so that no refusal is measured by mistake.
pub(crate) async fn fetch(address: SocketAddr, path: &str) -> Outcome<Bytes> {
    let answer = get(address, path).send().await?;
    if answer.status != 200 {
        return Err(format!("GET {path}: {} {}", answer.status, answer.text()).into());
    }
    Ok(answer.body)
}

/// Waits until a list says that it has so many guests.
pub(crate) async fn wait_for_total(address: SocketAddr, total: u64) -> Outcome<()> {
    let path = "/api/guests?page=1&page_size=1";
    eventually("all guests in the list", PATIENCE, async || {
        let body: Value = serde_json::from_slice(&fetch(address, path).await.ok()?).ok()?;
        (body.pointer("/paging/total")?.as_u64()? >= total).then_some(())
    })
    .await?;
    Ok(())
}

/// One connection alone for the median, then `connections` at once for the rate.
pub(crate) async fn run(address: SocketAddr, path: &str, connections: usize) -> Outcome<Figures> {
    let mut times = connection(address, path.to_owned(), ALONE).await?;
    let median = middle(&mut times)?;
    let start = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(connection(address, path.to_owned(), TOGETHER)))
        .collect();
    let mut answered = 0_usize;
    for task in tasks {
        answered += task.await??.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Figures {
        median,
        per_second: f64::from(u32::try_from(answered)?) / seconds,
    })
}

async fn connection(address: SocketAddr, path: String, time: Duration) -> Outcome<Vec<Duration>> {
    let mut sender = bare::connect(address).await?;
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time || times.is_empty() {
        let request = Request::get(&path)
            .header("host", "bench")
            .body(Full::new(Bytes::new()))?;
        let began = Instant::now();
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        if response.status() != 200 {
            return Err(format!("GET {path}: {}", response.status()).into());
        }
        response.into_body().collect().await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Sends a power action and waits until a GET shows the status.
pub(crate) async fn switch(address: SocketAddr, uuid: &str, action: &str, status: i64) -> Outcome<()> {
    let answer = call(address, "PUT", &format!("/api/guests/{action}/{uuid}"))
        .send()
        .await?;
    if answer.status != 200 {
        return Err(format!("{action}: {} {}", answer.status, answer.text()).into());
    }
    let path = format!("/api/guest/{uuid}");
    let start = Instant::now();
    // Without a pause: the pause would be what is measured.
    while start.elapsed() < PATIENCE {
        let body: Value = serde_json::from_slice(&fetch(address, &path).await?)?;
        if body.pointer("/data/status").and_then(Value::as_i64) == Some(status) {
            return Ok(());
        }
    }
    Err(format!("{action}: status {status} was not seen within {PATIENCE:?}").into())
}

/// The median time of `times` runs.
pub(crate) async fn median_of(times: usize, mut run: impl AsyncFnMut() -> Outcome<()>) -> Outcome<Duration> {
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        run().await?;
        taken.push(start.elapsed());
    }
    middle(&mut taken)
}

/// The median.
pub(crate) fn middle(times: &mut [Duration]) -> Outcome<Duration> {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .copied()
        .ok_or_else(|| "nothing was measured".into())
}
