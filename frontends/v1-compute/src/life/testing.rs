//! A VM for the tests of the plain functions.

use std::sync::Arc;

use babelvisor_core::model::{
    AgentState, BackendId, Cpu, Disk, Graphics, GraphicsKind, HostId, Memory, Nic, NicId, PoolVolume,
    PowerState, TenantId, Timestamp, Vm, VmFacts, VmId, VmOrigin, VolumeFormat,
};
use babelvisor_core::registry::Registry;

use super::entry::Place;

/// Where the VM belongs.
pub(crate) fn place() -> Place {
    let text = str::to_owned;
    Place {
        cluster_uuid: text("cluster"),
        cluster_name: text("house"),
        tenant: text("tenant"),
        tenant_name: text("red"),
        zone: text("zone"),
        zone_name: text("default"),
        group: text("group"),
        group_name: text("default"),
        owner: text("owner"),
        owner_name: text("ann"),
        os: text("CentOS x64"),
    }
}

/// A VM that runs, with a disk, an interface and an address.
pub(crate) fn vm() -> Vm {
    let (id, backend) = (VmId::random(), BackendId::new("east"));
    let alias = (1, "abcdefghij".to_owned());
    let tenant = TenantId::new("red");
    let record = Registry::new_vm(id, alias, backend.clone(), tenant, VmOrigin::Adopted, None);
    let facts = VmFacts {
        id,
        native: id.to_string(),
        name: "web".to_owned(),
        host: HostId::computed(&backend, "host"),
        power: PowerState::Running,
        saved: false,
        persistent: true,
        autostart: false,
        cpu: Cpu {
            current: 1,
            max: 4,
            topology: Some((1, 2, 2)),
            model: None,
        },
        memory: Memory {
            current: 1 << 30,
            max: 2 << 30,
        },
        firmware: Default::default(),
        boot: Vec::new(),
        disks: vec![Disk {
            target: "sda".to_owned(),
            bus: "scsi".to_owned(),
            volume: Some(PoolVolume {
                pool: "main".to_owned(),
                name: "web-0".to_owned(),
            }),
            source: "/pools/main/web-0".to_owned(),
            format: VolumeFormat::Qcow2,
            capacity: 20 << 30,
            readonly: false,
            root: true,
            limits: Default::default(),
        }],
        removable: Vec::new(),
        nics: vec![Nic {
            id: NicId::computed(&backend, "0"),
            slot: 0,
            mac: "52:54:00:aa:bb:cc".to_owned(),
            model: "virtio".to_owned(),
            source: "manage".to_owned(),
            network: None,
            target: None,
            addresses: vec!["10.0.0.7".parse().unwrap()],
            inbound: None,
            outbound: None,
        }],
        graphics: vec![Graphics {
            kind: GraphicsKind::Vnc,
            port: Some(5901),
            listen: None,
            has_password: true,
        }],
        video: vec!["vga".to_owned()],
        host_devices: Vec::new(),
        agent: AgentState::Connected,
        definition: None,
        made_by: None,
        backend,
    };
    Vm {
        id,
        revision: 1,
        record: Arc::new(record),
        record_version: 1,
        facts: Some(Arc::new(facts)),
        activity: None,
        reachable: true,
        changed: Timestamp::now(),
    }
}
