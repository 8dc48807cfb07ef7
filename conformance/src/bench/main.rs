//! `babelvisor-bench`: what the gateway costs, beside two floors.
//!
//! For each size of the hypervisor it starts a private libvirtd with that many domains in libvirt's test driver (real RPC,
//! no guests), the gateway's binary on it, and a bare hyper server, a process of its own, that returns the same bytes.
//! The same load is put on gateway and bare server; raw libvirt calls are timed on a connection of their own. The machine
//! decides the absolute numbers, so what counts is the ratio.

mod bare;
mod load;
mod raw;

use babelvisor_conformance::testbed::{Gateway, Libvirtd};
use load::Figures;
use raw::Raw;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SIZES: [u32; 3] = [10, 1_000, 10_000];
const CONNECTIONS: usize = 8;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["bare", address, body] => bare::serve(address.parse()?, std::fs::read(body)?).await,
        [gateway] => compare(PathBuf::from(gateway), &SIZES).await,
        [gateway, sizes] => {
            let sizes = sizes
                .split(',')
                .map(str::parse)
                .collect::<Result<Vec<u32>, _>>()?;
            compare(PathBuf::from(gateway), &sizes).await
        }
        _ => Err("usage: babelvisor-bench PATH_OF_BABELVISOR [SIZE,SIZE...]".into()),
    }
}

async fn compare(gateway: PathBuf, sizes: &[u32]) -> Outcome<()> {
    say(&format!(
        "{:<10} {:>7}  {:>12} {:>12} {:>6}  {:>10} {:>10} {:>6}  {:>12}",
        "call", "VMs", "gateway/s", "bare/s", "ratio", "p50 µs", "bare µs", "ratio", "raw libvirt µs"
    ));
    for &size in sizes {
        measure(&gateway, size).await?;
    }
    Ok(())
}

async fn measure(binary: &std::path::Path, size: u32) -> Outcome<()> {
    let libvirtd = Libvirtd::start()?;
    let raw = Raw::open(libvirtd.uri_test())?;
    let victim = raw.fill(size)?;
    let started = Instant::now();
    let gateway = Gateway::builder(binary)
        .args(["--libvirt", libvirtd.uri_test()])
        .start()?;
    let ready = started.elapsed();
    let address = gateway.address();
    // Ready means that the first full look at the hypervisor is done; what follows must not measure it.
    load::wait_for_total(address, u64::from(size)).await?;

    let one = format!("/api/guest/{victim}");
    let rows = [
        ("get one", one.clone(), raw.time_one(&victim)?),
        ("list 50", "/api/guests?page=1&page_size=50".to_owned(), None),
        (
            "list all",
            format!("/api/guests?page=1&page_size={size}"),
            raw.time_list()?,
        ),
    ];
    for (name, path, floor) in rows {
        let body = load::fetch(address, &path).await?;
        let bare = bare::Process::start(&body)?;
        let ours = load::run(address, &path, CONNECTIONS).await?;
        let theirs = load::run(bare.address(), &path, CONNECTIONS).await?;
        row(name, size, &ours, &theirs, floor);
    }
    power(address, &raw, &victim, size).await?;
    say(&format!(
        "{:<10} {:>7}  {:>9.0} ms",
        "ready",
        size,
        ready.as_secs_f64() * 1e3
    ));
    Ok(())
}

/// From the PUT to the changed state in a GET, off and on again, beside the two libvirt calls alone.
async fn power(address: SocketAddr, raw: &Raw, victim: &str, size: u32) -> Outcome<()> {
    let ours = load::median_of(30, async || {
        load::switch(address, victim, "_force_shutdown", 5).await?;
        raw.expect_running(victim, false)?;
        load::switch(address, victim, "_boot", 1).await?;
        raw.expect_running(victim, true)
    })
    .await?;
    let floor = raw.time_power(victim)?;
    say(&format!(
        "{:<10} {:>7}  {:>42.0} {:>24.0}  (stop and start, until seen in a GET)",
        "stop+start",
        size,
        micros(ours),
        micros(floor)
    ));
    Ok(())
}

fn row(name: &str, size: u32, ours: &Figures, bare: &Figures, raw: Option<Duration>) {
    let raw = raw.map_or_else(|| "-".to_owned(), |time| format!("{:.0}", micros(time)));
    say(&format!(
        "{:<10} {:>7}  {:>12.0} {:>12.0} {:>6.2}  {:>10.0} {:>10.0} {:>6.2}  {:>12}",
        name,
        size,
        ours.per_second,
        bare.per_second,
        ours.per_second / bare.per_second,
        micros(ours.median),
        micros(bare.median),
        micros(ours.median) / micros(bare.median),
        raw
    ));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn say(line: &str) {
    println!("{line}");
}
