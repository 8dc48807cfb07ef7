//! Evidence: which operation a run has seen working, on which backend and set-up. At the end of a test that passed
//! it is written where the environment names a directory (`make conformance` does), and held against the ledger
//! otherwise.

use std::io::Write as _;

use serde_json::json;

use super::ledger;
use super::setup::Setup;

/// The environment variable that names the directory.
const DIRECTORY: &str = "BABELVISOR_EVIDENCE";

/// One operation that did what its dialect says.
struct Seen {
    dialect: String,
    operation: String,
    report: Option<String>,
}

/// What one test has seen.
pub struct Evidence {
    run: &'static str,
    /// The dialect that the test is about, where the run is made of several tests.
    part: Option<&'static str>,
    seen: Vec<Seen>,
}

impl Evidence {
    /// Of the test `run`.
    pub fn of(run: &'static str) -> Self {
        Self {
            run,
            part: None,
            seen: Vec::new(),
        }
    }

    /// Of the part of the test `run` that is about one dialect.
    pub fn part(run: &'static str, dialect: &'static str) -> Self {
        Self {
            part: Some(dialect),
            ..Self::of(run)
        }
    }

    /// An operation was called and did what its dialect says.
    pub fn saw(&mut self, dialect: &str, operation: &str) {
        self.saw_in(dialect, operation, None);
    }

    /// The same; the report of that name shows it.
    pub fn saw_in(&mut self, dialect: &str, operation: &str, report: Option<&str>) {
        self.seen.push(Seen {
            dialect: dialect.to_owned(),
            operation: operation.to_owned(),
            report: report.map(str::to_owned),
        });
    }

    /// The test has passed. What it saw is written where the environment asks for it; else it is held against what
    /// the tracked ledger says of the same run on the same set-up.
    pub fn settle(self, setup: &Setup) {
        let Some(directory) = std::env::var_os(DIRECTORY) else {
            let verified = self.seen.into_iter().map(|seen| (seen.dialect, seen.operation));
            return ledger::hold(self.run, self.part, setup, &verified.collect());
        };
        let name = format!(
            "{}{}-{}-{}.jsonl",
            self.run,
            self.part.map(|part| format!("-{part}")).unwrap_or_default(),
            setup.backend(),
            setup.name().replace('+', "-")
        );
        let mut file = std::fs::File::create(std::path::Path::new(&directory).join(name)).unwrap();
        for seen in self.seen {
            let line = json!({"dialect": seen.dialect, "id": seen.operation, "backend": setup.backend(),
                              "setup": setup.name(), "run": self.run, "report": seen.report});
            writeln!(file, "{line}").unwrap();
        }
    }
}
