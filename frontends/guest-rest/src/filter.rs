//! The filter of lists: clauses `field:op:value` joined by `;`, all of which must hold (`docs/filter_primitive.md`
//! of JimV-C). What the original does not understand it ignores silently, and so do we: a clause with a field or
//! operator that it does not have, with a blank in it, or without exactly two colons. Unlike there, `%` and `_` in
//! a value are letters like any other, and `uuid`, `id` and `status` can be asked for as well.

use std::cmp::Ordering;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::Vm;

use crate::encode::{address, on_host, status};

/// What may be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
enum Column {
    Name,
    Remark,
    OnHost,
    Ip,
    Uuid,
    Id,
    Status,
}

/// The four that the original has, which a search looks at.
const SEARCHED: [Column; 4] = [Column::Name, Column::Remark, Column::OnHost, Column::Ip];

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
enum Operator {
    Eq,
    Gt,
    Lt,
    Ne,
    In,
    Notin,
    Like,
}

/// A value, ready to be compared: text in small letters, because the original's database compares so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Number(i64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Is(Ordering),
    IsNot,
    Among(bool),
    Contains,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    column: Column,
    test: Test,
    values: Vec<Value>,
}

/// What a list is narrowed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Every clause holds.
    All(Vec<FilterClause>),
    /// One of the searched columns contains the keyword, given in small letters.
    Keyword(String),
}

/// A clause that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterClause(Clause);

impl Filter {
    /// Reads a filter, leaving out what it does not understand.
    pub(crate) fn parse(text: &str) -> Self {
        Self::All(
            text.split(';')
                .filter_map(Clause::parse)
                .map(FilterClause)
                .collect(),
        )
    }

    /// Looks for a keyword.
    pub(crate) fn keyword(keyword: &str) -> Self {
        Self::Keyword(keyword.to_lowercase())
    }

    /// Whether every guest passes.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::All(clauses) => clauses.is_empty(),
            Self::Keyword(keyword) => keyword.is_empty(),
        }
    }

    /// Whether a guest passes.
    pub(crate) fn passes(&self, now: &Snapshot, vm: &Vm) -> bool {
        match self {
            Self::All(clauses) => clauses
                .iter()
                .all(|FilterClause(clause)| clause.holds(&clause.column.of(now, vm))),
            Self::Keyword(keyword) => SEARCHED
                .iter()
                .any(|column| column.of(now, vm).text().contains(keyword.as_str())),
        }
    }
}

impl Column {
    fn of(self, now: &Snapshot, vm: &Vm) -> Value {
        match self {
            Self::Name => Value::folded(vm.name()),
            Self::Remark => Value::folded(&vm.record.remark),
            Self::OnHost => Value::folded(on_host(now, vm)),
            Self::Ip => Value::folded(&address(vm)),
            Self::Uuid => Value::Text(vm.id.to_string()),
            Self::Id => Value::Number(i64::try_from(vm.record.number).unwrap_or(i64::MAX)),
            Self::Status => Value::Number(status(vm).into()),
        }
    }

    const fn is_number(self) -> bool {
        match self {
            Self::Name | Self::Remark | Self::OnHost | Self::Ip | Self::Uuid => false,
            Self::Id | Self::Status => true,
        }
    }
}

impl Value {
    fn folded(text: &str) -> Self {
        Self::Text(text.to_lowercase())
    }

    fn text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Clause {
    fn parse(clause: &str) -> Option<Self> {
        if clause.contains(char::is_whitespace) {
            return None;
        }
        let mut parts = clause.split(':');
        let (column, operator, value) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let (column, operator): (Column, Operator) = (column.parse().ok()?, operator.parse().ok()?);
        let (test, listed) = match operator {
            Operator::Eq => (Test::Is(Ordering::Equal), false),
            Operator::Gt => (Test::Is(Ordering::Greater), false),
            Operator::Lt => (Test::Is(Ordering::Less), false),
            Operator::Ne => (Test::IsNot, false),
            Operator::In => (Test::Among(true), true),
            Operator::Notin => (Test::Among(false), true),
            Operator::Like => (Test::Contains, false),
        };
        let read = |value: &str| match (&test, column.is_number()) {
            (Test::Contains, _) | (_, false) => Some(Value::folded(value)),
            (_, true) => value.parse().ok().map(Value::Number),
        };
        let values = if listed {
            value.split(',').map(read).collect::<Option<_>>()?
        } else {
            vec![read(value)?]
        };
        Some(Self { column, test, values })
    }

    fn holds(&self, value: &Value) -> bool {
        match &self.test {
            Test::Is(ordering) => self.values.iter().all(|wanted| value.cmp(wanted) == *ordering),
            Test::IsNot => self.values.iter().all(|wanted| value != wanted),
            Test::Among(wanted) => self.values.contains(value) == *wanted,
            Test::Contains => {
                let text = value.text();
                self.values.iter().all(|part| text.contains(&part.text()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(clause: &str, value: Value) -> bool {
        Clause::parse(clause)
            .unwrap_or_else(|| panic!("{clause} is understood"))
            .holds(&value)
    }

    #[test]
    fn text_is_compared_without_letter_case() {
        assert!(holds("name:eq:WEB-1", Value::folded("web-1")));
        assert!(holds("name:NE:web-2", Value::folded("web-1")));
        assert!(holds("name:gt:a", Value::folded("B")));
        assert!(holds("remark:lt:m", Value::folded("DESC")));
        assert!(holds("name:like:EB", Value::folded("web-1")));
        assert!(holds("on_host:in:h1,H2", Value::folded("h2")));
        assert!(holds("ip:notin:10.0.0.1,10.0.0.2", Value::folded("10.0.0.3")));
        assert!(!holds("name:eq:web", Value::folded("web-1")));
    }

    #[test]
    fn wildcards_of_the_database_are_plain_letters() {
        assert!(holds("name:like:50%", Value::folded("50%-off")));
        assert!(!holds("name:like:w%1", Value::folded("web-1")));
        assert!(!holds("name:like:w_b", Value::folded("web-1")));
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!(holds("id:gt:9", Value::Number(10)));
        assert!(holds("status:in:1,255", Value::Number(255)));
        assert!(holds("id:like:0", Value::Number(10)));
    }

    #[test]
    fn what_is_not_understood_is_ignored() {
        let odd = [
            "cpu:eq:4",
            "name:is:x",
            "name:eq:a b",
            "name",
            "name:eq",
            "name:eq:a:b",
            "",
            ":::",
            "id:eq:x",
            "Name:eq:a",
            "status:in:1,x",
        ];
        for clause in odd {
            assert_eq!(Clause::parse(clause), None, "{clause}");
        }
        assert!(Filter::parse("cpu:eq:4;;name:eq:a:b").is_open());
        assert!(!Filter::parse("cpu:eq:4;name:eq:a").is_open());
    }
}
