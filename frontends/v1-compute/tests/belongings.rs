//! What is not about a machine's devices or power: people, settings, log, screen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::model::Role;
use serde_json::{Value, json};
use support::{ADMIN, Client, Site, USER};

/// What names a machine of the tenant `home` in a body.
fn identity(uuid: &str) -> Value {
    json!({"cluster_uuid": "", "tenant": "", "compute_uuid": uuid, "compute_name": "guest"})
}

/// An identifier with more members.
fn with(uuid: &str, more: Value) -> Value {
    let mut body = identity(uuid);
    let members = more.as_object().expect("members").clone();
    body.as_object_mut().unwrap().extend(members);
    body
}

async fn user_uuid(client: &Client<'_>) -> String {
    let name = client.site.login(USER).await;
    name["user_uuid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_machine_is_assigned_to_a_user_and_taken_back() {
    let site = Site::closed().await;
    let machine = site.foreign("guest").await;
    let admin = site.client(ADMIN).await;
    let user = user_uuid(&admin).await;
    let body = json!({"tenant": "home", "user_uuid": user, "vms": [identity(&machine)]});
    let result = admin.post("/v1/compute/assign", &body).await.only();
    assert_eq!(
        (&result["scode"], &result["data"]["owner"]),
        (&json!(0), &json!(user))
    );
    assert_eq!(result["data"]["compute_uuid"], json!(machine));
    let target = format!("/v1/compute/inspect?cluster_uuid&tenant&compute_uuid={machine}");
    let shown = admin.get(&target).await.good();
    assert_eq!(
        (&shown["owner"], &shown["owner_name"]),
        (&json!(user), &json!(USER))
    );
    admin
        .post("/v1/compute/unassign", &json!({"vms": [identity(&machine)]}))
        .await
        .only();
    assert_eq!(admin.get(&target).await.good()["owner"], "");
}

#[tokio::test]
async fn each_machine_of_an_assignment_fails_or_succeeds_on_its_own() {
    let site = Site::closed().await;
    let machine = site.foreign("guest").await;
    let admin = site.client(ADMIN).await;
    let user = user_uuid(&admin).await;
    let missing = "0b7dc2f4-9d0b-4c9e-8a37-51e60b7dc2f4";
    let body = json!({"tenant": "home", "user_uuid": user, "vms": [identity(missing), identity(&machine)]});
    let data = admin.post("/v1/compute/assign", &body).await.good();
    assert_eq!((&data["success"], &data["fail"]), (&json!(1), &json!(1)));
    assert_eq!(data["results"][0]["scode"], 22001);
    assert_eq!(data["results"][0]["data"]["compute_uuid"], missing);
    // Nobody, and somebody of another tenant.
    let office = site.login(ADMIN).await["user_uuid"].clone();
    for (user, tenant) in [(json!(missing), "home"), (office, "system")] {
        let body = json!({"tenant": tenant, "user_uuid": user, "vms": [identity(&machine)]});
        let failed = admin.post("/v1/compute/assign", &body).await.only();
        assert_eq!(
            (&failed["scode"], &failed["message_cn"]),
            (&json!(11000), &json!("用户不存在"))
        );
    }
    admin
        .post("/v1/compute/assign", &json!({"user_uuid": user, "vms": "all"}))
        .await
        .bad(10001);
}

#[tokio::test]
async fn terminals_are_recorded_replaced_and_taken_away() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let terminal = "063cca58-980f-46cc-b637-8e762d1f8c59";
    let set = |list: Value| json!({"vms": [with(&machine, json!({"vdc_agent_list": list}))]});
    let result = site
        .post("/v1/compute/set/vdc_agent", &set(json!([terminal])))
        .await
        .only();
    assert_eq!(result["data"]["vdc_agent_list"], json!([terminal]));
    let recorded = || {
        site.vm(&machine)
            .record
            .settings
            .get("compute.vdc_agent_list")
            .cloned()
    };
    assert_eq!(
        recorded().as_deref(),
        Some("[\"063cca58-980f-46cc-b637-8e762d1f8c59\"]")
    );
    let refused = site
        .post("/v1/compute/set/vdc_agent", &set(json!(["terminal"])))
        .await
        .only();
    assert_eq!(refused["scode"], 10001);
    assert!(recorded().is_some(), "a refused call changes nothing");
    site.post("/v1/compute/set/vdc_agent", &set(Value::Null))
        .await
        .only();
    assert_eq!(recorded(), None);
}

#[tokio::test]
async fn first_boot_settings_come_back_as_they_were_set_and_are_not_kept_in_clear() {
    let site = Site::closed().await;
    let machine = site.foreign("guest").await;
    site.account("guard", "home", Role::Viewer).await;
    let (user, viewer) = (site.client(USER).await, site.client("guard").await);
    let target = format!("/v1/compute/cloud_init/get?cluster_uuid&tenant&compute_uuid={machine}");
    let before = user.get(&target).await.good();
    assert_eq!(before["cloud_init_data"]["meta_data"]["uuid"], json!(machine));
    let data = json!({
        "meta_data": {"hostname": "web-1", "name": "web-1", "uuid": machine, "public_keys": {"key": ""}},
        "network_data": {"links": [], "networks": [], "services": [{"address": "192.0.2.53", "type": "dns"}]},
        "user_data": {"set_passwd": {"ssh_pwauth": {"value": true}, "chpasswd": {"expire": {"value": true}, "list": ["root:Reef-7-Lamp"]}},
            "time_zone": {"timezone": "Asia/Shanghai"}, "ssh": {"disable_root": {}}, "users": {}, "runcmd": {}, "growpart": {"mode": "off"}},
    });
    let answer = user
        .post(
            "/v1/compute/cloud_init/set",
            &with(&machine, json!({"cloud_init_data": data})),
        )
        .await;
    assert!(
        answer
            .header("babelvisor-warning")
            .is_some_and(|text| text.contains("recorded"))
    );
    answer.good();
    assert_eq!(user.get(&target).await.good()["cloud_init_data"], data);
    let record = site.vm(&machine).record.clone();
    assert_eq!(record.hostname.as_deref(), Some("web-1"));
    assert!(!format!("{record:?}").contains("Reef-7-Lamp"), "it is sealed");
    let seen = viewer.get(&target).await.good();
    assert!(
        !seen.to_string().contains("Reef-7-Lamp"),
        "not for those who only read"
    );
    viewer
        .post(
            "/v1/compute/cloud_init/set",
            &with(&machine, json!({"cloud_init_data": data})),
        )
        .await
        .bad(10003);
    user.post(
        "/v1/compute/cloud_init/set",
        &with(&machine, json!({"cloud_init_data": "x"})),
    )
    .await
    .bad(10001);
}

#[tokio::test]
async fn the_log_tells_what_was_done_newest_first() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    assert_eq!(
        site.post("/v1/compute/log", &identity(&machine)).await.good()["total_count"],
        0
    );
    site.post("/v1/compute/shutoff", &identity(&machine)).await.good();
    site.settled(&machine).await;
    site.post("/v1/compute/start", &identity(&machine)).await.good();
    site.settled(&machine).await;
    let log = site.post("/v1/compute/log", &identity(&machine)).await.good();
    let told: Vec<&str> = log["infos"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["Message"].as_str().unwrap())
        .collect();
    assert_eq!(told, ["云服务器启动", "云服务器断电"]);
    let entry = &log["infos"][0];
    assert_eq!(
        (&entry["ObjectUUID"], &entry["ObjectType"]),
        (&json!(machine), &json!("Compute"))
    );
    assert!(entry["StartTime"].as_i64() <= entry["EndTime"].as_i64());
    let other = site.foreign("other").await;
    assert_eq!(
        site.post("/v1/compute/log", &identity(&other)).await.good()["total_count"],
        0
    );
    site.post("/v1/compute/log", &json!({})).await.bad(10001);
}

#[tokio::test]
async fn settings_are_changed_one_by_one_and_the_others_stay() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let set = |more: Value| with(&machine, more);
    let target = "/v1/compute/meta/set";
    site.post(
        target,
        &set(json!({"meta": {"compute_name": "renamed", "ha_mode": "on"}, "os": "CentOS x64"})),
    )
    .await
    .good();
    site.post(
        target,
        &set(json!({"meta": {"shown_ip": "192.0.2.9"}, "kvm_clock_enable": true})),
    )
    .await
    .good();
    let shown = site
        .get(&format!(
            "/v1/compute/inspect?cluster_uuid&tenant&compute_uuid={machine}"
        ))
        .await
        .good();
    assert_eq!(
        (&shown["name"], &shown["os"]),
        (&json!("renamed"), &json!("CentOS x64"))
    );
    assert_eq!(
        (&shown["first_shown_ip"], &shown["kvm_clock_enable"]),
        (&json!("192.0.2.9"), &json!(true))
    );
    assert_eq!(shown["ha_mode"], "on");
}

#[tokio::test]
async fn settings_that_cannot_be_changed_are_refused_and_nothing_with_them_is() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let target = "/v1/compute/meta/set";
    site.post(target, &with(&machine, json!({"os": "CentOS x64"})))
        .await
        .good();
    for (more, scode) in [
        (
            json!({"meta": {"compute_name": "other", "recover_to_related_zones": 1}}),
            22005,
        ),
        (
            json!({"meta": {"compute_name": "other", "os_loader_path": "UEFI"}}),
            22005,
        ),
        (
            json!({"meta": {"compute_name": "other"}, "os": "Windows 10 x64"}),
            22003,
        ),
        (
            json!({"meta": {"compute_name": "other"}, "object_group": "0b7dc2f4-9d0b-4c9e-8a37-51e60b7dc2f4"}),
            22001,
        ),
        (json!({"meta": {"compute_name": "o\u{7}ther"}}), 10001),
        (json!({"meta": {"ha_mode": "sometimes"}}), 10001),
    ] {
        site.post(target, &with(&machine, more)).await.bad(scode);
    }
    assert_eq!(site.vm(&machine).name(), "guest");
}

#[tokio::test]
async fn reservations_are_recorded_in_the_states_that_the_document_names() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let answer = site
        .post(
            "/v1/compute/cpu/reserve",
            &with(&machine, json!({"cpu_reserve_enable": true})),
        )
        .await;
    assert!(
        answer
            .header("babelvisor-warning")
            .is_some_and(|text| text.contains("cpu_reserve_enable"))
    );
    answer.good();
    let memory = with(&machine, json!({"memory_reserve_enable": true}));
    site.post("/v1/compute/memory/reserve", &memory).await.bad(22003);
    site.post("/v1/compute/shutoff", &identity(&machine)).await.good();
    site.settled(&machine).await;
    site.post("/v1/compute/memory/reserve", &memory).await.good();
    let shown = site
        .get(&format!(
            "/v1/compute/inspect?cluster_uuid&tenant&compute_uuid={machine}"
        ))
        .await
        .good();
    assert_eq!(
        (&shown["cpu_reserve_enable"], &shown["memory_reserve_enable"]),
        (&json!(true), &json!(true))
    );
}

#[tokio::test]
async fn active_active_stays_off() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let info = |on: Value| json!({"infos": [with(&machine, on)]});
    let target = "/v1/compute/volume/related/set";
    // The example prints one of its numbers as text.
    let off = json!({"recover_to_related_zones": 2, "master_zone_take_over": "0"});
    assert_eq!(site.post(target, &info(off)).await.only()["scode"], 0);
    let on = json!({"recover_to_related_zones": 1, "master_zone_take_over": "0"});
    let refused = site.post(target, &info(on)).await.only();
    assert_eq!(
        (&refused["scode"], &refused["data"]["compute_uuid"]),
        (&json!(22005), &json!(machine))
    );
}

#[tokio::test]
async fn the_console_is_where_clients_reach_it_while_the_machine_runs() {
    let site = Site::closed().await;
    let machine = site.foreign("guest").await;
    site.account("guard", "home", Role::Viewer).await;
    let (user, viewer) = (site.client(USER).await, site.client("guard").await);
    let target = "/v1/compute/vdc/console";
    let console = user.post(target, &json!({"uuid": machine})).await.good();
    let (host, port) = console["vdc_console"].as_str().unwrap().rsplit_once(':').unwrap();
    assert!(
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0),
        "{console}"
    );
    viewer.post(target, &json!({"uuid": machine})).await.bad(10003);
    user.post("/v1/compute/shutoff", &identity(&machine)).await.good();
    site.settled(&machine).await;
    user.post(target, &json!({"uuid": machine})).await.bad(22003);
    user.post(target, &json!({"uuid": "0b7dc2f4-9d0b-4c9e-8a37-51e60b7dc2f4"}))
        .await
        .bad(22001);
}

#[tokio::test]
async fn no_pictures_of_crashes_are_kept() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let target = |uuid: &str| format!("/v1/compute/list/screenshot?cluster_uuid&tenant&compute_uuid={uuid}");
    let none = site.get(&target(&machine)).await.good();
    assert_eq!(none["screenshot_urls"], json!([]));
    site.get(&target("0b7dc2f4-9d0b-4c9e-8a37-51e60b7dc2f4"))
        .await
        .bad(22001);
}

#[tokio::test]
async fn the_displays_words_are_recorded_while_the_machine_is_off() {
    let site = Site::open().await;
    let machine = site.foreign("guest").await;
    let body = with(&machine, json!({"compression": "glz", "mode": "filter"}));
    site.post("/v1/compute/vgpu/set", &body).await.bad(22003);
    site.post("/v1/compute/shutoff", &identity(&machine)).await.good();
    site.settled(&machine).await;
    let answer = site.post("/v1/compute/vgpu/set", &body).await;
    assert!(
        answer
            .header("babelvisor-warning")
            .is_some_and(|text| text.contains("compression"))
    );
    answer.good();
    site.post("/v1/compute/vgpu/set", &with(&machine, json!({"mode": "all"})))
        .await
        .good();
    let shown = site
        .get(&format!(
            "/v1/compute/inspect?cluster_uuid&tenant&compute_uuid={machine}"
        ))
        .await
        .good();
    assert_eq!(
        (&shown["compression_mode"], &shown["streaming_mode"]),
        (&json!("glz"), &json!("all"))
    );
    site.post(
        "/v1/compute/vgpu/set",
        &with(&machine, json!({"mode": "sometimes"})),
    )
    .await
    .bad(10001);
}
