//! Lists and searches: pages and their links, order, filter, and that lists follow what happens.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::model::PowerState;
use babelvisor_guest_rest::Settings;
use babelvisor_memory::{Control, ForeignVm, MemoryConfig};
use serde_json::{Value, json};
use support::{NOBODY, Site, eventually, send};

const FIELDS: [&str; 17] = [
    "id",
    "uuid",
    "name",
    "password",
    "remark",
    "os_template_id",
    "create_time",
    "status",
    "on_host",
    "cpu",
    "memory",
    "ip",
    "network",
    "manage_network",
    "vnc_port",
    "vnc_password",
    "xml",
];

/// A site with `count` guests that were there before the gateway; of four, three run.
async fn populated(count: u32) -> Site {
    let site = Site::with(
        Settings::default(),
        MemoryConfig {
            vms: count,
            ..MemoryConfig::default()
        },
    )
    .await;
    eventually("all are adopted", || {
        (site.core.now().by_number.len() == count as usize).then_some(())
    })
    .await;
    site
}

fn ids(body: &Value) -> Vec<u64> {
    body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|guest| guest["id"].as_u64().unwrap())
        .collect()
}

fn names(body: &Value) -> Vec<&str> {
    body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|guest| guest["name"].as_str().unwrap())
        .collect()
}

async fn named(site: &Site, names: &[&str]) {
    for name in names {
        site.foreign(ForeignVm::named(*name)).await;
    }
}

#[tokio::test]
async fn lists_are_cut_into_pages() {
    let site = populated(10).await;
    let answer = site.get("/api/guests").await;
    assert_eq!(ids(&answer.body), (1..=10).collect::<Vec<_>>());
    let paging = &answer.body["paging"];
    let numbers =
        ["total", "offset", "limit", "page", "page_size"].map(|name| paging[name].as_u64().unwrap());
    assert_eq!(numbers, [10, 0, 50, 1, 50]);
    let link = "http://gw.example:8008/api/guests?page=1&page_size=50&filter=&order=asc&order_by=id";
    for name in ["first", "prev", "next", "last"] {
        assert_eq!(paging[name], link);
    }

    assert_eq!(
        ids(&site.get("/api/guests?page=2&page_size=3").await.body),
        [4, 5, 6]
    );
    assert_eq!(
        ids(&site.get("/api/guests?page=2&page_size=3&limit=2").await.body),
        [4, 5]
    );
    assert_eq!(
        ids(&site.get("/api/guests?page=2&page_size=3&offset=1").await.body),
        [2, 3, 4]
    );
    assert_eq!(
        ids(&site.get("/api/guests?order=desc&limit=2").await.body),
        [10, 9]
    );
    assert_eq!(
        ids(&site.get("/api/guests?order=desc&offset=8").await.body),
        [2, 1]
    );
    assert_eq!(ids(&site.get("/api/guests?limit=0").await.body), [0; 0]);
    let beyond = site.get("/api/guests?page=9&page_size=4").await;
    assert_eq!(ids(&beyond.body), [0; 0]);
    let last = "http://gw.example:8008/api/guests?page=3&page_size=4&filter=&order=asc&order_by=id";
    assert_eq!(
        (&beyond.body["paging"]["next"], &beyond.body["paging"]["last"]),
        (&json!(last), &json!(last))
    );
    assert_eq!(
        ids(&site
            .get("/api/guests?limit=99999999999999999&unknown=1")
            .await
            .body)
        .len(),
        10
    );
}

#[tokio::test]
async fn a_list_without_guests_has_a_page_zero() {
    let site = Site::new().await;
    let answer = site.get("/api/guests").await;
    assert_eq!(answer.body["data"], json!([]));
    let paging = &answer.body["paging"];
    for name in ["next", "last"] {
        assert!(paging[name].as_str().unwrap().contains("?page=0&"), "{paging}");
    }
    site.get("/api/guests?page=0").await.refused("412/41209");
}

#[tokio::test]
async fn odd_numbers_and_orders_are_refused() {
    let site = populated(2).await;
    for name in ["page", "page_size", "offset", "limit"] {
        for odd in [
            "-1",
            "x",
            "",
            "1.5",
            "1e3",
            "%31%20",
            "999999999999999999",
            "%D9%A1",
        ] {
            site.get(&format!("/api/guests?{name}={odd}"))
                .await
                .refused("412/41209");
        }
    }
    for zero in ["page=0", "page_size=0"] {
        site.get(&format!("/api/guests?{zero}"))
            .await
            .refused("412/41209");
    }
    for odd in [
        "order_by=colour",
        "order_by=",
        "order_by=id%20desc",
        "order=DESC",
        "order=up",
        "order_by=ID",
    ] {
        site.get(&format!("/api/guests?{odd}")).await.refused("412/41203");
    }
    assert_eq!(
        site.get("/api/guests?limit=1&limit=x").await.body["data"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn every_field_orders_a_list_and_ties_go_by_id() {
    let site = Site::new().await;
    named(&site, &["beta", "Alpha", "gamma", "alpha"]).await;
    for field in FIELDS {
        for order in ["asc", "desc"] {
            let answer = site
                .get(&format!("/api/guests?order_by={field}&order={order}"))
                .await;
            let link = answer.body["paging"]["first"].as_str().unwrap().to_owned();
            assert!(
                link.ends_with(&format!("&order={order}&order_by={field}")),
                "{link}"
            );
            assert_eq!(ids(&answer.body).len(), 4);
        }
    }
    let by_name = site.get("/api/guests?order_by=name").await.body;
    assert_eq!(
        names(&by_name),
        ["Alpha", "alpha", "beta", "gamma"],
        "letter case does not count, ids decide"
    );
    assert_eq!(
        names(
            &site
                .get("/api/guests?order_by=name&order=desc&limit=1")
                .await
                .body
        ),
        ["gamma"]
    );
    assert_eq!(
        ids(&site.get("/api/guests?order_by=cpu&order=desc").await.body),
        [1, 2, 3, 4]
    );
}

#[tokio::test]
async fn filters_narrow_a_list() {
    let site = Site::new().await;
    named(&site, &["web-1", "Web-2", "db_1"]).await;
    let uuid = support::uuid_of(&site.get("/api/guests").await.body["data"][2]);
    site.patch(&uuid, &json!({"remark": "50% of it"})).await.good();
    let cases: [(&str, &[u64]); 19] = [
        ("name:eq:web-2", &[2]),
        ("name:like:WEB", &[1, 2]),
        ("name:LIKE:b_", &[3]),
        ("name:ne:web-1", &[2, 3]),
        ("name:in:web-1,db_1", &[1, 3]),
        ("name:notin:web-1,db_1", &[2]),
        ("name:gt:web-1", &[2]),
        ("name:lt:web-1", &[3]),
        ("remark:like:50%25", &[3]),
        ("remark:like:%25it", &[]),
        ("on_host:eq:HOST-1", &[1, 2, 3]),
        ("name:like:web;name:like:2", &[2]),
        ("id:eq:2", &[2]),
        ("status:eq:1", &[1, 2, 3]),
        ("cpu:eq:99", &[1, 2, 3]),
        ("name:is:web-1", &[1, 2, 3]),
        ("name:eq:web%20x", &[1, 2, 3]),
        ("name:eq:a:b", &[1, 2, 3]),
        ("nonsense;name:eq:web-1", &[1]),
    ];
    for (filter, expected) in cases {
        let answer = site.get(&format!("/api/guests?filter={filter}")).await;
        assert_eq!(ids(&answer.body), expected, "{filter}");
        assert_eq!(answer.body["paging"]["total"], expected.len(), "{filter}");
    }
    assert_eq!(
        ids(&site.get(&format!("/api/guests?filter=uuid:eq:{uuid}")).await.body),
        [3]
    );
    let encoded = site.get("/api/guests?filter=name%3Alike%3Aweb").await;
    let first = encoded.body["paging"]["first"].as_str().unwrap().to_owned();
    assert!(
        first.contains("&filter=name:like:web&"),
        "links are not percent-encoded: {first}"
    );
}

#[tokio::test]
async fn a_search_looks_into_four_fields() {
    let site = Site::new().await;
    named(&site, &["web-1", "Web-2", "db"]).await;
    let uuid = support::uuid_of(&site.get("/api/guests").await.body["data"][2]);
    site.patch(&uuid, &json!({"remark": "behind the WEB"}))
        .await
        .good();
    assert_eq!(
        ids(&site.get("/api/guests/_search?keyword=web").await.body),
        [1, 2, 3]
    );
    assert_eq!(
        ids(&site.get("/api/guests/_search?keyword=host-1&limit=1").await.body),
        [1]
    );
    assert_eq!(
        ids(&site.get("/api/guests/_search?keyword=%25").await.body),
        [0; 0]
    );
    let answer = site
        .get("/api/guests/_search?keyword=web&page_size=2&order=desc")
        .await;
    assert_eq!(ids(&answer.body), [3, 2]);
    let next =
        "http://gw.example:8008/api/guests/_search?page=2&page_size=2&keyword=web&order=desc&order_by=id";
    assert_eq!(answer.body["paging"]["next"], next);
    assert_eq!(
        site.get("/api/guests/_search")
            .await
            .refused("412/41201")
            .sub_text(),
        "缺少参数keyword"
    );
    site.get("/api/guests/_search?keyword=a&page=0")
        .await
        .refused("412/41209");
}

#[tokio::test]
async fn changes_from_outside_are_seen_in_lists_that_were_read_before() {
    let site = Site::new().await;
    let uuid = site.foreign(ForeignVm::named("web")).await;
    assert_eq!(site.get("/api/guests").await.good()[0]["status"], 1);
    let id = site.vm(&uuid).id;
    let control: &Control = &site.control;
    control.power_from_outside(id, PowerState::Off).unwrap();
    site.until_status(&uuid, 5).await;
    assert_eq!(site.get("/api/guests").await.good()[0]["status"], 5);
    control.rename_from_outside(id, "renamed").unwrap();
    eventually("the rename is seen", || {
        (site.vm(&uuid).name() == "renamed").then_some(())
    })
    .await;
    assert_eq!(site.get("/api/guests").await.good()[0]["name"], "renamed");
    control.remove_from_outside(id).unwrap();
    site.gone(&uuid).await;
    assert_eq!(site.get("/api/guests").await.body["paging"]["total"], 0);
    site.get(&format!("/api/guest/{uuid}")).await.refused("404/40401");
}

#[tokio::test]
async fn reads_never_ask_the_hypervisor() {
    let site = populated(5).await;
    site.control.clear_call_log();
    site.get("/api/guests").await.good();
    site.get("/api/guests?order_by=xml&filter=name:like:vm")
        .await
        .good();
    site.get("/api/guests/_search?keyword=vm").await.good();
    site.get(&format!("/api/guest/{NOBODY}")).await;
    assert_eq!(site.control.call_log(), []);
}

#[tokio::test]
async fn a_cache_without_room_answers_the_same() {
    let site = populated(40).await;
    let small = site.facing(Settings {
        cache_mib: 0,
        ..Settings::default()
    });
    for target in [
        "/api/guests",
        "/api/guests?order_by=name&order=desc&page_size=7&page=3",
    ] {
        let kept = site.get(target).await;
        let again = site.get(target).await;
        let fresh = send(&*small, "GET", target, &[], b"").await;
        assert_eq!(kept.bytes, fresh.bytes);
        assert_eq!(kept.bytes, again.bytes);
    }
}
