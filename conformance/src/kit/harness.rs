//! The kit under `cargo test`: each check is a named test that can be filtered, listed and run alone.
//!
//! For test files with `harness = false`:
//!
//! ```ignore
//! fn main() -> std::process::ExitCode {
//!     harness::main(|| vec![Suite::new("memory", || backend(), KitConfig::default())])
//! }
//! ```

use std::process::ExitCode;
use std::sync::Arc;

use babelvisor_core::Result;
use babelvisor_core::backend::Backend;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::{Handle, Runtime};

use super::bench::Kit;
use super::checks;
use super::config::KitConfig;
use super::report::{CheckReport, Outcome};
use super::run::{LAST, last_look, prepare, run_check};

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
/// with the last look.
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
    let mut trials = Vec::new();
    for (name, kit) in &kits {
        trials.extend(trials_of(name, kit, runtime.handle()));
    }
    let mut failed = libtest_mimic::run(&arguments, trials).has_failed();
    if !arguments.list {
        for (name, kit) in &kits {
            let report = runtime.block_on(last_look(kit));
            if let Outcome::Failed(reason) = &report.outcome {
                failed = true;
                eprintln!("{name}::{LAST} FAILED: {reason}");
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

fn broken(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("the kit cannot begin: {error}");
    ExitCode::FAILURE
}

fn trials_of(name: &str, kit: &Arc<Kit>, runtime: &Handle) -> Vec<Trial> {
    checks::all(kit)
        .into_iter()
        .map(|check| {
            let check = Arc::new(check);
            let (kit, runtime) = (Arc::clone(kit), runtime.clone());
            let full = format!("{name}::{}", check.name);
            Trial::ignorable_test(full, move || {
                let report = runtime.block_on(async move { run_check(&kit, &check).await });
                verdict(&report)
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
