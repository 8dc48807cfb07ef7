//! The runner: scenarios over plain HTTP, against the gateway or against the system that a dialect comes from.
//!
//! It knows a dialect's contract and nothing of the gateway's insides. Every request is held against what the dialect
//! takes, every answer against what its document promises, besides what the scenario expects.
//!
//! ```text
//! library (YAML) ─▶ stage ─▶ scenarios, parallel where they allow ─▶ report ─▶ JSON, JUnit, HTML, terminal
//!                     ▲            ▲                                   ▲
//!              site: what is there ╰ sessions: signed in once    covers: what is proved, what is left
//! ```

mod asked;
mod client;
mod contracts;
mod corpus;
mod covers;
mod diff;
mod example;
mod exchange;
mod exec;
mod html;
mod junit;
mod library;
mod mask;
mod path;
mod predicate;
mod record;
mod report;
mod scenario;
mod session;
mod site;
mod summary;
mod vars;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use client::Address;
pub use corpus::{Claim, claims};
pub use covers::Coverage;
pub use diff::{Difference, DifferenceKind};
pub use html::html;
pub use junit::junit;
pub use library::{Library, LibraryError};
pub use predicate::PREDICATES;
pub use report::{Exchange, OperationLine, Outcome, Report, ScenarioReport, StepReport, Totals};
pub use scenario::Target;
pub use site::Site;
pub use summary::summary;

/// What a run shall do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to send.
    pub target: String,
    /// What stands there.
    pub kind: Target,
    /// What to call the run in reports.
    pub label: String,
    /// Only scenarios whose name or `covers` contain one of these; all where empty.
    pub filters: Vec<String>,
    /// Only scenarios that say `short: true`.
    pub short: bool,
    /// How many scenarios may run at once.
    pub parallel: usize,
    /// What is there.
    pub site: Site,
}

impl Options {
    /// A run against a gateway, of all scenarios.
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            kind: Target::Gateway,
            label: String::new(),
            filters: Vec::new(),
            short: false,
            parallel: 8,
            site: Site::default(),
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The address is none, or nothing answers there.
    #[error("{0}")]
    Target(String),
    /// No scenario fits the filters.
    #[error("no scenario fits {}", .0.join(", "))]
    Nothing(Vec<String>),
    /// The dialect's catalogue cannot be read.
    #[error("{0}")]
    Catalogue(String),
}

/// How far a run is: told after each scenario.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'r> {
    /// How many have ended.
    pub done: usize,
    /// How many there are.
    pub of: usize,
    /// The one that just ended.
    pub last: &'r ScenarioReport,
}

/// Runs the scenarios of `library`; `told` hears of each that ended.
///
/// Those that may run beside others go first, [`Options::parallel`] at a time; the exclusive ones follow one by one.
///
/// # Errors
/// When nothing was run. Scenarios that fail are in the report.
pub async fn run(
    library: Library,
    options: Options,
    mut told: impl FnMut(Progress<'_>),
) -> Result<Report, RunError> {
    let started = jiff::Timestamp::now();
    let clock = std::time::Instant::now();
    let coverage = Coverage::of(&library).map_err(RunError::Catalogue)?;
    let examples = corpus::examples(library.dialect).map_err(RunError::Catalogue)?;
    let wanted: Vec<usize> = library
        .scenarios
        .iter()
        .enumerate()
        .filter(|(_, named)| (named.scenario.short || !options.short) && fits(named, &options.filters))
        .map(|(place, _)| place)
        .collect();
    if wanted.is_empty() {
        return Err(RunError::Nothing(options.filters));
    }
    let address = Address::resolve(&options.target)
        .await
        .map_err(RunError::Target)?;
    address.reachable().await.map_err(RunError::Target)?;
    let dialect = library.dialect;
    let stage = Arc::new(exec::Stage {
        address,
        kind: options.kind,
        site: options.site,
        sessions: session::Sessions::of(&library),
        library,
        examples,
    });
    let mut scenarios = play(&stage, &wanted, options.parallel, &mut told).await;
    scenarios.extend(stage.sessions.end(&stage).await);
    let (totals, operations) = Report::tally(&scenarios);
    Ok(Report {
        format: 1,
        label: options.label,
        target: options.target,
        kind: options.kind,
        dialect: dialect.name().to_owned(),
        started: started.to_string(),
        seconds: clock.elapsed().as_secs_f64(),
        totals,
        operations,
        scenarios,
        coverage,
    })
}

async fn play(
    stage: &Arc<exec::Stage>,
    wanted: &[usize],
    parallel: usize,
    told: &mut impl FnMut(Progress<'_>),
) -> Vec<ScenarioReport> {
    let exclusive = |place: &usize| {
        let named = stage.library.scenarios.get(*place);
        named.is_some_and(|named| stage.exclusive(named))
    };
    let (alone, beside): (Vec<usize>, Vec<usize>) = wanted.iter().partition(|place| exclusive(place));
    let mut reports = Vec::with_capacity(wanted.len());
    let of = wanted.len();
    let mut ended = |report: ScenarioReport, reports: &mut Vec<ScenarioReport>| {
        reports.push(report);
        if let Some(last) = reports.last() {
            told(Progress {
                done: reports.len(),
                of,
                last,
            });
        }
    };
    let gate = Arc::new(Semaphore::new(parallel.max(1)));
    let mut running = JoinSet::new();
    for place in beside {
        let (stage, gate) = (Arc::clone(stage), Arc::clone(&gate));
        running.spawn(async move {
            let _place = gate.acquire_owned().await.ok()?;
            Some(stage.run(stage.library.scenarios.get(place)?).await)
        });
    }
    while let Some(joined) = running.join_next().await {
        if let Ok(Some(report)) = joined {
            ended(report, &mut reports);
        }
    }
    for place in alone {
        if let Some(named) = stage.library.scenarios.get(place) {
            let report = stage.run(named).await;
            ended(report, &mut reports);
        }
    }
    for named in wanted
        .iter()
        .filter_map(|place| stage.library.scenarios.get(*place))
    {
        if !reports.iter().any(|report| report.name == named.name) {
            ended(exec::Stage::cut_off(named), &mut reports);
        }
    }
    reports.sort_by(|one, other| one.name.cmp(&other.name));
    reports
}

fn fits(named: &library::Named, filters: &[String]) -> bool {
    let covers = covers::covers_of(&named.scenario);
    filters.is_empty()
        || filters.iter().any(|filter| {
            named.name.contains(filter.as_str()) || covers.iter().any(|id| id.contains(filter.as_str()))
        })
}
