//! What clients look up before they make a machine, with the queries that they send.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use serde_json::{Value, json};
use support::{ADMIN, GIB, HOST, Site, USER};

fn names(data: &Value, list: &str, name: &str) -> Vec<String> {
    let list = data[list].as_array().expect("a list");
    list.iter()
        .map(|one| one[name].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_go_clients_sequence_finds_all_that_a_machine_needs() {
    let site = Site::closed().await;
    let client = site.client(ADMIN).await;
    let cluster = site.cluster();
    let tenants = client
        .get("/v1/tenant/list?filter_name=home&page_num=0&page_size=0&system=true")
        .await
        .good();
    assert_eq!(names(&tenants, "list", "name"), ["home"]);
    let tenant = tenants["list"][0]["uuid"].as_str().unwrap().to_owned();
    let specifications = client
        .get("/v1/specification/unified_vm/list?filter_name=small&include_share=true&page_num=0&page_size=0&tenant")
        .await
        .good();
    assert_eq!(specifications["total_count"], 1);
    let spec = &specifications["list"][0]["unified_vm_spec"];
    assert_eq!((&spec["cpunr"], &spec["mem_size"]), (&json!(1), &json!(GIB)));
    let repositories = client
        .post(
            "/v1/compute/repository/list",
            &json!({"page_num": 0, "page_size": 0, "cluster_uuid": cluster, "tenant": tenant,
                "filter_usage": "image", "filter_name": "default", "filter_type": "", "cap": 0, "repo_type": ""}),
        )
        .await
        .good();
    assert_eq!(names(&repositories, "list", "name"), ["default"]);
    let repository = repositories["list"][0]["uuid"].as_str().unwrap();
    let target = format!(
        "/v1/compute/repository/image/get?cluster_uuid={cluster}&tenant={tenant}&name=debian&repository={repository}&uuid"
    );
    let image = client.get(&target).await.good();
    assert_eq!(image["image"]["UUID"], site.image("debian"));
    let zones = client
        .get(&format!(
            "/v1/zone/list?cluster_uuid={cluster}&filter_name=default&page_num=0&page_size=0"
        ))
        .await
        .good();
    assert_eq!(names(&zones, "list", "Name"), ["default"]);
    let target = format!("?cluster_uuid={cluster}&name=manage&tenant={tenant}&uuid&zone");
    let layer2 = client
        .get(&format!("/v1/network/layer2/list{target}"))
        .await
        .good();
    assert_eq!(names(&layer2, "list", "Name"), ["manage"]);
    let uuid = layer2["list"][0]["UUID"].as_str().unwrap();
    let target = format!("?cluster_uuid={cluster}&name=manage&tenant={tenant}&uuid={uuid}&zone");
    let inspected = client
        .get(&format!("/v1/network/layer2/inspect{target}"))
        .await
        .good();
    assert_eq!(inspected["port_group_list"][0]["port_group_name"], "default");
    assert!(inspected["port_group_list"][0]["enable_dhcp"].is_boolean());
    let pools = client
        .get(&format!(
            "/v1/pool/internal/list?cluster_uuid={cluster}&tenant={tenant}&filter_avail_more_than={GIB}&page_num=0&page_size=1&filter_redundancy&filter_share=false"
        ))
        .await
        .good();
    assert_eq!(
        (&pools["TotalCount"], &pools["List"][0]["uuid"]),
        (&json!(1), &json!(site.pool()))
    );
}

#[tokio::test]
async fn nothing_of_it_asks_the_hypervisor() {
    let site = Site::open().await;
    site.control.clear_call_log();
    for target in [
        "/v1/zone/list",
        "/v1/pool/internal/list",
        "/v1/network/layer2/list",
        "/v1/tenant/list",
    ] {
        site.get(target).await.good();
    }
    assert!(
        site.control.call_log().is_empty(),
        "{:?}",
        site.control.call_log()
    );
}

#[tokio::test]
async fn the_members_and_clusters_are_those_that_the_client_called() {
    let site = Site::open().await;
    let members = site.get("/v1/system/member/list").await.good();
    assert_eq!(
        (&members["leader"], &members["ready"]),
        (&json!(HOST), &json!(true))
    );
    let clusters = site.get("/v1/cluster/list").await.good();
    assert_eq!(clusters["list"][0]["cluster_uuid"], site.cluster());
    assert_eq!(clusters["list"][0]["candidates"], json!([HOST]));
}

#[tokio::test]
async fn a_user_sees_the_own_tenant_and_an_administrator_all() {
    let site = Site::closed().await;
    let (user, admin) = (site.client(USER).await, site.client(ADMIN).await);
    assert_eq!(
        names(
            &user.get("/v1/tenant/list?system=true").await.good(),
            "list",
            "name"
        ),
        ["home"]
    );
    let all = admin.get("/v1/tenant/list?system=true").await.good();
    assert_eq!(names(&all, "list", "name"), ["home", "system"]);
    assert_eq!(all["list"][1]["administrator"]["user_name"], ADMIN);
    let shown = admin.get("/v1/tenant/list").await.good();
    assert_eq!(
        names(&shown, "list", "name"),
        ["home"],
        "system is shown on request"
    );
    let login = site.login(USER).await;
    assert_eq!(
        login["tenant_uuid"], all["list"][0]["uuid"],
        "one uuid everywhere"
    );
}

#[tokio::test]
async fn lists_are_cut_into_pages_and_narrowed_by_a_part_of_the_name() {
    let site = Site::open().await;
    let target = "/v1/specification/unified_vm/list";
    let all = site.get(target).await.good();
    assert_eq!(names(&all, "list", "name"), ["small", "large"], "the older first");
    let page = site.get(&format!("{target}?page_num=1&page_size=1")).await.good();
    assert_eq!(
        (&page["total_count"], names(&page, "list", "name")),
        (&json!(2), vec!["large".to_owned()])
    );
    let part = site.get(&format!("{target}?filter_name=arg")).await.good();
    assert_eq!(names(&part, "list", "name"), ["large"]);
    let own = site.get(&format!("{target}?include_share=false")).await.good();
    assert_eq!(own["total_count"], 0, "both are everybody's");
}

#[tokio::test]
async fn what_does_not_exist_is_said_to_be_missing() {
    let site = Site::open().await;
    let other = "0b7dc2f4-9d0b-4c9e-8a37-51e60b7dc2f4";
    for target in [
        format!("/v1/zone/list?cluster_uuid={other}"),
        format!("/v1/network/layer2/inspect?uuid={other}"),
        format!("/v1/pool/internal/list?tenant={other}"),
        format!("/v1/compute/repository/get?uuid={other}"),
        format!("/v1/compute/repository/image/get?repository={other}&name=debian"),
        "/v1/compute/repository/image/get?repository=default&name=debian.qcow2".to_owned(),
        format!("/v1/compute/repository/image/get?repository=default&uuid={other}"),
    ] {
        let desc = site.get(&target).await.bad(22001);
        assert!(desc.contains("does not exist"), "{target}: {desc}");
    }
    site.get("/v1/network/layer2/inspect?uuid=manage")
        .await
        .bad(10001);
    site.get("/v1/compute/repository/image/get?repository=default")
        .await
        .bad(10001);
    site.get("/v1/zone/list?page_size=many").await.bad(10001);
}

#[tokio::test]
async fn a_repository_shows_images_by_what_they_are_for() {
    let site = Site::open().await;
    let shown =
        |usage: &str| format!("/v1/compute/repository/image/list?repository=default&filter_usage={usage}");
    let discs = site.get(&shown("cdrom")).await.good();
    assert_eq!(discs["total"], 1);
    assert_eq!(discs["images"][0]["image"]["Name"], "installer");
    assert_eq!(discs["images"][0]["image"]["Format"], "iso");
    let disks = site.get(&shown("image")).await.good();
    assert_eq!(disks["images"][0]["image"]["Vsize"], 2 * GIB);
    assert_eq!(site.get(&shown("floppy")).await.good()["total"], 0);
    let floppies = json!({"filter_usage": "security"});
    let none = site.post("/v1/compute/repository/list", &floppies).await.good();
    assert_eq!(none["total_count"], 0);
}

#[tokio::test]
async fn a_sync_checks_the_repository_and_has_nothing_to_do() {
    let site = Site::open().await;
    let sync = "/v1/compute/repository/image/sync";
    let uuid = site.post("/v1/compute/repository/list", &json!({})).await.good()["list"][0]["uuid"].clone();
    site.post(
        sync,
        &json!({"cluster_uuid": "", "tenant": "", "image": {"Repository": uuid}}),
    )
    .await
    .good();
    site.post(sync, &json!({"image": {"Repository": "elsewhere"}}))
        .await
        .bad(22001);
    site.post(sync, &json!({})).await.bad(10001);
}

#[tokio::test]
async fn an_image_of_the_configuration_stays() {
    let site = Site::closed().await;
    let client = site.client(ADMIN).await;
    let body = json!({"uuid": site.image("debian"), "repository": "default"});
    let answer = client.post("/v1/compute/repository/image/delete", &body).await;
    assert_ne!(answer.scode(), 0, "{}", answer.body);
    assert!(
        site.core
            .now()
            .images
            .values()
            .any(|image| image.name == "debian")
    );
}
