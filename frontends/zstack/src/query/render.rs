//! Rows as JSON. Fields that hold nothing are left out, as the original leaves them out.

use std::fmt::Write as _;

use super::table::{Field, Resource, Shown, World};
use super::value::Value;
use crate::dates;
use crate::resources::Row;

/// A whole row: its fields, then what answers show of its relations.
pub(crate) fn row<'w>(world: &World<'w>, resource: &'static Resource, row: Row<'w>, json: &mut Vec<u8>) {
    json.push(b'{');
    let mut first = true;
    for field in resource.fields {
        member(world, field, row, &mut first, json);
    }
    for relation in resource.relations {
        let related = || (relation.rows)(world, row).into_iter();
        match relation.shown {
            Shown::No => {}
            Shown::List => {
                name(relation.name, &mut first, json);
                json.push(b'[');
                for (place, related) in related().enumerate() {
                    if place > 0 {
                        json.push(b',');
                    }
                    self::row(world, relation.to, related, json);
                }
                json.push(b']');
            }
            Shown::One => {
                if let Some(related) = related().next() {
                    name(relation.name, &mut first, json);
                    self::row(world, relation.to, related, json);
                }
            }
        }
    }
    json.push(b'}');
}

/// These fields of a row.
pub(crate) fn part<'w>(world: &World<'w>, fields: &[&'static Field], row: Row<'w>, json: &mut Vec<u8>) {
    json.push(b'{');
    let mut first = true;
    for field in fields {
        member(world, field, row, &mut first, json);
    }
    json.push(b'}');
}

fn name(name: &str, first: &mut bool, json: &mut Vec<u8>) {
    if !*first {
        json.push(b',');
    }
    *first = false;
    json.push(b'"');
    json.extend_from_slice(name.as_bytes());
    json.extend_from_slice(b"\":");
}

fn member<'w>(world: &World<'w>, field: &'static Field, row: Row<'w>, first: &mut bool, json: &mut Vec<u8>) {
    let value = (field.get)(world, row);
    if value != Value::Null {
        name(field.name, first, json);
        write(world, &value, json);
    }
}

fn write(world: &World<'_>, value: &Value<'_>, json: &mut Vec<u8>) {
    match value {
        Value::Null => json.extend_from_slice(b"null"),
        Value::Uuid(id) => {
            let mut letters = [0; uuid::fmt::Simple::LENGTH];
            json.push(b'"');
            json.extend_from_slice(id.simple().encode_lower(&mut letters).as_bytes());
            json.push(b'"');
        }
        Value::Text(text) => quoted(text, json),
        Value::Number(number) => {
            let mut digits = String::new();
            // Writing to text cannot fail.
            let _ = write!(digits, "{number}");
            json.extend_from_slice(digits.as_bytes());
        }
        Value::Flag(flag) => json.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Date(at) => quoted(&dates::print(*at, world.zone), json),
        Value::List(values) => {
            json.push(b'[');
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    json.push(b',');
                }
                write(world, value, json);
            }
            json.push(b']');
        }
    }
}

fn quoted(text: &str, json: &mut Vec<u8>) {
    // Text always encodes, and a vector takes whatever comes.
    let _ = serde_json::to_writer(json, text);
}
