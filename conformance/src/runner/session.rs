//! Sessions: callers who are signed in once for a whole run. `sessions/<name>.yaml` says how, and which headers then go
//! with every request that is made as that caller.
//!
//! A session is signed in when the first scenario needs it, and signed out when all have ended. How that went stands in
//! the report like a scenario, as `sessions/<name>`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::exec::{Play, Stage};
use super::library::Library;
use super::mask::Secrets;
use super::record::hidden;
use super::report::{Outcome, ScenarioReport};
use super::scenario::Session;

/// The session of scenarios that name none.
pub(crate) const DEFAULT: &str = "default";

/// The session of those who have none.
pub(crate) const NOBODY: &str = "nobody";

/// A caller who is signed in.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) headers: Vec<(String, String)>,
    /// What the sign-in kept: `${session.…}`.
    pub(crate) vars: Map<String, Value>,
    pub(crate) secrets: Secrets,
    report: ScenarioReport,
}

/// How signing in went.
type SignIn = Result<Arc<Signed>, Box<ScenarioReport>>;

/// The sessions of a run.
#[derive(Debug)]
pub(crate) struct Sessions(BTreeMap<String, OnceCell<SignIn>>);

impl Sessions {
    pub(crate) fn of(library: &Library) -> Self {
        let names = library.sessions.keys();
        Self(names.map(|name| (name.clone(), OnceCell::new())).collect())
    }

    /// The session of that name, signed in if nobody did before.
    ///
    /// # Errors
    /// It could not be signed in; the report of the sign-in says why.
    pub(crate) async fn get(&self, stage: &Stage, name: &str) -> Result<Arc<Signed>, String> {
        let there = self.0.get(name).zip(stage.library.sessions.get(name));
        let Some((cell, (file, session))) = there else {
            return Err(format!("there is no session `{name}`"));
        };
        let made = cell.get_or_init(|| sign_in(stage, name, file, session)).await;
        match made {
            Ok(signed) => Ok(Arc::clone(signed)),
            Err(report) => Err(format!("{} could not be signed in; see there", report.name)),
        }
    }

    /// Signs all out, and tells how each went.
    pub(crate) async fn end(&self, stage: &Stage) -> Vec<ScenarioReport> {
        let mut reports = Vec::new();
        for (name, cell) in &self.0 {
            let Some((file, session)) = stage.library.sessions.get(name) else {
                continue;
            };
            match cell.get() {
                None => {}
                Some(Err(report)) => reports.push((**report).clone()),
                Some(Ok(signed)) => reports.push(sign_out(stage, name, file, session, signed).await),
            }
        }
        reports
    }
}

async fn sign_in(stage: &Stage, name: &str, file: &str, session: &Session) -> SignIn {
    let start = Instant::now();
    let mut play = Play::new(stage);
    let before = play.vars.names();
    let mut headers = Vec::new();
    let good = match play.set(&session.vars) {
        Err(why) => {
            play.complain("setup", file, why);
            false
        }
        Ok(()) => {
            play.phase("setup", file, &session.setup, NOBODY).await
                && fill(&mut play, file, session, &mut headers)
        }
    };
    let report = ScenarioReport {
        name: format!("sessions/{name}"),
        file: file.to_owned(),
        desc: session.desc.clone(),
        covers: Vec::new(),
        outcome: if good { Outcome::Passed } else { Outcome::Failed },
        reason: None,
        seconds: start.elapsed().as_secs_f64(),
        steps: std::mem::take(&mut play.steps)
            .into_iter()
            .map(|step| hidden(step, &play.secrets))
            .collect(),
    };
    if !good {
        return Err(Box::new(report));
    }
    Ok(Arc::new(Signed {
        headers,
        vars: play.vars.since(&before),
        secrets: play.secrets,
        report,
    }))
}

/// Fills the headers; what stands behind the scheme is a secret.
fn fill(play: &mut Play<'_>, file: &str, session: &Session, headers: &mut Vec<(String, String)>) -> bool {
    for (name, template) in &session.headers {
        match play.vars.text(template) {
            Ok(value) => {
                let secret = value.rsplit(' ').next().unwrap_or(&value).to_owned();
                play.secrets.learn_named("authorization", &Value::String(secret));
                headers.push((name.clone(), value));
            }
            Err(why) => {
                play.complain("setup", file, format!("header {name}: {why}"));
                return false;
            }
        }
    }
    true
}

async fn sign_out(
    stage: &Stage,
    name: &str,
    file: &str,
    session: &Session,
    signed: &Arc<Signed>,
) -> ScenarioReport {
    let mut play = Play::new(stage);
    play.join(BTreeMap::from([(name.to_owned(), Arc::clone(signed))]));
    for (name, value) in &signed.vars {
        play.vars.set(name, value.clone());
    }
    let good = play.phase("cleanup", file, &session.cleanup, name).await;
    let mut report = signed.report.clone();
    if !good {
        report.outcome = Outcome::Failed;
    }
    let secrets = play.secrets;
    report
        .steps
        .extend(play.steps.into_iter().map(|step| hidden(step, &secrets)));
    report
}
