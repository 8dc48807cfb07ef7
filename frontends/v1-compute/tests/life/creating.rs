//! Making machines.

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_memory::{Fault, MemoryConfig};
use serde_json::{Value, json};

use crate::support::{ADMIN, GIB, Site, USER, open};
use crate::wanted;

const CREATE: &str = "/v1/compute/unified_create";
const IMPORT: &str = "/v1/compute/unified_import";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_made_and_told_with_its_volumes_and_addresses() {
    let site = Site::open().await;
    let mut body = wanted(&site, "web");
    body["max_cpu_nr"] = json!(4);
    body["cpu_sockets"] = json!(2);
    body["interfaces"][0]["mac_address"] = json!("52:54:00:AB:CD:EF");
    body["disks"].as_array_mut().unwrap().push(json!({
        "disk_target_bus": "virtio",
        "disk_unified_vsd": {"pool_uuid": site.pool(), "volume_name": "data", "disk_capacity": 2 * GIB},
    }));
    let result = site.post(CREATE, &body).await.only();
    assert_eq!(result["scode"], 0, "{result}");
    let data = &result["data"];
    assert_eq!(
        (&data["vm_name"], &data["index"], &data["tenant"]),
        (&json!("web"), &json!(0), &json!("home"))
    );
    assert_eq!(data["volume_uuids"].as_array().unwrap().len(), 2);
    assert_eq!(data["mac_addresses"], json!(["52:54:00:ab:cd:ef"]));
    assert_eq!(data["group_name"], "default");
    let shown = site.inspect(data["vm_uuid"].as_str().unwrap()).await;
    assert_eq!(shown["state"], "shutoff");
    assert_eq!(
        (
            &shown["cpu_max_count"],
            &shown["cpu_sockets"],
            &shown["cpu_socket_cores"]
        ),
        (&json!(4), &json!(2), &json!(2))
    );
    let uuids: Vec<&Value> = shown["disks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| &disk["disk_vsd_source"]["volume_uuid"])
        .collect();
    assert_eq!(
        uuids,
        data["volume_uuids"]
            .as_array()
            .unwrap()
            .iter()
            .collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_name_of_the_call_makes_what_a_builder_sends() {
    let site = Site::open().await;
    // Every field written, most of them null, as the builder does.
    let body = json!({
        "cluster_uuid": site.cluster(), "tenant": "", "object_group": null, "zone": null, "cpunr": 2,
        "cpu_sockets": null, "cpu_socket_cores": null, "baseline": "Haswell-noTSX", "max_cpu_nr": 2,
        "mem_size": GIB, "mem_max": 274_877_906_944_i64, "memory_huge_pages_enable": null, "type": "GUS",
        "image_uuid": null, "os": "CentOS x64", "cloud_init_data": null, "create_num": null, "user_uuid": null,
        "meta": {
            "compute_name": "built", "os_loader_path": "BIOS", "panic_model": "isa", "vnc_enable": true,
            "video": [{"heads": 1, "model_type": "vga", "ram_size": 32768, "vga_mem": 8192}],
            "ntp_sync_config": null, "hyperv_switch": "", "mouse_input_type": "usb", "boot_menu_timeout": "0",
            "cpu_mode": "custom",
        },
        "interfaces": [{
            "interface_model_type": "virtio", "interface_type": "manage", "port_group": "default",
            "bound_ip": "10.1.2.3",
        }],
        "disks": [{
            "disk_target_bus": "scsi",
            "disk_unified_vsd": {
                "volume_name": "built-0", "pool_uuid": site.pool(), "capacity": GIB, "attribute": {},
                "snap_capacity": 3 * GIB, "rebuild_priority": 0,
            },
        }],
        "cdrom": {"name": "installer", "repository_uuid": null, "image_uuid": site.image("installer")},
    });
    let result = site.post("/v1/compute/create", &body).await.only();
    assert_eq!(result["scode"], 0, "{result}");
    let uuid = result["data"]["vm_uuid"].as_str().unwrap().to_owned();
    let shown = site.inspect(&uuid).await;
    assert_eq!(shown["cdrom"]["image_uuid"], site.image("installer"));
    assert_eq!(shown["interfaces"][0]["bound_ip"], "10.1.2.3");
    for (name, value) in [
        ("mouse_input_type", "usb"),
        ("cpu_mode", "custom"),
        ("baseline", "Haswell-noTSX"),
    ] {
        assert_eq!(shown[name], value);
    }
    assert_eq!(shown["panic"], "on");
    assert_eq!(shown["mem_size"], GIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_machines_have_the_index_as_suffix() {
    let site = Site::open().await;
    let mut body = wanted(&site, "web");
    body["create_num"] = json!(3);
    let data = site.post(CREATE, &body).await.good();
    assert_eq!((&data["success"], &data["fail"]), (&json!(3), &json!(0)));
    let named: Vec<(&Value, &Value)> = data["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| (&result["data"]["vm_name"], &result["data"]["index"]))
        .collect();
    assert_eq!(
        named,
        [
            (&json!("web-0"), &json!(0)),
            (&json!("web-1"), &json!(1)),
            (&json!("web-2"), &json!(2))
        ]
    );
    assert_eq!(site.control.vms().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_creation_leaves_nothing_behind() {
    let site = Site::open().await;
    let volumes = site.control.volumes().len();
    site.control
        .inject_fault(Fault::new(Capability::VmCreate, ErrorKind::Internal).times(99));
    let result = site.post(CREATE, &wanted(&site, "web")).await.only();
    assert_eq!(result["scode"], 10000, "{result}");
    assert_eq!(
        (&result["data"]["vm_uuid"], &result["data"]["vm_name"]),
        (&json!(""), &json!("web"))
    );
    assert_eq!(site.control.volumes().len(), volumes, "volumes are rolled back");
    assert!(site.all().is_empty(), "{:?}", site.all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_made_is_refused_before_anything_is() {
    let site = Site::open().await;
    let change = |pointer: &str, value: Value| {
        let mut body = wanted(&site, "web");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() {
            &mut body
        } else {
            body.pointer_mut(parent).unwrap()
        };
        parent[name] = value;
        body
    };
    // The whole call is wrong.
    for body in [
        change("/meta", json!({"compute_name": ""})),
        change("/create_num", json!(0)),
        change("/create_num", json!(1000)),
        change("/cpunr", json!("two")),
    ] {
        site.post(CREATE, &body).await.bad(10001);
    }
    // A machine is.
    let unknown = json!("00000000-0000-4000-8000-000000000000");
    let cases = [
        (change("/cpunr", Value::Null), 10001),
        (change("/cpunr", json!(0)), 10001),
        (change("/mem_size", json!(1)), 10001),
        (change("/max_cpu_nr", json!(3)), 0),
        (
            change("/disks/0/disk_unified_vsd/pool_uuid", unknown.clone()),
            22001,
        ),
        (change("/disks/0/disk_unified_vsd/capacity", json!(0)), 10001),
        (change("/disks/0/image_uuid", unknown.clone()), 22001),
        (change("/interfaces/0/port_group", unknown.clone()), 22001),
        (change("/interfaces/0/interface_type", json!("internal")), 22005),
        (
            change(
                "/interfaces/0/in_bount",
                json!({"average": 10, "peak": 10, "burst": 10}),
            ),
            22005,
        ),
        (change("/meta/recover_to_related_zones", json!(1)), 22005),
        (change("/zone", unknown.clone()), 22001),
        (change("/user_uuid", unknown.clone()), 22001),
        (change("/mem_size", json!(1_i64 << 45)), 22007),
    ];
    for (body, scode) in cases.iter().filter(|(_, scode)| *scode != 0) {
        let result = site.post(CREATE, body).await.only();
        assert_eq!(result["scode"], *scode, "{result}");
        assert_eq!(
            (&result["data"]["vm_uuid"], &result["data"]["vm_name"]),
            (&json!(""), &json!("web"))
        );
    }
    assert!(site.all().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_shows_until_the_disk_is_filled() {
    use babelvisor_memory::Delay;
    let site = Site::open().await;
    site.control.set_delay(Capability::VolumeCopy, Delay::Fixed(300));
    let mut body = wanted(&site, "imported");
    body["disks"][0]["image_uuid"] = json!(site.image("debian"));
    let result = site.post(IMPORT, &body).await.only();
    assert_eq!(result["scode"], 0, "{result}");
    let uuid = result["data"]["vm_uuid"].as_str().unwrap().to_owned();
    assert_eq!(site.inspect(&uuid).await["action"], "importing");
    site.settled(&uuid).await;
    let shown = site.inspect(&uuid).await;
    assert_eq!(
        (&shown["action"], &shown["state"]),
        (&json!("noaction"), &json!("shutoff"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_without_an_image_or_of_an_unknown_one_is_refused() {
    let site = Site::open().await;
    let result = site.post(IMPORT, &wanted(&site, "x")).await.only();
    assert_eq!(result["scode"], 10001);
    let mut body = wanted(&site, "x");
    body["disks"][0]["image_uuid"] = json!("00000000-0000-4000-8000-000000000000");
    let result = site.post(IMPORT, &body).await.only();
    assert_eq!(result["scode"], 22211, "{result}");
    assert!(site.all().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_import_keeps_the_machine_and_says_so() {
    let site = Site::open().await;
    site.control
        .inject_fault(Fault::new(Capability::VolumeCopy, ErrorKind::Internal).times(99));
    let mut body = wanted(&site, "imported");
    body["disks"][0]["image_name"] = json!("debian");
    let result = site.post(IMPORT, &body).await.only();
    assert_eq!(
        result["scode"], 0,
        "once it has started, the call succeeds: {result}"
    );
    let uuid = result["data"]["vm_uuid"].as_str().unwrap().to_owned();
    site.settled(&uuid).await;
    let shown = site.inspect(&uuid).await;
    assert_eq!(shown["action"], "importfail");
    assert!(!shown["clone_error_reason"].as_str().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_belongs_to_the_tenant_and_user_that_are_named() {
    let site = Site::closed().await;
    let ann = site.core.now().accounts[USER].id.to_string();
    let admin = site.client(ADMIN).await;
    let mut body = wanted(&site, "web");
    body["user_uuid"] = json!(ann);
    let result = admin.post(CREATE, &body).await.only();
    assert_eq!(result["scode"], 0, "{result}");
    let found = site
        .client(USER)
        .await
        .get(&format!("/v1/compute/list?filter_user_uuid={ann}"))
        .await
        .good();
    assert_eq!(found["domains"][0]["owner_name"], USER);
    assert_eq!(found["domains"][0]["tenant_name"], "home");
    // A user makes machines in its own tenant only.
    body["tenant"] = json!("system");
    site.client(USER).await.post(CREATE, &body).await.bad(22001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_exists_is_plugged_in_and_survives_a_failure() {
    let site = Site::open().await;
    let volume = json!({
        "count": 1, "volume_name": "kept", "capacity": GIB, "pool_uuid": site.pool(), "tenant": "home",
        "cluster_uuid": site.cluster(), "snap_capacity": 0, "attribute": {},
    });
    let made = site.post("/v1/volume/internal/create", &volume).await.only();
    let uuid = made["data"]["volume_uuid"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .to_owned();
    let mut body = wanted(&site, "web");
    body["disks"]
        .as_array_mut()
        .unwrap()
        .push(json!({"disk_vsd_source": {"volume_uuid": uuid}}));
    site.control
        .inject_fault(Fault::new(Capability::DiskAttach, ErrorKind::Internal).times(1));
    let result = site.post(CREATE, &body).await.only();
    assert_ne!(result["scode"], 0);
    assert!(site.all().is_empty(), "the machine is taken back");
    let result = site.post(CREATE, &body).await.only();
    assert_eq!(result["scode"], 0, "the volume is still there: {result}");
    assert_eq!(result["data"]["volume_uuids"][1], uuid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_boot_settings_reach_the_guest() {
    let site = Site::on(open(), MemoryConfig::default()).await;
    let mut body = wanted(&site, "web");
    body["disks"][0]["image_uuid"] = json!(site.image("debian"));
    body["cloud_init_data"] = json!({
        "meta_data": {"hostname": "front-7", "public_keys": {"key": "ssh-ed25519 AAAA ann"}},
        "user_data": {"time_zone": {"timezone": "Asia/Shanghai"}},
    });
    let result = site.post(CREATE, &body).await.only();
    assert_eq!(result["scode"], 0, "{result}");
    let seed = site
        .control
        .seed(result["data"]["vm_uuid"].as_str().unwrap().parse().unwrap());
    let seed = seed.expect("first-boot set-up");
    assert_eq!((seed.hostname.as_str(), seed.ssh_keys.len()), ("front-7", 1));
    assert!(seed.user_data.is_some());
    // Without an image nobody would read them.
    body["disks"][0]["image_uuid"] = Value::Null;
    assert_eq!(site.post(CREATE, &body).await.only()["scode"], 22005);
}
