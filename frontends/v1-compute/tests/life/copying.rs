//! Copies, templates, exports, imports and moves: work that is asked after.

use babelvisor_core::capability::Capability;
use babelvisor_memory::{Delay, MemoryConfig};
use serde_json::{Value, json};

use crate::support::{GIB, Site, eventually, open};
use crate::{named, query, wanted, with};

const SLOW: Delay = Delay::Fixed(300);

async fn call(site: &Site, path: &str, uuid: &str, more: Value) -> crate::support::Answer {
    site.post(&format!("/v1/compute/{path}"), &with(uuid, more)).await
}

/// The machine with this name, once it is whole.
async fn found(site: &Site, name: &str) -> String {
    let find = || {
        let vm = site.all().into_iter().find(|vm| vm.name() == name)?;
        Some(vm.id.to_string())
    };
    let uuid = eventually("the machine is there", find).await;
    site.settled(&uuid).await;
    uuid
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_found_by_its_name_and_shows_cloning_meanwhile() {
    let site = Site::open().await;
    let source = site.machine("web").await;
    site.control.set_delay(Capability::VolumeCopy, SLOW);
    let result = call(&site, "clone", &source, json!({"clone_name": "copy"}))
        .await
        .only();
    assert_eq!(result["scode"], 0, "{result}");
    assert_eq!(
        result["data"],
        json!({"tenant": "", "vm_uuid": source, "index": 0, "clone_name": "copy"})
    );
    assert_eq!(site.inspect(&source).await["action"], "cloning");
    let progress = call(&site, "clone/progress", &source, json!({})).await.good();
    assert!(progress["progress"].as_i64().unwrap() < 100);
    let cloning = site.get("/v1/compute/list?filter_action=cloning").await.good();
    assert_eq!(cloning["total_count"], 2, "source and copy");
    let copy = found(&site, "copy").await;
    let shown = site.inspect(&copy).await;
    assert_eq!(
        (&shown["parent_uuid"], &shown["state"]),
        (&json!(source), &json!("shutoff"))
    );
    assert_ne!(
        shown["interfaces"][0]["mac_address"],
        site.inspect(&source).await["interfaces"][0]["mac_address"]
    );
    call(&site, "clone/progress", &source, json!({})).await.bad(22102);
    call(&site, "clone/progress", &copy, json!({})).await.bad(22102);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_copies_are_made_one_after_the_other() {
    let site = Site::open().await;
    let source = site.machine("web").await;
    let body = json!({"clone_name": "copy", "clone_num": 2});
    let data = call(&site, "clone", &source, body).await.good();
    assert_eq!(
        (&data["success"], &data["fail"]),
        (&json!(2), &json!(0)),
        "{data}"
    );
    for name in ["copy-0", "copy-1"] {
        found(&site, name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_copied_is_refused() {
    let site = Site::open().await;
    let (on, off) = (site.running("on").await, site.machine("off").await);
    let result = call(&site, "clone", &on, json!({"clone_name": "copy"}))
        .await
        .only();
    assert_eq!(result["scode"], 22003, "{result}");
    assert_eq!(result["data"]["clone_name"], "copy");
    let disk = site.inspect(&off).await["disks"][0]["disk_target_device"].clone();
    let elsewhere =
        json!([{"target_device": disk, "source_pool_uuid": "00000000-0000-4000-8000-000000000000"}]);
    let cases = [
        (json!({}), 10001),
        (json!({"clone_name": ""}), 10001),
        (json!({"clone_name": "c", "clone_num": 101}), 10001),
        (json!({"clone_name": "c", "snapshot": "before"}), 22005),
        (json!({"clone_name": "c", "zone": off}), 22005),
        (json!({"clone_name": "c", "disks": elsewhere}), 22001),
        (
            json!({"clone_name": "c", "disks": [{"target_device": "sdz", "source_pool_uuid": site.pool()}]}),
            22001,
        ),
        (json!({"clone_name": "c", "object_group": on}), 22001),
    ];
    for (body, scode) in cases {
        let answer = call(&site, "clone", &off, body.clone()).await;
        assert_eq!(answer.scode(), scode, "{body}: {}", answer.body);
    }
    assert_eq!(site.all().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_gives_the_disk_and_the_rest_is_said() {
    let site = Site::open().await;
    let mut config = wanted(&site, "made");
    config["disks"] = json!([]);
    let id = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
    let mut body = json!({
        "cluster_uuid": site.cluster(), "tenant": "home", "vm_template_id": site.image("debian"),
        "vm_config_override": config, "assign_vm_uuid": id, "auto_snapshot": true,
    });
    let at = "/v1/compute/create/from_template";
    let result = site.post(at, &body).await.only();
    assert_eq!(result["scode"], 0, "{result}");
    assert_eq!(result["data"]["vm_uuid"], id);
    let shown = site.inspect(id).await;
    assert_eq!(shown["disks"][0]["disk_vsd_source"]["disk_capacity"], 2 * GIB);
    let now = site.core.now();
    assert_eq!(now.snapshots_of(id.parse().unwrap()).count(), 1);
    // The uuid is in use now.
    assert_eq!(site.post(at, &body).await.only()["scode"], 22002);
    body["create_num"] = json!(2);
    site.post(at, &body).await.bad(10001);
    body["vm_template_id"] = json!(id);
    let why = site.post(at, &body).await.bad(22005);
    assert!(why.contains("export its disk"), "{why}");
    body["vm_template_id"] = json!("00000000-0000-4000-8000-000000000000");
    site.post(at, &body).await.bad(22001);
}

fn export(device: &str, more: Value) -> Value {
    let mut disk =
        json!({"device": device, "snapshot_uuid": "", "image_name": "golden", "image_type": "qcow2"});
    for (name, value) in more.as_object().unwrap() {
        disk[name] = value.clone();
    }
    json!({"compress": false, "disk": [disk]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_followed_to_100_and_its_image_is_found() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    let device = site.inspect(&uuid).await["disks"][0]["disk_target_device"]
        .as_str()
        .unwrap()
        .to_owned();
    let progress = format!("/v1/compute/disk/export/progress?{}", query(&site, &uuid));
    site.get(&progress).await.bad(22151);
    site.control.set_delay(Capability::VolumeCopy, SLOW);
    let told = call(&site, "disk/export", &uuid, export(&device, json!({})))
        .await
        .good();
    assert_eq!(told, json!({"name": "web"}));
    assert_eq!(site.inspect(&uuid).await["action"], "exporting");
    assert!(site.get(&progress).await.good()["progress"].as_i64().unwrap() < 100);
    site.settled(&uuid).await;
    assert_eq!(
        site.get(&progress).await.good()["progress"],
        100,
        "also when it is over"
    );
    assert_eq!(site.inspect(&uuid).await["action"], "noaction");
    let image = format!(
        "/v1/compute/repository/image/get?cluster_uuid={}&tenant=home&name=golden.qcow2&repository=default&uuid",
        site.cluster()
    );
    let found = site.get(&image).await.good();
    assert_eq!(found["image"]["Name"], "golden.qcow2");
    // The image's name is taken now.
    call(&site, "disk/export", &uuid, export(&device, json!({})))
        .await
        .bad(22002);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_exported_is_refused() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    let device = site.inspect(&uuid).await["disks"][0]["disk_target_device"]
        .as_str()
        .unwrap()
        .to_owned();
    let cases = [
        (json!({}), 10001),
        (json!({"disk": []}), 10001),
        (export("sdz", json!({})), 22001),
        (export(&device, json!({"image_name": ""})), 10001),
        (export(&device, json!({"image_type": "vmdk"})), 22005),
        (export(&device, json!({"image_type": "raw"})), 22005),
        (export(&device, json!({"snapshot_uuid": uuid})), 22005),
        (export(&device, json!({"repository_uuid": uuid})), 22001),
    ];
    for (body, scode) in cases {
        let answer = call(&site, "disk/export", &uuid, body.clone()).await;
        assert_eq!(answer.scode(), scode, "{body}: {}", answer.body);
    }
    site.post("/v1/compute/start", &named(&uuid)).await.good();
    call(&site, "disk/export", &uuid, export(&device, json!({})))
        .await
        .bad(22003);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_is_followed_and_aborted() {
    let site = Site::open().await;
    site.control.set_delay(Capability::VolumeCopy, Delay::Fixed(1500));
    let volumes = site.control.volumes().len();
    let mut body = wanted(&site, "imported");
    body["disks"][0]["image_uuid"] = json!(site.image("debian"));
    let result = site.post("/v1/compute/unified_import", &body).await.only();
    let uuid = result["data"]["vm_uuid"].as_str().unwrap().to_owned();
    let progress = call(&site, "import/progress", &uuid, json!({})).await.good();
    assert!(progress["progress"].as_i64().unwrap() < 100);
    let told = call(&site, "import/abort", &uuid, json!({})).await.good();
    assert_eq!(told, json!({"compute_name": "imported"}));
    eventually("the volume is taken back", || {
        (site.control.volumes().len() == volumes).then_some(())
    })
    .await;
    let other = site.machine("other").await;
    call(&site, "import/progress", &other, json!({})).await.bad(22003);
    call(&site, "import/abort", &other, json!({})).await.bad(22003);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_machine_moves_to_another_host() {
    let mut config = MemoryConfig::default();
    config.hosts.count = 2;
    let site = Site::on(open(), config).await;
    let uuid = site.running("web").await;
    let here = site.inspect(&uuid).await["machine_uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let now = site.core.now();
    let there = now
        .hosts
        .keys()
        .map(ToString::to_string)
        .find(|host| *host != here)
        .unwrap();
    let told = call(&site, "migrate", &uuid, json!({"destination": there}))
        .await
        .good();
    assert_eq!(told, json!({"compute_name": "web"}));
    site.settled(&uuid).await;
    let shown = site.inspect(&uuid).await;
    assert_eq!(
        (&shown["machine_uuid"], &shown["state"]),
        (&json!(there), &json!("running"))
    );
    call(&site, "migrate", &uuid, json!({"destination": there}))
        .await
        .bad(22003);
    call(&site, "migrate", &uuid, json!({"destination": uuid}))
        .await
        .bad(22001);
    call(&site, "migrate", &uuid, json!({})).await.bad(10001);
    call(&site, "migrate/abort", &uuid, json!({})).await.bad(22003);
    let off = site.machine("off").await;
    let elsewhere = site.inspect(&off).await["machine_uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = now
        .hosts
        .keys()
        .map(ToString::to_string)
        .find(|host| *host != elsewhere)
        .unwrap();
    call(&site, "migrate", &off, json!({"destination": other}))
        .await
        .bad(22003);
}
