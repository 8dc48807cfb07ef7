//! One HTML page that carries everything with it: no script, no style and no picture from elsewhere.

use std::fmt::Write as _;

use super::junit::escaped;
use super::report::{Exchange, Outcome, Report, ScenarioReport, StepReport};

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --dim: #6e7781; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid var(--line); padding: .25rem .5rem;
text-align: left; vertical-align: top; } code, pre { font: 13px/1.4 ui-monospace, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line); padding: .5rem; margin: .25rem 0; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .35rem 0; padding: .35rem .75rem; }
summary { cursor: pointer; } .passed { color: var(--good); } .failed { color: var(--bad); }
.skipped, .dim { color: var(--dim); } .word { display: inline-block; min-width: 4.5rem; font-weight: 600; }
";

/// The report as one self-contained page. Everything that came from outside is escaped.
pub fn html(report: &Report) -> String {
    let mut page = String::new();
    let title = format!("Conformance: {} {}", report.dialect, report.label);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><h1>{title}</h1>\n",
        title = escaped(&title),
    );
    let totals = report.totals;
    let _ = writeln!(
        page,
        "<p><span class=\"passed\">{} passed</span>, <span class=\"{}\">{} failed</span>, \
         <span class=\"skipped\">{} skipped</span> in {:.1} s against <code>{}</code> ({:?}), begun {}.</p>",
        totals.passed,
        if totals.failed > 0 { "failed" } else { "dim" },
        totals.failed,
        totals.skipped,
        report.seconds,
        escaped(&report.target),
        report.kind,
        escaped(&report.started),
    );
    for wanted in [Outcome::Failed, Outcome::Skipped, Outcome::Passed] {
        let those: Vec<_> = report
            .scenarios
            .iter()
            .filter(|one| one.outcome == wanted)
            .collect();
        if those.is_empty() {
            continue;
        }
        let _ = writeln!(page, "<h2>{} ({})</h2>", capital(wanted.word()), those.len());
        for scenario in those {
            page.push_str(&of_scenario(scenario));
        }
    }
    page.push_str(&operations(report));
    page.push_str(&coverage(report));
    page.push_str("</body></html>\n");
    page
}

fn of_scenario(scenario: &ScenarioReport) -> String {
    let mut text = String::new();
    let word = scenario.outcome.word();
    let open = if scenario.outcome == Outcome::Failed {
        " open"
    } else {
        ""
    };
    let _ = write!(
        text,
        "<details{open}><summary><span class=\"word {word}\">{word}</span> <code>{}</code> {} \
         <span class=\"dim\">{:.2} s</span></summary>",
        escaped(&scenario.name),
        escaped(&scenario.desc),
        scenario.seconds,
    );
    if let Some(reason) = &scenario.reason {
        let _ = write!(text, "<p class=\"skipped\">{}</p>", escaped(reason));
    }
    let _ = write!(
        text,
        "<p class=\"dim\">{} · proves {}</p>",
        escaped(&scenario.file),
        escaped(&scenario.covers.join(", "))
    );
    for step in &scenario.steps {
        text.push_str(&of_step(step));
    }
    text.push_str("</details>\n");
    text
}

fn of_step(step: &StepReport) -> String {
    let mut text = String::new();
    let word = match (&step.skipped, step.failed()) {
        (Some(_), _) => "skipped",
        (None, true) => "failed",
        (None, false) => "passed",
    };
    let line = step.exchange.as_ref().map_or_else(String::new, |exchange| {
        let Exchange {
            method,
            path,
            status,
            milliseconds,
            ..
        } = exchange;
        format!("{method} {path} → {status} ({milliseconds} ms)")
    });
    let _ = write!(
        text,
        "<div><span class=\"word {word}\">{word}</span> <code>{}</code> {} <span class=\"dim\">{} · {}</span></div>",
        escaped(&line),
        escaped(step.name.as_deref().unwrap_or_default()),
        step.phase,
        escaped(&step.place),
    );
    if let Some(why) = &step.skipped {
        let _ = write!(text, "<p class=\"skipped\">{}</p>", escaped(why));
    }
    for problem in &step.problems {
        let _ = write!(text, "<p class=\"failed\">{}</p>", escaped(problem));
    }
    if !step.differences.is_empty() {
        text.push_str("<table><tr><th>where</th><th>what</th><th>expected</th><th>received</th></tr>");
        for one in &step.differences {
            let _ = write!(
                text,
                "<tr><td><code>{}</code></td><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>",
                escaped(&one.path),
                one.kind.word(),
                escaped(&one.expected),
                escaped(&one.received)
            );
        }
        text.push_str("</table>");
    }
    if let Some(exchange) = step.exchange.as_ref().filter(|_| step.failed()) {
        for (name, body) in [("sent", &exchange.request), ("received", &exchange.answer)] {
            if let Some(body) = body {
                let _ = write!(text, "<p class=\"dim\">{name}</p><pre>{}</pre>", escaped(body));
            }
        }
    }
    text
}

fn operations(report: &Report) -> String {
    let mut text = String::from(
        "<h2>Operations</h2><table><tr><th>operation</th><th>calls</th><th>good answers</th><th>scenarios passed</th>\
         <th>failed</th></tr>",
    );
    for (id, line) in &report.operations {
        let _ = write!(
            text,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td><td class=\"failed\">{}</td></tr>",
            escaped(id),
            line.calls,
            line.good,
            line.passed.len(),
            escaped(&line.failed.join(", ")),
        );
    }
    text.push_str("</table>\n");
    text
}

fn coverage(report: &Report) -> String {
    let coverage = &report.coverage;
    let mut text = format!(
        "<h2>Rules, errors, examples, choices</h2><p>{} proved by scenarios, {} cannot be proved over HTTP, {} of built \
         operations open, {} of operations that are not built yet.</p>",
        coverage.covered.len(),
        coverage.untestable.len(),
        coverage.open.len(),
        coverage.baseline.len(),
    );
    for id in &coverage.open {
        let _ = write!(
            text,
            "<p class=\"failed\"><code>{}</code> is open</p>",
            escaped(id)
        );
    }
    text.push_str("<details><summary>not provable over HTTP</summary><table>");
    for (id, reason) in &coverage.untestable {
        let _ = write!(
            text,
            "<tr><td><code>{}</code></td><td>{}</td></tr>",
            escaped(id),
            escaped(reason)
        );
    }
    text.push_str("</table></details><details><summary>proved</summary><table>");
    for (id, by) in &coverage.covered {
        let _ = write!(
            text,
            "<tr><td><code>{}</code></td><td>{}</td></tr>",
            escaped(id),
            escaped(&by.join(", "))
        );
    }
    text.push_str("</table></details>\n");
    text
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
