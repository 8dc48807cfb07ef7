//! Rewrites a request value to the documented spelling, as far as the leniencies allow.
//!
//! Frontends decode documented names and types only; what clients write instead (capital keys, blanks in keys, other
//! names, numbers as text, nulls) is turned into that here, guided by the document schema. What the rewrite does not
//! understand it leaves alone, so that validation can name it.

use serde_json::{Map, Number, Value};

use crate::leniency::Rules;

/// References within references: deeper than any document goes.
const DEEPEST: usize = 128;

/// Rewrites `value` along `document`.
pub(crate) fn rewrite(value: Value, document: &Value, rules: &Rules) -> Value {
    if rules.empty_body && value.is_null() {
        return Value::Object(Map::new());
    }
    Rewriter {
        root: document,
        rules,
    }
    .walk(value, document, 0)
}

struct Rewriter<'r> {
    root: &'r Value,
    rules: &'r Rules,
}

impl<'r> Rewriter<'r> {
    fn walk(&self, value: Value, schema: &'r Value, depth: usize) -> Value {
        if depth > DEEPEST {
            return value;
        }
        let schema = self.resolve(schema, &value);
        match value {
            Value::Object(members) => Value::Object(self.object(members, schema, depth)),
            Value::Array(items) => match schema.get("items") {
                Some(item) => Value::Array(
                    items
                        .into_iter()
                        .map(|value| self.walk(value, item, depth + 1))
                        .collect(),
                ),
                None => Value::Array(items),
            },
            Value::String(text) => self.text(text, schema),
            Value::Number(number)
                if self.rules.text_as_numbers && is(schema, "string") && !numeric(schema) =>
            {
                Value::String(number.to_string())
            }
            other => other,
        }
    }

    /// Follows `$ref`, and picks the alternative that has the type of the value and most of its members.
    fn resolve(&self, schema: &'r Value, value: &Value) -> &'r Value {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return reference
                .strip_prefix('#')
                .and_then(|path| self.root.pointer(path))
                .unwrap_or(schema);
        }
        let forms = schema.get("anyOf").and_then(Value::as_array);
        forms
            .into_iter()
            .flatten()
            .map(|form| self.resolve(form, value))
            .filter(|form| match value {
                Value::Object(_) => is(form, "object"),
                Value::Array(_) => is(form, "array"),
                _ => false,
            })
            .max_by_key(|form| self.shared_members(form, value))
            .unwrap_or(schema)
    }

    fn shared_members(&self, form: &Value, value: &Value) -> usize {
        let properties = form.get("properties").and_then(Value::as_object);
        match (properties, value) {
            (Some(properties), Value::Object(members)) => members
                .keys()
                .filter(|key| properties.contains_key(key.trim()))
                .count(),
            _ => 0,
        }
    }

    fn object(&self, members: Map<String, Value>, schema: &'r Value, depth: usize) -> Map<String, Value> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema
            .get("additionalProperties")
            .filter(|other| other.is_object());
        let taken: Vec<String> = match properties {
            Some(properties) => members
                .keys()
                .filter(|key| properties.contains_key(*key))
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        let mut rewritten = Map::new();
        for (key, value) in members {
            let name = match properties {
                Some(properties) => self.name(&key, properties, &taken).unwrap_or(key),
                None => key,
            };
            let Some(member) = properties.and_then(|properties| properties.get(&name)).or(others) else {
                rewritten.entry(name).or_insert(value);
                continue;
            };
            if !requires(schema, &name) && self.counts_as_absent(&value, member) {
                continue;
            }
            let value = self.walk(value, member, depth + 1);
            // Two spellings of one name: the first wins, as it would in the decoder of the original.
            rewritten.entry(name).or_insert(value);
        }
        rewritten
    }

    /// The documented name that a client's spelling stands for, unless that is there itself.
    fn name(&self, key: &str, properties: &Map<String, Value>, taken: &[String]) -> Option<String> {
        if properties.contains_key(key) && !self.rules.aliases.iter().any(|(from, _)| from == key) {
            return None;
        }
        let trimmed = if self.rules.blanks_in_keys {
            key.trim()
        } else {
            key
        };
        let aliased = self
            .rules
            .aliases
            .iter()
            .find(|(from, _)| from == trimmed)
            .map(|(_, to)| to.as_str());
        let wanted = aliased.unwrap_or(trimmed);
        let found = if properties.contains_key(wanted) {
            Some(wanted)
        } else if self.rules.capital_keys {
            properties
                .keys()
                .map(String::as_str)
                .find(|name| name.to_lowercase() == wanted.to_lowercase())
        } else {
            None
        };
        found
            .filter(|name| !taken.iter().any(|key| key == name))
            .map(str::to_owned)
    }

    fn counts_as_absent(&self, value: &Value, schema: &'r Value) -> bool {
        match value {
            Value::Null => self.rules.nulls && !is(schema, "null"),
            Value::String(text) if text.is_empty() && self.rules.empty_text => {
                // Where text is documented, empty text may be a value: only the query has no other way to say nothing.
                let constrained = schema.get("pattern").is_some() || schema.get("enum").is_some();
                !is(schema, "string") || constrained
            }
            _ => false,
        }
    }

    fn text(&self, text: String, schema: &Value) -> Value {
        if !self.rules.numbers_as_text || is(schema, "string") || !numeric(schema) {
            return Value::String(text);
        }
        let digits = text.trim();
        let digits = match digits.strip_suffix('%') {
            Some(rest) if self.rules.percent => rest.trim_end(),
            _ => digits,
        };
        match number(digits) {
            Some(number) => Value::Number(number),
            None => Value::String(text),
        }
    }
}

fn number(digits: &str) -> Option<Number> {
    let plain = digits.strip_prefix('+').unwrap_or(digits);
    if let Ok(whole) = plain.parse::<i64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = plain.parse::<u64>() {
        return Some(whole.into());
    }
    let looks_right = plain
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | 'e' | 'E' | '+'));
    if !looks_right {
        return None;
    }
    let fraction = plain.parse::<f64>().ok()?;
    // `93.00` for an integer is the integer.
    if fraction.fract() == 0.0 && fraction.abs() < 9.0e15 {
        return Some((fraction as i64).into());
    }
    Number::from_f64(fraction)
}

fn requires(schema: &Value, name: &str) -> bool {
    schema
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|names| names.iter().any(|one| one == name))
}

fn is(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(names)) => names.iter().any(|one| one == name),
        _ => false,
    }
}

fn numeric(schema: &Value) -> bool {
    is(schema, "integer") || is(schema, "number")
}
