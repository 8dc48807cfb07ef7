//! Requests as this dialect sends them, judged by the contract's schemas in its order of fields: the first failure
//! answers. What a schema cannot say (limits of the site, text that no machine description can hold) is judged in
//! the place where its field stands.

use babelvisor_core::frontend::{Request, Routed};
use babelvisor_schemas::{
    Contract, JsonFault, JsonLimits, Layer, Operation, Part, Remarks, Strictness, TransportFault, Violation,
    parse_json,
};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::encode::Field;
use crate::error::Fault;
use crate::filter::Filter;
use crate::paging::Page;
use crate::settings::Settings;

/// Most letters of a new guest's name, its number included, and of a password. What the core can keep.
const MOST_LETTERS: usize = 255;
/// Most letters of a remark. The original's column has 255; more is taken because its validation takes any length.
const MOST_REMARK: usize = 4096;

/// What a create call asks for.
pub(crate) struct Creation {
    pub(crate) cpu: u32,
    /// GiB.
    pub(crate) memory: u64,
    pub(crate) os_template_id: i64,
    pub(crate) quantity: u32,
    /// May be empty.
    pub(crate) name: String,
    /// May be empty.
    pub(crate) password: String,
    pub(crate) lease_term: i64,
}

/// What a list or search asks for.
pub(crate) struct Listing {
    pub(crate) page: Page,
    pub(crate) order_by: Field,
    pub(crate) descending: bool,
    pub(crate) filter: Filter,
    /// The filter or keyword as sent, decoded: the links repeat it.
    pub(crate) select: String,
}

/// The body as JSON. An empty one counts as `{}` unless it is said to be JSON: so the original reads it.
pub(crate) fn body(request: &Request) -> Result<Value, Fault> {
    match parse_json(&request.body, JsonLimits::default()) {
        Ok(value) => Ok(value),
        Err(JsonFault::Empty) if !says_json(request) => Ok(json!({})),
        Err(JsonFault::TooLarge { limit }) => Err(Fault::transport(
            TransportFault::BodyTooLarge,
            format!("the body has more than {limit} bytes"),
        )),
        Err(fault) => Err(Fault::transport(TransportFault::MalformedBody, fault.to_string())),
    }
}

/// What the request carries that does not do all that its client may expect. A body that cannot be read has no
/// fields: whether that is a fault is the operation's to say.
pub(crate) fn remarks(
    contract: &'static Contract,
    operation: &'static Operation,
    request: &Request,
    strictness: Strictness,
) -> Remarks<'static> {
    let body = if request.body.is_empty() {
        Value::Null
    } else {
        parse_json(&request.body, JsonLimits::default()).unwrap_or_default()
    };
    let query = Value::Object(parameters(&request.query));
    Remarks::of(
        contract,
        operation,
        strictness,
        &[(Part::Body, &body), (Part::Query, &query)],
    )
}

fn says_json(request: &Request) -> bool {
    request
        .header("content-type")
        .is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}

/// Judges the body of a create call and reads it.
pub(crate) fn creation(operation: &Operation, body: &Value, settings: &Settings) -> Result<Creation, Fault> {
    let violations = violations(operation, Part::Body, body);
    let fields = [
        "cpu",
        "memory",
        "os_template_id",
        "quantity",
        "name",
        "password",
        "lease_term",
    ];
    for field in fields {
        if let Some(violation) = violations.iter().find(|violation| violation.field == field) {
            return Err(Fault::violation(violation));
        }
        own_rule(field, body, settings)?;
    }
    if let Some(violation) = violations.first() {
        return Err(Fault::violation(violation));
    }
    let number = |field: &str| body.get(field).and_then(Value::as_i64).unwrap_or_default();
    let small = |field: &str| {
        u32::try_from(number(field)).map_err(|_| Fault::out_of_range(field, "a small number", "a large one"))
    };
    Ok(Creation {
        cpu: small("cpu")?,
        memory: small("memory")?.into(),
        os_template_id: number("os_template_id"),
        quantity: small("quantity")?,
        name: text(body, "name").unwrap_or_default().to_owned(),
        password: text(body, "password").unwrap_or_default().to_owned(),
        lease_term: number("lease_term"),
    })
}

/// Rules of a field that no schema holds. The field is known to be of the right type, or absent.
fn own_rule(field: &str, body: &Value, settings: &Settings) -> Result<(), Fault> {
    let quantity = body.get("quantity").and_then(Value::as_i64).unwrap_or(1);
    match field {
        "quantity" if quantity > i64::from(settings.max_quantity) => Err(Fault::out_of_range(
            field,
            &format!("at most {}", settings.max_quantity),
            &quantity.to_string(),
        )),
        "name" => {
            // The number that is put behind the name of each of several guests.
            let tail = if quantity > 1 {
                quantity.to_string().len() + 1
            } else {
                0
            };
            letters(body, field, MOST_LETTERS.saturating_sub(tail))
        }
        "password" => letters(body, field, MOST_LETTERS),
        _ => Ok(()),
    }
}

/// Text that must fit into a machine description or the guest's first-boot set-up.
fn letters(body: &Value, field: &str, most: usize) -> Result<(), Fault> {
    let value = text(body, field).unwrap_or_default();
    let length = value.chars().count();
    if length > most {
        let expected = format!("at most {most} characters");
        return Err(Fault::out_of_range(
            field,
            &expected,
            &format!("{length} characters"),
        ));
    }
    // XML cannot hold these in any spelling.
    if value
        .chars()
        .any(|letter| letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}'))
    {
        return Err(Fault::out_of_range(
            field,
            "text without control characters",
            "control characters",
        ));
    }
    Ok(())
}

/// The new remark of a patch. None without the key: the original then looks at nothing else.
pub(crate) fn remark(operation: &Operation, body: &Value, routed: &Routed) -> Result<Option<String>, Fault> {
    if body.is_object() && body.get("remark").is_none() {
        return Ok(None);
    }
    uuid(operation, routed)?;
    judge(operation, Part::Body, body)?;
    let remark = text(body, "remark").unwrap_or_default();
    let length = remark.chars().count();
    if length > MOST_REMARK {
        let expected = format!("at most {MOST_REMARK} characters");
        return Err(Fault::out_of_range(
            "remark",
            &expected,
            &format!("{length} characters"),
        ));
    }
    Ok(Some(remark.to_owned()))
}

/// The path's one uuid: 36 characters of any kind.
pub(crate) fn uuid<'a>(operation: &Operation, routed: &'a Routed) -> Result<&'a str, Fault> {
    let uuid = routed.param("uuid");
    judge(operation, Part::Path, &json!({ "uuid": uuid }))?;
    Ok(uuid)
}

/// The path's list of uuids, in its order, repeated ones included.
pub(crate) fn uuids<'a>(operation: &Operation, routed: &'a Routed) -> Result<Vec<&'a str>, Fault> {
    let uuids = routed.param("uuids");
    judge(operation, Part::Path, &json!({ "uuids": uuids }))?;
    Ok(uuids.split(',').collect())
}

/// Judges the query of a list (`select` is `filter`) or search (`keyword`) and reads it.
pub(crate) fn listing(operation: &Operation, query: &str, select: &str) -> Result<Listing, Fault> {
    let query = Value::Object(parameters(query));
    judge(operation, Part::Query, &query)?;
    let number = |name: &str| text(&query, name).and_then(|digits| digits.parse::<u64>().ok());
    let value = text(&query, select).unwrap_or_default().to_owned();
    Ok(Listing {
        page: Page::new(
            number("page"),
            number("page_size"),
            number("offset"),
            number("limit"),
        ),
        order_by: text(&query, "order_by")
            .and_then(|field| field.parse().ok())
            .unwrap_or_default(),
        descending: text(&query, "order") == Some("desc"),
        filter: if select == "keyword" {
            Filter::keyword(&value)
        } else {
            Filter::parse(&value)
        },
        select: value,
    })
}

/// The query's parameters. Of a repeated one the first counts, as in the original's framework.
fn parameters(query: &str) -> Map<String, Value> {
    let mut parameters = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameters
            .entry(unescape(name))
            .or_insert_with(|| Value::String(unescape(value)));
    }
    parameters
}

fn unescape(text: &str) -> String {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

fn text<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get(field).and_then(Value::as_str)
}

fn violations(operation: &Operation, part: Part, value: &Value) -> Vec<Violation> {
    operation
        .validate(part, Layer::Accept, value)
        .err()
        .unwrap_or_default()
}

fn judge(operation: &Operation, part: Part, value: &Value) -> Result<(), Fault> {
    violations(operation, part, value)
        .first()
        .map_or(Ok(()), |violation| Err(Fault::violation(violation)))
}

#[cfg(test)]
mod tests {
    use babelvisor_schemas::{Dialect, contract};

    use super::*;

    #[test]
    fn the_documents_printed_request_decodes_to_what_it_asks_for() {
        let catalogue = include_str!("../../../schemas/guest-rest/catalog.json");
        let catalogue: Value = serde_json::from_str(catalogue).unwrap();
        let create = &catalogue["operations"][0];
        assert_eq!(create["id"], "guest.create");
        let body = &create["examples"][0]["request"]["body"];
        let operation = contract(Dialect::GuestRest).operation("guest.create").unwrap();
        let wish =
            creation(operation, body, &Settings::default()).unwrap_or_else(|_| panic!("{body} was refused"));
        assert_eq!(
            (wish.cpu, wish.memory, wish.os_template_id, wish.quantity),
            (4, 4, 1, 1)
        );
        assert_eq!(
            (wish.name.as_str(), wish.password.as_str(), wish.lease_term),
            ("", "pswd.com", 100)
        );
    }

    #[test]
    fn parameters_are_decoded_and_the_first_of_a_name_counts() {
        let parameters = parameters("a=1&a=2&b=x%20y+z&c&%E5%90%8D=%e6%88%90&&d=%zz");
        let expected = json!({"a": "1", "b": "x y z", "c": "", "名": "成", "d": "%zz"});
        assert_eq!(Value::Object(parameters), expected);
    }
}
