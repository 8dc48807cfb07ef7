//! What a dialect tells of a VM, read back into canonical terms. A field that the dialect does not carry is none.

use babelvisor_core::model::{PowerState, Vm};
use babelvisor_schemas::Dialect;
use serde_json::Value;

use crate::change::Walker;

/// Power as all dialects can tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    On,
    Paused,
    Off,
    /// pve-open tells only whether a machine runs.
    NotOn,
}

/// Memory as exactly as a dialect tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    Bytes(u64),
    /// Rounded up.
    Gibibytes(u64),
}

/// What is told of a VM.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub name: Option<String>,
    pub power: Option<Power>,
    pub vcpus: Option<u64>,
    pub memory: Option<Memory>,
    /// In the order of the interfaces.
    pub macs: Option<Vec<String>>,
    /// Capacities in bytes, in order of size.
    pub disks: Option<Vec<u64>>,
    /// What people wrote about it.
    pub note: Option<String>,
}

impl Seen {
    /// The canonical model's own word.
    pub fn of(vm: &Vm) -> Self {
        let facts = vm.facts.as_deref();
        let power = match vm.power() {
            PowerState::Running | PowerState::Blocked => Some(Power::On),
            PowerState::Paused | PowerState::Suspended => Some(Power::Paused),
            PowerState::Off | PowerState::Crashed => Some(Power::Off),
            PowerState::NoState | PowerState::ShuttingDown => None,
        };
        let mut disks: Vec<u64> = facts.map_or_else(Vec::new, |facts| {
            facts.disks.iter().map(|disk| disk.capacity).collect()
        });
        disks.sort_unstable();
        Self {
            name: Some(vm.name().to_owned()),
            power,
            vcpus: Some(u64::from(vm.vcpus())),
            memory: Some(Memory::Bytes(vm.memory())),
            macs: facts.map(|facts| facts.nics.iter().map(|nic| nic.mac.to_lowercase()).collect()),
            disks: Some(disks),
            note: Some(vm.record.remark.clone()),
        }
    }

    /// Where this differs from the truth, in words.
    pub fn differs(&self, truth: &Seen) -> Vec<String> {
        let mut faults = Vec::new();
        let mut ask = |field: &str, good: bool, said: String, wanted: String| {
            if !good {
                faults.push(format!("{field} is {wanted}, and it says {said}"));
            }
        };
        macro_rules! same {
            ($($field:ident),+) => {$(
                if let (Some(said), Some(wanted)) = (&self.$field, &truth.$field) {
                    ask(stringify!($field), said == wanted, format!("{said:?}"), format!("{wanted:?}"));
                }
            )+};
        }
        same!(name, vcpus, macs, disks, note);
        if let (Some(said), Some(wanted)) = (self.power, truth.power) {
            let good = match said {
                Power::NotOn => wanted != Power::On,
                said => said == wanted,
            };
            ask("power", good, format!("{said:?}"), format!("{wanted:?}"));
        }
        if let (Some(said), Some(Memory::Bytes(wanted))) = (self.memory, truth.memory) {
            let good = match said {
                Memory::Bytes(said) => said == wanted,
                Memory::Gibibytes(said) => said == wanted.div_ceil(1 << 30),
            };
            ask("memory", good, format!("{said:?}"), wanted.to_string());
        }
        faults
    }
}

/// A VM as the dialect's own read tells it; none if it says that there is no such VM.
pub async fn read_back(walker: &Walker, dialect: Dialect, vm: &Vm) -> Option<Seen> {
    match dialect {
        Dialect::GuestRest => guest(walker, vm).await,
        Dialect::PveOpen => machine(walker, vm).await,
        Dialect::Zstack => instance(walker, vm).await,
        Dialect::V1Compute => compute(walker, vm).await,
        Dialect::KvmTaskFeed => None,
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(list: &Value, member: &str) -> Option<Vec<String>> {
    let list = list.as_array()?.iter();
    Some(
        list.filter_map(|one| one[member].as_str())
            .map(str::to_lowercase)
            .collect(),
    )
}

async fn guest(walker: &Walker, vm: &Vm) -> Option<Seen> {
    let path = format!("/api/guest/{}", vm.id);
    let answer = walker.ask(Dialect::GuestRest, "GET", &path, None).await;
    if answer.status == 404 {
        return None;
    }
    let guest = &answer.body["data"];
    Some(Seen {
        name: text(&guest["name"]),
        power: match guest["status"].as_u64() {
            Some(1 | 2) => Some(Power::On),
            Some(3 | 7) => Some(Power::Paused),
            Some(5 | 6) => Some(Power::Off),
            _ => None,
        },
        vcpus: guest["cpu"].as_u64(),
        memory: guest["memory"].as_u64().map(Memory::Gibibytes),
        note: text(&guest["remark"]),
        ..Seen::default()
    })
}

async fn machine(walker: &Walker, vm: &Vm) -> Option<Seen> {
    let path = format!("/v1/pve/open/one/{}", vm.record.short_id);
    let answer = walker.ask(Dialect::PveOpen, "GET", &path, None).await;
    if answer.body["code"] != 0 {
        return None;
    }
    let machine = &answer.body["data"];
    Some(Seen {
        name: text(&machine["name"]),
        power: match machine["status"].as_str() {
            Some("2") => Some(Power::On),
            Some("0") => Some(Power::NotOn),
            _ => None,
        },
        vcpus: machine["cpu"].as_u64(),
        memory: machine["memory"].as_u64().map(Memory::Gibibytes),
        ..Seen::default()
    })
}

async fn instance(walker: &Walker, vm: &Vm) -> Option<Seen> {
    let path = format!("/zstack/v1/vm-instances/{}", vm.id.0.simple());
    let answer = walker.ask(Dialect::Zstack, "GET", &path, None).await;
    let instance = answer.body["inventories"].get(0)?.clone();
    let mut disks: Vec<u64> = instance["allVolumes"]
        .as_array()?
        .iter()
        .filter_map(|volume| volume["size"].as_u64())
        .collect();
    disks.sort_unstable();
    Some(Seen {
        name: text(&instance["name"]),
        power: match instance["state"].as_str() {
            Some("Running") => Some(Power::On),
            Some("Paused") => Some(Power::Paused),
            Some("Stopped") => Some(Power::Off),
            _ => None,
        },
        vcpus: instance["cpuNum"].as_u64(),
        memory: instance["memorySize"].as_u64().map(Memory::Bytes),
        macs: texts(&instance["vmNics"], "mac"),
        disks: Some(disks),
        // A machine without one has no such member.
        note: Some(text(&instance["description"]).unwrap_or_default()),
    })
}

async fn compute(walker: &Walker, vm: &Vm) -> Option<Seen> {
    let path = format!(
        "/v1/compute/inspect?cluster_uuid={}&tenant={}&compute_uuid={}",
        walker.cluster, walker.tenant, vm.id
    );
    let answer = walker.ask(Dialect::V1Compute, "GET", &path, None).await;
    if answer.body["scode"] != 0 {
        return None;
    }
    let machine = &answer.body["data"];
    Some(Seen {
        name: text(&machine["name"]),
        power: match machine["state"].as_str() {
            Some("running" | "blocked") => Some(Power::On),
            Some("paused" | "pmsuspend") => Some(Power::Paused),
            Some("shutoff" | "crashed") => Some(Power::Off),
            _ => None,
        },
        vcpus: machine["cpu_current"].as_str().and_then(|text| text.parse().ok()),
        memory: machine["mem_size"].as_u64().map(Memory::Bytes),
        macs: texts(&machine["interfaces"], "mac_address"),
        note: text(&machine["desc"]),
        ..Seen::default()
    })
}
