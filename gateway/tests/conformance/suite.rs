//! What the suites of all dialects share: a run against a gateway, and what must hold of all runs of a dialect together.

use std::collections::BTreeSet;
use std::path::PathBuf;

use babelvisor_conformance::runner::{self, Library, Options, Outcome, Report, Site, html, junit, summary};
use babelvisor_conformance::testbed::Gateway;
use babelvisor_conformance::testbed::http::get;
use babelvisor_schemas::{Dialect, contract};
use serde_json::Value;

use crate::common::ledger::file_name;

/// The environment variable that names a directory for the reports.
const REPORTS: &str = "BABELVISOR_CONFORMANCE_REPORTS";

/// Whether everything is run, also what takes long: reports are asked for, or long tests.
pub fn everything() -> bool {
    std::env::var_os(REPORTS).is_some() || std::env::var_os("BABELVISOR_LONG").is_some()
}

/// Runs what fits `filter` against a gateway that is described by `facts`, whose backend can do everything.
pub async fn run(label: &str, gateway: &Gateway, dialect: Dialect, filter: &[&str], facts: Value) -> Report {
    let mut site = Site::default();
    site.vars.extend(facts.as_object().unwrap().clone());
    let options = Options {
        site,
        filters: filter.iter().map(|&text| text.to_owned()).collect(),
        label: label.to_owned(),
        ..Options::new(format!("http://{}", gateway.address()))
    };
    play(gateway, dialect, options).await
}

/// Runs all scenarios, or the short choice of them; what the backend says that it cannot do is not asked of it.
pub async fn run_able(label: &str, gateway: &Gateway, dialect: Dialect, facts: Value, short: bool) -> Report {
    let mut site = Site::default();
    site.vars.extend(facts.as_object().unwrap().clone());
    let coverage = get(gateway.admin(), "/_gw/coverage").send().await.unwrap();
    site.from_coverage(&coverage.json().unwrap(), &[]).unwrap();
    let options = Options {
        site,
        short,
        label: label.to_owned(),
        ..Options::new(format!("http://{}", gateway.address()))
    };
    play(gateway, dialect, options).await
}

async fn play(gateway: &Gateway, dialect: Dialect, options: Options) -> Report {
    let report = runner::run(Library::built_in(dialect).unwrap(), options, |_| {})
        .await
        .unwrap();
    keep(&report);
    assert!(report.passed(), "{}\n{}", summary(&report, false), gateway.log());
    report
}

/// Writes the report where the environment names a directory.
fn keep(report: &Report) {
    let Some(directory) = std::env::var_os(REPORTS) else {
        return;
    };
    let name = file_name(report);
    let directory = PathBuf::from(directory);
    std::fs::create_dir_all(&directory).unwrap();
    for (kind, text) in [
        ("json", report.json()),
        ("xml", junit(report)),
        ("html", html(report)),
    ] {
        std::fs::write(directory.join(format!("{name}.{kind}")), text).unwrap();
    }
}

/// Operations that have no way to say no: signing out is done whoever asks for it, and whatever there is to end.
const CANNOT_REFUSE: [&str; 1] = ["LogOut"];

/// All scenarios of a dialect passed in some of these runs, and every built operation has done something well and refused
/// something.
pub fn complete(dialect: Dialect, reports: &[Report]) {
    let of = || reports.iter().filter(|report| report.dialect == dialect.name());
    let passed: BTreeSet<&str> = of()
        .flat_map(|report| &report.scenarios)
        .filter(|one| one.outcome == Outcome::Passed)
        .map(|one| one.name.as_str())
        .collect();
    let library = Library::built_in(dialect).unwrap();
    let never: Vec<_> = library.playable().filter(|name| !passed.contains(name)).collect();
    assert!(never.is_empty(), "{dialect}: skipped on every site: {never:?}");
    let mut faults = Vec::new();
    for operation in contract(dialect)
        .operations()
        .iter()
        .filter(|operation| operation.built)
    {
        let lines = of().filter_map(|report| report.operations.get(&operation.id));
        let (calls, good) = lines.fold((0, 0), |sum, line| (sum.0 + line.calls, sum.1 + line.good));
        if good == 0 {
            faults.push(format!("{} has done nothing well", operation.id));
        }
        if calls == good && !CANNOT_REFUSE.contains(&operation.id.as_str()) {
            faults.push(format!("{} has refused nothing", operation.id));
        }
    }
    assert!(faults.is_empty(), "{dialect}: {faults:#?}");
}
