//! Writes the tree down as JSON Schema.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::tree::{Node, segments};
use super::types::{Primitive, TypeExpr};
use crate::catalog::{Field, Structure};
use crate::validate::PLAIN_INTEGER;

/// Writes schemas and remembers which structures they refer to.
pub(crate) struct Emitter<'s> {
    structures: &'s HashMap<String, Structure>,
    closed: bool,
    plain_integers: bool,
    referred: BTreeSet<String>,
}

impl<'s> Emitter<'s> {
    /// `closed`: objects take no members but those shown. `plain_integers`: see the settings.
    pub(crate) fn new(
        structures: &'s HashMap<String, Structure>,
        closed: bool,
        plain_integers: bool,
    ) -> Self {
        Emitter {
            structures,
            closed,
            plain_integers,
            referred: BTreeSet::new(),
        }
    }

    /// The schema of a place.
    pub(crate) fn emit(&mut self, node: &Node) -> Value {
        let nullable = node.declared.as_ref().is_some_and(|declared| declared.nullable);
        let mut schema = if !node.members.is_empty() || node.any.is_some() {
            self.object(node, nullable)
        } else if let Some(item) = &node.item {
            let items = self.emit(item);
            let mut list = typed("array", nullable);
            list.insert("items".to_owned(), items);
            list
        } else {
            match &node.declared {
                Some(declared) => self.declared(declared),
                None => Map::new(),
            }
        };
        self.values(&mut schema, &node.field, nullable);
        constraints(&mut schema, &node.field);
        Value::Object(schema)
    }

    /// The structures referred to, each written once.
    pub(crate) fn definitions(mut self) -> Map<String, Value> {
        let mut written = Map::new();
        // Writing a structure may refer to further ones.
        while let Some(name) = self
            .referred
            .iter()
            .find(|name| !written.contains_key(*name))
            .cloned()
        {
            let mut node = Node::object();
            if let Some(structure) = self.structures.get(&name) {
                for field in &structure.fields {
                    node.insert(&segments(&field.full_name()), field, self.structures, 0);
                }
            }
            let schema = self.emit(&node);
            written.insert(name, schema);
        }
        written
    }

    fn object(&mut self, node: &Node, nullable: bool) -> Map<String, Value> {
        let mut object = typed("object", nullable);
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (name, member) in &node.members {
            properties.insert(name.clone(), self.emit(member));
            if member.is_required() {
                required.push(json!(name));
            }
        }
        if !properties.is_empty() {
            object.insert("properties".to_owned(), Value::Object(properties));
        }
        if !required.is_empty() {
            object.insert("required".to_owned(), Value::Array(required));
        }
        if let Some(any) = &node.any {
            let values = self.emit(any);
            object.insert("additionalProperties".to_owned(), values);
        } else if self.closed {
            object.insert("additionalProperties".to_owned(), json!(false));
        }
        object
    }

    fn declared(&mut self, declared: &TypeExpr) -> Map<String, Value> {
        if declared.alternatives.contains(&Primitive::Any) {
            return Map::new();
        }
        let simple: Option<Vec<&str>> = declared.alternatives.iter().map(simple_name).collect();
        if let Some(mut names) = simple {
            if declared.nullable {
                names.push("null");
            }
            let mut schema = Map::new();
            let whole = self.plain_integers && names.contains(&"integer");
            schema.insert(
                "type".to_owned(),
                if names.len() == 1 {
                    json!(names.concat())
                } else {
                    json!(names)
                },
            );
            if whole {
                schema.insert(PLAIN_INTEGER.to_owned(), json!(true));
            }
            return schema;
        }
        let mut forms: Vec<Map<String, Value>> = declared
            .alternatives
            .iter()
            .map(|one| self.primitive(one))
            .collect();
        if declared.nullable {
            forms.push(typed("null", false));
        }
        match forms.pop() {
            Some(only) if forms.is_empty() => only,
            Some(last) => {
                forms.push(last);
                let forms: Vec<Value> = forms.into_iter().map(Value::Object).collect();
                Map::from_iter([("anyOf".to_owned(), Value::Array(forms))])
            }
            None => Map::new(),
        }
    }

    fn primitive(&mut self, primitive: &Primitive) -> Map<String, Value> {
        match primitive {
            Primitive::Array(items) => {
                let items = self.declared(items);
                let mut list = typed("array", false);
                list.insert("items".to_owned(), Value::Object(items));
                list
            }
            Primitive::Named(name) if self.structures.contains_key(name) => {
                self.referred.insert(name.clone());
                Map::from_iter([("$ref".to_owned(), json!(format!("#/$defs/{name}")))])
            }
            Primitive::Any | Primitive::Named(_) => Map::new(),
            other => simple_name(other)
                .map(|name| typed(name, false))
                .unwrap_or_default(),
        }
    }

    /// The allowed values; those of a list of values belong to its items.
    fn values(&self, schema: &mut Map<String, Value>, field: &Field, nullable: bool) {
        let Some(allowed) = &field.allowed else { return };
        let mut allowed = allowed.clone();
        if let Some(Value::Object(items)) = schema.get_mut("items") {
            items.insert("enum".to_owned(), Value::Array(allowed));
            return;
        }
        if nullable {
            allowed.push(Value::Null);
        }
        schema.insert("enum".to_owned(), Value::Array(allowed));
    }
}

/// Bounds, patterns, defaults and words of a row.
pub(crate) fn constraints(schema: &mut Map<String, Value>, field: &Field) {
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            schema.insert(key.to_owned(), value);
        }
    };
    set("pattern", field.pattern.clone().map(Value::from));
    set("minLength", field.min_length.map(Value::from));
    set("maxLength", field.max_length.map(Value::from));
    set("minimum", field.minimum.map(Value::from));
    set("maximum", field.maximum.map(Value::from));
    set("default", field.default.clone());
    let words = match (&field.note, &field.unit) {
        (Some(note), Some(unit)) => Some(format!("{note} ({unit})")),
        (Some(words), None) | (None, Some(words)) => Some(words.clone()),
        (None, None) => None,
    };
    set("description", words.map(Value::from));
}

fn typed(name: &str, nullable: bool) -> Map<String, Value> {
    let value = if nullable {
        json!([name, "null"])
    } else {
        json!(name)
    };
    Map::from_iter([("type".to_owned(), value)])
}

fn simple_name(primitive: &Primitive) -> Option<&'static str> {
    match primitive {
        Primitive::Object => Some("object"),
        Primitive::String => Some("string"),
        Primitive::Integer => Some("integer"),
        Primitive::Number => Some("number"),
        Primitive::Boolean => Some("boolean"),
        Primitive::Any | Primitive::Array(_) | Primitive::Named(_) => None,
    }
}
