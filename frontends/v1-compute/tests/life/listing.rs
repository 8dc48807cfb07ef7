//! Lists, details and counts.

use babelvisor_core::model::Role;
use serde_json::{Value, json};

use crate::support::{ADMIN, Site, USER, administrator};
use crate::{named, query};

fn names(list: &Value) -> Vec<String> {
    let domains = list["domains"].as_array().expect("domains");
    let names = domains.iter().map(|vm| vm["name"].as_str().unwrap().to_owned());
    names.collect()
}

async fn list(site: &Site, query: &str) -> Value {
    site.get(&format!("/v1/compute/list?{query}")).await.good()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_are_listed_by_creation_then_by_name() {
    let site = Site::open().await;
    for name in ["b", "c", "a"] {
        site.machine(name).await;
    }
    // All within one second: then the name decides.
    let all = site.all();
    for vm in &all {
        let at = all[0].record.first_seen;
        site.core
            .annotate(&administrator(), vm.id, move |record| {
                record.first_seen = at;
                Ok(())
            })
            .await
            .unwrap();
    }
    let found = list(&site, "").await;
    assert_eq!(names(&found), ["a", "b", "c"]);
    assert_eq!(found["total_count"], 3);
    let clusters = found["each_range_list_state"].as_array().unwrap();
    assert_eq!(clusters.len(), 1);
    assert_eq!(
        (&clusters[0]["total_count"], &clusters[0]["result"]["data"]),
        (&json!(3), &json!(""))
    );
    let groups = found["object_group_counts"].as_object().unwrap();
    assert_eq!(groups.values().collect::<Vec<_>>(), [&json!(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_cut_in_both_spellings_and_the_total_is_that_of_all() {
    let site = Site::open().await;
    for name in ["a", "b", "c"] {
        site.machine(name).await;
    }
    for spelling in ["page_num", "page_number"] {
        let page = list(&site, &format!("{spelling}=1&page_size=2")).await;
        assert_eq!(
            (names(&page), &page["total_count"]),
            (vec!["c".to_owned()], &json!(3)),
            "{spelling}"
        );
    }
    assert_eq!(names(&list(&site, "page_num=0&page_size=0").await).len(), 3);
    assert_eq!(names(&list(&site, "page_num=7&page_size=2").await).len(), 0);
    site.get("/v1/compute/list?page_num=x").await.bad(10001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_choose_machines() {
    let site = Site::open().await;
    let (web, db) = (site.running("web").await, site.machine("db").await);
    let mac = site.inspect(&web).await["interfaces"][0]["mac_address"]
        .as_str()
        .unwrap()
        .to_uppercase();
    let zone = site.inspect(&web).await["zone"].as_str().unwrap().to_owned();
    let cases = [
        ("filter_name=we".to_owned(), vec!["web"]),
        (format!("filter_uuid={}", db.to_uppercase()), vec!["db"]),
        (format!("filter_mac_address={mac}"), vec!["web"]),
        (format!("filter_fuzzy={mac}"), vec!["web"]),
        ("filter_fuzzy=b".to_owned(), vec!["web", "db"]),
        ("filter_state=running".to_owned(), vec!["web"]),
        ("filter_state=shutoff&filter_name=d".to_owned(), vec!["db"]),
        ("filter_action=noaction".to_owned(), vec!["web", "db"]),
        ("filter_host_type=GUS,GVPROXY".to_owned(), vec!["web", "db"]),
        ("filter_host_type=GVPROXY".to_owned(), vec![]),
        ("filter_recover_to_related_zones=1".to_owned(), vec![]),
        (format!("filter_zone={zone}"), vec!["web", "db"]),
        (format!("filter_object_group={zone}"), vec![]),
        ("tenant=home".to_owned(), vec!["web", "db"]),
        ("tenant=nobody".to_owned(), vec![]),
        (format!("cluster_uuid={}", site.cluster()), vec!["web", "db"]),
        (
            "filter_name&filter_uuid&filter_user_uuid=".to_owned(),
            vec!["web", "db"],
        ),
    ];
    for (query, expected) in cases {
        let mut found = names(&list(&site, &query).await);
        found.sort_by_key(|name| std::cmp::Reverse(name.clone()));
        assert_eq!(found, expected, "{query}");
    }
    site.get("/v1/compute/list?filter_state=asleep").await.bad(10001);
    site.get(&format!("/v1/compute/list?cluster_uuid={zone}"))
        .await
        .bad(22001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_recycle_bin_shows_only_when_asked_for() {
    let site = Site::open().await;
    let uuid = site.machine("old").await;
    site.post("/v1/compute/delete", &named(&uuid)).await.good();
    assert_eq!(names(&list(&site, "").await).len(), 0);
    let shown = list(&site, "include_trash_vm=true").await;
    assert_eq!(names(&shown), ["old"]);
    assert!(shown["domains"][0]["deleted_time"].as_i64().unwrap() > 1_600_000_000);
    let at = format!("/v1/compute/inspect?{}", query(&site, &uuid));
    site.get(&at).await.bad(22001);
    assert_eq!(
        site.get(&format!("{at}&include_trash_vm=true")).await.good()["uuid"],
        uuid
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inspect_shows_what_was_asked_for_and_what_clients_read() {
    let site = Site::open().await;
    let uuid = site.running("web").await;
    let shown = site.inspect(&uuid).await;
    let expected = json!({
        "uuid": uuid, "name": "web", "compute_name": "web", "tenant_name": "home", "type": "GUS", "os": "CentOS x64",
        "state": "running", "action": "noaction", "os_loader_path": "BIOS", "mem_size": 1_i64 << 30,
        "cpu_current": "1", "cpu_max_count": 1, "cpu_sockets": 1, "cpu_socket_cores": 1, "create_type": "",
        "object_group_name": "default", "show_plaintext": false,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(shown[name], *value, "{name}");
    }
    let disk = &shown["disks"][0];
    assert_eq!(disk["disk_vsd_source"]["disk_capacity"], 1_i64 << 30);
    assert_eq!(disk["disk_vsd_source"]["pool_uuid"], site.pool());
    assert_eq!(disk["disk_is_system"], true);
    assert!(shown["vnc_port"].as_i64().unwrap() > 0);
    assert!(!shown["machine_manager_ip"].as_str().unwrap().is_empty());
    assert_eq!(shown.get("vnc_password_plaintext"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_password_shows_to_who_asks_and_may_use_it() {
    let site = Site::closed().await;
    site.account("eve", "home", Role::Viewer).await;
    let user = site.client(USER).await;
    let uuid = user.machine("web").await;
    let at = format!("/v1/compute/inspect?{}&show_plaintext=true", query(&site, &uuid));
    let shown = user.get(&at).await.good();
    assert_eq!(shown["show_plaintext"], true);
    assert_eq!(shown["vnc_password_plaintext"].as_str().unwrap().len(), 8);
    let viewer = site.client("eve").await.get(&at).await.good();
    assert_eq!(
        viewer.get("vnc_password_plaintext"),
        None,
        "a viewer has no use for it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_of_another_tenant_does_not_exist() {
    let site = Site::closed().await;
    site.account("bob", "other", Role::User).await;
    let uuid = site.client(USER).await.machine("web").await;
    let bob = site.client("bob").await;
    let at = format!("/v1/compute/inspect?{}", query(&site, &uuid));
    bob.get(&at).await.bad(22001);
    bob.post("/v1/compute/start", &named(&uuid)).await.bad(22001);
    assert_eq!(bob.get("/v1/compute/list").await.good()["total_count"], 0);
    let admin = site.client(ADMIN).await;
    assert_eq!(admin.get(&at).await.good()["name"], "web");
    let wrong = format!(
        "/v1/compute/inspect?{}",
        query(&site, &uuid).replace("tenant=home", "tenant=other")
    );
    admin.get(&wrong).await.bad(22001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_and_actions_are_counted() {
    let site = Site::open().await;
    site.running("a").await;
    site.running("b").await;
    let uuid = site.machine("c").await;
    let counts = |query: String| {
        let site = &site;
        async move {
            site.get(&format!("/v1/compute/state/summary?{query}"))
                .await
                .good()
        }
    };
    let all = counts(format!("cluster_uuid={}", site.cluster())).await;
    assert_eq!(
        (
            &all["total"],
            &all["running_count"],
            &all["shutoff_count"],
            &all["cloning_count"]
        ),
        (&json!(3), &json!(2), &json!(1), &json!(0))
    );
    let host = site.inspect(&uuid).await["machine_uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let here = counts(format!(
        "cluster_uuid={}&filter_machine_uuid={host}",
        site.cluster()
    ))
    .await;
    assert!(here["total"].as_i64().unwrap() >= 1);
    let there = counts(format!(
        "cluster_uuid={}&filter_machine_uuid={uuid}",
        site.cluster()
    ))
    .await;
    assert_eq!(there["total"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_load_are_for_machines_whose_agent_answers() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    let at = format!("/v1/compute/detail?{}", query(&site, &uuid));
    site.get(&at).await.bad(22003);
    site.post("/v1/compute/start", &named(&uuid)).await.good();
    let vm = site.settled(&uuid).await;
    let connected = vm.facts.as_ref().unwrap().agent == babelvisor_core::model::AgentState::Connected;
    let answer = site.get(&at).await;
    if connected {
        let shown = answer.good();
        assert_eq!(shown["VmDetails"][&uuid]["VmName"], "web");
        assert_eq!(shown["VmDetails"][&uuid]["VmDetails"]["CpuStat"]["Cores"], 1);
    } else {
        assert!(answer.bad(22003).contains("agent"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_choices_for_new_machines_are_told() {
    let site = Site::open().await;
    let config = site
        .get(&format!(
            "/v1/compute/vm/create/support/config?cluster_uuid={}",
            site.cluster()
        ))
        .await
        .good();
    assert_eq!(config["NetworkTypes"], json!(["manage"]));
    assert_eq!(config["BootLoaders"], json!(["BIOS", "UEFI"]));
    assert!(config["OsTypes"]["windows"].as_array().unwrap().len() > 5);
}
