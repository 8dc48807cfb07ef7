//! Tokens, roles, tenants: who may do what, and whose machines he sees.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::time::{Duration, Instant};

use babelvisor_core::model::Role;
use babelvisor_core::secret::sha256_hex;
use babelvisor_core::store::{Expect, RecordKind, Write};
use babelvisor_pve_open::Settings;
use serde_json::{Value, json};
use support::{CREATE, KEY, RENT, Site, USER, open, send};

const IMAGES: &str = "/v1/pve/open/image";
const TOKEN: &str = "/v1/auth/getToken";
const LIST: &str = "/v1/pve/open/mypage?page=1&pageSize=25";

async fn site() -> Site {
    let site = Site::with(Settings::default()).await;
    site.account(USER, "home", Role::User).await;
    site
}

#[tokio::test]
async fn the_newest_edition_gets_the_token_in_an_object() {
    let site = site().await;
    let data = site
        .post(TOKEN, &json!({"uuid": USER, "secret": KEY}))
        .await
        .good();
    assert_eq!(data["effectiveTime"], 1_800_000, "30 minutes in milliseconds");
    assert!(data["token"].as_str().unwrap().len() >= 20);
}

#[tokio::test]
async fn the_first_edition_gets_the_bare_token() {
    let site = site().await;
    for body in [
        json!({"uuid": USER, "secret": KEY, "nonce": "x1", "timeMap": "1695639270000"}),
        json!({"uuid": USER, "secret": KEY, "nonce": "x1"}),
        json!({"uuid": USER, "secret": KEY, "timeMap": ""}),
    ] {
        let data = site.post(TOKEN, &body).await.good();
        let token = data.as_str().expect("text");
        site.as_token(token, "GET", IMAGES, b"").await.good();
    }
}

#[tokio::test]
async fn a_token_is_taken_from_each_header_that_an_edition_names() {
    let site = site().await;
    let token = site.token(USER).await;
    let bearer = format!("Bearer {token}");
    for header in [
        ("finovy-access-token", token.as_str()),
        ("authorization-token", token.as_str()),
        ("authorization", bearer.as_str()),
    ] {
        site.send("GET", IMAGES, &[header], b"").await.good();
    }
}

#[tokio::test]
async fn without_a_good_token_every_call_answers_401_with_that_status() {
    let site = site().await;
    let headers: [&[(&str, &str)]; 4] = [
        &[],
        &[("finovy-access-token", "made-up-token-0000000")],
        &[("authorization", "Basic QTI3NTUwNTgyOng=")],
        &[("finovy-access-token", "")],
    ];
    for headers in headers {
        for (method, target) in [
            ("GET", IMAGES),
            ("GET", LIST),
            ("GET", "/v1/pve/open/packAge/9"),
            ("GET", "/v1/pve/open/one/QzyHraLXEr"),
            ("GET", "/v1/pve/open/operate/QzyHraLXEr?type=7"),
            ("GET", "/v1/pve/open/reboot/QzyHraLXEr"),
            ("DELETE", "/v1/pve/open/delete/QzyHraLXEr"),
            ("POST", CREATE),
            ("POST", RENT),
        ] {
            let answer = site.send(method, target, headers, b"not even JSON").await;
            assert_eq!((answer.status, answer.code()), (401, 401), "{method} {target}");
            assert_eq!(answer.msg(), "身份认证失败");
            assert_eq!(answer.data(), &Value::Null);
        }
    }
}

#[tokio::test]
async fn a_wrong_key_and_an_unknown_account_are_told_alike() {
    let site = site().await;
    let wrong = site.post(TOKEN, &json!({"uuid": USER, "secret": "wrong"})).await;
    let unknown = site
        .post(TOKEN, &json!({"uuid": "A00000000", "secret": KEY}))
        .await;
    assert_eq!((wrong.status, wrong.code(), wrong.msg()), (200, 1001, "权限不足"));
    assert_eq!(wrong.body, unknown.body);
    for (body, field) in [
        (json!({"secret": KEY}), "uuid"),
        (json!({"uuid": USER}), "secret"),
    ] {
        let answer = site.post(TOKEN, &body).await;
        assert_eq!(answer.code(), 1007);
        assert_eq!(answer.msg(), format!("请求缺少必要参数: {field} is missing"));
    }
}

#[tokio::test]
async fn a_token_ends_with_its_life_although_it_is_remembered() {
    let site = Site::with(Settings {
        token_seconds: 1,
        ..Settings::default()
    })
    .await;
    site.account(USER, "home", Role::User).await;
    let made = Instant::now();
    let token = site.token(USER).await;
    let deadline = Instant::now() + Duration::from_secs(4);
    loop {
        let answer = site.as_token(&token, "GET", IMAGES, b"").await;
        if answer.code() == 401 {
            break;
        }
        assert_eq!(answer.code(), 0);
        assert!(Instant::now() < deadline, "sooner than it is forgotten");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(made.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_good_token_is_remembered_for_a_moment_without_asking_the_store() {
    let site = site().await;
    let (used, unused) = (site.token(USER).await, site.token(USER).await);
    site.as_token(&used, "GET", IMAGES, b"").await.good();
    let removals = [&used, &unused].map(|token| Write {
        kind: RecordKind::Session,
        key: sha256_hex(token),
        expect: Expect::Any,
        value: None,
    });
    site.core
        .registry()
        .store()
        .commit(removals.into())
        .await
        .unwrap();
    site.as_token(&used, "GET", IMAGES, b"").await.good();
    assert_eq!(site.as_token(&unused, "GET", IMAGES, b"").await.code(), 401);
}

#[tokio::test]
async fn a_viewer_reads_and_changes_nothing() {
    let site = site().await;
    site.account("viewer", "home", Role::Viewer).await;
    let id = site.foreign("guest").await;
    let token = site.token("viewer").await;
    site.control.clear_call_log();
    for target in [IMAGES, LIST, &format!("/v1/pve/open/one/{id}")] {
        site.as_token(&token, "GET", target, b"").await.good();
    }
    let body = site.by_use().to_string();
    for (method, target, body) in [
        ("POST", CREATE.to_owned(), body.as_str()),
        ("POST", RENT.to_owned(), "{}"),
        ("GET", format!("/v1/pve/open/operate/{id}?type=1"), ""),
        ("GET", format!("/v1/pve/open/operate/{id}?type=0"), ""),
        ("GET", format!("/v1/pve/open/reboot/{id}"), ""),
        ("DELETE", format!("/v1/pve/open/delete/{id}"), ""),
    ] {
        let answer = site.as_token(&token, method, &target, body.as_bytes()).await;
        assert_eq!(
            (answer.status, answer.code(), answer.msg()),
            (200, 1001, "权限不足"),
            "{method} {target}"
        );
    }
    assert!(site.control.call_log().is_empty());
    assert_eq!(site.all().len(), 1);
}

#[tokio::test]
async fn the_machines_of_another_tenant_do_not_exist() {
    let site = site().await;
    site.account("neighbour", "next-door", Role::User).await;
    site.account("operator", "office", Role::Admin).await;
    let (own, other, all) = (
        site.token(USER).await,
        site.token("neighbour").await,
        site.token("operator").await,
    );
    let body = site.by_use().to_string();
    site.as_token(&own, "POST", CREATE, body.as_bytes()).await.good();
    let id = site.all()[0].record.short_id.clone();
    site.settled(&id).await;
    site.control.clear_call_log();
    for (method, target) in [
        ("GET", format!("/v1/pve/open/one/{id}")),
        ("GET", format!("/v1/pve/open/operate/{id}?type=1")),
        ("GET", format!("/v1/pve/open/reboot/{id}")),
        ("DELETE", format!("/v1/pve/open/delete/{id}")),
    ] {
        let theirs = site.as_token(&other, method, &target, b"").await;
        let unknown = site
            .as_token(&other, method, &target.replace(&id, "Unknown001"), b"")
            .await;
        assert_eq!((theirs.code(), theirs.msg()), (1021, "机器不存在"));
        assert_eq!(theirs.body, unknown.body, "nothing tells one from the other");
    }
    assert!(site.control.call_log().is_empty());
    assert_eq!(
        site.as_token(&other, "GET", LIST, b"").await.good()["totalCounts"],
        0
    );
    assert_eq!(
        site.as_token(&own, "GET", LIST, b"").await.good()["totalCounts"],
        1
    );
    assert_eq!(
        site.as_token(&all, "GET", LIST, b"").await.good()["totalCounts"],
        1
    );
}

#[tokio::test]
async fn a_machine_that_was_found_belongs_to_the_tenant_of_found_machines() {
    let site = site().await;
    site.account("neighbour", "next-door", Role::User).await;
    let id = site.foreign("guest").await;
    let (own, other) = (site.token(USER).await, site.token("neighbour").await);
    let target = format!("/v1/pve/open/one/{id}");
    assert_eq!(
        site.as_token(&own, "GET", &target, b"").await.good()["name"],
        "guest"
    );
    assert_eq!(site.as_token(&other, "GET", &target, b"").await.code(), 1021);
}

#[tokio::test]
async fn without_sign_in_everybody_acts_for_the_configured_tenant() {
    let site = Site::open().await;
    site.foreign("guest").await;
    assert_eq!(site.get(LIST).await.good()["totalCounts"], 1);
    let elsewhere = site.facing(Settings {
        tenant: "elsewhere".to_owned(),
        ..open()
    });
    assert_eq!(
        send(&*elsewhere, "GET", LIST, &[], b"").await.good()["totalCounts"],
        0
    );
}

#[tokio::test]
async fn renting_may_need_a_verified_holder() {
    let site = Site::with(Settings {
        require_verified_identity: true,
        ..Settings::default()
    })
    .await;
    site.new_account(USER, "home", Role::User, true, None).await;
    site.new_account("unverified", "home", Role::User, false, None)
        .await;
    let (verified, unverified) = (site.token(USER).await, site.token("unverified").await);
    let (rent, by_use) = (site.rent(1, 1).to_string(), site.by_use().to_string());
    let refused = site.as_token(&unverified, "POST", RENT, rent.as_bytes()).await;
    assert_eq!((refused.code(), refused.msg()), (1037, "未进行实名认证"));
    assert!(site.all().is_empty());
    site.as_token(&unverified, "POST", CREATE, by_use.as_bytes())
        .await
        .good();
    site.as_token(&verified, "POST", RENT, rent.as_bytes())
        .await
        .good();
}

#[tokio::test]
async fn a_tenant_whose_quota_is_used_up_gets_no_more() {
    let site = Site::with(Settings::default()).await;
    site.new_account(USER, "home", Role::User, true, Some(1)).await;
    let token = site.token(USER).await;
    let (by_use, rent) = (site.by_use().to_string(), site.rent(1, 1).to_string());
    site.as_token(&token, "POST", CREATE, by_use.as_bytes())
        .await
        .good();
    for (path, body) in [(CREATE, by_use), (RENT, rent)] {
        let answer = site.as_token(&token, "POST", path, body.as_bytes()).await;
        assert_eq!((answer.code(), answer.msg()), (6002, "资源不足, 请重新选择配置"));
    }
    assert_eq!(site.all().len(), 1);
}
