//! Every canonical error has a way out in every dialect, and the texts are those of the originals.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use babelvisor_schemas::{Dialect, ErrorKind, Problem, TransportFault, contract};
use serde_json::json;

#[test]
fn every_kind_has_an_answer_in_every_dialect() {
    for dialect in Dialect::ALL {
        let table = contract(dialect).errors();
        for kind in ErrorKind::ALL {
            let outcome = table.for_kind(*kind);
            assert!(
                table.row(&outcome.row.code).is_some(),
                "{dialect} {}",
                kind.name()
            );
            assert!(
                outcome.row.en.is_some() || outcome.row.zh.is_some(),
                "{dialect} {} has no text",
                kind.name()
            );
            assert!((200..600).contains(&outcome.status), "{dialect} {}", kind.name());
            assert_ne!(
                outcome.row.code,
                table.success().code,
                "{dialect} {} reads as success",
                kind.name()
            );
        }
        for fault in TransportFault::ALL {
            let outcome = table.for_fault(*fault);
            assert_ne!(
                outcome.row.code,
                table.success().code,
                "{dialect} {}",
                fault.name()
            );
        }
        for problem in Problem::ALL {
            assert_ne!(
                table.for_problem(problem).row.code,
                table.success().code,
                "{dialect} {}",
                problem.name()
            );
        }
    }
}

#[test]
fn the_kinds_are_the_fifteen_of_the_house() {
    let names: Vec<&str> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
    let expected = "NotFound AlreadyExists InvalidInput IllegalState Busy Unsupported NotImplemented Unauthenticated \
                    Forbidden NoResources QuotaExceeded BackendUnavailable Timeout Conflict Internal";
    assert_eq!(names.join(" "), expected);
    assert_eq!(ErrorKind::from_name("Busy"), Some(ErrorKind::Busy));
    assert_eq!(ErrorKind::from_name("busy"), None);
}

#[test]
fn guest_rest_branches_stand_under_their_trunks() {
    let table = contract(Dialect::GuestRest).errors();
    for row in table.rows() {
        match &row.parent {
            Some(parent) => {
                assert!(
                    row.code.len() == 5 && row.code.starts_with(parent),
                    "{}",
                    row.code
                );
                assert!(
                    row.en.is_none() && row.zh.is_some(),
                    "{}: a branch has Chinese text only",
                    row.code
                );
            }
            None => {
                assert_eq!(row.code, row.status.to_string());
                assert!(row.en.is_some() && row.zh.is_some(), "{}", row.code);
            }
        }
    }
    let missing = table.for_problem(Problem::Missing);
    assert_eq!(
        (missing.status, missing.row.zh.as_deref()),
        (412, Some("缺少参数"))
    );
    assert_eq!(
        missing.parent.as_ref().unwrap().en.as_deref(),
        Some("Precondition Failed")
    );
    let busy = table.for_kind(ErrorKind::Busy);
    assert_eq!((busy.row.code.as_str(), busy.parent.is_none()), ("409", true));
    // What the status says must be what state.code will say.
    for kind in ErrorKind::ALL {
        let outcome = table.for_kind(*kind);
        let trunk = outcome.parent.as_ref().unwrap_or(&outcome.row);
        assert_eq!(trunk.code, outcome.status.to_string(), "{}", kind.name());
    }
}

#[test]
fn pve_open_keeps_its_texts_and_its_statuses() {
    let table = contract(Dialect::PveOpen).errors();
    assert_eq!(
        table.row("6002").unwrap().zh.as_deref(),
        Some("资源不足, 请重新选择配置")
    );
    assert_eq!(
        table.row("7003").unwrap().zh.as_deref(),
        Some("虚拟机不可用，不能重启")
    );
    for row in table.rows() {
        assert_eq!(
            row.status,
            if row.code == "401" { 401 } else { 200 },
            "{}",
            row.code
        );
    }
    // Each code that the catalogue lists for a call is in the table.
    for code in [
        "1001", "7005", "1037", "6002", "6005", "9000", "9001", "6000", "6001", "6003", "7002", "7003",
        "7004",
    ] {
        assert!(!table.row(code).unwrap().operations.is_empty(), "{code}");
    }
}

#[test]
fn codes_name_operations_that_exist() {
    for dialect in Dialect::ALL {
        for row in contract(dialect).errors().rows() {
            for id in &row.operations {
                assert!(
                    contract(dialect).operation(id).is_some(),
                    "{dialect} {}: {id}",
                    row.code
                );
            }
        }
    }
}

#[test]
fn v1_compute_answers_200_and_never_sends_away() {
    let table = contract(Dialect::V1Compute).errors();
    for kind in ErrorKind::ALL {
        let outcome = table.for_kind(*kind);
        assert_eq!(outcome.status, 200, "{}", kind.name());
        assert_ne!(outcome.row.code, "11057", "{}", kind.name());
    }
}

#[test]
fn zstack_fails_with_503_and_speaks_plain_text_below_that() {
    let table = contract(Dialect::Zstack).errors();
    for kind in ErrorKind::ALL {
        let outcome = table.for_kind(*kind);
        assert_eq!(
            (outcome.status, outcome.row.plain_text),
            (503, false),
            "{}",
            kind.name()
        );
    }
    assert!(table.for_fault(TransportFault::UnknownPath).row.plain_text);
}

#[test]
fn a_documented_code_can_be_answered_by_itself() {
    let table = contract(Dialect::GuestRest).errors();
    let template = table.for_code("40450").unwrap();
    assert_eq!(
        (template.status, template.parent.unwrap().code.as_str()),
        (404, "404")
    );
    assert!(table.for_code("99999").is_none());
}

#[test]
fn bodies_of_failures_are_told_from_good_answers() {
    let samples = [
        (
            Dialect::GuestRest,
            json!({"state": {"code": "404", "en-us": "Not found", "zh-cn": "未找到",
                "sub": {"code": "40401", "zh-cn": "目标不存在: id"}}}),
            json!({"state": {"code": 404, "en-us": "Not found", "zh-cn": "未找到"}}),
        ),
        (
            Dialect::PveOpen,
            json!({"code": 1021, "data": null, "msg": "机器不存在"}),
            json!({"code": 0, "data": null, "msg": "success"}),
        ),
        (
            Dialect::V1Compute,
            json!({"scode": 22001, "desc": "", "message": "m", "message_cn": "c", "stack": ["s"], "data": {}}),
            json!({"scode": 11057, "desc": "", "message": "m", "message_cn": "c", "stack": null, "data": {}}),
        ),
        (
            Dialect::Zstack,
            json!({"error": {"code": "SYS.1007", "description": "d", "details": "field[x]"}}),
            json!({"error": {"code": 1007, "description": "d"}}),
        ),
        (
            Dialect::KvmTaskFeed,
            json!({"error": "not a report"}),
            json!({"body": []}),
        ),
    ];
    for (dialect, failure, other) in samples {
        let table = contract(dialect).errors();
        assert_eq!(table.validate_body(&failure), Ok(()), "{dialect}");
        assert!(table.validate_body(&other).is_err(), "{dialect}");
    }
}
