//! Signing in, tokens, keys, and who sees what.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::model::Role;
use babelvisor_v1_compute::Settings;
use serde_json::json;
use support::{ADMIN, HOST, Site, USER, md5_of, open, password_of, send};

const LOGIN: &str = "/v1/authentication/login";
const TENANTS: &str = "/v1/tenant/list?system=true";

#[tokio::test]
async fn the_go_clients_login_is_answered_with_all_that_it_needs() {
    let site = Site::closed().await;
    let body = json!({"User": ADMIN, "Tenant": "system", "Password": md5_of(&password_of(ADMIN))});
    // No content type, capital keys.
    let data = site.post(LOGIN, &body).await.good();
    assert_eq!(data["system_member_list"]["leader"], HOST);
    assert_eq!(data["system_member_list"]["candidates"], json!([HOST]));
    assert_eq!(data["default_cluster_uuid"], site.cluster());
    assert_eq!(
        (&data["user_name"], &data["user_role"]),
        (&json!(ADMIN), &json!("admin"))
    );
    assert_eq!(
        (&data["ldap_enabled"], &data["is_deploy_mode"]),
        (&json!(false), &json!(false))
    );
    assert!(data["token"].as_str().unwrap().len() >= 16);
}

#[tokio::test]
async fn the_documented_spelling_logs_in_too() {
    let site = Site::closed().await;
    let body =
        json!({"tenant": "home", "user": USER, "password": md5_of(&password_of(USER)), "is_ldap": false});
    let data = site.post(LOGIN, &body).await.good();
    assert_eq!(data["user_role"], "user");
}

#[tokio::test]
async fn unknown_user_other_tenant_and_wrong_password_are_one_answer() {
    let site = Site::closed().await;
    let good = md5_of(&password_of(USER));
    let attempts = [
        json!({"user": "nobody", "tenant": "home", "password": good}),
        json!({"user": USER, "tenant": "system", "password": good}),
        json!({"user": USER, "tenant": "home", "password": md5_of("something else")}),
    ];
    let mut answers = Vec::new();
    for body in &attempts {
        let answer = site.post(LOGIN, body).await;
        answers.push(answer.body.clone());
        answer.bad(10183);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(answers[0]["message_cn"], "用户不存在");
}

#[tokio::test]
async fn a_login_that_cannot_be_one_is_refused_by_its_parameter() {
    let site = Site::closed().await;
    for (body, about) in [
        (json!({"tenant": "home", "password": md5_of("x")}), "user"),
        (json!({"user": USER, "password": "in clear"}), "password"),
        (json!({"user": 7, "password": md5_of("x")}), "user"),
    ] {
        let desc = site.post(LOGIN, &body).await.bad(10001);
        assert!(desc.contains(about), "{desc}");
        assert!(!desc.contains("in clear"), "a password is not repeated: {desc}");
    }
    let ldap = json!({"user": USER, "password": md5_of(&password_of(USER)), "is_ldap": true});
    site.post(LOGIN, &ldap).await.bad(22005);
}

#[tokio::test]
async fn without_a_good_token_or_key_nothing_is_answered() {
    let site = Site::closed().await;
    for headers in [
        vec![],
        vec![("authorization", "Bearer not-a-token-of-ours")],
        vec![("authorization", "Basic YWRtaW46YWRtaW4=")],
        vec![("apikey", "6f1c2a54-9d0b-4c9e-8a37-51e60b7dc2f4")],
        vec![("apikey", "nonsense")],
    ] {
        let answer = site.send("GET", TENANTS, &headers, b"").await;
        answer.bad(10002);
    }
}

#[tokio::test]
async fn a_key_is_made_shown_again_and_enough_on_its_own() {
    let site = Site::closed().await;
    let client = site.client(USER).await;
    assert_eq!(
        client.get("/v1/apikey/list").await.good(),
        json!({"list": [], "total_count": 0})
    );
    let made = client.post("/v1/apikey/create", &json!({})).await.good();
    let key = made["uuid"].as_str().unwrap().to_owned();
    let listed = client.get("/v1/apikey/list").await.good();
    assert_eq!(listed, json!({"list": [{"uuid": key}], "total_count": 1}));
    for header in ["ApiKey", "Apikey", "apikey"] {
        site.send("GET", TENANTS, &[(header, &key)], b"").await.good();
    }
    // The desktop client sends both, and its token may have ended.
    let both = [
        ("authorization", "Bearer ended"),
        ("apikey", key.as_str()),
        ("remote_addr", "192.0.2.1"),
    ];
    site.send("GET", TENANTS, &both, b"").await.good();
    let other = site.client(ADMIN).await;
    assert_eq!(
        other.get("/v1/apikey/list").await.good()["total_count"],
        0,
        "keys are the account's own"
    );
}

#[tokio::test]
async fn a_logout_ends_the_token_and_nothing_else() {
    let site = Site::closed().await;
    let (first, second) = (site.client(USER).await, site.client(USER).await);
    first.get(TENANTS).await.good();
    assert_eq!(
        first.post("/v1/authentication/logout", &json!({})).await.good(),
        json!("")
    );
    first.get(TENANTS).await.bad(10002);
    second.get(TENANTS).await.good();
}

#[tokio::test]
async fn a_token_lives_as_long_as_the_site_says() {
    let site = Site::closed().await;
    let frontend = site.facing(Settings {
        token_seconds: 1,
        ..Settings::default()
    });
    let body = json!({"user": USER, "password": md5_of(&password_of(USER))}).to_string();
    let login = send(&*frontend, "POST", LOGIN, &[], body.as_bytes()).await.good();
    let bearer = format!("Bearer {}", login["token"].as_str().unwrap());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let answer = send(&*frontend, "GET", TENANTS, &[("authorization", &bearer)], b"").await;
        if answer.scode() == 10002 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it never ended");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_viewer_reads_and_changes_nothing() {
    let site = Site::closed().await;
    site.account("guard", "home", Role::Viewer).await;
    let client = site.client("guard").await;
    client.get("/v1/pool/internal/list").await.good();
    let body = json!({"volume_name": "data", "capacity": 1 << 30, "pool_uuid": site.pool()});
    client.post("/v1/volume/internal/create", &body).await.bad(10003);
    client
        .post("/v1/trash/delete", &json!({"objects": []}))
        .await
        .bad(10003);
    assert!(site.control.call_log().is_empty());
}

#[tokio::test]
async fn an_open_site_asks_for_nothing_and_still_knows_those_who_sign_in() {
    let site = Site::with(open()).await;
    site.account(ADMIN, "system", Role::Admin).await;
    let names = |data: serde_json::Value| -> Vec<String> {
        let list = data["list"].as_array().unwrap().clone();
        list.iter()
            .map(|tenant| tenant["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(site.get(TENANTS).await.good()), ["home"]);
    let admin = site.client(ADMIN).await;
    assert!(names(admin.get(TENANTS).await.good()).contains(&"system".to_owned()));
    site.post("/v1/apikey/create", &json!({})).await.bad(10002);
}
