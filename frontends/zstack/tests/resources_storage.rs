//! Volumes, images and snapshots, over a simulated hypervisor.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

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

async fn data_volume(site: &Site, name: &str) -> Value {
    let body =
        json!({"params": {"name": name, "diskOfferingUuid": site.catalogue.disk, "description": "data"}});
    change(site, "CreateDataVolume", "POST", "volumes/data", body).await
}

#[tokio::test]
async fn a_data_volume_is_made_attached_enlarged_detached_and_removed() {
    let site = Site::new().await;
    let made = data_volume(&site, "data-1").await;
    let volume = uuid_of(&made);
    assert_eq!(
        (&made["type"], &made["size"]),
        (&json!("Data"), &json!(5_u64 << 30))
    );
    assert_eq!(
        (&made["status"], &made["state"]),
        (&json!("Ready"), &json!("Enabled"))
    );
    assert_eq!(made["diskOfferingUuid"], site.catalogue.disk);
    assert!(made.get("vmInstanceUuid").is_none());
    let target = format!("volumes/{volume}");
    let vm = site.stopped("holder").await;
    let candidates = rows(
        &site,
        "GetDataVolumeAttachableVm",
        &format!("{target}/candidate-vm-instances"),
    )
    .await;
    assert_eq!(candidates[0]["uuid"], vm);

    let attach = format!("{target}/vm-instances/{vm}");
    let attached = change(&site, "AttachDataVolumeToVm", "POST", &attach, json!({"": {}})).await;
    assert_eq!(
        (&attached["vmInstanceUuid"], &attached["deviceId"]),
        (&json!(vm), &json!(1))
    );
    let shown = site.get(&machine(&vm)).await.good();
    assert_eq!(shown["inventories"][0]["allVolumes"][1], attached);
    refused(&site, "POST", &attach, json!({}), "SYS.1006").await;
    refused(&site, "DELETE", &target, Value::Null, "SYS.1006").await;

    let resize = json!({"resizeDataVolume": {"size": 6_u64 << 30}});
    let path = format!("volumes/data/resize/{volume}/actions");
    let larger = change(&site, "ResizeDataVolume", "PUT", &path, resize).await;
    assert_eq!(larger["size"], 6_u64 << 30);
    let smaller = json!({"resizeDataVolume": {"size": 1_u64 << 30}});
    refused(&site, "PUT", &path, smaller, "SYS.1007").await;
    let root = json!({"resizeRootVolume": {"size": 7_u64 << 30}});
    refused(
        &site,
        "PUT",
        &format!("volumes/resize/{volume}/actions"),
        root,
        "SYS.1006",
    )
    .await;

    let detach = format!("{target}/vm-instances?vmUuid={vm}");
    let detached = change(&site, "DetachDataVolumeFromVm", "DELETE", &detach, Value::Null).await;
    assert!(detached.get("vmInstanceUuid").is_none(), "{detached}");
    refused(&site, "DELETE", &detach, Value::Null, "SYS.1006").await;

    let actions = format!("{target}/actions");
    refused(
        &site,
        "PUT",
        &actions,
        json!({"expungeDataVolume": {}}),
        "SYS.1006",
    )
    .await;
    site.done("DELETE", &format!("{V1}/{target}?deleteMode="), &Value::Null)
        .await
        .good();
    let deleted = rows(&site, "QueryVolume", &target).await;
    assert_eq!(deleted[0]["status"], "Deleted");
    let back = change(
        &site,
        "RecoverDataVolume",
        "PUT",
        &actions,
        json!({"recoverDataVolume": {}}),
    )
    .await;
    assert_eq!(back["status"], "Ready");
    refused(
        &site,
        "PUT",
        &actions,
        json!({"recoverDataVolume": {}}),
        "SYS.1006",
    )
    .await;
    site.done("DELETE", &format!("{V1}/{target}"), &Value::Null)
        .await
        .good();
    let expunged = site
        .done(
            "PUT",
            &format!("{V1}/{actions}"),
            &json!({"expungeDataVolume": {}}),
        )
        .await;
    assert_eq!(expunged.good(), json!({}));
    assert!(rows(&site, "QueryVolume", &target).await.is_empty());
    // What is not there is as good as deleted.
    let again = site.done("DELETE", &format!("{V1}/{target}"), &Value::Null).await;
    assert_eq!(again.good(), json!({}));
    refused(
        &site,
        "PUT",
        &actions,
        json!({"expungeDataVolume": {}}),
        "SYS.1003",
    )
    .await;
}

#[tokio::test]
async fn a_volume_is_renamed_disabled_and_limited() {
    let site = Site::new().await;
    let volume = uuid_of(&data_volume(&site, "data").await);
    let actions = format!("volumes/{volume}/actions");
    let update = json!({"updateVolume": {"name": "logs", "description": ""}});
    let updated = change(&site, "UpdateVolume", "PUT", &actions, update).await;
    assert_eq!(updated["name"], "logs");
    let state = |event: &str| json!({"changeVolumeState": {"stateEvent": event}});
    let off = change(&site, "ChangeVolumeState", "PUT", &actions, state("disable")).await;
    assert_eq!(off["state"], "Disabled");
    let vm = site.stopped("holder").await;
    let attach = format!("volumes/{volume}/vm-instances/{vm}");
    refused(&site, "POST", &attach, json!({}), "SYS.1006").await;
    let limit = |bytes: u64| json!({"setVolumeQos": {"volumeBandwidth": bytes}});
    refused(&site, "PUT", &actions, limit(1 << 20), "SYS.1006").await;
    change(&site, "ChangeVolumeState", "PUT", &actions, state("enable")).await;
    change(&site, "AttachDataVolumeToVm", "POST", &attach, json!({})).await;
    refused(&site, "PUT", &actions, limit(10), "SYS.1007").await;
    change(&site, "SetVolumeQoS", "PUT", &actions, limit(1 << 20)).await;
    let qos = format!("{V1}/volumes/{volume}/qos");
    let set = site.get(&qos).await.good();
    documented("GetVolumeQoS", &set);
    assert_eq!(set["volumeBandwidth"], 1 << 20);
    change(
        &site,
        "DeleteVolumeQoS",
        "DELETE",
        &format!("volumes/{volume}/qos"),
        Value::Null,
    )
    .await;
    assert_eq!(site.get(&qos).await.good()["volumeBandwidth"], -1);

    let root = site.get(&machine(&vm)).await.good()["inventories"][0]["rootVolumeUuid"].clone();
    let root = root.as_str().unwrap();
    let named = change(
        &site,
        "UpdateVolume",
        "PUT",
        &format!("volumes/{root}/actions"),
        json!({"updateVolume": {"name": "system"}}),
    )
    .await;
    assert_eq!(
        (&named["name"], &named["type"]),
        (&json!("system"), &json!("Root"))
    );
    let shown = site.get(&machine(&vm)).await.good();
    assert_eq!(
        shown["inventories"][0]["allVolumes"][0]["name"], "system",
        "not an old form"
    );
    refused(
        &site,
        "DELETE",
        &format!("volumes/{root}"),
        Value::Null,
        "SYS.1006",
    )
    .await;
    refused(
        &site,
        "PUT",
        &format!("volumes/{NOBODY}/actions"),
        json!({"updateVolume": {}}),
        "SYS.1003",
    )
    .await;
}

#[tokio::test]
async fn formats_and_capabilities_are_told() {
    let site = Site::new().await;
    let formats = site.get(&format!("{V1}/volumes/formats")).await.good();
    documented("GetVolumeFormat", &formats);
    let names: Vec<&str> = formats["formats"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["format"].as_str())
        .collect();
    assert_eq!(names, ["qcow2", "raw", "iso"]);
    let volume = uuid_of(&data_volume(&site, "data").await);
    let can = site
        .get(&format!("{V1}/volumes/{volume}/capabilities"))
        .await
        .good();
    documented("GetVolumeCapabilities", &can);
    assert!(can["capabilities"]["MigrationInCurrentPrimaryStorage"].is_boolean());
}

#[tokio::test]
async fn images_change_state_go_to_the_trash_and_come_back() {
    let site = Site::new().await;
    let image = site.catalogue.image.clone();
    let actions = format!("images/{image}/actions");
    let shown = rows(&site, "QueryImage", &format!("images/{image}")).await;
    assert_eq!(
        (&shown[0]["mediaType"], &shown[0]["status"]),
        (&json!("RootVolumeTemplate"), &json!("Ready"))
    );
    assert_eq!(shown[0]["backupStorageRefs"][0]["imageUuid"], image);
    let isos = rows(&site, "QueryImage", "images?q=mediaType=ISO").await;
    assert_eq!(
        (&isos[0]["uuid"], &isos[0]["format"]),
        (&json!(site.catalogue.iso), &json!("iso"))
    );
    let update = json!({"updateImage": {"name": "trixie", "platform": "Linux", "guestOsType": "Debian 13"}});
    let updated = change(&site, "UpdateImage", "PUT", &actions, update).await;
    assert_eq!(
        (&updated["name"], &updated["guestOsType"]),
        (&json!("trixie"), &json!("Debian 13"))
    );
    refused(
        &site,
        "PUT",
        &actions,
        json!({"updateImage": {"platform": "Amiga"}}),
        "SYS.1007",
    )
    .await;
    let state = |event: &str| json!({"changeImageState": {"stateEvent": event}});
    assert_eq!(
        change(&site, "ChangeImageState", "PUT", &actions, state("disable")).await["state"],
        "Disabled"
    );
    change(&site, "ChangeImageState", "PUT", &actions, state("enable")).await;
    change(
        &site,
        "SetImageQga",
        "PUT",
        &actions,
        json!({"setImageQga": {"enable": true}}),
    )
    .await;
    let qga = site.get(&format!("{V1}/images/{image}/qga")).await.good();
    documented("GetImageQga", &qga);
    assert_eq!(qga["enable"], true);

    refused(&site, "PUT", &actions, json!({"recoverImage": {}}), "SYS.1006").await;
    refused(&site, "PUT", &actions, json!({"expungeImage": {}}), "SYS.1006").await;
    site.done("DELETE", &format!("{V1}/images/{image}"), &Value::Null)
        .await
        .good();
    let deleted = rows(&site, "QueryImage", "images?q=status=Deleted").await;
    assert_eq!(deleted[0]["uuid"], image);
    let create = site
        .done("POST", MACHINES, &json!({"params": site.wanted("x")}))
        .await;
    assert_eq!(
        create.status, 503,
        "nothing is made from a deleted image: {}",
        create.text
    );
    let back = change(
        &site,
        "RecoverImage",
        "PUT",
        &actions,
        json!({"recoverImage": {}}),
    )
    .await;
    assert_eq!(back["status"], "Ready");
    refused(
        &site,
        "DELETE",
        &format!("images/{NOBODY}"),
        Value::Null,
        "SYS.1003",
    )
    .await;
}

#[tokio::test]
async fn templates_are_made_of_volumes_and_volumes_of_templates() {
    let site = Site::new().await;
    let vm = site.stopped("source").await;
    let root = site.get(&machine(&vm)).await.good()["inventories"][0]["rootVolumeUuid"].clone();
    let root = root.as_str().unwrap().to_owned();
    let storage = format!("images/volumes/{root}/candidate-backup-storage");
    let storages = rows(&site, "GetCandidateBackupStorageForCreatingImage", &storage).await;
    let backup = uuid_of(&storages[0]);
    let body = json!({"params": {"name": "golden", "backupStorageUuids": [backup], "platform": "Linux"}});
    let target = format!("images/root-volume-templates/from/volumes/{root}");
    let golden = change(
        &site,
        "CreateRootVolumeTemplateFromRootVolume",
        "POST",
        &target,
        body,
    )
    .await;
    assert_eq!(
        (&golden["mediaType"], &golden["status"]),
        (&json!("RootVolumeTemplate"), &json!("Ready"))
    );
    assert_eq!(golden["backupStorageRefs"][0]["backupStorageUuid"], backup);
    let mut wanted = site.wanted("child");
    wanted["imageUuid"] = golden["uuid"].clone();
    assert_eq!(site.created(wanted).await["imageUuid"], golden["uuid"]);

    let data = data_volume(&site, "data").await;
    let target = format!("images/data-volume-templates/from/volumes/{}", uuid_of(&data));
    let body = json!({"params": {"name": "data template"}});
    let template = change(&site, "CreateDataVolumeTemplateFromVolume", "POST", &target, body).await;
    assert_eq!(template["mediaType"], "DataVolumeTemplate");
    let target = format!("volumes/data/from/data-volume-templates/{}", uuid_of(&template));
    let body = json!({"params": {"name": "copy", "primaryStorageUuid": data["primaryStorageUuid"]}});
    let copy = change(&site, "CreateDataVolumeFromVolumeTemplate", "POST", &target, body).await;
    assert_eq!(
        (&copy["size"], &copy["rootImageUuid"]),
        (&data["size"], &template["uuid"])
    );
    let wrong = json!({"params": {"name": "x", "primaryStorageUuid": data["primaryStorageUuid"]}});
    let target = format!("volumes/data/from/data-volume-templates/{}", uuid_of(&golden));
    refused(&site, "POST", &target, wrong, "SYS.1006").await;
    let target = format!("images/root-volume-templates/from/volumes/{}", uuid_of(&data));
    refused(
        &site,
        "POST",
        &target,
        json!({"params": {"name": "x"}}),
        "SYS.1006",
    )
    .await;

    let image = uuid_of(&template);
    site.done("DELETE", &format!("{V1}/images/{image}"), &Value::Null)
        .await
        .good();
    let expunge = json!({"expungeImage": {}});
    let expunged = site
        .done("PUT", &format!("{V1}/images/{image}/actions"), &expunge)
        .await;
    assert_eq!(expunged.good(), json!({}));
    assert!(
        rows(&site, "QueryImage", &format!("images/{image}"))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn an_image_is_not_fetched_from_where_the_site_does_not_allow() {
    let site = Site::new().await;
    let storages = rows(&site, "QueryBackupStorage", "backup-storage").await;
    let body = |format: &str, storage: &Value| {
        json!({"params": {"name": "n", "url": "http://192.0.2.1/x.qcow2", "format": format,
                          "backupStorageUuids": [storage]}})
    };
    let answer = site
        .done(
            "POST",
            &format!("{V1}/images"),
            &body("qcow2", &storages[0]["uuid"]),
        )
        .await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    refused(
        &site,
        "POST",
        "images",
        body("vhdx", &storages[0]["uuid"]),
        "SYS.1007",
    )
    .await;
    refused(&site, "POST", "images", body("qcow2", &json!(NOBODY)), "SYS.1003").await;
    assert_eq!(
        rows(&site, "QueryImage", "images?q=name=n").await,
        Vec::<Value>::new()
    );
}

#[tokio::test]
async fn snapshots_form_a_tree_and_are_gone_back_to() {
    let site = Site::new().await;
    let vm = site.stopped("source").await;
    let root = site.get(&machine(&vm)).await.good()["inventories"][0]["rootVolumeUuid"].clone();
    let root = root.as_str().unwrap().to_owned();
    let target = format!("volumes/{root}/volume-snapshots");
    let body = |name: &str| json!({"params": {"name": name, "description": "before"}});
    let first = change(&site, "CreateVolumeSnapshot", "POST", &target, body("first")).await;
    assert_eq!(
        (&first["volumeUuid"], &first["volumeType"]),
        (&json!(root), &json!("Root"))
    );
    assert_eq!(
        (&first["status"], &first["latest"]),
        (&json!("Ready"), &json!(true))
    );
    let second = change(&site, "CreateVolumeSnapshot", "POST", &target, body("second")).await;
    assert_eq!(second["treeUuid"], first["treeUuid"]);
    assert_eq!(second["parentUuid"], first["uuid"]);
    let tree = first["treeUuid"].as_str().unwrap();
    let trees = rows(
        &site,
        "QueryVolumeSnapshotTree",
        &format!("volume-snapshots/trees/{tree}"),
    )
    .await;
    let leaf = &trees[0]["tree"];
    assert_eq!(leaf["inventory"]["name"], "first");
    assert_eq!(leaf["children"][0]["inventory"]["name"], "second");
    assert_eq!(trees[0]["current"], true);

    let snapshot = format!("volume-snapshots/{}", uuid_of(&first));
    let actions = format!("{snapshot}/actions");
    let update = json!({"updateVolumeSnapshot": {"name": "start"}});
    assert_eq!(
        change(&site, "UpdateVolumeSnapshot", "PUT", &actions, update).await["name"],
        "start"
    );
    let revert = json!({"revertVolumeFromSnapshot": {}});
    let reverted = site.done("PUT", &format!("{V1}/{actions}"), &revert).await;
    assert_eq!(reverted.good(), json!({}));
    let found = rows(
        &site,
        "QueryVolumeSnapshot",
        &format!("volume-snapshots?q=volume.uuid={root}&sort=name"),
    )
    .await;
    assert_eq!(found.len(), 2);
    site.done("DELETE", &format!("{V1}/{snapshot}"), &Value::Null)
        .await
        .good();
    assert!(rows(&site, "QueryVolumeSnapshot", &snapshot).await.is_empty());
    assert_eq!(
        rows(&site, "QueryVolumeSnapshot", "volume-snapshots").await.len(),
        1,
        "what is based on it stays"
    );
    refused(&site, "DELETE", &snapshot, Value::Null, "SYS.1003").await;
    let data = uuid_of(&data_volume(&site, "free").await);
    refused(
        &site,
        "POST",
        &format!("volumes/{data}/volume-snapshots"),
        body("x"),
        "SYS.1006",
    )
    .await;
}
