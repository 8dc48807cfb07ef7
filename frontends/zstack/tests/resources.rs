//! Topology, offerings and affinity groups, over a simulated hypervisor.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use babelvisor_core::model::Role;
use serde_json::{Value, json};
use support::{MACHINES, Site, documented, machine, uuid_of};

const V1: &str = "/zstack/v1";

/// The rows of a query, held against the contract.
async fn rows(site: &Site, operation: &str, target: &str) -> Vec<Value> {
    let answer = site.get(&format!("{V1}/{target}")).await.good();
    documented(operation, &answer);
    answer["inventories"].as_array().expect("inventories").clone()
}

/// Sends a change, polls it, and holds its answer against the contract.
async fn change(site: &Site, operation: &str, method: &str, target: &str, body: Value) -> Value {
    let answer = site.done(method, &format!("{V1}/{target}"), &body).await.good();
    documented(operation, &answer);
    answer["inventory"].clone()
}

async fn refused(site: &Site, method: &str, target: &str, body: Value, code: &str) {
    let answer = site.done(method, &format!("{V1}/{target}"), &body).await;
    assert_eq!(answer.code(), code, "{method} {target}: {}", answer.text);
}

const NOBODY: &str = "8c7a2f0e4b8d4a0cb5c5e1f3d2a19b07";

#[tokio::test]
async fn the_topology_is_that_of_the_backends() {
    let site = Site::new().await;
    let zones = rows(&site, "QueryZone", "zones").await;
    assert_eq!(zones.len(), 1);
    assert_eq!(
        (&zones[0]["name"], &zones[0]["state"]),
        (&json!("default"), &json!("Enabled"))
    );
    let zone = zones[0]["uuid"].as_str().unwrap();
    let clusters = rows(&site, "QueryCluster", &format!("clusters?q=zoneUuid={zone}")).await;
    assert_eq!(clusters[0]["name"], "default");
    let hosts = rows(
        &site,
        "QueryHost",
        "hosts?q=cluster.name=default&q=status=Connected",
    )
    .await;
    assert_eq!(hosts[0]["name"], "host-1");
    assert_eq!(hosts[0]["clusterUuid"], clusters[0]["uuid"]);
    assert_eq!(hosts[0]["cpuNum"], 64);
    let stores = rows(
        &site,
        "QueryPrimaryStorage",
        "primary-storage?q=zone.name=default",
    )
    .await;
    assert_eq!(stores[0]["name"], "default");
    assert_eq!(stores[0]["attachedClusterUuids"], json!([clusters[0]["uuid"]]));
    let attached = format!(
        "primary-storage?q=attachedClusterUuids={}",
        clusters[0]["uuid"].as_str().unwrap()
    );
    assert_eq!(rows(&site, "QueryPrimaryStorage", &attached).await.len(), 1);
    let backup = rows(&site, "QueryBackupStorage", "backup-storage").await;
    assert_ne!(backup[0]["uuid"], stores[0]["uuid"], "one pool, two resources");
    let l2 = rows(&site, "QueryL2Network", "l2-networks").await;
    let l3 = rows(&site, "QueryL3Network", "l3-networks?q=l2Network.name=default").await;
    assert_eq!(l3[0]["uuid"], site.catalogue.network);
    assert_eq!(l3[0]["l2NetworkUuid"], l2[0]["uuid"]);
    let ranges = rows(
        &site,
        "QueryIpRange",
        "l3-networks/ip-ranges?q=l3Network.name=default",
    )
    .await;
    assert_eq!(l3[0]["ipRanges"], json!(ranges));
    assert_eq!(
        (&ranges[0]["startIp"], &ranges[0]["networkCidr"]),
        (&json!("10.0.0.1"), &json!("10.0.0.0/8"))
    );
    for (operation, path, row) in [
        ("QueryZone", "zones", &zones[0]),
        ("QueryCluster", "clusters", &clusters[0]),
        ("QueryHost", "hosts", &hosts[0]),
        ("QueryPrimaryStorage", "primary-storage", &stores[0]),
        ("QueryBackupStorage", "backup-storage", &backup[0]),
        ("QueryL2Network", "l2-networks", &l2[0]),
        ("QueryL3Network", "l3-networks", &l3[0]),
        ("QueryIpRange", "l3-networks/ip-ranges", &ranges[0]),
    ] {
        let uuid = uuid_of(row);
        assert_eq!(
            rows(&site, operation, &format!("{path}/{uuid}")).await,
            std::slice::from_ref(row)
        );
        assert_eq!(
            rows(&site, operation, &format!("{path}/{NOBODY}")).await,
            Vec::<Value>::new()
        );
    }
    let accounts = rows(&site, "QueryAccount", "accounts?q=name=admin").await;
    assert_eq!(accounts[0]["type"], "SystemAdmin");
}

#[tokio::test]
async fn free_addresses_are_those_that_nobody_has() {
    let site = Site::new().await;
    let web = site.running("web").await;
    let one = site.get(&machine(&web)).await.good();
    let taken = one["inventories"][0]["vmNics"][0]["ip"]
        .as_str()
        .unwrap()
        .to_owned();
    let network = site.catalogue.network.clone();
    let target = format!("l3-networks/{network}/ip/free?limit=3&start={taken}");
    let free = rows(&site, "GetFreeIp", &target).await;
    assert_eq!(free.len(), 3);
    assert!(
        free.iter().all(|row| row["ip"] != taken.as_str()),
        "{taken} {free:?}"
    );
    assert_eq!(
        rows(&site, "GetFreeIp", &format!("l3-networks/{network}/ip/free"))
            .await
            .len(),
        100
    );
    let unknown = site.get(&format!("{V1}/l3-networks/{NOBODY}/ip/free")).await;
    assert_eq!(unknown.code(), "SYS.1003");
    let wrong = site
        .get(&format!("{V1}/l3-networks/{network}/ip/free?start=soon"))
        .await;
    assert_eq!(wrong.code(), "SYS.1007");
}

#[tokio::test]
async fn instance_offerings_come_change_and_go() {
    let site = Site::new().await;
    let body = json!({
        "params": {"name": "medium", "description": "for tests", "cpuNum": 2.0, "memorySize": 2.147483648E9,
                   "sortKey": 7, "type": "UserVm", "resourceUuid": NOBODY},
        "userTags": ["size::m"],
    });
    let made = change(
        &site,
        "CreateInstanceOffering",
        "POST",
        "instance-offerings",
        body.clone(),
    )
    .await;
    assert_eq!(made["uuid"], NOBODY);
    assert_eq!(
        (&made["cpuNum"], &made["memorySize"]),
        (&json!(2), &json!(2_147_483_648_u64))
    );
    assert_eq!((&made["state"], &made["sortKey"]), (&json!("Enabled"), &json!(7)));
    let target = format!("instance-offerings/{NOBODY}");
    let tagged = rows(
        &site,
        "QueryInstanceOffering",
        "instance-offerings?q=__userTag__=size::m",
    )
    .await;
    assert_eq!(tagged, [made]);
    refused(&site, "POST", "instance-offerings", body, "SYS.1006").await;

    let actions = format!("{target}/actions");
    let update =
        json!({"updateInstanceOffering": {"name": "m", "description": "", "allocatorStrategy": "Mevoco"}});
    let updated = change(&site, "UpdateInstanceOffering", "PUT", &actions, update).await;
    assert_eq!(
        (&updated["name"], &updated["allocatorStrategy"]),
        (&json!("m"), &json!("Mevoco"))
    );
    assert!(updated.get("description").is_none(), "taken away: {updated}");
    let state = |event: &str| json!({"changeInstanceOfferingState": {"stateEvent": event}});
    let off = change(
        &site,
        "ChangeInstanceOfferingState",
        "PUT",
        &actions,
        state("disable"),
    )
    .await;
    assert_eq!(off["state"], "Disabled");
    refused(&site, "PUT", &actions, state("explode"), "SYS.1007").await;
    change(
        &site,
        "ChangeInstanceOfferingState",
        "PUT",
        &actions,
        state("enable"),
    )
    .await;

    let gone = site
        .done(
            "DELETE",
            &format!("{V1}/{target}?deleteMode=Permissive"),
            &Value::Null,
        )
        .await;
    assert_eq!(gone.good(), json!({}));
    assert!(rows(&site, "QueryInstanceOffering", &target).await.is_empty());
    refused(&site, "DELETE", &target, Value::Null, "SYS.1003").await;
    refused(&site, "PUT", &actions, state("enable"), "SYS.1003").await;
    let nothing = json!({"params": {"name": "none", "cpuNum": 0, "memorySize": 1}});
    refused(&site, "POST", "instance-offerings", nothing, "SYS.1007").await;
}

#[tokio::test]
async fn disk_offerings_come_change_and_go() {
    let site = Site::new().await;
    let body = json!({"params": {"name": "ten", "diskSize": 10_u64 << 30, "allocationStrategy": "Here"}});
    let made = change(&site, "CreateDiskOffering", "POST", "disk-offerings", body).await;
    assert_eq!(
        (&made["diskSize"], &made["allocatorStrategy"]),
        (&json!(10_u64 << 30), &json!("Here"))
    );
    let target = format!("disk-offerings/{}", uuid_of(&made));
    let actions = format!("{target}/actions");
    let update = json!({"updateDiskOffering": {"name": "10", "description": "ten"}});
    let updated = change(&site, "UpdateDiskOffering", "PUT", &actions, update).await;
    assert_eq!(
        (&updated["name"], &updated["description"]),
        (&json!("10"), &json!("ten"))
    );
    let disable = json!({"changeDiskOfferingState": {"stateEvent": "disable"}});
    let off = change(&site, "ChangeDiskOfferingState", "PUT", &actions, disable).await;
    assert_eq!(off["state"], "Disabled");
    let create = json!({"params": {"name": "v", "diskOfferingUuid": uuid_of(&made)}});
    refused(&site, "POST", "volumes/data", create, "SYS.1006").await;
    site.done("DELETE", &format!("{V1}/{target}"), &Value::Null)
        .await
        .good();
    assert!(rows(&site, "QueryDiskOffering", &target).await.is_empty());
    refused(&site, "DELETE", &target, Value::Null, "SYS.1003").await;
    let nothing = json!({"params": {"name": "none", "diskSize": 0}});
    refused(&site, "POST", "disk-offerings", nothing, "SYS.1007").await;
}

#[tokio::test]
async fn offerings_of_a_tenant_are_its_own_and_those_of_everybody_are_not_its_to_change() {
    let site = Site::new().await;
    site.account("guest", "away", Role::User, None).await;
    let guest = site.log_in("guest").await;
    let body = json!({"params": {"name": "mine", "cpuNum": 1, "memorySize": 1 << 30}});
    let target = format!("{V1}/instance-offerings");
    let made = site.done_as(&guest, "POST", &target, &body).await.good();
    let own = site
        .call_as(&guest, "GET", &format!("{target}?q=name=mine"), &Value::Null)
        .await
        .good();
    assert_eq!(own["inventories"], json!([made["inventory"]]));
    let small = format!("{target}/{}", site.catalogue.small);
    let answer = site.done_as(&guest, "DELETE", &small, &Value::Null).await;
    assert_eq!(answer.code(), "ID.1002");
}

#[tokio::test]
async fn affinity_groups_have_members() {
    let site = Site::new().await;
    let body = json!({"params": {"name": "apart", "policy": "antiSoft", "type": "host"}});
    let made = change(&site, "CreateAffinityGroup", "POST", "affinity-groups", body).await;
    assert_eq!(
        (&made["policy"], &made["type"]),
        (&json!("ANTISOFT"), &json!("HOST"))
    );
    assert_eq!(made["usages"], json!([]));
    let group = uuid_of(&made);
    let vm = site.stopped("one").await;
    let target = format!("affinity-groups/{group}");
    let add = format!("{target}/vm-instances/{vm}");
    let with = change(&site, "AddVmToAffinityGroup", "POST", &add, json!({})).await;
    assert_eq!(with["usages"][0]["resourceUuid"], vm);
    let found = site
        .get(&format!("{MACHINES}?q=affinityGroup.name=apart&fields=uuid"))
        .await
        .good();
    assert_eq!(found["inventories"], json!([{"uuid": vm}]));
    let actions = format!("{target}/actions");
    let update = json!({"updateAffinityGroup": {"name": "far"}});
    assert_eq!(
        change(&site, "UpdateAffinityGroup", "PUT", &actions, update).await["name"],
        "far"
    );
    let remove = format!("{target}/vm-instances?uuid={vm}");
    let without = change(&site, "RemoveVmFromAffinityGroup", "DELETE", &remove, Value::Null).await;
    assert_eq!(without["usages"], json!([]));
    refused(&site, "DELETE", &remove, Value::Null, "SYS.1003").await;
    let disable = json!({"changeAffinityGroupState": {"stateEvent": "disable"}});
    let off = change(&site, "ChangeAffinityGroupState", "PUT", &actions, disable).await;
    assert_eq!(off["state"], "Disabled");
    refused(&site, "POST", &add, json!({}), "SYS.1006").await;
    refused(
        &site,
        "POST",
        &format!("{target}/vm-instances/{NOBODY}"),
        json!({}),
        "SYS.1003",
    )
    .await;
    let wrong = json!({"params": {"name": "x", "policy": "together"}});
    refused(&site, "POST", "affinity-groups", wrong, "SYS.1007").await;
    site.done("DELETE", &format!("{V1}/{target}"), &Value::Null)
        .await
        .good();
    refused(&site, "DELETE", &target, Value::Null, "SYS.1003").await;
}
