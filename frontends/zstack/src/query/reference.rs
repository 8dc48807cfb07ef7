//! The query language said in the plainest way: every row as the JSON that answers would show, every condition read
//! and judged by itself on that JSON, no index and no table but a list of what a relation's uuid is called. What the
//! property tests hold the engine against.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::{Map, Value};

/// Everything that there is, as JSON by resource.
#[derive(Debug, Clone, Default)]
pub(super) struct Everything {
    /// Rows of each resource in their order.
    pub(super) rows: HashMap<&'static str, Vec<Map<String, Value>>>,
    /// System tags by uuid.
    pub(super) system_tags: HashMap<String, Vec<String>>,
    /// User tags by uuid.
    pub(super) user_tags: HashMap<String, Vec<String>>,
}

/// A condition: path, operator, value.
pub(super) type Asked = (String, &'static str, String);

const DATES: [&str; 2] = ["createDate", "lastOpDate"];

impl Everything {
    /// The rows of `resource` that fulfil all conditions.
    pub(super) fn find(&self, resource: &'static str, asked: &[Asked]) -> Vec<Map<String, Value>> {
        let rows = self.rows.get(resource).cloned().unwrap_or_default();
        let asked: Vec<(Vec<&str>, &str, &str)> = asked
            .iter()
            .map(|(path, operator, value)| {
                let value = value.as_str();
                let (operator, value) = match (*operator, value) {
                    ("=", "null") => ("is null", ""),
                    ("!=", "null") => ("not null", ""),
                    other => other,
                };
                (path.split('.').collect(), operator, value)
            })
            .collect();
        rows.into_iter()
            .filter(|row| self.fulfils(resource, row, &asked))
            .collect()
    }

    fn fulfils(&self, resource: &str, row: &Map<String, Value>, asked: &[(Vec<&str>, &str, &str)]) -> bool {
        let own = asked.iter().filter(|(path, ..)| path.len() == 1);
        let own = own.map(|(path, operator, value)| (path[0], *operator, *value));
        let mut relations: Vec<&str> = asked
            .iter()
            .filter(|(path, ..)| path.len() > 1)
            .map(|(path, ..)| path[0])
            .collect();
        relations.sort_unstable();
        relations.dedup();
        own.into_iter()
            .all(|(name, operator, value)| self.holds(row, name, operator, value))
            && relations.iter().all(|relation| {
                let inner: Vec<(Vec<&str>, &str, &str)> = asked
                    .iter()
                    .filter(|(path, ..)| path.len() > 1 && path[0] == *relation)
                    .map(|(path, operator, value)| (path[1..].to_vec(), *operator, *value))
                    .collect();
                let (other, rows) = self.related(resource, row, relation);
                rows.iter().any(|row| self.fulfils(other, row, &inner))
            })
    }

    fn related(
        &self,
        resource: &str,
        row: &Map<String, Value>,
        relation: &str,
    ) -> (&'static str, Vec<Map<String, Value>>) {
        // Resource, relation, the other resource, our key, its key.
        const JOINS: [(&str, &str, &str, &str, &str); 14] = [
            ("vm", "vmNics", "nic", "uuid", "vmInstanceUuid"),
            ("vm", "allVolumes", "volume", "uuid", "vmInstanceUuid"),
            ("vm", "rootVolume", "volume", "rootVolumeUuid", "uuid"),
            ("vm", "host", "host", "hostUuid", "uuid"),
            ("vm", "zone", "zone", "zoneUuid", "uuid"),
            ("vm", "cluster", "cluster", "clusterUuid", "uuid"),
            ("vm", "image", "image", "imageUuid", "uuid"),
            (
                "vm",
                "instanceOffering",
                "offering",
                "instanceOfferingUuid",
                "uuid",
            ),
            ("nic", "vmInstance", "vm", "vmInstanceUuid", "uuid"),
            ("nic", "l3Network", "l3", "l3NetworkUuid", "uuid"),
            ("volume", "vmInstance", "vm", "vmInstanceUuid", "uuid"),
            ("host", "zone", "zone", "zoneUuid", "uuid"),
            ("host", "vmInstance", "vm", "uuid", "hostUuid"),
            ("zone", "vmInstance", "vm", "uuid", "zoneUuid"),
        ];
        let join = JOINS
            .iter()
            .find(|(here, name, ..)| *here == resource && *name == relation);
        let (_, _, other, ours, theirs) = join.expect("a relation");
        let key = row.get(*ours);
        let rows = self.rows.get(other).into_iter().flatten();
        let rows = rows
            .filter(|row| key.is_some() && row.get(*theirs) == key)
            .cloned()
            .collect();
        (other, rows)
    }

    fn holds(&self, row: &Map<String, Value>, name: &str, operator: &str, value: &str) -> bool {
        let tags = match name {
            "__systemTag__" => Some(&self.system_tags),
            "__userTag__" => Some(&self.user_tags),
            _ => None,
        };
        if let Some(tags) = tags {
            let uuid = row.get("uuid").and_then(Value::as_str).unwrap_or_default();
            let tags = tags.get(uuid).cloned().unwrap_or_default();
            let some = |operator: &str| {
                tags.iter()
                    .any(|tag| judge(name, Some(&Value::from(tag.as_str())), operator, value))
            };
            return match operator {
                "!=" => !some("="),
                "!?=" => !some("?="),
                "!~=" => !some("~="),
                "is null" => tags.is_empty(),
                "not null" => !tags.is_empty(),
                plain => some(plain),
            };
        }
        judge(name, row.get(name), operator, value)
    }
}

fn judge(name: &str, held: Option<&Value>, operator: &str, value: &str) -> bool {
    let Some(held) = held else {
        return operator == "is null";
    };
    let one = |value: &str| order(name, held, value);
    match operator {
        "is null" => false,
        "not null" => true,
        "=" => one(value) == Ordering::Equal,
        "!=" => one(value) != Ordering::Equal,
        ">" => one(value) == Ordering::Greater,
        ">=" => one(value) != Ordering::Less,
        "<" => one(value) == Ordering::Less,
        "<=" => one(value) != Ordering::Greater,
        "?=" => value.split(',').any(|value| one(value.trim()) == Ordering::Equal),
        "!?=" => value.split(',').all(|value| one(value.trim()) != Ordering::Equal),
        "~=" => like(held, value),
        "!~=" => !like(held, value),
        other => panic!("{other} is no operator"),
    }
}

fn order(name: &str, held: &Value, value: &str) -> Ordering {
    match held {
        Value::Number(number) => number
            .as_f64()
            .unwrap()
            .total_cmp(&value.trim().parse::<f64>().unwrap()),
        Value::Bool(flag) => flag.cmp(&value.trim().eq_ignore_ascii_case("true")),
        Value::String(text) if DATES.contains(&name) => seconds(text).cmp(&seconds(value)),
        Value::String(text) => text.to_lowercase().cmp(&value.to_lowercase()),
        other => panic!("{other} is not compared"),
    }
}

fn seconds(text: &str) -> i64 {
    let zone = jiff::tz::TimeZone::UTC;
    crate::dates::parse(text, &zone).unwrap().as_second()
}

fn like(held: &Value, pattern: &str) -> bool {
    let text = match held {
        Value::String(text) => text.to_lowercase(),
        other => other.to_string(),
    };
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.to_lowercase().chars().collect(), text.chars().collect());
    fits(&pattern, &text)
}

fn fits(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (['%', rest @ ..], _) => (0..=text.len()).any(|skip| fits(rest, &text[skip..])),
        (['_', rest @ ..], [_, tail @ ..]) => fits(rest, tail),
        ([letter, rest @ ..], [first, tail @ ..]) => letter == first && fits(rest, tail),
        _ => false,
    }
}

/// Rows by a field, the greatest first if `down`; nothing comes before everything.
pub(super) fn sort(rows: &mut [Map<String, Value>], name: &str, down: bool) {
    rows.sort_by(|one, two| {
        let order = match (one.get(name), two.get(name)) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(one), Some(two)) => {
                let two = two.as_str().map_or_else(|| two.to_string(), str::to_owned);
                order(name, one, &two)
            }
        };
        if down { order.reverse() } else { order }
    });
}
