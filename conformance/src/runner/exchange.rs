//! One exchange of a scenario: sent, followed to its end where it only began something, and held against the contract.

use std::time::{Duration, Instant};

use super::asked::expected;
use super::client::{Got, prepare};
use super::contracts::{self, RequestVerdict, Sent, Tone};
use super::diff::{Difference, DifferenceKind};
use super::example::Golden;
use super::exec::Play;
use super::report::StepReport;
use super::scenario::{JobSpec, PollSpec, RequestSpec, SchemaKind, Step, duration};

/// One exchange, before it is judged.
pub(crate) struct Scene {
    pub(crate) sent: Sent,
    pub(crate) got: Result<Got, String>,
    pub(crate) golden: Option<Golden>,
    /// What asked for the end, where the request only began something.
    pub(crate) polled: Option<Sent>,
}

impl Scene {
    fn plain(sent: Sent, got: Result<Got, String>) -> Self {
        Self {
            sent,
            got,
            golden: None,
            polled: None,
        }
    }
}

impl Play<'_> {
    /// Sends what a step says.
    pub(crate) async fn play(&self, step: &Step, report: &mut StepReport) -> Result<Scene, String> {
        if let Some(spec) = &step.raw {
            let sent = Sent {
                method: "raw".to_owned(),
                ..Sent::default()
            };
            let got = self.stage.address.raw(spec, &self.vars).await;
            return Ok(Scene::plain(sent, got));
        }
        if let Some(poll) = &step.poll {
            return self.poll(poll, report).await;
        }
        if let Some(job) = &step.job {
            return self.follow(job, report).await;
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
        let sent = self.prepare(&request)?;
        let got = self.stage.address.send(&sent).await;
        Ok(Scene {
            golden,
            ..Scene::plain(sent, got)
        })
    }

    fn prepare(&self, request: &RequestSpec) -> Result<Sent, String> {
        prepare(request, &self.vars, &self.headers)
    }

    /// Sends what begins some work and asks the address that is answered until the work has ended. The last answer is
    /// the one that is judged; it must fit the operation that was called.
    async fn follow(&self, job: &JobSpec, report: &mut StepReport) -> Result<Scene, String> {
        let (within, every) = (duration(&job.within)?, duration(&job.every)?);
        let sent = self.prepare(&job.request())?;
        let got = match self.stage.address.send(&sent).await {
            Ok(got) => got,
            Err(why) => return Ok(Scene::plain(sent, Err(why))),
        };
        let Some(location) = location(&got) else {
            let why = format!("it was answered {} without `location`: no work began", got.status);
            report.problems.push(why);
            return Ok(Scene::plain(sent, Ok(got)));
        };
        report.problems.extend(contracts::answer(
            self.contract,
            None,
            got.status,
            got.json.as_ref(),
        ));
        // Clients send their credentials with every poll.
        let credentials = sent
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let poll = Sent {
            method: "GET".to_owned(),
            path: self.stage.address.below(&location)?.to_owned(),
            headers: credentials.cloned().collect(),
            body: None,
        };
        let start = Instant::now();
        loop {
            let got = self.stage.address.send(&poll).await;
            let ended = got.as_ref().map_or(true, |got| got.status != ACCEPTED);
            if !ended && start.elapsed() < within {
                tokio::time::sleep(every.max(Duration::from_millis(1))).await;
                continue;
            }
            if !ended {
                report
                    .problems
                    .push(format!("the work did not end within {}", job.within));
            }
            return Ok(Scene {
                polled: Some(poll),
                ..Scene::plain(sent, got)
            });
        }
    }

    /// Repeats a request until its condition turns; a missed deadline is reported with what was still missing.
    async fn poll(&self, poll: &PollSpec, report: &mut StepReport) -> Result<Scene, String> {
        let (within, every) = (duration(&poll.within)?, duration(&poll.every)?);
        let sent = self.prepare(&poll.request)?;
        let start = Instant::now();
        loop {
            let got = match self.stage.address.send(&sent).await {
                Ok(got) => got,
                Err(why) => return Ok(Scene::plain(sent, Err(why))),
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
                return Ok(Scene::plain(sent, Ok(got)));
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Holds both directions against the contract.
    pub(crate) fn judge(&self, step: &Step, scene: &Scene, got: &Got, report: &mut StepReport) {
        let verdict = if step.raw.is_some() {
            RequestVerdict {
                operation: None,
                problems: Vec::new(),
            }
        } else {
            contracts::request(self.contract, &self.below(&scene.sent))
        };
        report.operation = verdict.operation.map(|operation| operation.id.clone());
        if let Some(poll) = &scene.polled {
            let asked = contracts::request(self.contract, poll);
            report.polled = asked.operation.map(|operation| operation.id.clone());
            report.problems.extend(asked.problems);
        }
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
            Some(SchemaKind::Error) => matches!(tone, Tone::Bad(_)),
        };
        if !met {
            let (wanted, there) = match (report.good, &tone) {
                (true, _) => ("a failure", "a good answer"),
                (false, Tone::Accepted) => ("a good answer", "word that the work began; see `job`"),
                (false, _) => ("a good answer", "a failure"),
            };
            report.differences.push(Difference {
                path: "schema".to_owned(),
                kind: DifferenceKind::OtherValue,
                expected: wanted.to_owned(),
                received: there.to_owned(),
            });
        }
    }

    /// A request as the contract knows it: without the address that the target gave out.
    fn below(&self, sent: &Sent) -> Sent {
        let mut sent = sent.clone();
        if let Ok(path) = self.stage.address.below(&sent.path) {
            sent.path = path.to_owned();
        }
        sent
    }
}

/// The status that says that work began or goes on.
const ACCEPTED: u16 = 202;

/// The address in an answer that says that work began.
fn location(got: &Got) -> Option<String> {
    if got.status != ACCEPTED {
        return None;
    }
    let text = got.json.as_ref()?.get("location")?.as_str()?;
    Some(text.to_owned())
}
