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

use super::client::{Address, Got, prepare};
use super::contracts::{self, Sent, Tone};
use super::corpus::Example;
use super::covers::covers_of;
use super::diff::{Difference, DifferenceKind};
use super::example::Golden;
use super::library::{Library, Named};
use super::mask::Secrets;
use super::path::JsonPath;
use super::predicate::Predicate;
use super::report::{Exchange, Outcome, ScenarioReport, StepReport};
use super::scenario::{Expect, PollSpec, SaveSpec, SchemaKind, Step, Target, duration, line};
use super::site::Site;
use super::vars::Vars;

/// The longest body that a report shows.
const SHOWN: usize = 8192;

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

    /// Runs a scenario to its end, clean-up included.
    pub(crate) async fn run(&self, named: &Named) -> ScenarioReport {
        let start = Instant::now();
        let mut report = ScenarioReport {
            name: named.name.clone(),
            file: named.file.clone(),
            desc: named.scenario.desc.clone(),
            covers: covers_of(&named.scenario).into_iter().collect(),
            outcome: Outcome::Skipped,
            reason: self.skipped(named),
            seconds: 0.0,
            steps: Vec::new(),
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
            if let Some(targets) = step
                .targets
                .as_ref()
                .filter(|targets| !targets.contains(&self.stage.kind))
            {
                let _ = targets;
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
        match self.expected(&step.expect, &got) {
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
                    let missing = self.expected(until, &got)?;
                    let done = missing.is_empty();
                    (missing, done)
                }
                (None, Some(while_)) => (Vec::new(), !self.expected(while_, &got)?.is_empty()),
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

    fn expected(&self, expect: &Expect, got: &Got) -> Result<Vec<Difference>, String> {
        let mut found = Vec::new();
        let ask = |wanted: &Value, there: Option<&Value>, path: &str, found: &mut Vec<Difference>| {
            let predicate = Predicate::parse(&self.vars.fill(wanted)?)?;
            predicate.check(there, path, found);
            Ok::<(), String>(())
        };
        if let Some(wanted) = &expect.status {
            ask(wanted, Some(&Value::from(got.status)), "status", &mut found)?;
        }
        for (name, wanted) in &expect.headers {
            ask(
                wanted,
                got.header(name).as_ref(),
                &format!("header:{name}"),
                &mut found,
            )?;
        }
        if let Some(wanted) = &expect.body {
            ask(wanted, got.json.as_ref(), "$", &mut found)?;
        }
        for (path, wanted) in &expect.paths {
            let path = self.vars.text(path)?;
            let there = got
                .json
                .as_ref()
                .and_then(|body| JsonPath::parse(&path).ok()?.find(body));
            ask(wanted, there.as_ref(), &path, &mut found)?;
        }
        if let Some(wanted) = &expect.text {
            ask(wanted, Some(&Value::String(got.text.clone())), "text", &mut found)?;
        }
        Ok(found)
    }

    fn save(&mut self, step: &Step, got: &Got, report: &mut StepReport) {
        for (name, spec) in &step.save {
            match self.kept(spec, got) {
                Ok(value) => {
                    self.secrets.learn_named(name, &value);
                    self.vars.set(name, value);
                }
                Err(why) => report.problems.push(format!("`{name}` cannot be kept: {why}")),
            }
        }
    }

    fn kept(&self, spec: &SaveSpec, got: &Got) -> Result<Value, String> {
        let (SaveSpec::Path(path) | SaveSpec::NotIn(super::scenario::NotIn { path, .. })) = spec;
        let path = self.vars.text(path)?;
        let nothing = || format!("nothing is at {path}");
        let value = match path.strip_prefix("header:") {
            Some(header) => got.header(header),
            None => match &got.json {
                Some(body) => JsonPath::parse(&path)?.find(body),
                None => None,
            },
        };
        let value = value.ok_or_else(nothing)?;
        let SaveSpec::NotIn(not_in) = spec else {
            return Ok(value);
        };
        let others = self.vars.fill(&not_in.not_in)?;
        let others = others.as_array().ok_or("`not_in` is no list")?;
        let items = value.as_array().ok_or("the path needs [*]")?;
        let fresh = items.iter().find(|item| !others.contains(item));
        fresh.cloned().ok_or_else(|| format!("{path} has nothing new"))
    }
}

fn blank(phase: &'static str, place: &str, step: &Step) -> StepReport {
    StepReport {
        phase,
        place: place.to_owned(),
        name: step.name.clone(),
        operation: None,
        good: false,
        exchange: None,
        problems: Vec::new(),
        differences: Vec::new(),
        skipped: None,
    }
}

fn shown(sent: &Sent, got: Option<&Got>) -> Exchange {
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
fn hidden(mut step: StepReport, secrets: &Secrets) -> StepReport {
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
        if super::mask::is_secret(last) {
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
