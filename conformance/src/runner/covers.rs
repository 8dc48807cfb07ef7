//! Which claims scenarios prove, which cannot be proved over HTTP, and which are left: the baseline, which only shrinks.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::corpus::{self, Claim};
use super::library::Library;

/// How the claims of a dialect stand.
#[derive(Debug, Clone, Serialize)]
pub struct Coverage {
    /// Proved by a scenario: id → names of scenarios.
    pub covered: BTreeMap<String, Vec<String>>,
    /// Not provable over HTTP: id → reason.
    pub untestable: BTreeMap<String, String>,
    /// Claims about built operations that nobody proves: these must be none.
    pub open: Vec<String>,
    /// Claims about operations that are not built yet: the baseline.
    pub baseline: Vec<String>,
    /// Names in `covers` or in the list of the untestable that are no claim, or that contradict each other.
    pub wrong: Vec<String>,
}

impl Coverage {
    /// Compares the scenarios with the claims.
    ///
    /// # Errors
    /// A catalogue that cannot be read.
    pub fn of(library: &Library) -> Result<Coverage, String> {
        let claims = corpus::claims(library.dialect)?;
        let known: BTreeMap<&str, &Claim> = claims.iter().map(|claim| (claim.id.as_str(), claim)).collect();
        let mut coverage = Coverage {
            covered: BTreeMap::new(),
            untestable: library.untestable.clone(),
            open: Vec::new(),
            baseline: Vec::new(),
            wrong: Vec::new(),
        };
        for named in &library.scenarios {
            for id in covers_of(&named.scenario) {
                if !known.contains_key(id.as_str()) {
                    coverage.wrong.push(format!(
                        "{}: `{id}` is no rule, error, example, code or choice",
                        named.file
                    ));
                }
                let by = coverage.covered.entry(id).or_default();
                if !by.contains(&named.name) {
                    by.push(named.name.clone());
                }
            }
        }
        for id in library.untestable.keys() {
            if !known.contains_key(id.as_str()) {
                coverage.wrong.push(format!(
                    "untestable: `{id}` is no rule, error, example, code or choice"
                ));
            }
            if let Some(by) = coverage.covered.get(id) {
                coverage
                    .wrong
                    .push(format!("untestable: `{id}` is proved by {}", by.join(", ")));
            }
        }
        for claim in &claims {
            if coverage.covered.contains_key(&claim.id) || coverage.untestable.contains_key(&claim.id) {
                continue;
            }
            let list = if claim.built {
                &mut coverage.open
            } else {
                &mut coverage.baseline
            };
            list.push(claim.id.clone());
        }
        Ok(coverage)
    }

    /// The baseline as it is kept in `baselines/<dialect>.txt`.
    pub fn baseline_text(&self) -> String {
        let mut text = String::new();
        for id in &self.baseline {
            text.push_str(id);
            text.push('\n');
        }
        text
    }
}

/// What a scenario proves: what it names, and the examples that it sends.
pub(crate) fn covers_of(scenario: &super::scenario::Scenario) -> BTreeSet<String> {
    let steps = scenario
        .setup
        .iter()
        .chain(&scenario.steps)
        .chain(&scenario.cleanup);
    let examples = steps.filter_map(|step| step.value.example.as_ref());
    let examples = examples.map(|example| format!("{}#example-{}", example.operation, example.number));
    scenario.covers.iter().cloned().chain(examples).collect()
}
