//! Reads JSON from the outside: bounded, strict UTF-8, no repeated keys.
//!
//! The usual readers let the last of two equal keys win, so that what was validated and what another program reads
//! may differ; they also build whatever depth they are given. Here each of these is a fault of its own that a
//! dialect can answer.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What a body may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonLimits {
    /// Bytes.
    pub max_bytes: usize,
    /// Objects and lists within each other; at most 120, because the tokenizer itself stops a little above.
    pub max_depth: usize,
    /// Values in all, members and items counted one by one.
    pub max_values: usize,
    /// Whether `\u0000` may stand in text. No hypervisor takes it in a name.
    pub allow_nul: bool,
}

impl Default for JsonLimits {
    /// 1 MiB, 64 deep, 100,000 values, no NUL.
    fn default() -> Self {
        JsonLimits {
            max_bytes: 1 << 20,
            max_depth: 64,
            max_values: 100_000,
            allow_nul: false,
        }
    }
}

/// Why a body is not taken. Positions are lines and columns from 1. No fault carries a value of the body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonFault {
    /// Nothing, or only blanks.
    #[error("the body is empty")]
    Empty,
    /// More bytes than allowed.
    #[error("the body has more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Not UTF-8.
    #[error("the body is not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// The first bad byte.
        offset: usize,
    },
    /// It ends too early.
    #[error("the body ends too early (line {line}, column {column})")]
    Truncated {
        /// Line of the end.
        line: usize,
        /// Column of the end.
        column: usize,
    },
    /// Not JSON.
    #[error("the body is not JSON at line {line}, column {column}")]
    Syntax {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// Objects and lists too deep.
    #[error("the body nests deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Too many values.
    #[error("the body has more than {limit} values")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// One object has the same key twice.
    #[error("the key `{key}` stands twice in one object")]
    DuplicateKey {
        /// The key, cut to 64 characters.
        key: String,
    },
    /// `\u0000` in a text or a key.
    #[error("text holds a NUL character")]
    Nul,
}

/// Reads one JSON value that takes up the whole of `bytes`.
///
/// # Errors
/// The first fault met, see [`JsonFault`].
pub fn parse_json(bytes: &[u8], limits: JsonLimits) -> Result<Value, JsonFault> {
    if bytes.len() > limits.max_bytes {
        return Err(JsonFault::TooLarge {
            limit: limits.max_bytes,
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| JsonFault::NotUtf8 {
        offset: error.valid_up_to(),
    })?;
    if text.trim().is_empty() {
        return Err(JsonFault::Empty);
    }
    let reading = Reading {
        limits,
        state: RefCell::new(State {
            values: 0,
            fault: None,
        }),
    };
    let mut tokens = serde_json::Deserializer::from_str(text);
    let read = Reader {
        reading: &reading,
        depth: 0,
    }
    .deserialize(&mut tokens)
    .and_then(|value| tokens.end().map(|()| value));
    read.map_err(|error| {
        reading.state.into_inner().fault.unwrap_or_else(|| {
            let (line, column) = (error.line(), error.column());
            if error.is_eof() {
                JsonFault::Truncated { line, column }
            } else {
                JsonFault::Syntax { line, column }
            }
        })
    })
}

struct Reading {
    limits: JsonLimits,
    state: RefCell<State>,
}

struct State {
    values: usize,
    fault: Option<JsonFault>,
}

impl Reading {
    /// Notes a fault and stops the tokenizer.
    fn stop<E: serde::de::Error>(&self, fault: JsonFault) -> E {
        self.state.borrow_mut().fault = Some(fault);
        E::custom("refused")
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let limit = self.limits.max_values;
        let values = {
            let mut state = self.state.borrow_mut();
            state.values += 1;
            state.values
        };
        if values > limit {
            Err(self.stop(JsonFault::TooMany { limit }))
        } else {
            Ok(())
        }
    }

    fn check<E: serde::de::Error>(&self, text: &str) -> Result<(), E> {
        if !self.limits.allow_nul && text.contains('\0') {
            Err(self.stop(JsonFault::Nul))
        } else {
            Ok(())
        }
    }
}

#[derive(Clone, Copy)]
struct Reader<'r> {
    reading: &'r Reading,
    depth: usize,
}

impl Reader<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let limit = self.reading.limits.max_depth;
        if self.depth >= limit {
            return Err(self.reading.stop(JsonFault::TooDeep { limit }));
        }
        Ok(Reader {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.reading.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.reading.check(text)?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.reading.check::<A::Error>(&key)?;
            if object.contains_key(&key) {
                let key = key.chars().take(64).collect();
                return Err(self.reading.stop(JsonFault::DuplicateKey { key }));
            }
            let value = members.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
