//! Values of fields, and how conditions compare them: as the original's database does. Text is compared without
//! letter case, dates by the second, and a comparison with nothing is never true.

use std::borrow::Cow;
use std::cmp::Ordering;

use babelvisor_core::model::{ResourceId, Timestamp};
use jiff::tz::TimeZone;
use uuid::Uuid;

use super::pattern::Pattern;
use crate::dates;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// 32 hexadecimal digits.
    Uuid,
    /// Text, states and types included.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Flag,
    /// A point in time.
    Date,
}

/// What a field holds in one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'w> {
    /// Nothing.
    Null,
    /// An id.
    Uuid(Uuid),
    /// Text.
    Text(Cow<'w, str>),
    /// A whole number.
    Number(i64),
    /// True or false.
    Flag(bool),
    /// A point in time.
    Date(Timestamp),
    /// Several values: a condition on the field holds if it holds for one of them.
    List(Vec<Value<'w>>),
}

impl<'w> From<&'w str> for Value<'w> {
    fn from(text: &'w str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'w> From<&'w String> for Value<'w> {
    fn from(text: &'w String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<Uuid> for Value<'_> {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(at: Timestamp) -> Self {
        Self::Date(at)
    }
}

impl<'w, V: Into<Value<'w>>> From<Option<V>> for Value<'w> {
    fn from(value: Option<V>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<'w> From<Vec<Value<'w>>> for Value<'w> {
    fn from(values: Vec<Value<'w>>) -> Self {
        Self::List(values)
    }
}

/// An id as a value.
pub(crate) fn id<'w, I: ResourceId>(id: I) -> Value<'w> {
    Value::Uuid(id.uuid())
}

/// Text, or nothing if it is empty: what was never said is left out.
pub(crate) fn said(text: &str) -> Value<'_> {
    if text.is_empty() { Value::Null } else { text.into() }
}

impl Value<'_> {
    /// Nothing comes first, then by size, date or letters; letter case does not count.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Null, Self::Null) => Ordering::Equal,
            (Self::Null, _) => Ordering::Less,
            (_, Self::Null) => Ordering::Greater,
            (Self::Uuid(one), Self::Uuid(two)) => one.cmp(two),
            (Self::Number(one), Self::Number(two)) => one.cmp(two),
            (Self::Flag(one), Self::Flag(two)) => one.cmp(two),
            (Self::Date(one), Self::Date(two)) => one.as_second().cmp(&two.as_second()),
            (Self::List(one), Self::List(two)) => one
                .iter()
                .zip(two)
                .map(|(one, two)| one.order(two))
                .find(|order| order.is_ne())
                .unwrap_or_else(|| one.len().cmp(&two.len())),
            _ => order_text(&self.text(), &other.text()),
        }
    }

    /// What the value is as text; dates as seconds, lists and nothing as empty text.
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Uuid(id) => Cow::Owned(id.simple().to_string()),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Flag(flag) => Cow::Borrowed(if *flag { "true" } else { "false" }),
            Self::Date(at) => Cow::Owned(at.as_second().to_string()),
            Self::Null | Self::List(_) => Cow::Borrowed(""),
        }
    }
}

fn order_text(one: &str, two: &str) -> Ordering {
    if one.is_ascii() && two.is_ascii() {
        let (one, two) = (one.bytes(), two.bytes());
        return one
            .map(|byte| byte.to_ascii_lowercase())
            .cmp(two.map(|byte| byte.to_ascii_lowercase()));
    }
    folded(one).cmp(folded(two))
}

/// Letters without case.
pub(super) fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars().flat_map(char::to_lowercase)
}

/// Text as indexes and patterns keep it.
pub(crate) fn fold(text: &str) -> String {
    folded(text).collect()
}

/// The twelve operators, however they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumIter)]
pub(crate) enum Operator {
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `?=`
    In,
    /// `!?=`
    NotIn,
    /// `~=`
    Like,
    /// `!~=`
    NotLike,
    /// `is null`
    Null,
    /// `not null`
    NotNull,
}

impl Operator {
    /// The operator without its denial, and whether it denies: a denied condition on several values (tags, lists)
    /// holds where none of them fulfils the plain one.
    pub(crate) const fn plain(self) -> (Self, bool) {
        match self {
            Self::IsNot => (Self::Is, true),
            Self::NotIn => (Self::In, true),
            Self::NotLike => (Self::Like, true),
            Self::Null => (Self::NotNull, true),
            plain @ (Self::Is
            | Self::Above
            | Self::AtLeast
            | Self::Below
            | Self::AtMost
            | Self::In
            | Self::Like
            | Self::NotNull) => (plain, false),
        }
    }
}

/// What a condition compares with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    /// The operator says all.
    None,
    /// One value.
    One(Value<'static>),
    /// Several values.
    Many(Vec<Value<'static>>),
    /// A pattern.
    Pattern(Pattern),
}

/// Whether `value` fulfils a condition.
pub(crate) fn holds(value: &Value<'_>, operator: Operator, operand: &Operand) -> bool {
    if let Value::List(values) = value {
        return holds_for_list(values, operator, operand);
    }
    let null = *value == Value::Null;
    match operator {
        Operator::Null => return null,
        Operator::NotNull => return !null,
        _ if null => return false,
        _ => {}
    }
    match (operator, operand) {
        (Operator::Is, Operand::One(other)) => value.order(other).is_eq(),
        (Operator::IsNot, Operand::One(other)) => value.order(other).is_ne(),
        (Operator::Above, Operand::One(other)) => value.order(other).is_gt(),
        (Operator::AtLeast, Operand::One(other)) => value.order(other).is_ge(),
        (Operator::Below, Operand::One(other)) => value.order(other).is_lt(),
        (Operator::AtMost, Operand::One(other)) => value.order(other).is_le(),
        (Operator::In, Operand::Many(others)) => others.iter().any(|other| value.order(other).is_eq()),
        (Operator::NotIn, Operand::Many(others)) => others.iter().all(|other| value.order(other).is_ne()),
        (Operator::Like, Operand::Pattern(pattern)) => pattern.fits(&value.text()),
        (Operator::NotLike, Operand::Pattern(pattern)) => !pattern.fits(&value.text()),
        // Operator and operand are made together: no other pair comes up.
        _ => false,
    }
}

/// Several values hang on a row like tags do: `is null` asks for none, `not in` for none of those.
fn holds_for_list(values: &[Value<'_>], operator: Operator, operand: &Operand) -> bool {
    match operator {
        Operator::Null => values.is_empty(),
        Operator::NotNull => !values.is_empty(),
        Operator::NotIn => !values.iter().any(|value| holds(value, Operator::In, operand)),
        Operator::Is
        | Operator::IsNot
        | Operator::Above
        | Operator::AtLeast
        | Operator::Below
        | Operator::AtMost
        | Operator::In
        | Operator::Like
        | Operator::NotLike => values.iter().any(|value| holds(value, operator, operand)),
    }
}

/// The operand that a client wrote, as the field's type has it. The error says what was expected.
pub(crate) fn operand(
    of: Type,
    operator: Operator,
    text: &str,
    zone: &TimeZone,
) -> Result<Operand, &'static str> {
    match operator {
        Operator::Null | Operator::NotNull => Ok(Operand::None),
        Operator::In | Operator::NotIn => {
            let items = items(of, text, zone).into_iter();
            let values = items.map(|item| typed(of, item.trim(), zone));
            values.collect::<Result<_, _>>().map(Operand::Many)
        }
        Operator::Like | Operator::NotLike => match of {
            Type::Text | Type::Uuid => Ok(Operand::Pattern(Pattern::new(text))),
            // A pattern without wildcards is a value; with them it is none.
            Type::Number | Type::Flag | Type::Date => {
                let value = typed(of, text, zone)?;
                Ok(Operand::Pattern(Pattern::new(&value.text())))
            }
        },
        Operator::Is
        | Operator::IsNot
        | Operator::Above
        | Operator::AtLeast
        | Operator::Below
        | Operator::AtMost => typed(of, text, zone).map(Operand::One),
    }
}

/// The values of a list. A printed date has a comma of its own (`Nov 14, 2017 10:20:57 PM`).
fn items<'t>(of: Type, text: &'t str, zone: &TimeZone) -> Vec<&'t str> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        let mut commas = rest.match_indices(',').map(|(at, _)| at);
        let first = commas.next();
        let date = |end: Option<usize>| {
            let item = end.map_or(Some(rest), |end| rest.get(..end));
            item.is_some_and(|item| dates::parse(item, zone).is_some())
        };
        let end = match of {
            // One comma further if only that makes a date.
            Type::Date if first.is_some() && !date(first) => {
                let second = commas.next();
                if date(second) { second } else { first }
            }
            Type::Date | Type::Uuid | Type::Text | Type::Number | Type::Flag => first,
        };
        let Some(end) = end else {
            items.push(rest);
            return items;
        };
        items.push(rest.get(..end).unwrap_or_default());
        rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
    }
}

fn typed(of: Type, text: &str, zone: &TimeZone) -> Result<Value<'static>, &'static str> {
    let own = || Value::Text(Cow::Owned(text.to_owned()));
    match of {
        Type::Text => Ok(own()),
        // What is no uuid is compared as text: it equals none, and stands before or after.
        Type::Uuid => Ok(Uuid::try_parse(text.trim()).map_or_else(|_| own(), Value::Uuid)),
        Type::Number => number(text.trim())
            .map(Value::Number)
            .ok_or("a whole number was expected"),
        Type::Flag => Ok(Value::Flag(text.trim().eq_ignore_ascii_case("true"))),
        Type::Date => dates::parse(text, zone)
            .map(Value::Date)
            .ok_or("a date such as Nov 14, 2017 10:20:57 PM or 2017-11-14 22:20:57 was expected"),
    }
}

/// A whole number, also as `1.0` or `8.589934592E9`.
fn number(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let number: f64 = text.parse().ok()?;
    // Beyond 2^53 a float no longer says which number is meant.
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_comparison_with_nothing_is_never_true() {
        let one = Operand::One("a".into());
        for operator in [Operator::Is, Operator::IsNot, Operator::Above, Operator::Below] {
            assert!(!holds(&Value::Null, operator, &one), "{operator:?}");
        }
        let pattern = Operand::Pattern(Pattern::new("%"));
        assert!(!holds(&Value::Null, Operator::NotLike, &pattern));
        assert!(holds(&Value::Null, Operator::Null, &Operand::None));
        assert!(!holds(&Value::Null, Operator::NotNull, &Operand::None));
    }

    #[test]
    fn numbers_are_read_as_clients_print_them() {
        for (text, expected) in [("1", 1), ("1.0", 1), ("8.589934592E9", 8_589_934_592), ("-3", -3)] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for text in ["", "one", "1.5", "1e300", "NaN"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn a_list_of_printed_dates_is_parted_between_them() {
        let list = "Nov 14, 2017 10:20:57 PM,2017-11-15 00:00:00, Nov 4, 2017, 1:02:03 AM,soon";
        let parted: Vec<&str> = items(Type::Date, list, &TimeZone::UTC)
            .iter()
            .map(|item| item.trim())
            .collect();
        assert_eq!(parted[..2], ["Nov 14, 2017 10:20:57 PM", "2017-11-15 00:00:00"]);
        assert_eq!(parted.last(), Some(&"soon"));
        assert_eq!(items(Type::Text, "a,b,,", &TimeZone::UTC), ["a", "b", "", ""]);
        assert_eq!(items(Type::Text, "", &TimeZone::UTC), [""]);
    }

    proptest! {
        #[test]
        fn order_does_not_care_for_case(one in "\\PC{0,6}", two in "\\PC{0,6}") {
            let by = |one: &str, two: &str| Value::from(one).order(&Value::from(two)).reverse();
            prop_assert_eq!(by(&one, &two), by(&fold(&two), &fold(&one)).reverse());
        }
    }
}
