//! The kit under `cargo test`: each check is a named test that can be filtered, listed and run alone.
//!
//! For test files with `harness = false`:
//!
//! ```ignore
//! fn main() -> std::process::ExitCode {
//!     harness::main(|| vec![Suite::new("memory", || backend(), KitConfig::default())])
//! }
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use babelvisor_core::Result;
use babelvisor_core::backend::Backend;
use babelvisor_core::model::Timestamp;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::{Handle, Runtime};

use super::bench::Kit;
use super::checks;
use super::config::KitConfig;
use super::report::{CheckReport, Outcome, Report};
use super::run::{LAST, last_look, prepare, report, run_check};

/// The environment variable that names a directory for the reports, the same as the scenarios' tests have.
const REPORTS: &str = "BABELVISOR_CONFORMANCE_REPORTS";

/// What the checks of a suite have found so far. Tests end in any order.
type Found = Arc<Mutex<Vec<CheckReport>>>;

/// One backend, with the settings that it is judged by.
pub struct Suite {
    name: String,
    backend: Arc<dyn Backend>,
    config: KitConfig,
}

impl Suite {
    /// The checks of `backend` get names that begin with `name`.
    pub fn new(name: &str, backend: Arc<dyn Backend>, config: KitConfig) -> Self {
        Self {
            name: name.to_owned(),
            backend,
            config,
        }
    }
}

/// Runs the checks of all suites as tests, and gives the exit code of the test binary.
///
/// `suites` is called inside a runtime, because backends may start tasks when they are made; what it gives back
/// besides lives until all tests have ended. When no test of it was left out by the command line, each suite ends
/// with the last look. Where `BABELVISOR_CONFORMANCE_REPORTS` names a directory, each suite leaves its report there
/// as `kit-<kind>-<suite>.json` and `.txt`.
pub fn main<T>(suites: impl FnOnce() -> Result<(Vec<Suite>, T)>) -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = match Runtime::new() {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => return broken(&error),
    };
    let prepared = runtime.block_on(async {
        let (suites, guard) = suites()?;
        let mut kits = Vec::new();
        for suite in suites {
            kits.push((suite.name, prepare(suite.backend, suite.config).await?));
        }
        Ok::<_, babelvisor_core::Error>((kits, guard))
    });
    let (kits, guard) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return broken(&error),
    };
    let (began, start) = (Timestamp::now(), Instant::now());
    let mut trials = Vec::new();
    let mut books = Vec::new();
    for (name, kit) in &kits {
        let found = Found::default();
        trials.extend(trials_of(name, kit, &found, runtime.handle()));
        books.push(found);
    }
    let mut failed = libtest_mimic::run(&arguments, trials).has_failed();
    if !arguments.list {
        for ((name, kit), found) in kits.iter().zip(&books) {
            let last = runtime.block_on(last_look(kit));
            if let Outcome::Failed(reason) = &last.outcome {
                failed = true;
                eprintln!("{name}::{LAST} FAILED: {reason}");
            }
            let mut checks = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
            checks.sort_by(|one, other| one.name.cmp(&other.name));
            checks.push(last);
            if let Err(error) = keep(name, &report(kit, began, start.elapsed(), checks)) {
                failed = true;
                eprintln!("the report of {name} could not be written: {error}");
            }
        }
    }
    drop(guard);
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Writes the report where the environment names a directory.
fn keep(suite: &str, report: &Report) -> std::io::Result<()> {
    let Some(directory) = std::env::var_os(REPORTS) else {
        return Ok(());
    };
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    let name = format!("kit-{}-{suite}", report.kind);
    std::fs::write(
        directory.join(format!("{name}.json")),
        format!("{:#}\n", report.json()),
    )?;
    std::fs::write(
        directory.join(format!("{name}.txt")),
        format!("{}\n", report.text()),
    )
}

fn broken(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("the kit cannot begin: {error}");
    ExitCode::FAILURE
}

fn trials_of(name: &str, kit: &Arc<Kit>, found: &Found, runtime: &Handle) -> Vec<Trial> {
    checks::all(kit)
        .into_iter()
        .map(|check| {
            let check = Arc::new(check);
            let (kit, found, runtime) = (Arc::clone(kit), Arc::clone(found), runtime.clone());
            let full = format!("{name}::{}", check.name);
            Trial::ignorable_test(full, move || {
                let report = runtime.block_on(async move { run_check(&kit, &check).await });
                let verdict = verdict(&report);
                let mut all = found.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(report);
                verdict
            })
        })
        .collect()
}

fn verdict(report: &CheckReport) -> std::result::Result<Completion, Failed> {
    match &report.outcome {
        Outcome::Passed => Ok(Completion::Completed),
        Outcome::Skipped(reason) | Outcome::Known(reason) => Ok(Completion::ignored_with(reason)),
        Outcome::Failed(reason) => Err(format!("{reason}\nrule: {}", report.rule).into()),
    }
}
