//! What is wrong with a configuration, in words that lead to the place.

use std::fmt;
use std::path::Path;

/// A configuration that cannot be used.
#[derive(Debug)]
pub(crate) struct ConfigError(String);

impl ConfigError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// File and line of a parser's error, with the nearest known key for an unknown one.
pub(super) fn explain(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error
        .span()
        .and_then(|span| text.get(..span.start))
        .unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let message = error.message();
    let hint = nearest(message)
        .map(|key| format!("; did you mean `{key}`?"))
        .unwrap_or_default();
    ConfigError(format!("{}:{line}: {message}{hint}", path.display()))
}

/// From "unknown field `kidn`, expected one of `kind`, `url`" the most similar of the expected.
fn nearest(message: &str) -> Option<&str> {
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = message.contains("unknown").then(|| words.next()).flatten()?;
    words
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
