//! From a backend to a report: preparation, the checks, each with its time and its cleaning, and a last look.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use babelvisor_core::backend::{Backend, CallContext};
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{NicSource, Timestamp, VmFacts, VmId};
use babelvisor_core::secret::Keyring;
use babelvisor_core::{Error, Result};
use tokio::task::JoinSet;

use super::bench::{Bench, Kit, lasting};
use super::checks::{self, Check};
use super::config::KitConfig;
use super::report::{CapabilityReport, CheckReport, Outcome, Report};
use super::verdict::Stop;

/// The name of the last look.
pub(crate) const LAST: &str = "kit::leaves_everything_as_it_was";

/// Judges `backend`.
///
/// It is used, not watched: VMs and volumes are made, changed and removed on it, all of them with names that begin
/// with `kit-`. Nothing else is touched.
///
/// # Errors
/// When the backend cannot be reached at all; everything else is in the report.
pub async fn run(backend: Arc<dyn Backend>, config: KitConfig) -> Result<Report> {
    let began = Timestamp::now();
    let start = Instant::now();
    let kit = prepare(backend, config).await?;
    let mut queue = checks::all(&kit).into_iter().map(Arc::new).enumerate();
    let mut running = JoinSet::new();
    let mut reports = Vec::new();
    loop {
        while running.len() < kit.config.parallel.max(1)
            && let Some((place, check)) = queue.next()
        {
            if !selected(&kit, &check.name) {
                continue;
            }
            let kit = Arc::clone(&kit);
            running.spawn(async move { (place, run_check(&kit, &check).await) });
        }
        match running.join_next().await {
            Some(Ok(report)) => reports.push(report),
            // A check that panics is caught in it; only a runtime that is shut down can end up here.
            Some(Err(_)) => {}
            None => break,
        }
    }
    reports.sort_by_key(|(place, _)| *place);
    let mut reports: Vec<CheckReport> = reports.into_iter().map(|(_, report)| report).collect();
    reports.push(last_look(&kit).await);
    Ok(report(&kit, began, start.elapsed(), reports))
}

/// Puts a report together.
pub(crate) fn report(kit: &Kit, began: Timestamp, took: Duration, checks: Vec<CheckReport>) -> Report {
    let capabilities = kit
        .capabilities
        .iter()
        .map(|(capability, support)| {
            let count = |word: &str| {
                checks
                    .iter()
                    .filter(|check| check.outcome.word() == word)
                    .filter(|check| check.needs.iter().any(|need| need == capability.as_ref()))
                    .count()
            };
            CapabilityReport {
                name: capability.as_ref().to_owned(),
                declared: support.word().to_owned(),
                reason: support.reason().map(ToOwned::to_owned),
                usable: support.usable(),
                passed: count("ok"),
                failed: count("FAILED"),
            }
        })
        .collect();
    Report {
        backend: kit.backend.id().to_string(),
        kind: kit.backend.kind().to_owned(),
        kit: env!("CARGO_PKG_VERSION").to_owned(),
        began: began.to_string(),
        milliseconds: millis(took),
        capabilities,
        checks,
    }
}

fn selected(kit: &Kit, name: &str) -> bool {
    kit.config
        .filter
        .as_deref()
        .is_none_or(|filter| name.contains(filter))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Waits for the connection, finds the pool, remembers who was there.
pub(crate) async fn prepare(backend: Arc<dyn Backend>, config: KitConfig) -> Result<Arc<Kit>> {
    let keyring = Arc::new(Keyring::ephemeral());
    let deadline = Instant::now() + config.call_time();
    let call = || CallContext::plain(deadline, Arc::clone(&keyring));
    let before = loop {
        match backend.list(&call()).await {
            Ok(all) => break all,
            Err(error) if error.kind == babelvisor_core::ErrorKind::Unsupported => break Vec::new(),
            Err(error) if !error.retryable() || Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    // Asked only now: what a connection can do may depend on who answers.
    let capabilities = backend.capabilities();
    let (mut pool, mut nic) = (config.pool.clone(), config.nic.clone());
    if capabilities.get(Capability::TopologyList).usable() {
        let topology = backend.topology(&call()).await?;
        nic = nic.or_else(|| {
            let first = topology.networks.into_iter().find(|network| network.active);
            first.map(|network| NicSource::Network(network.name))
        });
        let pools = topology.pools;
        if let Some(named) = &pool
            && !pools.iter().any(|pool| pool.name == *named && pool.active)
        {
            return Err(Error::not_found("active pool", named));
        }
        pool = pool.or_else(|| {
            let first = pools.into_iter().find(|pool| pool.active);
            first.map(|pool| pool.name)
        });
    }
    Ok(Arc::new(Kit {
        backend,
        config,
        capabilities,
        pool,
        nic: nic.unwrap_or(NicSource::User),
        keyring,
        tag: VmId::random().simple().chars().take(8).collect(),
        counter: AtomicU64::new(1),
        before,
    }))
}

/// Runs one check, within its time, and removes what it made.
pub(crate) async fn run_check(kit: &Arc<Kit>, check: &Arc<Check>) -> CheckReport {
    let start = Instant::now();
    let (outcome, left_behind) = match check.skipped(kit) {
        Some(reason) => (Outcome::Skipped(reason), Vec::new()),
        None => {
            let bench = Bench::new(kit);
            let judged = judge(kit, check, &bench).await;
            let left = bench.clean().await;
            (with_known(kit, &check.name, with_left(judged, &left)), left)
        }
    };
    CheckReport {
        name: check.name.clone(),
        rule: check.rule.to_owned(),
        needs: check.needs.iter().map(|need| need.as_ref().to_owned()).collect(),
        outcome,
        milliseconds: millis(start.elapsed()),
        left_behind,
        reproduce: kit.config.reproduce(&check.name),
    }
}

async fn judge(kit: &Kit, check: &Check, bench: &Arc<Bench>) -> Outcome {
    // A task of its own: a backend that panics fails the check, not the run.
    let mut task = tokio::spawn((check.run)(Arc::clone(bench)));
    let time = Duration::from_millis(kit.config.bounds.check);
    match tokio::time::timeout(time, &mut task).await {
        Ok(Ok(Ok(()))) => Outcome::Passed,
        Ok(Ok(Err(Stop::Failed(reason)))) => Outcome::Failed(reason),
        Ok(Ok(Err(Stop::Skipped(reason)))) => Outcome::Skipped(reason),
        Ok(Err(error)) => Outcome::Failed(format!("the backend panicked: {error}")),
        Err(_) => {
            task.abort();
            Outcome::Failed(format!("the check did not end within {} ms", millis(time)))
        }
    }
}

fn with_left(outcome: Outcome, left: &[String]) -> Outcome {
    match outcome {
        Outcome::Passed if !left.is_empty() => {
            Outcome::Failed(format!("what it made could not be removed: {}", left.join(", ")))
        }
        other => other,
    }
}

fn with_known(kit: &Kit, name: &str, outcome: Outcome) -> Outcome {
    match (kit.config.known.get(name), outcome) {
        (Some(reason), Outcome::Failed(found)) => Outcome::Known(format!("{reason}; found: {found}")),
        (Some(reason), Outcome::Passed) => Outcome::Failed(format!(
            "it holds, but stands on the list of known divergences ({reason}): take it off"
        )),
        (_, outcome) => outcome,
    }
}

/// Whether everything is as it was before the run.
pub(crate) async fn last_look(kit: &Arc<Kit>) -> CheckReport {
    let start = Instant::now();
    let outcome = if kit.has(Capability::VmList) {
        let bench = Bench::new(kit);
        match bench.list().await {
            Ok(after) => match compare(kit, &after) {
                None => Outcome::Passed,
                Some(difference) => Outcome::Failed(difference),
            },
            Err(Stop::Failed(reason)) => Outcome::Failed(reason),
            Err(Stop::Skipped(reason)) => Outcome::Skipped(reason),
        }
    } else {
        Outcome::Skipped("without vm.list nobody can tell".to_owned())
    };
    CheckReport {
        name: LAST.to_owned(),
        rule: "what the kit makes it removes, and nothing else is touched".to_owned(),
        needs: vec![Capability::VmList.as_ref().to_owned()],
        outcome: with_known(kit, LAST, outcome),
        milliseconds: millis(start.elapsed()),
        left_behind: Vec::new(),
        reproduce: kit.config.reproduce(""),
    }
}

fn compare(kit: &Kit, after: &[VmFacts]) -> Option<String> {
    let prefix = format!("kit-{}-", kit.tag);
    if let Some(left) = after.iter().find(|facts| facts.name.starts_with(&prefix)) {
        return Some(format!("vm {} ({}) is still there", left.name, left.id));
    }
    if !kit.config.exclusive {
        return None;
    }
    for was in &kit.before {
        match after.iter().find(|facts| facts.id == was.id) {
            None => {
                return Some(format!(
                    "vm {} ({}) was there before and is gone",
                    was.name, was.id
                ));
            }
            Some(is) if lasting(is) != lasting(was) => {
                return Some(format!("vm {} ({}) is not as it was before", was.name, was.id));
            }
            Some(_) => {}
        }
    }
    let new = after
        .iter()
        .find(|facts| !kit.before.iter().any(|was| was.id == facts.id))?;
    Some(format!(
        "vm {} ({}) was not there before; is somebody else at work here (exclusive = false)?",
        new.name, new.id
    ))
}
