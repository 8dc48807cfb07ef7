//! A run and the ledger: from reports to cells, and from cells to what has turned grey since the ledger was written.

use std::collections::{BTreeMap, BTreeSet};

use babelvisor_conformance::runner::{Outcome, Report};
use babelvisor_schemas::Dialect;
use serde_json::Value;

use super::evidence::Evidence;
use super::setup::Setup;

/// The ledger as it is tracked.
const TRACKED: &str = include_str!("../../../conformance/evidence.json");

/// What the run made of one operation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// How many answers were good ones.
    pub good: usize,
    /// Whether a scenario that called it failed.
    pub failed: bool,
    /// The first report with a good answer.
    pub report: Option<String>,
}

impl Cell {
    /// It was called with a good answer, and all who called it passed.
    pub fn verified(&self) -> bool {
        self.good > 0 && !self.failed
    }
}

/// Dialect and operation → what the run made of it.
pub type Cells = BTreeMap<(String, String), Cell>;

/// The file name of a report, without the ending.
pub fn file_name(report: &Report) -> String {
    format!("{}-{}", report.label, report.dialect)
        .replace(", ", "-")
        .replace([' ', '+'], "-")
}

/// The cells that the reports of one set-up make together.
pub fn cells<'r>(reports: impl IntoIterator<Item = &'r Report>) -> Cells {
    let mut cells = Cells::new();
    for report in reports {
        for (id, line) in &report.operations {
            let cell = cells.entry((report.dialect.clone(), id.clone())).or_default();
            cell.good += line.good;
            // A scenario that was broken off is no proof either.
            cell.failed |= report
                .scenarios
                .iter()
                .any(|one| one.outcome == Outcome::Failed && line.failed.contains(&one.name));
            if line.good > 0 && cell.report.is_none() {
                cell.report = Some(format!("{}.html", file_name(report)));
            }
        }
    }
    cells
}

/// What `tracked` shows that `run` has verified on this set-up, and that is not among `verified` now.
///
/// A run is held only to what the same run has verified: that another test can sign in says nothing of scenarios
/// that are not told an account.
pub fn turned_grey(
    tracked: &Value,
    run: &str,
    (backend, setup): (&str, &str),
    verified: &BTreeSet<(String, String)>,
) -> Vec<String> {
    let mut grey = Vec::new();
    for (dialect, operations) in tracked.as_object().unwrap() {
        for (id, backends) in operations.as_object().unwrap() {
            let runs = backends[backend].as_array().into_iter().flatten();
            let was = runs
                .into_iter()
                .any(|seen| seen["setup"] == setup && seen["run"] == run);
            if was && !verified.contains(&(dialect.clone(), id.clone())) {
                grey.push(format!("{dialect} {id}"));
            }
        }
    }
    grey
}

/// Refuses a run that no longer verifies what the tracked ledger shows of it; `part`: of that dialect only.
pub fn hold(run: &str, part: Option<&str>, setup: &Setup, verified: &BTreeSet<(String, String)>) {
    let mut tracked: Value = serde_json::from_str(TRACKED).unwrap();
    if let Some(dialect) = part {
        tracked.as_object_mut().unwrap().retain(|name, _| name == dialect);
    }
    let grey = turned_grey(&tracked, run, (setup.backend(), setup.name()), verified);
    assert!(
        grey.is_empty(),
        "{run} has verified these on {}, says conformance/evidence.json, and does not any more: {grey:?}; \
         if that is meant: make conformance",
        setup.name()
    );
}

/// Puts what the reports of one set-up verify of a dialect into the ledger, or holds it against it.
pub fn settle(setup: &Setup, dialect: Dialect, reports: &[Report]) {
    let mut evidence = Evidence::part("conformance", dialect.name());
    let reports = reports.iter().filter(|report| report.dialect == dialect.name());
    for ((dialect, id), cell) in cells(reports).iter().filter(|(_, cell)| cell.verified()) {
        evidence.saw_in(dialect, id, cell.report.as_deref());
    }
    evidence.settle(setup);
}
