//! The suite bites: faults are planted between a real frontend and the wire, without building anything anew, and the
//! suite must find each of them. A suite that passes whatever is answered would pass here, too, and so fail.
//!
//! Faults that keep a scenario waiting for what never comes are left to the time limits of scenarios: none is planted
//! where the scenarios wait.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

mod faults;
#[path = "../site/mod.rs"]
mod site;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use babelvisor_conformance::runner::{self, Library, Options, Report, summary};
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_schemas::{Dialect, contract};
use babelvisor_server::{Limits, Listener, Mount, Server, ServerConfig};
use faults::{Fault, GAPS, Plant, faults};
use serde_json::{Value, json};
use site::Site;
use tokio::task::JoinSet;

/// How many faults are looked for at a time.
const AT_ONCE: usize = 3;

/// A frontend with a fault.
struct Mutant {
    inner: Arc<dyn Frontend>,
    fault: Option<Fault>,
    /// How often the fault changed something.
    struck: Arc<AtomicU32>,
}

#[async_trait]
impl Frontend for Mutant {
    fn dialect(&self) -> &'static str {
        self.inner.dialect()
    }

    async fn answer(&self, routed: Routed, mut request: Request) -> Reply {
        let operation = routed.operations.first().copied().unwrap_or_default();
        let Some(fault) = self.fault.filter(|fault| fault.operation == operation) else {
            return self.inner.answer(routed, request).await;
        };
        let mut struck = false;
        if let Plant::Request(alter) = fault.plant {
            struck = alter(&mut request);
        }
        let mut reply = self.inner.answer(routed, request).await;
        match fault.plant {
            Plant::Request(_) => {}
            Plant::Reply(alter) => struck = alter(&mut reply),
            Plant::Body(alter) => {
                let before: Value = serde_json::from_slice(&reply.body).unwrap();
                let mut body = before.clone();
                alter(&mut body);
                struck = body != before;
                reply.body = serde_json::to_vec(&body).unwrap().into();
            }
        }
        self.struck.fetch_add(u32::from(struck), Ordering::Relaxed);
        reply
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Reply {
        self.inner.refuse(refusal, request)
    }
}

/// Runs the suite against a dialect with a fault. The report, and how often the fault struck.
async fn run(dialect: Dialect, fault: Option<Fault>) -> (Report, u32) {
    let site = Site::empty().await;
    let struck = Arc::new(AtomicU32::new(0));
    let mutant = Mutant {
        inner: site.shared(dialect),
        fault,
        struck: struck.clone(),
    };
    let listener = Listener {
        addresses: vec!["127.0.0.1:0".parse().unwrap()],
        tls: None,
        mounts: vec![Mount::from_contract(dialect, Arc::new(mutant))],
    };
    let server = Server::bind(ServerConfig {
        listeners: vec![listener],
        limits: Limits::default(),
    })
    .await
    .unwrap();
    let address = server.local_addrs()[0];
    let serving = tokio::spawn(server.run(std::future::pending()));
    let mut facts = runner::Site::default();
    let known = json!({"names_replaced": true, "pages_required": true});
    facts.vars.extend(known.as_object().unwrap().clone());
    let options = Options {
        site: facts,
        ..Options::new(format!("http://{address}"))
    };
    let report = runner::run(Library::built_in(dialect).unwrap(), options, |_| {})
        .await
        .unwrap();
    serving.abort();
    (report, struck.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_fault_nothing_is_found() {
    for dialect in [Dialect::GuestRest, Dialect::PveOpen] {
        let (report, _) = run(dialect, None).await;
        assert!(report.passed(), "{}", summary(&report, false));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_planted_fault_is_found_but_for_the_known_gaps() {
    let mut waiting = faults();
    let mut running = JoinSet::new();
    let (mut idle, mut missed) = (Vec::new(), BTreeSet::new());
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < AT_ONCE
            && let Some(fault) = waiting.pop()
        {
            running.spawn(async move {
                let begun = Instant::now();
                let (report, struck) = run(fault.dialect, Some(fault)).await;
                (fault, report.passed(), struck, begun.elapsed())
            });
        }
        let (fault, passed, struck, took) = running.join_next().await.unwrap().unwrap();
        println!(
            "{} ({}): {} after {struck} strikes, {took:.1?}",
            fault.name,
            fault.operation,
            if passed { "missed" } else { "found" }
        );
        if struck == 0 {
            idle.push(fault.name);
        }
        if passed {
            missed.insert(fault.name);
        }
    }
    assert!(idle.is_empty(), "these never struck: {idle:?}");
    let gaps: BTreeSet<&str> = GAPS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        missed, gaps,
        "left: missed now; right: what is known to be missed"
    );
}

#[test]
fn there_are_enough_faults_and_each_is_another() {
    let faults = faults();
    let names: BTreeSet<&str> = faults.iter().map(|fault| fault.name).collect();
    assert_eq!(names.len(), faults.len());
    assert!(faults.len() >= GAPS.len() + 20, "{}", faults.len());
    for fault in &faults {
        let operation = contract(fault.dialect).operation(fault.operation);
        assert!(
            operation.is_some_and(|operation| operation.built),
            "{}",
            fault.name
        );
    }
}
