//! Every code of the dialect's table is either brought about here, or the table says why no call reaches it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::capability::Capability;
use babelvisor_core::frontend::{Refusal, Request};
use babelvisor_core::model::Role;
use babelvisor_memory::Delay;
use babelvisor_pve_open::Settings;
use babelvisor_schemas::{Dialect, contract};
use serde_json::{Value, json};
use support::{Answer, CREATE, RENT, Site, USER};

/// Brings a code about at a site of its own; none for a code that nobody knows how to bring about.
async fn provoke(code: &str) -> Option<Answer> {
    let site = Site::open().await;
    Some(match code {
        "0" => site.get("/v1/pve/open/image").await,
        "401" => {
            support::send(
                &*site.facing(Settings::default()),
                "GET",
                "/v1/pve/open/image",
                &[],
                b"",
            )
            .await
        }
        "500" => support::read(site.frontend.refuse(Refusal::Internal, &Request::default())),
        "503" => {
            site.control.disconnect();
            support::eventually("the loss is seen", || {
                site.core
                    .now()
                    .backends
                    .values()
                    .all(|backend| !backend.up)
                    .then_some(())
            })
            .await;
            site.post(CREATE, &site.by_use()).await
        }
        "1001" => {
            site.account(USER, "home", Role::User).await;
            site.post("/v1/auth/getToken", &json!({"uuid": USER, "secret": "wrong"}))
                .await
        }
        "1003" => {
            site.post(CREATE, &json!({"packageId": "Unknown001", "imageId": "1"}))
                .await
        }
        "1005" => {
            site.control
                .set_delay(Capability::VmCreate, Delay::Fixed(120_000));
            site.post(CREATE, &site.by_use()).await.good();
            let id = site.all()[0].record.short_id.clone();
            site.get(&format!("/v1/pve/open/operate/{id}?type=1")).await
        }
        "1007" => site.post(CREATE, &json!({})).await,
        "1021" => site.get("/v1/pve/open/one/QzyHraLXEr").await,
        "1037" => {
            let settings = Settings {
                require_verified_identity: true,
                ..support::open()
            };
            let body = site.rent(1, 1).to_string();
            support::send(&*site.facing(settings), "POST", RENT, &[], body.as_bytes()).await
        }
        "6000" | "7004" => {
            let id = site.machine().await;
            site.control
                .set_delay(Capability::PowerStart, Delay::Fixed(120_000));
            site.get(&format!("/v1/pve/open/operate/{id}?type=1"))
                .await
                .good();
            match code {
                "6000" => site.get(&format!("/v1/pve/open/operate/{id}?type=1")).await,
                _ => site.get(&format!("/v1/pve/open/reboot/{id}")).await,
            }
        }
        "6001" => {
            let id = site.machine().await;
            site.on(&id).await;
            site.control.set_ignores_acpi(site.vm(&id).id, true).unwrap();
            site.get(&format!("/v1/pve/open/operate/{id}?type=0"))
                .await
                .good();
            site.get(&format!("/v1/pve/open/operate/{id}?type=0")).await
        }
        "6002" => {
            let body = json!({"packageId": site.packages["huge"], "imageId": site.images["debian"]});
            site.post(CREATE, &body).await
        }
        "6003" | "7003" => {
            let id = site.rented(1, 1).await;
            site.expire(&id).await;
            match code {
                "6003" => site.get(&format!("/v1/pve/open/operate/{id}?type=1")).await,
                _ => site.get(&format!("/v1/pve/open/reboot/{id}")).await,
            }
        }
        "6005" => {
            site.control.disconnect();
            support::eventually("the loss is seen", || {
                site.core
                    .now()
                    .backends
                    .values()
                    .all(|backend| !backend.up)
                    .then_some(())
            })
            .await;
            site.post(RENT, &site.rent(1, 1)).await
        }
        "7002" => {
            let id = site.machine().await;
            site.get(&format!("/v1/pve/open/reboot/{id}")).await
        }
        "7005" => {
            let body = json!({"packageId": site.packages["other-type"], "imageId": site.images["debian"]});
            site.post(CREATE, &body).await
        }
        _ => return None,
    })
}

#[tokio::test]
async fn every_documented_code_is_sent_with_its_own_text_or_the_table_says_why_not() {
    let errors = contract(Dialect::PveOpen).errors();
    let schema = jsonschema::validator_for(errors.body_schema()).unwrap();
    for row in errors.rows() {
        match (provoke(&row.code).await, &row.unreachable) {
            (None, Some(reason)) => assert!(!reason.is_empty(), "code {}", row.code),
            (None, None) => panic!(
                "code {} is neither brought about here nor called unreachable",
                row.code
            ),
            (Some(_), Some(reason)) => {
                panic!(
                    "code {} is called unreachable ({reason}) and is reached",
                    row.code
                )
            }
            (Some(answer), None) => {
                assert_eq!(answer.code().to_string(), row.code);
                assert_eq!(answer.status, row.status, "code {}", row.code);
                let text = row.zh.as_deref().unwrap();
                let exact = answer.msg() == text;
                let longer = ["1003", "1007"].contains(&row.code.as_str())
                    && answer.msg().starts_with(&format!("{text}: "));
                assert!(exact || longer, "code {}: {}", row.code, answer.msg());
                if row.code != "0" {
                    assert!(schema.is_valid(&answer.body), "{}", answer.body);
                    assert_eq!(answer.data(), &Value::Null);
                }
            }
        }
    }
}
