//! One scenario, run.
//!
//! ```text
//! fixtures' setup ─▶ setup ─▶ steps ─▶ cleanup ─▶ fixtures' cleanup, last fixture first
//!        │             │        │         ▲
//!        ╰─────────────┴────────┴─ fails ─╯        what was made is removed, however it went
//! ```

use std::collections::BTreeMap;
use std::time::Instant;

use babelvisor_schemas::{Contract, contract};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::asked::{expected, kept};
use super::client::{Address, Got, prepare};
use super::contracts::{self, Sent, Tone};
use super::corpus::Example;
use super::diff::{Difference, DifferenceKind};
use super::example::Golden;
use super::library::{Library, Named};
use super::mask::Secrets;
use super::record::{blank, hidden, shown, unplayed};
use super::report::{Outcome, ScenarioReport, StepReport};
use super::scenario::{PollSpec, SchemaKind, Step, Target, duration, line};
use super::site::Site;
use super::vars::Vars;

/// What all scenarios of a run share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) address: Address,
    pub(crate) kind: Target,
    pub(crate) site: Site,
    pub(crate) library: Library,
    pub(crate) examples: BTreeMap<String, Vec<Example>>,
}

/// One exchange, before it is judged.
struct Scene {
    sent: Sent,
    got: Result<Got, String>,
    golden: Option<Golden>,
}

impl Stage {
    /// Why a scenario is not run against this target, if so.
    fn skipped(&self, named: &Named) -> Option<String> {
        let scenario = &named.scenario;
        if !scenario.targets.contains(&self.kind) {
            let why = scenario.divergence.as_deref().unwrap_or_default();
            return Some(format!("it does not hold for this target: {why}"));
        }
        let fixtures = scenario
            .fixtures
            .iter()
            .filter_map(|name| self.library.fixtures.get(name));
        let mut needs = std::iter::once(&scenario.needs).chain(fixtures.map(|(_, fixture)| &fixture.needs));
        needs.find_map(|needs| self.site.lacks(needs))
    }

    /// Whether nothing else may run meanwhile.
    pub(crate) fn exclusive(&self, named: &Named) -> bool {
        let mut fixtures = named
            .scenario
            .fixtures
            .iter()
            .filter_map(|name| self.library.fixtures.get(name));
        named.scenario.exclusive || fixtures.any(|(_, fixture)| fixture.exclusive)
    }

    /// The report of a scenario that was cut off by a fault of the runner: it must not look as if it had not existed.
    pub(crate) fn cut_off(named: &Named) -> ScenarioReport {
        ScenarioReport {
            outcome: Outcome::Failed,
            reason: Some("the runner itself failed in it; what it made may still be there".to_owned()),
            ..unplayed(named)
        }
    }

    /// Runs a scenario to its end, clean-up included.
    pub(crate) async fn run(&self, named: &Named) -> ScenarioReport {
        let start = Instant::now();
        let mut report = ScenarioReport {
            reason: self.skipped(named),
            ..unplayed(named)
        };
        if report.reason.is_some() {
            return report;
        }
        let mut play = Play {
            stage: self,
            contract: contract(self.library.dialect),
            vars: self.vars(),
            secrets: Secrets::default(),
            steps: Vec::new(),
        };
        let mut good = match play.all(named).await {
            Ok(good) => good,
            Err(why) => {
                play.complain("steps", &named.file, why);
                false
            }
        };
        good &= play.clean(named).await;
        report.outcome = if good { Outcome::Passed } else { Outcome::Failed };
        report.steps = play
            .steps
            .into_iter()
            .map(|step| hidden(step, &play.secrets))
            .collect();
        report.seconds = start.elapsed().as_secs_f64();
        report
    }

    fn vars(&self) -> Vars {
        let mut vars = Vars::default();
        let random = uuid::Uuid::new_v4();
        let unique: String = random.simple().to_string().chars().take(10).collect();
        // Ten characters that begin with a letter suit every dialect's names.
        vars.set("unique", Value::String(format!("cf{unique}")));
        vars.set("unknown_uuid", Value::String(uuid::Uuid::new_v4().to_string()));
        let now = jiff::Timestamp::now();
        vars.set("now", Value::from(now.as_second()));
        vars.set("now_ms", Value::from(now.as_millisecond()));
        vars.set("site", Value::Object(self.site.vars.clone()));
        vars
    }
}

/// A scenario on its way.
struct Play<'s> {
    stage: &'s Stage,
    contract: &'static Contract,
    vars: Vars,
    secrets: Secrets,
    steps: Vec<StepReport>,
}

impl Play<'_> {
    async fn all(&mut self, named: &Named) -> Result<bool, String> {
        let scenario = &named.scenario;
        for name in &scenario.fixtures {
            let Some((file, fixture)) = self.stage.library.fixtures.get(name) else {
                continue;
            };
            self.set(&fixture.vars)?;
            if !self.phase("setup", file, &fixture.setup, true).await {
                return Ok(false);
            }
        }
        self.set(&scenario.vars)?;
        Ok(self.phase("setup", &named.file, &scenario.setup, true).await
            && self.phase("steps", &named.file, &scenario.steps, true).await)
    }

    async fn clean(&mut self, named: &Named) -> bool {
        let mut good = self
            .phase("cleanup", &named.file, &named.scenario.cleanup, false)
            .await;
        for name in named.scenario.fixtures.iter().rev() {
            if let Some((file, fixture)) = self.stage.library.fixtures.get(name) {
                good &= self.phase("cleanup", file, &fixture.cleanup, false).await;
            }
        }
        good
    }

    fn set(&mut self, vars: &serde_json::Map<String, Value>) -> Result<(), String> {
        for (name, value) in vars {
            let value = self.vars.fill(value)?;
            self.secrets.learn_named(name, &value);
            self.vars.set(name, value);
        }
        Ok(())
    }

    /// Runs steps in order. Clean-up goes on after a failure and leaves out what has nothing to remove.
    async fn phase(&mut self, phase: &'static str, file: &str, steps: &[Spanned<Step>], stop: bool) -> bool {
        let mut good = true;
        for step in steps {
            let place = format!("{file}:{}", line(step));
            let step = &step.value;
            if step
                .targets
                .as_ref()
                .is_some_and(|targets| !targets.contains(&self.stage.kind))
            {
                let why = step.divergence.clone().unwrap_or_default();
                self.steps.push(StepReport {
                    skipped: Some(why),
                    ..blank(phase, &place, step)
                });
                continue;
            }
            let values = match self.values(step) {
                Ok(values) => values,
                Err(why) if phase == "cleanup" => {
                    let skipped = Some(format!("nothing to remove: {why}"));
                    self.steps.push(StepReport {
                        skipped,
                        ..blank(phase, &place, step)
                    });
                    continue;
                }
                Err(why) => {
                    self.complain(phase, &place, why);
                    return false;
                }
            };
            if values.is_empty() && phase != "cleanup" {
                self.complain(
                    phase,
                    &place,
                    "`for_each` over an empty list asks nothing".to_owned(),
                );
                return false;
            }
            for (name, value) in values {
                if let Some(name) = name {
                    self.vars.set(&name, value);
                }
                let report = self.step(phase, &place, step).await;
                let failed = report.failed();
                self.steps.push(report);
                good &= !failed;
                if failed && stop {
                    return false;
                }
            }
        }
        good
    }

    /// The values that a step is run for; one pass without a variable where it has no `for_each`.
    fn values(&self, step: &Step) -> Result<Vec<(Option<String>, Value)>, String> {
        let Some((name, list)) = step.for_each.iter().flatten().next() else {
            return Ok(vec![(None, Value::Null)]);
        };
        match self.vars.fill(list)? {
            Value::Array(items) => Ok(items.into_iter().map(|item| (Some(name.clone()), item)).collect()),
            _ => Err(format!("`for_each` over `{name}`: that is no list")),
        }
    }

    fn complain(&mut self, phase: &'static str, place: &str, why: String) {
        self.steps.push(StepReport {
            phase,
            place: place.to_owned(),
            name: None,
            operation: None,
            good: false,
            exchange: None,
            problems: vec![why],
            differences: Vec::new(),
            skipped: None,
        });
    }

    async fn step(&mut self, phase: &'static str, place: &str, step: &Step) -> StepReport {
        let mut report = blank(phase, place, step);
        let scene = match self.play(step, &mut report).await {
            Ok(scene) => scene,
            // Clean-up of what was never made: the variable that names it was not set.
            Err(why) if phase == "cleanup" => {
                report.skipped = Some(format!("nothing to remove: {why}"));
                return report;
            }
            Err(why) => {
                report.problems.push(why);
                return report;
            }
        };
        if let Some(sent) = scene
            .sent
            .body
            .as_deref()
            .and_then(|body| serde_json::from_str(body).ok())
        {
            let sent: Value = sent;
            self.secrets.learn(&sent);
        }
        for (name, value) in &scene.sent.headers {
            self.secrets.learn_named(name, &Value::String(value.clone()));
        }
        let got = match scene.got {
            Ok(got) => got,
            Err(why) => {
                report.exchange = Some(shown(&scene.sent, None));
                report.problems.push(why);
                return report;
            }
        };
        if let Some(json) = &got.json {
            self.secrets.learn(json);
        }
        if let Some(golden) = &scene.golden {
            report.differences.extend(golden.judge(&got));
        }
        self.judge(step, &scene.sent, &got, &mut report);
        match expected(&self.vars, &step.expect, &got) {
            Ok(differences) => report.differences.extend(differences),
            Err(why) => report.problems.push(why),
        }
        if !report.failed() {
            self.save(step, &got, &mut report);
        }
        let failed = report.failed();
        report.exchange = Some(shown(&scene.sent, Some(&got)));
        if let Some(exchange) = report.exchange.as_mut().filter(|_| !failed) {
            exchange.request = None;
            exchange.answer = None;
        }
        report
    }

    /// Sends what a step says.
    async fn play(&self, step: &Step, report: &mut StepReport) -> Result<Scene, String> {
        if let Some(spec) = &step.raw {
            let sent = Sent {
                method: "raw".to_owned(),
                ..Sent::default()
            };
            let got = self.stage.address.raw(spec, &self.vars).await;
            return Ok(Scene {
                sent,
                got,
                golden: None,
            });
        }
        if let Some(poll) = &step.poll {
            return self.poll(poll, report).await;
        }
        let (request, golden) = match (&step.request, &step.example) {
            (Some(request), _) => (request.clone(), None),
            (None, Some(spec)) => {
                let unknown = || {
                    format!(
                        "the catalogue has no example {} of {}",
                        spec.number, spec.operation
                    )
                };
                let operation = self.contract.operation(&spec.operation).ok_or_else(unknown)?;
                let examples = self.stage.examples.get(&spec.operation).ok_or_else(unknown)?;
                let example = examples.get(spec.number).ok_or_else(unknown)?;
                let golden = Golden::new(
                    spec,
                    example,
                    &operation.method,
                    operation.path.as_str(),
                    &self.vars,
                )?;
                (golden.request.clone(), Some(golden))
            }
            (None, None) => return Err("the step sends nothing".to_owned()),
        };
        let sent = prepare(&request, &self.vars)?;
        let got = self.stage.address.send(&sent).await;
        Ok(Scene { sent, got, golden })
    }

    /// Repeats a request until its condition turns; a missed deadline is reported with what was still missing.
    async fn poll(&self, poll: &PollSpec, report: &mut StepReport) -> Result<Scene, String> {
        let (within, every) = (duration(&poll.within)?, duration(&poll.every)?);
        let sent = prepare(&poll.request, &self.vars)?;
        let start = Instant::now();
        loop {
            let got = match self.stage.address.send(&sent).await {
                Ok(got) => got,
                Err(why) => {
                    return Ok(Scene {
                        sent,
                        got: Err(why),
                        golden: None,
                    });
                }
            };
            let (missing, done) = match (&poll.until, &poll.while_) {
                (Some(until), _) => {
                    let missing = expected(&self.vars, until, &got)?;
                    let done = missing.is_empty();
                    (missing, done)
                }
                (None, Some(while_)) => (Vec::new(), !expected(&self.vars, while_, &got)?.is_empty()),
                (None, None) => (Vec::new(), true),
            };
            if done || start.elapsed() >= within {
                if !done {
                    report
                        .problems
                        .push(format!("it did not come to pass within {}", poll.within));
                    report.differences.extend(missing);
                }
                return Ok(Scene {
                    sent,
                    got: Ok(got),
                    golden: None,
                });
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Holds both directions against the contract.
    fn judge(&self, step: &Step, sent: &Sent, got: &Got, report: &mut StepReport) {
        let verdict = if step.raw.is_some() {
            contracts::RequestVerdict {
                operation: None,
                problems: Vec::new(),
            }
        } else {
            contracts::request(self.contract, sent)
        };
        report.operation = verdict.operation.map(|operation| operation.id.clone());
        let tone = contracts::tone(self.contract, got.status, got.json.as_ref());
        report.good = tone == Tone::Good;
        if step.raw.is_none() && step.unchecked.request.is_none() {
            if step.broken && verdict.problems.is_empty() {
                report
                    .problems
                    .push("the step says `broken`, but the contract takes the request".to_owned());
            } else if !step.broken {
                report.problems.extend(verdict.problems);
            }
        }
        if step.unchecked.answer.is_none() {
            let found = contracts::answer(self.contract, verdict.operation, got.status, got.json.as_ref());
            report.problems.extend(found);
        }
        let wanted = step.expect.schema;
        let met = match wanted {
            None => true,
            Some(SchemaKind::Answer) => report.good,
            Some(SchemaKind::Error) => !report.good,
        };
        if !met {
            let (wanted, there) = if report.good {
                ("a failure", "a good answer")
            } else {
                ("a good answer", "a failure")
            };
            report.differences.push(Difference {
                path: "schema".to_owned(),
                kind: DifferenceKind::OtherValue,
                expected: wanted.to_owned(),
                received: there.to_owned(),
            });
        }
    }

    fn save(&mut self, step: &Step, got: &Got, report: &mut StepReport) {
        for (name, spec) in &step.save {
            match kept(&self.vars, spec, got) {
                Ok(value) => {
                    self.secrets.learn_named(name, &value);
                    self.vars.set(name, value);
                }
                Err(why) => report.problems.push(format!("`{name}` cannot be kept: {why}")),
            }
        }
    }
}
