//! The scenario format: what a file may say, and nothing else. `docs/conformance.md` explains it for authors.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::path::JsonPath;
use super::predicate::Predicate;
use super::site::check_needs;
use super::vars::has_variable;

/// What stands behind the address: decides which steps hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The gateway.
    Gateway,
    /// The system that the dialect comes from.
    Original,
}

/// A scenario as its file says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) desc: String,
    #[serde(default)]
    pub(crate) covers: Vec<String>,
    /// Whose session its own steps use; see [`Session`].
    #[serde(rename = "as")]
    pub(crate) as_: Option<String>,
    #[serde(default = "both")]
    pub(crate) targets: Vec<Target>,
    pub(crate) divergence: Option<String>,
    #[serde(default)]
    pub(crate) exclusive: bool,
    /// Whether it belongs to the short choice that is run on real hypervisors with every change.
    #[serde(default)]
    pub(crate) short: bool,
    #[serde(default)]
    pub(crate) needs: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) fixtures: Vec<String>,
    #[serde(default)]
    pub(crate) vars: Map<String, Value>,
    #[serde(default)]
    pub(crate) setup: Vec<Spanned<Step>>,
    pub(crate) steps: Vec<Spanned<Step>>,
    #[serde(default)]
    pub(crate) cleanup: Vec<Spanned<Step>>,
}

/// What scenarios share: made before their own set-up, removed after their own clean-up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fixture {
    pub(crate) desc: String,
    #[serde(default)]
    pub(crate) exclusive: bool,
    #[serde(default)]
    pub(crate) needs: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) vars: Map<String, Value>,
    #[serde(default)]
    pub(crate) setup: Vec<Spanned<Step>>,
    #[serde(default)]
    pub(crate) cleanup: Vec<Spanned<Step>>,
}

/// One signed-in caller, signed in once per run: its headers go with every step that is done `as` it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    pub(crate) desc: String,
    #[serde(default)]
    pub(crate) needs: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(crate) vars: Map<String, Value>,
    #[serde(default)]
    pub(crate) setup: Vec<Spanned<Step>>,
    /// Header → text, filled when the set-up is through.
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) cleanup: Vec<Spanned<Step>>,
}

/// One step: one exchange, or several alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) name: Option<String>,
    /// Whose session it uses in place of its scenario's.
    #[serde(rename = "as")]
    pub(crate) as_: Option<String>,
    pub(crate) request: Option<RequestSpec>,
    pub(crate) raw: Option<RawSpec>,
    pub(crate) poll: Option<PollSpec>,
    pub(crate) job: Option<JobSpec>,
    pub(crate) example: Option<ExampleSpec>,
    #[serde(default)]
    pub(crate) expect: Expect,
    #[serde(default)]
    pub(crate) save: BTreeMap<String, SaveSpec>,
    pub(crate) for_each: Option<Map<String, Value>>,
    pub(crate) targets: Option<Vec<Target>>,
    pub(crate) divergence: Option<String>,
    #[serde(default)]
    pub(crate) broken: bool,
    #[serde(default)]
    pub(crate) unchecked: Unchecked,
}

/// A request that is answered 202 with an address, which is asked until the work has ended.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobSpec {
    method: String,
    path: String,
    #[serde(default)]
    query: Map<String, Value>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
    text: Option<String>,
    #[serde(default = "two_minutes")]
    pub(crate) within: String,
    #[serde(default = "tenth")]
    pub(crate) every: String,
}

impl JobSpec {
    /// The request that begins it.
    pub(crate) fn request(&self) -> RequestSpec {
        RequestSpec {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            text: self.text.clone(),
        }
    }
}

/// A request. `body` is JSON, `text` goes out as it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestSpec {
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) query: Map<String, Value>,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Option<Value>,
    pub(crate) text: Option<String>,
}

/// Bytes as they go over the wire; the answer is read as HTTP.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSpec {
    pub(crate) bytes: String,
    #[serde(default)]
    pub(crate) half_close: bool,
}

/// A request that is repeated.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PollSpec {
    pub(crate) request: RequestSpec,
    #[serde(rename = "while")]
    pub(crate) while_: Option<Expect>,
    pub(crate) until: Option<Expect>,
    #[serde(default = "minute")]
    pub(crate) within: String,
    #[serde(default = "tenth")]
    pub(crate) every: String,
}

/// A documented example that is sent, and whose answer must have the printed shape.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExampleSpec {
    /// The operation's id.
    pub(crate) operation: String,
    /// The number of the example, from 0.
    #[serde(default)]
    pub(crate) number: usize,
    /// Printed text → what stands for it here; in path, query, request and answer.
    #[serde(default)]
    pub(crate) replace: BTreeMap<String, Value>,
    /// Query parameters and body that the document does not print.
    #[serde(default)]
    pub(crate) query: Map<String, Value>,
    pub(crate) body: Option<Value>,
    /// Paths of the answer whose value, too, must be as printed (after replacing).
    #[serde(default)]
    pub(crate) same: Vec<String>,
    /// Paths where a difference of shape is known → the reason, or the choice that decides it.
    #[serde(default)]
    pub(crate) differs: BTreeMap<String, String>,
}

/// What is expected of an answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) status: Option<Value>,
    #[serde(default)]
    pub(crate) headers: Map<String, Value>,
    pub(crate) body: Option<Value>,
    /// JSON path → expectation.
    #[serde(default)]
    pub(crate) paths: Map<String, Value>,
    pub(crate) text: Option<Value>,
    pub(crate) schema: Option<SchemaKind>,
}

/// Which of the operation's schemas an answer must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SchemaKind {
    /// A good answer.
    Answer,
    /// A failure.
    Error,
}

/// What is kept of an answer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum SaveSpec {
    /// A JSON path, or `header:<name>`.
    Path(String),
    /// The first value under a path with `[*]` that is not in a list.
    NotIn(NotIn),
}

/// See [`SaveSpec::NotIn`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NotIn {
    pub(crate) path: String,
    pub(crate) not_in: Value,
}

/// Why an exchange is not held against the contract.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unchecked {
    pub(crate) request: Option<String>,
    pub(crate) answer: Option<String>,
}

fn both() -> Vec<Target> {
    vec![Target::Gateway, Target::Original]
}

fn minute() -> String {
    "60s".to_owned()
}

fn two_minutes() -> String {
    "2m".to_owned()
}

fn tenth() -> String {
    "100ms".to_owned()
}

/// Reads `250ms`, `10s`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write 250ms, 10s or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(wrong()),
    }
}

/// Reads a file of the format `T`; complaints carry file, line and column.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(file: &str, text: &str) -> Result<T, String> {
    let mut options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    options.duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::Error;
    serde_saphyr::from_str_with_options(text, options).map_err(|error| match error.location() {
        Some(place) => format!("{file}:{}:{}: {error}", place.line(), place.column()),
        None => format!("{file}: {error}"),
    })
}

/// The line of a step.
pub(crate) fn line(step: &Spanned<Step>) -> u64 {
    step.referenced.line()
}

impl Scenario {
    /// Checks what the shape alone does not say.
    pub(crate) fn check(&self, file: &str) -> Result<(), String> {
        if self.desc.trim().is_empty() {
            return Err(format!("{file}: `desc` is empty"));
        }
        if self.covers.is_empty() && self.steps.iter().all(|step| step.value.example.is_none()) {
            return Err(format!(
                "{file}: `covers` names no rule, error, choice or example"
            ));
        }
        if self.steps.is_empty() {
            return Err(format!("{file}: `steps` is empty"));
        }
        narrowed(&self.targets, self.divergence.as_deref()).map_err(|why| format!("{file}: {why}"))?;
        check_needs(&self.needs).map_err(|why| format!("{file}: needs: {why}"))?;
        check_steps(file, self.setup.iter().chain(&self.steps).chain(&self.cleanup))
    }
}

impl Session {
    /// Checks what the shape alone does not say.
    pub(crate) fn check(&self, file: &str) -> Result<(), String> {
        if self.desc.trim().is_empty() {
            return Err(format!("{file}: `desc` is empty"));
        }
        check_needs(&self.needs).map_err(|why| format!("{file}: needs: {why}"))?;
        if let Some(step) = self
            .setup
            .iter()
            .chain(&self.cleanup)
            .find(|step| step.value.as_.is_some())
        {
            return Err(format!(
                "{file}:{}: a step of a session is done without one",
                line(step)
            ));
        }
        check_steps(file, self.setup.iter().chain(&self.cleanup))
    }
}

impl Fixture {
    /// Checks what the shape alone does not say.
    pub(crate) fn check(&self, file: &str) -> Result<(), String> {
        if self.desc.trim().is_empty() {
            return Err(format!("{file}: `desc` is empty"));
        }
        check_needs(&self.needs).map_err(|why| format!("{file}: needs: {why}"))?;
        check_steps(file, self.setup.iter().chain(&self.cleanup))
    }
}

fn check_steps<'s>(file: &str, steps: impl Iterator<Item = &'s Spanned<Step>>) -> Result<(), String> {
    for step in steps {
        step.value
            .check()
            .map_err(|why| format!("{file}:{}: {why}", line(step)))?;
    }
    Ok(())
}

fn narrowed(targets: &[Target], divergence: Option<&str>) -> Result<(), String> {
    match (targets, divergence.map(str::trim)) {
        ([], _) => Err("`targets` is empty".to_owned()),
        ([_], None | Some("")) => Err("a narrowed `targets` needs the reason in `divergence`".to_owned()),
        ([_, _, ..], Some(_)) => Err("`divergence` stands with a narrowed `targets` only".to_owned()),
        _ => Ok(()),
    }
}

impl Step {
    fn check(&self) -> Result<(), String> {
        let kinds = [
            self.request.is_some(),
            self.raw.is_some(),
            self.poll.is_some(),
            self.job.is_some(),
            self.example.is_some(),
        ];
        if kinds.iter().filter(|there| **there).count() != 1 {
            return Err("a step has one of `request`, `raw`, `poll`, `job` and `example`".to_owned());
        }
        match &self.targets {
            Some(targets) => narrowed(targets, self.divergence.as_deref())?,
            None if self.divergence.is_some() => {
                return Err("`divergence` stands with a narrowed `targets` only".to_owned());
            }
            None => {}
        }
        let job = self.job.as_ref().map(JobSpec::request);
        if let Some(request) = self.sent().or(job.as_ref())
            && request.body.is_some()
            && request.text.is_some()
        {
            return Err("a request has `body` or `text`, not both".to_owned());
        }
        if let Some(job) = &self.job {
            duration(&job.within)?;
            duration(&job.every)?;
        }
        if let Some(poll) = &self.poll {
            duration(&poll.within)?;
            duration(&poll.every)?;
            if poll.until.is_some() == poll.while_.is_some() {
                return Err("a poll has one of `until` and `while`".to_owned());
            }
            for expect in poll.until.iter().chain(&poll.while_) {
                expect.check()?;
            }
        }
        if self.for_each.as_ref().is_some_and(|each| each.len() != 1) {
            return Err("`for_each` names one variable".to_owned());
        }
        for reason in self.unchecked.request.iter().chain(&self.unchecked.answer) {
            if reason.trim().is_empty() {
                return Err("`unchecked` needs the reason".to_owned());
            }
        }
        for save in self.save.values() {
            let (SaveSpec::Path(path) | SaveSpec::NotIn(NotIn { path, .. })) = save;
            if !path.starts_with("header:") && !has_variable(path) {
                JsonPath::parse(path)?;
            }
        }
        self.expect.check()
    }

    /// The request that the step sends, where the file spells it.
    pub(crate) fn sent(&self) -> Option<&RequestSpec> {
        self.request
            .as_ref()
            .or_else(|| self.poll.as_ref().map(|poll| &poll.request))
    }
}

impl Expect {
    fn check(&self) -> Result<(), String> {
        for value in self
            .status
            .iter()
            .chain(&self.body)
            .chain(&self.text)
            .chain(self.headers.values())
        {
            Predicate::parse(value)?;
        }
        for (path, value) in &self.paths {
            if !has_variable(path) {
                JsonPath::parse(path)?;
            }
            Predicate::parse(value)?;
        }
        Ok(())
    }
}
