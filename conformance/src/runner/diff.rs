//! Differences, field by field, and the comparison of two answers by shape.

use serde::Serialize;
use serde_json::Value;

/// What kind of difference it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// Expected and not there.
    Missing,
    /// There and not expected.
    Extra,
    /// Of another JSON type.
    OtherType,
    /// Of the same type, with another value.
    OtherValue,
}

impl DifferenceKind {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            DifferenceKind::Missing => "missing",
            DifferenceKind::Extra => "extra",
            DifferenceKind::OtherType => "other type",
            DifferenceKind::OtherValue => "other value",
        }
    }
}

/// One difference between what was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: a JSON path in the body, `status`, or `header:<name>`.
    pub path: String,
    /// What kind.
    pub kind: DifferenceKind,
    /// What was expected, in words or as JSON.
    pub expected: String,
    /// What came.
    pub received: String,
}

impl Difference {
    pub(crate) fn new(
        path: &str,
        kind: DifferenceKind,
        expected: impl Into<String>,
        received: Option<&Value>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            expected: expected.into(),
            received: received.map_or_else(|| "nothing".to_owned(), Value::to_string),
        }
    }
}

/// The JSON type of a value.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The path of a member.
pub(crate) fn member(path: &str, name: &str) -> String {
    if name.contains(['.', '[']) || name.is_empty() {
        format!("{path}[\"{name}\"]")
    } else {
        format!("{path}.{name}")
    }
}

/// Compares a live answer with a documented one by shape: members and types, not values. The items of a list are all
/// compared with the first documented item.
pub(crate) fn shape(documented: &Value, live: &Value, path: &str, differences: &mut Vec<Difference>) {
    match (documented, live) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, value) in wanted {
                let place = member(path, name);
                match found.get(name) {
                    Some(there) => shape(value, there, &place, differences),
                    None => differences.push(Difference::new(
                        &place,
                        DifferenceKind::Missing,
                        type_of(value),
                        None,
                    )),
                }
            }
            for (name, value) in found.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
                differences.push(Difference::new(
                    &member(path, name),
                    DifferenceKind::Extra,
                    "nothing",
                    Some(value),
                ));
            }
        }
        (Value::Array(wanted), Value::Array(found)) => {
            let Some(first) = wanted.first() else { return };
            if found.is_empty() {
                let place = format!("{path}[0]");
                differences.push(Difference::new(
                    &place,
                    DifferenceKind::Missing,
                    "an item, as documented",
                    None,
                ));
            }
            for item in found {
                shape(first, item, &format!("{path}[*]"), differences);
            }
        }
        // JSON has one type of number; a document that prints 5.00 means the same as one that prints 5.
        (Value::Number(_), Value::Number(_)) => {}
        (wanted, found) if type_of(wanted) == type_of(found) => {}
        (wanted, found) => {
            differences.push(Difference::new(
                path,
                DifferenceKind::OtherType,
                type_of(wanted),
                Some(found),
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn missing_extra_and_other_type_are_told_apart() {
        let documented = json!({"a": 1, "b": "x", "list": [{"id": 1}]});
        let live = json!({"b": 2, "c": null, "list": [{"id": 7}, {"id": "8"}]});
        let mut differences = Vec::new();
        shape(&documented, &live, "$", &mut differences);
        let found: Vec<_> = differences
            .iter()
            .map(|one| (one.path.as_str(), one.kind))
            .collect();
        assert_eq!(
            found,
            [
                ("$.a", DifferenceKind::Missing),
                ("$.b", DifferenceKind::OtherType),
                ("$.list[*].id", DifferenceKind::OtherType),
                ("$.c", DifferenceKind::Extra),
            ]
        );
    }

    #[test]
    fn an_empty_list_where_the_document_shows_items_is_missing_its_shape() {
        let mut differences = Vec::new();
        shape(&json!([1]), &json!([]), "$", &mut differences);
        assert_eq!(differences.len(), 1);
    }
}
