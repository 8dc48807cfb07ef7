//! Power and deletion, the framework's own answers, and the sequence of the original's test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::command::{Command, PowerAction};
use babelvisor_core::frontend::{Refusal, Request};
use babelvisor_core::model::{Job, JobState, PowerState};
use babelvisor_core::{ErrorKind, capability::Capability};
use babelvisor_guest_rest::Settings;
use babelvisor_memory::{Delay, ForeignVm, MemoryConfig, Method, Target};
use serde_json::{Value, json};
use support::{NOBODY, Site, eventually, read, send, uuid_of, wish};

/// The jobs that did something to power, oldest first.
async fn actions(site: &Site) -> Vec<(PowerAction, Job)> {
    let mut jobs = site.jobs().await;
    jobs.sort_by_key(|job| (job.submitted, job.id));
    jobs.into_iter()
        .filter_map(|job| match &job.command {
            Command::Power(power) => Some((power.action, job.clone())),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn each_action_does_what_its_node_would_do() {
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    let id = site.vm(&uuid).id;
    let steps = [
        ("suspend", 3, PowerAction::Suspend),
        ("resume", 1, PowerAction::Resume),
        ("shutdown", 5, PowerAction::Shutdown),
        ("boot", 1, PowerAction::Start),
        ("force_shutdown", 5, PowerAction::ForceOff),
        ("boot", 1, PowerAction::Start),
    ];
    for (word, status, action) in steps {
        let answer = site.put(&format!("/api/guests/_{word}/{uuid}")).await;
        answer.good();
        assert_eq!(
            answer.body.as_object().unwrap().len(),
            1,
            "state alone: {}",
            answer.body
        );
        site.until_status(&uuid, status).await;
        site.settled(&uuid).await;
        assert_eq!(actions(&site).await.last().unwrap().0, action);
    }
    for (word, action) in [
        ("reboot", PowerAction::Reboot),
        ("force_reboot", PowerAction::ForceReboot),
    ] {
        let boots = site.control.boots(id);
        site.put(&format!("/api/guests/_{word}/{uuid}")).await.good();
        eventually("it has booted again", || {
            (site.control.boots(id) > boots).then_some(())
        })
        .await;
        site.until_status(&uuid, 1).await;
        site.settled(&uuid).await;
        assert_eq!(actions(&site).await.last().unwrap().0, action);
    }
}

#[tokio::test]
async fn the_wrong_state_is_accepted_and_changes_nothing() {
    let site = Site::new().await;
    let off = site
        .foreign(ForeignVm {
            power: PowerState::Off,
            ..ForeignVm::named("off")
        })
        .await;
    let on = site.foreign(ForeignVm::named("on")).await;
    for (word, uuid) in [
        ("boot", &on),
        ("resume", &off),
        ("suspend", &off),
        ("reboot", &off),
        ("shutdown", &off),
    ] {
        site.put(&format!("/api/guests/_{word}/{uuid}")).await.good();
        site.settled(uuid).await;
    }
    assert_eq!(site.control.vm(site.vm(&off).id).unwrap().power, PowerState::Off);
    assert_eq!(
        site.control.vm(site.vm(&on).id).unwrap().power,
        PowerState::Running
    );
    let all = actions(&site).await;
    assert_eq!(all.len(), 5, "each is on record");
    let resumed = all
        .iter()
        .find(|(action, _)| *action == PowerAction::Resume)
        .unwrap();
    assert_eq!(resumed.1.state, JobState::Failed);
    assert_eq!(resumed.1.error.as_ref().unwrap().kind, ErrorKind::IllegalState);
}

#[tokio::test]
async fn several_guests_act_together_and_one_twice_acts_twice() {
    let site = Site::new().await;
    let uuids = site.guests("web", 3).await;
    let list = format!("{},{},{}", uuids[0], uuids[2].to_uppercase(), uuids[0]);
    site.put(&format!("/api/guests/_force_shutdown/{list}"))
        .await
        .good();
    for (place, status) in [(0, 5), (1, 1), (2, 5)] {
        site.settled(&uuids[place]).await;
        site.until_status(&uuids[place], status).await;
    }
    assert_eq!(actions(&site).await.len(), 3);
}

#[tokio::test]
async fn one_unknown_guest_stops_them_all() {
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    site.control.clear_call_log();
    let before = site.jobs().await.len();
    for word in [
        "reboot",
        "force_reboot",
        "shutdown",
        "force_shutdown",
        "boot",
        "suspend",
        "resume",
    ] {
        let answer = site.put(&format!("/api/guests/_{word}/{uuid},{NOBODY}")).await;
        assert_eq!(answer.refused("404/40401").sub_text(), "目标不存在: id");
    }
    site.delete(&format!("/api/guests/{uuid},{NOBODY}"))
        .await
        .refused("404/40401");
    for odd in [
        "short",
        &format!("{uuid},"),
        &format!("{uuid},,{uuid}"),
        &format!("{uuid} "),
        &format!("{uuid};{uuid}"),
    ] {
        let answer = site.put(&format!("/api/guests/_boot/{odd}")).await;
        assert_eq!(answer.refused("412/41209").sub_text(), "正则匹配失败");
        site.delete(&format!("/api/guests/{odd}"))
            .await
            .refused("412/41209");
    }
    assert_eq!((site.jobs().await.len(), site.changes()), (before, Vec::new()));
    assert_eq!(site.vm(&uuid).power(), PowerState::Running);
}

#[tokio::test]
async fn what_one_backend_cannot_do_is_refused_for_all() {
    let lacks = [(
        Target::from(Capability::PowerSuspend),
        "this hypervisor never sleeps".to_owned(),
    )];
    let sleepless = MemoryConfig {
        lacks: lacks.into(),
        ..MemoryConfig::default()
    };
    let hypervisors = vec![("sim", MemoryConfig::default()), ("sleepless", sleepless)];
    let site = Site::on(Settings::default(), hypervisors).await;
    let able = site.foreign(ForeignVm::named("able")).await;
    let unable = site.others[0]
        .spawn_foreign_vm(ForeignVm::named("unable"))
        .unwrap();
    eventually("it is adopted", || site.core.now().vms.get(&unable).cloned()).await;
    let answer = site.put(&format!("/api/guests/_suspend/{able},{unable}")).await;
    answer.refused("501");
    let detail = answer.header("babelvisor-detail").unwrap();
    assert!(detail.contains("this hypervisor never sleeps"), "{detail}");
    assert!(site.jobs().await.is_empty());
    site.put(&format!("/api/guests/_force_shutdown/{able},{unable}"))
        .await
        .good();
    site.until_status(&able, 5).await;
    site.until_status(&unable.to_string(), 5).await;
}

#[tokio::test]
async fn a_guest_is_deleted_in_any_state_with_its_disks() {
    let site = Site::new().await;
    let uuids = site.guests("web", 3).await;
    site.put(&format!("/api/guests/_force_shutdown/{}", uuids[0]))
        .await
        .good();
    site.put(&format!("/api/guests/_suspend/{}", uuids[1]))
        .await
        .good();
    site.until_status(&uuids[0], 5).await;
    site.until_status(&uuids[1], 3).await;
    let answer = site.delete(&format!("/api/guests/{}", uuids.join(","))).await;
    answer.good();
    assert_eq!(answer.body.as_object().unwrap().len(), 1);
    for uuid in &uuids {
        site.gone(uuid).await;
        site.get(&format!("/api/guest/{uuid}")).await.refused("404/40401");
    }
    assert!(site.control.vms().is_empty());
    assert_eq!(site.control.volumes().len(), 1, "only the image is left");
    assert_eq!(
        site.guest("next").await,
        site.core.now().by_number.get(&4).unwrap().id.to_string(),
        "ids go on"
    );
}

#[tokio::test]
async fn deleting_a_guest_twice_in_one_call_is_one_deletion() {
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    site.delete(&format!("/api/guests/{uuid},{uuid}")).await.good();
    site.gone(&uuid).await;
    site.delete(&format!("/api/guests/{uuid}"))
        .await
        .refused("404/40401");
}

#[tokio::test]
async fn a_guest_can_be_deleted_while_it_is_being_made() {
    let site = Site::new().await;
    site.control.set_delay(Method::CreateVolume, Delay::Fixed(100));
    let uuid = uuid_of(&site.post(&wish()).await.good()[0]);
    site.delete(&format!("/api/guests/{uuid}")).await.good();
    site.gone(&uuid).await;
    assert!(site.control.vms().is_empty());
}

#[tokio::test]
async fn bodies_of_actions_are_not_looked_at() {
    let site = Site::new().await;
    let uuid = site.guest("web").await;
    site.send("PUT", &format!("/api/guests/_suspend/{uuid}"), b"{not json")
        .await
        .good();
    site.until_status(&uuid, 3).await;
}

#[tokio::test]
async fn the_frameworks_answers_have_the_envelope_too() {
    let site = Site::new().await;
    let cases = [
        ("GET", "/api/nothing", "404"),
        ("GET", "/", "404"),
        ("GET", "/api/guests/", "404"),
        ("POST", "/api/guest/", "404"),
        ("PUT", "/api/guests/_boot/", "404"),
        (
            "PUT",
            "/api/guests/_dance/00000000-0000-4000-8000-000000000000",
            "404",
        ),
        ("DELETE", "/api/guest", "405"),
        ("POST", "/api/guests", "405"),
        ("GET", "/api/guest", "405"),
        ("POST", "/api/disk", "501"),
        ("GET", "/api/disks", "501"),
    ];
    for (method, target, code) in cases {
        let answer = site.send(method, target, b"").await;
        answer.refused(code);
        assert!(answer.body["state"].get("sub").is_none(), "{}", answer.body);
        assert_eq!(
            answer.header("allow").is_some(),
            code == "405",
            "{method} {target}"
        );
    }
}

#[tokio::test]
async fn every_refusal_of_the_server_has_words() {
    let site = Site::new().await;
    let cases = [
        (Refusal::UnknownPath, "404"),
        (
            Refusal::WrongMethod {
                allowed: vec!["GET".to_owned()],
            },
            "405",
        ),
        (
            Refusal::NotBuilt {
                operation: "disk.create",
            },
            "501",
        ),
        (Refusal::BodyTooLarge { limit: 5 }, "400"),
        (
            Refusal::BadRequest("the path holds a 控 character\r\n".to_owned()),
            "400",
        ),
        (Refusal::Timeout, "503"),
        (Refusal::Overloaded, "503"),
        (Refusal::Internal, "500/50000"),
    ];
    for (refusal, code) in cases {
        read(site.frontend.refuse(refusal, &Request::default()), None).refused(code);
    }
}

/// `tests/test_guest.py` of the original without its disk calls, header and all.
#[tokio::test]
async fn the_sequence_of_the_originals_own_test() {
    let site = Site::new().await;
    let passes = |answer: support::Answer| {
        assert_eq!(answer.body["state"]["code"], "200", "{}", answer.body);
        answer.body
    };
    let last = |list: &Value| uuid_of(list["data"].as_array().unwrap().last().unwrap());

    passes(site.post(&wish()).await);
    let uuid = last(&passes(site.get("/api/guests").await));
    passes(site.get(&format!("/api/guest/{uuid}")).await);
    passes(site.patch(&uuid, &json!({"remark": "zabbix"})).await);
    let seen = passes(site.get(&format!("/api/guest/{uuid}")).await);
    assert_eq!(seen["data"]["remark"], "zabbix");
    passes(site.delete(&format!("/api/guests/{uuid}")).await);
    site.gone(&uuid).await;

    passes(site.post(&wish()).await);
    let uuid = last(&passes(site.get("/api/guests").await));
    for word in [
        "reboot",
        "force_reboot",
        "shutdown",
        "force_shutdown",
        "boot",
        "suspend",
        "resume",
    ] {
        passes(site.put(&format!("/api/guests/_{word}/{uuid}")).await);
    }
    site.settled(&uuid).await;
    site.until_status(&uuid, 1).await;
}

#[tokio::test]
async fn power_is_accepted_while_the_backend_is_away_and_done_when_it_is_back() {
    let site = Site::new().await;
    let uuid = site.foreign(ForeignVm::named("web")).await;
    site.control.disconnect();
    eventually("it is unreachable", || (!site.vm(&uuid).reachable).then_some(())).await;
    let answer = send(
        &*site.frontend,
        "PUT",
        &format!("/api/guests/_force_shutdown/{uuid}"),
        &[],
        b"",
    )
    .await;
    answer.good();
    assert_eq!(
        site.get(&format!("/api/guest/{uuid}")).await.good()["status"],
        1,
        "the last that was known"
    );
    site.control.reconnect();
    site.until_status(&uuid, 5).await;
}
