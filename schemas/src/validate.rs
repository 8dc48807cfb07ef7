//! Compiled validators, and their complaints in words that a dialect can use.

use std::fmt;

use jsonschema::error::{ValidationError, ValidationErrorKind};
use jsonschema::{Draft, Keyword, PatternOptions, Validator};
use serde_json::{Map, Value};

/// The custom keyword for integers that must be written as integers and fit 64 bits with sign.
pub(crate) const PLAIN_INTEGER: &str = "plainInteger";

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Problem {
    /// A required field is not there.
    Missing,
    /// It has another JSON type.
    WrongType,
    /// A number below or above its bounds.
    OutOfRange,
    /// Text or a list too short or too long.
    Length,
    /// Text that does not fit its pattern.
    Pattern,
    /// Not one of the values allowed.
    NotAllowed,
    /// A field that the document does not have.
    Unknown,
    /// Anything else.
    Other,
}

impl Problem {
    /// All of them.
    pub const ALL: [Problem; 8] = [
        Problem::Missing,
        Problem::WrongType,
        Problem::OutOfRange,
        Problem::Length,
        Problem::Pattern,
        Problem::NotAllowed,
        Problem::Unknown,
        Problem::Other,
    ];

    /// The name used in `errors.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Problem::Missing => "missing",
            Problem::WrongType => "wrong_type",
            Problem::OutOfRange => "out_of_range",
            Problem::Length => "length",
            Problem::Pattern => "pattern",
            Problem::NotAllowed => "not_allowed",
            Problem::Unknown => "unknown",
            Problem::Other => "other",
        }
    }
}

/// One complaint. It never carries the text of a value: bodies hold passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer to the field, the missing one included, for example `/cpu`. Empty for the whole value.
    pub pointer: String,
    /// The name of the field: the last part of the pointer that is not an index; empty for the whole value.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
    /// The keyword of JSON Schema that failed.
    pub keyword: String,
    /// What is expected, for example `integer` or `at least 1`.
    pub expected: String,
    /// What was there: the JSON type, the value of a number, or the length of a text.
    pub received: String,
}

impl Violation {
    /// The greatest number of complaints about one value.
    pub const MOST: usize = 32;
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() {
            "the value"
        } else {
            self.pointer.as_str()
        };
        match self.problem {
            Problem::Missing => write!(f, "{place} is missing"),
            Problem::Unknown => write!(f, "{place} is not known here"),
            _ => write!(
                f,
                "{place}: expected {}, received {}",
                self.expected, self.received
            ),
        }
    }
}

/// A schema with its validator.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) schema: Value,
    validator: Result<Validator, String>,
}

impl Compiled {
    pub(crate) fn new(schema: Value) -> Compiled {
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .with_pattern_options(PatternOptions::regex())
            .with_keyword(PLAIN_INTEGER, plain_integer)
            .build(&schema)
            .map_err(|error| error.to_string());
        Compiled { schema, validator }
    }

    /// Judges a value; complaints come in the order of the fields, at most [`Violation::MOST`].
    pub(crate) fn judge<'f>(
        &self,
        value: &Value,
        fields: impl FnOnce() -> Vec<&'f str>,
    ) -> Result<(), Vec<Violation>> {
        let validator = match &self.validator {
            Ok(validator) => validator,
            Err(error) => return Err(vec![unusable(error)]),
        };
        if validator.is_valid(value) {
            return Ok(());
        }
        let mut violations: Vec<Violation> = validator
            .iter_errors(value)
            .flat_map(|error| complaints(&error))
            .take(Violation::MOST * 4)
            .collect();
        let fields = fields();
        violations.sort_by_key(|violation| {
            let top = violation.pointer.split('/').nth(1).unwrap_or_default();
            let place = fields
                .iter()
                .position(|field| *field == top)
                .unwrap_or(fields.len());
            // Of one field the type comes before the range: that is what the originals check first.
            (place, violation.problem)
        });
        violations.dedup();
        violations.truncate(Violation::MOST);
        Err(violations)
    }
}

fn unusable(error: &str) -> Violation {
    Violation {
        pointer: String::new(),
        field: String::new(),
        problem: Problem::Other,
        keyword: "$schema".to_owned(),
        expected: format!("a usable schema ({error})"),
        received: "none".to_owned(),
    }
}

fn complaints(error: &ValidationError<'_>) -> Vec<Violation> {
    let kind = error.kind();
    let keyword = match kind {
        ValidationErrorKind::Custom { keyword, .. } => keyword.as_str(),
        other => other.keyword(),
    };
    // Keys of a map come from the client and may be of any length.
    let pointer: String = error.instance_path().to_string().chars().take(512).collect();
    let one = |pointer: String, problem, expected: String, received: String| Violation {
        field: field_of(&pointer),
        pointer,
        problem,
        keyword: keyword.to_owned(),
        expected,
        received,
    };
    let here = |problem, expected: String| {
        vec![one(
            pointer.clone(),
            problem,
            expected,
            describe(error.instance()),
        )]
    };
    match kind {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let place = format!("{pointer}/{}", escape(name));
            vec![one(
                place,
                Problem::Missing,
                "a value".to_owned(),
                "nothing".to_owned(),
            )]
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| {
                let place = format!("{pointer}/{}", escape(&short(name)));
                one(
                    place,
                    Problem::Unknown,
                    "no such field".to_owned(),
                    "a value".to_owned(),
                )
            })
            .collect(),
        ValidationErrorKind::Type { kind } => here(Problem::WrongType, type_words(kind)),
        ValidationErrorKind::Custom { .. } => here(Problem::WrongType, "integer".to_owned()),
        // The first form is the documented one, the others are leniencies: its complaints say more.
        ValidationErrorKind::AnyOf { context } if context.first().is_some_and(|form| !form.is_empty()) => {
            context.iter().take(1).flatten().flat_map(complaints).collect()
        }
        ValidationErrorKind::AnyOf { .. } => here(Problem::WrongType, "one of several forms".to_owned()),
        ValidationErrorKind::Minimum { limit } => here(Problem::OutOfRange, format!("at least {limit}")),
        ValidationErrorKind::Maximum { limit } => here(Problem::OutOfRange, format!("at most {limit}")),
        ValidationErrorKind::MinLength { limit } | ValidationErrorKind::MinItems { limit } => {
            here(Problem::Length, format!("a length of at least {limit}"))
        }
        ValidationErrorKind::MaxLength { limit } | ValidationErrorKind::MaxItems { limit } => {
            here(Problem::Length, format!("a length of at most {limit}"))
        }
        ValidationErrorKind::Pattern { pattern } => {
            here(Problem::Pattern, format!("text that fits {pattern}"))
        }
        ValidationErrorKind::Enum { options } => here(Problem::NotAllowed, format!("one of {options}")),
        ValidationErrorKind::Constant { expected_value } => {
            here(Problem::NotAllowed, expected_value.to_string())
        }
        _ => here(Problem::Other, format!("a value that passes {keyword}")),
    }
}

fn type_words(kind: &jsonschema::error::TypeKind) -> String {
    use jsonschema::error::TypeKind;
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(set) => {
            let words: Vec<String> = set.iter().map(|one| one.to_string()).collect();
            words.join(" or ")
        }
    }
}

/// The value as it may be shown: never the text itself.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("boolean {flag}"),
        Value::Number(number) => format!("number {number}"),
        Value::String(text) => format!("string of length {}", text.chars().count()),
        Value::Array(items) => format!("array of {} items", items.len()),
        Value::Object(_) => "object".to_owned(),
    }
}

/// A name from the outside, cut to what an error may carry.
fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn field_of(pointer: &str) -> String {
    pointer
        .rsplit('/')
        .find(|part| part.parse::<usize>().is_err())
        .unwrap_or_default()
        .replace("~1", "/")
        .replace("~0", "~")
}

struct PlainInteger;

impl<'i> Keyword<'i> for PlainInteger {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if Keyword::<'i>::is_valid(self, instance) {
            Ok(())
        } else {
            Err(ValidationError::custom("not an integer of 64 bits"))
        }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        !instance.is_number() || instance.is_i64()
    }
}

fn plain_integer<'a>(
    _parent: &'a Map<String, Value>,
    _value: &'a Value,
    _path: jsonschema::paths::Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    Ok(Box::new(PlainInteger))
}
