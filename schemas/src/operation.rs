//! An operation: one row of a dialect's catalogue or one companion, with its schemas.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::catalog::{Field, Location, Structure};
use crate::dialect::Dialect;
use crate::leniency::{Leniency, Rules};
use crate::path::PathTemplate;
use crate::schema::TypeExpr;
use crate::settings::Settings;
use crate::validate::{Compiled, Violation};
use crate::{normalise, schema};

/// The name of a structure that is embedded in another one without a name.
const EMBEDDED: &str = "<anonymous>";
/// How many structures within each other are spelled out.
const DEEPEST: usize = 6;

/// Where an operation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The catalogue of the document.
    Documented,
    /// A call that clients need and the document lacks; counted apart.
    Companion,
}

/// How the document describes an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationKind {
    /// The answer is the result.
    Sync,
    /// The answer says that work began.
    Async,
    /// Several objects in one call.
    Batch,
}

/// The point of a job at which the answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerWhen {
    /// Once the job is stored.
    Accepted,
    /// Once the first step has begun.
    Started,
    /// Once the job has ended, or after the longest wait.
    Done,
}

/// A part of a call that has a schema of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Path parameters: an object of strings, percent-decoded.
    Path,
    /// Query parameters: an object of strings, or of arrays of strings where a name is repeated.
    Query,
    /// Request headers that the dialect documents: an object of strings, names in small letters.
    Headers,
    /// The request body.
    Body,
    /// The body of a good answer. For failures see [`crate::ErrorTable::body_schema`].
    Answer,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 5] = [Part::Path, Part::Query, Part::Headers, Part::Body, Part::Answer];

    const fn index(self) -> usize {
        match self {
            Part::Path => 0,
            Part::Query => 1,
            Part::Headers => 2,
            Part::Body => 3,
            Part::Answer => 4,
        }
    }

    /// The location of the request fields of this part.
    pub(crate) const fn location(self) -> Option<Location> {
        match self {
            Part::Path => Some(Location::Path),
            Part::Query => Some(Location::Query),
            Part::Headers => Some(Location::Header),
            Part::Body => Some(Location::Body),
            Part::Answer => None,
        }
    }
}

/// How strictly a value is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// The document with the choices made: for reports, OpenAPI and our own answers.
    Document,
    /// The document relaxed by the leniencies: for requests.
    Accept,
}

impl Layer {
    /// Both layers.
    pub const ALL: [Layer; 2] = [Layer::Document, Layer::Accept];

    const fn index(self) -> usize {
        match self {
            Layer::Document => 0,
            Layer::Accept => 1,
        }
    }
}

/// What all operations of a dialect share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) structures: HashMap<String, Structure>,
    pub(crate) leniencies: Vec<Leniency>,
    pub(crate) settings: Settings,
}

/// One operation of a dialect.
#[derive(Debug)]
pub struct Operation {
    /// The dialect.
    pub dialect: Dialect,
    /// The catalogue's id, for example `guest.create`.
    pub id: String,
    /// HTTP method, in capitals.
    pub method: String,
    /// The documented path.
    pub path: PathTemplate,
    /// Further paths that lead to the same operation.
    pub also: Vec<PathTemplate>,
    /// ZStack: the top-level key of the body. Feed: the kind of report or the type of task. Else `None`.
    pub action: Option<String>,
    /// Other spellings of the action that are taken.
    pub action_aliases: Vec<String>,
    /// Catalogue or companion.
    pub origin: Origin,
    /// What it does, in a few words.
    pub title: String,
    /// Where a companion is described; for documented operations the catalogue's own source.
    pub source: String,
    /// How the document describes it.
    pub kind: OperationKind,
    /// Whether the gateway has it. What is not built answers "not implemented" in its dialect.
    pub built: bool,
    /// When it answers.
    pub answer_when: AnswerWhen,
    /// The longest time that an answer waits for its job.
    pub longest_wait: Duration,
    /// Whether it says "accepted" whatever the state of its subject is.
    pub accepts_blindly: bool,
    /// Whether it changes anything. Never judge this by the method.
    pub state_changing: bool,
    /// The backend capabilities that it needs, `group.method`.
    pub capabilities: Vec<String>,
    pub(crate) request: Vec<Field>,
    pub(crate) response: Vec<Field>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) compiled: [[OnceLock<Compiled>; 2]; 5],
}

impl Operation {
    /// The documented path and its alternatives.
    pub fn paths(&self) -> impl Iterator<Item = &PathTemplate> {
        std::iter::once(&self.path).chain(&self.also)
    }

    /// The JSON Schema (draft 2020-12) of a part. Self-contained: `$ref` points to `$defs` only.
    /// A request without a documented body has the schema `{}`.
    pub fn schema(&self, part: Part, layer: Layer) -> &Value {
        &self.compiled(part, layer).schema
    }

    /// Whether the document gives the request a body.
    pub fn has_body(&self) -> bool {
        self.action_key().is_some() || self.fields(Part::Body).next().is_some()
    }

    /// Judges a value.
    ///
    /// At [`Layer::Accept`] the value is judged as [`Operation::normalise`] would rewrite it.
    ///
    /// # Errors
    /// What is wrong, in the order in which the document lists the fields; at most
    /// [`Violation::MOST`](crate::Violation::MOST) entries. Violations never carry the text of a value.
    pub fn validate(&self, part: Part, layer: Layer, value: &Value) -> Result<(), Vec<Violation>> {
        if layer == Layer::Accept && self.rules(part).rewrite() {
            return self.normalise(part, value.clone()).1;
        }
        self.compiled(part, layer).judge(value, || self.field_order(part))
    }

    /// Rewrites a value to the documented spelling as far as the leniencies allow (names of members, numbers
    /// written as text, nulls) and judges the result at [`Layer::Accept`]. Frontends decode what this returns.
    pub fn normalise(&self, part: Part, value: Value) -> (Value, Result<(), Vec<Violation>>) {
        let rules = self.rules(part);
        let value = if rules.rewrite() {
            normalise::rewrite(value, self.schema(part, Layer::Document), &rules)
        } else {
            value
        };
        let verdict = self
            .compiled(part, Layer::Accept)
            .judge(&value, || self.field_order(part));
        (value, verdict)
    }

    /// The documented request fields as `<location>.<full name>`: the keys of the dispositions. Of a structure all
    /// members are listed, too, and instead of one that is embedded without a name.
    pub fn documented_fields(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for field in &self.request {
            let location = field.location.map_or("body", Location::name);
            self.spell_out(format!("{location}.{}", field.full_name()), field, 0, &mut names);
        }
        names
    }

    fn spell_out(&self, path: String, field: &Field, depth: usize, names: &mut Vec<String>) {
        let structures = &self.shared.structures;
        let written = TypeExpr::parse(field.type_name.as_deref().unwrap_or("unknown"));
        let items = written.items();
        let of_items = items.and_then(|items| items.structure(structures));
        let structure = written.structure(structures).or(of_items);
        let embedded = path.strip_suffix(EMBEDDED).filter(|_| structure.is_some());
        let prefix = match embedded {
            Some(prefix) => prefix.to_owned(),
            None if of_items.is_some() => format!("{path}[]."),
            None => format!("{path}."),
        };
        if embedded.is_none() && !names.contains(&path) {
            names.push(path);
        }
        // A structure may hold itself.
        let deeper = structure.filter(|_| depth < DEEPEST);
        for member in deeper.into_iter().flat_map(|structure| &structure.fields) {
            self.spell_out(
                format!("{prefix}{}", member.full_name()),
                member,
                depth + 1,
                names,
            );
        }
    }

    /// The top-level key of a body that must be there: the action of ZStack. The feed names its actions otherwise.
    pub(crate) fn action_key(&self) -> Option<&str> {
        match self.dialect {
            Dialect::Zstack => self.action.as_deref(),
            Dialect::GuestRest | Dialect::V1Compute | Dialect::PveOpen | Dialect::KvmTaskFeed => None,
        }
    }

    pub(crate) fn rules(&self, part: Part) -> Rules {
        Rules::collect(&self.shared.leniencies, part, &self.id)
    }

    /// The rows that make up a part.
    pub(crate) fn fields(&self, part: Part) -> impl Iterator<Item = &Field> {
        let headers = if part == Part::Headers {
            self.shared.settings.headers.as_slice()
        } else {
            &[]
        };
        let rows = if part == Part::Answer {
            &self.response
        } else {
            &self.request
        };
        let location = part.location();
        rows.iter()
            .filter(move |field| part == Part::Answer || field.location == location)
            .chain(headers)
    }

    fn compiled(&self, part: Part, layer: Layer) -> &Compiled {
        // The fallback is unreachable: both indices are below the lengths of the arrays.
        static NONE: OnceLock<Compiled> = OnceLock::new();
        let cell = self
            .compiled
            .get(part.index())
            .and_then(|layers| layers.get(layer.index()))
            .unwrap_or(&NONE);
        cell.get_or_init(|| {
            let document = schema::document(self, part);
            match layer {
                Layer::Document => Compiled::new(document),
                Layer::Accept => Compiled::new(schema::accept(&document, &self.rules(part))),
            }
        })
    }

    /// Names of top-level members in the order of the document.
    fn field_order(&self, part: Part) -> Vec<&str> {
        self.fields(part)
            .map(|field| {
                let name = field.wrapper.as_deref().unwrap_or(&field.name);
                name.split(['.', '[']).next().unwrap_or(name)
            })
            .collect()
    }
}
