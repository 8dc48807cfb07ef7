//! Routing by the real contracts of all dialects on one port.

use std::sync::Arc;

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_schemas::{Dialect, contract};
use babelvisor_server::{Limits, Mount};

use crate::support::start;

/// Prints what it is asked.
struct Mirror(&'static str);

#[async_trait]
impl Frontend for Mirror {
    fn dialect(&self) -> &'static str {
        self.0
    }

    async fn answer(&self, routed: Routed, _: Request) -> Reply {
        let body = format!("{} {} {:?}", self.0, routed.operations.join(","), routed.params);
        Reply {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
            operation: None,
        }
    }

    fn refuse(&self, refusal: Refusal, _: &Request) -> Reply {
        let body = format!("{} {refusal:?}", self.0);
        Reply {
            status: 400,
            headers: Vec::new(),
            body: body.into(),
            operation: None,
        }
    }
}

#[tokio::test]
async fn five_dialects_share_a_port() {
    let mounts = Dialect::ALL.map(|dialect| Mount::from_contract(dialect, Arc::new(Mirror(dialect.name()))));
    let server = start(mounts.to_vec(), Limits::default()).await;
    let mut client = server.client().await;
    for (method, path, expected) in [
        ("GET", "/api/guest/x", "guest-rest guest.get [(\"uuid\", \"x\")]"),
        ("GET", "/api/guests/", "guest-rest UnknownPath"),
        (
            "PUT",
            "/api/guests",
            "guest-rest WrongMethod { allowed: [\"GET\"] }",
        ),
        (
            "GET",
            "/api/kvm/",
            "kvm-task-feed WrongMethod { allowed: [\"POST\"] }",
        ),
        ("GET", "/v1/compute/nothing", "v1-compute UnknownPath"),
        ("GET", "/v1/pve/open/nothing", "pve-open UnknownPath"),
        ("DELETE", "/zstack/v1/nothing", "zstack UnknownPath"),
    ] {
        client
            .send(format!(
                "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.body, expected, "{method} {path}");
    }
}

/// Whether an operation is built is the contract's to say: its owner is the same either way.
#[tokio::test]
async fn every_dialect_answers_for_its_own_operations() {
    let mounts = Dialect::ALL.map(|dialect| Mount::from_contract(dialect, Arc::new(Mirror(dialect.name()))));
    let server = start(mounts.to_vec(), Limits::default()).await;
    let mut client = server.client().await;
    for (method, path, dialect, operation, params) in [
        ("POST", "/api/kvm", Dialect::KvmTaskFeed, "feed.report", "[]"),
        ("POST", "/api/kvm/", Dialect::KvmTaskFeed, "feed.report", "[]"),
        (
            "POST",
            "/api/task/CAS1000000000/",
            Dialect::KvmTaskFeed,
            "feed.task",
            "[(\"sn\", \"CAS1000000000\")]",
        ),
        (
            "GET",
            "/v1/compute/list",
            Dialect::V1Compute,
            "compute.list",
            "[]",
        ),
        ("GET", "/zstack/v1/zones", Dialect::Zstack, "QueryZone", "[]"),
    ] {
        let built = contract(dialect).operation(operation).unwrap().built;
        let expected = match built {
            true => format!("{} {operation} {params}", dialect.name()),
            false => format!("{} NotBuilt {{ operation: {operation:?} }}", dialect.name()),
        };
        client
            .send(format!(
                "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.body, expected, "{method} {path}");
    }
}
