//! What a machine is made of, changed: size, interfaces, media, boot order, console password; copies and moves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use serde_json::{Value, json};
use support::{MACHINES, Site, documented, machine, uuid_of};

const ABSENT: &str = "0123456789abcdef0123456789abcdef";

#[tokio::test]
async fn a_stopped_machine_gets_another_size() {
    let site = Site::new().await;
    let uuid = site.stopped("web").await;
    let body = json!({"instanceOfferingUuid": site.catalogue.large});
    let changed = site.act(&uuid, "changeInstanceOffering", body).await.good();
    let changed = &changed["inventory"];
    assert_eq!(
        (&changed["cpuNum"], &changed["memorySize"]),
        (&json!(2), &json!(2_u64 << 30))
    );
    assert_eq!(changed["instanceOfferingUuid"], site.catalogue.large);

    let body = json!({"cpuNum": 4, "memorySize": 3_221_225_472.0, "name": "bigger"});
    let updated = site.act(&uuid, "updateVmInstance", body).await.good();
    let updated = &updated["inventory"];
    assert_eq!(
        (&updated["cpuNum"], &updated["memorySize"]),
        (&json!(4), &json!(3_u64 << 30))
    );
    assert_eq!(updated["name"], "bigger");

    for (body, code) in [
        (json!({"instanceOfferingUuid": ABSENT}), "SYS.1003"),
        (json!({}), "SYS.1007"),
    ] {
        let refused = site.act(&uuid, "changeInstanceOffering", body).await;
        assert_eq!(refused.code(), code, "{}", refused.text);
    }
    let refused = site.act(&uuid, "updateVmInstance", json!({"cpuNum": -1})).await;
    assert_eq!(refused.code(), "SYS.1007", "{}", refused.text);
}

#[tokio::test]
async fn interfaces_are_plugged_in_and_out_and_readdressed() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let network = &site.catalogue.network;
    let attach = format!("{}/l3-networks/{network}", machine(&uuid));
    let attached = site
        .done("POST", &attach, &json!({"params": {"staticIp": "192.0.2.17"}}))
        .await
        .good();
    documented("AttachL3NetworkToVm", &attached);
    let nics = attached["inventory"]["vmNics"].as_array().unwrap().clone();
    assert_eq!(nics.len(), 2);
    let new = nics.iter().find(|nic| nic["deviceId"] == 1).unwrap();
    let nic = uuid_of(new);

    let actions = format!("{MACHINES}/nics/{nic}/actions");
    let body = json!({"updateVmNicMac": {"mac": "FA:00:37:EE:9F:01"}});
    let updated = site.done("PUT", &actions, &body).await.good();
    let macs: Vec<&Value> = updated["inventory"]["vmNics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|nic| &nic["mac"])
        .collect();
    assert!(macs.contains(&&json!("fa:00:37:ee:9f:01")), "{macs:?}");
    let taken = site
        .done(
            "PUT",
            &actions,
            &json!({"updateVmNicMac": {"mac": nics[0]["mac"]}}),
        )
        .await;
    assert_eq!(taken.code(), "SYS.1007", "{}", taken.text);
    let wrong = site
        .done("PUT", &actions, &json!({"updateVmNicMac": {"mac": "fa:00"}}))
        .await;
    assert_eq!(wrong.code(), "SYS.1007");

    let detached = site
        .done("DELETE", &format!("{MACHINES}/nics/{nic}"), &Value::Null)
        .await
        .good();
    documented("DetachL3NetworkFromVm", &detached);
    assert_eq!(detached["inventory"]["vmNics"].as_array().unwrap().len(), 1);
    let gone = site
        .done("DELETE", &format!("{MACHINES}/nics/{nic}"), &Value::Null)
        .await;
    assert_eq!(gone.code(), "SYS.1003");
    assert!(gone.details().contains("VmNicVO"), "{}", gone.text);
    let absent = format!("{}/l3-networks/{ABSENT}", machine(&uuid));
    let refused = site.done("POST", &absent, &json!({})).await;
    assert_eq!(refused.code(), "SYS.1003");
}

#[tokio::test]
async fn limits_of_an_interface_are_set_shown_and_removed_by_direction() {
    let site = Site::new().await;
    let created = site.created(site.wanted("web")).await;
    let nic = uuid_of(&created["vmNics"][0]);
    let qos = format!("{}/nic-qos", machine(&nic));
    let shown = |answer: Value| {
        documented("GetNicQoS", &answer);
        (
            answer["inboundBandwidth"].clone(),
            answer["outboundBandwidth"].clone(),
        )
    };
    assert_eq!(shown(site.get(&qos).await.good()), (json!(-1), json!(-1)));
    for key in ["setNicQos", "setNicQoS"] {
        let set = site.act(&nic, key, json!({"outboundBandwidth": 8_000_000})).await;
        assert_eq!(set.good(), json!({}), "{key}");
    }
    site.act(&nic, "setNicQos", json!({"inboundBandwidth": 16_000_000}))
        .await
        .good();
    assert_eq!(
        shown(site.get(&qos).await.good()),
        (json!(16_000_000), json!(8_000_000)),
        "a direction that is not named keeps its limit"
    );
    site.done("DELETE", &format!("{qos}?direction=in"), &Value::Null)
        .await
        .good();
    assert_eq!(shown(site.get(&qos).await.good()), (json!(-1), json!(8_000_000)));
    for body in [
        json!({}),
        json!({"inboundBandwidth": 1}),
        json!({"inboundBandwidth": -8}),
    ] {
        let refused = site.act(&nic, "setNicQos", body.clone()).await;
        assert_eq!(refused.code(), "SYS.1007", "{body}: {}", refused.text);
    }
    let refused = site
        .done("DELETE", &format!("{qos}?direction=up"), &Value::Null)
        .await;
    assert_eq!(refused.code(), "SYS.1007");
    assert_eq!(
        site.get(&format!("{}/nic-qos", machine(ABSENT))).await.code(),
        "SYS.1003"
    );
}

#[tokio::test]
async fn an_iso_is_put_in_and_taken_out() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let iso = &site.catalogue.iso;
    let candidates = format!("{}/iso-candidates", machine(&uuid));
    let fitting = |answer: Value| -> Vec<Value> {
        let list = answer["inventories"].as_array().unwrap();
        list.iter().map(|one| one["uuid"].clone()).collect()
    };
    let before = site.get(&candidates).await.good();
    documented("GetCandidateIsoForAttachingVm", &before);
    assert_eq!(fitting(before), [json!(iso)]);
    let machines = site
        .get(&format!("/zstack/v1/images/iso/{iso}/vm-candidates"))
        .await
        .good();
    documented("GetCandidateVmForAttachingIso", &machines);
    assert_eq!(fitting(machines), [json!(uuid)]);

    let attach = format!("{}/iso/{iso}", machine(&uuid));
    for body in [Value::Null, json!({}), json!({"null": {}}), json!({"": {}})] {
        let attached = site.done("POST", &attach, &body).await.good();
        documented("AttachIsoToVmInstance", &attached);
    }
    assert_eq!(fitting(site.get(&candidates).await.good()), Vec::<Value>::new());
    let detach = format!("{}/iso", machine(&uuid));
    for target in [detach.clone(), format!("{detach}?isoUuid={iso}"), detach] {
        site.done("DELETE", &target, &Value::Null).await.good();
    }
    assert_eq!(fitting(site.get(&candidates).await.good()), [json!(iso)]);

    let disk = format!("{}/iso/{}", machine(&uuid), site.catalogue.image);
    assert_eq!(site.done("POST", &disk, &Value::Null).await.code(), "SYS.1007");
    let absent = format!("{}/iso/{ABSENT}", machine(&uuid));
    assert_eq!(site.done("POST", &absent, &Value::Null).await.code(), "SYS.1003");
}

#[tokio::test]
async fn a_boot_order_is_set_and_shown_under_both_names() {
    let site = Site::new().await;
    let uuid = site.stopped("web").await;
    let orders = format!("{}/boot-orders", machine(&uuid));
    let set = site
        .act(
            &uuid,
            "setVmBootOrder",
            json!({"bootOrder": ["CdRom", "HardDisk"]}),
        )
        .await
        .good();
    documented("SetVmBootOrder", &set);
    let shown = site.get(&orders).await.good();
    documented("GetVmBootOrder", &shown);
    assert_eq!(shown["orders"], json!(["CdRom", "HardDisk"]));
    assert_eq!(shown["order"], shown["orders"]);
    site.act(&uuid, "setVmBootOrder", json!({})).await.good();
    assert_eq!(
        site.get(&orders).await.good()["orders"],
        json!(["HardDisk", "CdRom"])
    );
    for order in [json!(["Floppy"]), json!(["CdRom", "CdRom"])] {
        let refused = site
            .act(&uuid, "setVmBootOrder", json!({"bootOrder": order}))
            .await;
        assert_eq!(refused.code(), "SYS.1007", "{order}");
    }
}

#[tokio::test]
async fn a_console_password_is_set_read_and_removed() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let passwords = format!("{}/console-passwords", machine(&uuid));
    assert_eq!(site.get(&passwords).await.good(), json!({}));
    for name in ["consolePassword", "password"] {
        let set = site
            .act(&uuid, "setVmConsolePassword", json!({ name: "made-up1" }))
            .await;
        let set = set.good();
        documented("SetVmConsolePassword", &set);
        assert!(!set.to_string().contains("made-up1"));
    }
    let read = site.get(&passwords).await.good();
    documented("GetVmConsolePassword", &read);
    assert_eq!(
        read,
        json!({"password": "made-up1", "consolePassword": "made-up1"})
    );
    for password in ["", "much too long for VNC", "with nl\n"] {
        let body = json!({"consolePassword": password});
        let refused = site.act(&uuid, "setVmConsolePassword", body).await;
        assert_eq!(refused.code(), "SYS.1007", "{password}");
    }
    let target = format!("{}/console-password", machine(&uuid));
    site.done("DELETE", &target, &Value::Null).await.good();
    assert_eq!(site.get(&passwords).await.good(), json!({}));
}

#[tokio::test]
async fn copies_are_made_one_for_each_name() {
    let site = Site::new().await;
    let mut wanted = site.wanted("source");
    wanted["strategy"] = json!("JustCreate");
    wanted["dataDiskOfferingUuids"] = json!([site.catalogue.disk]);
    let source = uuid_of(&site.created(wanted).await);
    let body = json!({"names": ["one", "two"], "strategy": "JustCreate", "full": true});
    let cloned = site.act(&source, "cloneVmInstance", body).await.good();
    documented("CloneVmInstance", &cloned);
    assert_eq!(cloned["result"]["numberOfClonedVm"], 2);
    let made = cloned["result"]["inventories"].as_array().unwrap();
    let names: Vec<&Value> = made.iter().map(|entry| &entry["inventory"]["name"]).collect();
    assert_eq!(names, ["one", "two"]);
    for entry in made {
        assert_eq!(entry["inventory"]["state"], "Stopped");
        assert_eq!(
            entry["inventory"]["allVolumes"].as_array().unwrap().len(),
            2,
            "full"
        );
    }
    let small = json!({"names": ["three"], "strategy": "InstantStart"});
    let cloned = site.act(&source, "cloneVmInstance", small).await.good();
    let third = &cloned["result"]["inventories"][0]["inventory"];
    assert_eq!(third["state"], "Running");
    assert_eq!(third["allVolumes"].as_array().unwrap().len(), 1);

    for body in [json!({"names": []}), json!({"names": [""]}), json!({})] {
        let refused = site.act(&source, "cloneVmInstance", body.clone()).await;
        assert_eq!(refused.code(), "SYS.1007", "{body}");
    }
    let running = uuid_of(third);
    let refused = site
        .act(&running, "cloneVmInstance", json!({"names": ["four"]}))
        .await;
    assert_eq!(refused.code(), "VM.1010", "{}", refused.text);
}

#[tokio::test]
async fn what_is_only_remembered_is_shown_again() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let at = |what: &str| format!("{}/{what}", machine(&uuid));

    assert_eq!(site.get(&at("ha-levels")).await.good(), json!({}));
    let body = json!({"params": {"level": "NeverStop"}});
    assert_eq!(site.done("POST", &at("ha-levels"), &body).await.good(), json!({}));
    assert_eq!(site.get(&at("ha-levels")).await.good()["level"], "NeverStop");
    let wrong = json!({"params": {"level": "Sometimes"}});
    assert_eq!(
        site.done("POST", &at("ha-levels"), &wrong).await.code(),
        "SYS.1007"
    );
    site.done("DELETE", &at("ha-levels"), &Value::Null).await.good();
    assert_eq!(site.get(&at("ha-levels")).await.good(), json!({}));

    for (action, path) in [("setVmQga", "qga"), ("setVmRDP", "rdp")] {
        for enable in [true, false] {
            site.act(&uuid, action, json!({ "enable": enable })).await.good();
            assert_eq!(site.get(&at(path)).await.good()["enable"], enable, "{action}");
        }
        assert_eq!(site.act(&uuid, action, json!({})).await.code(), "SYS.1007");
    }
    site.act(&uuid, "setVmMonitorNumber", json!({"monitorNumber": 2}))
        .await
        .good();
    assert_eq!(site.get(&at("monitorNumber")).await.good()["monitorNumber"], 2);
    let refused = site
        .act(&uuid, "setVmMonitorNumber", json!({"monitorNumber": 0}))
        .await;
    assert_eq!(refused.code(), "SYS.1007");

    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 someone";
    let set = site
        .act(&uuid, "setVmSshKey", json!({ "SshKey": key }))
        .await
        .good();
    documented("SetVmSshKey", &set);
    assert_eq!(site.get(&at("ssh-keys")).await.good()["sshKey"], key);
    assert_eq!(
        site.act(&uuid, "setVmSshKey", json!({"SshKey": "nonsense"}))
            .await
            .code(),
        "SYS.1007"
    );
    site.done("DELETE", &at("ssh-keys"), &Value::Null).await.good();
    assert_eq!(site.get(&at("ssh-keys")).await.good(), json!({}));

    site.act(&uuid, "setVmHostname", json!({"hostname": "web-1"}))
        .await
        .good();
    assert_eq!(site.get(&at("hostnames")).await.good()["hostname"], "web-1");
    let refused = site
        .act(&uuid, "setVmHostname", json!({"hostname": "web_1"}))
        .await;
    assert_eq!(refused.code(), "SYS.1007");
    site.done("DELETE", &at("hostnames"), &Value::Null).await.good();
    assert_eq!(site.get(&at("hostnames")).await.good(), json!({}));
}

#[tokio::test]
async fn a_static_address_is_a_tag_that_queries_find() {
    let site = Site::new().await;
    let uuid = site.running("web").await;
    let network = &site.catalogue.network;
    for ip in ["192.0.2.7", "192.0.2.8"] {
        let body = json!({ "l3NetworkUuid": network, "ip": ip });
        site.act(&uuid, "setVmStaticIp", body).await.good();
    }
    let found = |tag: String| {
        let target = format!("{MACHINES}?q=__systemTag__={tag}");
        let site = &site;
        async move {
            site.get(&target).await.good()["inventories"]
                .as_array()
                .unwrap()
                .len()
        }
    };
    assert_eq!(found(format!("staticIp::{network}::192.0.2.8")).await, 1);
    assert_eq!(
        found(format!("staticIp::{network}::192.0.2.7")).await,
        0,
        "one address a network"
    );
    let target = format!(
        "{}/static-ips?l3NetworkUuid={network}&deleteMode=",
        machine(&uuid)
    );
    let removed = site.done("DELETE", &target, &Value::Null).await.good();
    documented("DeleteVmStaticIp", &removed);
    assert_eq!(found(format!("staticIp::{network}::192.0.2.8")).await, 0);
    for body in [
        json!({ "l3NetworkUuid": network, "ip": "nonsense" }),
        json!({ "l3NetworkUuid": network }),
    ] {
        let refused = site.act(&uuid, "setVmStaticIp", body.clone()).await;
        assert_eq!(refused.code(), "SYS.1007", "{body}");
    }
    let absent = json!({ "l3NetworkUuid": ABSENT, "ip": "192.0.2.7" });
    assert_eq!(site.act(&uuid, "setVmStaticIp", absent).await.code(), "SYS.1003");
}

#[tokio::test]
async fn candidates_are_what_could_be_done() {
    let site = Site::new().await;
    let created = site.created(site.wanted("web")).await;
    let uuid = uuid_of(&created);
    let wanted = format!(
        "instanceOfferingUuid={}&imageUuid={}&l3NetworkUuids={}",
        site.catalogue.small, site.catalogue.image, site.catalogue.network
    );
    let places = site
        .get(&format!("{MACHINES}/candidate-destinations?{wanted}"))
        .await
        .good();
    documented("GetCandidateZonesClustersHostsForCreatingVm", &places);
    let uuids = |list: &Value| -> Vec<Value> {
        let list = list.as_array().unwrap();
        list.iter().map(|one| one["uuid"].clone()).collect()
    };
    assert_eq!(uuids(&places["zones"]), [created["zoneUuid"].clone()]);
    assert_eq!(uuids(&places["clusters"]), [created["clusterUuid"].clone()]);
    assert!(uuids(&places["hosts"]).contains(&created["hostUuid"]));
    let elsewhere = format!("{MACHINES}/candidate-destinations?{wanted}&clusterUuid={ABSENT}");
    assert_eq!(site.get(&elsewhere).await.good()["hosts"], json!([]));

    let storages = site
        .get(&format!(
            "{MACHINES}/candidate-storages?{wanted}&dataDiskOfferingUuids={}",
            site.catalogue.disk
        ))
        .await
        .good();
    documented("GetCandidatePrimaryStoragesForCreatingVm", &storages);
    let own = &created["allVolumes"][0]["primaryStorageUuid"];
    assert!(uuids(&storages["rootVolumePrimaryStorages"]).contains(own));
    let for_data = &storages["dataVolumePrimaryStorages"][&site.catalogue.disk];
    assert!(uuids(for_data).contains(own));

    let capabilities = site.get(&format!("{}/capabilities", machine(&uuid))).await.good();
    documented("GetVmCapabilities", &capabilities);
    assert!(capabilities["capabilities"]["LiveMigration"].is_boolean());

    let networks = site
        .get(&format!("{}/l3-networks-candidates", machine(&uuid)))
        .await
        .good();
    documented("GetVmAttachableL3Network", &networks);
    assert!(!uuids(&networks["inventories"]).contains(&json!(site.catalogue.network)));

    let volumes = site
        .get(&format!("{}/data-volume-candidates", machine(&uuid)))
        .await
        .good();
    documented("GetVmAttachableDataVolume", &volumes);

    let starting = format!("{}/starting-target-hosts", machine(&uuid));
    assert_eq!(site.get(&starting).await.code(), "VM.1010");
    let migration = site
        .get(&format!("{}/migration-target-hosts", machine(&uuid)))
        .await
        .good();
    documented("GetVmMigrationCandidateHosts", &migration);
    assert!(!uuids(&migration["inventories"]).contains(&created["hostUuid"]));
    site.act(&uuid, "stopVmInstance", json!({})).await.good();
    let places = site.get(&starting).await.good();
    documented("GetVmStartingCandidateClustersHosts", &places);
    assert_eq!(uuids(&places["hosts"]), [created["lastHostUuid"].clone()]);
    assert_eq!(uuids(&places["clusters"]), [created["clusterUuid"].clone()]);

    let dependent = format!(
        "/zstack/v1/images-l3networks/dependencies?zoneUuid={}",
        created["zoneUuid"].as_str().unwrap()
    );
    let images = site
        .get(&format!("{dependent}&l3NetworkUuids={}", site.catalogue.network))
        .await
        .good();
    documented("GetInterdependentL3NetworksImages", &images);
    assert!(uuids(&images["inventories"]).contains(&json!(site.catalogue.image)));
    let networks = site
        .get(&format!("{dependent}&imageUuid={}", site.catalogue.image))
        .await
        .good();
    assert!(uuids(&networks["inventories"]).contains(&json!(site.catalogue.network)));
    assert_eq!(site.get(&dependent).await.code(), "SYS.1007");
}

#[tokio::test]
async fn reads_of_what_is_absent_say_so() {
    let site = Site::new().await;
    for path in [
        "console-addresses",
        "console-passwords",
        "boot-orders",
        "ssh-keys",
        "hostnames",
        "ha-levels",
        "qga",
        "rdp",
        "monitorNumber",
        "capabilities",
        "starting-target-hosts",
        "migration-target-hosts",
        "iso-candidates",
        "l3-networks-candidates",
        "data-volume-candidates",
    ] {
        let answer = site.get(&format!("{}/{path}", machine(ABSENT))).await;
        assert_eq!(answer.code(), "SYS.1003", "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_running_machine_moves_to_another_host() {
    let site = Site::with_hosts(Default::default(), 2).await;
    let created = site.created(site.wanted("web")).await;
    let uuid = uuid_of(&created);
    let targets = format!("{}/migration-target-hosts", machine(&uuid));
    let found = site.get(&targets).await.good();
    let other = found["inventories"][0]["uuid"].clone();
    assert_ne!(other, created["hostUuid"]);
    let moved = site
        .act(&uuid, "migrateVm", json!({ "hostUuid": other }))
        .await
        .good();
    documented("MigrateVm", &moved);
    assert_eq!(moved["inventory"]["hostUuid"], other);
    let back = site.act(&uuid, "migrateVm", json!({})).await.good();
    assert_eq!(back["inventory"]["hostUuid"], created["hostUuid"], "to any other");
    for (body, code) in [
        (json!({ "hostUuid": created["hostUuid"] }), "VM.1010"),
        (json!({ "hostUuid": ABSENT }), "SYS.1003"),
    ] {
        assert_eq!(
            site.act(&uuid, "migrateVm", body.clone()).await.code(),
            code,
            "{body}"
        );
    }
    site.act(&uuid, "stopVmInstance", json!({"type": "cold"}))
        .await
        .good();
    let refused = site.act(&uuid, "migrateVm", json!({ "hostUuid": other })).await;
    assert_eq!(refused.code(), "VM.1010", "a stopped one does not move");
    let none = site.get(&targets).await.good();
    assert_eq!(none["inventories"], json!([]));
}

#[tokio::test]
async fn a_guests_password_needs_a_guest_that_listens() {
    let site = Site::new().await;
    let uuid = site.stopped("web").await;
    let body = json!({"account": "root", "password": "made-up"});
    let refused = site.act(&uuid, "changeVmPassword", body).await;
    assert_eq!(refused.code(), "VM.1010", "{}", refused.text);
    assert!(!refused.text.contains("made-up"));
    for body in [
        json!({"account": "root", "password": ""}),
        json!({"account": "root"}),
        json!({"account": "ro\not", "password": "made-up"}),
    ] {
        let refused = site.act(&uuid, "changeVmPassword", body.clone()).await;
        assert_eq!(refused.code(), "SYS.1007", "{body}");
    }
}
