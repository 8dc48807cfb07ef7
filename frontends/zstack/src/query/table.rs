//! What a resource is to a query: its fields, its relations, and how its rows are found. One table for each resource,
//! in `resources`; conditions, sorting, joins and answers all walk the same tables.

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::TenantId;
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::index::{Index, Key};
use super::value::{Type, Value};
use crate::resources::Row;

/// The moment that a query is answered from, as its caller sees it.
#[derive(Clone, Copy)]
pub(crate) struct World<'w> {
    /// The inventory.
    pub(crate) now: &'w Snapshot,
    /// What finds VMs by their values.
    pub(crate) index: &'w Index,
    /// To whose objects the caller is limited; an administrator (none) sees all.
    pub(crate) scope: Option<&'w TenantId>,
    /// The zone of dates.
    pub(crate) zone: &'w TimeZone,
}

/// Reads a field of a row.
pub(crate) type Get = for<'a, 'w> fn(&'a World<'w>, Row<'w>) -> Value<'w>;
/// Finds the rows that a row is related to.
pub(crate) type Related = for<'a, 'w> fn(&'a World<'w>, Row<'w>) -> Vec<Row<'w>>;

/// A field of a resource.
pub(crate) struct Field {
    /// Its name on the wire.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) of: Type,
    /// Reads it.
    pub(crate) get: Get,
    /// By what the index finds the VMs of rows with a given value.
    pub(crate) key: Option<Key>,
}

impl Field {
    /// The field with an index behind it.
    pub(crate) const fn indexed(self, key: Key) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }
}

/// How an indexed search goes through a relation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Both rows belong to the same VM: what finds the one finds the other.
    SameVm,
    /// The named field of this resource is the uuid of the related row.
    Key(&'static str),
    /// Row by row.
    Walk,
}

/// A relation to another resource.
pub(crate) struct Relation {
    /// Its name in a condition, before the dot.
    pub(crate) name: &'static str,
    /// The other resource.
    pub(crate) to: &'static Resource,
    /// Finds the related rows.
    pub(crate) rows: Related,
    /// How an indexed search goes through it.
    pub(crate) join: Join,
    /// How answers show the related rows under this name.
    pub(crate) shown: Shown,
}

impl Relation {
    /// The relation as a list in answers.
    pub(crate) const fn shown(self) -> Self {
        Self {
            shown: Shown::List,
            ..self
        }
    }

    /// The relation as one object in answers.
    pub(crate) const fn shown_as_one(self) -> Self {
        Self {
            shown: Shown::One,
            ..self
        }
    }
}

/// How answers show related rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Not at all.
    No,
    /// As a list.
    List,
    /// As one object.
    One,
}

/// A kind of resource.
pub(crate) struct Resource {
    /// The original's class of what answers show of it.
    pub(crate) class: &'static str,
    /// Its fields in the order of answers.
    pub(crate) fields: &'static [Field],
    /// Its relations.
    pub(crate) relations: &'static [Relation],
    /// Where its rows come from.
    pub(crate) rows: Rows,
    /// The rows with this uuid, if that needs no walk.
    pub(crate) by_uuid: Option<for<'a, 'w> fn(&'a World<'w>, Uuid) -> Option<Row<'w>>>,
}

/// Where rows come from.
pub(crate) enum Rows {
    /// A table of its own.
    Own(for<'a, 'w> fn(&'a World<'w>) -> Vec<Row<'w>>),
    /// Parts of VMs, in the order of their numbers; and what lies beside, if there is something.
    OfVms {
        /// What of one VM is a row.
        of: for<'a, 'w> fn(&'a World<'w>, &'w babelvisor_core::model::Vm, &mut Vec<Row<'w>>),
        /// What belongs to no VM.
        beside: Option<for<'a, 'w> fn(&'a World<'w>) -> Vec<Row<'w>>>,
    },
}

impl Resource {
    /// The field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The relation of this name.
    pub(crate) fn relation(&self, name: &str) -> Option<&'static Relation> {
        self.relations.iter().find(|relation| relation.name == name)
    }

    /// The last part of its class: `VmInstanceInventory`.
    pub(crate) fn inventory(&self) -> &'static str {
        self.class.rsplit('.').next().unwrap_or(self.class)
    }
}

/// A field of a table: name, type, which rows have it, and its value.
macro_rules! field {
    ($name:literal, $of:ident, $row:pat, |$world:pat_param| $value:expr) => {
        $crate::query::table::Field {
            name: $name,
            of: $crate::query::value::Type::$of,
            get: |$world, row| {
                let $row = row else {
                    return $crate::query::value::Value::Null;
                };
                $crate::query::value::Value::from($value)
            },
            key: None,
        }
    };
}
pub(crate) use field;

/// A relation of a table: name, resource, how an indexed search goes through it, which rows have it, and its rows.
macro_rules! relation {
    ($name:literal, $to:expr, $join:expr, $row:pat, |$world:pat_param| $rows:expr) => {
        $crate::query::table::Relation {
            name: $name,
            to: $to,
            rows: |$world, row| {
                let $row = row else {
                    return Vec::new();
                };
                $rows
            },
            join: $join,
            shown: $crate::query::table::Shown::No,
        }
    };
}
pub(crate) use relation;
