//! Refusals in this dialect's envelope: status, code and both texts come from the contract's error table.

use babelvisor_core::frontend::{Refusal, Reply, Request};
use babelvisor_schemas::{Dialect, ErrorKind, Outcome, TransportFault, contract};

use crate::encode::Output;

/// Sent if a code of the table were not a number: "Manager server error".
const MANAGER_ERROR: i64 = 10000;

/// Words `refusal`.
pub(crate) fn refuse(refusal: Refusal, request: &Request) -> Reply {
    let table = contract(Dialect::V1Compute).errors();
    let (method, path) = (&request.method, &request.path);
    match refusal {
        Refusal::UnknownPath => say(
            table.for_fault(TransportFault::UnknownPath),
            format!("there is no path {path}"),
        ),
        Refusal::WrongMethod { allowed } => {
            let allowed = allowed.join(", ");
            let desc = format!("{path} is not for {method}, use {allowed}");
            let mut reply = say(table.for_fault(TransportFault::WrongMethod), desc);
            reply.headers.push(("allow", allowed));
            reply
        }
        Refusal::NotBuilt { operation } => {
            let reply = say(table.for_fault(TransportFault::NotBuilt), operation.to_owned());
            Reply {
                operation: Some(operation),
                ..reply
            }
        }
        Refusal::BodyTooLarge { limit } => {
            let desc = format!("the body has more than {limit} bytes");
            say(table.for_fault(TransportFault::BodyTooLarge), desc)
        }
        Refusal::BadRequest(reason) => say(table.for_fault(TransportFault::MalformedBody), reason),
        Refusal::Timeout => say(
            table.for_kind(ErrorKind::Timeout),
            "the request was not received or finished in time".to_owned(),
        ),
        Refusal::Overloaded => {
            let desc = "too many requests are under way, try again later".to_owned();
            say(table.for_fault(TransportFault::Overloaded), desc)
        }
        Refusal::Internal => say(
            table.for_kind(ErrorKind::Internal),
            format!("fault of the gateway in request {}", request.request_id),
        ),
    }
}

fn say(outcome: &Outcome, desc: String) -> Reply {
    let row = &outcome.row;
    let text = |text: Option<&str>| text.unwrap_or(&row.meaning).replace("%s", &desc);
    let (message, message_cn) = (text(row.en.as_deref()), text(row.zh.as_deref()));
    let scode = row.code.parse().unwrap_or(MANAGER_ERROR);
    let content_type = &contract(Dialect::V1Compute).settings().content_type;
    Output::failure(scode, desc, message, message_cn).reply(outcome.status, content_type)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(method: &str, path: &str) -> Request {
        Request {
            method: method.to_owned(),
            path: path.to_owned(),
            ..Request::default()
        }
    }

    fn body(reply: &Reply) -> Value {
        serde_json::from_slice(&reply.body).unwrap()
    }

    fn all() -> Vec<Refusal> {
        vec![
            Refusal::UnknownPath,
            Refusal::WrongMethod {
                allowed: vec!["POST".to_owned()],
            },
            Refusal::NotBuilt {
                operation: "compute.list",
            },
            Refusal::BodyTooLarge { limit: 1 },
            Refusal::BadRequest("why".to_owned()),
            Refusal::Timeout,
            Refusal::Overloaded,
            Refusal::Internal,
        ]
    }

    #[test]
    fn an_operation_that_is_not_built_is_200_with_a_code_of_its_own_and_its_name() {
        let reply = refuse(
            Refusal::NotBuilt {
                operation: "compute.list",
            },
            &request("GET", "/v1/compute/list"),
        );
        assert_eq!((reply.status, reply.operation), (200, Some("compute.list")));
        assert_eq!(
            body(&reply),
            json!({
                "scode": 22006,
                "desc": "compute.list",
                "message": "Operation not implemented: compute.list",
                "message_cn": "此操作尚未实现: compute.list",
                "stack": ["compute.list"],
                "data": {},
            })
        );
    }

    #[test]
    fn unknown_path_wrong_method_and_not_built_are_three_answers() {
        let on = request("GET", "/v1/compute/start");
        let unknown = refuse(Refusal::UnknownPath, &on);
        let wrong = refuse(
            Refusal::WrongMethod {
                allowed: vec!["POST".to_owned()],
            },
            &on,
        );
        let later = refuse(
            Refusal::NotBuilt {
                operation: "compute.start",
            },
            &on,
        );
        assert_eq!(unknown.status, 404, "the only place for another status than 200");
        assert_eq!(later.status, 200);
        assert_eq!(body(&wrong)["desc"], "/v1/compute/start is not for GET, use POST");
        assert_ne!(body(&unknown)["desc"], body(&wrong)["desc"]);
        assert!(wrong.headers.contains(&("allow", "POST".to_owned())));
    }

    #[test]
    fn every_refusal_is_a_whole_envelope_that_claims_no_success() {
        for refusal in all() {
            let reply = refuse(refusal.clone(), &request("GET", "/v1/compute/start"));
            assert!(
                reply
                    .headers
                    .contains(&("content-type", "application/json".to_owned())),
                "{refusal:?}"
            );
            let body = body(&reply);
            let code = body["scode"].as_i64().unwrap();
            assert!(
                (10_000..40_000).contains(&code),
                "{refusal:?} has the code {code}"
            );
            assert_ne!(
                code, 11057,
                "{refusal:?}: it would send the client to another server"
            );
            for key in ["desc", "message", "message_cn"] {
                assert!(!body[key].as_str().unwrap().is_empty(), "{refusal:?} has {key}");
                assert!(
                    !body[key].as_str().unwrap().contains("%s"),
                    "{refusal:?} fills {key}"
                );
            }
            assert!(
                body["data"].is_object() && body["stack"].is_array(),
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn every_operation_of_the_contract_is_refused_by_its_own_name() {
        let contract = contract(Dialect::V1Compute);
        assert_eq!(contract.fault(), None);
        let mut seen = 0;
        for operation in contract.operations().iter().filter(|operation| !operation.built) {
            let on = request(&operation.method, operation.path.as_str());
            let reply = refuse(
                Refusal::NotBuilt {
                    operation: &operation.id,
                },
                &on,
            );
            assert_eq!(
                (reply.status, reply.operation),
                (200, Some(operation.id.as_str()))
            );
            assert_eq!(body(&reply)["desc"], operation.id);
            seen += 1;
        }
        assert!(seen > 90, "the contract has its operations: {seen}");
    }
}
