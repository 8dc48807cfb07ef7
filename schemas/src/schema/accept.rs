//! Relaxes a document schema by the leniencies. Everything that the document takes, the result takes too.

use serde_json::{Map, Value, json};

use crate::leniency::Rules;

/// A number written as text; a per cent sign where the leniency says so.
const NUMBER_TEXT: &str = r"^\s*[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*$";
const PERCENT_TEXT: &str = r"^\s*[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\s*%?\s*$";

/// The accept layer.
pub(crate) fn accept(document: &Value, rules: &Rules) -> Value {
    relax(document, rules, true)
}

fn relax(schema: &Value, rules: &Rules, required: bool) -> Value {
    let Value::Object(members) = schema else {
        return schema.clone();
    };
    let must: Vec<&str> = members
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut relaxed = Map::new();
    for (key, value) in members {
        let value = match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => Value::Object(
                properties
                    .iter()
                    .map(|(name, member)| (name.clone(), relax(member, rules, must.contains(&name.as_str()))))
                    .collect(),
            ),
            ("$defs", Value::Object(definitions)) => Value::Object(
                definitions
                    .iter()
                    .map(|(name, member)| (name.clone(), relax(member, rules, true)))
                    .collect(),
            ),
            ("additionalProperties", Value::Bool(false)) if rules.unknown_fields => continue,
            ("items" | "additionalProperties", nested) => relax(nested, rules, true),
            ("anyOf", Value::Array(forms)) => {
                Value::Array(forms.iter().map(|form| relax(form, rules, true)).collect())
            }
            _ => value.clone(),
        };
        relaxed.insert(key.clone(), value);
    }
    spellings(&mut relaxed, rules);
    if required {
        return Value::Object(relaxed);
    }
    let mut also = Vec::new();
    if rules.nulls && takes_something(&relaxed) && !allows(&relaxed, "null") {
        also.push(json!({ "type": "null" }));
    }
    if rules.empty_text && takes_something(&relaxed) {
        also.push(json!({ "const": "" }));
    }
    if also.is_empty() {
        return Value::Object(relaxed);
    }
    also.insert(0, Value::Object(relaxed));
    json!({ "anyOf": also })
}

/// Numbers as text and text as numbers.
fn spellings(schema: &mut Map<String, Value>, rules: &Rules) {
    let numeric = allows(schema, "integer") || allows(schema, "number");
    let textual = allows(schema, "string");
    if rules.numbers_as_text && numeric && !textual {
        widen(schema, "string");
        let pattern = if rules.percent { PERCENT_TEXT } else { NUMBER_TEXT };
        schema.insert("pattern".to_owned(), json!(pattern));
        if let Some(Value::Array(allowed)) = schema.get_mut("enum") {
            let spelled: Vec<Value> = allowed
                .iter()
                .filter(|value| value.is_number())
                .map(|value| json!(value.to_string()))
                .collect();
            allowed.extend(spelled);
        }
    }
    if rules.text_as_numbers && textual && !numeric && !schema.contains_key("enum") {
        widen(schema, "number");
    }
}

fn takes_something(schema: &Map<String, Value>) -> bool {
    schema.contains_key("type") || schema.contains_key("$ref") || schema.contains_key("anyOf")
}

fn allows(schema: &Map<String, Value>, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(names)) => names.iter().any(|one| one == name),
        _ => false,
    }
}

fn widen(schema: &mut Map<String, Value>, name: &str) {
    let mut names = match schema.remove("type") {
        Some(Value::Array(names)) => names,
        Some(only) => vec![only],
        None => return,
    };
    names.push(json!(name));
    schema.insert("type".to_owned(), Value::Array(names));
}
