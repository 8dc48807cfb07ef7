//! Groups of machines: a tree for each tenant, and a group `default` that is always there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use serde_json::{Value, json};
use support::{ADMIN, Answer, Site, USER};

const GROUPS: &str = "/v1/compute/group";

async fn create(site: &Site, name: &str, parent: Option<&str>) -> Answer {
    let body =
        json!({"cluster_uuid": site.cluster(), "tenant": "home", "group_name": name, "parent_group": parent});
    site.post(&format!("{GROUPS}/create"), &body).await
}

async fn group(site: &Site, name: &str, parent: Option<&str>) -> String {
    let made = create(site, name, parent).await.good();
    made["Metadata"]["UUID"].as_str().unwrap().to_owned()
}

async fn inspect(site: &Site, uuid: &str) -> Answer {
    let target = format!(
        "{GROUPS}/inspect?cluster_uuid={}&tenant=home&group_uuid={uuid}",
        site.cluster()
    );
    site.get(&target).await
}

/// The uuid of the default group, as the tree shows it.
async fn default_group(site: &Site) -> String {
    let target = format!("{GROUPS}/tree?cluster_uuid={}&tenant=home", site.cluster());
    let tree = site.get(&target).await.good();
    assert_eq!(tree["list"][0]["Children"][0]["Name"], "default");
    tree["list"][0]["Children"][0]["UUID"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn put(site: &Site, machine: &str, group: &str) -> Answer {
    let body = json!({"cluster_uuid": "", "tenant": "", "compute_uuid": machine, "object_group": group});
    site.post("/v1/compute/meta/set", &body).await
}

#[tokio::test]
async fn a_group_is_made_shown_renamed_and_deleted() {
    let site = Site::open().await;
    let made = create(&site, "test", None).await.good();
    assert_eq!(
        (&made["Metadata"]["Name"], &made["Depth"]),
        (&json!("test"), &json!(1))
    );
    assert_eq!((&made["Children"], &made["Refs"]), (&Value::Null, &Value::Null));
    let uuid = made["Metadata"]["UUID"].as_str().unwrap();
    let body = json!({"tenant": "home", "group_uuid": uuid, "group_name": "better"});
    site.post(&format!("{GROUPS}/update"), &body).await.good();
    site.post(&format!("{GROUPS}/update"), &json!({"group_uuid": uuid}))
        .await
        .good();
    assert_eq!(inspect(&site, uuid).await.good()["Metadata"]["Name"], "better");
    site.post(&format!("{GROUPS}/delete"), &json!({"group_uuid": uuid}))
        .await
        .good();
    inspect(&site, uuid).await.bad(22001);
}

#[tokio::test]
async fn names_are_unique_among_siblings_and_default_is_taken_at_the_top() {
    let site = Site::open().await;
    let top = group(&site, "test", None).await;
    create(&site, "test", None).await.bad(22002);
    create(&site, "default", None).await.bad(22002);
    let below = group(&site, "test", Some(&top)).await;
    group(&site, "default", Some(&top)).await;
    let body = json!({"group_uuid": below, "group_name": "default"});
    site.post(&format!("{GROUPS}/update"), &body).await.bad(22002);
    site.post(
        &format!("{GROUPS}/move"),
        &json!({"group_uuid": below, "parent_group": ""}),
    )
    .await
    .bad(22002);
    create(&site, "", None).await.bad(10001);
}

#[tokio::test]
async fn groups_nest_five_deep_whichever_way_they_get_there() {
    let site = Site::open().await;
    let mut path = vec![group(&site, "1", None).await];
    for level in 2..=5 {
        let parent = path.last().cloned();
        path.push(group(&site, &level.to_string(), parent.as_deref()).await);
    }
    assert_eq!(inspect(&site, &path[4]).await.good()["Depth"], 5);
    create(&site, "6", Some(&path[4])).await.bad(10001);
    let other = group(&site, "other", None).await;
    group(&site, "leaf", Some(&other)).await;
    let to = |parent: &str| json!({"group_uuid": other, "parent_group": parent});
    let target = format!("{GROUPS}/move");
    site.post(&target, &to(&path[3])).await.bad(10001);
    site.post(&target, &to(&path[2])).await.good();
    assert_eq!(inspect(&site, &other).await.good()["Depth"], 4);
    let below_itself = json!({"group_uuid": path[0], "parent_group": path[1]});
    site.post(&target, &below_itself).await.bad(10001);
    site.post(&target, &to("")).await.good();
    assert_eq!(inspect(&site, &other).await.good()["Depth"], 1);
}

#[tokio::test]
async fn the_default_group_holds_all_others_machines_and_never_changes() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let default = default_group(&site).await;
    let shown = inspect(&site, &default).await.good();
    assert_eq!(shown["Refs"], json!([{"UUID": machine, "Type": 1}]));
    assert_eq!(
        (&shown["Metadata"]["RefCount"], &shown["Metadata"]["Name"]),
        (&json!(1), &json!("default"))
    );
    for (call, body) in [
        ("delete", json!({"group_uuid": default})),
        ("update", json!({"group_uuid": default, "group_name": "other"})),
        ("move", json!({"group_uuid": default, "parent_group": ""})),
        ("create", json!({"group_name": "below", "parent_group": default})),
    ] {
        let desc = site.post(&format!("{GROUPS}/{call}"), &body).await.bad(22003);
        assert!(desc.contains("default"), "{call}: {desc}");
    }
}

#[tokio::test]
async fn a_group_with_machines_anywhere_below_is_not_deleted() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let top = group(&site, "top", None).await;
    let below = group(&site, "below", Some(&top)).await;
    put(&site, &machine, &below).await.good();
    assert_eq!(inspect(&site, &below).await.good()["Refs"][0]["UUID"], machine);
    let delete = format!("{GROUPS}/delete");
    let desc = site.post(&delete, &json!({"group_uuid": top})).await.bad(22003);
    assert!(desc.contains(&machine), "{desc}");
    put(&site, &machine, &default_group(&site).await).await.good();
    site.post(&delete, &json!({"group_uuid": top})).await.good();
    inspect(&site, &below).await.bad(22001);
}

#[tokio::test]
async fn the_tree_hangs_below_clusters_tenants_and_namespaces_or_below_one_tenant() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let top = group(&site, "top", None).await;
    group(&site, "below", Some(&top)).await;
    put(&site, &machine, &top).await.good();
    let whole = site
        .get(&format!("{GROUPS}/tree?cluster_uuid&tenant&filter_name"))
        .await
        .good();
    let cluster = &whole["list"][0];
    assert_eq!(
        (&whole["total_count"], &cluster["fake"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(
        (&cluster["UUID"], &cluster["is_health"]),
        (&json!(site.cluster()), &json!(true))
    );
    let namespace = &cluster["Children"][0]["Children"][0];
    assert_eq!(
        (&namespace["Name"], &namespace["fake"]),
        (&json!("home"), &json!(true))
    );
    let groups = namespace["Children"].as_array().unwrap();
    assert_eq!(
        (&groups[0]["Name"], &groups[0]["RefCount"]),
        (&json!("default"), &json!(0))
    );
    assert_eq!(
        (&groups[1]["Name"], &groups[1]["RefCount"]),
        (&json!("top"), &json!(1))
    );
    assert_eq!(groups[1]["Children"][0]["Parent"], json!(top));
    assert_eq!(
        (&groups[1]["fake"], &groups[1]["Parent"]),
        (&json!(false), &namespace["UUID"])
    );
    assert_eq!(whole["each_range_list_state"][0]["total_count"], 3);
    let one = site
        .get(&format!(
            "{GROUPS}/tree?cluster_uuid={}&tenant=home&filter_name=elo",
            site.cluster()
        ))
        .await
        .good();
    assert_eq!(one["list"][0]["Name"], "home");
    let shown = one["list"][0]["Children"].as_array().unwrap();
    assert_eq!(shown.len(), 1, "the default group has another name: {one}");
    assert_eq!(shown[0]["Children"][0]["Name"], "below");
}

#[tokio::test]
async fn the_groups_of_another_tenant_do_not_exist() {
    let site = Site::closed().await;
    let (user, admin) = (site.client(USER).await, site.client(ADMIN).await);
    let made = admin
        .post(&format!("{GROUPS}/create"), &json!({"group_name": "office"}))
        .await
        .good();
    let uuid = &made["Metadata"]["UUID"];
    for (call, body) in [
        ("delete", json!({"group_uuid": uuid})),
        ("update", json!({"group_uuid": uuid, "group_name": "mine"})),
        ("create", json!({"group_name": "mine", "parent_group": uuid})),
    ] {
        user.post(&format!("{GROUPS}/{call}"), &body).await.bad(22001);
    }
    user.post(
        &format!("{GROUPS}/create"),
        &json!({"group_name": "mine", "tenant": "system"}),
    )
    .await
    .bad(22001);
    admin
        .post(
            &format!("{GROUPS}/create"),
            &json!({"group_name": "theirs", "tenant": "home"}),
        )
        .await
        .good();
    let tree = user.get(&format!("{GROUPS}/tree")).await.good().to_string();
    assert!(tree.contains("theirs") && !tree.contains("office"), "{tree}");
}
