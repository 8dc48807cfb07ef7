//! `babelvisor-bench`: what the gateway costs, beside floors that no gateway can go below.
//!
//! For each size it starts a private libvirtd with that many domains in libvirt's test driver (real RPC, no guests), the
//! gateway's binary on it, and a bare hyper server that returns the same bytes. Gateway and bare server get the same
//! load in turns; raw libvirt calls are timed on a connection of their own. A second part takes jobs on the memory
//! backend, with both stores. The machine decides the absolute numbers, so what counts is the ratio.

mod bare;
mod changes;
mod client;
mod dialects;
mod figures;
mod load;
mod raw;
mod server;
mod stores;

use babelvisor_conformance::testbed::{Gateway, Libvirtd, Redis};
use changes::{freshness, power, wait_for_total};
use client::Client;
use figures::{Goal, Row, Table, Unit, micros, millis};
use load::Target;
use raw::Raw;
use server::Programs;
use std::path::Path;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SIZES: [u32; 3] = [10, 1_000, 10_000];
/// One turn of load; there are three of each side.
const TURN: Duration = Duration::from_millis(500);
/// Guests of the part about jobs.
const JOB_GUESTS: u32 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["bare", address, body] => bare::serve(address.parse()?, std::fs::read(body)?).await,
        [gateway] => compare(Path::new(gateway), &SIZES).await,
        [gateway, sizes] => {
            let sizes: Result<Vec<u32>, _> = sizes.split(',').map(str::parse).collect();
            compare(Path::new(gateway), &sizes?).await
        }
        _ => Err("usage: babelvisor-bench PATH_OF_BABELVISOR [SIZE,SIZE...]".into()),
    }
}

async fn compare(gateway: &Path, sizes: &[u32]) -> Outcome<()> {
    let programs = Programs::new(gateway)?;
    let mut table = Table::begin();
    let mut smallest = None;
    for &size in sizes {
        with_libvirt(&mut table, &programs, size, &mut smallest).await?;
    }
    with_memory(&mut table, &programs).await?;
    table.end();
    Ok(())
}

/// Size and memory of the first gateway that was measured: what the others hold more is for their VMs.
type Smallest = Option<(u32, f64)>;

async fn with_libvirt(
    table: &mut Table,
    programs: &Programs,
    size: u32,
    smallest: &mut Smallest,
) -> Outcome<()> {
    let libvirtd = Libvirtd::start()?;
    let raw = Raw::open(libvirtd.uri_test())?;
    let victim = raw.fill(size)?;
    let refresh = raw.time_refresh()?;
    let config = format!(
        "[[backend]]\nid = \"one\"\nkind = \"libvirt\"\nuri = \"{}\"\n",
        libvirtd.uri_test()
    );
    let started = Instant::now();
    let mut gateway = programs.gateway(&config)?;
    wait_for_total(gateway.address(), u64::from(size)).await?;
    table.row(&Row {
        what: "start to all VMs listed",
        size,
        unit: Unit::Millis,
        ours: millis(started.elapsed()),
        floor: Some(("raw refresh with XML", millis(refresh))),
        // A start of a process cannot be held against a refresh of ten domains.
        goal: if size < 10_000 {
            Goal::None
        } else {
            Goal::AtMost(1.2)
        },
    });
    let ours = Target {
        address: gateway.address(),
        pid: gateway.process().pid(),
    };
    let held = server::resident(ours.pid)?;
    let (least, base) = *smallest.get_or_insert((size, held));
    memory(
        table,
        "memory per VM",
        size,
        (held - base, least),
        Goal::AtMost(10.0),
    );
    reads(table, programs, ours, &raw, &victim, size).await?;
    dialects::reads(table, programs, ours, &victim, size).await?;
    let held = server::resident(ours.pid)?;
    memory(
        table,
        "memory per VM, after all reads",
        size,
        (held - base, least),
        Goal::None,
    );
    let both = power(ours.address, std::slice::from_ref(&victim), 50, |guest, on| {
        raw.agrees(guest, on)
    })
    .await?;
    table.row(&Row {
        what: "stop or start, until seen in a GET",
        size,
        unit: Unit::Micros,
        ours: micros(both.seen),
        floor: Some(("raw destroy or create", micros(raw.time_power(&victim)? / 2))),
        goal: Goal::None,
    });
    // An answer that was quick and wrong does not count.
    table.row(&Row {
        what: "of these 100, seen but not so",
        size,
        unit: Unit::Times,
        ours: f64::from(both.wrong),
        floor: None,
        goal: Goal::AtMost(0.0),
    });
    let (median, late) = freshness(ours.address, &raw, &victim).await?;
    for (what, time, goal) in [
        ("change past the gateway until seen, p50", median, 1.0),
        ("change past the gateway until seen, p99", late, 5.0),
    ] {
        table.row(&Row {
            what,
            size,
            unit: Unit::Millis,
            ours: millis(time),
            floor: None,
            goal: Goal::AtMost(goal),
        });
    }
    Ok(())
}

/// What a gateway holds more than the smallest one, for each VM more.
fn memory(table: &mut Table, what: &str, size: u32, (more, least): (f64, u32), goal: Goal) {
    if size > least {
        table.row(&Row {
            what,
            size,
            unit: Unit::Kilobytes,
            ours: more / f64::from(size - least),
            floor: None,
            goal,
        });
    }
}

/// One guest, fifty, and all of them.
async fn reads(
    table: &mut Table,
    programs: &Programs,
    ours: Target,
    raw: &Raw,
    victim: &str,
    size: u32,
) -> Outcome<()> {
    let lists = |most: u32| format!("/api/guests?page=1&page_size={most}");
    let kinds = [
        (
            "get one",
            format!("/api/guest/{victim}"),
            0.5,
            raw.time_one(victim)?,
        ),
        ("list 50", lists(50), 0.5, raw.time_list(50)?),
        (
            "list all",
            lists(size),
            if size < 1_000 { 0.5 } else { 0.25 },
            raw.time_list(usize::MAX)?,
        ),
    ];
    for (name, path, least, call) in kinds {
        let body = Client::connect(ours.address).await?.call("GET", &path).await?;
        let bare = programs.bare(&body)?;
        let (left, right) = load::both(ours, bare.target, &path, 8, TURN).await?;
        table.row(&Row {
            what: &format!("{name}, 8 connections, {} B", body.len()),
            size,
            unit: Unit::PerSecond,
            ours: left.per_second,
            floor: Some(("bare hyper", right.per_second)),
            goal: Goal::AtLeast(least),
        });
        table.row(&Row {
            what: &format!("{name}, processor time each"),
            size,
            unit: Unit::Micros,
            ours: micros(left.cpu),
            floor: Some(("bare hyper", micros(right.cpu))),
            goal: if name == "get one" {
                Goal::AtMost(2.0)
            } else {
                Goal::None
            },
        });
        let (left, right) = load::both(ours, bare.target, &path, 1, TURN / 2).await?;
        let row = |floor, goal| Row {
            what: "",
            size,
            unit: Unit::Micros,
            ours: micros(left.median),
            floor: Some(floor),
            goal,
        };
        let what = format!("{name}, alone, p50");
        let goal = if name == "get one" {
            Goal::AtMost(1.5)
        } else {
            Goal::None
        };
        table.row(&Row {
            what: &what,
            ..row(("bare hyper", micros(right.median)), goal)
        });
        table.row(&Row {
            what: &what,
            ..row(("raw libvirt", micros(call)), Goal::None)
        });
        if name == "get one" {
            let (left, right) = load::both(ours, bare.target, &path, 64, TURN).await?;
            table.row(&Row {
                what: &format!("{name}, 64 connections, p99"),
                size,
                unit: Unit::Micros,
                ours: micros(left.p99),
                floor: Some(("bare hyper", micros(right.p99))),
                goal: Goal::AtMost(3.0),
            });
        }
    }
    Ok(())
}

async fn with_memory(table: &mut Table, programs: &Programs) -> Outcome<()> {
    let backend = format!("[[backend]]\nid = \"one\"\nkind = \"memory\"\nvms = {JOB_GUESTS}\n");
    let gateway = programs.gateway(&backend)?;
    let answer = answer_time(programs, &gateway).await?;
    let disk = stores::disk(gateway.state_dir())?;
    let floor = ("hyper + a page on disk", answer + disk);
    changes::jobs(table, "embedded", gateway.address(), JOB_GUESTS, floor, None).await?;
    drop(gateway);
    let redis = Redis::start_with(&[("appendonly", "yes"), ("maxmemory-policy", "noeviction")])?;
    let config = format!("{backend}[store]\nkind = \"redis\"\nurl = \"{}\"\n", redis.url());
    let gateway = programs.gateway(&config)?;
    let floor = ("hyper + a pipeline", answer + stores::redis(redis.address())?);
    changes::jobs(table, "Redis", gateway.address(), JOB_GUESTS, floor, Some(70.0)).await
}

/// What an answer of a guest's size costs a bare server.
async fn answer_time(programs: &Programs, gateway: &Gateway) -> Outcome<Duration> {
    wait_for_total(gateway.address(), u64::from(JOB_GUESTS)).await?;
    let bare = programs.bare(&[b'x'; 700])?;
    let (figures, _) = load::both(bare.target, bare.target, "/", 1, TURN / 2).await?;
    Ok(figures.median)
}
