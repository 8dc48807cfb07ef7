//! The body of the calls that make machines, as the client wrote it. Null and absent are one; what stands in it for
//! people alone is not read.

use serde::Deserialize;
use serde_json::Value;

/// A machine that a client asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    pub(super) cluster_uuid: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) object_group: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) cpunr: Option<u32>,
    pub(super) cpu_sockets: Option<u32>,
    pub(super) cpu_socket_cores: Option<u32>,
    pub(super) max_cpu_nr: Option<u32>,
    pub(super) baseline: Option<String>,
    /// Bytes.
    pub(super) mem_size: Option<u64>,
    /// Bytes.
    pub(super) mem_max: Option<u64>,
    pub(super) memory_huge_pages_enable: Option<bool>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) image_uuid: Option<String>,
    pub(super) os: Option<String>,
    pub(super) cloud_init_data: Option<Value>,
    pub(super) meta: Option<Meta>,
    pub(super) interfaces: Option<Vec<Interface>>,
    pub(super) disks: Option<Vec<Disk>>,
    pub(super) cdrom: Option<Medium>,
    pub(super) floppy: Option<Medium>,
    pub(super) user_uuid: Option<String>,
    pub(super) create_num: Option<u64>,
}

/// Settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    pub(super) compute_name: Option<String>,
    pub(super) ha_mode: Option<String>,
    pub(super) ha_config: Option<Value>,
    pub(super) os_loader_path: Option<String>,
    pub(super) video: Option<Vec<Video>>,
    pub(super) panic_model: Option<String>,
    pub(super) startup_setting: Option<Value>,
    pub(super) mem_sec_enabled: Option<bool>,
    pub(super) shown_ip: Option<String>,
    pub(super) virt_nested_enable: Option<bool>,
    pub(super) data_localization_mode_on: Option<String>,
    /// 1 on, 2 off.
    pub(super) recover_to_related_zones: Option<u8>,
    /// 1 on, 2 off.
    pub(super) master_zone_take_over: Option<u8>,
    pub(super) hyperv_switch: Option<String>,
    pub(super) mouse_input_type: Option<String>,
    pub(super) boot_menu_timeout: Option<String>,
    pub(super) cpu_mode: Option<String>,
}

/// A video adapter.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Video {
    pub(super) model_type: Option<String>,
    pub(super) heads: Option<u32>,
    /// kB.
    pub(super) ram_size: Option<u64>,
    /// kB.
    pub(super) vga_mem: Option<u64>,
}

/// An interface.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Interface {
    pub(super) interface_model_type: Option<String>,
    pub(super) interface_type: Option<String>,
    pub(super) mac_address: Option<String>,
    pub(super) in_bount: Option<Bound>,
    pub(super) out_bount: Option<Bound>,
    pub(super) switch_uuid: Option<String>,
    pub(super) gateway_uuid: Option<String>,
    pub(super) port_group: Option<String>,
    pub(super) bound_ip: Option<String>,
}

/// Limits of one direction: kB/s, kB/s, kB. An average of 0 is no limit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Bound {
    pub(super) average: u64,
    pub(super) peak: u64,
    pub(super) burst: u64,
}

/// A disk; one of its sources is set.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disk {
    pub(super) disk_target_bus: Option<String>,
    pub(super) disk_target_device: Option<String>,
    pub(super) disk_unified_vsd: Option<NewVolume>,
    pub(super) disk_vsd_source: Option<KnownVolume>,
    pub(super) image_name: Option<String>,
    pub(super) image_uuid: Option<String>,
    pub(super) repository_uuid: Option<String>,
}

/// A volume to make.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NewVolume {
    pub(super) pool_uuid: Option<String>,
    pub(super) volume_name: Option<String>,
    /// Bytes.
    pub(super) disk_capacity: Option<u64>,
    /// Bytes.
    pub(super) capacity: Option<u64>,
}

/// A volume that exists.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KnownVolume {
    pub(super) volume_uuid: Option<String>,
}

/// What goes into a drive.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Medium {
    pub(super) name: Option<String>,
    pub(super) image_uuid: Option<String>,
    pub(super) repository_uuid: Option<String>,
}

/// A machine from a template: what overrides it, and what stands beside that.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FromTemplate {
    pub(super) cluster_uuid: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) object_group: Option<String>,
    pub(super) user_uuid: Option<String>,
    pub(super) baseline: Option<String>,
    pub(super) create_num: Option<u64>,
    pub(super) vm_template_id: Option<String>,
    pub(super) assign_vm_uuid: Option<String>,
    pub(super) snapshot: Option<String>,
    pub(super) auto_snapshot: Option<bool>,
    pub(super) vm_config_override: Option<Wanted>,
}

/// Text that says something.
pub(super) fn said(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}
