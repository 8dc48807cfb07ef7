//! What a scenario expects of a value: a closed set of predicates.
//!
//! A plain object expects its members and lets others be; a plain list expects exactly its items; anything else must be
//! equal. Keys that begin with `$` are predicates, which must all hold; members may stand beside them.

use regex::Regex;
use serde_json::Value;

use super::diff::{Difference, DifferenceKind, member, type_of};
use super::vars::has_variable;

/// The predicates by name, with what they ask.
pub const PREDICATES: [(&str, &str); 14] = [
    ("$equals", "the same value, nothing more and nothing less"),
    ("$not", "the expectation inside does not hold"),
    ("$matches", "text that fits a regular expression"),
    (
        "$type",
        "a JSON type, or one of several: null boolean integer number string array object",
    ),
    ("$in", "one of the values"),
    ("$gt", "a number that is greater"),
    ("$lt", "a number that is less"),
    (
        "$len",
        "a text, list or object whose length fits the expectation inside",
    ),
    ("$exists", "it is there, whatever it is"),
    ("$absent", "it is not there"),
    (
        "$contains",
        "a text that holds the text; a list with an item that fits",
    ),
    ("$unordered", "a list of these items in any order"),
    ("$each", "a list (empty, too) whose items all fit"),
    ("$keys", "an object with exactly these members"),
];

/// An expectation, ready to be asked.
#[derive(Debug, Clone)]
pub(crate) enum Predicate {
    Members(Vec<(String, Predicate)>),
    Items(Vec<Predicate>),
    All(Vec<Test>),
}

#[derive(Debug, Clone)]
pub(crate) enum Test {
    Equals(Value),
    Not(Predicate),
    Matches(Regex),
    Type(Vec<String>),
    In(Vec<Value>),
    Gt(f64),
    Lt(f64),
    Len(Predicate),
    Exists,
    Absent,
    Contains(Value, Predicate),
    Unordered(Vec<Predicate>),
    Each(Predicate),
    Keys(Vec<String>),
    /// A plain member beside predicates.
    Also(Predicate),
    /// Its operand has a variable; it is read again when the variables are known.
    Later,
}

impl Predicate {
    /// Reads an expectation. Operands with a variable are left for later.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(value: &Value) -> Result<Predicate, String> {
        match value {
            Value::Object(members) if members.keys().any(|key| key.starts_with('$')) => members
                .iter()
                .map(|(key, operand)| {
                    if key.starts_with('$') {
                        return test(key, operand);
                    }
                    let member = (key.clone(), Predicate::parse(operand)?);
                    Ok(Test::Also(Predicate::Members(vec![member])))
                })
                .collect::<Result<_, _>>()
                .map(Predicate::All),
            Value::Object(members) => members
                .iter()
                .map(|(key, inside)| Ok((key.clone(), Predicate::parse(inside)?)))
                .collect::<Result<_, String>>()
                .map(Predicate::Members),
            Value::Array(items) => items
                .iter()
                .map(Predicate::parse)
                .collect::<Result<_, _>>()
                .map(Predicate::Items),
            scalar => Ok(Predicate::All(vec![Test::Equals(scalar.clone())])),
        }
    }

    /// Asks it of a value, or of nothing; what does not hold is added to `found`.
    pub(crate) fn check(&self, value: Option<&Value>, path: &str, found: &mut Vec<Difference>) {
        match self {
            Predicate::Members(members) => {
                let Some(value) = value else {
                    found.push(Difference::new(path, DifferenceKind::Missing, "an object", None));
                    return;
                };
                let Some(object) = value.as_object() else {
                    found.push(Difference::new(
                        path,
                        DifferenceKind::OtherType,
                        "object",
                        Some(value),
                    ));
                    return;
                };
                for (name, inside) in members {
                    inside.check(object.get(name), &member(path, name), found);
                }
            }
            Predicate::Items(items) => {
                let Some(list) = list_at(value, path, found) else {
                    return;
                };
                if list.len() != items.len() {
                    let expected = format!("{} items", items.len());
                    found.push(Difference::new(path, DifferenceKind::OtherValue, expected, value));
                }
                for (place, (inside, item)) in items.iter().zip(list).enumerate() {
                    inside.check(Some(item), &format!("{path}[{place}]"), found);
                }
            }
            Predicate::All(tests) => {
                for test in tests {
                    test.check(value, path, found);
                }
            }
        }
    }

    /// Whether it holds.
    pub(crate) fn holds(&self, value: Option<&Value>) -> bool {
        let mut found = Vec::new();
        self.check(value, "$", &mut found);
        found.is_empty()
    }
}

fn test(name: &str, operand: &Value) -> Result<Test, String> {
    if PREDICATES.iter().all(|(known, _)| *known != name) {
        let known: Vec<_> = PREDICATES.iter().map(|(known, _)| *known).collect();
        return Err(format!("`{name}` is no predicate; there are {}", known.join(" ")));
    }
    if operand.as_str().is_some_and(has_variable) && name != "$equals" && name != "$contains" {
        return Ok(Test::Later);
    }
    let wants = |what: &str| format!("`{name}` takes {what}, not {operand}");
    let list = || operand.as_array().cloned().ok_or_else(|| wants("a list"));
    let number = || operand.as_f64().ok_or_else(|| wants("a number"));
    let yes = |test: Test| {
        if operand == &Value::Bool(true) {
            Ok(test)
        } else {
            Err(wants("true"))
        }
    };
    let texts = |value: &Value| -> Option<Vec<String>> {
        match value {
            Value::String(one) => Some(vec![one.clone()]),
            Value::Array(many) => many.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        }
    };
    Ok(match name {
        "$equals" => Test::Equals(operand.clone()),
        "$not" => Test::Not(Predicate::parse(operand)?),
        "$matches" => {
            let pattern = operand.as_str().ok_or_else(|| wants("a pattern"))?;
            Test::Matches(Regex::new(pattern).map_err(|error| error.to_string())?)
        }
        "$type" => {
            const TYPES: [&str; 7] = [
                "null", "boolean", "integer", "number", "string", "array", "object",
            ];
            let types = texts(operand).ok_or_else(|| wants("a type or a list of types"))?;
            match types.iter().find(|one| !TYPES.contains(&one.as_str())) {
                Some(strange) => return Err(format!("`{strange}` is no type of JSON")),
                None => Test::Type(types),
            }
        }
        "$in" => Test::In(list()?),
        "$gt" => Test::Gt(number()?),
        "$lt" => Test::Lt(number()?),
        "$len" => Test::Len(Predicate::parse(operand)?),
        "$exists" => yes(Test::Exists)?,
        "$absent" => yes(Test::Absent)?,
        "$contains" => Test::Contains(operand.clone(), Predicate::parse(operand)?),
        "$unordered" => Test::Unordered(list()?.iter().map(Predicate::parse).collect::<Result<_, _>>()?),
        "$each" => Test::Each(Predicate::parse(operand)?),
        _ => Test::Keys(texts(operand).ok_or_else(|| wants("a list of names"))?),
    })
}

impl Test {
    fn check(&self, value: Option<&Value>, path: &str, found: &mut Vec<Difference>) {
        if matches!(self, Test::Absent) {
            if value.is_some() {
                found.push(Difference::new(path, DifferenceKind::Extra, "nothing", value));
            }
            return;
        }
        let Some(there) = value else {
            if !matches!(self, Test::Not(_)) {
                found.push(Difference::new(path, DifferenceKind::Missing, self.words(), None));
            }
            return;
        };
        match self {
            Test::Each(inside) => {
                let Some(list) = list_at(value, path, found) else {
                    return;
                };
                for (place, item) in list.iter().enumerate() {
                    inside.check(Some(item), &format!("{path}[{place}]"), found);
                }
            }
            Test::Keys(names) => keys(names, there, path, found),
            Test::Also(inside) => inside.check(value, path, found),
            _ if self.holds(there) => {}
            _ => {
                let kind = match self {
                    Test::Type(_) => DifferenceKind::OtherType,
                    Test::Equals(wanted) if type_of(wanted) != type_of(there) => DifferenceKind::OtherType,
                    _ => DifferenceKind::OtherValue,
                };
                found.push(Difference::new(path, kind, self.words(), value));
            }
        }
    }

    fn holds(&self, value: &Value) -> bool {
        match self {
            Test::Equals(wanted) => wanted == value,
            Test::Not(inside) => !inside.holds(Some(value)),
            Test::Matches(pattern) => value.as_str().is_some_and(|text| pattern.is_match(text)),
            Test::Type(types) => types.iter().any(|one| {
                let found = type_of(value);
                one == found || (one == "number" && found == "integer")
            }),
            Test::In(values) => values.contains(value),
            Test::Gt(limit) => value.as_f64().is_some_and(|number| number > *limit),
            Test::Lt(limit) => value.as_f64().is_some_and(|number| number < *limit),
            Test::Len(inside) => length(value).is_some_and(|length| inside.holds(Some(&Value::from(length)))),
            Test::Contains(wanted, inside) => match (value, wanted) {
                (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
                (Value::Array(items), _) => items.iter().any(|item| inside.holds(Some(item))),
                _ => false,
            },
            Test::Unordered(wanted) => value.as_array().is_some_and(|items| matched(wanted, items)),
            Test::Exists => true,
            // A predicate whose operand was never read proves nothing.
            Test::Later | Test::Absent | Test::Each(_) | Test::Keys(_) | Test::Also(_) => false,
        }
    }

    fn words(&self) -> String {
        match self {
            Test::Equals(value) => value.to_string(),
            Test::Not(_) => "something else".to_owned(),
            Test::Matches(pattern) => format!("text that fits {pattern}"),
            Test::Type(types) => types.join(" or "),
            Test::In(values) => format!("one of {}", Value::Array(values.clone())),
            Test::Gt(limit) => format!("more than {limit}"),
            Test::Lt(limit) => format!("less than {limit}"),
            Test::Len(_) => "another length".to_owned(),
            Test::Exists => "something".to_owned(),
            Test::Absent => "nothing".to_owned(),
            Test::Contains(value, _) => format!("something that contains {value}"),
            Test::Unordered(items) => format!("a list of {} items that fit in some order", items.len()),
            Test::Each(_) => "a list".to_owned(),
            Test::Also(_) => "an object".to_owned(),
            Test::Keys(names) => format!("an object of {}", names.join(", ")),
            Test::Later => "an operand without variables".to_owned(),
        }
    }
}

fn list_at<'v>(value: Option<&'v Value>, path: &str, found: &mut Vec<Difference>) -> Option<&'v Vec<Value>> {
    let list = value.and_then(Value::as_array);
    if list.is_none() {
        let kind = if value.is_some() {
            DifferenceKind::OtherType
        } else {
            DifferenceKind::Missing
        };
        found.push(Difference::new(path, kind, "array", value));
    }
    list
}

fn keys(names: &[String], value: &Value, path: &str, found: &mut Vec<Difference>) {
    let Some(object) = value.as_object() else {
        found.push(Difference::new(
            path,
            DifferenceKind::OtherType,
            "object",
            Some(value),
        ));
        return;
    };
    for name in names.iter().filter(|name| !object.contains_key(*name)) {
        found.push(Difference::new(
            &member(path, name),
            DifferenceKind::Missing,
            "something",
            None,
        ));
    }
    for (name, extra) in object.iter().filter(|(name, _)| !names.contains(name)) {
        found.push(Difference::new(
            &member(path, name),
            DifferenceKind::Extra,
            "nothing",
            Some(extra),
        ));
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.chars().count()),
        Value::Array(items) => Some(items.len()),
        Value::Object(members) => Some(members.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Whether each expectation can be given an item of its own: a search for augmenting paths.
fn matched(wanted: &[Predicate], items: &[Value]) -> bool {
    if wanted.len() != items.len() {
        return false;
    }
    let mut owner: Vec<Option<usize>> = vec![None; items.len()];
    (0..wanted.len()).all(|place| {
        let mut seen = vec![false; items.len()];
        give(place, wanted, items, &mut owner, &mut seen)
    })
}

fn give(
    place: usize,
    wanted: &[Predicate],
    items: &[Value],
    owner: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for (index, item) in items.iter().enumerate() {
        let fits = wanted.get(place).is_some_and(|inside| inside.holds(Some(item)));
        let fresh = seen
            .get_mut(index)
            .is_some_and(|seen| !std::mem::replace(seen, true));
        if !(fits && fresh) {
            continue;
        }
        let free = match owner.get(index).copied().flatten() {
            None => true,
            Some(other) => give(other, wanted, items, owner, seen),
        };
        if free && let Some(slot) = owner.get_mut(index) {
            *slot = Some(place);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn holds(expected: Value, value: Value) -> bool {
        Predicate::parse(&expected).unwrap().holds(Some(&value))
    }

    #[test]
    fn each_predicate_holds_and_fails() {
        let cases = [
            (
                json!({"$equals": {"a": 1}}),
                json!({"a": 1}),
                json!({"a": 1, "b": 2}),
            ),
            (json!({"$not": 3}), json!(4), json!(3)),
            (json!({"$matches": "^[a-z]+$"}), json!("abc"), json!("a1")),
            (json!({"$type": ["integer", "null"]}), json!(null), json!("x")),
            (json!({"$type": "number"}), json!(1), json!("1")),
            (json!({"$in": [1, 2]}), json!(2), json!(3)),
            (json!({"$gt": 1, "$lt": 3}), json!(2), json!(3)),
            (json!({"$len": 2}), json!("ab"), json!("abc")),
            (json!({"$len": {"$gt": 1}}), json!([1, 2]), json!([1])),
            (json!({"$contains": "b"}), json!("abc"), json!("xyz")),
            (
                json!({"$contains": {"id": 2}}),
                json!([{"id": 1}, {"id": 2}]),
                json!([{"id": 1}]),
            ),
            (
                json!({"$unordered": [{"$type": "integer"}, 1]}),
                json!([1, 2]),
                json!([2, 3]),
            ),
            (json!({"$each": {"a": 1}}), json!([{"a": 1}]), json!([{"a": 2}])),
            (
                json!({"$keys": ["a"]}),
                json!({"a": null}),
                json!({"a": 1, "b": 1}),
            ),
            (json!({"a": {"$exists": true}}), json!({"a": null}), json!({})),
            (json!({"a": {"$absent": true}}), json!({}), json!({"a": null})),
            (
                json!({"a": {"b": 1}}),
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": "1"}}),
            ),
            (json!({"$keys": ["a"], "a": 1}), json!({"a": 1}), json!({"a": 2})),
            (json!([1, 2]), json!([1, 2]), json!([1, 2, 3])),
        ];
        for (expected, good, bad) in cases {
            assert!(holds(expected.clone(), good.clone()), "{expected} of {good}");
            assert!(!holds(expected.clone(), bad.clone()), "{expected} of {bad}");
        }
    }

    #[test]
    fn the_set_is_closed() {
        let error = Predicate::parse(&json!({"$greater": 1})).unwrap_err();
        assert!(error.contains("`$greater` is no predicate"), "{error}");
        assert!(Predicate::parse(&json!({"$type": "float"})).is_err());
        assert!(Predicate::parse(&json!({"$exists": false})).is_err());
        assert!(Predicate::parse(&json!({"$matches": "("})).is_err());
    }

    #[test]
    fn a_difference_says_where_and_what() {
        let mut found = Vec::new();
        let expected = Predicate::parse(&json!({"state": {"code": "200"}})).unwrap();
        expected.check(Some(&json!({"state": {"code": 200}})), "$", &mut found);
        assert_eq!(found.len(), 1);
        let one = found.first().unwrap();
        assert_eq!(
            (one.path.as_str(), one.kind),
            ("$.state.code", DifferenceKind::OtherType)
        );
        assert_eq!((one.expected.as_str(), one.received.as_str()), ("\"200\"", "200"));
    }
}
