//! Volumes as objects, and the recycle bin.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use serde_json::{Value, json};
use support::{ADMIN, GIB, Site, USER};

const CREATE: &str = "/v1/volume/internal/create";
const LIST: &str = "/v1/volume/internal/list";
const DELETE: &str = "/v1/volume/internal/delete";

async fn volume(site: &Site, name: &str) -> String {
    let body = json!({"volume_name": name, "capacity": GIB, "snap_capacity": 3 * GIB, "pool_uuid": site.pool(),
        "attribute": {"DriveType": "HDD"}});
    let made = site.post(CREATE, &body).await.only();
    assert_eq!(made["scode"], 0, "{made}");
    made["data"]["volume_uuid"].as_str().unwrap().to_owned()
}

fn names(data: &Value) -> Vec<String> {
    let list = data["List"].as_array().expect("a list");
    list.iter()
        .map(|one| one["Name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_volume_is_made_and_found_under_both_forms_of_its_answer() {
    let site = Site::open().await;
    let body = json!({"volume_name": "data", "capacity": GIB, "pool_uuid": site.pool(), "attribute": {"DriveType": "HDD"}});
    let made = site.post(CREATE, &body).await.only();
    assert_eq!(made["data"]["volume_uuid"], made["data"]["volume"]["uuid"]);
    let uuid = made["data"]["volume_uuid"].as_str().unwrap();
    let got = site
        .get(&format!("/v1/volume/internal/get?volume_uuid={uuid}"))
        .await
        .good();
    assert_eq!((&got["Name"], &got["Capacity"]), (&json!("data"), &json!(GIB)));
    assert_eq!(
        (&got["Attr"], &got["Status"]),
        (&json!({"DriveType": "HDD"}), &json!("healthy"))
    );
    assert_eq!((&got["used"], &got["owner"]), (&json!(false), &json!("")));
    let pools = site.get("/v1/pool/internal/list").await.good();
    assert_eq!(pools["List"][0]["volume_num"], 1);
}

#[tokio::test]
async fn several_volumes_get_numbers() {
    let site = Site::open().await;
    let body = json!({"volume_name": "data", "count": 3, "capacity": GIB, "pool_uuid": site.pool()});
    let made = site.post(CREATE, &body).await.good();
    assert_eq!((&made["success"], &made["fail"]), (&json!(3), &json!(0)));
    let listed = site.get(LIST).await.good();
    assert_eq!(names(&listed), ["data-0001", "data-0002", "data-0003"]);
    assert_eq!(listed["TotalCount"], 3);
    let page = site.get(&format!("{LIST}?page_num=1&page_size=2")).await.good();
    assert_eq!(
        (names(&page), &page["TotalCount"]),
        (vec!["data-0003".to_owned()], &json!(3))
    );
}

#[tokio::test]
async fn a_volume_that_cannot_be_made_fails_in_its_own_result() {
    let site = Site::open().await;
    let body = json!({"volume_name": "data", "capacity": GIB << 20, "pool_uuid": site.pool()});
    let failed = site.post(CREATE, &body).await.only();
    assert_ne!(failed["scode"], 0);
    assert_eq!(
        failed["data"]["volume_name"], "data",
        "a failed item still says what it is about"
    );
    assert_eq!(names(&site.get(LIST).await.good()), Vec::<String>::new());
}

#[tokio::test]
async fn parameters_that_cannot_be_meant_are_refused_before_anything_is_done() {
    let site = Site::open().await;
    let pool = site.pool();
    for (body, scode) in [
        (
            json!({"volume_name": "data", "capacity": 0, "pool_uuid": pool}),
            10001,
        ),
        (
            json!({"volume_name": "data", "capacity": "much", "pool_uuid": pool}),
            10001,
        ),
        (
            json!({"volume_name": "", "capacity": GIB, "pool_uuid": pool}),
            10001,
        ),
        (json!({"capacity": GIB, "pool_uuid": pool}), 10001),
        (
            json!({"volume_name": "data", "count": 101, "capacity": GIB, "pool_uuid": pool}),
            10001,
        ),
        (
            json!({"volume_name": "data", "capacity": GIB, "pool_uuid": "default"}),
            10001,
        ),
        (
            json!({"volume_name": "data", "capacity": GIB, "pool_uuid": "0b7dc2f4-9d0b-4c9e-8a37-51e60b7dc2f4"}),
            22001,
        ),
    ] {
        site.post(CREATE, &body).await.bad(scode);
    }
    assert!(
        site.control.call_log().is_empty(),
        "{:?}",
        site.control.call_log()
    );
}

#[tokio::test]
async fn a_deleted_volume_lies_in_the_bin_and_comes_back() {
    let site = Site::open().await;
    let uuid = volume(&site, "data").await;
    site.post(DELETE, &json!({"volume_uuid": uuid, "volume_name": "data"}))
        .await
        .good();
    assert_eq!(site.get(LIST).await.good()["TotalCount"], 0);
    site.get(&format!("/v1/volume/internal/get?volume_uuid={uuid}"))
        .await
        .bad(22001);
    let bin = site.get("/v1/trash/list?filter_object_type=1").await.good();
    assert_eq!(
        (&bin["total_count"], &bin["list"][0]["uuid"]),
        (&json!(1), &json!(uuid))
    );
    let nanoseconds = bin["list"][0]["delete_time"].as_i64().unwrap();
    let seconds = bin["list"][0]["create_time"].as_i64().unwrap();
    assert!(
        (0..60).contains(&(nanoseconds / 1_000_000_000 - seconds)),
        "{nanoseconds} and {seconds}"
    );
    assert_eq!(
        site.get("/v1/trash/list?filter_object_type=2").await.good()["total_count"],
        0
    );
    let objects = json!({"objects": [{"uuid": uuid, "type": 1, "namespace_uuid": null}]});
    assert_eq!(site.post("/v1/trash/restore", &objects).await.only()["scode"], 0);
    assert_eq!(names(&site.get(LIST).await.good()), ["data"]);
    let again = site.post("/v1/trash/restore", &objects).await.only();
    assert_eq!(
        (&again["scode"], &again["data"]["uuid"]),
        (&json!(22001), &json!(uuid))
    );
}

#[tokio::test]
async fn the_bin_is_emptied_for_good() {
    let site = Site::open().await;
    let uuid = volume(&site, "data").await;
    site.post(DELETE, &json!({"volume_uuid": uuid})).await.good();
    let objects = json!({"objects": [{"uuid": uuid, "type": 1}, {"uuid": uuid, "type": 7}]});
    let emptied = site.post("/v1/trash/delete", &objects).await.good();
    assert_eq!((&emptied["success"], &emptied["fail"]), (&json!(1), &json!(1)));
    assert_eq!(emptied["results"][1]["scode"], 10001);
    assert_eq!(site.get("/v1/trash/list").await.good()["total_count"], 0);
    site.post(DELETE, &json!({"volume_uuid": uuid, "real_delete": true}))
        .await
        .bad(22001);
    site.post("/v1/trash/delete", &json!({"objects": []}))
        .await
        .bad(10001);
}

#[tokio::test]
async fn a_volume_is_deleted_for_good_at_once_on_request() {
    let site = Site::open().await;
    let uuid = volume(&site, "data").await;
    site.post(DELETE, &json!({"volume_uuid": uuid, "real_delete": true}))
        .await
        .good();
    assert_eq!(site.get("/v1/trash/list").await.good()["total_count"], 0);
    site.get(&format!("/v1/volume/internal/get?volume_uuid={uuid}"))
        .await
        .bad(22001);
}

#[tokio::test]
async fn the_volumes_of_another_tenant_do_not_exist() {
    let site = Site::closed().await;
    let (user, admin) = (site.client(USER).await, site.client(ADMIN).await);
    let body = json!({"volume_name": "office", "capacity": GIB, "pool_uuid": site.pool()});
    let made = admin.post(CREATE, &body).await.only();
    let uuid = made["data"]["volume_uuid"].as_str().unwrap();
    assert_eq!(user.get(LIST).await.good()["TotalCount"], 0);
    user.post(DELETE, &json!({"volume_uuid": uuid})).await.bad(22001);
    let home = user.get("/v1/tenant/list").await.good()["list"][0]["uuid"].clone();
    let body = json!({"volume_name": "theirs", "capacity": GIB, "pool_uuid": site.pool(), "tenant": home});
    admin.post(CREATE, &body).await.only();
    assert_eq!(
        names(&user.get(LIST).await.good()),
        ["theirs"],
        "an administrator acts in any tenant"
    );
    let system = admin
        .get("/v1/tenant/list?system=true&filter_name=system")
        .await
        .good()["list"][0]["uuid"]
        .clone();
    let body = json!({"volume_name": "mine", "capacity": GIB, "pool_uuid": site.pool(), "tenant": system});
    user.post(CREATE, &body).await.bad(22001);
}
