//! From the wire to plain values: a JSON body whatever its content type says, an empty one as `{}`, and query
//! values as text, a bare name being empty. The contract's schemas judge first; nulls count as absent and keys
//! are read without regard to case, as its leniencies say.

use babelvisor_core::frontend::Request;
use babelvisor_schemas::{Contract, JsonFault, JsonLimits, Operation, Part, Remarks, Strictness, parse_json};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::Fault;

/// The parameters of a call: of its body, or of its query for a GET.
#[derive(Clone, Default)]
pub(crate) struct Params(Map<String, Value>);

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many entries come before it.
    pub(crate) offset: usize,
    /// How many it has at most; `usize::MAX` without paging.
    pub(crate) size: usize,
}

impl Page {
    /// The page's part of `entries`.
    pub(crate) fn cut<T>(self, entries: Vec<T>) -> Vec<T> {
        entries.into_iter().skip(self.offset).take(self.size).collect()
    }
}

impl Params {
    #[cfg(test)]
    pub(crate) fn of(value: Value) -> Self {
        match value {
            Value::Object(members) => Self(members),
            _ => Self::default(),
        }
    }

    /// All of them by name.
    pub(crate) fn map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The value of `name`; null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The text `name`; empty when it is absent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether `name` is true; absent is false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
    }

    /// The whole number `name`, whichever way it was written; none when it is absent or empty.
    ///
    /// # Errors
    /// 10001 for anything else than a whole number from 0.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(Value::Number(number)) => number.as_u64(),
            Some(_) => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(Fault::parameter(format!(
                "{name}: expected a whole number from 0"
            ))),
        }
    }

    /// The uuid `name`.
    ///
    /// # Errors
    /// 10001 when it is absent, empty or not a uuid.
    pub(crate) fn uuid(&self, name: &str) -> Result<Uuid, Fault> {
        self.optional_uuid(name)?
            .ok_or_else(|| Fault::parameter(format!("{name} is missing")))
    }

    /// The uuid `name`; none when it is absent or empty.
    ///
    /// # Errors
    /// 10001 when it is not a uuid.
    pub(crate) fn optional_uuid(&self, name: &str) -> Result<Option<Uuid>, Fault> {
        match self.text(name) {
            "" => Ok(None),
            text => uuid(name, text).map(Some),
        }
    }

    /// The comma list `name`, empty parts left out.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        self.text(name)
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// `page_num` (also `page_number`) and `page_size`: pages from 0, a size that is not above 0 is no paging.
    ///
    /// # Errors
    /// 10001 for something that is no number.
    pub(crate) fn page(&self) -> Result<Page, Fault> {
        let number = match self.signed("page_num")? {
            None => self.signed("page_number")?,
            number => number,
        };
        let number = usize::try_from(number.unwrap_or_default())
            .map_err(|_| Fault::parameter("page_num: pages are counted from 0"))?;
        match self.signed("page_size")? {
            Some(size) if size > 0 => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                Ok(Page {
                    offset: number.saturating_mul(size),
                    size,
                })
            }
            _ => Ok(Page {
                offset: 0,
                size: usize::MAX,
            }),
        }
    }

    fn signed(&self, name: &str) -> Result<Option<i64>, Fault> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_i64(),
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(Fault::parameter(format!("{name}: expected a whole number"))),
        }
    }

    /// All of them as a type of ours.
    ///
    /// # Errors
    /// 10001 for what the schema let through and the type does not take.
    pub(crate) fn typed<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Fault> {
        serde_json::from_value(Value::Object(self.0.clone()))
            // What serde says repeats values of the request.
            .map_err(|_| Fault::parameter("the body does not have the documented form"))
    }
}

/// `text` as a uuid, hyphens or not, in either case.
///
/// # Errors
/// 10001, naming the parameter.
pub(crate) fn uuid(name: &str, text: &str) -> Result<Uuid, Fault> {
    Uuid::try_parse(text).map_err(|_| Fault::parameter(format!("{name}: expected a uuid")))
}

/// Reads and judges what the call takes: the query of a GET, the body of a POST.
///
/// # Errors
/// 10001, naming the first parameter that does not fit.
pub(crate) fn params(operation: &Operation, request: &Request) -> Result<Params, Fault> {
    let (part, value) = if operation.has_body() || operation.method == "POST" {
        (Part::Body, body(request)?)
    } else {
        (Part::Query, Value::Object(query(request)?))
    };
    let (value, verdict) = operation.normalise(part, value);
    verdict.map_err(|violations| Fault::violation(&violations))?;
    match value {
        Value::Object(members) => Ok(Params(members)),
        _ => Err(Fault::parameter("the body: expected object")),
    }
}

/// What the request carries that does not do all that its client may expect. A part that cannot be read has no
/// fields: whether that is a fault is the call's to say. Empty query values say nothing, so nothing is said of them.
pub(crate) fn remarks(
    contract: &'static Contract,
    operation: &'static Operation,
    request: &Request,
    strictness: Strictness,
) -> Remarks<'static> {
    let body = body(request).unwrap_or_default();
    let mut query = query(request).unwrap_or_default();
    query.retain(|_, value| value.as_str() != Some(""));
    Remarks::of(
        contract,
        operation,
        strictness,
        &[(Part::Body, &body), (Part::Query, &Value::Object(query))],
    )
}

fn body(request: &Request) -> Result<Value, Fault> {
    let blank = request.body.iter().all(u8::is_ascii_whitespace);
    match parse_json(&request.body, JsonLimits::default()) {
        Ok(Value::Null) => Ok(Value::Object(Map::new())),
        Ok(value) => Ok(value),
        Err(JsonFault::Empty) => Ok(Value::Object(Map::new())),
        Err(_) if blank => Ok(Value::Object(Map::new())),
        Err(fault) => Err(Fault::body(&fault)),
    }
}

/// The query as an object; a repeated name becomes a list, which only schemas of lists take.
fn query(request: &Request) -> Result<Map<String, Value>, Fault> {
    let mut members = Map::new();
    for pair in request.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescape(name)?, unescape(value)?);
        match members.get_mut(&name) {
            None => {
                members.insert(name, Value::String(value));
            }
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
        }
    }
    Ok(members)
}

fn unescape(text: &str) -> Result<String, Fault> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| Fault::parameter("the query is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use babelvisor_schemas::{Dialect, contract};
    use serde_json::json;

    use super::*;

    fn operation(id: &str) -> &'static Operation {
        contract(Dialect::V1Compute).operation(id).unwrap()
    }

    fn post(body: &str) -> Request {
        Request {
            method: "POST".to_owned(),
            body: body.to_owned().into_bytes().into(),
            ..Request::default()
        }
    }

    fn get(query: &str) -> Request {
        Request {
            method: "GET".to_owned(),
            query: query.to_owned(),
            ..Request::default()
        }
    }

    #[test]
    fn a_bare_query_name_is_empty_and_both_page_spellings_are_read() {
        let list = operation("compute.list");
        let params = params(list, &get("filter_name&page_num=2&page_size=10&tenant")).unwrap();
        assert_eq!((params.text("filter_name"), params.text("tenant")), ("", ""));
        assert_eq!(params.page().unwrap(), Page { offset: 20, size: 10 });
        let other = super::params(list, &get("page_number=3&page_size=5")).unwrap();
        assert_eq!(other.page().unwrap(), Page { offset: 15, size: 5 });
        let whole = super::params(list, &get("page_num=0&page_size=0")).unwrap();
        assert_eq!(whole.page().unwrap().size, usize::MAX);
    }

    #[test]
    fn an_empty_body_is_an_object_and_keys_have_no_case() {
        let move_group = operation("compute.group_move");
        assert!(params(move_group, &post("")).is_err(), "group_uuid is required");
        let read = params(move_group, &post("{\"Group_UUID\":\"x\",\"parent_group\":null}")).unwrap();
        assert_eq!(read.text("group_uuid"), "x");
        assert_eq!(read.get("parent_group"), None);
    }

    #[test]
    fn a_body_that_is_no_json_object_is_refused_by_name() {
        for body in ["[]", "7", "{\"group_uuid\":", "\"x\"", "{\"a\":1}x"] {
            let Err(fault) = params(operation("compute.group_move"), &post(body)) else {
                panic!("{body} was taken");
            };
            assert_eq!(fault.scode(), 10001, "{body}");
        }
    }

    #[test]
    fn numbers_and_flags_are_read_in_both_spellings() {
        let params =
            Params::of(json!({"a": "7", "b": 7, "c": "", "d": true, "e": "true", "f": "-1", "g": [1]}));
        assert_eq!(params.number("a").unwrap(), Some(7));
        assert_eq!(params.number("b").unwrap(), Some(7));
        assert_eq!(params.number("c").unwrap(), None);
        assert_eq!(params.number("absent").unwrap(), None);
        assert!(params.number("f").is_err() && params.number("g").is_err());
        assert!(params.flag("d") && params.flag("e") && !params.flag("absent"));
        assert!(params.uuid("absent").is_err() && params.uuid("a").is_err());
    }

    #[test]
    fn a_query_that_is_no_text_is_refused() {
        let list = operation("compute.list");
        for query in [
            "filter_name=%ff",
            "page_num=x",
            "filter_state=on",
            "filter_name=a&filter_name=b",
        ] {
            let refused = match params(list, &get(query)) {
                Ok(params) => params.page().is_err(),
                Err(fault) => fault.scode() == 10001,
            };
            assert!(refused, "{query}");
        }
    }
}
