//! From tables of fields to JSON Schema, draft 2020-12.
//!
//! ```text
//! rows ──insert──▶ tree of nodes ──emit──▶ document ──relax──▶ accept
//! ```
//! A table names its fields by dotted paths (`data.disk[].size`), nests them in wrappers (`params`), embeds
//! structures without a name and refers to structures by type. The tree joins all that; the emitter writes it down.

mod accept;
mod emit;
mod tree;
mod types;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

pub(crate) use accept::accept;
pub(crate) use types::TypeExpr;

use crate::catalog::{Field, Structure};
use crate::operation::{Operation, Part};
use emit::Emitter;
use tree::Node;
use types::Primitive;

/// The first type in a table that is neither a type nor a structure: a slip of the pen would leave its place open.
pub(crate) fn unknown_type(fields: &[Field], structures: &HashMap<String, Structure>) -> Option<String> {
    fields.iter().find_map(|field| {
        let declared = TypeExpr::parse(field.type_name.as_deref()?);
        declared
            .stranger(structures)
            .map(|name| format!("`{}` has the unknown type `{name}`", field.name))
    })
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The document layer of a part of an operation.
pub(crate) fn document(operation: &Operation, part: Part) -> Value {
    match part {
        Part::Path | Part::Query | Part::Headers => wire_text(operation, part),
        Part::Body => body(operation),
        Part::Answer => tree_schema(operation, Part::Answer, None),
    }
}

fn body(operation: &Operation) -> Value {
    if operation.has_body() {
        tree_schema(operation, Part::Body, operation.action_key())
    } else {
        json!({})
    }
}

fn tree_schema(operation: &Operation, part: Part, action: Option<&str>) -> Value {
    let structures = &operation.shared.structures;
    let mut root = Node::object();
    for field in operation.fields(part) {
        root.insert(&tree::segments(&field.full_name()), field, structures, 0);
    }
    if let Some(action) = action {
        root.require_object(action);
    }
    // A request may have no more than the document shows; an answer of ours may.
    let closed = part == Part::Body;
    let mut emitter = Emitter::new(structures, closed, operation.shared.settings.plain_integers);
    let schema = emitter.emit(&root);
    finish(schema, emitter.definitions())
}

fn finish(schema: Value, definitions: Map<String, Value>) -> Value {
    let mut whole = Map::new();
    whole.insert("$schema".to_owned(), json!(DRAFT));
    if let Value::Object(members) = schema {
        whole.extend(members);
    }
    if !definitions.is_empty() {
        whole.insert("$defs".to_owned(), Value::Object(definitions));
    }
    Value::Object(whole)
}

/// Path, query and headers: everything is text on the wire, so types become patterns.
fn wire_text(operation: &Operation, part: Part) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in operation.fields(part) {
        let declared = TypeExpr::parse(field.type_name.as_deref().unwrap_or("string"));
        let mut text = Map::new();
        let repeatable = declared
            .alternatives
            .iter()
            .any(|one| matches!(one, Primitive::Array(_)));
        text.insert(
            "type".to_owned(),
            if repeatable {
                json!(["string", "array"])
            } else {
                json!("string")
            },
        );
        if repeatable {
            text.insert("items".to_owned(), json!({ "type": "string" }));
        }
        match declared.alternatives.as_slice() {
            [Primitive::Integer] => {
                text.insert("pattern".to_owned(), json!("^[+-]?[0-9]+$"));
            }
            [Primitive::Number] => {
                text.insert("pattern".to_owned(), json!("^[+-]?[0-9]+(\\.[0-9]+)?$"));
            }
            [Primitive::Boolean] => {
                text.insert("enum".to_owned(), json!(["true", "false"]));
            }
            _ => {}
        }
        if let Some(allowed) = &field.allowed {
            let spelled: Vec<Value> = allowed.iter().map(spelled).collect();
            text.insert("enum".to_owned(), Value::Array(spelled));
            text.remove("pattern");
        }
        emit::constraints(&mut text, field);
        properties.insert(field.name.clone(), Value::Object(text));
        // On paths with alternatives a parameter of the other path is absent.
        let always = part == Part::Path
            && operation
                .paths()
                .all(|path| path.param_names().any(|n| n == field.name));
        if always || (part != Part::Path && field.required == Some(true)) {
            required.push(json!(field.name));
        }
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    if !required.is_empty() {
        required.dedup();
        schema.insert("required".to_owned(), Value::Array(required));
    }
    if part != Part::Headers {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    finish(Value::Object(schema), Map::new())
}

fn spelled(value: &Value) -> Value {
    match value {
        Value::String(_) => value.clone(),
        other => Value::String(other.to_string()),
    }
}
