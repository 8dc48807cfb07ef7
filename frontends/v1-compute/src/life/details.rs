//! A VM as inspect prints it: the list's fields, then hardware and settings, then what the product's clients read
//! beyond the printed example (addresses of the host, the console's password in clear on request).

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Firmware, GraphicsKind, MediumKind, Nic, Vm, VmFacts};
use babelvisor_core::secret::Secret;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::devices::{self, BootEntry, ShownDisk, ShownInterface, ShownVideo};
use super::entry::{self, Common, OFF, Place, recorded, setting, switched};

/// What inspect knows besides the VM itself.
pub(crate) struct View<'a> {
    /// This moment.
    pub(crate) now: &'a Snapshot,
    /// Where the VM belongs.
    pub(crate) place: &'a Place,
    /// The console's password, if it is to be shown.
    pub(crate) password: Option<Secret>,
    /// The port group of an interface.
    pub(crate) port_group: &'a (dyn Fn(&Nic) -> String + Sync),
    /// What machines show as the address of their console; without, the host's own address.
    pub(crate) console_address: Option<&'a str>,
}

#[derive(Serialize)]
struct Details<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    mem_size: u64,
    mem_max: u64,
    memory_huge_pages_enable: bool,
    memory_qos: MemoryQos,
    compute_name: &'a str,
    ha_mode: &'a str,
    os_loader_path: &'static str,
    video: Vec<ShownVideo<'a>>,
    startup_setting: Value,
    vnc_enable: bool,
    mem_sec_enabled: bool,
    ha_config: Value,
    parent_uuid: &'a str,
    migrate_dest: &'static str,
    baseline: &'a str,
    device_name: &'a str,
    import_machine: &'static str,
    exceed_cluster_baseline: bool,
    /// Text in the example, although its neighbours are numbers.
    cpu_current: String,
    cpu_max_count: u32,
    cpu_nr_count: u32,
    cpu_sockets: u32,
    cpu_socket_cores: u32,
    vnc_port: u16,
    vnc_password: &'static str,
    streaming_mode: &'a str,
    compression_mode: &'a str,
    spice_port: u16,
    spice_password: &'static str,
    panic: &'static str,
    interfaces: Vec<ShownInterface<'a>>,
    cdrom: Map<String, Value>,
    floppy: Map<String, Value>,
    disks: Vec<ShownDisk<'a>>,
    device_order: Vec<String>,
    disk_type: Vec<BootEntry>,
    usbs: Vec<Value>,
    is_external_disk: bool,
    has_passthrough_disk: bool,
    kvm_clock_enable: bool,
    virt_nested_enable: bool,
    cpu_reserve_enable: bool,
    cpu_reserve_numa: bool,
    memory_reserve_enable: bool,
    expand_config: Value,
    data_localization_mode_on: &'a str,
    pci_devices: Option<Value>,
    mdev_devices: Option<Value>,
    tpm_devices: Option<Value>,
    recover_to_related_zones: i64,
    master_zone_take_over: i64,
    cluster_uuid: &'a str,
    cluster_name: &'a str,
    // What clients read beyond the example.
    desc: &'a str,
    manager_ip: &'a str,
    machine_manager_ip: &'a str,
    machine_storage_ip: &'a str,
    os_type_machine: &'static str,
    hyperv_switch: &'a str,
    mouse_input_type: &'a str,
    boot_menu_timeout: &'a str,
    cpu_mode: &'a str,
    show_plaintext: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    vnc_password_plaintext: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spice_password_plaintext: Option<&'a str>,
}

/// No limits.
#[derive(Serialize)]
struct MemoryQos {
    hard_limit: u64,
    soft_limit: u64,
    swap_hard_limit: u64,
    min_guarantee: u64,
}

/// Names under which more fields of requests are recorded.
pub(crate) mod more {
    /// `meta.ha_mode`.
    pub(crate) const HA_MODE: &str = "compute.ha_mode";
    /// `meta.panic_model`.
    pub(crate) const PANIC_MODEL: &str = "compute.panic_model";
    /// `baseline`.
    pub(crate) const BASELINE: &str = "compute.baseline";
    /// The VM that it was cloned from.
    pub(crate) const PARENT: &str = "compute.parent_uuid";
    /// `meta.data_localization_mode_on`.
    pub(crate) const LOCALIZATION: &str = "compute.data_localization_mode_on";
    /// `cpu_reserve_enable`.
    pub(crate) const CPU_RESERVE: &str = "compute.cpu_reserve_enable";
    /// `memory_reserve_enable`.
    pub(crate) const MEMORY_RESERVE: &str = "compute.memory_reserve_enable";
    /// `meta.mem_sec_enabled`.
    pub(crate) const MEMORY_SECURITY: &str = "compute.mem_sec_enabled";
    /// `expand_config`.
    pub(crate) const EXPAND: &str = "compute.expand_config";
    /// `meta.hyperv_switch`.
    pub(crate) const HYPERV: &str = "compute.hyperv_switch";
    /// `meta.mouse_input_type`.
    pub(crate) const MOUSE: &str = "compute.mouse_input_type";
    /// `meta.boot_menu_timeout`.
    pub(crate) const BOOT_MENU: &str = "compute.boot_menu_timeout";
    /// `meta.cpu_mode`.
    pub(crate) const CPU_MODE: &str = "compute.cpu_mode";
    /// `meta.ha_config`.
    pub(crate) const HA_CONFIG: &str = "compute.ha_config";
    /// `meta.startup_setting`.
    pub(crate) const STARTUP: &str = "compute.startup_setting";
    /// `compression` of the graphics.
    pub(crate) const COMPRESSION: &str = "compute.compression";
    /// `mode` of the graphics.
    pub(crate) const STREAMING: &str = "compute.streaming_mode";
}

/// A VM in all its details, as JSON. May hold a password: the bytes must not be kept or logged.
///
/// # Errors
/// None for values of these types.
pub(crate) fn encode(vm: &Vm, view: &View<'_>) -> serde_json::Result<Vec<u8>> {
    let facts = vm.facts.as_deref();
    let host = facts.and_then(|facts| view.now.hosts.get(&facts.host));
    let address = host.map_or("", |host| host.address.as_deref().unwrap_or(&host.name));
    let order = facts.map(devices::boot_order).unwrap_or_default();
    let (sockets, cores, most) = facts.map_or((0, 0, vm.vcpus()), processors);
    let text = |name: &str, or: &'static str| recorded(vm, name).unwrap_or(or);
    // Objects are recorded as the text that the client sent.
    let object = |name: &str, or: Value| {
        recorded(vm, name)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or(or)
    };
    let displays = |kind| facts.is_some_and(|facts| facts.graphics.iter().any(|shown| shown.kind == kind));
    let password = view.password.as_ref().map(Secret::expose);
    let drive = |kind| {
        facts
            .map(|facts| devices::drive(view.now, vm, facts, kind))
            .unwrap_or_default()
    };
    serde_json::to_vec(&Details {
        common: entry::common(vm, view.place),
        mem_size: vm.memory(),
        mem_max: facts.map_or(vm.memory(), |facts| facts.memory.max),
        memory_huge_pages_enable: switched(vm, setting::HUGE_PAGES),
        memory_qos: MemoryQos {
            hard_limit: 0,
            soft_limit: 0,
            swap_hard_limit: 0,
            min_guarantee: 0,
        },
        compute_name: vm.name(),
        ha_mode: text(more::HA_MODE, "off"),
        os_loader_path: facts.map_or("BIOS", |facts| match facts.firmware {
            Firmware::Bios => "BIOS",
            Firmware::Uefi => "UEFI",
        }),
        video: facts.map(devices::video).unwrap_or_default(),
        startup_setting: object(more::STARTUP, json!({"hosts": null, "labels": null})),
        vnc_enable: displays(GraphicsKind::Vnc),
        mem_sec_enabled: switched(vm, more::MEMORY_SECURITY),
        ha_config: object(more::HA_CONFIG, json!({"priority": 0})),
        parent_uuid: text(more::PARENT, ""),
        migrate_dest: "",
        baseline: facts
            .and_then(|facts| facts.cpu.model.as_deref())
            .unwrap_or_else(|| text(more::BASELINE, "")),
        device_name: vm.record.hostname.as_deref().unwrap_or_default(),
        import_machine: "",
        exceed_cluster_baseline: false,
        cpu_current: vm.vcpus().to_string(),
        cpu_max_count: most,
        cpu_nr_count: vm.vcpus(),
        cpu_sockets: sockets,
        cpu_socket_cores: cores,
        vnc_port: facts.map_or(0, |facts| devices::port(facts, GraphicsKind::Vnc)),
        vnc_password: "",
        streaming_mode: text(more::STREAMING, ""),
        compression_mode: text(more::COMPRESSION, ""),
        spice_port: facts.map_or(0, |facts| devices::port(facts, GraphicsKind::Spice)),
        spice_password: "",
        panic: match text(more::PANIC_MODEL, "none") {
            "isa" => "on",
            _ => "off",
        },
        interfaces: devices::interfaces(vm, view.port_group),
        cdrom: drive(MediumKind::Cdrom),
        floppy: drive(MediumKind::Floppy),
        disks: facts
            .map(|facts| devices::disks(view.now, vm, facts))
            .unwrap_or_default(),
        device_order: devices::names(&order),
        disk_type: order,
        usbs: Vec::new(),
        is_external_disk: false,
        has_passthrough_disk: entry::passthrough(vm),
        kvm_clock_enable: switched(vm, setting::KVM_CLOCK),
        virt_nested_enable: switched(vm, setting::NESTED),
        cpu_reserve_enable: switched(vm, more::CPU_RESERVE),
        cpu_reserve_numa: false,
        memory_reserve_enable: switched(vm, more::MEMORY_RESERVE),
        expand_config: object(
            more::EXPAND,
            json!({
                "cpu_auto_expand_enable": false, "memory_auto_expand_enable": false, "max_expand_cpu": 0,
                "max_expand_mem": 0, "expand_cpu": 0, "expand_mem": 0
            }),
        ),
        data_localization_mode_on: text(more::LOCALIZATION, "off"),
        pci_devices: None,
        mdev_devices: None,
        tpm_devices: None,
        recover_to_related_zones: OFF,
        master_zone_take_over: OFF,
        cluster_uuid: &view.place.cluster_uuid,
        cluster_name: &view.place.cluster_name,
        desc: &vm.record.remark,
        manager_ip: address,
        machine_manager_ip: view.console_address.unwrap_or(address),
        machine_storage_ip: address,
        os_type_machine: "",
        hyperv_switch: text(more::HYPERV, ""),
        mouse_input_type: text(more::MOUSE, ""),
        boot_menu_timeout: text(more::BOOT_MENU, ""),
        cpu_mode: text(more::CPU_MODE, ""),
        show_plaintext: password.is_some(),
        vnc_password_plaintext: password.filter(|_| displays(GraphicsKind::Vnc)),
        spice_password_plaintext: password.filter(|_| displays(GraphicsKind::Spice)),
    })
}

/// Sockets, cores of each, and the most vCPUs: their product, as the document wants it. Without a stated topology
/// each vCPU is a socket of its own, as hypervisors have it.
fn processors(facts: &VmFacts) -> (u32, u32, u32) {
    match facts.cpu.topology {
        Some((sockets, cores, threads)) => (sockets, cores.saturating_mul(threads), facts.cpu.max),
        None => (facts.cpu.max, 1, facts.cpu.max),
    }
}
