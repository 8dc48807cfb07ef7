//! Load on two servers in turns, and what each made of it.

use super::Outcome;
use super::client::{Client, prepare};
use super::figures::{middle, percentile};
use super::server::cpu_time;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Turns of each side. The machine is noisy, so that the median counts.
const TURNS: usize = 3;

/// A server under load.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
}

/// What a server made of a load, all medians over its turns.
#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    /// Requests answered in a second over all connections.
    pub(crate) per_second: f64,
    /// Time on the processor for one request.
    pub(crate) cpu: Duration,
}

/// The same GET on both servers, turn and turn about.
pub(crate) async fn both(
    ours: Target,
    theirs: Target,
    path: &str,
    connections: usize,
    turn: Duration,
) -> Outcome<(Figures, Figures)> {
    both_of(ours, theirs, &prepare("GET", path, ""), connections, turn).await
}

/// The same prepared request on both servers, turn and turn about.
pub(crate) async fn both_of(
    ours: Target,
    theirs: Target,
    request: &[u8],
    connections: usize,
    turn: Duration,
) -> Outcome<(Figures, Figures)> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        left.push(run(ours, request, connections, turn).await?);
        right.push(run(theirs, request, connections, turn).await?);
    }
    Ok((medians(&left)?, medians(&right)?))
}

async fn run(target: Target, request: &[u8], connections: usize, turn: Duration) -> Outcome<Figures> {
    let cpu = cpu_time(target.pid)?;
    let start = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(connection(target.address, request.to_vec(), start + turn)))
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_time(target.pid)?.saturating_sub(cpu);
    let answered = u32::try_from(times.len())?;
    Ok(Figures {
        median: middle(&mut times)?,
        p99: percentile(&mut times, 99)?,
        per_second: f64::from(answered) / seconds,
        cpu: cpu / answered.max(1),
    })
}

async fn connection(address: SocketAddr, request: Vec<u8>, until: Instant) -> Outcome<Vec<Duration>> {
    let mut client = Client::connect(address).await?;
    let expected = client.exchange(&request).await?;
    let mut times = Vec::with_capacity(100_000);
    loop {
        let began = Instant::now();
        let length = client.exchange(&request).await?;
        let now = Instant::now();
        if length != expected {
            return Err(format!("an answer of {length} bytes, before it were {expected}").into());
        }
        times.push(now - began);
        if now >= until {
            return Ok(times);
        }
    }
}

fn medians(turns: &[Figures]) -> Outcome<Figures> {
    let time = |of: fn(&Figures) -> Duration| middle(&mut turns.iter().map(of).collect::<Vec<_>>());
    let mut rates: Vec<f64> = turns.iter().map(|turn| turn.per_second).collect();
    rates.sort_by(f64::total_cmp);
    Ok(Figures {
        median: time(|turn| turn.median)?,
        p99: time(|turn| turn.p99)?,
        per_second: rates.get(rates.len() / 2).copied().unwrap_or_default(),
        cpu: time(|turn| turn.cpu)?,
    })
}
