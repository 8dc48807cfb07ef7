//! Variables: `${name}` in any text of a scenario, also `${case.field}` for members and `${now+5}` for sums.
//!
//! A text that is one variable and nothing else takes the variable's value with its type; inside a longer text the
//! value is written out.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The variables of one scenario while it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vars(BTreeMap<String, Value>);

impl Vars {
    /// Sets a variable.
    pub(crate) fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
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
        let sum = name.split_once('+').and_then(|(name, more)| {
            let number = self.get(name)?.as_i64()?;
            number.checked_add(more.parse().ok()?)
        });
        sum.map(Value::from)
            .ok_or_else(|| format!("the variable `{name}` is not set"))
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
    }

    #[test]
    fn numbers_can_be_added_to() {
        let mut vars = Vars::default();
        vars.set("now", json!(100));
        assert_eq!(vars.fill(&json!("${now+5}")).unwrap(), json!(105));
        assert!(vars.text("${now+x}").is_err());
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = Vars::default().text("/guest/${uuid}").unwrap_err();
        assert!(error.contains("`uuid`"), "{error}");
    }
}
