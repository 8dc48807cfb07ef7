//! One guest, its remark, and what a site may choose about seeing them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeSet;

use babelvisor_core::model::{PowerState, Role};
use babelvisor_guest_rest::{Credential, Settings};
use babelvisor_memory::ForeignVm;
use serde_json::{Value, json};
use support::{DEBIAN, NOBODY, Site, eventually, send};

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

#[tokio::test]
async fn a_guest_has_its_seventeen_fields_and_no_other() {
    let site = Site::new().await;
    let made = site.guest("web").await;
    let vm = ForeignVm {
        memory: (1 << 30) + 1,
        ..ForeignVm::named("stranger")
    };
    let found = site.foreign(vm).await;
    for uuid in [&made, &found] {
        let guest = site.get(&format!("/api/guest/{uuid}")).await.good().clone();
        let fields: Vec<&str> = guest.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, FIELDS);
        assert_eq!(guest["uuid"], **uuid);
    }
    let stranger = site.get(&format!("/api/guest/{found}")).await.good().clone();
    assert_eq!(stranger["memory"], 2, "rounded up");
    assert_eq!(
        (&stranger["os_template_id"], &stranger["password"]),
        (&json!(0), &json!(""))
    );
    assert_eq!(stranger["network"], "", "it has no interface");
}

/// The members of an answer with their JSON types, as `data.name: string`; of a list the first item's.
fn shape(value: &Value, place: &str, found: &mut BTreeSet<String>) {
    let members = |object: &serde_json::Map<String, Value>, found: &mut BTreeSet<String>| {
        for (name, member) in object {
            shape(member, &format!("{place}.{name}"), found);
        }
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => return shape(items.first().unwrap(), &format!("{place}[]"), found),
        Value::Object(object) => return members(object, found),
    };
    found.insert(format!("{place}: {kind}"));
}

#[tokio::test]
async fn answers_have_the_shape_of_the_documents_examples() {
    let catalogue: Value =
        serde_json::from_str(include_str!("../../../schemas/guest-rest/catalog.json")).unwrap();
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    let mut compared = 0;
    for operation in catalogue["operations"].as_array().unwrap() {
        for example in operation["examples"].as_array().unwrap() {
            let Some(printed) = example["response"].get("body") else {
                continue;
            };
            let path = example["request"]["path"].as_str().unwrap();
            let (base, last) = path.rsplit_once('/').unwrap();
            let target = if last.len() == 36 {
                format!("{base}/{uuid}")
            } else {
                path.to_owned()
            };
            let body = example["request"]
                .get("body")
                .map_or_else(Vec::new, |body| body.to_string().into_bytes());
            let ours = site
                .send(example["request"]["method"].as_str().unwrap(), &target, &body)
                .await;
            let (mut expected, mut got) = (BTreeSet::new(), BTreeSet::new());
            shape(printed, "", &mut expected);
            shape(&ours.body, "", &mut got);
            assert_eq!(got, expected, "{target}");
            compared += 1;
        }
    }
    assert!(compared >= 9, "{compared}");
}

#[tokio::test]
async fn the_description_is_the_one_at_creation() {
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    let first = site.get(&format!("/api/guest/{uuid}")).await.good()["xml"].clone();
    let recorded = site
        .vm(&uuid)
        .record
        .definition
        .clone()
        .expect("kept at creation");
    assert_eq!(first, *recorded);
    site.control
        .rename_from_outside(site.vm(&uuid).id, "renamed")
        .unwrap();
    let changed =
        |vm: &babelvisor_core::model::Vm| vm.facts.as_ref().unwrap().definition != vm.record.definition;
    eventually("the hypervisor's description changes", || {
        changed(&site.vm(&uuid)).then_some(())
    })
    .await;
    assert_eq!(site.get(&format!("/api/guest/{uuid}")).await.good()["xml"], first);
    let found = site.foreign(ForeignVm::named("stranger")).await;
    let now = site
        .vm(&found)
        .facts
        .as_ref()
        .unwrap()
        .definition
        .clone()
        .expect("a description");
    assert_eq!(site.get(&format!("/api/guest/{found}")).await.good()["xml"], *now);
}

#[tokio::test]
async fn the_states_are_libvirts_numbers() {
    let site = Site::new().await;
    let cases = [
        (PowerState::Running, 1),
        (PowerState::Blocked, 2),
        (PowerState::Paused, 3),
        (PowerState::ShuttingDown, 4),
        (PowerState::Off, 5),
        (PowerState::Crashed, 6),
        (PowerState::Suspended, 7),
    ];
    for (power, status) in cases {
        let uuid = site
            .foreign(ForeignVm {
                power,
                ..ForeignVm::named(format!("in-{status}"))
            })
            .await;
        site.until_status(&uuid, status).await;
    }
}

#[tokio::test]
async fn a_uuid_is_36_characters_in_any_letter_case() {
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    site.get(&format!("/api/guest/{}", uuid.to_uppercase()))
        .await
        .good();
    let answer = site.get("/api/guest/short").await;
    assert!(
        answer
            .refused("412/41203")
            .sub_text()
            .starts_with("uuid参数值超出合理范围"),
        "{}",
        answer.body
    );
    site.get(&format!("/api/guest/{uuid}0"))
        .await
        .refused("412/41203");
    assert_eq!(
        site.get(&format!("/api/guest/{NOBODY}"))
            .await
            .refused("404/40401")
            .sub_text(),
        "目标不存在: id"
    );
    site.get(&format!("/api/guest/{}", "x".repeat(36)))
        .await
        .refused("404/40401");
}

#[tokio::test]
async fn a_patch_changes_the_remark_and_nothing_else() {
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    let before = site.get(&format!("/api/guest/{uuid}")).await.good().clone();
    let answer = site
        .patch(
            &uuid.to_uppercase(),
            &json!({"remark": "zabbix 监控", "name": "x", "cpu": 1}),
        )
        .await;
    let mut expected = before.clone();
    expected["remark"] = json!("zabbix 监控");
    assert_eq!(answer.good(), &expected);
    assert_eq!(site.get(&format!("/api/guest/{uuid}")).await.good(), &expected);
    assert_eq!(site.get("/api/guests").await.good()[0], expected);
    assert_eq!(
        site.patch(&uuid, &json!({"remark": ""})).await.good()["remark"],
        ""
    );
}

#[tokio::test]
async fn a_patch_without_remark_looks_at_nothing() {
    let site = Site::new().await;
    for uuid in [NOBODY, "short"] {
        let answer = site.patch(uuid, &json!({"name": "x"})).await;
        answer.good();
        assert_eq!(
            answer.body.as_object().unwrap().len(),
            1,
            "state alone: {}",
            answer.body
        );
    }
    send(
        &*site.frontend,
        "PATCH",
        &format!("/api/guest/{NOBODY}"),
        &[],
        b"",
    )
    .await
    .good();
    site.patch("short", &json!({"remark": 5}))
        .await
        .refused("412/41203");
    site.patch(NOBODY, &json!({"remark": 5}))
        .await
        .refused("412/41202");
    site.patch(NOBODY, &json!({"remark": null}))
        .await
        .refused("412/41202");
    site.patch(NOBODY, &json!({"remark": "x"}))
        .await
        .refused("404/40401");
    site.patch(NOBODY, &json!([1])).await.refused("412/41202");
    site.send("PATCH", &format!("/api/guest/{NOBODY}"), b"{")
        .await
        .refused("400");
    let uuid = site.guest("web").await;
    site.patch(&uuid, &json!({"remark": "x".repeat(5000)}))
        .await
        .refused("412/41203");
    assert_eq!(site.vm(&uuid).record.remark, "");
}

#[tokio::test]
async fn what_is_in_the_trash_of_another_dialect_is_not_here() {
    let site = Site::new().await;
    let uuid = site
        .foreign(ForeignVm {
            power: PowerState::Off,
            ..ForeignVm::named("old")
        })
        .await;
    site.trash(&uuid).await;
    assert_eq!(site.get("/api/guests").await.body["paging"]["total"], 0);
    site.get(&format!("/api/guest/{uuid}")).await.refused("404/40401");
    site.delete(&format!("/api/guests/{uuid}"))
        .await
        .refused("404/40401");
}

#[tokio::test]
async fn a_site_may_limit_whom_and_what_callers_see() {
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    let target = format!("/api/guest/{uuid}");
    let facing = |tenant: &str, role| {
        site.facing(Settings {
            tenant: tenant.to_owned(),
            role,
            ..Settings::default()
        })
    };
    let stranger = facing("elsewhere", Role::User);
    send(&*stranger, "GET", &target, &[], b"")
        .await
        .refused("404/40401");
    assert_eq!(
        send(&*stranger, "GET", "/api/guests", &[], b"").await.body["paging"]["total"],
        0
    );
    send(&*stranger, "DELETE", &format!("/api/guests/{uuid}"), &[], b"")
        .await
        .refused("404/40401");
    let viewer = facing("default", Role::Viewer);
    let guest = send(&*viewer, "GET", &target, &[], b"").await.good().clone();
    assert_eq!(
        (&guest["password"], &guest["vnc_password"]),
        (&json!(""), &json!(""))
    );
    assert_eq!(guest["os_template_id"], DEBIAN);
    send(&*viewer, "PUT", &format!("/api/guests/_boot/{uuid}"), &[], b"")
        .await
        .refused("403/40301");
    send(&*viewer, "PATCH", &target, &[], b"{\"remark\":\"x\"}")
        .await
        .refused("403/40301");
}

#[tokio::test]
async fn a_site_may_ask_for_a_shared_secret() {
    let site = Site::new().await;
    let credential = Credential {
        header: "X-Guest-Key".to_owned(),
        // Of `made-up`.
        sha256: babelvisor_core::secret::sha256_hex("made-up").to_uppercase(),
    };
    let guarded = site.facing(Settings {
        credential: Some(credential),
        ..Settings::default()
    });
    send(&*guarded, "GET", "/api/guests", &[], b"")
        .await
        .refused("401/40101");
    send(&*guarded, "GET", "/api/guests", &[("x-guest-key", "wrong")], b"")
        .await
        .refused("401/40101");
    send(
        &*guarded,
        "GET",
        "/api/guests",
        &[("x-guest-key", "made-up")],
        b"",
    )
    .await
    .good();
    send(&*guarded, "POST", "/api/guest", &[], b"{")
        .await
        .refused("401/40101");
}

#[tokio::test]
async fn a_site_may_name_its_management_network() {
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    let named = site.facing(Settings {
        manage_network: Some("net-admin".to_owned()),
        ..Settings::default()
    });
    let guest = send(&*named, "GET", &format!("/api/guest/{uuid}"), &[], b"")
        .await
        .good()
        .clone();
    assert_eq!(
        (&guest["network"], &guest["manage_network"]),
        (&json!("default"), &json!("net-admin"))
    );
}
