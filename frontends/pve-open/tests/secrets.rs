//! Passwords, keys and tokens reach their owner and nobody else: alone in its program, because it reads the
//! whole process's log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use babelvisor_core::model::Role;
use babelvisor_pve_open::Settings;
use serde_json::json;
use support::{KEY, Site, USER};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_secret_is_logged_at_any_level() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .init();

    let site = Site::with(Settings::default()).await;
    site.account(USER, "home", Role::User).await;
    let token = site.token(USER).await;
    let wrong = "wrong-key-that-nobody-may-read";
    assert_eq!(
        site.post("/v1/auth/getToken", &json!({"uuid": USER, "secret": wrong}))
            .await
            .code(),
        1001
    );
    let long = "x".repeat(600) + wrong;
    let answer = site
        .post("/v1/auth/getToken", &json!({"uuid": USER, "secret": long}))
        .await;
    assert_eq!(answer.code(), 1007);
    assert!(!answer.body.to_string().contains(wrong), "nor is it sent back");

    let body = site.by_use().to_string();
    site.as_token(&token, "POST", "/v1/pve/open/createquantity", body.as_bytes())
        .await
        .good();
    let id = site.all()[0].record.short_id.clone();
    let vm = site.settled(&id).await;
    let target = format!("/v1/pve/open/one/{id}");
    let seen = site.as_token(&token, "GET", &target, b"").await.good();
    let password = seen["hostPw"].as_str().unwrap().to_owned();
    site.as_token(&token, "DELETE", &format!("/v1/pve/open/delete/{id}"), b"")
        .await
        .good();
    site.as_token("made-up-token-0000000", "GET", &target, b"").await;

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("createquantity"), "the log was read");
    for secret in [KEY, wrong, &token, &password, "made-up-token-0000000"] {
        assert!(!text.contains(secret), "a secret is in the log");
        assert!(!format!("{vm:?}").contains(secret), "a secret is in a debug form");
    }
}
