//! `errors.json`: the codes and texts of a dialect, and the way out for every canonical error. Total by reading:
//! a file that leaves out a kind is refused.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::validate::{Compiled, Problem, Violation};

macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The name used in the data.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The one of that name.
            pub fn from_name(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|item| item.name() == name)
            }
        }
    };
}

named_enum! {
    /// The kinds of failure inside the gateway; names as the core spells them.
    ErrorKind {
        /// No such object.
        NotFound = "NotFound",
        /// The name or id is taken.
        AlreadyExists = "AlreadyExists",
        /// A field is missing or wrong.
        InvalidInput = "InvalidInput",
        /// Not legal in the present state.
        IllegalState = "IllegalState",
        /// Another change is under way.
        Busy = "Busy",
        /// The backend cannot do this.
        Unsupported = "Unsupported",
        /// The gateway does not do this yet.
        NotImplemented = "NotImplemented",
        /// No or stale credentials.
        Unauthenticated = "Unauthenticated",
        /// Not allowed to this caller.
        Forbidden = "Forbidden",
        /// No host, address or space left.
        NoResources = "NoResources",
        /// The caller's quota is used up.
        QuotaExceeded = "QuotaExceeded",
        /// The backend cannot be reached.
        BackendUnavailable = "BackendUnavailable",
        /// It took too long.
        Timeout = "Timeout",
        /// Changed by someone else meanwhile.
        Conflict = "Conflict",
        /// Our own fault.
        Internal = "Internal",
    }
}

named_enum! {
    /// Failures that the server meets before an operation is known or run.
    TransportFault {
        /// The dialect has no such path.
        UnknownPath = "unknown_path",
        /// The path has no such method.
        WrongMethod = "wrong_method",
        /// The body is not JSON, or not UTF-8, or repeats a key.
        MalformedBody = "malformed_body",
        /// The body is larger than the limit.
        BodyTooLarge = "body_too_large",
        /// The operation is known and not built.
        NotBuilt = "not_built",
        /// Too many requests at once, or shutting down.
        Overloaded = "overloaded",
    }
}

/// One code with its texts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorRow {
    /// The code. Text here even where it is a number on the wire.
    pub code: String,
    /// The HTTP status that goes with it.
    pub status: u16,
    /// English text on the wire, where the dialect has one.
    #[serde(default)]
    pub en: Option<String>,
    /// Chinese text on the wire, where the dialect has one.
    #[serde(default)]
    pub zh: Option<String>,
    /// What it means; never on the wire.
    pub meaning: String,
    /// The trunk of a branch (Guest REST).
    #[serde(default)]
    pub parent: Option<String>,
    /// The operations whose table lists it; empty where any may answer it.
    #[serde(default)]
    pub operations: Vec<String>,
    /// True for a body of plain text (ZStack's REST layer).
    #[serde(default)]
    pub plain_text: bool,
    /// True for a number of our own.
    #[serde(default)]
    pub chosen: bool,
    /// True for a code that is known but must not be sent.
    #[serde(default)]
    pub never_sent: bool,
    /// Why no call that is built can answer it; none for a code that a test reaches, and in dialects that are not
    /// built.
    #[serde(default)]
    pub unreachable: Option<String>,
    /// Where it is documented.
    pub source: String,
}

/// The answer to one kind of failure.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// HTTP status.
    pub status: u16,
    /// Code and texts.
    pub row: Arc<ErrorRow>,
    /// The row of the trunk, where the code is a branch.
    pub parent: Option<Arc<ErrorRow>>,
    /// Why this code.
    pub reason: String,
}

/// All codes of a dialect and the way out for each kind of failure.
#[derive(Debug)]
pub struct ErrorTable {
    rows: Vec<Arc<ErrorRow>>,
    by_code: HashMap<String, Arc<ErrorRow>>,
    kinds: HashMap<ErrorKind, Outcome>,
    faults: HashMap<TransportFault, Outcome>,
    problems: HashMap<Problem, Outcome>,
    success: Arc<ErrorRow>,
    fallback: Outcome,
    body: Compiled,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ErrorFile {
    body: Value,
    success: String,
    codes: Vec<ErrorRow>,
    kinds: BTreeMap<String, OutcomeRow>,
    violations: BTreeMap<String, OutcomeRow>,
    faults: BTreeMap<String, OutcomeRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutcomeRow {
    status: u16,
    code: String,
    reason: String,
}

impl ErrorTable {
    /// The answer to a canonical error.
    pub fn for_kind(&self, kind: ErrorKind) -> &Outcome {
        self.kinds.get(&kind).unwrap_or(&self.fallback)
    }

    /// The answer to a failure of transport.
    pub fn for_fault(&self, fault: TransportFault) -> &Outcome {
        self.faults.get(&fault).unwrap_or(&self.fallback)
    }

    /// The answer to a violation of the schema.
    pub fn for_problem(&self, problem: Problem) -> &Outcome {
        self.problems.get(&problem).unwrap_or(&self.fallback)
    }

    /// The row of a code.
    pub fn row(&self, code: &str) -> Option<&ErrorRow> {
        self.by_code.get(code).map(Arc::as_ref)
    }

    /// The answer for a documented code, with its own status; for codes that an operation chooses itself.
    pub fn for_code(&self, code: &str) -> Option<Outcome> {
        let row = self.by_code.get(code)?;
        let parent = row
            .parent
            .as_ref()
            .and_then(|parent| self.by_code.get(parent))
            .cloned();
        Some(Outcome {
            status: row.status,
            row: Arc::clone(row),
            parent,
            reason: "documented".to_owned(),
        })
    }

    /// All codes in the order of the file.
    pub fn rows(&self) -> impl Iterator<Item = &ErrorRow> {
        self.rows.iter().map(Arc::as_ref)
    }

    /// The row of a good answer.
    pub fn success(&self) -> &ErrorRow {
        &self.success
    }

    /// JSON Schema of the body of a failure.
    pub fn body_schema(&self) -> &Value {
        &self.body.schema
    }

    /// Judges the body of a failure that is not plain text; for tests of the frontends.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn validate_body(&self, body: &Value) -> Result<(), Vec<Violation>> {
        self.body.judge(body, Vec::new)
    }

    pub(crate) fn build(file: ErrorFile) -> Result<ErrorTable, String> {
        let rows: Vec<Arc<ErrorRow>> = file.codes.into_iter().map(Arc::new).collect();
        let mut by_code = HashMap::new();
        for row in &rows {
            if by_code.insert(row.code.clone(), Arc::clone(row)).is_some() {
                return Err(format!("code `{}` is there twice", row.code));
            }
        }
        if let Some(row) = rows
            .iter()
            .find(|row| row.parent.as_ref().is_some_and(|p| !by_code.contains_key(p)))
        {
            return Err(format!("code `{}` has an unknown parent", row.code));
        }
        let success = by_code
            .get(&file.success)
            .cloned()
            .ok_or("the success code has no row")?;
        let kinds = total("kinds", ErrorKind::ALL, ErrorKind::name, file.kinds, &by_code)?;
        let faults = total(
            "faults",
            TransportFault::ALL,
            TransportFault::name,
            file.faults,
            &by_code,
        )?;
        let problems = total(
            "violations",
            &Problem::ALL,
            Problem::name,
            file.violations,
            &by_code,
        )?;
        let fallback = kinds
            .get(&ErrorKind::Internal)
            .cloned()
            .ok_or("`Internal` has no row")?;
        Ok(ErrorTable {
            rows,
            by_code,
            kinds,
            faults,
            problems,
            success,
            fallback,
            body: Compiled::new(file.body),
        })
    }

    /// The table of a contract that could not be read: everything is an internal error.
    pub(crate) fn empty() -> ErrorTable {
        let row = Arc::new(ErrorRow {
            code: "500".to_owned(),
            status: 500,
            en: Some("the contract of this dialect could not be read".to_owned()),
            zh: None,
            meaning: "the contract of this dialect could not be read".to_owned(),
            parent: None,
            operations: Vec::new(),
            plain_text: true,
            chosen: true,
            never_sent: false,
            unreachable: None,
            source: "chosen".to_owned(),
        });
        ErrorTable {
            rows: Vec::new(),
            by_code: HashMap::new(),
            kinds: HashMap::new(),
            faults: HashMap::new(),
            problems: HashMap::new(),
            success: Arc::clone(&row),
            fallback: Outcome {
                status: 500,
                row,
                parent: None,
                reason: "chosen".to_owned(),
            },
            body: Compiled::new(Value::Bool(true)),
        }
    }
}

/// Reads one table and insists that it has every key and no other.
fn total<K: Copy + Eq + std::hash::Hash>(
    table: &str,
    all: &[K],
    name: impl Fn(K) -> &'static str,
    mut rows: BTreeMap<String, OutcomeRow>,
    by_code: &HashMap<String, Arc<ErrorRow>>,
) -> Result<HashMap<K, Outcome>, String> {
    let mut outcomes = HashMap::new();
    for key in all.iter().copied() {
        let row = rows
            .remove(name(key))
            .ok_or_else(|| format!("{table}: `{}` is missing", name(key)))?;
        let code = by_code
            .get(&row.code)
            .ok_or_else(|| format!("{table}: `{}` has the unknown code `{}`", name(key), row.code))?;
        if code.never_sent || code.unreachable.is_some() {
            return Err(format!("{table}: `{}` has a code that is never sent", name(key)));
        }
        let parent = code
            .parent
            .as_ref()
            .and_then(|parent| by_code.get(parent))
            .cloned();
        outcomes.insert(
            key,
            Outcome {
                status: row.status,
                row: Arc::clone(code),
                parent,
                reason: row.reason,
            },
        );
    }
    match rows.keys().next() {
        Some(stranger) => Err(format!("{table}: `{stranger}` is not known")),
        None => Ok(outcomes),
    }
}
