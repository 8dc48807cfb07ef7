//! Refusals in ZStack's words: status, code and description come from the contract's error table, the details from
//! the case.

use babelvisor_core::frontend::{Refusal, Reply, Request};
use babelvisor_schemas::{Dialect, ErrorKind, Outcome, TransportFault, contract};

use crate::{encode, operations};

/// Words `refusal`.
pub(crate) fn refuse(refusal: Refusal, request: &Request) -> Reply {
    let contract = contract(Dialect::Zstack);
    let table = contract.errors();
    let (method, path) = (&request.method, &request.path);
    match refusal {
        // The texts of the original's REST layer, as its clients know them.
        Refusal::UnknownPath => say(
            table.for_fault(TransportFault::UnknownPath),
            format!("no api mapping to {path}"),
        ),
        Refusal::WrongMethod { allowed } => {
            let allowed = allowed.join(", ");
            let details = format!("the method[{method}] is not allowed for the URL[{path}], use {allowed}");
            let mut reply = say(table.for_fault(TransportFault::WrongMethod), details);
            reply.headers.push(("allow", allowed));
            reply
        }
        Refusal::NotBuilt { operation } => not_built(operation, request),
        Refusal::BodyTooLarge { limit } => {
            let details = format!("the body has more than {limit} bytes");
            say(table.for_fault(TransportFault::BodyTooLarge), details)
        }
        Refusal::BadRequest(reason) => say(table.for_fault(TransportFault::MalformedBody), reason),
        Refusal::Timeout => say(
            table.for_kind(ErrorKind::Timeout),
            "the request was not received or finished in time".to_owned(),
        ),
        Refusal::Overloaded => {
            let details = "too many requests are under way; try again later".to_owned();
            say(table.for_fault(TransportFault::Overloaded), details)
        }
        Refusal::Internal => {
            let details = format!("the request {} met a fault of the gateway", request.request_id);
            say(table.for_kind(ErrorKind::Internal), details)
        }
    }
}

/// Names the operation, which may take a look at the body; a body that names none is a fault of the caller.
fn not_built(operation: &'static str, request: &Request) -> Reply {
    let table = contract(Dialect::Zstack).errors();
    let Some(named) = operations::name(request) else {
        let details = format!(
            "the body doesn't contain action mapping to the URL[{}]",
            request.path
        );
        let reply = say(table.for_fault(TransportFault::MalformedBody), details);
        return Reply {
            operation: Some(operation),
            ..reply
        };
    };
    let details = format!("the operation {named} is not implemented yet");
    let reply = say(table.for_fault(TransportFault::NotBuilt), details);
    Reply {
        operation: Some(named),
        ..reply
    }
}

fn say(outcome: &Outcome, details: String) -> Reply {
    let row = &outcome.row;
    if row.plain_text {
        return encode::plain(outcome.status, details);
    }
    let content_type = &contract(Dialect::Zstack).settings().content_type;
    let description = row.en.as_deref().unwrap_or(&row.meaning);
    encode::error_object(outcome.status, &row.code, description, &details, content_type)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(method: &str, path: &str, body: &str) -> Request {
        Request {
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.to_owned().into(),
            ..Request::default()
        }
    }

    fn text(reply: &Reply) -> &str {
        std::str::from_utf8(&reply.body).unwrap()
    }

    fn content_type(reply: &Reply) -> &str {
        let found = reply.headers.iter().find(|(name, _)| *name == "content-type");
        &found.unwrap().1
    }

    fn not_built(method: &str, path: &str, body: &str) -> Reply {
        refuse(
            Refusal::NotBuilt { operation: "some" },
            &request(method, path, body),
        )
    }

    #[test]
    fn an_unknown_path_is_plain_text_404() {
        let reply = refuse(Refusal::UnknownPath, &request("GET", "/zstack/v1/nothing", ""));
        assert_eq!(
            (reply.status, text(&reply)),
            (404, "no api mapping to /zstack/v1/nothing")
        );
        assert!(content_type(&reply).starts_with("text/plain"));
    }

    #[test]
    fn a_wrong_method_is_plain_text_405_and_names_the_right_ones() {
        let refusal = Refusal::WrongMethod {
            allowed: vec!["GET".to_owned(), "POST".to_owned()],
        };
        let reply = refuse(refusal, &request("PATCH", "/zstack/v1/zones", ""));
        assert_eq!(reply.status, 405);
        assert!(text(&reply).ends_with("use GET, POST"));
        assert!(content_type(&reply).starts_with("text/plain"));
        assert!(reply.headers.contains(&("allow", "GET, POST".to_owned())));
    }

    #[test]
    fn an_operation_that_is_not_built_is_503_with_an_error_object_that_names_it() {
        let reply = not_built("GET", "/zstack/v1/zones", "");
        assert_eq!((reply.status, reply.operation), (503, Some("QueryZone")));
        assert!(content_type(&reply).starts_with("application/json"));
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(
            body["error"]["details"],
            "the operation QueryZone is not implemented yet"
        );
        assert_eq!(
            body["error"]["description"],
            "The operation is not implemented or not supported yet"
        );
    }

    #[test]
    fn operations_on_one_address_are_told_apart_by_their_key() {
        let path = "/zstack/v1/vm-instances/8c7a2f0e4b8d4a0cb5c5e1f3d2a19b07/actions";
        let start = not_built("PUT", path, r#"{"systemTags":[],"startVmInstance":{}}"#);
        assert_eq!((start.status, start.operation), (503, Some("StartVmInstance")));
        for nameless in [r#"{"fly":{}}"#, "{}", "", "no json", r#"{"systemTags":[]}"#] {
            let reply = not_built("PUT", path, nameless);
            assert_eq!(reply.status, 400, "{nameless}");
            assert_eq!(
                text(&reply),
                format!("the body doesn't contain action mapping to the URL[{path}]")
            );
        }
    }

    #[test]
    fn every_operation_of_the_contract_is_refused_by_its_own_name() {
        let contract = contract(Dialect::Zstack);
        assert_eq!(contract.fault(), None);
        let mut seen = 0;
        for operation in contract.operations().iter().filter(|operation| !operation.built) {
            let body = operation
                .action
                .as_ref()
                .map_or(String::new(), |key| json!({ key: {} }).to_string());
            let reply = not_built(&operation.method, operation.path.as_str(), &body);
            assert_eq!(
                (reply.status, reply.operation),
                (503, Some(operation.id.as_str()))
            );
            assert!(text(&reply).contains("is not implemented yet"));
            seen += 1;
        }
        assert!(seen > 100, "the contract has its operations: {seen}");
    }

    #[test]
    fn no_refusal_claims_success_or_an_address_to_poll() {
        for refusal in [
            Refusal::UnknownPath,
            Refusal::WrongMethod { allowed: Vec::new() },
            Refusal::NotBuilt {
                operation: "QueryZone",
            },
            Refusal::BodyTooLarge { limit: 1 },
            Refusal::BadRequest("why".to_owned()),
            Refusal::Timeout,
            Refusal::Overloaded,
            Refusal::Internal,
        ] {
            let reply = refuse(refusal.clone(), &request("GET", "/zstack/v1/zones", ""));
            assert!(reply.status >= 400, "{refusal:?}");
            assert!(!text(&reply).contains("location"), "{refusal:?}");
        }
    }
}
