//! Every code of the dialect's table is either brought about here, or the table says why no call reaches it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_core::frontend::{Refusal, Request};
use babelvisor_core::model::Role;
use babelvisor_memory::{Delay, Fault, Method};
use babelvisor_schemas::{Dialect, contract};
use serde_json::{Value, json};
use support::{Answer, GIB, Site, USER, eventually, md5_of, read};

const MISSING: &str = "0b7dc2f4-9d0b-4c9e-8a37-51e60b7dc2f4";

/// Brings a code about at a site of its own, as an answer or as the only result of a batch; none for a code that
/// nobody knows how to bring about.
async fn provoke(code: &str) -> Option<Value> {
    let site = Site::open().await;
    let named = |uuid: &str| json!({"cluster_uuid": "", "tenant": "", "compute_uuid": uuid});
    let answer = match code {
        "0" => site.get("/v1/zone/list").await,
        "10000" => read(site.frontend.refuse(Refusal::Internal, &Request::default())),
        "10001" => site.get("/v1/zone/list?page_size=many").await,
        "10002" => Site::closed().await.get("/v1/zone/list").await,
        "10003" => {
            let site = Site::closed().await;
            site.account("guard", "home", Role::Viewer).await;
            let guard = site.client("guard").await;
            guard
                .post("/v1/compute/group/create", &json!({"group_name": "test"}))
                .await
        }
        "10183" => {
            let body = json!({"user": USER, "password": md5_of("wrong")});
            site.post("/v1/authentication/login", &body).await
        }
        "11000" => {
            let machine = site.foreign("guest").await;
            let body = json!({"user_uuid": MISSING, "tenant": "", "vms": [named(&machine)]});
            return Some(site.post("/v1/compute/assign", &body).await.only());
        }
        "22001" => site.post("/v1/compute/log", &named(MISSING)).await,
        "22002" => {
            let body = json!({"group_name": "test"});
            site.post("/v1/compute/group/create", &body).await.good();
            site.post("/v1/compute/group/create", &body).await
        }
        "22003" => {
            let machine = site.foreign("guest").await;
            let mut body = named(&machine);
            body["memory_reserve_enable"] = json!(true);
            site.post("/v1/compute/memory/reserve", &body).await
        }
        "22004" => return Some(busy(&site, named).await.body),
        "22005" => {
            let body = json!({"user": USER, "password": md5_of("x"), "is_ldap": true});
            site.post("/v1/authentication/login", &body).await
        }
        "22006" => site.get("/v1/ticket/process/list").await,
        "22007" => {
            let body = json!({"volume_name": "data", "capacity": GIB << 20, "pool_uuid": site.pool()});
            return Some(site.post("/v1/volume/internal/create", &body).await.only());
        }
        "22008" => {
            let site = Site::closed().await;
            let user = site.client(USER).await;
            for _ in 0..100 {
                user.post("/v1/apikey/create", &json!({})).await.good();
            }
            user.post("/v1/apikey/create", &json!({})).await
        }
        "22009" => {
            let machine = site.foreign("guest").await;
            site.control.disconnect();
            eventually("the loss is seen", || {
                let now = site.core.now();
                now.backends.values().all(|backend| !backend.up).then_some(())
            })
            .await;
            // A call that asks the hypervisor itself: a job would go on trying for a while.
            site.post("/v1/compute/screenshot", &named(&machine)).await
        }
        "22010" => read(site.frontend.refuse(Refusal::Timeout, &Request::default())),
        "22011" => {
            // As a hypervisor says of something that another change holds.
            let machine = site.foreign("guest").await;
            let fault = Fault::new(Method::Power, ErrorKind::Conflict);
            site.control.inject_fault(fault);
            site.post("/v1/compute/shutoff", &named(&machine)).await
        }
        "22102" => {
            let machine = site.foreign("guest").await;
            site.post("/v1/compute/clone/progress", &named(&machine)).await
        }
        "22151" => {
            let machine = site.foreign("guest").await;
            let target = format!(
                "/v1/compute/disk/export/progress?cluster_uuid={}&tenant=home&compute_uuid={machine}&device=sda",
                site.cluster()
            );
            site.get(&target).await
        }
        "22211" => {
            let body = json!({
                "cluster_uuid": site.cluster(), "tenant": "home", "cpunr": 1, "mem_size": GIB,
                "meta": {"compute_name": "imported"},
                "disks": [{"image_uuid": MISSING, "disk_unified_vsd": {"pool_uuid": site.pool(), "volume_name": "first", "capacity": GIB}}],
            });
            return Some(site.post("/v1/compute/unified_import", &body).await.only());
        }
        _ => return None,
    };
    Some(answer.body)
}

/// A machine that is being shut off and told to start.
async fn busy(site: &Site, named: impl Fn(&str) -> Value) -> Answer {
    let machine = site.foreign("guest").await;
    site.control
        .set_delay(Capability::PowerForceOff, Delay::Fixed(120_000));
    let body = named(&machine);
    let id = site.vm(&machine).id;
    // Its caller waits for the end; the second call comes while it does.
    let first = site.post("/v1/compute/shutoff", &body);
    let second = async {
        eventually("the first is under way", || {
            site.core.now().vms.get(&id)?.activity
        })
        .await;
        site.post("/v1/compute/shutoff", &body).await
    };
    tokio::select! {
        biased;
        answer = second => answer,
        answer = first => panic!("the first call ended first: {}", answer.body),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_code_is_sent_with_its_own_texts_or_the_table_says_why_not() {
    let errors = contract(Dialect::V1Compute).errors();
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
            (Some(body), None) => {
                assert_eq!(body["scode"].to_string(), row.code, "{body}");
                let desc = body["desc"].as_str().unwrap();
                for (member, text) in [("message", &row.en), ("message_cn", &row.zh)] {
                    let text = text.as_deref().unwrap().replace("%s", desc);
                    assert_eq!(body[member], text, "code {}", row.code);
                }
            }
        }
    }
}
