//! Variables: `${name}` in any text of a scenario, also `${case.field}` for members and `${now+5}` for sums.
//!
//! A text that is one variable and nothing else takes the variable's value with its type; inside a longer text the
//! value is written out. `${fresh_uuid}` and `${fresh_hex}` are another value each time; `${md5:name}`,
//! `${sha512:name}` and `${hex:name}` are made from another variable: clients send passwords as digests, and uuids
//! without hyphens.

use std::collections::{BTreeMap, BTreeSet};

use md5::Md5;
use serde_json::{Map, Value};
use sha2::{Digest, Sha512};

/// The variables of one scenario while it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vars(BTreeMap<String, Value>);

impl Vars {
    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// The names that are set.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// What was set since the names were `before`.
    pub(crate) fn since(&self, before: &BTreeSet<String>) -> Map<String, Value> {
        let fresh = self.0.iter().filter(|(name, _)| !before.contains(*name));
        fresh.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The value of `name` or of `name.member.member`.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(name) {
            return Some(value);
        }
        let (first, rest) = name.split_once('.')?;
        rest.split('.')
            .try_fold(self.0.get(first)?, |value, part| value.get(part))
    }

    /// Replaces the variables in every text of a value.
    ///
    /// # Errors
    /// The name of a variable that is not set, in words.
    pub(crate) fn fill(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => self.value_of(text)?,
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| self.fill(item))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(members) => {
                let mut filled = Map::new();
                for (name, member) in members {
                    filled.insert(self.text(name)?, self.fill(member)?);
                }
                Value::Object(filled)
            }
            other => other.clone(),
        })
    }

    /// Replaces the variables in a text.
    ///
    /// # Errors
    /// As [`Vars::fill`].
    pub(crate) fn text(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}` has a `${{` without its `}}`"))?;
            filled.push_str(before);
            match self.known(name)? {
                Value::String(value) => filled.push_str(&value),
                other => filled.push_str(&other.to_string()),
            }
            rest = behind;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value_of(&self, text: &str) -> Result<Value, String> {
        let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        match name {
            Some(name) if !name.contains(['$', '{', '}']) => self.known(name),
            _ => self.text(text).map(Value::String),
        }
    }

    fn known(&self, name: &str) -> Result<Value, String> {
        if let Some(value) = self.get(name) {
            return Ok(value.clone());
        }
        // Further in, also into lists.
        let inside = name.split_once('.').and_then(|(first, rest)| {
            let path = super::path::JsonPath::parse(&format!("$.{rest}")).ok()?;
            path.find(self.0.get(first)?)
        });
        if let Some(value) = inside {
            return Ok(value);
        }
        match name {
            "fresh_uuid" => return Ok(Value::String(uuid::Uuid::new_v4().to_string())),
            "fresh_hex" => return Ok(Value::String(uuid::Uuid::new_v4().simple().to_string())),
            _ => {}
        }
        if let Some((function, of)) = name.split_once(':') {
            let text = super::path::written(&self.known(of)?);
            return made(function, &text)
                .map(Value::String)
                .ok_or_else(|| format!("there is no function `{function}`: md5, sha512 or hex"));
        }
        let sum = name.split_once('+').and_then(|(name, more)| {
            let number = self.get(name)?.as_i64()?;
            number.checked_add(more.parse().ok()?)
        });
        sum.map(Value::from)
            .ok_or_else(|| format!("the variable `{name}` is not set"))
    }
}

/// A text made from another.
fn made(function: &str, text: &str) -> Option<String> {
    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
    match function {
        "md5" => Some(hex(&Md5::digest(text))),
        "sha512" => Some(hex(&Sha512::digest(text))),
        "hex" => Some(text.replace('-', "").to_lowercase()),
        _ => None,
    }
}

/// Whether a text has a variable in it.
pub(crate) fn has_variable(text: &str) -> bool {
    text.contains("${")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_whole_text_keeps_the_type_and_a_part_is_written_out() {
        let mut vars = Vars::default();
        vars.set("n", json!(4));
        vars.set("case", json!({"word": "boot"}));
        let filled = vars
            .fill(&json!({"a": "${n}", "b": ["x-${n}", "${case.word}"]}))
            .unwrap();
        assert_eq!(filled, json!({"a": 4, "b": ["x-4", "boot"]}));
        vars.set("made", json!({"nics": [{"mac": "a"}, {"mac": "b"}]}));
        assert_eq!(vars.text("${made.nics[1].mac}").unwrap(), "b");
        assert_eq!(
            vars.fill(&json!("${made.nics[*].mac}")).unwrap(),
            json!(["a", "b"])
        );
    }

    #[test]
    fn numbers_can_be_added_to() {
        let mut vars = Vars::default();
        vars.set("now", json!(100));
        assert_eq!(vars.fill(&json!("${now+5}")).unwrap(), json!(105));
        assert!(vars.text("${now+x}").is_err());
    }

    #[test]
    fn digests_and_bare_uuids_are_made_from_other_variables() {
        let mut vars = Vars::default();
        vars.set(
            "site",
            json!({"key": "password", "uuid": "01EE4D15-7165-4859-b8d4-d2c3c0ea22c3"}),
        );
        let md5 = vars.text("${md5:site.key}").unwrap();
        assert_eq!(md5, "5f4dcc3b5aa765d61d8327deb882cf99");
        let sha512 = vars.text("${sha512:site.key}").unwrap();
        assert!(
            sha512.starts_with("b109f3bbbc244eb8") && sha512.len() == 128,
            "{sha512}"
        );
        assert_eq!(
            vars.text("${hex:site.uuid}").unwrap(),
            "01ee4d1571654859b8d4d2c3c0ea22c3"
        );
        assert!(vars.text("${sha3:site.key}").unwrap_err().contains("`sha3`"));
        assert!(vars.text("${md5:nobody}").unwrap_err().contains("`nobody`"));
    }

    #[test]
    fn a_fresh_value_is_another_each_time() {
        let vars = Vars::default();
        let one = vars.text("${fresh_hex}").unwrap();
        assert_eq!(one.len(), 32);
        assert_ne!(one, vars.text("${fresh_hex}").unwrap());
        assert_eq!(vars.text("${fresh_uuid}").unwrap().len(), 36);
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = Vars::default().text("/guest/${uuid}").unwrap_err();
        assert!(error.contains("`uuid`"), "{error}");
    }
}
