//! From the query string to what is asked: the spellings of the original, its clients and its manual.

use babelvisor_core::{Error, ErrorKind};

use super::value::Operator;

/// The field of errors about the query string itself: the original's REST layer complains about those in plain text.
pub(crate) const QUERY_STRING: &str = "the query string";
/// How many rows are answered unless told.
pub(crate) const DEFAULT_LIMIT: usize = 1000;
/// More conditions than anybody writes; each may be judged for every row.
const MOST_CONDITIONS: usize = 64;
/// Longest path of relations in a condition.
const MOST_JOINS: usize = 8;

/// Symbols of operators; a longer one stands before those that it begins with.
const SYMBOLS: [(&str, Operator); 10] = [
    ("!?=", Operator::NotIn),
    ("!~=", Operator::NotLike),
    ("!=", Operator::IsNot),
    ("?=", Operator::In),
    ("~=", Operator::Like),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    (">", Operator::Above),
    ("<", Operator::Below),
    ("=", Operator::Is),
];
/// The operators in words, behind the field.
const WORDS: [(&str, Operator); 3] = [
    ("is not null", Operator::NotNull),
    ("is null", Operator::Null),
    ("not null", Operator::NotNull),
];

/// One condition as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The field, behind relations and dots.
    pub(crate) name: String,
    /// How it is compared.
    pub(crate) operator: Operator,
    /// With what; empty where the operator says all.
    pub(crate) value: String,
}

/// What a query asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// All of these must hold.
    pub(crate) conditions: Vec<Condition>,
    /// How many rows are skipped.
    pub(crate) start: usize,
    /// How many rows are answered at most.
    pub(crate) limit: usize,
    /// Whether only the number of rows is answered.
    pub(crate) count: bool,
    /// Whether it is answered besides the rows.
    pub(crate) reply_with_count: bool,
    /// Field of which each value is shown once.
    pub(crate) group_by: Option<String>,
    /// Field that rows are ordered by, and whether the greatest comes first.
    pub(crate) sort: Option<(String, bool)>,
    /// Fields that are answered; all if there are none.
    pub(crate) fields: Vec<String>,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            conditions: Vec::new(),
            start: 0,
            limit: DEFAULT_LIMIT,
            count: false,
            reply_with_count: false,
            group_by: None,
            sort: None,
            fields: Vec::new(),
        }
    }
}

impl Question {
    /// The row with this uuid. The original lets nothing else take part.
    pub(crate) fn one(uuid: &str) -> Self {
        Self {
            conditions: vec![Condition {
                name: "uuid".to_owned(),
                operator: Operator::Is,
                value: uuid.to_owned(),
            }],
            ..Self::default()
        }
    }

    /// What the decoded pairs of a query string ask. Names that mean nothing here are left alone, as clients repeat
    /// `uuid` and `sessionId`.
    ///
    /// # Errors
    /// `InvalidInput` about [`QUERY_STRING`] for what cannot be read.
    pub(crate) fn read<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> Result<Self, Error> {
        let mut question = Self::default();
        for (name, value) in pairs {
            let trimmed = value.trim();
            match name.trim() {
                "q" | "condition" => {
                    if trimmed.is_empty() {
                        continue;
                    }
                    if question.conditions.len() >= MOST_CONDITIONS {
                        return Err(malformed(format!(
                            "Invalid query parameter. There are more than {MOST_CONDITIONS} conditions"
                        )));
                    }
                    question.conditions.push(condition(value)?);
                }
                _ if trimmed.is_empty() => {}
                "limit" => question.limit = count("limit", trimmed)?,
                "start" => question.start = count("start", trimmed)?,
                "count" => question.count = trimmed.eq_ignore_ascii_case("true"),
                "replyWithCount" => question.reply_with_count = trimmed.eq_ignore_ascii_case("true"),
                "groupBy" => question.group_by = Some(trimmed.to_owned()),
                // A raw plus sign has become a blank, which is gone by now.
                "sort" => {
                    let (field, down) = match trimmed.strip_prefix('-') {
                        Some(field) => (field, true),
                        None => (trimmed.strip_prefix('+').unwrap_or(trimmed), false),
                    };
                    question.sort = Some((field.trim().to_owned(), down));
                }
                "fields" => {
                    let named = trimmed
                        .split(',')
                        .map(str::trim)
                        .filter(|field| !field.is_empty());
                    for field in named {
                        if !question.fields.iter().any(|known| known == field) {
                            question.fields.push(field.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(question)
    }
}

/// One condition: a field, an operator, a value.
fn condition(text: &str) -> Result<Condition, Error> {
    let (name, operator, value) = split(text).ok_or_else(|| {
        let symbols: Vec<&str> = SYMBOLS.iter().chain(&WORDS).map(|(symbol, _)| *symbol).collect();
        malformed(format!(
            "Invalid query parameter. The '{}' in the parameter[q] doesn't contain any query operator. \
             Valid query operators are [{}]",
            shown(text),
            symbols.join(", ")
        ))
    })?;
    if name.is_empty() {
        return Err(malformed(format!(
            "Invalid query parameter. The '{}' in parameter[q] is not a key-value pair",
            shown(text)
        )));
    }
    if name.split('.').count() > MOST_JOINS {
        return Err(malformed(format!(
            "Invalid query parameter. The '{}' in parameter[q] has more than {MOST_JOINS} names",
            shown(text)
        )));
    }
    // The manual's spelling of `is null`.
    let (operator, value) = match (operator, value) {
        (Operator::Is, "null") => (Operator::Null, ""),
        (Operator::IsNot, "null") => (Operator::NotNull, ""),
        other => other,
    };
    Ok(Condition {
        name: name.to_owned(),
        operator,
        value: value.to_owned(),
    })
}

/// The first operator parts field and value: a value may contain more of them. Blanks around the value belong to it.
fn split(text: &str) -> Option<(&str, Operator, &str)> {
    if let Some(at) = text.find(['!', '?', '~', '>', '<', '=']) {
        let (name, rest) = text.split_at(at);
        for (symbol, operator) in SYMBOLS {
            if let Some(value) = rest.strip_prefix(symbol) {
                return Some((name.trim(), operator, value));
            }
        }
    }
    let text = text.trim();
    WORDS.iter().find_map(|(words, operator)| {
        let at = text.len().checked_sub(words.len())?;
        let (name, tail) = (text.get(..at)?, text.get(at..)?);
        let apart = name.ends_with(char::is_whitespace);
        (apart && tail.eq_ignore_ascii_case(words)).then_some((name.trim(), *operator, ""))
    })
}

fn count(name: &str, text: &str) -> Result<usize, Error> {
    text.parse().map_err(|_| {
        malformed(format!(
            "Invalid query parameter. '{name}' must be an integer from 0"
        ))
    })
}

fn malformed(text: String) -> Error {
    Error::invalid(QUERY_STRING, text)
}

/// Refused as the original does: no `field` of a message is at fault.
pub(crate) fn refused(text: String) -> Error {
    Error::new(ErrorKind::InvalidInput, text)
}

/// A client's text as an error may repeat it.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(80)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (String, Operator, String) {
        let condition = condition(text).unwrap();
        (condition.name, condition.operator, condition.value)
    }

    fn expect(text: &str, name: &str, operator: Operator, value: &str) {
        assert_eq!(
            read(text),
            (name.to_owned(), operator, value.to_owned()),
            "{text}"
        );
    }

    #[test]
    fn all_operators_are_told_apart() {
        expect("name=a", "name", Operator::Is, "a");
        expect("name!=a", "name", Operator::IsNot, "a");
        expect("cpuNum>1", "cpuNum", Operator::Above, "1");
        expect("cpuNum>=1", "cpuNum", Operator::AtLeast, "1");
        expect("cpuNum<1", "cpuNum", Operator::Below, "1");
        expect("cpuNum<=1", "cpuNum", Operator::AtMost, "1");
        expect("state?=a,b", "state", Operator::In, "a,b");
        expect("state!?=a,b", "state", Operator::NotIn, "a,b");
        expect("name~=a%", "name", Operator::Like, "a%");
        expect("name!~=a%", "name", Operator::NotLike, "a%");
    }

    #[test]
    fn nothing_is_asked_for_in_all_spellings() {
        for text in ["name=null", "name is null", "name IS NULL", " name  is null "] {
            expect(text, "name", Operator::Null, "");
        }
        for text in [
            "name!=null",
            "name not null",
            "name is not null",
            "name  NOT NULL",
        ] {
            expect(text, "name", Operator::NotNull, "");
        }
        expect("vmInstanceUuid not null", "vmInstanceUuid", Operator::NotNull, "");
    }

    #[test]
    fn the_first_operator_counts_and_the_value_is_kept_as_it_is() {
        expect("name=a!=b", "name", Operator::Is, "a!=b");
        expect(
            "__systemTag__=ha::a=b>c",
            "__systemTag__",
            Operator::Is,
            "ha::a=b>c",
        );
        expect("description= is null", "description", Operator::Is, " is null");
        expect("name = x ", "name", Operator::Is, " x ");
        expect("name=", "name", Operator::Is, "");
        expect(
            "vmNics.l3Network.name=x",
            "vmNics.l3Network.name",
            Operator::Is,
            "x",
        );
    }

    #[test]
    fn what_has_no_operator_is_refused_in_the_originals_words() {
        for text in [
            "0c917562d5954544b37bf5e0ed0735a6",
            "is null",
            "name",
            "name!",
            "name?x",
        ] {
            let error = condition(text).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(QUERY_STRING), "{text}");
            assert!(error.detail.starts_with("Invalid query parameter."), "{text}");
        }
        assert!(condition("=x").is_err());
        assert!(condition(&format!("{}name=x", "host.".repeat(9))).is_err());
    }

    #[test]
    fn paging_sorting_and_fields_have_several_spellings() {
        let read = |pairs: &[(&'static str, &'static str)]| Question::read(pairs.iter().copied());
        let sorted = |sort| read(&[("sort", sort)]).unwrap().sort.unwrap();
        for (sort, down) in [
            ("+name", false),
            (" name", false),
            ("name", false),
            ("-name", true),
        ] {
            assert_eq!(sorted(sort), ("name".to_owned(), down), "{sort}");
        }
        for pairs in [
            &[("fields", "name,uuid")][..],
            &[("fields", "name"), ("fields", "uuid")],
            &[("fields", " name , uuid ")],
        ] {
            assert_eq!(read(pairs).unwrap().fields, ["name", "uuid"]);
        }
        let question = read(&[
            ("limit", "5"),
            ("start", "10"),
            ("replyWithCount", "true"),
            ("count", ""),
        ]);
        let question = question.unwrap();
        assert_eq!((question.limit, question.start), (5, 10));
        assert!(question.reply_with_count && !question.count);
        assert_eq!(
            read(&[("uuid", "x"), ("sessionId", "y")]).unwrap(),
            Question::default()
        );
        for pairs in [[("limit", "many")], [("start", "-1")], [("limit", "1.5")]] {
            assert!(read(&pairs).is_err(), "{pairs:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", name in "[a-zA-Z]*") {
            let _ = condition(&text);
            let _ = Question::read([(name.as_str(), text.as_str())]);
        }
    }
}
