//! Hardware of machines that exist.

use babelvisor_core::capability::Capability;
use babelvisor_memory::MemoryConfig;
use serde_json::{Value, json};

use crate::support::{GIB, Site, open};
use crate::{named, wanted, with};

async fn call(site: &Site, path: &str, uuid: &str, more: Value) -> crate::support::Answer {
    site.post(&format!("/v1/compute/{path}"), &with(uuid, more)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processors_are_set_by_the_rules_of_the_document() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    call(
        &site,
        "vcpu/set",
        &uuid,
        json!({"cpu_max": 4, "cpu_sockets": 2, "cpu_socket_cores": 2, "cpu_current": 2}),
    )
    .await
    .good();
    let shown = site.inspect(&uuid).await;
    assert_eq!(
        (
            &shown["cpu_current"],
            &shown["cpu_max_count"],
            &shown["cpu_sockets"],
            &shown["cpu_socket_cores"]
        ),
        (&json!("2"), &json!(4), &json!(2), &json!(2))
    );
    call(&site, "vcpu/set", &uuid, json!({"cpu_current": 5}))
        .await
        .bad(10001);
    call(
        &site,
        "vcpu/set",
        &uuid,
        json!({"cpu_max": 6, "cpu_sockets": 2, "cpu_socket_cores": 2}),
    )
    .await
    .bad(10001);
    // While it runs it takes more, up to the most, and no fewer.
    site.post("/v1/compute/start", &named(&uuid)).await.good();
    call(&site, "vcpu/set", &uuid, json!({"cpu_current": 3}))
        .await
        .good();
    assert_eq!(site.inspect(&uuid).await["cpu_current"], "3");
    call(&site, "vcpu/set", &uuid, json!({"cpu_current": 1}))
        .await
        .bad(22003);
    call(&site, "vcpu/set", &uuid, json!({"cpu_max": 8}))
        .await
        .bad(22003);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_grows_and_the_balloon_takes_it_back() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    call(&site, "vmemory/set", &uuid, json!({"vmemory": 2 * GIB}))
        .await
        .good();
    assert_eq!(site.inspect(&uuid).await["mem_size"], 2 * GIB);
    call(&site, "vmemory/set", &uuid, json!({"vmemory": 257 * GIB}))
        .await
        .bad(10001);
    call(&site, "vmemory/set", &uuid, json!({"vmemory": 0}))
        .await
        .bad(10001);
    site.post("/v1/compute/start", &named(&uuid)).await.good();
    call(&site, "balloon/set", &uuid, json!({"memory": GIB}))
        .await
        .good();
    assert_eq!(site.inspect(&uuid).await["mem_size"], GIB);
    call(&site, "balloon/set", &uuid, json!({"memory": 0}))
        .await
        .good();
    assert_eq!(
        site.inspect(&uuid).await["mem_size"],
        2 * GIB,
        "0 gives all of it"
    );
    call(&site, "balloon/set", &uuid, json!({"memory": 3 * GIB}))
        .await
        .bad(10001);
    let why = call(&site, "vmemory/set", &uuid, json!({"vmemory": 4 * GIB}))
        .await
        .bad(22003);
    assert!(why.contains("shut it off"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_boot_order_is_set_and_shown() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    let shown = site.inspect(&uuid).await;
    let (disk, mac) = (
        &shown["disks"][0]["disk_target_device"],
        &shown["interfaces"][0]["mac_address"],
    );
    call(
        &site,
        "bootorder/set",
        &uuid,
        json!({"device_order": [mac, disk]}),
    )
    .await
    .good();
    let order = site.inspect(&uuid).await["device_order"].clone();
    assert_eq!((&order[0], &order[1]), (mac, disk));
    call(&site, "bootorder/set", &uuid, json!({"device_order": ["sdz"]}))
        .await
        .bad(10001);
    call(&site, "bootorder/set", &uuid, json!({})).await.bad(10001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_password_is_changed_in_clear_only() {
    let site = Site::open().await;
    let uuid = site.running("web").await;
    call(
        &site,
        "graphics/password/set",
        &uuid,
        json!({"vnc_password": "Lamp-7"}),
    )
    .await
    .good();
    let at = format!(
        "/v1/compute/inspect?{}&show_plaintext=true",
        crate::query(&site, &uuid)
    );
    assert_eq!(site.get(&at).await.good()["vnc_password_plaintext"], "Lamp-7");
    let cipher = "7260a00f0794c10c7ed0652b0e465dd0";
    let why = call(
        &site,
        "graphics/password/set",
        &uuid,
        json!({"vnc_password": cipher}),
    )
    .await
    .bad(22005);
    assert!(why.contains("cipher") && !why.contains(cipher), "{why}");
    call(
        &site,
        "graphics/password/set",
        &uuid,
        json!({"spice_password": "Lamp-8"}),
    )
    .await
    .bad(22005);
    call(&site, "graphics/password/set", &uuid, json!({}))
        .await
        .good();
    assert_eq!(
        site.get(&at).await.good()["vnc_password_plaintext"],
        "Lamp-7",
        "nothing sent, nothing changed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn video_devices_are_added_changed_and_removed_while_it_is_off() {
    let site = Site::open().await;
    let mut body = wanted(&site, "web");
    body["meta"]["video"] = json!([{"model_type": "qxl"}]);
    let made = site.post("/v1/compute/unified_create", &body).await.only();
    let uuid = made["data"]["vm_uuid"].as_str().unwrap().to_owned();
    let models = |shown: Value| -> Vec<String> {
        let all = shown["video"].as_array().unwrap().iter();
        all.map(|video| video["model_type"].as_str().unwrap().to_owned())
            .collect()
    };
    let told = call(
        &site,
        "video/attach",
        &uuid,
        json!({"videos": [{"model_type": "qxl"}]}),
    )
    .await
    .good();
    assert_eq!(told, json!({"name": "web", "uuid": uuid}));
    assert_eq!(models(site.inspect(&uuid).await), ["qxl", "qxl"]);
    call(
        &site,
        "video/attach",
        &uuid,
        json!({"videos": [{"model_type": "vga"}]}),
    )
    .await
    .bad(10001);
    call(
        &site,
        "video/edit",
        &uuid,
        json!({"video": {"heads": 1, "model_type": "vga"}}),
    )
    .await
    .bad(10001);
    call(&site, "video/detach", &uuid, json!({"heads": 0}))
        .await
        .bad(10001);
    call(&site, "video/detach", &uuid, json!({"heads": 2}))
        .await
        .bad(22001);
    call(&site, "video/detach", &uuid, json!({"heads": 1}))
        .await
        .good();
    call(
        &site,
        "video/edit",
        &uuid,
        json!({"video": {"heads": 0, "model_type": "vga", "vga_mem": 8192}}),
    )
    .await
    .good();
    assert_eq!(models(site.inspect(&uuid).await), ["vga"]);
    site.post("/v1/compute/start", &named(&uuid)).await.good();
    call(
        &site,
        "video/edit",
        &uuid,
        json!({"video": {"heads": 0, "model_type": "qxl"}}),
    )
    .await
    .bad(22003);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_and_streaming_are_recorded_while_it_is_off() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    call(
        &site,
        "vgpu/set",
        &uuid,
        json!({"compression": "lz4", "mode": "filter"}),
    )
    .await
    .good();
    call(&site, "vgpu/set", &uuid, json!({"mode": "all"}))
        .await
        .good();
    let shown = site.inspect(&uuid).await;
    assert_eq!(
        (&shown["compression_mode"], &shown["streaming_mode"]),
        (&json!("lz4"), &json!("all")),
        "what is not sent stays"
    );
    call(&site, "vgpu/set", &uuid, json!({"mode": "sometimes"}))
        .await
        .bad(10001);
    site.post("/v1/compute/start", &named(&uuid)).await.good();
    call(&site, "vgpu/set", &uuid, json!({"mode": "off"}))
        .await
        .bad(22003);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discs_come_and_go_and_the_drive_stays() {
    let site = Site::open().await;
    let uuid = site.running("web").await;
    let disc = json!({"source_network_name": "installer", "repository_uuid": "default"});
    call(&site, "cdrom/attach", &uuid, disc).await.good();
    assert_eq!(site.inspect(&uuid).await["cdrom"]["name"], "installer");
    call(&site, "cdrom/detach", &uuid, json!({})).await.good();
    let shown = site.inspect(&uuid).await;
    assert_eq!(shown["cdrom"], json!({}));
    assert!(
        shown["disk_type"]
            .as_array()
            .unwrap()
            .iter()
            .any(|device| device["type"] == 1),
        "the drive stays"
    );
    let disk = json!({"source_network_name": "debian", "repository_uuid": "default"});
    call(&site, "cdrom/attach", &uuid, disk).await.bad(10001);
    let unknown = json!({"source_network_name": "nothing", "repository_uuid": "default"});
    call(&site, "cdrom/attach", &uuid, unknown).await.bad(22001);
    let elsewhere = json!({"source_network_name": "installer", "repository_uuid": uuid});
    call(&site, "cdrom/attach", &uuid, elsewhere).await.bad(22001);
    call(&site, "floppy/detach", &uuid, json!({})).await.bad(22003);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_floppy_disk_comes_and_goes() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    let disc = json!({"source_network_name": "installer", "repository_uuid": "default"});
    call(&site, "floppy/attach", &uuid, disc).await.good();
    assert_eq!(site.inspect(&uuid).await["floppy"]["name"], "installer");
    call(&site, "floppy/detach", &uuid, json!({})).await.good();
    assert_eq!(site.inspect(&uuid).await["floppy"], json!({}));
}

async fn volume(site: &Site, name: &str) -> String {
    let body = json!({
        "count": 1, "volume_name": name, "capacity": GIB, "pool_uuid": site.pool(), "tenant": "home",
        "cluster_uuid": site.cluster(), "snap_capacity": 0, "attribute": {},
    });
    let made = site.post("/v1/volume/internal/create", &body).await.only();
    made["data"]["volume_uuid"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .to_owned()
}

fn disks(shown: &Value) -> Vec<(String, String)> {
    let all = shown["disks"].as_array().unwrap().iter();
    all.map(|disk| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&disk["disk_vsd_source"]["volume_uuid"]),
            text(&disk["disk_target_bus"]),
        )
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_is_plugged_in_changed_and_unplugged_and_its_volume_stays() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    let (one, other) = (volume(&site, "one").await, volume(&site, "other").await);
    let attach =
        json!({"target_bus": "scsi", "source_vsd": {"volume_uuid": one}, "disk_cache_mode": "writeback"});
    call(&site, "disk/attach", &uuid, attach.clone()).await.good();
    let shown = site.inspect(&uuid).await;
    assert_eq!(
        disks(&shown)[1],
        (one.clone(), "virtio".to_owned()),
        "a cache on scsi makes it virtio"
    );
    call(&site, "disk/attach", &uuid, attach).await.bad(22003);
    let device = shown["disks"][1]["disk_target_device"]
        .as_str()
        .unwrap()
        .to_owned();
    let update = json!({
        "old_disk": {"disk_target_device": device},
        "new_disk": {"disk_vsd_source": {"volume_uuid": other}, "disk_target_bus": "scsi"},
    });
    call(&site, "disk/update", &uuid, update).await.good();
    let shown = site.inspect(&uuid).await;
    assert_eq!(disks(&shown)[1], (other.clone(), "scsi".to_owned()));
    let device = shown["disks"][1]["disk_target_device"]
        .as_str()
        .unwrap()
        .to_owned();
    call(&site, "disk/detach", &uuid, json!({"target_device": device}))
        .await
        .good();
    assert_eq!(disks(&site.inspect(&uuid).await).len(), 1);
    for volume in [one, other] {
        let at = format!(
            "/v1/volume/internal/get?cluster_uuid={}&tenant=home&volume_uuid={volume}",
            site.cluster()
        );
        site.get(&at).await.good();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_cannot_be_plugged_in_or_out_are_refused() {
    let site = Site::open().await;
    let uuid = site.machine("web").await;
    let one = volume(&site, "one").await;
    let vsd = json!({"volume_uuid": one});
    let root = site.inspect(&uuid).await["disks"][0]["disk_target_device"]
        .as_str()
        .unwrap()
        .to_owned();
    let unknown = "00000000-0000-4000-8000-000000000000";
    let cases = [
        ("disk/attach", json!({"source_vsd": vsd}), 10001),
        ("disk/attach", json!({"target_bus": "virtio"}), 10001),
        (
            "disk/attach",
            json!({"target_device": "xx1", "source_vsd": vsd}),
            10001,
        ),
        (
            "disk/attach",
            json!({"target_device": root, "source_vsd": vsd}),
            22002,
        ),
        (
            "disk/attach",
            json!({"target_bus": "virtio", "source_vsd": vsd, "source_volume": vsd}),
            10001,
        ),
        (
            "disk/attach",
            json!({"target_bus": "virtio", "disk_block_source": vsd}),
            22005,
        ),
        (
            "disk/attach",
            json!({"target_bus": "virtio", "source_vsd": {"volume_uuid": unknown}}),
            22001,
        ),
        ("disk/detach", json!({"target_device": "sdz"}), 22001),
        ("disk/detach", json!({"target_device": root}), 22003),
        ("disk/detach", json!({}), 10001),
        (
            "disk/update",
            json!({"old_disk": {"disk_target_device": "sdz"}, "new_disk": {}}),
            22001,
        ),
        (
            "disk/update",
            json!({"old_disk": {"disk_target_device": root}, "new_disk": {"disk_target_bus": "ide"}}),
            22005,
        ),
    ];
    for (path, body, scode) in cases {
        let answer = call(&site, path, &uuid, body.clone()).await;
        assert_eq!(answer.scode(), scode, "{path} {body}: {}", answer.body);
    }
    assert_eq!(disks(&site.inspect(&uuid).await).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interfaces_come_move_and_go() {
    let site = Site::open().await;
    let uuid = site.running("web").await;
    let new = json!({
        "interface_model_type": "e1000", "interface_type": "manage", "port_group": "default",
        "mac_address": "52:54:00:01:02:03", "bound_ip": "10.0.0.9",
    });
    let told = call(&site, "interface/attach", &uuid, new.clone()).await.good();
    assert_eq!(told["interface_return"]["mac_address"], "52:54:00:01:02:03");
    assert!(
        !told["interface_return"]["interface_id"]
            .as_str()
            .unwrap()
            .is_empty()
    );
    call(&site, "interface/attach", &uuid, new).await.bad(22002);
    let shown = site.inspect(&uuid).await;
    assert_eq!(shown["interfaces"][1]["interface_model_type"], "e1000");
    assert_eq!(shown["interfaces"][1]["bound_ip"], "10.0.0.9");
    let qos =
        json!({"mac_address": "52:54:00:01:02:03", "in_bount": {"average": 100, "peak": 200, "burst": 100}});
    call(&site, "interface/setqos", &uuid, qos).await.good();
    let other =
        json!({"mac_address": "52:54:00:01:02:03", "out_bount": {"average": 50, "peak": 50, "burst": 50}});
    call(&site, "interface/setqos", &uuid, other).await.good();
    let limited = site.inspect(&uuid).await["interfaces"][1].clone();
    assert_eq!(
        (&limited["in_bount"]["average"], &limited["out_bount"]["average"]),
        (&json!(100), &json!(50)),
        "a direction that is not sent stays"
    );
    call(
        &site,
        "interface/setqos",
        &uuid,
        json!({"mac_address": "52:54:00:01:02:03"}),
    )
    .await
    .bad(10001);
    let gone = json!({"mac_address": "52:54:00:01:02:03"});
    call(&site, "interface/detach", &uuid, gone.clone()).await.good();
    assert_eq!(
        site.inspect(&uuid).await["interfaces"].as_array().unwrap().len(),
        1
    );
    call(&site, "interface/detach", &uuid, gone).await.bad(22001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_gets_another_address_and_network() {
    let site = Site::on(
        open(),
        MemoryConfig {
            networks: vec!["lan".to_owned(), "other".to_owned()],
            ..MemoryConfig::default()
        },
    )
    .await;
    let uuid = site.machine("web").await;
    let shown = site.inspect(&uuid).await;
    let nic = &shown["interfaces"][0];
    let mac = nic["mac_address"].as_str().unwrap().to_owned();
    let moved = json!({"mac_address": mac, "interface_type": "manage", "port_group": "other"});
    call(&site, "modify/network", &uuid, moved).await.good();
    assert_eq!(
        site.inspect(&uuid).await["interfaces"][0]["interface_type"],
        "other"
    );
    let renamed = json!({"old_mac_address": mac, "new_mac_address": "52:54:00:0A:0B:0C"});
    call(&site, "interface/mac/update", &uuid, renamed.clone())
        .await
        .good();
    assert_eq!(
        site.inspect(&uuid).await["interfaces"][0]["mac_address"],
        "52:54:00:0a:0b:0c"
    );
    call(&site, "interface/mac/update", &uuid, renamed)
        .await
        .bad(22001);
    let bad = json!({"old_mac_address": "52:54:00:0a:0b:0c", "new_mac_address": "no address"});
    call(&site, "interface/mac/update", &uuid, bad).await.bad(10001);
    let private = json!({"mac_address": "52:54:00:0a:0b:0c", "interface_type": "internal"});
    call(&site, "modify/network", &uuid, private).await.bad(22005);
    // An address is bound and released; the binding is what the gateway remembers.
    let id = site.inspect(&uuid).await["interfaces"][0]["interface_id"].clone();
    let bind = |peer: &str| json!({"interface_id": id, "bound_ip": "10.0.0.8", "peer": peer});
    let bound = |shown: Value| shown["interfaces"][0]["bound_ip"].as_str().unwrap().to_owned();
    call(&site, "ip_mac_bind/update", &uuid, bind("mac")).await.good();
    assert_eq!(bound(site.inspect(&uuid).await), "10.0.0.8");
    call(&site, "ip_mac_bind/update", &uuid, bind("")).await.good();
    assert_eq!(bound(site.inspect(&uuid).await), "10.0.0.8");
    call(&site, "ip_mac_bind/update", &uuid, bind("off")).await.good();
    assert_eq!(bound(site.inspect(&uuid).await), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_backend_cannot_do_is_refused_with_its_reason() {
    let mut config = MemoryConfig::default();
    for capability in [Capability::NicQos, Capability::ConfigCpu, Capability::DiskAttach] {
        config
            .lacks
            .insert(capability.into(), "the kernel lacks it".to_owned());
    }
    let site = Site::on(open(), config).await;
    let uuid = site.running("web").await;
    let mac = site.inspect(&uuid).await["interfaces"][0]["mac_address"].clone();
    let volume = volume(&site, "one").await;
    let limit = json!({"average": 1, "peak": 1, "burst": 1});
    let cases = [
        ("interface/setqos", json!({"mac_address": mac, "in_bount": limit})),
        (
            "interface/attach",
            json!({"interface_type": "manage", "port_group": "", "out_bount": limit}),
        ),
        ("vcpu/set", json!({"cpu_current": 1})),
        (
            "disk/attach",
            json!({"target_bus": "virtio", "source_vsd": {"volume_uuid": volume}}),
        ),
    ];
    site.control.clear_call_log();
    for (path, body) in cases {
        let why = call(&site, path, &uuid, body).await.bad(22005);
        assert!(why.contains("the kernel lacks it"), "{path}: {why}");
    }
    assert_eq!(
        site.inspect(&uuid).await["interfaces"].as_array().unwrap().len(),
        1
    );
    assert!(
        site.control.call_log().is_empty(),
        "{:?}",
        site.control.call_log()
    );
}
