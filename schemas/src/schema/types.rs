//! The type column of the tables: `integer`, `array<Guest>`, `string|object?` …

use std::collections::HashMap;

use crate::catalog::Structure;

/// One alternative of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Primitive {
    /// `unknown`, and any word that names no structure: left open.
    Any,
    Object,
    String,
    Integer,
    Number,
    Boolean,
    Array(Box<TypeExpr>),
    /// A name; a structure if there is one of that name.
    Named(String),
}

/// A type as written: alternatives joined by `|`, and `?` where null is a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeExpr {
    pub(crate) alternatives: Vec<Primitive>,
    pub(crate) nullable: bool,
}

impl TypeExpr {
    /// Reads the column. Every text has a reading.
    pub(crate) fn parse(text: &str) -> TypeExpr {
        let text = text.trim();
        let (text, nullable) = match text.strip_suffix('?') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let alternatives = if text.starts_with("array<") && text.ends_with('>') {
            vec![primitive(text)]
        } else {
            text.split('|').map(primitive).collect()
        };
        TypeExpr {
            alternatives,
            nullable,
        }
    }

    /// The first name that is neither a type nor a structure.
    pub(crate) fn stranger(&self, structures: &HashMap<String, Structure>) -> Option<&str> {
        self.alternatives.iter().find_map(|one| match one {
            Primitive::Named(name) if !structures.contains_key(name) => Some(name.as_str()),
            Primitive::Array(items) => items.stranger(structures),
            _ => None,
        })
    }

    /// The structure, if the type is exactly one.
    pub(crate) fn structure<'s>(&self, structures: &'s HashMap<String, Structure>) -> Option<&'s Structure> {
        match self.alternatives.as_slice() {
            [Primitive::Named(name)] => structures.get(name),
            _ => None,
        }
    }

    /// The type of the items, if the type is exactly an array.
    pub(crate) fn items(&self) -> Option<&TypeExpr> {
        match self.alternatives.as_slice() {
            [Primitive::Array(items)] => Some(items),
            _ => None,
        }
    }
}

fn primitive(text: &str) -> Primitive {
    let text = text.trim();
    if let Some(items) = text
        .strip_prefix("array<")
        .and_then(|rest| rest.strip_suffix('>'))
    {
        return Primitive::Array(Box::new(TypeExpr::parse(items)));
    }
    match text {
        "unknown" => Primitive::Any,
        "object" => Primitive::Object,
        "string" => Primitive::String,
        "integer" => Primitive::Integer,
        "number" => Primitive::Number,
        "boolean" => Primitive::Boolean,
        name => Primitive::Named(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_column_is_read() {
        let list = TypeExpr::parse("array<Guest|Host?>?");
        assert!(list.nullable);
        let items = list.items().unwrap();
        assert!(items.nullable);
        let names = [
            Primitive::Named("Guest".to_owned()),
            Primitive::Named("Host".to_owned()),
        ];
        assert_eq!(items.alternatives, names);
        assert_eq!(
            TypeExpr::parse("string|object").alternatives,
            [Primitive::String, Primitive::Object]
        );
        assert_eq!(TypeExpr::parse("unknown").alternatives, [Primitive::Any]);
        assert_eq!(
            TypeExpr::parse("array<strnig>").stranger(&HashMap::new()),
            Some("strnig")
        );
    }
}
