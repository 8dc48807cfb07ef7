//! The JSON paths of scenarios: `$.data[0].uuid`, `$.data[-1]`, `$.data[*].id`, `$.data[?name=web].uuid`, `$["en us"]`.
//!
//! Few forms on purpose: a scenario that needs more says too much at once.

use serde_json::Value;

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Member(String),
    Index(i64),
    Each,
    /// The first item whose member, written out, equals the text.
    Where(String, String),
}

/// A path into a JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath(Vec<Part>);

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(text: &str) -> Result<JsonPath, String> {
        let wrong = |why: &str| format!("`{text}` is no JSON path: {why}");
        let mut rest = text
            .strip_prefix('$')
            .ok_or_else(|| wrong("it begins with `$`"))?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let (name, behind) = after.split_at(end);
                if name.is_empty() {
                    return Err(wrong("a name is empty"));
                }
                parts.push(Part::Member(name.to_owned()));
                rest = behind;
            } else if let Some(after) = rest.strip_prefix('[') {
                // A name in quotes may have brackets of its own.
                let end = if after.starts_with('"') { "\"]" } else { "]" };
                let end = after.find(end).map(|place| place + end.len() - 1);
                let (inside, behind) = end
                    .and_then(|end| Some((after.get(..end)?, after.get(end + 1..)?)))
                    .ok_or_else(|| wrong("a `[` is not closed"))?;
                parts.push(
                    bracket(inside)
                        .ok_or_else(|| wrong("inside `[]` stands an index, *, \"name\" or ?name=text"))?,
                );
                rest = behind;
            } else {
                return Err(wrong("after `$` comes `.` or `[`"));
            }
        }
        Ok(JsonPath(parts))
    }

    /// What the path leads to; with `[*]` a list of all it leads to. `None` if nothing is there.
    pub(crate) fn find(&self, value: &Value) -> Option<Value> {
        find(&self.0, value)
    }
}

fn bracket(inside: &str) -> Option<Part> {
    if inside == "*" {
        return Some(Part::Each);
    }
    if let Some((name, wanted)) = inside.strip_prefix('?').and_then(|rest| rest.split_once('=')) {
        return Some(Part::Where(name.to_owned(), wanted.to_owned()));
    }
    if let Some(name) = inside.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Some(Part::Member(name.to_owned()));
    }
    inside.parse().ok().map(Part::Index)
}

fn find(parts: &[Part], value: &Value) -> Option<Value> {
    let Some((part, rest)) = parts.split_first() else {
        return Some(value.clone());
    };
    match part {
        Part::Member(name) => find(rest, value.get(name)?),
        Part::Index(index) => {
            let items = value.as_array()?;
            let place = usize::try_from(*index).ok().or_else(|| {
                let back = usize::try_from(index.unsigned_abs()).ok()?;
                items.len().checked_sub(back)
            })?;
            find(rest, items.get(place)?)
        }
        Part::Each => {
            let items = value.as_array()?;
            Some(Value::Array(
                items.iter().filter_map(|item| find(rest, item)).collect(),
            ))
        }
        Part::Where(name, wanted) => {
            let items = value.as_array()?;
            let fits = |item: &&Value| item.get(name).is_some_and(|member| written(member) == *wanted);
            find(rest, items.iter().find(fits)?)
        }
    }
}

/// A value as it stands in a text: without quotes.
pub(crate) fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_in_quotes_may_have_brackets() {
        let value = json!({"schema": {"inventories[0]": "Vm", "a": {"b]": [7]}}});
        let find = |path: &str| JsonPath::parse(path).unwrap().find(&value);
        assert_eq!(find(r#"$.schema["inventories[0]"]"#), Some(json!("Vm")));
        assert_eq!(find(r#"$.schema.a["b]"][0]"#), Some(json!(7)));
        assert!(JsonPath::parse(r#"$.schema["inventories[0]"#).is_err());
    }

    #[test]
    fn every_form_leads_somewhere() {
        let value = json!({"data": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}], "en-us": "OK"});
        let cases = [
            ("$.data[0].id", json!(1)),
            ("$.data[-1].id", json!(2)),
            ("$.data[*].id", json!([1, 2])),
            ("$.data[?name=b].id", json!(2)),
            ("$[\"en-us\"]", json!("OK")),
            ("$.en-us", json!("OK")),
        ];
        for (path, wanted) in cases {
            assert_eq!(
                JsonPath::parse(path).unwrap().find(&value),
                Some(wanted),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        for path in ["$.x", "$[0]", "$.a[9]", "$.a[-9]", "$.a[?x=1]"] {
            assert_eq!(
                JsonPath::parse(path).unwrap().find(&json!({"a": [{}]})),
                None,
                "{path}"
            );
        }
    }

    #[test]
    fn malformed_paths_are_refused() {
        for path in ["", "a", "$a", "$.", "$[", "$[x]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
