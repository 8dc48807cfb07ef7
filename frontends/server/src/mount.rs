//! Which dialect owns a path, and which operation it is.
//!
//! On a shared port every mount whose prefix fits is asked, the longest prefix first: `/api/kvm/` belongs to the
//! task feed although Guest REST owns `/api`. If none knows the path, the longest prefix refuses it. A path under
//! no prefix at all has no dialect, unless the port has only one.

use std::sync::Arc;

use babelvisor_core::frontend::{Frontend, Refusal, Routed};

use crate::ServerError;
use crate::observe::DialectMetrics;

/// What a table says about a method and a path.
#[derive(Debug, Clone)]
pub enum RouteOutcome {
    /// An operation that is built.
    Found(Routed),
    /// An operation that is documented but not built yet.
    NotBuilt {
        /// Its id.
        operation: &'static str,
    },
    /// The path exists with other methods.
    WrongMethod {
        /// These.
        allowed: Vec<String>,
    },
    /// No operation has this path.
    UnknownPath,
}

/// A dialect's operations, by method and path.
pub trait RouteTable: Send + Sync {
    /// Looks up `path`, which is decoded and begins with a slash. Path parameters are returned as they stand in it.
    fn route(&self, method: &str, path: &str) -> RouteOutcome;
}

/// What a trailing slash means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrailingSlash {
    /// A path with and one without are two paths, of which the table has one.
    #[default]
    Exact,
    /// Both spellings are the same path, answered directly (a redirect would lose the body of a POST).
    Both,
}

/// A dialect on a port.
#[derive(Clone)]
pub struct Mount {
    /// Who answers.
    pub frontend: Arc<dyn Frontend>,
    /// What it answers.
    pub table: Arc<dyn RouteTable>,
    /// The paths that it owns, such as `/v1/compute`: each begins with a slash and ends without one.
    pub prefixes: Vec<String>,
    /// Its slash form.
    pub trailing_slash: TrailingSlash,
}

/// The mounts of one port.
pub(crate) struct Mounts {
    mounts: Vec<Mounted>,
    /// (prefix, index into `mounts`), longest prefix first.
    prefixes: Vec<(String, usize)>,
}

/// A mount with what is remembered about it.
pub(crate) struct Mounted {
    pub(crate) frontend: Arc<dyn Frontend>,
    pub(crate) metrics: DialectMetrics,
    table: Arc<dyn RouteTable>,
    trailing_slash: TrailingSlash,
}

impl Mounted {
    fn look_up(&self, method: &str, path: &str) -> RouteOutcome {
        let outcome = self.table.route(method, path);
        if self.trailing_slash == TrailingSlash::Exact || !matches!(outcome, RouteOutcome::UnknownPath) {
            return outcome;
        }
        match path.strip_suffix('/') {
            Some(bare) if !bare.is_empty() => self.table.route(method, bare),
            Some(_) => outcome,
            None => self.table.route(method, &format!("{path}/")),
        }
    }
}

impl Mounts {
    pub(crate) fn new(mounts: &[Mount]) -> Result<Self, ServerError> {
        let mut prefixes: Vec<(String, usize)> = Vec::new();
        for (index, mount) in mounts.iter().enumerate() {
            for prefix in &mount.prefixes {
                let dialect = mount.frontend.dialect();
                if !prefix.starts_with('/') || (prefix.len() > 1 && prefix.ends_with('/')) {
                    return Err(ServerError::Config(format!(
                        "prefix {prefix:?} of {dialect}: write it with a leading and without a trailing slash"
                    )));
                }
                if prefixes
                    .iter()
                    .any(|(other, owner)| other == prefix && *owner != index)
                {
                    return Err(ServerError::Config(format!(
                        "two dialects on one listener own the prefix {prefix}: give {dialect} a listener of its own"
                    )));
                }
                prefixes.push((prefix.clone(), index));
            }
        }
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let mounts = mounts
            .iter()
            .map(|mount| Mounted {
                metrics: DialectMetrics::new(mount.frontend.dialect()),
                frontend: Arc::clone(&mount.frontend),
                table: Arc::clone(&mount.table),
                trailing_slash: mount.trailing_slash,
            })
            .collect();
        Ok(Self { mounts, prefixes })
    }

    /// Who refuses what nobody knows: the longest prefix, or the only dialect. Also takes a path as sent, for
    /// requests whose path cannot be decoded.
    pub(crate) fn owner(&self, path: &str) -> Option<&Mounted> {
        self.candidates(path).next()
    }

    /// The mount that answers, and what its table said; none if the path belongs to nobody.
    pub(crate) fn route(&self, method: &str, path: &str) -> Option<(&Mounted, RouteOutcome)> {
        for mounted in self.candidates(path) {
            let outcome = mounted.look_up(method, path);
            if !matches!(outcome, RouteOutcome::UnknownPath) {
                return Some((mounted, outcome));
            }
        }
        self.owner(path).map(|owner| (owner, RouteOutcome::UnknownPath))
    }

    fn candidates(&self, path: &str) -> impl Iterator<Item = &Mounted> {
        let alone = match self.mounts.as_slice() {
            [only] => Some(only),
            _ => None,
        };
        let shared = self
            .prefixes
            .iter()
            .filter(move |(prefix, _)| alone.is_none() && covers(prefix, path))
            .filter_map(|(_, index)| self.mounts.get(*index));
        alone.into_iter().chain(shared)
    }
}

/// Whether `path` is `prefix` or lies below it.
fn covers(prefix: &str, path: &str) -> bool {
    prefix == "/"
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The refusal that an outcome stands for; none if it is to be answered.
pub(crate) fn refusal(outcome: &RouteOutcome) -> Option<Refusal> {
    match outcome {
        RouteOutcome::Found(_) => None,
        RouteOutcome::NotBuilt { operation } => Some(Refusal::NotBuilt { operation }),
        RouteOutcome::WrongMethod { allowed } => Some(Refusal::WrongMethod {
            allowed: allowed.clone(),
        }),
        RouteOutcome::UnknownPath => Some(Refusal::UnknownPath),
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        assert!(covers("/api", "/api"));
        assert!(covers("/api", "/api/guests"));
        assert!(!covers("/api", "/apix"));
        assert!(covers("/", "/anything"));
    }
}
