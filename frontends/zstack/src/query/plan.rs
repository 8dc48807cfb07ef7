//! From conditions as they were written to conditions that can be judged: names looked up in the tables, values in the
//! type of their field. Conditions behind the same relation belong together: one related row must fulfil them all.

use babelvisor_core::Error;
use jiff::tz::TimeZone;

use super::parse::{Condition, Question, refused, shown};
use super::table::{Field, Relation, Resource};
use super::value::{self, Operand, Operator, Type};

/// Tags that a client set with a meaning for the system.
const SYSTEM_TAG: &str = "__systemTag__";
/// Tags for people.
const USER_TAG: &str = "__userTag__";

/// A query, ready to be judged.
pub(crate) struct Plan {
    /// What rows must fulfil.
    pub(crate) all: Group,
    /// How many rows are skipped.
    pub(crate) start: usize,
    /// How many rows are answered at most.
    pub(crate) limit: usize,
    /// Whether only the number of rows is answered.
    pub(crate) count: bool,
    /// Whether it is answered besides the rows.
    pub(crate) reply_with_count: bool,
    /// Field of which each value is shown once.
    pub(crate) group_by: Option<&'static Field>,
    /// Field that rows are ordered by, and whether the greatest comes first.
    pub(crate) sort: Option<(&'static Field, bool)>,
    /// Fields that are answered; everything without.
    pub(crate) fields: Option<Vec<&'static Field>>,
}

/// Conditions that one row must fulfil.
#[derive(Default)]
pub(crate) struct Group {
    /// On the row itself.
    pub(crate) tests: Vec<Test>,
    /// On some related row.
    pub(crate) related: Vec<(&'static Relation, Group)>,
}

/// One condition on a row.
pub(crate) struct Test {
    /// What is looked at.
    pub(crate) what: What,
    /// How it is compared.
    pub(crate) operator: Operator,
    /// With what.
    pub(crate) operand: Operand,
}

/// What a condition looks at.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// A field.
    Field(&'static Field),
    /// The tags: those of the system, or else those of people.
    Tags {
        /// Which of the two.
        system: bool,
    },
}

impl Plan {
    /// Looks everything up that `question` names.
    ///
    /// # Errors
    /// `InvalidInput` in the original's words for names that `resource` does not have, and for values that do not fit
    /// their field.
    pub(crate) fn new(
        resource: &'static Resource,
        question: &Question,
        zone: &TimeZone,
    ) -> Result<Self, Error> {
        let mut all = Group::default();
        for condition in &question.conditions {
            all.add(resource, &condition.name, condition, zone)?;
        }
        let sortable = |option: &str, name: &str| {
            resource.field(name).ok_or_else(|| {
                refused(format!(
                    "illegal {option}[{}], entity[{}] doesn't have this field",
                    shown(name),
                    resource.class
                ))
            })
        };
        let sort = match &question.sort {
            Some((name, down)) => Some((sortable("sortBy", name)?, *down)),
            None => None,
        };
        let group_by = match &question.group_by {
            Some(name) => Some(sortable("groupBy", name)?),
            None => None,
        };
        let fields = question.fields.iter().map(|name| selected(resource, name));
        let fields: Vec<&'static Field> = fields.collect::<Result<_, _>>()?;
        Ok(Self {
            all,
            start: question.start,
            limit: question.limit,
            count: question.count,
            reply_with_count: question.reply_with_count,
            group_by,
            sort,
            fields: (!fields.is_empty()).then_some(fields),
        })
    }
}

impl Group {
    /// Adds `condition`, of whose name `name` is still to be looked up.
    fn add(
        &mut self,
        resource: &'static Resource,
        name: &str,
        condition: &Condition,
        zone: &TimeZone,
    ) -> Result<(), Error> {
        if let Some((first, rest)) = name.split_once('.') {
            let relation = resource.relation(first).ok_or_else(|| {
                refused(format!(
                    "cannot find field[{}] on class[{}], wrong subquery name[{}]",
                    shown(first),
                    resource.class,
                    shown(&condition.name)
                ))
            })?;
            let known = self
                .related
                .iter()
                .position(|(known, _)| known.name == relation.name);
            let place = known.unwrap_or_else(|| {
                self.related.push((relation, Group::default()));
                self.related.len().saturating_sub(1)
            });
            return match self.related.get_mut(place) {
                Some((_, group)) => group.add(relation.to, rest, condition, zone),
                None => Ok(()),
            };
        }
        let (what, of) = match (name, resource.field(name)) {
            (SYSTEM_TAG, _) => (What::Tags { system: true }, Type::Text),
            (USER_TAG, _) => (What::Tags { system: false }, Type::Text),
            (_, Some(field)) => (What::Field(field), field.of),
            (_, None) => {
                return Err(refused(format!(
                    "condition name[{}] is invalid, no such field on inventory class[{}]",
                    shown(name),
                    resource.class
                )));
            }
        };
        let operand = value::operand(of, condition.operator, &condition.value, zone);
        let operand = operand.map_err(|expected| {
            refused(format!(
                "failed to parse value[{}] of condition[{}]: {expected}",
                shown(&condition.value),
                shown(&condition.name)
            ))
        })?;
        self.tests.push(Test {
            what,
            operator: condition.operator,
            operand,
        });
        Ok(())
    }
}

/// A field to answer.
fn selected(resource: &'static Resource, name: &str) -> Result<&'static Field, Error> {
    resource.field(name).ok_or_else(|| {
        let names: Vec<&str> = resource.fields.iter().map(|field| field.name).collect();
        refused(format!(
            "field[{}] is not a primitive of the inventory {}; you cannot specify it in the parameter 'fields';\
             valid fields are [{}]",
            shown(name),
            resource.inventory(),
            names.join(", ")
        ))
    })
}
