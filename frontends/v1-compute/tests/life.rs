//! The life of machines over the memory backend, call by call as the dialect's clients make them.
#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

#[path = "life/copying.rs"]
mod copying;
#[path = "life/creating.rs"]
mod creating;
#[path = "life/deleting.rs"]
mod deleting;
#[path = "life/hardware.rs"]
mod hardware;
#[path = "life/listing.rs"]
mod listing;
#[path = "life/power.rs"]
mod power;

use serde_json::{Value, json};
use support::{Client, GIB, Site};

/// What names a machine in bodies.
pub fn named(uuid: &str) -> Value {
    json!({"cluster_uuid": "", "tenant": "", "compute_uuid": uuid})
}

/// The same with more.
pub fn with(uuid: &str, more: Value) -> Value {
    let mut body = named(uuid);
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

/// What names a machine in queries.
pub fn query(site: &Site, uuid: &str) -> String {
    format!("cluster_uuid={}&tenant=home&compute_uuid={uuid}", site.cluster())
}

/// The body of a creation: one vCPU, 1 GiB, one empty disk, one interface.
pub fn wanted(site: &Site, name: &str) -> Value {
    json!({
        "cluster_uuid": site.cluster(), "tenant": "home", "cpunr": 1, "mem_size": GIB, "type": "GUS",
        "os": "CentOS x64", "meta": {"compute_name": name, "os_loader_path": "BIOS"},
        "interfaces": [{"interface_model_type": "virtio", "interface_type": "manage", "port_group": ""}],
        "disks": [{
            "disk_target_bus": "scsi",
            "disk_unified_vsd": {"pool_uuid": site.pool(), "volume_name": "first", "capacity": GIB},
        }],
    })
}

impl Site {
    /// A machine that is off.
    pub async fn machine(&self, name: &str) -> String {
        let result = self
            .post("/v1/compute/unified_create", &wanted(self, name))
            .await
            .only();
        assert_eq!(result["scode"], 0, "{result}");
        let uuid = result["data"]["vm_uuid"].as_str().expect("a uuid").to_owned();
        self.settled(&uuid).await;
        uuid
    }

    /// A machine that runs.
    pub async fn running(&self, name: &str) -> String {
        let uuid = self.machine(name).await;
        self.post("/v1/compute/start", &named(&uuid)).await.good();
        self.settled(&uuid).await;
        uuid
    }

    /// The machine as inspect shows it.
    pub async fn inspect(&self, uuid: &str) -> Value {
        self.get(&format!("/v1/compute/inspect?{}", query(self, uuid)))
            .await
            .good()
    }
}

impl Client<'_> {
    /// A machine that is off, in the tenant `home`.
    pub async fn machine(&self, name: &str) -> String {
        let body = wanted(self.site, name);
        let result = self.post("/v1/compute/unified_create", &body).await.only();
        assert_eq!(result["scode"], 0, "{result}");
        let uuid = result["data"]["vm_uuid"].as_str().expect("a uuid").to_owned();
        self.site.settled(&uuid).await;
        uuid
    }
}
