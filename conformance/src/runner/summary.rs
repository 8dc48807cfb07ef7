//! The summary for a terminal.

use std::fmt::Write as _;

use super::junit::complaints;
use super::report::{Outcome, Report};

/// What failed, what was skipped and why, and the counts; with colours if the terminal has them.
pub fn summary(report: &Report, colours: bool) -> String {
    let paint = |code: &str, text: &str| {
        if colours {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    };
    let (green, red, yellow) = ("32", "31", "33");
    let mut text = String::new();
    for scenario in &report.scenarios {
        match scenario.outcome {
            Outcome::Passed => {}
            Outcome::Skipped => {
                let why = scenario.reason.as_deref().unwrap_or_default();
                let _ = writeln!(
                    text,
                    "{} {}: {}",
                    paint(yellow, "skipped"),
                    scenario.name,
                    visible(why)
                );
            }
            Outcome::Failed => {
                let _ = writeln!(
                    text,
                    "{} {}: {}",
                    paint(red, "failed"),
                    scenario.name,
                    visible(&scenario.desc)
                );
                for line in complaints(scenario).lines() {
                    let _ = writeln!(text, "    {}", visible(line));
                }
            }
        }
    }
    let totals = report.totals;
    let failed = format!("{} failed", totals.failed);
    let _ = write!(
        text,
        "{}: {}, {}, {} in {:.1} s; {} operations called; of what is documented {} proved, {} open",
        report.dialect,
        paint(green, &format!("{} passed", totals.passed)),
        if totals.failed > 0 {
            paint(red, &failed)
        } else {
            failed
        },
        format_args!("{} skipped", totals.skipped),
        report.seconds,
        report.operations.len(),
        report.coverage.covered.len(),
        report.coverage.open.len(),
    );
    text
}

/// A text without characters that could steer a terminal: answers of a target are not to be trusted.
fn visible(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter })
        .collect()
}
