//! From the wire to plain values: which wrapper holds the parameters, the tags, the query.
//!
//! Clients differ in where they put things: an action's parameters stand under its key or under `params`, tags at
//! the top level or inside the wrapper, the resource's uuid in the path and again in the body. All of that is
//! brought into the documented form here, before the contract judges it.

use babelvisor_core::Error;
use babelvisor_core::frontend::Request;
use babelvisor_schemas::{Contract, JsonLimits, Operation, Part, Problem, Remarks, Strictness, parse_json};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use uuid::Uuid;

pub(crate) use crate::call::Call;
use crate::error::{self, Fault};

/// Room for a first-boot script in base64 and for long lists of uuids.
const BODY: JsonLimits = JsonLimits {
    max_bytes: 1 << 20,
    max_depth: 16,
    max_values: 16_384,
    allow_nul: false,
};
/// The wrapper of creations, and of actions in parts of the manual.
const PARAMS: &str = "params";
/// Members beside the wrapper.
const TAGS: [&str; 2] = ["systemTags", "userTags"];
/// What clients repeat in bodies and queries although the path or a header says it.
const REPEATED: [&str; 3] = ["uuid", "sessionId", "sessionUuid"];

/// What a request holds besides its headers, in the documented form and judged.
pub(crate) struct Content {
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Map<String, Value>,
    pub(crate) system_tags: Vec<String>,
    pub(crate) user_tags: Vec<String>,
    /// What was taken and does not do all that its client may expect.
    pub(crate) remarks: Remarks<'static>,
    /// What the call fails with before it is begun.
    pub(crate) refusal: Option<Error>,
}

/// 32 hexadecimal digits as an id.
pub(crate) fn uuid(text: &str) -> Option<Uuid> {
    let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| Uuid::try_parse(text).ok()).flatten()
}

/// The original's name of an operation's message.
pub(crate) fn message(id: &str) -> String {
    format!("API{id}Msg")
}

/// A client's text as an error may repeat it.
pub(crate) fn shown(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(64)
        .collect()
}

/// The body as JSON; an empty one is `{}`.
pub(crate) fn body(request: &Request) -> Result<Map<String, Value>, Fault> {
    if request.body.is_empty() {
        return Ok(Map::new());
    }
    match parse_json(&request.body, BODY) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(Fault::bad_request("the body must be a JSON object")),
        Err(fault) => Err(Fault::bad_request(fault.to_string())),
    }
}

/// The action key of a body: its only top-level key that is not a tag list. `None` if there is none.
pub(crate) fn action_key(body: &Map<String, Value>) -> Option<&str> {
    body.keys()
        .map(String::as_str)
        .find(|key| !TAGS.contains(key) && *key != PARAMS)
        .or_else(|| body.contains_key(PARAMS).then_some(PARAMS))
}

/// Reads what a request holds.
///
/// # Errors
/// Faults of the REST layer: a query that is no text, members of a wrong type.
pub(crate) fn content(
    contract: &'static Contract,
    operation: &'static Operation,
    strictness: Strictness,
    request: &Request,
    body: Map<String, Value>,
) -> Result<Content, Fault> {
    let mut refusal = None;
    let wrapper = operation.action.as_deref().unwrap_or(PARAMS);
    let canonical = Value::Object(canonical(operation, wrapper, body));
    let (judged, verdict) = operation.normalise(Part::Body, canonical.clone());
    if let Err(violations) = verdict {
        refusal = Some(error::violated(&operation.id, &violations)?);
    }
    let query = query(operation, request)?;
    let as_object = Value::Object(query_object(&query));
    let (_, verdict) = operation.normalise(Part::Query, as_object.clone());
    if let Err(violations) = verdict {
        // A number of a query string is text that fits a pattern; one that does not is a wrong type.
        let unfit = violations
            .iter()
            .find(|violation| violation.problem == Problem::Pattern);
        if let Some(unfit) = unfit {
            let text = format!("Invalid query parameter. '{}' must be an integer", unfit.field);
            return Err(Fault::bad_request(text));
        }
        if refusal.is_none() {
            refusal = Some(error::violated(&operation.id, &violations)?);
        }
    }
    let remarks = Remarks::of(
        contract,
        operation,
        strictness,
        &[(Part::Body, &canonical), (Part::Query, &as_object)],
    );
    if let (Some(violation), None) = (remarks.refusal(), &refusal) {
        refusal = Some(error::violated(&operation.id, &[violation])?);
    }
    let Value::Object(mut judged) = judged else {
        return Err(Fault::bad_request("the body must be a JSON object"));
    };
    let tags = |name: &str| match judged.get(name) {
        Some(list) => list_of_text(list),
        None => query
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
            .collect(),
    };
    let (system_tags, user_tags) = (tags("systemTags"), tags("userTags"));
    let body = match judged.remove(wrapper) {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    Ok(Content {
        query,
        body,
        system_tags,
        user_tags,
        remarks,
        refusal,
    })
}

/// The body in the documented form: the parameters under the documented wrapper, tags beside it, repetitions left
/// out. Whatever else stands at the top level is kept, so that it can be complained about.
fn canonical(operation: &Operation, wrapper: &str, mut body: Map<String, Value>) -> Map<String, Value> {
    let aliases = operation.action_aliases.iter().map(String::as_str);
    let spellings: Vec<&str> = std::iter::once(wrapper)
        .chain(aliases)
        .chain([PARAMS, "", "null"])
        .collect();
    let mut inside = spellings.iter().find_map(|key| match body.get(*key) {
        Some(Value::Object(_)) => body.remove(*key),
        _ => None,
    });
    for key in spellings {
        // A blank or null wrapper, or a second one.
        if body
            .get(key)
            .is_some_and(|value| value.is_null() || value.is_object())
        {
            body.remove(key);
        }
    }
    let mut canonical = Map::new();
    for tags in TAGS {
        let within = inside.as_mut().and_then(Value::as_object_mut);
        let within = within.and_then(|members| members.shift_remove(tags));
        // The top level wins.
        let chosen = body.shift_remove(tags).filter(|list| !list.is_null()).or(within);
        if let Some(list) = chosen.filter(|list| !list.is_null()) {
            canonical.insert(tags.to_owned(), list);
        }
    }
    if let Some(Value::Object(members)) = &mut inside {
        for name in REPEATED {
            if !documents(operation, wrapper, name) {
                members.shift_remove(name);
            }
        }
    }
    for name in REPEATED {
        body.shift_remove(name);
    }
    if let Some(inside) = inside {
        canonical.insert(wrapper.to_owned(), inside);
    } else if operation.action.is_some() {
        canonical.insert(wrapper.to_owned(), Value::Object(Map::new()));
    }
    canonical.extend(body);
    canonical
}

fn documents(operation: &Operation, wrapper: &str, name: &str) -> bool {
    let field = format!("body.{wrapper}.{name}");
    operation.documented_fields().contains(&field)
}

fn list_of_text(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The query in its order: blanks for plus signs, percent signs decoded, `condition` as `q`.
fn query(operation: &Operation, request: &Request) -> Result<Vec<(String, String)>, Fault> {
    let pairs = request.query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = match unescape(name)? {
                name if name == "condition" => "q".to_owned(),
                name => name,
            };
            Ok((name, unescape(value)?))
        })
        .filter(|pair| match pair {
            Ok((name, _)) if REPEATED.contains(&name.as_str()) => {
                let field = format!("query.{name}");
                operation.documented_fields().contains(&field)
            }
            Ok(_) | Err(_) => true,
        })
        .collect()
}

fn unescape(text: &str) -> Result<String, Fault> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| Fault::bad_request("the query is not UTF-8"))
}

/// The query as an object; a repeated name is a list.
fn query_object(pairs: &[(String, String)]) -> Map<String, Value> {
    let mut members = Map::new();
    for (name, value) in pairs {
        match members.get_mut(name) {
            None => {
                members.insert(name.clone(), Value::from(value.as_str()));
            }
            Some(Value::Array(values)) => values.push(Value::from(value.as_str())),
            Some(first) => *first = Value::Array(vec![first.take(), Value::from(value.as_str())]),
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use babelvisor_schemas::{Dialect, contract};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(id: &str, query: &str, body: Value) -> Content {
        let contract = contract(Dialect::Zstack);
        let operation = contract.operation(id).unwrap();
        let request = Request {
            query: query.to_owned(),
            ..Request::default()
        };
        let Value::Object(body) = body else {
            panic!("an object")
        };
        content(contract, operation, Strictness::Warn, &request, body)
            .ok()
            .unwrap()
    }

    #[test]
    fn an_actions_parameters_stand_under_its_key_under_params_or_nowhere() {
        for body in [
            json!({"stopVmInstance": {"type": "cold"}}),
            json!({"params": {"type": "cold"}}),
            json!({"": {"type": "cold"}}),
            json!({"null": {"type": "cold"}}),
            json!({"stopVmInstance": {"type": "cold", "uuid": "x", "sessionId": "y"}}),
        ] {
            let read = read("StopVmInstance", "", body.clone());
            assert_eq!(read.body.get("type"), Some(&json!("cold")), "{body}");
            assert_eq!(read.refusal, None, "{body}");
            assert_eq!(read.remarks.tell(), None, "{body}");
        }
        for body in [
            json!({}),
            json!({"stopVmInstance": null}),
            json!({"stopVmInstance": {}}),
        ] {
            let read = read("StopVmInstance", "", body.clone());
            assert!(read.body.is_empty() && read.refusal.is_none(), "{body}");
        }
    }

    #[test]
    fn tags_stand_in_two_places_and_the_top_level_wins() {
        let body = json!({
            "params": {"name": "a", "systemTags": ["inner"], "userTags": ["kept"]},
            "systemTags": ["outer"],
        });
        let read = read("CreateVmInstance", "", body);
        assert_eq!(read.system_tags, ["outer"]);
        assert_eq!(read.user_tags, ["kept"]);
        assert!(!read.body.contains_key("systemTags"));
    }

    #[test]
    fn a_missing_field_is_told_in_the_originals_words() {
        let read = read("CreateVmInstance", "", json!({"params": {}}));
        assert_eq!(
            read.refusal.unwrap().detail,
            "field[name] of message[APICreateVmInstanceMsg] is mandatory, can not be null"
        );
    }

    #[test]
    fn a_wrong_type_is_a_fault_of_the_rest_layer() {
        let contract = contract(Dialect::Zstack);
        let operation = contract.operation("StopVmInstance").unwrap();
        let Value::Object(body) = json!({"stopVmInstance": {"type": 7}}) else {
            unreachable!()
        };
        let fault = content(contract, operation, Strictness::Warn, &Request::default(), body)
            .err()
            .unwrap();
        assert_eq!(fault.outcome.status, 400);
        assert!(fault.details.contains("field[type]"), "{}", fault.details);
    }

    #[test]
    fn a_query_is_decoded_and_condition_is_q() {
        let read = read(
            "QueryVmInstance",
            "condition=name%3Dvm+1&q=state%21=Running&limit=5&sessionId=x",
            json!({}),
        );
        let pairs = [("q", "name=vm 1"), ("q", "state!=Running"), ("limit", "5")];
        assert_eq!(
            read.query,
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(read.refusal, None);
    }

    /// JSON of any shape, with the keys that mean something here among others.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(|number| json!(number)),
            ".{0,12}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("params".to_owned()),
            Just("systemTags".to_owned()),
            Just("userTags".to_owned()),
            Just("updateVmInstance".to_owned()),
            Just("null".to_owned()),
            Just(String::new()),
            Just("uuid".to_owned()),
            Just("cpuNum".to_owned()),
            "[a-z]{1,5}",
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_refused(body in any_json(), query in ".{0,40}") {
            let contract = contract(Dialect::Zstack);
            let request = Request { query, body: body.to_string().into(), ..Request::default() };
            let Ok(body) = super::body(&request) else { return Ok(()) };
            for id in ["UpdateVmInstance", "CreateVmInstance", "QueryVmInstance", "AttachIsoToVmInstance", "LogInByAccount"] {
                let operation = contract.operation(id).unwrap();
                match content(contract, operation, Strictness::Warn, &request, body.clone()) {
                    Ok(read) => prop_assert!(!read.body.contains_key("systemTags"), "tags are taken out"),
                    Err(fault) => prop_assert_eq!(fault.outcome.status, 400),
                }
            }
        }
    }

    #[test]
    fn only_32_digits_are_a_uuid() {
        assert!(uuid("8c7a2f0e4b8d4a0cb5c5e1f3d2a19b07").is_some());
        for text in [
            "",
            "8c7a2f0e-4b8d-4a0c-b5c5-e1f3d2a19b07",
            "8c7a2f0e4b8d4a0cb5c5e1f3d2a19b0",
            "8c7a2f0e4b8d4a0cb5c5e1f3d2a19b0g",
        ] {
            assert_eq!(uuid(text), None, "{text}");
        }
    }
}
