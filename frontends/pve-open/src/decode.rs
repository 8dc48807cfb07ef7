//! From the wire to plain values: judged by the contract's schemas first, so that nothing here has to doubt
//! what it reads.

use babelvisor_core::frontend::{Request, Routed};
use babelvisor_core::secret::Secret;
use babelvisor_schemas::{Contract, JsonLimits, Operation, Part, Remarks, Strictness, parse_json};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Fault;
use crate::settings::Settings;

/// Ample for every body of this dialect; what is larger is not meant for it.
const BODY: JsonLimits = JsonLimits {
    max_bytes: 64 << 10,
    max_depth: 16,
    max_values: 1024,
    allow_nul: false,
};

/// The most machines on a page (document: one query returns at most 25).
pub(crate) const LARGEST_PAGE: usize = 25;
/// The page size without one, where the site allows that.
const DEFAULT_PAGE_SIZE: &str = "10";

/// What both create calls name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Create {
    /// The package's id.
    pub(crate) package_id: String,
    /// The image's number, as text.
    pub(crate) image_id: String,
}

/// A machine for a term.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rent {
    /// Package and image.
    #[serde(flatten)]
    pub(crate) create: Create,
    /// How many periods.
    pub(crate) period_number: i64,
    /// Which period: 0 hour, 1 day, 2 week, 3 month, 4 quarter, 5 year.
    pub(crate) period_type: i64,
}

/// A sign-in. Not `Debug`, although its secret would hide itself: nobody has a reason to print it.
pub(crate) struct SignIn {
    /// Account number.
    pub(crate) uuid: String,
    /// Key.
    pub(crate) secret: Secret,
    /// Whether the client speaks the first edition, which answers the bare token.
    pub(crate) first_edition: bool,
}

/// A page of machines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// How many machines come before it.
    pub(crate) offset: usize,
    /// How many it has at most.
    pub(crate) size: usize,
}

/// Which way operate switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switching {
    /// Type 0.
    Off,
    /// Type 1.
    On,
}

/// Which packages packAge lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paying {
    /// Type 0.
    ByUse,
    /// Type 1.
    ForTerm,
}

/// The parameter `name` of the path, as its schema allows it.
pub(crate) fn path<'r>(operation: &Operation, routed: &'r Routed, name: &str) -> Result<&'r str, Fault> {
    let value = routed.param(name);
    let members = Map::from_iter([(name.to_owned(), Value::String(value.to_owned()))]);
    judge(operation, Part::Path, Value::Object(members))?;
    Ok(value)
}

/// The type parameter of packAge's path.
pub(crate) fn paying(operation: &Operation, routed: &Routed) -> Result<Paying, Fault> {
    match path(operation, routed, "type")? {
        "0" => Ok(Paying::ByUse),
        "1" => Ok(Paying::ForTerm),
        _ => Err(Fault::parameter("type: expected 0 or 1")),
    }
}

/// The type parameter of operate's query.
pub(crate) fn switching(operation: &Operation, request: &Request) -> Result<Switching, Fault> {
    let query = judge(operation, Part::Query, Value::Object(query(request)?))?;
    match text(&query, "type") {
        Some("0") => Ok(Switching::Off),
        Some("1") => Ok(Switching::On),
        _ => Err(Fault::parameter("type: expected 0 or 1")),
    }
}

/// The page that mypage asks for.
pub(crate) fn page(operation: &Operation, request: &Request, settings: &Settings) -> Result<Page, Fault> {
    let mut query = query(request)?;
    if settings.default_page {
        query.entry("page").or_insert_with(|| Value::from("1"));
        query
            .entry("pageSize")
            .or_insert_with(|| Value::from(DEFAULT_PAGE_SIZE));
    }
    let query = judge(operation, Part::Query, Value::Object(query))?;
    let number = |name: &str| {
        let number = text(&query, name).and_then(|digits| digits.parse::<usize>().ok());
        number
            .filter(|number| *number > 0)
            .ok_or_else(|| Fault::parameter(format!("{name}: expected a number from 1")))
    };
    let (page, size) = (number("page")?, number("pageSize")?.min(LARGEST_PAGE));
    Ok(Page {
        offset: (page - 1).saturating_mul(size),
        size,
    })
}

/// The body of createquantity.
pub(crate) fn create(operation: &Operation, request: &Request) -> Result<Create, Fault> {
    typed(body(operation, request)?)
}

/// The body of createRent.
pub(crate) fn rent(operation: &Operation, request: &Request) -> Result<Rent, Fault> {
    typed(body(operation, request)?)
}

/// The body of getToken, in both editions.
pub(crate) fn sign_in(operation: &Operation, request: &Request) -> Result<SignIn, Fault> {
    let Value::Object(mut body) = body(operation, request)? else {
        return Err(Fault::parameter("the body: expected object"));
    };
    let mut text = |name: &str| match body.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(Fault::parameter(format!("{name} is missing"))),
    };
    let (uuid, secret) = (text("uuid")?, Secret::new(text("secret")?));
    let first_edition = ["nonce", "timeMap"]
        .iter()
        .any(|name| body.get(*name).is_some_and(|value| !value.is_null()));
    Ok(SignIn {
        uuid,
        secret,
        first_edition,
    })
}

/// What the request carries that does not do all that its client may expect. A part that cannot be read has no
/// fields: whether that is a fault is the call's to say.
pub(crate) fn remarks(
    contract: &'static Contract,
    operation: &'static Operation,
    request: &Request,
    strictness: Strictness,
) -> Remarks<'static> {
    let body = if request.body.is_empty() {
        Value::Null
    } else {
        parse_json(&request.body, BODY).unwrap_or_default()
    };
    let query = Value::Object(query(request).unwrap_or_default());
    Remarks::of(
        contract,
        operation,
        strictness,
        &[(Part::Body, &body), (Part::Query, &query)],
    )
}

fn body(operation: &Operation, request: &Request) -> Result<Value, Fault> {
    let value = parse_json(&request.body, BODY).map_err(|fault| Fault::body(&fault))?;
    judge(operation, Part::Body, value)
}

fn judge(operation: &Operation, part: Part, value: Value) -> Result<Value, Fault> {
    let (value, verdict) = operation.normalise(part, value);
    verdict.map_err(|violations| Fault::violation(&violations))?;
    Ok(value)
}

fn typed<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, Fault> {
    serde_json::from_value(value).map_err(|_| Fault::parameter("the body does not have the documented form"))
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

/// The query as an object; a repeated name becomes a list, which no schema of this dialect takes.
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
