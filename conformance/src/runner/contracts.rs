//! Both directions of an exchange held against the contract: the request against what the dialect takes, the answer
//! against what its document promises.

use babelvisor_schemas::{
    Contract, Dialect, JsonLimits, Layer, Operation, Params, Part, Route, Violation, parse_json,
};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// A request as it goes out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<String>,
}

/// What is wrong with a request, and which operation it reaches, if any.
#[derive(Debug)]
pub(crate) struct RequestVerdict {
    pub(crate) operation: Option<&'static Operation>,
    pub(crate) problems: Vec<String>,
}

/// Holds a request against [`Layer::Accept`].
pub(crate) fn request(contract: &'static Contract, sent: &Sent) -> RequestVerdict {
    let (path, query) = sent.path.split_once('?').unwrap_or((sent.path.as_str(), ""));
    let mut problems = Vec::new();
    let body = match sent.body.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => parse_json(text.as_bytes(), JsonLimits::default()).map(Some),
    };
    let body = body.unwrap_or_else(|fault| {
        problems.push(format!("request: {fault}"));
        None
    });
    let (operation, params) = match contract.route(&sent.method, path) {
        Route::Found { operation, params } => (operation, params),
        Route::Candidates(candidates) => {
            let keys = body.as_ref().and_then(Value::as_object);
            let named = keys
                .into_iter()
                .flat_map(Map::keys)
                .find_map(|key| candidates.pick(key));
            // An address with a single operation needs no key: some clients send a blank one.
            let mut all = candidates.operations();
            let only = match (all.next(), all.next()) {
                (Some(only), None) => only.action.as_deref().and_then(|key| candidates.pick(key)),
                _ => None,
            };
            match named.or_else(|| candidates.general()).or(only) {
                Some(found) => found,
                None => {
                    problems.push("request: its body names no operation of this address".to_owned());
                    return RequestVerdict {
                        operation: None,
                        problems,
                    };
                }
            }
        }
        Route::WrongMethod { allowed } => {
            problems.push(format!("request: {path} knows {} only", allowed.join(", ")));
            return RequestVerdict {
                operation: None,
                problems,
            };
        }
        Route::UnknownPath => {
            problems.push(format!("request: the contract has no path {path}"));
            return RequestVerdict {
                operation: None,
                problems,
            };
        }
    };
    // Calls that are known by their path only have no tables that a request could be held against.
    if !operation.built && operation.documented_fields().is_empty() {
        return RequestVerdict {
            operation: Some(operation),
            problems,
        };
    }
    let parts = [
        (Part::Path, path_value(&params)),
        (Part::Query, query_value(query)),
        (Part::Headers, header_value(&sent.headers)),
    ];
    for (part, value) in parts {
        complain(
            &mut problems,
            part,
            operation.validate(part, Layer::Accept, &value),
        );
    }
    if operation.has_body() {
        let value = body.unwrap_or_else(|| Value::Object(Map::new()));
        complain(
            &mut problems,
            Part::Body,
            operation.validate(Part::Body, Layer::Accept, &value),
        );
    }
    RequestVerdict {
        operation: Some(operation),
        problems,
    }
}

fn complain(problems: &mut Vec<String>, part: Part, verdict: Result<(), Vec<Violation>>) {
    let name = match part {
        Part::Path => "path",
        Part::Query => "query",
        Part::Headers => "headers",
        Part::Body => "body",
        Part::Answer => "answer",
    };
    let side = if part == Part::Answer { "answer" } else { "request" };
    for violation in verdict.err().into_iter().flatten() {
        problems.push(format!("{side} {name}: {violation}"));
    }
}

fn path_value(params: &Params) -> Value {
    let decoded = |value: &str| Value::String(percent_decode_str(value).decode_utf8_lossy().into_owned());
    let members = params
        .iter()
        .map(|(name, value)| (name.to_owned(), decoded(value)));
    Value::Object(members.collect())
}

fn query_value(query: &str) -> Value {
    let mut members: Map<String, Value> = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (query_text(name), Value::String(query_text(value)));
        match members.get_mut(&name) {
            None => {
                members.insert(name, value);
            }
            Some(Value::Array(many)) => many.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    Value::Object(members)
}

fn header_value(headers: &[(String, String)]) -> Value {
    let members = headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), Value::String(value.clone())));
    Value::Object(members.collect())
}

/// A name or value of a query: a plus sign stands for a blank there, and only there.
fn query_text(value: &str) -> String {
    percent_decode_str(&value.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

/// What an answer says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tone {
    /// A good answer.
    Good,
    /// Work began, or goes on: neither good nor bad yet.
    Accepted,
    /// A failure, with its code where the dialect has one.
    Bad(Option<String>),
}

/// Whether an answer is good, by the dialect's own mark. Dialects without a code of their own go by the status.
pub(crate) fn tone(contract: &Contract, status: u16, body: Option<&Value>) -> Tone {
    let by_status = || {
        if status == 202 && contract.dialect() == Dialect::Zstack {
            Tone::Accepted
        } else if (200..300).contains(&status) {
            Tone::Good
        } else {
            Tone::Bad(None)
        }
    };
    let Some(body) = body else { return by_status() };
    let code = code_places(contract.dialect())
        .iter()
        .find_map(|place| body.pointer(place))
        .map(super::path::written);
    match code {
        Some(code) if code == contract.errors().success().code => Tone::Good,
        Some(code) => Tone::Bad(Some(code)),
        None => by_status(),
    }
}

/// Where a dialect's answers carry their code; the more exact place first.
const fn code_places(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::GuestRest => &["/state/sub/code", "/state/code"],
        Dialect::PveOpen => &["/code"],
        Dialect::V1Compute => &["/scode"],
        Dialect::Zstack => &["/error/code"],
        Dialect::KvmTaskFeed => &[],
    }
}

/// Holds an answer against [`Layer::Document`] of its operation, or against the dialect's failures.
pub(crate) fn answer(
    contract: &Contract,
    operation: Option<&Operation>,
    status: u16,
    body: Option<&Value>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let plain = status >= 400 && speaks_plainly(contract, status);
    let Some(value) = body else {
        if plain || tone(contract, status, body) == Tone::Accepted {
            return problems;
        }
        let wanted =
            operation.is_some_and(|operation| has_fields(operation.schema(Part::Answer, Layer::Document)));
        if wanted || (status >= 400 && has_fields(contract.errors().body_schema())) {
            problems.push("answer: its body is not JSON".to_owned());
        }
        return problems;
    };
    if plain {
        problems.push(format!(
            "answer: status {status} is told in plain text, not in JSON"
        ));
    }
    let location = value.get("location").is_some();
    match tone(contract, status, body) {
        Tone::Accepted => {
            if !value
                .as_object()
                .is_some_and(|members| members.len() == 1 && location)
            {
                problems
                    .push("answer: work that goes on is told with `location` and nothing else".to_owned());
            }
        }
        Tone::Good => {
            // Clients take any answer with a `location` for work that goes on.
            if location && contract.dialect() == Dialect::Zstack {
                problems.push("answer: it has a `location`, and is none that says so with 202".to_owned());
            }
            let wanted = contract.errors().success().status;
            if !code_places(contract.dialect()).is_empty() && status != wanted {
                problems.push(format!(
                    "answer: it says that all went well with status {status}, not {wanted}"
                ));
            }
            if let Some(operation) = operation {
                complain(
                    &mut problems,
                    Part::Answer,
                    operation.validate(Part::Answer, Layer::Document, value),
                );
            }
        }
        Tone::Bad(code) => {
            for violation in contract.errors().validate_body(value).err().into_iter().flatten() {
                problems.push(format!("answer failure: {violation}"));
            }
            let Some(code) = code else { return problems };
            match contract.errors().row(&code) {
                None => problems.push(format!("answer: the dialect has no code {code}")),
                Some(row) if row.never_sent => problems.push(format!("answer: code {code} must not be sent")),
                Some(_) => {}
            }
            let trunk = value.pointer("/state/code").and_then(Value::as_str);
            if trunk.is_some_and(|trunk| trunk != status.to_string()) {
                problems.push(format!("answer: status {status} differs from state.code"));
            }
        }
    }
    problems
}

/// Whether the dialect tells failures of that status in plain text.
fn speaks_plainly(contract: &Contract, status: u16) -> bool {
    let row = contract.errors().row(&status.to_string());
    row.is_some_and(|row| row.plain_text)
}

fn has_fields(schema: &Value) -> bool {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .is_some_and(|fields| !fields.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use babelvisor_schemas::contract;
    use serde_json::json;

    fn sent(method: &str, path: &str, body: Option<Value>) -> Sent {
        Sent {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: body.map(|body| body.to_string()),
        }
    }

    #[test]
    fn a_good_request_has_an_operation_and_no_problems() {
        let body = json!({"cpu": 1, "memory": 1, "os_template_id": 1, "quantity": 1, "lease_term": 100});
        let verdict = request(
            contract(Dialect::GuestRest),
            &sent("POST", "/api/guest", Some(body)),
        );
        assert_eq!(verdict.operation.unwrap().id, "guest.create");
        assert!(verdict.problems.is_empty(), "{:?}", verdict.problems);
    }

    #[test]
    fn path_query_and_body_are_all_judged() {
        let guest = contract(Dialect::GuestRest);
        for broken in [
            sent("GET", "/api/guest/short", None),
            sent("GET", "/api/guests?page=0", None),
            sent("POST", "/api/guest", Some(json!({"cpu": "1"}))),
            sent("POST", "/api/guest", None),
            sent("GET", "/api/nothing", None),
            sent("PUT", "/api/guests", None),
        ] {
            assert!(!request(guest, &broken).problems.is_empty(), "{broken:?}");
        }
    }

    #[test]
    fn answers_are_judged_by_their_own_mark() {
        let pve = contract(Dialect::PveOpen);
        let one = pve.operation("pve.image");
        let good = json!({"code": 0, "data": [], "msg": "success"});
        assert!(answer(pve, one, 200, Some(&good)).is_empty());
        assert!(
            !answer(
                pve,
                one,
                200,
                Some(&json!({"code": 0, "data": 4, "msg": "success"}))
            )
            .is_empty()
        );
        assert!(
            !answer(
                pve,
                one,
                200,
                Some(&json!({"code": 4711, "data": null, "msg": "x"}))
            )
            .is_empty()
        );
        assert!(!answer(pve, one, 200, None).is_empty());
        let guest = contract(Dialect::GuestRest);
        let odd = json!({"state": {"code": "404", "en-us": "Not found", "zh-cn": "x"}});
        assert!(
            !answer(guest, None, 200, Some(&odd)).is_empty(),
            "status and code differ"
        );
    }
}
