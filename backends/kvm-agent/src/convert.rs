//! From reports to what the core knows: machines, snapshots, the host. A pure function of the newest reports and of
//! the tasks that ended, so every gateway comes to the same result, before and after a restart.
//!
//! Reports are as the frontend normalised them: documented names, but sizes may be text. What a report leaves out is
//! unknown, not zero.

use std::collections::BTreeMap;
use std::net::IpAddr;

use babelvisor_core::mailbox::{Report, Task};
use babelvisor_core::model::{
    BackendId, Cpu, Disk, DiskLimits, Firmware, Host, HostId, Memory, Network, NetworkId, Nic, NicId, PoolId,
    PowerState, RemovableMedium, SnapshotFacts, StoragePool, Timestamp, Topology, VmFacts, VmId,
    VolumeFormat,
};
use serde_json::Value;

use crate::config::KvmAgentConfig;
use crate::quirks::TaskKind;

/// What is known of the host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// Its machines by name.
    pub(crate) machines: BTreeMap<String, Machine>,
    /// Itself, its file systems and bridges.
    pub(crate) topology: Topology,
    /// When the host was last heard of.
    pub(crate) heard: Timestamp,
}

/// One machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    pub(crate) facts: VmFacts,
    pub(crate) snapshots: Vec<SnapshotFacts>,
}

type Reports = BTreeMap<String, Report>;

/// What the reports say, corrected by what ended since; `None` while the machines were never reported.
pub(crate) fn view(
    id: &BackendId,
    config: &KvmAgentConfig,
    reports: &Reports,
    tasks: &[Task],
) -> Option<View> {
    let conf = reports.get("vm.conf")?;
    let status = reports.get("vm.status");
    let heard = reports
        .get("host.status")
        .map_or(conf.received, |host| host.received);
    let topology = topology(id, config, reports);
    let mut machines = BTreeMap::new();
    for entry in entries(conf) {
        let Some(name) = text(entry, "name") else { continue };
        let state = status.and_then(|report| {
            let mut states = entries(report);
            states.find(|state| text(state, "name") == Some(name))
        });
        let machine = Machine {
            facts: facts(id, config, &topology, name, entry, state),
            snapshots: snapshots(entry),
        };
        machines.insert(name.to_owned(), machine);
    }
    let mut ended: Vec<(&Task, Timestamp)> = tasks
        .iter()
        .filter_map(|task| Some((task, task.done()?)))
        .collect();
    ended.sort_by_key(|(task, at)| (*at, task.id));
    for (task, at) in ended {
        let newer = |report: &Report| {
            let settled = at.checked_add(config.settle());
            settled.is_ok_and(|settled| report.received <= settled)
        };
        correct(&mut machines, task, newer(conf), status.is_none_or(newer));
    }
    Some(View {
        machines,
        topology,
        heard,
    })
}

/// Applies a task that was done: to what vm.conf says, and to what vm.status says, where it is newer.
fn correct(machines: &mut BTreeMap<String, Machine>, task: &Task, conf: bool, status: bool) {
    let Some(name) = task.fields.get("vm_name").and_then(Value::as_str) else {
        return;
    };
    let is = |kind: TaskKind| task.kind == kind.number();
    if is(TaskKind::Delete) && conf {
        machines.remove(name);
    }
    let Some(machine) = machines.get_mut(name) else {
        return;
    };
    let field = |name: &str| task.fields.get(name);
    if is(TaskKind::Power) && status {
        machine.facts.power = match field("action").and_then(Value::as_str) {
            Some("stop") => PowerState::Off,
            _ => PowerState::Running,
        };
    }
    if is(TaskKind::Change) && conf {
        if let Some(cpu) = field("cpu").and_then(count) {
            machine.facts.cpu = vcpus(cpu);
        }
        if let Some(bytes) = field("mem").and_then(number) {
            machine.facts.memory = Memory {
                current: bytes,
                max: bytes,
            };
        }
    }
    let snapshot = field("snapshot_name").and_then(Value::as_str);
    if let Some(snapshot) = snapshot.filter(|_| conf) {
        if is(TaskKind::Snapshot) && machine.snapshots.iter().all(|one| one.name != snapshot) {
            machine.snapshots.push(of_name(snapshot));
        }
        if is(TaskKind::DropSnapshot) {
            machine.snapshots.retain(|one| one.name != snapshot);
        }
    }
}

fn facts(
    id: &BackendId,
    config: &KvmAgentConfig,
    topology: &Topology,
    name: &str,
    conf: &Value,
    status: Option<&Value>,
) -> VmFacts {
    let vm = VmId::computed(id, name);
    let memory = conf.get("memory").and_then(number).unwrap_or(0);
    let (mut disks, mut removable) = (Vec::new(), Vec::new());
    for entry in list(conf, "disk") {
        let path = text(entry, "path").unwrap_or_default();
        let target = text(entry, "target").unwrap_or_default().to_owned();
        // Optical drives come among the disks, and nothing else tells them apart.
        if path.is_empty() || path.to_ascii_lowercase().ends_with(".iso") {
            removable.push(RemovableMedium {
                target,
                kind: "cdrom".to_owned(),
                source: Some(path.to_owned()).filter(|path| !path.is_empty()),
            });
            continue;
        }
        disks.push(Disk {
            target,
            bus: text(entry, "bus").unwrap_or_default().to_owned(),
            volume: None,
            source: path.to_owned(),
            format: match text(entry, "format") {
                Some("qcow2") => VolumeFormat::Qcow2,
                Some("raw") => VolumeFormat::Raw,
                _ => VolumeFormat::Other,
            },
            capacity: entry.get("size").and_then(number).unwrap_or(0),
            readonly: false,
            root: disks.is_empty(),
            limits: DiskLimits::default(),
        });
    }
    VmFacts {
        id: vm,
        backend: id.clone(),
        native: name.to_owned(),
        name: name.to_owned(),
        host: HostId::computed(id, &config.serial),
        power: status.map_or(PowerState::NoState, power),
        saved: false,
        persistent: true,
        autostart: false,
        cpu: vcpus(conf.get("cpu_num").and_then(count).unwrap_or(0)),
        memory: Memory {
            current: memory,
            max: memory,
        },
        firmware: Firmware::default(),
        boot: Vec::new(),
        disks,
        removable,
        nics: nics(vm, id, topology, conf, status),
        graphics: Vec::new(),
        video: Vec::new(),
        host_devices: Vec::new(),
        agent: Default::default(),
        definition: None,
        made_by: None,
    }
}

/// The bridges of the definition, each with what the guest says of the interface in the same place: nothing else
/// joins the two lists. The loopback interface, which the guest lists as well, is none.
fn nics(vm: VmId, id: &BackendId, topology: &Topology, conf: &Value, status: Option<&Value>) -> Vec<Nic> {
    let seen = status.into_iter().flat_map(|status| list(status, "net"));
    let mut seen = seen.filter(|one| text(one, "name") != Some("lo"));
    list(conf, "network")
        .zip(0_u32..)
        .map(|(entry, slot)| {
            let source = text(entry, "name").unwrap_or_default().to_owned();
            let guest = seen.next();
            let address = guest.and_then(|guest| text(guest, "ip")?.parse::<IpAddr>().ok());
            let network = topology.networks.iter().find(|one| one.name == source);
            Nic {
                id: NicId::computed(id, &format!("{vm}/{slot}")),
                slot,
                mac: guest
                    .and_then(|guest| text(guest, "mac"))
                    .unwrap_or_default()
                    .to_owned(),
                model: String::new(),
                source,
                network: network.map(|network| network.id),
                target: None,
                addresses: address.into_iter().collect(),
                inbound: None,
                outbound: None,
            }
        })
        .collect()
}

/// libvirt's states, by their numbers.
fn power(status: &Value) -> PowerState {
    match status.get("status").and_then(number) {
        Some(1) => PowerState::Running,
        Some(2) => PowerState::Blocked,
        Some(3) => PowerState::Paused,
        Some(4) => PowerState::ShuttingDown,
        Some(5) => PowerState::Off,
        Some(6) => PowerState::Crashed,
        Some(7) => PowerState::Suspended,
        Some(_) | None => PowerState::NoState,
    }
}

fn vcpus(count: u32) -> Cpu {
    Cpu {
        current: count,
        max: count,
        topology: None,
        model: None,
    }
}

fn snapshots(conf: &Value) -> Vec<SnapshotFacts> {
    list(conf, "snapshots")
        .filter_map(|entry| text(entry, "name"))
        .map(of_name)
        .collect()
}

/// The reported time is that of the report, so the snapshot's own is not known.
fn of_name(name: &str) -> SnapshotFacts {
    SnapshotFacts {
        name: name.to_owned(),
        parent: None,
        created: None,
        size: 0,
        memory: false,
    }
}

fn topology(id: &BackendId, config: &KvmAgentConfig, reports: &Reports) -> Topology {
    let first = |kind: &str| reports.get(kind).and_then(|report| entries(report).next());
    let (status, hardware) = (first("host.status"), first("host.hw"));
    let of = |report: Option<&Value>, name: &str| report.and_then(|entry| number(entry.get(name)?));
    let words = |name: &str| status.and_then(|status| text(status, name));
    let memory = of(hardware, "total_mem").or_else(|| of(status, "total_mem"));
    let used = status.and_then(|status| status.get("mem_usage")?.as_f64());
    let free = of(status, "left_mem").or_else(|| memory.zip(used).map(|(all, used)| part(all, 100.0 - used)));
    let host = Host {
        id: HostId::computed(id, &config.serial),
        backend: id.clone(),
        name: words("name").unwrap_or(&config.serial).to_owned(),
        address: words("ip").map(str::to_owned),
        cpus: of(hardware, "cpus")
            .and_then(|cpus| u32::try_from(cpus).ok())
            .unwrap_or(0),
        memory: memory.unwrap_or(0),
        memory_free: free,
        hypervisor: words("hv_version").map_or_else(|| "kvm".to_owned(), |version| format!("kvm {version}")),
        cluster: config.cluster.clone(),
        zone: config.zone.clone(),
    };
    let file_systems = status.into_iter().flat_map(|status| list(status, "disk"));
    let pools = file_systems.filter_map(|entry| {
        let name = text(entry, "target")?;
        Some(StoragePool {
            id: PoolId::computed(id, name),
            backend: id.clone(),
            name: name.to_owned(),
            kind: "dir".to_owned(),
            capacity: entry.get("size").and_then(kibibytes)?,
            available: entry.get("avail").and_then(kibibytes).unwrap_or(0),
            active: true,
        })
    });
    let bridges = status.into_iter().flat_map(|status| list(status, "net"));
    let networks = bridges.filter_map(|entry| {
        let name = text(entry, "name")?;
        Some(Network {
            id: NetworkId::computed(id, name),
            backend: id.clone(),
            name: name.to_owned(),
            bridge: Some(name.to_owned()),
            active: true,
            ranges: Vec::new(),
        })
    });
    Topology {
        pools: pools.collect(),
        networks: networks.collect(),
        hosts: vec![host],
    }
}

fn entries(report: &Report) -> impl Iterator<Item = &Value> {
    report.body.as_array().into_iter().flatten()
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// A text that says something.
fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value
        .get(name)?
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

/// A number, or a text that is one.
pub(crate) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn count(value: &Value) -> Option<u32> {
    number(value).and_then(|number| u32::try_from(number).ok())
}

/// A size as df prints it, in bytes: a bare number is KiB, a letter says its binary unit.
fn kibibytes(value: &Value) -> Option<u64> {
    if let Some(number) = number(value) {
        return number.checked_mul(1024);
    }
    let text = value.as_str()?.trim();
    let shift = match text.chars().last()?.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return None,
    };
    let number: f64 = text.get(..text.len() - 1)?.parse().ok()?;
    let unit = 1_u64 << shift;
    (number >= 0.0).then(|| part(unit, number * 100.0))
}

/// So many per cent of a size.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "sizes of memory and disks, known to two decimals"
)]
fn part(whole: u64, percent: f64) -> u64 {
    (whole as f64 * percent.max(0.0) / 100.0) as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(body: Value) -> Report {
        Report {
            received: Timestamp::now(),
            body,
        }
    }

    fn config() -> KvmAgentConfig {
        KvmAgentConfig {
            serial: "CAS1000000000".to_owned(),
            ..KvmAgentConfig::default()
        }
    }

    fn seen(reports: &[(&str, Value)]) -> Option<View> {
        let reports = reports
            .iter()
            .map(|(kind, body)| ((*kind).to_owned(), report(body.clone())))
            .collect();
        view(&BackendId::new("kvm"), &config(), &reports, &[])
    }

    #[test]
    fn nothing_is_known_before_the_machines_were_reported() {
        assert_eq!(seen(&[("host.hw", json!([{"cpus": 4}]))]), None);
    }

    #[test]
    fn a_machine_is_what_both_its_reports_say() {
        let view = seen(&[
            (
                "vm.conf",
                json!([{"name": "web", "cpu_num": 2, "memory": 1073741824, "os": "3.10", "snapshots": [{"name": "s1"}],
                "disk": [
                    {"name": "web_os.qcow2", "target": "vda", "size": "10737418240", "path": "/img/os/web_os.qcow2", "format": "qcow2", "bus": "virtio"},
                    {"name": "c.iso", "target": "hdc", "size": "0", "path": "/img/iso/c.iso", "format": "raw", "bus": "ide"}],
                "network": [{"name": "br0", "link_way": "bridge", "linked": "1"}]}]),
            ),
            (
                "vm.status",
                json!([{"name": "web", "status": 1, "cpu_idle": 93, "net": [
                    {"name": "lo", "mac": "00:00:00:00:00:00", "ip": "127.0.0.1"},
                    {"name": "eth0", "mac": "52:54:00:00:00:01", "ip": "10.0.0.7"}]}]),
            ),
            ("host.status", json!([{"name": "kvm1", "ip": "10.0.0.1", "mem_usage": 25, "net": [{"name": "br0"}],
                "disk": [{"source": "/dev/sda1", "target": "/", "size": "1024", "avail": "10G"}]}])),
            ("host.hw", json!([{"cpus": 8, "total_mem": 1000}])),
        ])
        .unwrap();
        let web = &view.machines["web"];
        assert_eq!(web.facts.id, VmId::computed(&BackendId::new("kvm"), "web"));
        assert_eq!(web.facts.power, PowerState::Running);
        assert_eq!((web.facts.cpu.current, web.facts.memory.max), (2, 1 << 30));
        assert_eq!(
            (web.facts.disks.len(), web.facts.disks[0].capacity),
            (1, 10 << 30)
        );
        assert_eq!(web.facts.removable[0].source.as_deref(), Some("/img/iso/c.iso"));
        let nic = &web.facts.nics[0];
        assert_eq!(
            (nic.mac.as_str(), nic.source.as_str()),
            ("52:54:00:00:00:01", "br0")
        );
        assert_eq!(nic.addresses, ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(nic.network, Some(view.topology.networks[0].id));
        assert_eq!(web.snapshots[0].name, "s1");
        let host = &view.topology.hosts[0];
        assert_eq!((host.cpus, host.memory, host.memory_free), (8, 1000, Some(750)));
        let pool = &view.topology.pools[0];
        assert_eq!((pool.capacity, pool.available), (1 << 20, 10 << 30));
    }

    #[test]
    fn what_is_not_said_is_not_known() {
        let view = seen(&[("vm.conf", json!([{"name": "web"}]))]).unwrap();
        assert_eq!(view.machines["web"].facts.power, PowerState::NoState);
        assert_eq!(view.topology.hosts[0].memory_free, None);
        assert_eq!(view.topology.hosts[0].name, "CAS1000000000");
    }
}
