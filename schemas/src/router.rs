//! From method and path to an operation, in time proportional to the number of segments.
//!
//! ```text
//! zstack/v1/vm-instances ─┬─ nics ── {} ── actions     a literal child is tried before the parameter child,
//!                         └─ {} ──── actions           so the longest literal path wins
//! ```
//! Some documents put many operations on one address: ZStack tells them apart by the top-level key of the body, the
//! task feed by kind of report or type of task. The router then answers [`Route::Candidates`] and the frontend,
//! which has read the body, picks.

use std::collections::HashMap;

use crate::operation::Operation;
use crate::path::{Params, Segment, split};
use crate::settings::Slash;

/// What an address leads to.
#[derive(Debug)]
pub enum Route<'c> {
    /// Exactly one operation.
    Found {
        /// The operation, built or not.
        operation: &'c Operation,
        /// The values in the path.
        params: Params,
    },
    /// Several operations share the address (or one that must be named in the body).
    Candidates(Candidates<'c>),
    /// The path is known, the method is not.
    WrongMethod {
        /// The methods that the path has, sorted.
        allowed: Vec<String>,
    },
    /// The dialect has no such path.
    UnknownPath,
}

/// The operations of one address that are told apart by the body.
#[derive(Debug)]
pub struct Candidates<'c> {
    operations: Vec<(&'c Operation, usize)>,
    values: Vec<String>,
}

impl<'c> Candidates<'c> {
    /// The operation whose action key, report kind or task type is `action`, with its parameters.
    /// `None` means that the address knows no such action.
    pub fn pick(&self, action: &str) -> Option<(&'c Operation, Params)> {
        self.find(|operation| {
            operation.action.as_deref() == Some(action)
                || operation.action_aliases.iter().any(|alias| alias == action)
        })
    }

    /// The operation that stands for the address as such (the feed's `feed.report` and `feed.task`).
    pub fn general(&self) -> Option<(&'c Operation, Params)> {
        self.find(|operation| operation.action.is_none())
    }

    /// All operations of the address.
    pub fn operations(&self) -> impl Iterator<Item = &'c Operation> {
        self.operations.iter().map(|(operation, _)| *operation)
    }

    fn find(&self, wanted: impl Fn(&Operation) -> bool) -> Option<(&'c Operation, Params)> {
        let (operation, template) = *self.operations.iter().find(|(operation, _)| wanted(operation))?;
        Some((operation, bind(operation, template, &self.values)))
    }
}

/// The tree of one dialect.
#[derive(Debug, Default)]
pub(crate) struct Router {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, Node>,
    param: Option<Box<Node>>,
    /// Method to the operations there: index of the operation and of the path template that led here.
    methods: HashMap<String, Vec<(usize, usize)>>,
}

impl Router {
    pub(crate) fn new(operations: &[Operation]) -> Router {
        let mut router = Router::default();
        for (index, operation) in operations.iter().enumerate() {
            for (template, path) in operation.paths().enumerate() {
                let mut node = &mut router.root;
                for segment in path.segments() {
                    node = match segment {
                        Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                        Segment::Param(_) => node.param.get_or_insert_default(),
                    };
                }
                node.methods
                    .entry(operation.method.clone())
                    .or_default()
                    .push((index, template));
            }
        }
        router
    }

    /// Finds the operations for `method` and `path` (no query string, not percent-decoded).
    pub(crate) fn route<'c>(
        &self,
        operations: &'c [Operation],
        slash: Slash,
        method: &str,
        path: &str,
    ) -> Route<'c> {
        if !path.starts_with('/') {
            return Route::UnknownPath;
        }
        let parts: Vec<&str> = split(path, slash).collect();
        let mut values = Vec::new();
        let Some(node) = self.root.descend(&parts, &mut values) else {
            return Route::UnknownPath;
        };
        let Some(found) = node.methods.get(method) else {
            let mut allowed: Vec<String> = node.methods.keys().cloned().collect();
            allowed.sort();
            return Route::WrongMethod { allowed };
        };
        let found: Vec<(&Operation, usize)> = found
            .iter()
            .filter_map(|&(index, template)| operations.get(index).map(|operation| (operation, template)))
            .collect();
        let values: Vec<String> = values.into_iter().map(str::to_owned).collect();
        match found.as_slice() {
            [(operation, template)] if operation.action.is_none() => Route::Found {
                operation,
                params: bind(operation, *template, &values),
            },
            _ => Route::Candidates(Candidates {
                operations: found,
                values,
            }),
        }
    }
}

impl Node {
    /// The deepest fit for all parts; literal children first, falling back to the parameter.
    fn descend<'n, 'p>(&'n self, parts: &[&'p str], values: &mut Vec<&'p str>) -> Option<&'n Node> {
        let Some((part, rest)) = parts.split_first() else {
            return (!self.methods.is_empty()).then_some(self);
        };
        let literal = self
            .literals
            .get(*part)
            .and_then(|child| child.descend(rest, values));
        if literal.is_some() || part.is_empty() {
            return literal;
        }
        let child = self.param.as_deref()?;
        values.push(part);
        let found = child.descend(rest, values);
        if found.is_none() {
            values.pop();
        }
        found
    }
}

fn bind(operation: &Operation, template: usize, values: &[String]) -> Params {
    operation
        .paths()
        .nth(template)
        .map(|path| path.bind(values))
        .unwrap_or_default()
}
