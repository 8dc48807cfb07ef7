//! What a run found, as data; every other form of a report is made from this one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::covers::Coverage;
use super::diff::Difference;
use super::scenario::Target;

/// How a scenario went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All that it expects held.
    Passed,
    /// Something did not hold.
    Failed,
    /// It was not run; the reason says why.
    Skipped,
}

impl Outcome {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
        }
    }
}

/// One run against one target.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of this layout.
    pub format: u32,
    /// What the caller calls the run.
    pub label: String,
    /// The address.
    pub target: String,
    /// What stands there.
    pub kind: Target,
    /// The dialect.
    pub dialect: String,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// Counts by outcome.
    pub totals: Totals,
    /// Operation → what was sent to it.
    pub operations: BTreeMap<String, OperationLine>,
    /// Every scenario, in the order of their names.
    pub scenarios: Vec<ScenarioReport>,
    /// How the claims stand, by the scenarios that exist.
    pub coverage: Coverage,
}

/// Counts by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Scenarios that passed.
    pub passed: usize,
    /// Scenarios that failed.
    pub failed: usize,
    /// Scenarios that were not run.
    pub skipped: usize,
}

/// What a run sent to one operation.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OperationLine {
    /// Exchanges.
    pub calls: usize,
    /// Good answers among them.
    pub good: usize,
    /// Scenarios that sent something to it and passed.
    pub passed: Vec<String>,
    /// Scenarios that sent something to it and failed.
    pub failed: Vec<String>,
}

/// One scenario.
#[derive(Debug, Clone, Serialize)]
pub struct ScenarioReport {
    /// Its name: the file's, without `.yaml`.
    pub name: String,
    /// Its file.
    pub file: String,
    /// What it is about.
    pub desc: String,
    /// What it proves.
    pub covers: Vec<String>,
    /// How it went.
    pub outcome: Outcome,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// Its steps as far as they were run.
    pub steps: Vec<StepReport>,
}

/// One step, or one pass of a step that is repeated for several values.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// `setup`, `steps` or `cleanup`.
    pub phase: &'static str,
    /// File and line.
    pub place: String,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The operation that it reached.
    pub operation: Option<String>,
    /// The operation that was asked how far its work is, where it was.
    pub polled: Option<String>,
    /// Whether the answer was a good one.
    pub good: bool,
    /// What was sent and what came; bodies only where something failed.
    pub exchange: Option<Exchange>,
    /// What does not fit the contract, and what could not be done.
    pub problems: Vec<String>,
    /// What is not as expected.
    pub differences: Vec<Difference>,
    /// Why it was not run.
    pub skipped: Option<String>,
}

impl StepReport {
    /// Whether something did not hold.
    pub fn failed(&self) -> bool {
        !self.problems.is_empty() || !self.differences.is_empty()
    }
}

/// One exchange, secrets hidden.
#[derive(Debug, Clone, Serialize)]
pub struct Exchange {
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// The body that was sent.
    pub request: Option<String>,
    /// The HTTP status; 0 if no answer came.
    pub status: u16,
    /// The body that came.
    pub answer: Option<String>,
    /// How long it took.
    pub milliseconds: u64,
}

impl Report {
    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.totals.failed == 0
    }

    /// The report as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
    }

    /// Counts and operations from the scenarios.
    pub(crate) fn tally(scenarios: &[ScenarioReport]) -> (Totals, BTreeMap<String, OperationLine>) {
        let mut totals = Totals::default();
        let mut operations: BTreeMap<String, OperationLine> = BTreeMap::new();
        for scenario in scenarios {
            match scenario.outcome {
                Outcome::Passed => totals.passed += 1,
                Outcome::Failed => totals.failed += 1,
                Outcome::Skipped => totals.skipped += 1,
            }
            for step in &scenario.steps {
                for id in step.operation.iter().chain(&step.polled) {
                    let line = operations.entry(id.clone()).or_default();
                    line.calls += 1;
                    line.good += usize::from(step.good);
                    let names = match scenario.outcome {
                        Outcome::Passed => &mut line.passed,
                        Outcome::Failed | Outcome::Skipped => &mut line.failed,
                    };
                    if !names.contains(&scenario.name) {
                        names.push(scenario.name.clone());
                    }
                }
            }
        }
        (totals, operations)
    }
}
