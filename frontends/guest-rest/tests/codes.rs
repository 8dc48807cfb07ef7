//! Every code of the dialect's table, trunks and branches, is either brought about here, or the table says why no
//! call reaches it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::ErrorKind;
use babelvisor_core::frontend::{Refusal, Request};
use babelvisor_core::model::Role;
use babelvisor_core::secret::sha256_hex;
use babelvisor_guest_rest::{Credential, NameConflict, Settings};
use babelvisor_memory::{HostsConfig, MemoryConfig};
use babelvisor_schemas::{Dialect, contract};
use serde_json::{Value, json};
use support::{Answer, GIB, NOBODY, Site, send, wish, wish_with, wish_without};

/// Brings a code about at a site of its own, as `state.code` or `state.sub.code`; none for a code that nobody
/// knows how to bring about.
async fn provoke(code: &str) -> Option<Answer> {
    let site = Site::new().await;
    let unknown = format!("/api/guest/{NOBODY}");
    Some(match code {
        "200" => site.get("/api/guests").await,
        "400" => site.send("POST", "/api/guest", b"{").await,
        "401" | "40101" => {
            let credential = Credential {
                header: "x-key".to_owned(),
                sha256: sha256_hex("made-up"),
            };
            let locked = site.facing(Settings {
                credential: Some(credential),
                ..Settings::default()
            });
            send(&*locked, "GET", "/api/guests", &[("x-key", "wrong")], b"").await
        }
        "403" | "40301" => {
            let showcase = site.facing(Settings {
                role: Role::Viewer,
                ..Settings::default()
            });
            let body = wish().to_string();
            send(&*showcase, "POST", "/api/guest", &[], body.as_bytes()).await
        }
        "404" | "40401" => site.get(&unknown).await,
        "40450" => site.post(&wish_with(json!({"os_template_id": 77}))).await,
        "405" => site.send("PUT", "/api/guests", b"").await,
        "409" | "40901" => {
            let strict = site.facing(Settings {
                name_conflict: NameConflict::Refuse,
                ..Settings::default()
            });
            site.guest("web").await;
            let body = wish_with(json!({"name": "web"})).to_string();
            send(&*strict, "POST", "/api/guest", &[], body.as_bytes()).await
        }
        "412" | "41201" => site.post(&wish_without("cpu")).await,
        "41202" => site.post(&wish_with(json!({"cpu": "four"}))).await,
        "41203" => site.post(&wish_with(json!({"cpu": 0}))).await,
        "41209" => site.get("/api/guests?page_size=x").await,
        "500" | "50000" => support::read(site.frontend.refuse(Refusal::Internal, &Request::default()), None),
        "501" => {
            let operation = contract(Dialect::GuestRest)
                .operations()
                .iter()
                .find(|operation| !operation.built)
                .map_or("guest.unknown", |operation| operation.id.as_str());
            support::read(
                site.frontend
                    .refuse(Refusal::NotBuilt { operation }, &Request::default()),
                None,
            )
        }
        "503" => support::read(
            site.frontend.refuse(Refusal::Overloaded, &Request::default()),
            None,
        ),
        "50350" => {
            let hosts = HostsConfig {
                memory: 2 * GIB,
                ..HostsConfig::default()
            };
            let small = Site::with(
                Settings::default(),
                MemoryConfig {
                    hosts,
                    ..MemoryConfig::default()
                },
            )
            .await;
            small.post(&wish()).await
        }
        _ => return None,
    })
}

/// Codes that only a failure inside brings about: a test in the gateway provokes every kind of failure by a
/// store that fails with it.
const BY_A_FAILING_STORE: [(&str, ErrorKind); 1] = [("41259", ErrorKind::IllegalState)];

#[tokio::test]
async fn every_documented_code_is_sent_with_its_own_texts_or_the_table_says_why_not() {
    let errors = contract(Dialect::GuestRest).errors();
    for row in errors.rows() {
        let code = row.code.as_str();
        if BY_A_FAILING_STORE.iter().any(|(known, _)| *known == code) {
            assert_eq!(row.unreachable, None);
            continue;
        }
        match (provoke(code).await, &row.unreachable) {
            (None, Some(reason)) => assert!(!reason.is_empty(), "code {code}"),
            (None, None) => panic!("code {code} is neither brought about here nor called unreachable"),
            (Some(_), Some(reason)) => panic!("code {code} is called unreachable ({reason}) and is reached"),
            (Some(answer), None) => holds(code, &answer),
        }
    }
}

/// The answer carries the code in its place with its texts and status; trunks and tails are held by `read`.
fn holds(code: &str, answer: &Answer) {
    let errors = contract(Dialect::GuestRest).errors();
    let row = errors.row(code).unwrap();
    assert_eq!(answer.status, row.status, "code {code}: {}", answer.body);
    let place = if row.parent.is_some() {
        "/state/sub"
    } else {
        "/state"
    };
    let said = answer.body.pointer(place).unwrap_or(&Value::Null);
    assert_eq!(said["code"], code, "{}", answer.body);
    let zh = said["zh-cn"].as_str().unwrap();
    assert!(zh.contains(row.zh.as_deref().unwrap()), "code {code}: {zh}");
    assert_eq!(said["en-us"].as_str(), row.en.as_deref(), "code {code}");
    if code != errors.success().code {
        assert_eq!(errors.validate_body(&answer.body), Ok(()), "code {code}");
    }
}
