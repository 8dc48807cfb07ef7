//! The power state, one machine and several.

use serde_json::{Value, json};

use crate::support::{Site, eventually};
use crate::{named, with};

async fn state(site: &Site, uuid: &str) -> Value {
    site.settled(uuid).await;
    site.inspect(uuid).await["state"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_action_brings_about_its_state_before_it_answers() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    let steps = [
        ("start", "running"),
        ("suspend", "paused"),
        ("resume", "running"),
        ("reset", "running"),
        ("save", "shutoff"),
        ("restore", "running"),
        ("shutoff", "shutoff"),
    ];
    for (action, reached) in steps {
        site.post(&format!("/v1/compute/{action}"), &named(&uuid))
            .await
            .good();
        assert_eq!(site.inspect(&uuid).await["state"], reached, "after {action}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_and_reboot_answer_when_they_are_accepted() {
    let site = Site::open().await;
    let uuid = site.running("web").await;
    site.post("/v1/compute/reboot", &named(&uuid)).await.good();
    assert_eq!(state(&site, &uuid).await, "running");
    site.post("/v1/compute/shutdown", &named(&uuid)).await.good();
    assert_eq!(state(&site, &uuid).await, "shutoff");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hibernated_machine_shows_the_action_save() {
    let site = Site::open().await;
    let uuid = site.running("web").await;
    site.post("/v1/compute/save", &named(&uuid)).await.good();
    site.settled(&uuid).await;
    let shown = site.inspect(&uuid).await;
    assert_eq!(
        (&shown["state"], &shown["action"]),
        (&json!("shutoff"), &json!("save"))
    );
    let found = site.get("/v1/compute/list?filter_action=save").await.good();
    assert_eq!(found["total_count"], 1);
    site.post("/v1/compute/restore", &named(&uuid)).await.good();
    assert_eq!(site.inspect(&uuid).await["action"], "noaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_in_the_wrong_state_is_refused_and_nothing_is_done() {
    let site = Site::open().await;
    let (on, off) = (site.running("on").await, site.machine("off").await);
    let calls = site.control.call_log().len();
    let wrong = [
        (&on, "start"),
        (&on, "resume"),
        (&on, "restore"),
        (&off, "shutdown"),
        (&off, "shutoff"),
        (&off, "reboot"),
        (&off, "reset"),
        (&off, "suspend"),
        (&off, "resume"),
        (&off, "save"),
        (&off, "restore"),
    ];
    for (uuid, action) in wrong {
        let why = site
            .post(&format!("/v1/compute/{action}"), &named(uuid))
            .await
            .bad(22003);
        assert!(!why.is_empty(), "{action}");
    }
    assert_eq!(
        site.control.call_log().len(),
        calls,
        "the hypervisor heard nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reboot_ga_needs_the_agent() {
    let site = Site::open().await;
    let uuid = site.running("web").await;
    let agent = site.inspect(&uuid).await["ga_state"].clone();
    let answer = site.post("/v1/compute/reboot_ga", &named(&uuid)).await;
    match agent.as_str() {
        Some("connected") => drop(answer.good()),
        _ => assert!(answer.bad(22003).contains("agent")),
    }
    let off = site.machine("off").await;
    site.post("/v1/compute/reboot_ga", &named(&off)).await.bad(22003);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_must_be_named() {
    let site = Site::open().await;
    for action in ["start", "shutoff", "save"] {
        let at = format!("/v1/compute/{action}");
        site.post(&at, &json!({})).await.bad(10001);
        site.post(&at, &named("not-a-uuid")).await.bad(10001);
        let unknown = "00000000-0000-4000-8000-000000000000";
        site.post(&at, &named(unknown)).await.bad(22001);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_machines_each_has_its_own_outcome() {
    let site = Site::open().await;
    let (off, on) = (site.machine("off").await, site.running("on").await);
    let unknown = "00000000-0000-4000-8000-000000000000";
    let vms: Vec<Value> = [&off, &on, unknown]
        .map(|uuid| with(uuid, json!({"cluster_uuid": site.cluster(), "cloud_init": true})))
        .to_vec();
    let data = site
        .post("/v1/compute/batch_start", &json!({"vms": vms, "vm_type": "GUS"}))
        .await
        .good();
    assert_eq!((&data["success"], &data["fail"]), (&json!(1), &json!(2)));
    let results = data["results"].as_array().unwrap();
    let codes: Vec<i64> = results
        .iter()
        .map(|result| result["scode"].as_i64().unwrap())
        .collect();
    assert_eq!(codes, [0, 22003, 22001]);
    for (result, uuid) in results.iter().zip([off.as_str(), on.as_str(), unknown]) {
        assert_eq!(result["data"]["compute_uuid"], uuid);
        assert_eq!(result["data"]["cluster_uuid"], site.cluster());
        assert_eq!(result["data"]["vdc_agent_list"], Value::Null);
    }
    assert_eq!(site.inspect(&off).await["state"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_action_has_its_batch_form() {
    let site = Site::open().await;
    let uuids = [site.machine("a").await, site.machine("b").await];
    let vms = json!({"vms": [named(&uuids[0]), named(&uuids[1])]});
    let steps = [
        ("batch_start", "running"),
        ("batch_suspend", "paused"),
        ("batch_resume", "running"),
        ("batch_reboot", "running"),
        ("batch_reset", "running"),
        ("batch_save", "shutoff"),
        ("batch_restore", "running"),
        ("batch_shutdown", "shutoff"),
        ("batch_start", "running"),
        ("batch_shutoff", "shutoff"),
    ];
    for (action, reached) in steps {
        let data = site.post(&format!("/v1/compute/{action}"), &vms).await.good();
        assert_eq!(
            (&data["success"], &data["fail"]),
            (&json!(2), &json!(0)),
            "{action}: {data}"
        );
        for uuid in &uuids {
            assert_eq!(state(&site, uuid).await, reached, "after {action}");
        }
    }
    site.post("/v1/compute/batch_start", &json!({"vms": "all"}))
        .await
        .bad(10001);
    site.post("/v1/compute/batch_start", &json!({})).await.bad(10001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_machine_is_refused_as_busy() {
    let site = Site::open().await;
    let uuid = site.running("web").await;
    site.control
        .set_ignores_acpi(uuid.parse().unwrap(), true)
        .unwrap();
    site.post("/v1/compute/shutdown", &named(&uuid)).await.good();
    eventually("it is being shut down", || site.vm(&uuid).activity.map(drop)).await;
    assert_eq!(site.inspect(&uuid).await["action"], "pending");
    site.post("/v1/compute/start", &named(&uuid)).await.bad(22004);
}
