//! The operators' listener.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use babelvisor_server::{Admin, AdminConfig, AdminSource, ServerError};
use serde_json::{Value, json};

use crate::support::Raw;

struct Views {
    ready: bool,
}

#[async_trait]
impl AdminSource for Views {
    async fn ready(&self) -> Result<(), Vec<String>> {
        if self.ready {
            Ok(())
        } else {
            Err(vec!["backend lab: no connection".to_owned()])
        }
    }

    async fn metrics(&self) -> String {
        "# TYPE up gauge\nup 1\n".to_owned()
    }

    async fn coverage(&self) -> Value {
        json!({ "operations": [] })
    }

    async fn vms(&self) -> Result<Value, String> {
        Ok(json!([{ "id": "a" }]))
    }

    async fn vm(&self, id: &str) -> Result<Option<Value>, String> {
        Ok((id == "a").then(|| json!({ "id": "a" })))
    }

    async fn jobs(&self) -> Result<Value, String> {
        Err("the store is away".to_owned())
    }

    async fn job(&self, _: &str) -> Result<Option<Value>, String> {
        panic!("a fault in a view")
    }

    async fn version(&self) -> Value {
        json!({ "version": "1" })
    }
}

async fn start(ready: bool) -> SocketAddr {
    let config = AdminConfig {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        host_names: vec!["gateway.test".to_owned()],
        ..AdminConfig::default()
    };
    let admin = Admin::bind(config, Arc::new(Views { ready })).await.unwrap();
    let address = admin.local_addr();
    tokio::spawn(admin.run(std::future::pending()));
    address
}

async fn ask(address: SocketAddr, method: &str, path: &str, host: &str) -> (u16, String) {
    let mut client = Raw::connect(address).await;
    client
        .send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .await;
    let answer = if method == "HEAD" {
        client.answer_to_head().await
    } else {
        client.answer().await
    };
    (answer.status, answer.body)
}

#[tokio::test]
async fn every_route_answers() {
    let address = start(true).await;
    for (path, status, body) in [
        ("/livez", 200, r#"{"live":true}"#),
        ("/readyz", 200, r#"{"ready":true}"#),
        ("/metrics", 200, "# TYPE up gauge\nup 1\n"),
        ("/_gw/coverage", 200, r#"{"operations":[]}"#),
        ("/_gw/version", 200, r#"{"version":"1"}"#),
        ("/_gw/vms", 200, r#"[{"id":"a"}]"#),
        ("/_gw/vms/a", 200, r#"{"id":"a"}"#),
        (
            "/_gw/vms/b",
            404,
            r#"{"error":"there is no machine with this id"}"#,
        ),
        ("/_gw/jobs", 503, r#"{"error":"the store is away"}"#),
    ] {
        assert_eq!(
            ask(address, "GET", path, "localhost").await,
            (status, body.to_owned()),
            "{path}"
        );
    }
    assert_eq!(ask(address, "GET", "/_gw/jobs/1", "localhost").await.0, 500);
    assert_eq!(ask(address, "GET", "/_gw/../livez", "localhost").await.0, 400);
    assert_eq!(ask(address, "GET", "/", "localhost").await.0, 404);
}

#[tokio::test]
async fn not_ready_says_why() {
    let address = start(false).await;
    let expected = r#"{"ready":false,"reasons":["backend lab: no connection"]}"#;
    assert_eq!(
        ask(address, "GET", "/readyz", "localhost").await,
        (503, expected.to_owned())
    );
    assert_eq!(ask(address, "GET", "/livez", "localhost").await.0, 200);
}

#[tokio::test]
async fn it_is_read_only() {
    let address = start(true).await;
    assert_eq!(ask(address, "HEAD", "/livez", "localhost").await.0, 200);
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(
            ask(address, method, "/_gw/vms/a", "localhost").await.0,
            405,
            "{method}"
        );
    }
}

#[tokio::test]
async fn strange_names_in_the_host_header_get_nothing() {
    let address = start(true).await;
    for host in [
        "localhost:9080",
        "127.0.0.1",
        "[::1]:9080",
        "[::1]",
        "gateway.test",
        "GATEWAY.test:1",
    ] {
        assert_eq!(ask(address, "GET", "/livez", host).await.0, 200, "{host}");
    }
    for host in ["evil.test", "localhost.evil.test", "127.0.0.1.evil.test"] {
        assert_eq!(ask(address, "GET", "/_gw/vms", host).await.0, 421, "{host}");
    }
}

#[tokio::test]
async fn an_open_address_must_be_wanted_in_words() {
    let config = AdminConfig {
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        ..AdminConfig::default()
    };
    let refused = Admin::bind(config, Arc::new(Views { ready: true })).await;
    assert!(matches!(refused, Err(ServerError::Config(_))));
}
