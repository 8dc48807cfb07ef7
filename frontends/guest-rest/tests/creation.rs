//! Creation: what the document promises, and what the original does where the two differ.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::ErrorKind;
use babelvisor_guest_rest::{NameConflict, Settings};
use babelvisor_memory::{Delay, Fault, HostsConfig, MemoryConfig, Method, PoolConfig};
use serde_json::{Value, json};
use support::{DEBIAN, GIB, Site, eventually, send, uuid_of, wish, wish_with, wish_without};

fn is_random(text: &Value, length: usize) -> bool {
    let text = text.as_str().unwrap();
    text.len() == length && text.chars().all(|letter| letter.is_ascii_alphanumeric())
}

#[tokio::test]
async fn the_documents_example_makes_a_running_guest() {
    let site = Site::new().await;
    let answer = site.post(&wish()).await;
    let state = json!({"code": "200", "en-us": "OK", "zh-cn": "成功"});
    assert_eq!(answer.body["state"], state);
    assert!(answer.body.get("paging").is_none());
    let guest = &answer.good()[0];
    assert!(is_random(&guest["name"], 8), "{guest}");
    assert_eq!(guest["password"], "pswd.com");
    assert!(
        is_random(&guest["vnc_password"], 8),
        "what the VNC protocol can use: {guest}"
    );
    assert_eq!((&guest["cpu"], &guest["memory"]), (&json!(4), &json!(4)));
    assert_eq!(guest["os_template_id"], DEBIAN);
    assert_eq!(guest["id"], 1);
    let age =
        babelvisor_core::model::Timestamp::now().as_microsecond() - guest["create_time"].as_i64().unwrap();
    assert!(
        (0..60_000_000).contains(&age),
        "create_time is in microseconds: {guest}"
    );

    let guest = site.until_status(&uuid_of(guest), 1).await;
    assert_eq!(guest["on_host"], "host-1");
    assert_eq!(
        (&guest["network"], &guest["manage_network"]),
        (&json!("default"), &json!("default"))
    );
    assert!(guest["vnc_port"].as_u64().unwrap() >= 5900, "{guest}");
    assert_eq!(guest["remark"], "");
    assert!(
        guest["ip"]
            .as_str()
            .unwrap()
            .parse::<std::net::Ipv4Addr>()
            .is_ok(),
        "{guest}"
    );

    let facts = site.control.vm(site.vm(&uuid_of(&guest)).id).unwrap();
    assert_eq!((facts.cpu.current, facts.memory.current), (4, 4 * GIB));
    let setup = site.control.seed(facts.id).expect("first-boot set-up");
    assert_eq!(setup.admin_user, "root");
    assert_eq!(
        site.core.open(&setup.admin_password.unwrap()).unwrap().expose(),
        "pswd.com"
    );
    assert_eq!(site.vm(&uuid_of(&guest)).record.lease_term, Some(100));
}

#[tokio::test]
async fn while_it_is_being_made_it_is_shown_without_state_and_host() {
    let site = Site::new().await;
    site.control.set_delay(Method::CreateVolume, Delay::Fixed(300));
    let made = site.post(&wish()).await.good()[0].clone();
    let seen = site
        .get(&format!("/api/guest/{}", uuid_of(&made)))
        .await
        .good()
        .clone();
    for guest in [&made, &seen] {
        assert_eq!(
            (&guest["status"], &guest["on_host"]),
            (&json!(0), &json!("")),
            "{guest}"
        );
        assert_eq!(
            (&guest["vnc_port"], &guest["ip"]),
            (&json!(0), &json!("")),
            "{guest}"
        );
        assert_eq!(
            (&guest["cpu"], &guest["memory"]),
            (&json!(4), &json!(4)),
            "{guest}"
        );
        assert_eq!(guest["network"], "default", "{guest}");
    }
    site.until_status(&uuid_of(&made), 1).await;
}

#[tokio::test]
async fn a_guest_whose_creation_fails_is_dirty_and_can_be_deleted() {
    let site = Site::new().await;
    site.control
        .inject_fault(Fault::new(Method::Define, ErrorKind::Internal));
    let uuid = uuid_of(&site.post(&wish()).await.good()[0]);
    let guest = site.until_status(&uuid, 255).await;
    assert_eq!(guest["on_host"], "");
    site.settled(&uuid).await;
    site.delete(&format!("/api/guests/{uuid}")).await.good();
    site.gone(&uuid).await;
    assert_eq!(site.control.volumes().len(), 1, "only the image is left");
}

#[tokio::test]
async fn name_and_password_may_be_absent_or_empty() {
    let site = Site::new().await;
    for body in [
        wish_without("name"),
        wish_without("password"),
        wish_with(json!({"name": "", "password": ""})),
    ] {
        let guest = site.post(&body).await.good()[0].clone();
        assert!(is_random(&guest["name"], 8), "{guest}");
    }
    let guest = site.post(&wish_without("password")).await.good()[0].clone();
    assert!(is_random(&guest["password"], 16), "{guest}");
}

#[tokio::test]
async fn several_guests_are_numbered_and_each_has_its_own_random_values() {
    let site = Site::new().await;
    let body = wish_with(json!({"name": "web", "quantity": 3, "password": ""}));
    let answer = site.post(&body).await;
    let guests = answer.good().as_array().unwrap();
    let of = |field: &str| {
        guests
            .iter()
            .map(|guest| guest[field].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("name"), ["web-1", "web-2", "web-3"]);
    assert_eq!(of("id"), [1, 2, 3]);
    for secret in ["password", "vnc_password"] {
        let values = of(secret);
        assert!(values[0] != values[1] && values[1] != values[2], "{secret}");
    }
    let nameless = site.post(&wish_with(json!({"quantity": 2}))).await;
    let names: Vec<_> = nameless
        .good()
        .as_array()
        .unwrap()
        .iter()
        .map(|guest| guest["name"].clone())
        .collect();
    assert!(
        names.iter().all(|name| is_random(name, 8)) && names[0] != names[1],
        "{names:?}"
    );
}

#[tokio::test]
async fn a_name_that_is_taken_is_replaced_silently_or_refused_where_the_site_says_so() {
    let site = Site::new().await;
    site.guest("Web").await;
    let second = site.post(&wish_with(json!({"name": "web"}))).await;
    assert!(
        is_random(&second.good()[0]["name"], 8),
        "letter case does not make a name free"
    );

    let strict = site.facing(Settings {
        name_conflict: NameConflict::Refuse,
        ..Settings::default()
    });
    let body = wish_with(json!({"name": "web"})).to_string();
    let answer = send(&*strict, "POST", "/api/guest", &[], body.as_bytes()).await;
    assert_eq!(answer.refused("409/40901").sub_text(), "目标已存在: web");
    let body = wish_with(json!({"name": "other"})).to_string();
    send(&*strict, "POST", "/api/guest", &[], body.as_bytes())
        .await
        .good();
}

#[tokio::test]
async fn two_calls_at_once_do_not_get_the_same_name() {
    let site = Site::new().await;
    let body = wish_with(json!({"name": "twin"}));
    let (a, b) = tokio::join!(site.post(&body), site.post(&body));
    let (a, b) = (a.good()[0]["name"].clone(), b.good()[0]["name"].clone());
    assert_ne!(a, b);
    assert!(a == "twin" || b == "twin", "{a} {b}");
}

#[tokio::test]
async fn the_client_is_warned_of_what_is_not_done_to_the_letter() {
    let site = Site::new().await;
    let answer = site.post(&wish()).await;
    let warning = answer.header("babelvisor-warning").unwrap();
    assert!(
        warning.contains("lease_term is recorded") && warning.contains("password is emulated"),
        "{warning}"
    );
    assert!(!warning.contains("cpu"), "{warning}");
    let enforcing = site.facing(Settings {
        leases_enforced: true,
        ..Settings::default()
    });
    let answer = send(
        &*enforcing,
        "POST",
        "/api/guest",
        &[],
        wish().to_string().as_bytes(),
    )
    .await;
    assert!(
        !answer
            .header("babelvisor-warning")
            .unwrap()
            .contains("lease_term")
    );
}

#[tokio::test]
async fn all_guests_of_a_call_fit_or_none_is_made() {
    let hosts = HostsConfig {
        count: 2,
        memory: 10 * GIB,
        ..HostsConfig::default()
    };
    let site = Site::with(
        Settings::default(),
        MemoryConfig {
            hosts,
            ..MemoryConfig::default()
        },
    )
    .await;
    site.post(&wish_with(json!({"quantity": 5})))
        .await
        .refused("503/50350");
    assert!(site.core.now().vms.is_empty() && site.changes().is_empty() && site.jobs().await.is_empty());
    assert_eq!(site.guests("fits", 4).await.len(), 4);

    let pools = vec![PoolConfig {
        name: "small".to_owned(),
        capacity: 7 * GIB,
    }];
    let site = Site::with(
        Settings::default(),
        MemoryConfig {
            pools,
            ..MemoryConfig::default()
        },
    )
    .await;
    site.post(&wish_with(json!({"quantity": 3})))
        .await
        .refused("503/50350");
    assert!(site.core.now().vms.is_empty() && site.changes().is_empty());
}

/// The backend goes away while a long call is under way: what was accepted so far is taken back.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_refused_call_had_made_is_taken_back() {
    let hosts = HostsConfig {
        memory: 4096 * GIB,
        ..HostsConfig::default()
    };
    let config = MemoryConfig {
        hosts,
        ..MemoryConfig::default()
    };
    let site = Site::with(
        Settings {
            max_quantity: 1000,
            ..Settings::default()
        },
        config,
    )
    .await;
    let body = wish_with(json!({"quantity": 1000, "memory": 1}));
    let leaves = async {
        eventually("the first is there", || {
            (!site.core.now().vms.is_empty()).then_some(())
        })
        .await;
        site.control.disconnect();
    };
    let (answer, ()) = tokio::join!(site.post(&body), leaves);
    answer.refused("503/50350");
    assert!(!site.core.now().vms.is_empty(), "some had been accepted");
    site.control.reconnect();
    eventually("all are gone", || site.core.now().vms.is_empty().then_some(())).await;
    assert!(site.control.vms().is_empty());
    assert_eq!(site.control.volumes().len(), 1, "only the image is left");
}

#[tokio::test]
async fn a_backend_that_is_down_has_no_room() {
    let site = Site::new().await;
    site.control.disconnect();
    let backend = babelvisor_core::model::BackendId::new("sim");
    eventually("the backend is down", || {
        (!site.core.now().backend_up(&backend)).then_some(())
    })
    .await;
    site.post(&wish()).await.refused("503/50350");
}

#[tokio::test]
async fn a_viewer_creates_nothing() {
    let site = Site::new().await;
    let role = babelvisor_core::model::Role::Viewer;
    let viewer = site.facing(Settings {
        role,
        ..Settings::default()
    });
    let answer = send(&*viewer, "POST", "/api/guest", &[], wish().to_string().as_bytes()).await;
    answer.refused("403/40301");
    assert!(site.core.now().vms.is_empty());
}
