//! The tree that joins the rows of a table.

use std::collections::HashMap;

use super::types::TypeExpr;
use crate::catalog::{Field, Structure};

/// Structures embedded in structures: deeper than any document goes, so that a cycle ends.
const DEEPEST: usize = 16;

/// A step of a dotted name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A member.
    Key(String),
    /// `[]`: the items of a list.
    Item,
    /// `{key}`: the values of a map.
    AnyKey,
    /// `<anonymous>` and its like: the structure's members belong to the place itself.
    Embed,
}

/// A place in a JSON value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) declared: Option<TypeExpr>,
    pub(crate) field: Field,
    pub(crate) required: bool,
    pub(crate) members: Vec<(String, Node)>,
    pub(crate) item: Option<Box<Node>>,
    pub(crate) any: Option<Box<Node>>,
    expanded: bool,
}

/// Splits `data.disk[].size` into steps.
pub(crate) fn segments(name: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in name.split('.') {
        let mut word = part;
        let mut lists = 0;
        while let Some(rest) = word.strip_suffix("[]") {
            word = rest;
            lists += 1;
        }
        steps.push(match word {
            "<anonymous>" | "<envelope>" | "(task object)" => Step::Embed,
            "{key}" => Step::AnyKey,
            key => Step::Key(key.to_owned()),
        });
        steps.extend(std::iter::repeat_n(Step::Item, lists));
    }
    steps
}

impl Node {
    /// The root of a body.
    pub(crate) fn object() -> Node {
        Node {
            declared: Some(TypeExpr::parse("object")),
            required: true,
            ..Node::default()
        }
    }

    fn of_type(declared: TypeExpr) -> Node {
        Node {
            declared: Some(declared),
            ..Node::default()
        }
    }

    /// Puts a row into its place.
    pub(crate) fn insert(
        &mut self,
        steps: &[Step],
        field: &Field,
        structures: &HashMap<String, Structure>,
        depth: usize,
    ) {
        let Some((step, rest)) = steps.split_first() else {
            self.declare(field);
            return;
        };
        match step {
            Step::Embed => {
                let declared = field.type_name.as_deref().map(TypeExpr::parse);
                if let Some(structure) = declared.and_then(|declared| declared.structure(structures)) {
                    self.embed(structure, structures, depth);
                }
            }
            Step::Key(key) => {
                self.open(structures, depth);
                // A list whose members are named without `[]` means its items.
                let is_list =
                    self.item.is_some() || self.declared.as_ref().is_some_and(|d| d.items().is_some());
                if is_list {
                    self.items().insert(steps, field, structures, depth);
                } else {
                    self.member(key).insert(rest, field, structures, depth);
                }
            }
            Step::Item => self.items().insert(rest, field, structures, depth),
            Step::AnyKey => {
                self.open(structures, depth);
                self.any
                    .get_or_insert_default()
                    .insert(rest, field, structures, depth);
            }
        }
    }

    /// Makes sure that there is an object of that name and that it must be there.
    pub(crate) fn require_object(&mut self, key: &str) {
        let member = self.member(key);
        member.required = true;
        member.declared.get_or_insert_with(|| TypeExpr::parse("object"));
    }

    /// Whether the place must be filled: it says so, or it is only there to hold something that must.
    pub(crate) fn is_required(&self) -> bool {
        self.required
            || (self.declared.is_none() && self.members.iter().any(|(_, member)| member.is_required()))
    }

    fn declare(&mut self, field: &Field) {
        if let Some(type_name) = &field.type_name {
            let declared = TypeExpr::parse(type_name);
            if self.declared.as_ref() != Some(&declared) {
                self.expanded = false;
            }
            if let (Some(item), Some(items)) = (&mut self.item, declared.items()) {
                item.declared.get_or_insert_with(|| items.clone());
            }
            self.declared = Some(declared);
        }
        self.required |= field.required == Some(true);
        let earlier = std::mem::replace(&mut self.field, field.clone());
        // A row that repeats a member of a structure may leave out what the structure said.
        self.field.allowed = self.field.allowed.take().or(earlier.allowed);
        self.field.pattern = self.field.pattern.take().or(earlier.pattern);
    }

    /// Turns a reference to a structure into its members, because a row is about to add to them.
    fn open(&mut self, structures: &HashMap<String, Structure>, depth: usize) {
        if self.expanded {
            return;
        }
        self.expanded = true;
        let structure = self
            .declared
            .as_ref()
            .and_then(|declared| declared.structure(structures));
        if let Some(structure) = structure {
            self.embed(structure, structures, depth);
        }
    }

    fn embed(&mut self, structure: &Structure, structures: &HashMap<String, Structure>, depth: usize) {
        if depth >= DEEPEST {
            return;
        }
        for field in &structure.fields {
            self.expanded = true;
            self.insert(&segments(&field.full_name()), field, structures, depth + 1);
        }
    }

    fn member(&mut self, key: &str) -> &mut Node {
        let place = match self.members.iter().position(|(name, _)| name == key) {
            Some(place) => place,
            None => {
                self.members.push((key.to_owned(), Node::default()));
                self.members.len() - 1
            }
        };
        // `place` was just found or made; the fallback keeps the compiler and the lints content.
        match self.members.get_mut(place) {
            Some((_, node)) => node,
            None => self.any.get_or_insert_default(),
        }
    }

    fn items(&mut self) -> &mut Node {
        let declared = self.declared.as_ref().and_then(TypeExpr::items).cloned();
        self.item
            .get_or_insert_with(|| Box::new(declared.map(Node::of_type).unwrap_or_default()))
    }
}
