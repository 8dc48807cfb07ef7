//! one and mypage: what a machine shows, and that it is fresh.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::model::Timestamp;
use babelvisor_pve_open::Settings;
use serde_json::{Value, json};
use support::{Site, one, open, send};

#[tokio::test]
async fn a_machine_shows_what_it_is_made_of() {
    let site = Site::with(Settings {
        address: Some("desk.example.net".to_owned()),
        ..open()
    })
    .await;
    let before = Timestamp::now().as_millisecond();
    let id = site.machine().await;
    let seen = site.get(&one(&id)).await.good();
    assert_eq!(id.len(), 10);
    assert!(id.chars().all(|letter| letter.is_ascii_alphanumeric()));
    for (field, value) in [
        ("id", json!(id)),
        ("gpuConfiguration", json!("-")),
        ("gpuNumber", json!(0)),
        ("memory", json!(2)),
        ("cpu", json!(2)),
        ("rigidDisk", json!(20)),
        ("operatingSystem", json!("Debian")),
        ("hostAccount", json!("admin")),
        ("pveMachineType", json!("1")),
        ("expirationTime", Value::Null),
        ("status", json!("0")),
        ("useType", json!("0")),
        ("area", json!("2")),
        ("address", Value::Null),
        ("port", Value::Null),
    ] {
        assert_eq!(seen[field], value, "{field}");
    }
    assert!(!seen["name"].as_str().unwrap().is_empty());
    assert!(seen["mac"].as_str().unwrap().contains(':'));
    let made = seen["createTime"].as_i64().unwrap();
    assert!(
        (before..=Timestamp::now().as_millisecond()).contains(&made),
        "milliseconds"
    );

    site.on(&id).await;
    let seen = site.get(&one(&id)).await.good();
    assert_eq!(seen["status"], "2");
    assert_eq!(seen["address"], "desk.example.net");
    assert!(seen["port"].as_u64().is_some(), "{seen}");
    assert_eq!(seen["ipV4"], seen["ipv4"], "both spellings");
    let page = site.get("/v1/pve/open/mypage?page=1&pageSize=1").await.good();
    assert_eq!(page["data"][0], seen, "lists show the same fields");
}

#[tokio::test]
async fn a_term_that_ends_between_two_reads_shows_in_the_second() {
    let site = Site::open().await;
    let id = site.rented(1, 1).await;
    let end = Timestamp::now() + std::time::Duration::from_millis(400);
    let vm = site.vm(&id).id;
    let change = |record: &mut babelvisor_core::model::VmRecord| {
        record.expires_at = Some(end);
        Ok(())
    };
    site.core
        .annotate(&support::administrator(), vm, change)
        .await
        .unwrap();
    let first = site.get(&one(&id)).await.good()["status"].clone();
    assert!(first == "0" || Timestamp::now() >= end, "{first}");
    site.until_status(&id, "5").await;
    assert!(Timestamp::now() >= end);
}

#[tokio::test]
async fn pages_hold_at_most_twenty_five_machines_and_miss_none() {
    let site = Site::open().await;
    for number in 0..31 {
        site.foreign(&format!("guest-{number:02}")).await;
    }
    let page = |page: u32, size: u32| {
        let target = format!("/v1/pve/open/mypage?page={page}&pageSize={size}");
        let site = &site;
        async move { site.get(&target).await.good() }
    };
    let ids = |page: &Value| -> Vec<String> {
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (first, second, third) = (page(1, 100).await, page(2, 25).await, page(3, 25).await);
    assert_eq!(
        (ids(&first).len(), ids(&second).len(), ids(&third).len()),
        (25, 6, 0)
    );
    for page in [&first, &second, &third] {
        assert_eq!(page["totalCounts"], 31);
    }
    let mut all: Vec<String> = ids(&first).into_iter().chain(ids(&second)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 31);
    assert_eq!(ids(&page(2, 10).await), ids(&first)[10..20]);
    assert_eq!(ids(&page(999_999_999, 25).await).len(), 0);
}

#[tokio::test]
async fn page_and_size_are_required_unless_the_site_says_otherwise() {
    let site = Site::open().await;
    for query in [
        "",
        "?page=1",
        "?pageSize=10",
        "?page=0&pageSize=10",
        "?page=1&pageSize=0",
        "?page=x&pageSize=1",
        "?page=-1&pageSize=1",
        "?page=1&page=2&pageSize=1",
        "?page=99999999999999999999&pageSize=1",
    ] {
        let answer = site.get(&format!("/v1/pve/open/mypage{query}")).await;
        assert_eq!(answer.code(), 1007, "{query}");
        assert!(answer.msg().contains("page"), "{}", answer.msg());
    }
    site.foreign("guest").await;
    let frontend = site.facing(Settings {
        default_page: true,
        ..open()
    });
    let page = send(&*frontend, "GET", "/v1/pve/open/mypage", &[], b"")
        .await
        .good();
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    let answer = send(&*frontend, "GET", "/v1/pve/open/mypage?page=0", &[], b"").await;
    assert_eq!(answer.code(), 1007, "what is there must still be right");
}

#[tokio::test]
async fn reads_never_call_the_hypervisor() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    site.control.clear_call_log();
    for target in [
        one(&id),
        "/v1/pve/open/mypage?page=1&pageSize=25".to_owned(),
        "/v1/pve/open/image".to_owned(),
    ] {
        site.get(&target).await.good();
    }
    assert!(site.control.call_log().is_empty());
}

#[tokio::test]
async fn a_change_shows_in_the_next_read_although_machines_are_kept_encoded() {
    let site = Site::open().await;
    let id = site.foreign("before").await;
    assert_eq!(site.get(&one(&id)).await.good()["name"], "before");
    assert_eq!(site.get(&one(&id)).await.good()["name"], "before");
    site.control
        .rename_from_outside(site.vm(&id).id, "after")
        .unwrap();
    support::eventually("the new name is seen", || {
        (site.vm(&id).name() == "after").then_some(())
    })
    .await;
    assert_eq!(site.get(&one(&id)).await.good()["name"], "after");
}
