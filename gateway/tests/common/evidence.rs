//! Evidence: which operation a run has seen working, on which backend and set-up. Written only where the
//! environment names a directory (`scripts/evidence.sh` does), and only at the end of a test that passed.

use std::io::Write as _;

use serde_json::json;

use super::setup::Setup;

/// The environment variable that names the directory.
const DIRECTORY: &str = "BABELVISOR_EVIDENCE";

/// What one test has seen.
pub struct Evidence {
    run: &'static str,
    seen: Vec<(&'static str, &'static str)>,
}

impl Evidence {
    /// Of the test `run`.
    pub fn of(run: &'static str) -> Self {
        Self {
            run,
            seen: Vec::new(),
        }
    }

    /// An operation was called and did what its dialect says.
    pub fn saw(&mut self, dialect: &'static str, operation: &'static str) {
        self.seen.push((dialect, operation));
    }

    /// The test has passed.
    pub fn write(self, setup: &Setup) {
        let Some(directory) = std::env::var_os(DIRECTORY) else {
            return;
        };
        let name = format!(
            "{}-{}-{}.jsonl",
            self.run,
            setup.backend(),
            setup.name().replace('+', "-")
        );
        let mut file = std::fs::File::create(std::path::Path::new(&directory).join(name)).unwrap();
        for (dialect, operation) in self.seen {
            let line = json!({"dialect": dialect, "id": operation, "backend": setup.backend(),
                              "setup": setup.name(), "run": self.run});
            writeln!(file, "{line}").unwrap();
        }
    }
}
