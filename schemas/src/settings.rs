//! `operations.json`: the settings of a dialect and what each operation promises.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::catalog::Field;
use crate::operation::AnswerWhen;

/// How a dialect treats one slash at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slash {
    /// Paths are taken exactly as documented; a slash too many is an unknown path.
    Exact,
    /// With and without the slash is the same path, answered directly and never by a redirect.
    Both,
}

/// Whether letter case matters in paths. Every dialect so far has exact paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PathCase {
    Exact,
}

/// What holds for a dialect as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Path prefixes that this dialect owns; on a shared port the longest one that fits answers unknown paths.
    pub base_paths: Vec<String>,
    /// Treatment of a slash at the end.
    pub slash: Slash,
    pub(crate) path_case: PathCase,
    /// The port on which the original listens, where it is known.
    #[serde(default)]
    pub default_port: Option<u16>,
    /// True where integers must be written as integers (`4`, not `4.0`) and fit 64 bits with sign.
    pub plain_integers: bool,
    /// The content type of every answer.
    pub content_type: String,
    /// How times are meant on the wire: `unix`, `server` or `local`.
    pub time_zone: String,
    pub(crate) headers: Vec<Field>,
}

/// What `operations.json` says about one operation. What is absent follows from the catalogue.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promise {
    pub(crate) built: bool,
    pub(crate) answer_when: Option<AnswerWhen>,
    pub(crate) longest_wait_ms: Option<u64>,
    pub(crate) accepts_blindly: Option<bool>,
    pub(crate) state_changing: Option<bool>,
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
    #[serde(default)]
    pub(crate) also: Vec<String>,
    pub(crate) action: Option<String>,
    #[serde(default)]
    pub(crate) action_aliases: Vec<String>,
}

/// `operations.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Operations {
    pub(crate) settings: Settings,
    pub(crate) operations: BTreeMap<String, Promise>,
}
