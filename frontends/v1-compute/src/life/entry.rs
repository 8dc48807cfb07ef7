//! A VM as the list prints it, fields in the order of the printed example. Numbers are integers and texts are texts
//! throughout: a client in Go gives up on the whole list otherwise.
//!
//! What nobody measures (use of CPU, memory and disk inside the guest) is left out rather than printed as nothing
//! used; what the product has and we do not (disaster recovery plans, terminals) is printed as the document prints
//! it where there is none.

use babelvisor_core::model::{Nic, Vm};
use serde::Serialize;
use serde_json::Value;

use super::words;

/// What a VM's form says of where it belongs; found by the caller, so that the forms are plain functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Cluster.
    pub(crate) cluster_uuid: String,
    /// Its name.
    pub(crate) cluster_name: String,
    /// Tenant.
    pub(crate) tenant: String,
    /// Its name.
    pub(crate) tenant_name: String,
    /// Resource pool.
    pub(crate) zone: String,
    /// Its name.
    pub(crate) zone_name: String,
    /// VM group.
    pub(crate) group: String,
    /// Its name.
    pub(crate) group_name: String,
    /// The user that it is assigned to; empty for nobody.
    pub(crate) owner: String,
    /// Its login.
    pub(crate) owner_name: String,
    /// The guest's system in words.
    pub(crate) os: String,
}

/// What list and inspect print alike, in the order of both examples.
#[derive(Serialize)]
pub(crate) struct Common<'a> {
    tenant: &'a str,
    tenant_name: &'a str,
    owner_is_ldap: bool,
    owner: &'a str,
    owner_name: &'a str,
    uuid: String,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    create_time: i64,
    modify_time: i64,
    deleted_time: i64,
    state: &'static str,
    ga_state: &'static str,
    action: String,
    os: &'a str,
    first_shown_ip: String,
    vdc_agent: &'static str,
    vdc_agent_list: Option<Vec<String>>,
    vdc_pool_uuid: &'static str,
    vdc_pool_name: &'static str,
    create_type: &'static str,
    namespace: &'a str,
    machine_uuid: String,
    labels: Option<Value>,
    interface_ips: Vec<ShownAddress<'a>>,
    attr: Option<Value>,
    object_group: &'a str,
    object_group_name: &'a str,
    plan: &'static str,
    plan_name: &'static str,
    plan_master_cluster_uuid: &'static str,
    plan_master_cluster_name: &'static str,
    plan_slave_cluster_uuid: &'static str,
    plan_slave_cluster_name: &'static str,
    running_cluster: &'static str,
    zone: &'a str,
    zone_name: &'a str,
    strategy: &'static str,
    strategy_name: &'static str,
    spice_port_mapping: bool,
    console_server_listen_port: u16,
    task_tag: i64,
    /// Clients read these beside the action `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    clone_error_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clone_error_reason_cn: Option<String>,
}

/// An address of the guest and the interface that has it.
#[derive(Serialize)]
struct ShownAddress<'a> {
    ip: String,
    mac_address: &'a str,
}

/// An entry of the list.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    recover_to_related_zones: i64,
    master_zone_take_over: i64,
    statistic: Statistic,
    interface: Vec<Interface<'a>>,
    is_external_disk: bool,
    kvm_clock_enable: bool,
    virt_nested_enable: bool,
    memory_huge_pages_enable: bool,
    has_passthrough_disk: bool,
    cluster_uuid: &'a str,
    cluster_name: &'a str,
}

/// Of all figures only those that are known.
#[derive(Serialize)]
struct Statistic {
    cpu: Logical,
    mem: Logical,
    disk: Total,
}

#[derive(Serialize)]
struct Logical {
    logical: u64,
}

#[derive(Serialize)]
struct Total {
    total: u64,
}

#[derive(Serialize)]
struct Interface<'a> {
    interface_type: &'a str,
    mac_address: &'a str,
    target_dev: &'a str,
    port_group: String,
    vlan_tag_ids: [u16; 0],
    driver: Option<Value>,
    vhost_queue: u32,
    name: &'a str,
}

/// Active-active between clusters is off, and so is its take-over: there is one cluster.
pub(crate) const OFF: i64 = 2;
/// The type of an ordinary guest, which a VM has that was made without one.
pub(crate) const GUEST: &str = "GUS";

/// A switch that is recorded as on.
pub(crate) const ON: &str = "true";

/// What a dialect only records of a VM, as text.
pub(crate) fn recorded<'v>(vm: &'v Vm, name: &str) -> Option<&'v str> {
    vm.record.settings.get(name).map(String::as_str)
}

/// What a dialect only records of a VM, as a switch; off without.
pub(crate) fn switched(vm: &Vm, name: &str) -> bool {
    recorded(vm, name) == Some(ON)
}

/// Names under which the fields of a request are recorded.
pub(crate) mod setting {
    /// `type`.
    pub(crate) const TYPE: &str = "compute.type";
    /// The user whom it is assigned to.
    pub(crate) const OWNER: &str = "compute.owner";
    /// Its login, as it was when the VM was assigned.
    pub(crate) const OWNER_NAME: &str = "compute.owner_name";
    /// Whether the volumes are in the recycle bin, too, and go when it is emptied.
    pub(crate) const TRASHED_VOLUMES: &str = "compute.is_delete_volumes";
    /// The address that is shown first.
    pub(crate) const SHOWN_IP: &str = "compute.shown_ip";
    /// KVM clock.
    pub(crate) const KVM_CLOCK: &str = "compute.kvm_clock_enable";
    /// Nested virtualisation.
    pub(crate) const NESTED: &str = "compute.virt_nested_enable";
    /// `mem_max`, in bytes.
    pub(crate) const MEMORY_MAX: &str = "compute.mem_max";

    /// The address that the interface in a slot is bound to.
    pub(crate) fn bound_ip(slot: usize) -> String {
        format!("compute.bound_ip.{slot}")
    }

    /// Huge pages.
    pub(crate) const HUGE_PAGES: &str = "compute.memory_huge_pages_enable";
}

/// The VM's type.
pub(crate) fn kind(vm: &Vm) -> &str {
    recorded(vm, setting::TYPE).unwrap_or(GUEST)
}

/// The interfaces, none while there are no facts.
pub(crate) fn nics(vm: &Vm) -> &[Nic] {
    vm.facts.as_deref().map_or(&[], |facts| &facts.nics)
}

/// What list and inspect print alike.
pub(crate) fn common<'a>(vm: &'a Vm, place: &'a Place) -> Common<'a> {
    let record = &vm.record;
    let addresses: Vec<ShownAddress<'_>> = nics(vm)
        .iter()
        .flat_map(|nic| {
            nic.addresses.iter().map(|ip| ShownAddress {
                ip: ip.to_string(),
                mac_address: &nic.mac,
            })
        })
        .collect();
    let shown = recorded(vm, setting::SHOWN_IP).map(str::to_owned);
    let first = || addresses.first().map(|address| address.ip.clone());
    let fault = record.fault.as_ref().map(ToString::to_string);
    Common {
        tenant: &place.tenant,
        tenant_name: &place.tenant_name,
        owner_is_ldap: false,
        owner: &place.owner,
        owner_name: &place.owner_name,
        uuid: vm.id.to_string(),
        name: vm.name(),
        kind: kind(vm),
        create_time: record.first_seen.as_second(),
        modify_time: vm.changed.as_second(),
        deleted_time: record.trashed_at.map_or(0, |at| at.as_second()),
        state: words::state(vm.power()),
        ga_state: words::agent(
            vm.facts
                .as_ref()
                .map_or_else(Default::default, |facts| facts.agent),
        ),
        action: words::action(vm).as_ref().to_owned(),
        os: &place.os,
        first_shown_ip: shown.or_else(first).unwrap_or_default(),
        vdc_agent: "",
        vdc_agent_list: recorded(vm, crate::people::TERMINALS)
            .and_then(|list| serde_json::from_str(list).ok()),
        vdc_pool_uuid: "",
        vdc_pool_name: "",
        create_type: "",
        namespace: &place.tenant,
        machine_uuid: vm
            .facts
            .as_ref()
            .map(|facts| facts.host.to_string())
            .unwrap_or_default(),
        labels: None,
        interface_ips: addresses,
        attr: None,
        object_group: &place.group,
        object_group_name: &place.group_name,
        plan: "",
        plan_name: "",
        plan_master_cluster_uuid: "",
        plan_master_cluster_name: "",
        plan_slave_cluster_uuid: "",
        plan_slave_cluster_name: "",
        running_cluster: "",
        zone: &place.zone,
        zone_name: &place.zone_name,
        strategy: "",
        strategy_name: "",
        // Consoles are reached at the address and port that inspect shows.
        spice_port_mapping: false,
        console_server_listen_port: 0,
        task_tag: 0,
        clone_error_reason_cn: fault.clone(),
        clone_error_reason: fault,
    }
}

/// An entry of the list, as JSON.
///
/// # Errors
/// None for values of these types.
pub(crate) fn encode(
    vm: &Vm,
    place: &Place,
    port_group: impl Fn(&Nic) -> String,
) -> serde_json::Result<Vec<u8>> {
    let interface = nics(vm).iter().map(|nic| Interface {
        interface_type: &nic.source,
        mac_address: &nic.mac,
        target_dev: nic.target.as_deref().unwrap_or_default(),
        port_group: port_group(nic),
        // VLANs belong to the networks of the backends.
        vlan_tag_ids: [],
        driver: None,
        vhost_queue: 0,
        name: "",
    });
    serde_json::to_vec(&Entry {
        common: common(vm, place),
        recover_to_related_zones: OFF,
        master_zone_take_over: OFF,
        statistic: Statistic {
            cpu: Logical {
                logical: vm.vcpus().into(),
            },
            mem: Logical { logical: vm.memory() },
            disk: Total {
                total: vm.disk_bytes(),
            },
        },
        interface: interface.collect(),
        is_external_disk: false,
        kvm_clock_enable: switched(vm, setting::KVM_CLOCK),
        virt_nested_enable: switched(vm, setting::NESTED),
        memory_huge_pages_enable: switched(vm, setting::HUGE_PAGES),
        has_passthrough_disk: passthrough(vm),
        cluster_uuid: &place.cluster_uuid,
        cluster_name: &place.cluster_name,
    })
}

/// Whether a disk of it is no volume of a pool but the host's own.
pub(crate) fn passthrough(vm: &Vm) -> bool {
    vm.facts
        .as_ref()
        .is_some_and(|facts| facts.disks.iter().any(|disk| disk.volume.is_none()))
}
