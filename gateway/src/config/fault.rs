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
    let message = error.message();
    let line = line_of(text, before.len(), message);
    let hint = nearest(message)
        .map(|key| format!("; did you mean `{key}`?"))
        .unwrap_or_default();
    ConfigError(format!("{}:{line}: {message}{hint}", path.display()))
}

/// The line that is meant. In an entry with a `kind` the parser only knows where the entry begins: there the word
/// that it complains about is looked for.
fn line_of(text: &str, begin: usize, message: &str) -> usize {
    let first = text.get(..begin).unwrap_or_default().matches('\n').count();
    let word = message.split('`').nth(1).filter(|_| message.contains("unknown"));
    let within = word.and_then(|word| {
        let lines = text.lines().enumerate().skip(first);
        // The next header begins another entry.
        let mut entry = lines.take_while(|(number, line)| *number == first || !line.trim().starts_with("[["));
        entry.find(|(_, line)| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            key.trim().trim_matches('"') == word || value.contains(&format!("\"{word}\""))
        })
    });
    within.map_or(first, |(number, _)| number) + 1
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
