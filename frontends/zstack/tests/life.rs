//! A machine's life: created, polled, stopped and started, destroyed, recovered, expunged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use serde_json::{Value, json};
use support::{MACHINES, Site, actions, documented, machine, uuid_of};

#[tokio::test]
async fn a_machine_is_created_polled_and_shown() {
    let site = Site::new().await;
    let mut wanted = site.wanted("web 1");
    wanted["description"] = json!("web server VM");
    let created = site.created(wanted).await;
    documented("CreateVmInstance", &json!({ "inventory": created }));
    assert_eq!(created["name"], "web 1");
    assert_eq!(created["description"], "web server VM");
    assert_eq!(created["state"], "Running");
    assert_eq!(
        (&created["cpuNum"], &created["memorySize"]),
        (&json!(1), &json!(1_u64 << 30))
    );
    assert_eq!(created["imageUuid"], site.catalogue.image);
    assert_eq!(created["instanceOfferingUuid"], site.catalogue.small);
    assert_eq!(created["platform"], "Linux");
    assert_eq!(created["type"], "UserVm");
    assert_eq!(created["defaultL3NetworkUuid"], site.catalogue.network);
    assert_eq!(created["hostUuid"], created["lastHostUuid"]);
    assert!(created["zoneUuid"].is_string() && created["clusterUuid"].is_string());
    let volumes = created["allVolumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 1);
    assert_eq!(volumes[0]["uuid"], created["rootVolumeUuid"]);
    assert_eq!(
        (&volumes[0]["type"], &volumes[0]["deviceId"]),
        (&json!("Root"), &json!(0))
    );
    let nics = created["vmNics"].as_array().unwrap();
    assert_eq!(nics.len(), 1);
    assert_eq!(nics[0]["l3NetworkUuid"], site.catalogue.network);
    assert_eq!(nics[0]["vmInstanceUuid"], created["uuid"]);
    let date = created["createDate"].as_str().unwrap();
    assert!(date.ends_with("AM") || date.ends_with("PM"), "{date}");
    assert_eq!(date.matches(',').count(), 1, "{date}");
}

#[tokio::test]
async fn everything_documented_can_be_asked_for_at_creation() {
    let site = Site::new().await;
    let network = &site.catalogue.network;
    let mut wanted = site.wanted("full");
    wanted["dataDiskOfferingUuids"] = json!([site.catalogue.disk, site.catalogue.disk]);
    wanted["defaultL3NetworkUuid"] = json!(network);
    wanted["resourceUuid"] = json!("8c7a2f0e4b8d4a0cb5c5e1f3d2a19b07");
    wanted["strategy"] = json!("JustCreate");
    wanted["type"] = json!("UserVm");
    let body = json!({
        "params": wanted,
        "systemTags": [
            format!("customMac::{network}::FA:00:37:EE:9F:00"),
            "vmConsoleMode::vnc",
            "consolePassword::made-up",
            "hostname::web-1",
            "sshkey::ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 someone",
            "ha::NeverStop",
        ],
        "userTags": ["colour::red"],
    });
    let answer = site.done("POST", MACHINES, &body).await.good();
    let created = &answer["inventory"];
    assert_eq!(created["uuid"], "8c7a2f0e4b8d4a0cb5c5e1f3d2a19b07");
    assert_eq!(created["state"], "Stopped");
    assert!(
        created.get("hostUuid").is_none(),
        "a stopped machine is on no host"
    );
    assert!(created["lastHostUuid"].is_string());
    let volumes = created["allVolumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 3);
    for data in &volumes[1..] {
        assert_eq!(data["type"], "Data");
        assert_eq!(data["size"], 5_u64 << 30);
        assert_eq!(data["diskOfferingUuid"], site.catalogue.disk);
    }
    assert_eq!(created["vmNics"][0]["mac"], "fa:00:37:ee:9f:00");
    let shown = answer.to_string();
    assert!(!shown.contains("made-up"), "no secret is shown: {shown}");

    let again = site.done("POST", MACHINES, &body).await;
    assert_eq!(again.code(), "SYS.1006", "a uuid is given once: {}", again.text);
}

#[tokio::test]
async fn a_machine_is_made_from_an_iso_beside_an_empty_disk() {
    let site = Site::new().await;
    let mut wanted = site.wanted("installed");
    wanted["imageUuid"] = json!(site.catalogue.iso);
    let refused = site.done("POST", MACHINES, &json!({ "params": wanted })).await;
    assert_eq!(refused.code(), "SYS.1007");
    assert!(refused.details().contains("rootDiskOfferingUuid"));
    wanted["rootDiskOfferingUuid"] = json!(site.catalogue.disk);
    let created = site.created(wanted).await;
    assert_eq!(created["allVolumes"][0]["size"], 5_u64 << 30);
    assert_eq!(created["imageUuid"], site.catalogue.iso);
}

#[tokio::test]
async fn what_a_creation_names_must_exist() {
    let site = Site::new().await;
    let absent = "0123456789abcdef0123456789abcdef";
    for (field, class) in [
        ("imageUuid", "ImageVO"),
        ("instanceOfferingUuid", "InstanceOfferingVO"),
        ("rootDiskOfferingUuid", "DiskOfferingVO"),
        ("zoneUuid", "ZoneVO"),
        ("clusterUuid", "ClusterVO"),
        ("hostUuid", "HostVO"),
        ("primaryStorageUuidForRootVolume", "PrimaryStorageVO"),
    ] {
        let mut wanted = site.wanted("lost");
        wanted[field] = json!(absent);
        let refused = site.done("POST", MACHINES, &json!({ "params": wanted })).await;
        assert_eq!(refused.code(), "SYS.1003", "{field}: {}", refused.text);
        assert_eq!(
            refused.details(),
            format!("invalid field[{field}], resource[uuid:{absent}, type:{class}] not found")
        );
    }
    for (field, value) in [
        ("strategy", json!("Later")),
        ("l3NetworkUuids", json!([])),
        ("defaultL3NetworkUuid", json!(absent)),
        ("type", json!("Desktop")),
    ] {
        let mut wanted = site.wanted("lost");
        wanted[field] = value;
        let refused = site.done("POST", MACHINES, &json!({ "params": wanted })).await;
        assert_eq!(refused.code(), "SYS.1007", "{field}: {}", refused.text);
    }
    for tag in ["pciDevice::634b48a7bca139d9944a0f95b0c2dddf", "vmCpuPinning::1:3"] {
        let body = json!({ "params": site.wanted("lost"), "systemTags": [tag] });
        let refused = site.done("POST", MACHINES, &body).await;
        assert_eq!(refused.code(), "SYS.1013", "{tag}: {}", refused.text);
    }
    assert!(site.core.now().vms.is_empty(), "nothing was made");
}

#[tokio::test]
async fn a_machine_is_switched_through_its_states() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let state = |answer: Value| answer["inventory"]["state"].clone();
    for (action, parameters, shown) in [
        ("pauseVmInstance", json!({}), "Paused"),
        ("resumeVmInstance", json!({}), "Running"),
        ("rebootVmInstance", json!({}), "Running"),
        ("stopVmInstance", json!({"type": "grace"}), "Stopped"),
        ("startVmInstance", json!({}), "Running"),
        ("stopVmInstance", json!({"type": "cold"}), "Stopped"),
        ("startVmInstance", json!({}), "Running"),
        ("pauseVmInstance", json!({}), "Paused"),
        ("stopVmInstance", json!({}), "Stopped"),
    ] {
        let answer = site.act(&uuid, action, parameters).await.good();
        assert_eq!(state(answer), shown, "{action}");
    }
}

#[tokio::test]
async fn what_the_state_forbids_fails_the_poll() {
    let site = Site::new().await;
    let uuid = site.stopped("web").await;
    for action in ["pauseVmInstance", "resumeVmInstance", "rebootVmInstance"] {
        let refused = site.act(&uuid, action, json!({})).await;
        assert_eq!(refused.code(), "VM.1010", "{action}");
    }
    let recovered = site.act(&uuid, "recoverVmInstance", json!({})).await;
    assert_eq!(recovered.code(), "VM.1010");
    let expunged = site.act(&uuid, "expungeVmInstance", json!({})).await;
    assert_eq!(expunged.code(), "VM.1010");

    site.act(&uuid, "startVmInstance", json!({})).await.good();
    site.act(&uuid, "pauseVmInstance", json!({})).await.good();
    let started = site.act(&uuid, "startVmInstance", json!({})).await;
    assert_eq!(started.code(), "VM.1001");
    assert_eq!(started.body["error"]["cause"]["code"], "VM.1010");
}

#[tokio::test]
async fn a_machine_is_destroyed_recovered_and_expunged() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let destroyed = site
        .done(
            "DELETE",
            &format!("{}?deleteMode=Permissive", machine(&uuid)),
            &Value::Null,
        )
        .await;
    assert_eq!(destroyed.good(), json!({}));
    let refused = site.act(&uuid, "startVmInstance", json!({})).await;
    assert_eq!(refused.code(), "VM.1001");

    let recovered = site.act(&uuid, "recoverVmInstance", json!({})).await.good();
    documented("RecoverVmInstance", &recovered);
    assert_eq!(recovered["inventory"]["state"], "Stopped");

    for _ in 0..2 {
        let destroyed = site.done("DELETE", &machine(&uuid), &Value::Null).await;
        assert_eq!(destroyed.good(), json!({}), "destroying twice is destroying once");
    }
    let expunged = site.act(&uuid, "expungeVmInstance", json!({})).await;
    assert_eq!(expunged.good(), json!({}));
    let gone = site.act(&uuid, "startVmInstance", json!({})).await;
    assert_eq!(gone.code(), "SYS.1003");
}

#[tokio::test]
async fn destroying_what_is_absent_succeeds_if_its_uuid_is_one() {
    let site = Site::new().await;
    let absent = site
        .done(
            "DELETE",
            &machine("0123456789abcdef0123456789abcdef"),
            &Value::Null,
        )
        .await;
    assert_eq!(absent.good(), json!({}));
    let empty = site
        .done(
            "DELETE",
            &format!("{}?deleteMode=", machine("0123456789abcdef0123456789abcdef")),
            &Value::Null,
        )
        .await;
    assert_eq!(empty.good(), json!({}));
    let malformed = site.done("DELETE", &machine("web"), &Value::Null).await;
    assert_eq!(malformed.code(), "SYS.1003");
}

#[tokio::test]
async fn a_machine_is_renamed_at_once() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let body = json!({"name": "front", "description": "the first", "platform": "Windows", "cpuNum": 0, "memorySize": 0});
    let updated = site.act(&uuid, "updateVmInstance", body).await.good();
    documented("UpdateVmInstance", &updated);
    let updated = &updated["inventory"];
    assert_eq!(
        (&updated["name"], &updated["description"], &updated["platform"]),
        (&json!("front"), &json!("the first"), &json!("Windows"))
    );
    assert_eq!(updated["cpuNum"], 1, "0 leaves it");
}

#[tokio::test]
async fn the_console_of_a_running_machine_has_an_address() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let address = site
        .get(&format!("{}/console-addresses", machine(&uuid)))
        .await
        .good();
    documented("GetVmConsoleAddress", &address);
    assert_eq!(address["protocol"], "vnc");
    assert!(address["port"].as_u64().unwrap() >= 5900);
    site.act(&uuid, "stopVmInstance", json!({})).await.good();
    let refused = site.get(&format!("{}/console-addresses", machine(&uuid))).await;
    assert_eq!(refused.code(), "VM.1010");
}

#[tokio::test]
async fn a_machine_starts_where_it_is() {
    let site = Site::new().await;
    let created = site.created(site.wanted("web")).await;
    let uuid = uuid_of(&created);
    site.act(&uuid, "stopVmInstance", json!({})).await.good();
    let own = json!({"hostUuid": created["lastHostUuid"], "clusterUuid": created["clusterUuid"]});
    site.act(&uuid, "startVmInstance", own).await.good();
    let absent = json!({"hostUuid": "0123456789abcdef0123456789abcdef"});
    let refused = site.act(&uuid, "startVmInstance", absent).await;
    assert_eq!(refused.code(), "SYS.1003");
}

#[tokio::test]
async fn the_machines_of_others_do_not_exist() {
    let site = Site::new().await;
    site.account("stranger", "elsewhere", babelvisor_core::model::Role::User, None)
        .await;
    let stranger = site.log_in("stranger").await;
    let uuid = site.running("web").await;
    let refused = site
        .done_as(&stranger, "PUT", &actions(&uuid), &json!({"stopVmInstance": {}}))
        .await;
    assert_eq!(refused.code(), "SYS.1003");
    let accepted = site
        .call("PUT", &actions(&uuid), &json!({"stopVmInstance": {}}))
        .await;
    let location = support::location_of(&accepted);
    let peeked = site.call_as(&stranger, "GET", &location, &Value::Null).await;
    assert_eq!(
        (peeked.status, peeked.text.as_str()),
        (404, "the job has been expired")
    );
}
