//! What a scenario leaves behind for the report.

use super::client::Got;
use super::contracts::Sent;
use super::covers::covers_of;
use super::library::Named;
use super::mask::{Secrets, is_secret};
use super::report::{Exchange, Outcome, ScenarioReport, StepReport};
use super::scenario::Step;

/// The longest body that a report shows.
const SHOWN: usize = 8192;

/// The report of a scenario of which nothing was run.
pub(crate) fn unplayed(named: &Named) -> ScenarioReport {
    ScenarioReport {
        name: named.name.clone(),
        file: named.file.clone(),
        desc: named.scenario.desc.clone(),
        covers: covers_of(&named.scenario).into_iter().collect(),
        outcome: Outcome::Skipped,
        reason: None,
        seconds: 0.0,
        steps: Vec::new(),
    }
}

/// The report of a step of which nothing was run.
pub(crate) fn blank(phase: &'static str, place: &str, step: &Step) -> StepReport {
    StepReport {
        phase,
        place: place.to_owned(),
        name: step.name.clone(),
        operation: None,
        polled: None,
        good: false,
        exchange: None,
        problems: Vec::new(),
        differences: Vec::new(),
        skipped: None,
    }
}

/// An exchange as a report shows it; its secrets are still to be hidden.
pub(crate) fn shown(sent: &Sent, got: Option<&Got>) -> Exchange {
    Exchange {
        method: sent.method.clone(),
        path: sent.path.clone(),
        request: sent.body.clone(),
        status: got.map_or(0, |got| got.status),
        answer: got.map(|got| got.text.clone()),
        milliseconds: got.map_or(0, |got| u64::try_from(got.took.as_millis()).unwrap_or(u64::MAX)),
    }
}

/// A step's report without secrets, its bodies cut.
pub(crate) fn hidden(mut step: StepReport, secrets: &Secrets) -> StepReport {
    let cut = |text: &str| {
        let masked = secrets.body(text);
        let mut short: String = masked.chars().take(SHOWN).collect();
        if short.len() < masked.len() {
            short.push('…');
        }
        short
    };
    if let Some(exchange) = step.exchange.as_mut() {
        exchange.path = secrets.text(&exchange.path);
        exchange.request = exchange.request.as_deref().map(cut);
        exchange.answer = exchange.answer.as_deref().map(cut);
    }
    for difference in &mut step.differences {
        let last = difference.path.rsplit('.').next().unwrap_or_default();
        if is_secret(last) {
            "•••• (a secret)".clone_into(&mut difference.expected);
            "•••• (a secret)".clone_into(&mut difference.received);
        } else {
            difference.expected = cut(&difference.expected);
            difference.received = cut(&difference.received);
        }
    }
    for problem in &mut step.problems {
        *problem = secrets.text(problem);
    }
    step
}
