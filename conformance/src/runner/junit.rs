//! JUnit XML, for the machines that read test results.

use std::fmt::Write as _;

use super::report::{Outcome, Report, ScenarioReport};

/// The report as JUnit XML: a suite for the dialect, a case for each scenario.
pub fn junit(report: &Report) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let totals = report.totals;
    let _ = writeln!(
        text,
        "<testsuites><testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\" timestamp=\"{}\">",
        escaped(&format!("{} {}", report.dialect, report.label)),
        report.scenarios.len(),
        totals.failed,
        totals.skipped,
        report.seconds,
        escaped(&report.started),
    );
    for scenario in &report.scenarios {
        let _ = write!(
            text,
            "  <testcase classname=\"{}\" name=\"{}\" file=\"{}\" time=\"{:.3}\"",
            escaped(&report.dialect),
            escaped(&scenario.name),
            escaped(&scenario.file),
            scenario.seconds,
        );
        match scenario.outcome {
            Outcome::Passed => text.push_str("/>\n"),
            Outcome::Skipped => {
                let why = scenario.reason.as_deref().unwrap_or_default();
                let _ = writeln!(text, "><skipped message=\"{}\"/></testcase>", escaped(why));
            }
            Outcome::Failed => {
                let all = complaints(scenario);
                let first = all.lines().next().unwrap_or_default();
                let _ = writeln!(
                    text,
                    "><failure message=\"{}\">{}</failure></testcase>",
                    escaped(first),
                    escaped(&all)
                );
            }
        }
    }
    text.push_str("</testsuite></testsuites>\n");
    text
}

/// All that did not hold in a scenario, a line each.
pub(crate) fn complaints(scenario: &ScenarioReport) -> String {
    let mut text = String::new();
    if let Some(reason) = &scenario.reason {
        let _ = writeln!(text, "{reason}");
    }
    for step in scenario.steps.iter().filter(|step| step.failed()) {
        let name = step.name.as_deref().unwrap_or(step.phase);
        let _ = write!(text, "{} ({name})", step.place);
        if let Some(exchange) = &step.exchange {
            let _ = write!(
                text,
                ": {} {} answered {}",
                exchange.method, exchange.path, exchange.status
            );
        }
        text.push('\n');
        for problem in &step.problems {
            let _ = writeln!(text, "  {problem}");
        }
        for one in &step.differences {
            let _ = writeln!(
                text,
                "  {}: {}: expected {}, received {}",
                one.path,
                one.kind.word(),
                one.expected,
                one.received
            );
        }
    }
    text
}

/// Text as it may stand in XML and HTML, attributes included. Characters that XML does not have are replaced.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\r' | '\t' => safe.push(letter),
            control if control.is_control() || matches!(control, '\u{FFFE}' | '\u{FFFF}') => {
                safe.push('\u{FFFD}')
            }
            other => safe.push(other),
        }
    }
    safe
}
