//! One scenario, run.
//!
//! ```text
//! fixtures' setup ─▶ setup ─▶ steps ─▶ cleanup ─▶ fixtures' cleanup, last fixture first
//!        │             │        │         ▲
//!        ╰─────────────┴────────┴─ fails ─╯        what was made is removed, however it went
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use babelvisor_schemas::{Contract, contract};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::asked::{expected, kept};
use super::client::{Address, Got};
use super::corpus::Example;
use super::library::{Library, Named};
use super::mask::Secrets;
use super::record::{blank, hidden, shown, unplayed};
use super::report::{Outcome, ScenarioReport, StepReport};
use super::scenario::{Step, Target, line};
use super::session::{DEFAULT, NOBODY, Sessions, Signed};
use super::site::Site;
use super::vars::{Vars, has_variable};

/// What all scenarios of a run share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) address: Address,
    pub(crate) kind: Target,
    pub(crate) site: Site,
    pub(crate) library: Library,
    pub(crate) examples: BTreeMap<String, Vec<Example>>,
    pub(crate) sessions: Sessions,
}

impl Stage {
    /// Why a scenario is not run against this target, if so.
    fn skipped(&self, named: &Named) -> Option<String> {
        let scenario = &named.scenario;
        if !scenario.targets.contains(&self.kind) {
            let why = scenario.divergence.as_deref().unwrap_or_default();
            return Some(format!("it does not hold for this target: {why}"));
        }
        if self.kind == Target::Gateway
            && let Some(id) = self.library.unbuilt(named).next()
        {
            return Some(format!("{id} is not built"));
        }
        let fixtures = scenario
            .fixtures
            .iter()
            .filter_map(|name| self.library.fixtures.get(name));
        let sessions = self
            .whose(named)
            .into_iter()
            .filter_map(|name| self.library.sessions.get(name));
        let mut needs = std::iter::once(&scenario.needs)
            .chain(fixtures.map(|(_, fixture)| &fixture.needs))
            .chain(sessions.map(|(_, session)| &session.needs));
        needs.find_map(|needs| self.site.lacks(needs))
    }

    /// The sessions that a scenario cannot do without. Where one is named by a variable, any may be meant: those that
    /// the site has not are then missed when they are asked for.
    fn whose<'s>(&'s self, named: &'s Named) -> BTreeSet<&'s str> {
        let own = named.scenario.as_.as_deref().unwrap_or(DEFAULT);
        let mut all: BTreeSet<&str> = self.library.whose(named).chain([own]).collect();
        all.retain(|name| *name != NOBODY && !has_variable(name));
        if !named.scenario.fixtures.is_empty() {
            all.insert(DEFAULT);
        }
        all.retain(|name| self.library.sessions.contains_key(*name));
        all
    }

    /// The sessions of a scenario, signed in if nobody did before.
    async fn signed(&self, named: &Named) -> Result<BTreeMap<String, Arc<Signed>>, String> {
        let any = self.library.whose(named).any(has_variable);
        let mut signed = BTreeMap::new();
        for (name, (_, session)) in &self.library.sessions {
            let wanted = self.whose(named).contains(name.as_str())
                || (any && self.site.lacks(&session.needs).is_none());
            if wanted {
                signed.insert(name.clone(), self.sessions.get(self, name).await?);
            }
        }
        Ok(signed)
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
        let signed = match self.signed(named).await {
            Ok(signed) => signed,
            Err(why) => {
                report.outcome = Outcome::Failed;
                report.reason = Some(why);
                return report;
            }
        };
        let mut play = Play::new(self);
        play.own = named.scenario.as_.clone().unwrap_or_else(|| DEFAULT.to_owned());
        play.join(signed);
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

    pub(crate) fn vars(&self) -> Vars {
        let mut vars = Vars::default();
        let random = uuid::Uuid::new_v4();
        let unique: String = random.simple().to_string().chars().take(10).collect();
        // Ten characters that begin with a letter suit every dialect's names.
        vars.set("unique", Value::String(format!("cf{unique}")));
        let unknown = uuid::Uuid::new_v4();
        vars.set("unknown_uuid", Value::String(unknown.to_string()));
        vars.set("unknown_hex", Value::String(unknown.simple().to_string()));
        let now = jiff::Timestamp::now();
        vars.set("now", Value::from(now.as_second()));
        vars.set("now_ms", Value::from(now.as_millisecond()));
        vars.set("site", Value::Object(self.site.vars.clone()));
        vars.set("host", Value::String(self.address.host().to_owned()));
        vars.set("authority", Value::String(self.address.authority().to_owned()));
        vars
    }
}

/// A scenario on its way.
pub(crate) struct Play<'s> {
    pub(crate) stage: &'s Stage,
    pub(crate) contract: &'static Contract,
    pub(crate) vars: Vars,
    pub(crate) secrets: Secrets,
    pub(crate) steps: Vec<StepReport>,
    /// The headers of the session that the step at hand uses.
    pub(crate) headers: Vec<(String, String)>,
    signed: BTreeMap<String, Arc<Signed>>,
    /// Whose session steps use that name none.
    own: String,
}

impl<'s> Play<'s> {
    pub(crate) fn new(stage: &'s Stage) -> Self {
        Self {
            stage,
            contract: contract(stage.library.dialect),
            vars: stage.vars(),
            secrets: Secrets::default(),
            steps: Vec::new(),
            headers: Vec::new(),
            signed: BTreeMap::new(),
            own: NOBODY.to_owned(),
        }
    }

    /// Takes sessions in: what they know is `${sessions.name.…}`, and their secrets are secrets here, too.
    pub(crate) fn join(&mut self, signed: BTreeMap<String, Arc<Signed>>) {
        for one in signed.values() {
            self.secrets.join(&one.secrets);
        }
        let known = signed
            .iter()
            .map(|(name, one)| (name.clone(), Value::Object(one.vars.clone())));
        self.vars.set("sessions", Value::Object(known.collect()));
        self.signed = signed;
    }

    /// Puts the session on that a step uses.
    fn put_on(&mut self, step: &Step, own: &str) -> Result<(), String> {
        let name = self.vars.text(step.as_.as_deref().unwrap_or(own))?;
        self.headers.clear();
        match self.signed.get(&name) {
            Some(signed) => {
                self.headers.clone_from(&signed.headers);
                self.vars.set("session", Value::Object(signed.vars.clone()));
                Ok(())
            }
            // A dialect without sessions has no default one either.
            None if name == NOBODY
                || (name == DEFAULT && !self.stage.library.sessions.contains_key(DEFAULT)) =>
            {
                Ok(())
            }
            None => Err(format!("there is no session `{name}` here")),
        }
    }

    async fn all(&mut self, named: &Named) -> Result<bool, String> {
        let scenario = &named.scenario;
        for name in &scenario.fixtures {
            let Some((file, fixture)) = self.stage.library.fixtures.get(name) else {
                continue;
            };
            self.set(&fixture.vars)?;
            if !self.phase("setup", file, &fixture.setup, DEFAULT).await {
                return Ok(false);
            }
        }
        self.set(&scenario.vars)?;
        let own = self.own.clone();
        Ok(self.phase("setup", &named.file, &scenario.setup, &own).await
            && self.phase("steps", &named.file, &scenario.steps, &own).await)
    }

    async fn clean(&mut self, named: &Named) -> bool {
        let own = self.own.clone();
        let mut good = self
            .phase("cleanup", &named.file, &named.scenario.cleanup, &own)
            .await;
        for name in named.scenario.fixtures.iter().rev() {
            if let Some((file, fixture)) = self.stage.library.fixtures.get(name) {
                good &= self.phase("cleanup", file, &fixture.cleanup, DEFAULT).await;
            }
        }
        good
    }

    pub(crate) fn set(&mut self, vars: &serde_json::Map<String, Value>) -> Result<(), String> {
        for (name, value) in vars {
            let value = self.vars.fill(value)?;
            self.secrets.learn_named(name, &value);
            self.vars.set(name, value);
        }
        Ok(())
    }

    /// Runs steps in order. Clean-up goes on after a failure and leaves out what has nothing to remove.
    pub(crate) async fn phase(
        &mut self,
        phase: &'static str,
        file: &str,
        steps: &[Spanned<Step>],
        own: &str,
    ) -> bool {
        let stop = phase != "cleanup";
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
                if let Err(why) = self.put_on(step, own) {
                    self.complain(phase, &place, why);
                    return false;
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

    pub(crate) fn complain(&mut self, phase: &'static str, place: &str, why: String) {
        self.steps.push(StepReport {
            phase,
            place: place.to_owned(),
            name: None,
            operation: None,
            polled: None,
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
        let got = match scene.got.clone() {
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
        self.judge(step, &scene, &got, &mut report);
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
