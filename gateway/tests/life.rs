//! The gateway's main job, on every set-up: VMs live their whole life through two dialects at once, and each
//! dialect sees what the other did. Every built operation is called here.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod common;

use std::process::Command;
use std::time::Duration;

use babelvisor_conformance::testbed::eventually;
use babelvisor_conformance::testbed::http::call;
use common::calls::Client;
use common::evidence::Evidence;
use common::gateway;
use common::setup::{Setup, Which};
use serde_json::json;

const GUEST: &str = "guest-rest";
const PVE: &str = "pve-open";

#[tokio::test(flavor = "multi_thread")]
async fn two_dialects_one_vm_on_the_memory_backend() {
    whole_life(Which::Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dialects_one_vm_on_libvirts_test_driver() {
    whole_life(Which::TestUnix).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dialects_one_vm_on_qemu() {
    whole_life(Which::Qemu).await;
}

async fn whole_life(which: Which) {
    let setup = Setup::start(which);
    let gateway = gateway().config(&setup.config()).start().unwrap();
    let client = Client::of(&gateway);
    let before = (
        setup.domains(gateway.state_dir()),
        setup.volumes(gateway.state_dir()),
    );
    let mut evidence = Evidence::of("life");

    guest_rest_owns_it(client, &setup, &mut evidence).await;
    pve_open_owns_it(client, &mut evidence).await;
    pve_open_signs_in(&setup, &mut evidence).await;

    let after = || {
        (
            setup.domains(gateway.state_dir()),
            setup.volumes(gateway.state_dir()),
        )
    };
    assert_eq!(after(), before, "what was made is gone from the hypervisor");
    evidence.settle(&setup);
}

/// Made, read, changed and removed through Guest REST; watched through pve-open.
async fn guest_rest_owns_it(client: Client, setup: &Setup, evidence: &mut Evidence) {
    let others = client.machines().await;
    let uuid = client.create_guest("reef").await;
    client.until_status(&uuid, 1).await;
    evidence.saw(GUEST, "guest.create");

    let one = client.guest("GET", &format!("/api/guest/{uuid}"), None).await["data"].clone();
    assert_eq!(
        (one["cpu"].as_i64(), one["memory"].as_i64()),
        (Some(1), Some(1)),
        "{one}"
    );
    assert_eq!(one["password"], "Reef-lamp-7");
    assert!(
        one["xml"]
            .as_str()
            .unwrap()
            .contains(if setup.libvirtd().is_some() {
                "<domain"
            } else {
                "reef"
            })
    );
    evidence.saw(GUEST, "guest.get");
    let list = client
        .guest("GET", "/api/guests?order_by=id&order=desc&page_size=1", None)
        .await;
    assert_eq!(list["data"][0]["uuid"], uuid.as_str());
    evidence.saw(GUEST, "guest.list");
    let found = client.guest("GET", "/api/guests/_search?keyword=ree", None).await;
    assert_eq!(found["data"][0]["uuid"], uuid.as_str());
    evidence.saw(GUEST, "guest.search");
    let patched = client
        .guest(
            "PATCH",
            &format!("/api/guest/{uuid}"),
            Some(&json!({"remark": "zabbix"})),
        )
        .await;
    assert_eq!(patched["data"]["remark"], "zabbix");
    evidence.saw(GUEST, "guest.update");

    let machine = client.new_machine(&others).await;
    client.until_machine(&machine, "2").await;

    let act = |action: &'static str| {
        let path = format!("/api/guests/_{action}/{uuid}");
        async move { client.guest("PUT", &path, None).await }
    };
    act("suspend").await;
    client.until_status(&uuid, 3).await;
    evidence.saw(GUEST, "guest.suspend");
    act("resume").await;
    client.until_status(&uuid, 1).await;
    evidence.saw(GUEST, "guest.resume");
    act("reboot").await;
    job_ended(client, "guest.reboot").await;
    evidence.saw(GUEST, "guest.reboot");
    act("force_reboot").await;
    job_ended(client, "guest.force_reboot").await;
    client.until_status(&uuid, 1).await;
    evidence.saw(GUEST, "guest.force_reboot");
    until_guest_listens(setup, "reef").await;
    act("shutdown").await;
    client.until_status(&uuid, 5).await;
    client.until_machine(&machine, "0").await;
    evidence.saw(GUEST, "guest.shutdown");
    act("boot").await;
    client.until_status(&uuid, 1).await;
    evidence.saw(GUEST, "guest.boot");
    act("force_shutdown").await;
    client.until_status(&uuid, 5).await;
    evidence.saw(GUEST, "guest.force_shutdown");
    client.guest("DELETE", &format!("/api/guests/{uuid}"), None).await;
    client.until_gone(&uuid).await;
    assert!(!client.machines().await.contains(&machine));
    evidence.saw(GUEST, "guest.delete");
}

/// Made, run and removed through pve-open; stopped through Guest REST.
async fn pve_open_owns_it(client: Client, evidence: &mut Evidence) {
    let id = client.create_machine().await;
    job_ended(client, "pve.createquantity").await;
    client.until_machine(&id, "0").await;
    for operation in ["pve.createquantity", "pve.packAge", "pve.image", "pve.mypage"] {
        evidence.saw(PVE, operation);
    }
    assert_eq!(
        client
            .pve("GET", &format!("/v1/pve/open/operate/{id}?type=1"))
            .await,
        true
    );
    client.until_machine(&id, "2").await;
    evidence.saw(PVE, "pve.operate");
    let one = client.pve("GET", &format!("/v1/pve/open/one/{id}")).await;
    assert_eq!(
        (one["memory"].as_i64(), one["cpu"].as_i64()),
        (Some(1), Some(1)),
        "{one}"
    );
    evidence.saw(PVE, "pve.one");
    assert_eq!(
        client.pve("GET", &format!("/v1/pve/open/reboot/{id}")).await,
        true
    );
    job_ended(client, "pve.reboot").await;
    evidence.saw(PVE, "pve.reboot");

    let name = one["name"].as_str().unwrap();
    let uuid = client.guest_named(name).await["uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    client
        .guest("PUT", &format!("/api/guests/_force_shutdown/{uuid}"), None)
        .await;
    client.until_machine(&id, "0").await;
    assert_eq!(
        client.pve("DELETE", &format!("/v1/pve/open/delete/{id}")).await,
        true
    );
    client.until_gone(&uuid).await;
    evidence.saw(PVE, "pve.delete");

    let others = client.machines().await;
    let rent = json!({"packageId": "smallflavo", "imageId": "1", "periodType": 1, "periodNumber": 1});
    let answer = client.post("/v1/pve/open/createRent", &rent).await;
    assert_eq!(answer["code"], 0, "{answer}");
    let id = client.new_machine(&others).await;
    job_ended(client, "pve.createRent").await;
    client.until_machine(&id, "0").await;
    let rented = client.pve("GET", &format!("/v1/pve/open/one/{id}")).await;
    let day = rented["expirationTime"].as_i64().unwrap() - rented["createTime"].as_i64().unwrap();
    assert!((day - 86_400_000).abs() < 60_000, "{rented}");
    evidence.saw(PVE, "pve.createRent");
    assert_eq!(
        client.pve("DELETE", &format!("/v1/pve/open/delete/{id}")).await,
        true
    );
}

/// An account is made as an operator makes it; its token opens the dialect, and nothing else does.
async fn pve_open_signs_in(setup: &Setup, evidence: &mut Evidence) {
    let config = setup
        .config()
        .replace("authentication = \"off\"", "authentication = \"on\"");
    let mut gateway = gateway().config(&config).start().unwrap();
    // The embedded store belongs to one process at a time.
    gateway.kill9();
    let secret = gateway.state_dir().join("secret.txt");
    std::fs::write(&secret, "Reef-lamp-7\n").unwrap();
    let added = Command::new(common::binary())
        .args(["account", "add", "A10000001", "--secret-file"])
        .arg(&secret)
        .arg("--state-dir")
        .arg(gateway.state_dir())
        .output()
        .unwrap();
    assert!(
        added.status.success(),
        "{}",
        String::from_utf8_lossy(&added.stderr)
    );
    gateway.restart().unwrap();

    let client = Client::of(&gateway);
    let images = "/v1/pve/open/image";
    let refused = client.send("GET", images, None).await;
    assert_eq!(
        (refused.status, &refused.json().unwrap()["code"]),
        (401, &json!(401))
    );
    let wrong = client
        .post("/v1/auth/getToken", &json!({"uuid": "A10000001", "secret": "no"}))
        .await;
    assert_eq!(wrong["code"], 1001, "{wrong}");
    let right = client
        .post(
            "/v1/auth/getToken",
            &json!({"uuid": "A10000001", "secret": "Reef-lamp-7"}),
        )
        .await;
    let token = right["data"]["token"]
        .as_str()
        .unwrap_or_else(|| panic!("{right}"));
    let request = call(gateway.address(), "GET", images).header("Finovy-Access-Token", token);
    assert_eq!(request.send().await.unwrap().json().unwrap()["code"], 0);
    assert!(
        !gateway.log().contains(token) && !gateway.log().contains("Reef-lamp-7"),
        "a secret was logged"
    );
    evidence.saw(PVE, "pve.getToken");
}

/// Waits until the newest job of an operation has ended well: the answer came when it was accepted, and no
/// change of state tells when a reboot was asked.
async fn job_ended(client: Client, operation: &str) {
    let job = client.job_ended(operation).await;
    assert_eq!(job["state"], "succeeded", "{job}");
}

/// A guest that has not booted ignores the power button: waits for its agent, where there is a guest.
async fn until_guest_listens(setup: &Setup, name: &str) {
    if let Setup::Qemu(libvirtd) = setup {
        eventually("the guest's agent answers", Duration::from_secs(60), || async {
            let ping = "{\"execute\":\"guest-ping\"}";
            libvirtd.virsh(&["qemu-agent-command", name, ping]).ok()
        })
        .await
        .unwrap();
    }
}
