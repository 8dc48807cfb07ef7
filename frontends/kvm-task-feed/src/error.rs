//! Refusals towards an agent: status and text come from the contract's error table, the case is added.

use babelvisor_core::Error;
use babelvisor_core::frontend::{Refusal, Reply, Request};
use babelvisor_schemas::{Dialect, ErrorKind, Outcome, TransportFault, contract};

use crate::{encode, operations};

/// Words `refusal`.
pub(crate) fn refuse(refusal: Refusal, request: &Request) -> Reply {
    let table = contract(Dialect::KvmTaskFeed).errors();
    match refusal {
        Refusal::UnknownPath => say(table.for_fault(TransportFault::UnknownPath), &request.path, None),
        Refusal::WrongMethod { allowed } => {
            let mut reply = say(
                table.for_fault(TransportFault::WrongMethod),
                &request.method,
                None,
            );
            reply.headers.push(("allow", allowed.join(", ")));
            reply
        }
        Refusal::NotBuilt { operation } => match operations::name(request) {
            Ok(named) => {
                let named = named.unwrap_or(operation);
                say(table.for_fault(TransportFault::NotBuilt), named, Some(named))
            }
            Err(reason) => say(
                table.for_fault(TransportFault::MalformedBody),
                &reason,
                Some(operation),
            ),
        },
        Refusal::BodyTooLarge { limit } => {
            let case = format!("the limit is {limit} bytes");
            say(table.for_fault(TransportFault::BodyTooLarge), &case, None)
        }
        Refusal::BadRequest(reason) => say(table.for_fault(TransportFault::MalformedBody), &reason, None),
        Refusal::Timeout => {
            let case = "the request was not received or finished in time";
            say(table.for_kind(ErrorKind::Timeout), case, None)
        }
        Refusal::Overloaded => say(
            table.for_fault(TransportFault::Overloaded),
            "too many requests are under way",
            None,
        ),
        Refusal::Internal => {
            let case = format!("fault of the gateway in request {}", request.request_id);
            say(table.for_kind(ErrorKind::Internal), &case, None)
        }
    }
}

/// Words an error of the core. Why an agent is not served is the log's to know, not the caller's.
pub(crate) fn of_core(error: &Error, operation: &'static str, request: &Request) -> Reply {
    let table = contract(Dialect::KvmTaskFeed).errors();
    let hidden = matches!(
        error.kind,
        babelvisor_core::ErrorKind::Forbidden | babelvisor_core::ErrorKind::Unauthenticated
    );
    let kind = ErrorKind::from_name(error.kind.as_ref()).unwrap_or(ErrorKind::Internal);
    let outcome = table.for_kind(kind);
    let case = if hidden {
        tracing::warn!(peer = request.peer, operation, %error, "an agent is not served");
        String::new()
    } else {
        tracing::error!(operation, %error, "an agent's call is lost");
        format!("request {}", request.request_id)
    };
    say(outcome, &case, Some(operation))
}

/// A report that cannot be taken.
pub(crate) fn bad_report(reason: &str, operation: &'static str) -> Reply {
    let table = contract(Dialect::KvmTaskFeed).errors();
    say(
        table.for_fault(TransportFault::MalformedBody),
        reason,
        Some(operation),
    )
}

/// The text of the table with the case in its place, or behind it.
fn say(outcome: &Outcome, case: &str, operation: Option<&'static str>) -> Reply {
    let text = outcome.row.en.as_deref().unwrap_or(&outcome.row.meaning);
    let text = if text.contains("%s") {
        text.replace("%s", case)
    } else if case.is_empty() {
        text.to_owned()
    } else {
        format!("{text}: {case}")
    };
    let content_type = &contract(Dialect::KvmTaskFeed).settings().content_type;
    encode::failure(outcome.status, &text, operation, content_type)
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

    fn body(reply: &Reply) -> Value {
        serde_json::from_slice(&reply.body).unwrap()
    }

    fn report(body: &str) -> Reply {
        refuse(
            Refusal::NotBuilt {
                operation: "feed.report",
            },
            &request("POST", "/api/kvm/", body),
        )
    }

    #[test]
    fn unknown_path_wrong_method_and_not_built_are_three_answers() {
        let unknown = refuse(Refusal::UnknownPath, &request("POST", "/api/kvm/x", ""));
        assert_eq!(
            (unknown.status, body(&unknown)),
            (404, json!({ "error": "unknown path: /api/kvm/x" }))
        );
        let refusal = Refusal::WrongMethod {
            allowed: vec!["POST".to_owned()],
        };
        let wrong = refuse(refusal, &request("GET", "/api/kvm/", ""));
        assert_eq!(
            (wrong.status, body(&wrong)),
            (405, json!({ "error": "use POST: GET" }))
        );
        assert!(wrong.headers.contains(&("allow", "POST".to_owned())));
        let later = report(r#"{"req":"vm.status","sn":"CAS1000000000","body":[]}"#);
        assert_eq!(later.status, 501);
        let expected =
            json!({ "error": "not implemented: report.vm.status", "operation": "report.vm.status" });
        assert_eq!(body(&later), expected);
        assert_eq!(later.operation, Some("report.vm.status"));
    }

    #[test]
    fn a_poll_has_no_body_and_is_named_all_the_same() {
        for path in ["/api/task/CAS1000000000", "/api/task/CAS1000000000/"] {
            let refusal = Refusal::NotBuilt {
                operation: "feed.task",
            };
            let reply = refuse(refusal, &request("POST", path, ""));
            assert_eq!(
                (reply.status, reply.operation),
                (501, Some("feed.task")),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_not_a_report_is_a_bad_request_that_says_why() {
        for (sent, reason) in [
            ("", "empty"),
            ("no json", "line 1"),
            ("[]", "not an object"),
            (r#"{"sn":"CAS1","body":[]}"#, "`req` is missing"),
            (r#"{"req":1,"sn":"CAS1","body":[]}"#, "`req` is not a text"),
            (r#"{"req":"vm.conf","body":[]}"#, "`sn` is missing"),
            (
                r#"{"req":"vm.conf","sn":"","body":[]}"#,
                "`sn` is not a text of 1 to 64",
            ),
            (r#"{"req":"vm.conf","sn":"CAS1"}"#, "`body` is missing"),
            (
                r#"{"req":"vm.conf","sn":"CAS1","body":{}}"#,
                "`body` is not a list",
            ),
            (r#"{"req":"vm.fly","sn":"CAS1","body":[]}"#, "no known kind"),
            (
                r#"{"req":"vm.conf","req":"vm.conf","sn":"CAS1","body":[]}"#,
                "twice",
            ),
        ] {
            let reply = report(sent);
            let text = body(&reply)["error"].as_str().unwrap().to_owned();
            assert_eq!(reply.status, 400, "{sent}");
            assert!(text.contains(reason), "{sent}: {text}");
        }
    }

    #[test]
    fn every_kind_of_report_is_refused_by_its_own_name() {
        let contract = contract(Dialect::KvmTaskFeed);
        assert_eq!(contract.fault(), None);
        let reports: Vec<_> = contract
            .operations()
            .iter()
            .filter(|known| known.id.starts_with("report."))
            .collect();
        assert_eq!(reports.len(), 5);
        for operation in reports {
            let sent = json!({ "req": operation.action, "sn": "CAS1000000000", "body": [] });
            let reply = report(&sent.to_string());
            assert_eq!(
                (reply.status, reply.operation),
                (501, Some(operation.id.as_str()))
            );
        }
    }

    #[test]
    fn no_refusal_is_a_redirect_or_a_success() {
        for refusal in [
            Refusal::BodyTooLarge { limit: 1 },
            Refusal::BadRequest("why".to_owned()),
            Refusal::Timeout,
            Refusal::Overloaded,
            Refusal::Internal,
        ] {
            let reply = refuse(refusal.clone(), &request("POST", "/api/kvm/", ""));
            assert!(reply.status >= 400, "{refusal:?}");
            assert!(body(&reply)["error"].is_string(), "{refusal:?}");
        }
    }
}
