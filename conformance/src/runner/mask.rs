//! Secrets do not reach reports: legacy bodies hold passwords, and a report is made to be passed on.
//!
//! A value is a secret when its name says so. Once learned, it is also hidden wherever else it appears: in a path, in
//! a longer text, in a difference.

use std::collections::BTreeSet;

use serde_json::Value;

const HIDDEN: &str = "••••";

/// Parts of names that mark a secret, in small letters.
const NAMES: [&str; 10] = [
    "password",
    "passwd",
    "hostpw",
    "secret",
    "token",
    "authorization",
    "credential",
    "cookie",
    "apikey",
    "api_key",
];

/// Values shorter than this are hidden only under their own name: hiding every `1` would blind the report.
const SHORTEST: usize = 4;

/// The secrets that a scenario has met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(BTreeSet<String>);

/// Whether a field of this name holds a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

impl Secrets {
    /// Remembers the secrets of a value.
    pub(crate) fn learn(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if is_secret(name) {
                        self.learn_all(member);
                    }
                    self.learn(member);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Takes over what others know.
    pub(crate) fn join(&mut self, others: &Secrets) {
        self.0.extend(others.0.iter().cloned());
    }

    /// Remembers a value under a name.
    pub(crate) fn learn_named(&mut self, name: &str, value: &Value) {
        if is_secret(name) {
            self.learn_all(value);
        }
        self.learn(value);
    }

    fn learn_all(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.chars().count() >= SHORTEST => {
                self.0.insert(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| self.learn_all(item)),
            Value::Object(members) => members.values().for_each(|member| self.learn_all(member)),
            _ => {}
        }
    }

    /// A text with the known secrets hidden.
    pub(crate) fn text(&self, text: &str) -> String {
        // Longer ones first: a secret may begin with another.
        let mut known: Vec<&String> = self.0.iter().collect();
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        known.into_iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), HIDDEN)
        })
    }

    /// A value with secrets hidden: by name, and by what is known.
    pub(crate) fn value(&self, value: &Value) -> Value {
        match value {
            Value::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(name, member)| {
                        let shown = if is_secret(name) && holds_text(member) {
                            Value::String(HIDDEN.to_owned())
                        } else {
                            self.value(member)
                        };
                        (name.clone(), shown)
                    })
                    .collect(),
            ),
            Value::Array(items) => Value::Array(items.iter().map(|item| self.value(item)).collect()),
            Value::String(text) => Value::String(self.text(text)),
            other => other.clone(),
        }
    }

    /// A body for a report: JSON is masked by name, other text by what is known.
    pub(crate) fn body(&self, body: &str) -> String {
        match serde_json::from_str::<Value>(body) {
            Ok(value) => self.value(&value).to_string(),
            Err(_) => self.text(body),
        }
    }
}

fn holds_text(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(holds_text),
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_hidden_by_name_and_wherever_they_come_back() {
        let mut secrets = Secrets::default();
        secrets.learn(&json!({"password": "Reef-lamp-7", "data": [{"vnc_password": "abcd1234"}]}));
        let shown =
            secrets.value(&json!({"password": "Reef-lamp-7", "xml": "<a p='abcd1234'/>", "name": "web"}));
        assert_eq!(
            shown,
            json!({"password": HIDDEN, "xml": format!("<a p='{HIDDEN}'/>"), "name": "web"})
        );
        assert!(!secrets.text("/x?k=Reef-lamp-7").contains("Reef"));
    }

    #[test]
    fn an_object_under_a_secret_name_is_looked_into() {
        let secrets = Secrets::default();
        let shown = secrets.value(&json!({"token": {"token": "abc", "effectiveTime": 1}}));
        assert_eq!(shown, json!({"token": {"token": HIDDEN, "effectiveTime": 1}}));
    }
}
