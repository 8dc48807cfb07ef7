//! What a run found: for people as text, for machines as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
pub enum Outcome {
    /// The rule holds.
    Passed,
    /// It does not; the text says what happened instead.
    Failed(String),
    /// It was not looked at; the text says why.
    Skipped(String),
    /// It does not hold, and that is known, with this reason.
    Known(String),
}

impl Outcome {
    /// The word that reports print.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "skipped",
            Self::Known(_) => "known",
        }
    }

    /// What more there is to say.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Passed => None,
            Self::Failed(reason) | Self::Skipped(reason) | Self::Known(reason) => Some(reason),
        }
    }
}

/// One check and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Its name: `group::rule`.
    pub name: String,
    /// The rule that it looks at, as a sentence.
    pub rule: String,
    /// The capabilities that it uses, by their dotted names.
    pub needs: Vec<String>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub milliseconds: u64,
    /// What it made and could not remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<String>,
    /// How to run it alone.
    pub reproduce: String,
}

/// One capability, as it is declared and as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CapabilityReport {
    /// Its dotted name.
    pub name: String,
    /// The declared support: `native`, `emulated`, `not yet`, `impossible`.
    pub declared: String,
    /// The declared reason, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it may be used, as declared.
    pub usable: bool,
    /// Checks that use it and passed.
    pub passed: usize,
    /// Checks that use it and failed.
    pub failed: usize,
}

/// The whole of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The backend's configured id.
    pub backend: String,
    /// The folder under `backends/` that it is.
    pub kind: String,
    /// Version of the kit.
    pub kit: String,
    /// When the run began, UTC.
    pub began: String,
    /// How long it took.
    pub milliseconds: u64,
    /// Every capability.
    pub capabilities: Vec<CapabilityReport>,
    /// Every check, in the kit's order.
    pub checks: Vec<CheckReport>,
}

impl Report {
    /// Whether nothing failed.
    pub fn conformant(&self) -> bool {
        self.failed().next().is_none()
    }

    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &CheckReport> {
        self.checks
            .iter()
            .filter(|check| matches!(check.outcome, Outcome::Failed(_)))
    }

    /// How many checks ended so.
    fn count(&self, word: &str) -> usize {
        self.checks
            .iter()
            .filter(|check| check.outcome.word() == word)
            .count()
    }

    /// The report as JSON, with the lists that a reader asks for first.
    pub fn json(&self) -> serde_json::Value {
        let names = |usable: bool| {
            self.capabilities
                .iter()
                .filter(|capability| capability.usable == usable)
                .map(|capability| capability.name.clone())
                .collect::<Vec<_>>()
        };
        serde_json::json!({
            "backend": self.backend,
            "kind": self.kind,
            "kit": self.kit,
            "began": self.began,
            "milliseconds": self.milliseconds,
            "conformant": self.conformant(),
            "passed": self.count("ok"),
            "failed": self.failed().map(|check| check.name.clone()).collect::<Vec<_>>(),
            "skipped": self.count("skipped"),
            "known": self.count("known"),
            "supported": names(true),
            "unsupported": names(false),
            "capabilities": self.capabilities,
            "checks": self.checks,
        })
    }

    /// The report for a terminal.
    pub fn text(&self) -> String {
        let mut text = format!(
            "backend {} ({}), kit {}, {}\n\n",
            self.backend, self.kind, self.kit, self.began
        );
        // Writing to a String cannot fail.
        for capability in &self.capabilities {
            let _ = write!(
                text,
                "  {:<18} {:<11} {} passed, {} failed",
                capability.name, capability.declared, capability.passed, capability.failed
            );
            let _ = match &capability.reason {
                Some(reason) => writeln!(text, "   ({reason})"),
                None => writeln!(text),
            };
        }
        text.push('\n');
        for check in &self.checks {
            let _ = writeln!(
                text,
                "  {:<8} {} ({} ms)",
                check.outcome.word(),
                check.name,
                check.milliseconds
            );
            if let Some(reason) = check.outcome.reason() {
                let _ = writeln!(text, "           {reason}");
            }
            if matches!(check.outcome, Outcome::Failed(_) | Outcome::Known(_)) {
                let _ = writeln!(text, "           rule: {}", check.rule);
                let _ = writeln!(text, "           reproduce: {}", check.reproduce);
            }
        }
        let _ = write!(
            text,
            "\n{}: {} passed, {} failed, {} skipped, {} known divergences in {} ms",
            if self.conformant() {
                "conformant"
            } else {
                "NOT conformant"
            },
            self.count("ok"),
            self.count("FAILED"),
            self.count("skipped"),
            self.count("known"),
            self.milliseconds
        );
        text
    }
}
