//! The life of a machine: created, switched, deleted, by the order of calls that clients follow.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{PowerState, Timestamp};
use babelvisor_memory::{Delay, Fault, Method};
use babelvisor_pve_open::{PowerOff, Settings};
use serde_json::{Value, json};
use support::{CREATE, RENT, Site, delete, one, open, operate, reboot, send};

#[tokio::test]
async fn a_client_goes_from_the_lists_to_a_machine_and_back_to_nothing() {
    let site = Site::open().await;
    let images = site.get("/v1/pve/open/image").await.good();
    let image = images
        .as_array()
        .unwrap()
        .iter()
        .find(|image| image["systemImageName"] == "Windows Server")
        .unwrap();
    let packages = site.get("/v1/pve/open/packAge/0").await.good();
    let package = packages
        .as_array()
        .unwrap()
        .iter()
        .find(|package| package["name"] == "small")
        .unwrap();
    assert_eq!(image["type"], package["type"]);

    let body = json!({"packageId": package["packageId"], "imageId": image["imageId"]});
    assert_eq!(site.post(CREATE, &body).await.good(), json!(true));
    let page = site.get("/v1/pve/open/mypage?page=1&pageSize=25").await.good();
    assert_eq!(page["totalCounts"], 1);
    let id = page["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(page["data"][0]["status"], "0", "a new machine is off");
    site.settled(&id).await;

    assert_eq!(site.get(&operate(&id, 1)).await.good(), json!(true));
    site.until_status(&id, "2").await;
    site.settled(&id).await;
    assert_eq!(site.get(&reboot(&id)).await.good(), json!(true));
    site.settled(&id).await;
    assert_eq!(site.get(&operate(&id, 0)).await.good(), json!(true));
    site.until_status(&id, "0").await;
    site.settled(&id).await;
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));

    assert_eq!(site.get(&one(&id)).await.code(), 1021);
    assert_eq!(
        site.get("/v1/pve/open/mypage?page=1&pageSize=25").await.good()["totalCounts"],
        0
    );
    assert!(site.control.vms().is_empty(), "the hypervisor has no guest left");
    assert_eq!(
        site.control.volumes().len(),
        2,
        "only the images' volumes are left"
    );
}

#[tokio::test]
async fn while_its_backend_is_away_nothing_is_accepted_for_a_machine() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    site.control.disconnect();
    support::eventually("the loss is seen", || (!site.vm(&id).reachable).then_some(())).await;
    site.control.clear_call_log();
    assert_eq!(site.get(&one(&id)).await.good()["status"], "2", "its last state");
    assert_eq!(site.get(&operate(&id, 0)).await.code(), 503);
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 503);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7003);
    assert_eq!(site.delete(&delete(&id)).await.code(), 503);
    assert_eq!(site.post(CREATE, &site.by_use()).await.code(), 503);
    assert_eq!(site.post(RENT, &site.rent(1, 1)).await.code(), 6005);
    assert_eq!(site.all().len(), 1);
    assert!(site.control.call_log().is_empty());
}

#[tokio::test]
async fn a_machine_between_states_says_so() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.control
        .set_delay(Capability::PowerStart, Delay::Fixed(120_000));
    site.get(&operate(&id, 1)).await.good();
    assert_eq!(site.get(&one(&id)).await.good()["status"], "1");
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 6000);
    assert_eq!(site.get(&operate(&id, 0)).await.code(), 6000);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7004);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(false));

    let id = {
        site.control.set_delay(Capability::PowerStart, Delay::Fixed(0));
        let id = site.machine().await;
        site.on(&id).await;
        id
    };
    site.control.set_ignores_acpi(site.vm(&id).id, true).unwrap();
    site.get(&operate(&id, 0)).await.good();
    assert_eq!(site.get(&one(&id)).await.good()["status"], "4");
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 6001);
    assert_eq!(site.get(&operate(&id, 0)).await.code(), 6001);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7004);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(false));
}

#[tokio::test]
async fn a_machine_that_is_being_made_is_shown_and_has_to_wait() {
    let site = Site::open().await;
    site.control.set_delay(Method::Define, Delay::Fixed(120_000));
    site.post(CREATE, &site.by_use()).await.good();
    let id = site.all()[0].record.short_id.clone();
    let seen = site.get(&one(&id)).await.good();
    assert_eq!(
        (&seen["status"], &seen["memory"], &seen["cpu"]),
        (&json!("0"), &json!(2), &json!(2))
    );
    assert_eq!(seen["mac"], Value::Null);
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 1005);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7004);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(false));
}

#[tokio::test]
async fn power_calls_with_nothing_to_do_are_good_and_do_nothing() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.control.clear_call_log();
    assert_eq!(site.get(&operate(&id, 0)).await.good(), json!(true));
    assert_eq!(site.get(&reboot(&id)).await.code(), 7002);
    assert!(site.control.call_log().is_empty());
    site.on(&id).await;
    site.control.clear_call_log();
    assert_eq!(site.get(&operate(&id, 1)).await.good(), json!(true));
    assert!(site.control.call_log().is_empty());
}

#[tokio::test]
async fn a_paused_machine_is_continued_by_switching_it_on() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    site.control
        .power_from_outside(site.vm(&id).id, PowerState::Paused)
        .unwrap();
    site.until_status(&id, "0").await;
    assert_eq!(site.get(&reboot(&id)).await.code(), 7004);
    site.on(&id).await;
    assert_eq!(site.vm(&id).power(), PowerState::Running);
    site.control
        .power_from_outside(site.vm(&id).id, PowerState::Paused)
        .unwrap();
    site.until_status(&id, "0").await;
    site.get(&operate(&id, 0)).await.good();
    support::eventually("it is off", || {
        (site.vm(&id).power() == PowerState::Off).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_site_may_cut_the_power() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    site.control.set_ignores_acpi(site.vm(&id).id, true).unwrap();
    let frontend = site.facing(Settings {
        power_off: PowerOff::ForceOff,
        ..open()
    });
    send(&*frontend, "GET", &operate(&id, 0), &[], b"").await.good();
    site.until_status(&id, "0").await;
}

#[tokio::test]
async fn a_machine_whose_term_is_over_cannot_be_switched_on() {
    let site = Site::open().await;
    let id = site.rented(1, 1).await;
    site.on(&id).await;
    assert_eq!(site.get(&one(&id)).await.good()["status"], "2");
    site.expire(&id).await;
    let seen = site.get(&one(&id)).await.good();
    assert_eq!(seen["status"], "5");
    assert!(seen["expirationTime"].as_i64().unwrap() < Timestamp::now().as_millisecond());
    assert_eq!(site.get(&operate(&id, 1)).await.code(), 6003);
    assert_eq!(site.get(&reboot(&id)).await.code(), 7003);
    assert_eq!(site.get(&operate(&id, 0)).await.good(), json!(true));
    site.settled(&id).await;
    assert_eq!(site.get(&one(&id)).await.good()["status"], "5");
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
}

#[tokio::test]
async fn delete_stops_a_machine_that_is_on() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.on(&id).await;
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
    assert!(site.control.vms().is_empty());
    assert_eq!(
        site.delete(&delete(&id)).await.code(),
        1021,
        "a second time it does not exist"
    );
}

#[tokio::test]
async fn delete_answers_false_when_the_backend_refuses() {
    let site = Site::open().await;
    let id = site.machine().await;
    site.control
        .inject_fault(Fault::new(Method::Undefine, ErrorKind::IllegalState));
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(false));
    assert_eq!(site.control.vms().len(), 1);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
}

#[tokio::test]
async fn a_machine_whose_creation_failed_can_only_be_deleted() {
    let site = Site::open().await;
    let body = json!({"packageId": site.packages["small"], "imageId": site.images["broken"]});
    site.post(CREATE, &body).await.good();
    let id = site.all()[0].record.short_id.clone();
    site.settled(&id).await;
    assert_eq!(site.get(&one(&id)).await.good()["status"], "0");
    let answer = site.get(&operate(&id, 1)).await;
    assert_eq!(answer.code(), 1003);
    assert!(answer.msg().contains("creation failed"), "{}", answer.msg());
    assert_eq!(site.get(&reboot(&id)).await.code(), 7003);
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
    assert!(site.all().is_empty());
}

#[tokio::test]
async fn a_machine_that_was_found_is_managed_like_one_that_was_made() {
    let site = Site::open().await;
    let id = site.foreign("found-one").await;
    let seen = site.get(&one(&id)).await.good();
    for (field, value) in [
        ("name", json!("found-one")),
        ("operatingSystem", Value::Null),
        ("hostAccount", Value::Null),
        ("hostPw", Value::Null),
        ("gpuConfiguration", json!("-")),
        ("gpuNumber", json!(0)),
        ("memory", json!(1)),
        ("rigidDisk", json!(10)),
        ("area", Value::Null),
        ("status", json!("2")),
    ] {
        assert_eq!(seen[field], value, "{field}");
    }
    site.get(&operate(&id, 0)).await.good();
    site.until_status(&id, "0").await;
    site.settled(&id).await;
    assert_eq!(site.delete(&delete(&id)).await.good(), json!(true));
    assert!(site.control.vms().is_empty());
}
