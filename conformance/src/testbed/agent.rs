//! A stand-in for the published agent of the KVM task feed: machines of its own in place of a hypervisor's, and on the
//! wire what the published one was seen to send, its mistakes included.
//!
//! - Percentages are text, rates and sizes of host disks too; snapshot times are those of the report.
//! - `father_id` is not looked at: a task is begun when it comes.
//! - Tasks are filed by id alone: two of one id and different kinds are one.
//! - What has ended is reported once, what has not in every round.
//! - A start with `boot_type` fails, stop and reboot of a machine that is off fail, a clone always does.
//! - A task of an unknown kind is reported as begun for ever.
//! - A creation removes a machine of the same name first.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

/// What an agent calls.
#[async_trait]
pub trait Platform: Send + Sync {
    /// Posts `body`, an empty one for a poll, without a content type; returns status and answer.
    async fn post(&self, path: &str, body: String) -> (u16, String);
}

/// A machine of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// libvirt's number of its state: 1 running, 5 off.
    pub state: u8,
    /// vCPUs.
    pub cpus: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes of its system disk.
    pub disk: u64,
    /// Names of its snapshots.
    pub snapshots: Vec<String>,
}

impl Machine {
    /// One of 1 vCPU, 512 MiB and 10 GiB.
    pub fn new(running: bool) -> Self {
        Self {
            state: if running { 1 } else { 5 },
            cpus: 1,
            memory: 512 << 20,
            disk: 10 << 30,
            snapshots: Vec::new(),
        }
    }
}

/// A task as the agent files it.
#[derive(Debug, Clone)]
struct Filed {
    task: Map<String, Value>,
    status: i64,
    message: String,
}

/// The agent, and its host.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    serial: String,
    /// The host's machines.
    pub machines: BTreeMap<String, Machine>,
    filed: BTreeMap<u64, Filed>,
    /// Every task that it was given, in order: what it was given twice is here twice.
    pub given: Vec<Value>,
    told_hardware: bool,
    /// Whether it fetches tasks and leaves them alone.
    pub idle: bool,
}

impl Agent {
    /// The agent of an empty host.
    pub fn new(serial: &str) -> Self {
        Self {
            serial: serial.to_owned(),
            ..Self::default()
        }
    }

    /// One round of both its processes: reports, a poll, the work, and what became of it.
    ///
    /// # Errors
    /// The first answer that is not as the published agent needs it; the rest of the round is left out, as there.
    pub async fn round(&mut self, platform: &dyn Platform) -> Result<(), String> {
        self.report(platform).await?;
        let (status, answer) = platform
            .post(&format!("/api/task/{}/", self.serial), String::new())
            .await;
        let answer: Value =
            serde_json::from_str(&answer).map_err(|error| format!("poll: {status}: {error}"))?;
        self.file(&answer)?;
        if !self.idle {
            self.work();
        }
        let ended = self.task_status();
        self.send(platform, "host.task_status", ended).await
    }

    /// The reports of one round; host.hw once at the start, and never again.
    ///
    /// # Errors
    /// An answer that is no success.
    pub async fn report(&mut self, platform: &dyn Platform) -> Result<(), String> {
        if !self.told_hardware {
            self.told_hardware = true;
            self.send(platform, "host.hw", hardware()).await?;
        }
        self.send(platform, "host.status", self.host_status()).await?;
        self.send(platform, "vm.conf", self.conf()).await?;
        self.send(platform, "vm.status", self.status()).await
    }

    async fn send(&self, platform: &dyn Platform, kind: &str, body: Value) -> Result<(), String> {
        let report = json!({"req": kind, "sn": self.serial, "body": body}).to_string();
        let (status, answer) = platform.post("/api/kvm/", report).await;
        if (200..300).contains(&status) {
            return Ok(());
        }
        Err(format!("{kind}: {status} {answer}"))
    }

    /// vm.conf: one entry for each machine, running or not.
    pub fn conf(&self) -> Value {
        let entry = |(name, machine): (&String, &Machine)| {
            let snapshot = |name: &String| json!({"name": name, "create_time": NOW, "comment": "xxxx"});
            let snapshots: Vec<Value> = machine.snapshots.iter().map(snapshot).collect();
            json!({
                "name": name, "update_time": NOW, "type": 0, "os": "", "cpu_num": machine.cpus,
                "memory": machine.memory,
                "disk": [{"name": format!("{name}_os.qcow2"), "target": "vda", "size": machine.disk,
                    "path": format!("/img/os/{name}_os.qcow2"), "format": "qcow2", "bus": "virtio"}],
                "network": [{"name": "br0", "link_way": "bridge", "linked": 1, "select": "ovirtmgmt"}],
                "snapshots": snapshots,
            })
        };
        self.machines.iter().map(entry).collect()
    }

    /// vm.status: text where a machine runs, numbers where it does not.
    pub fn status(&self) -> Value {
        let entry = |(name, machine): (&String, &Machine)| {
            if machine.state != 1 {
                return json!({"name": name, "update_time": NOW, "status": machine.state, "cpu_idle": 100.0,
                    "mem_usage": 0.0, "disk": [], "net": []});
            }
            json!({"name": name, "update_time": NOW, "status": 1, "cpu_idle": "93.00", "mem_usage": "41.27",
                "disk": [], "net": [
                    {"name": "lo", "in": 0.0, "out": 0.0, "type": "service", "mac": "00:00:00:00:00:00", "ip": "127.0.0.1"},
                    {"name": "eth0", "in": 1.5, "out": 0.25, "type": "service", "mac": "52:54:00:aa:bb:01", "ip": "10.1.0.9"}]})
        };
        self.machines.iter().map(entry).collect()
    }

    fn host_status(&self) -> Value {
        json!([{"name": "kvm1", "status": 1, "update_time": NOW, "version": "1.0", "libvirt_version": "1.2.8",
            "hv_version": "1.5.3", "os_version": "3.10.0", "task": [], "mem_usage": "25.00", "cpu_idle": "88.10",
            "disk": [{"source": "/dev/sda1", "size": "104857600", "avail": "52428800", "pcent": "50", "target": "/", "util": 0.5}],
            "net": [{"name": "br0", "type": "service", "in": "12.00", "out": "3.50"}], "ip": "192.0.2.7",
            "disk_usage": 20, "vm_files": [{"name": "c.iso", "type": 0, "size": 1024, "path": "/img/iso"}]}])
    }

    /// Files what a poll was answered.
    ///
    /// # Errors
    /// An answer without the one key that the agent looks for.
    pub fn file(&mut self, answer: &Value) -> Result<(), String> {
        let tasks = answer.get("body").and_then(Value::as_array);
        for task in tasks.ok_or_else(|| format!("no body in {answer}"))? {
            self.given.push(task.clone());
            let (Some(id), Some(members)) = (task.get("id").and_then(Value::as_u64), task.as_object()) else {
                return Err(format!("no task: {task}"));
            };
            let filed = Filed {
                task: members.clone(),
                status: 0,
                message: String::new(),
            };
            self.filed.insert(id, filed);
        }
        Ok(())
    }

    /// Carries out whatever is filed.
    pub fn work(&mut self) {
        let waiting: Vec<u64> = self.filed.keys().copied().collect();
        for id in waiting {
            let Some(mut filed) = self.filed.remove(&id) else {
                continue;
            };
            if filed.status == 0 {
                filed.status = 1;
                match self.carry_out(&filed.task) {
                    None => {}
                    Some(Ok(())) => (filed.status, filed.message) = (2, "OK".to_owned()),
                    Some(Err(message)) => (filed.status, filed.message) = (-1, message),
                }
            }
            self.filed.insert(id, filed);
        }
    }

    /// `None` for a kind that kills the worker.
    fn carry_out(&mut self, task: &Map<String, Value>) -> Option<Result<(), String>> {
        let invalid = || "task handle is invalid".to_owned();
        let kind = task.get("type").and_then(Value::as_u64)?;
        let known = [1, 2, 3, 4, 5, 6, 7, 8, 20, 40];
        if !known.contains(&kind) {
            return None;
        }
        Some(self.handle(kind, task).unwrap_or_else(|| Err(invalid())))
    }

    /// `None` for an exception: a missing key, a wrong type.
    fn handle(&mut self, kind: u64, task: &Map<String, Value>) -> Option<Result<(), String>> {
        let number = |name: &str| task.get(name).and_then(Value::as_u64);
        let name = task.get("vm_name")?.as_str()?;
        if kind == 1 {
            let machine = Machine {
                cpus: number("cpu_num")?,
                memory: number("memory")?,
                disk: number("disk_os")?,
                ..Machine::new(true)
            };
            self.machines.insert(name.to_owned(), machine);
            return Some(Ok(()));
        }
        let missing = || format!("Domain not found: no domain with matching name '{name}'");
        let Some(machine) = self.machines.get_mut(name) else {
            return Some(Err(missing()));
        };
        let running = machine.state == 1;
        match kind {
            2 => {
                (machine.cpus, machine.memory) = (number("cpu")?, number("mem")?);
                machine.disk += number("sysdisk_extend")? + 512;
                number("datadisk_extend")?;
            }
            3 => {
                number("delete_disk")?;
                self.machines.remove(name);
            }
            4 => {
                let snapshot = task.get("snapshot_name")?.as_str()?.to_owned();
                if machine.snapshots.contains(&snapshot) {
                    return Some(Err(format!("domain snapshot {snapshot} already exists")));
                }
                machine.snapshots.push(snapshot);
            }
            5 | 7 => {
                let snapshot = task.get("snapshot_name")?.as_str()?;
                if !machine.snapshots.iter().any(|one| one == snapshot) {
                    return Some(Err("Domain snapshot not found: no domain snapshot".to_owned()));
                }
                if kind == 7 {
                    machine.snapshots.retain(|one| one != snapshot);
                }
            }
            20 => match task.get("action")?.as_str()? {
                "start" if task.contains_key("boot_type") => return None,
                "start" if running => {
                    return Some(Err(
                        "Requested operation is not valid: domain is already running".to_owned()
                    ));
                }
                "start" => machine.state = 1,
                "stop" | "reboot" if !running => {
                    return Some(Err(
                        "Requested operation is not valid: domain is not running".to_owned()
                    ));
                }
                "stop" => machine.state = 5,
                "reboot" => {}
                other => return Some(Err(format!("invalid action: {other}"))),
            },
            _ => return None,
        }
        Some(Ok(()))
    }

    /// host.task_status: what has ended is forgotten by being told.
    pub fn task_status(&mut self) -> Value {
        let entry = |(id, filed): (&u64, &Filed)| {
            let ended = filed.status == 2 || filed.status == -1;
            let percent = if ended { json!("100.00") } else { json!(0) };
            json!({"id": id, "type": filed.task.get("type"), "status": filed.status, "msg": filed.message,
                "percent": percent, "rev_time": NOW, "consuming": 1})
        };
        let entries: Vec<Value> = self.filed.iter().map(entry).collect();
        self.filed.retain(|_, filed| (0..2).contains(&filed.status));
        json!([{ "task": entries }])
    }
}

/// The time that it writes: its clock is of no interest to anybody here.
const NOW: &str = "2016-07-01 12:00:00";

fn hardware() -> Value {
    json!([{"architecture": "x86_64", "cpus": 8, "cpu_name": "Intel(R) Xeon(R)",
        "disk": [{"name": "sda", "size": "107374182400"}], "disk_size": 107_374_182_400_u64, "data_disk_num": 1,
        "total_mem": 16_u64 << 30}])
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        let mut agent = Agent::new("CAS1000000000");
        agent.machines.insert("web".to_owned(), Machine::new(false));
        agent
    }

    fn told(agent: &mut Agent, tasks: Value) -> Vec<(i64, String)> {
        agent.file(&json!({ "body": tasks })).unwrap();
        agent.work();
        let told = agent.task_status();
        let entries = told[0]["task"].as_array().unwrap().iter();
        entries
            .map(|entry| {
                (
                    entry["status"].as_i64().unwrap(),
                    entry["msg"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    }

    fn power(id: u64, action: &str) -> Value {
        json!({"id": id, "type": 20, "vm_name": "web", "action": action, "father_id": "0-0"})
    }

    #[test]
    fn an_end_is_told_once_and_a_dead_worker_for_ever() {
        let mut agent = agent();
        assert_eq!(
            told(&mut agent, json!([power(1, "start")])),
            [(2, "OK".to_owned())]
        );
        assert_eq!(told(&mut agent, json!([])), []);
        let unknown = json!([{"id": 2, "type": 99, "vm_name": "web"}]);
        assert_eq!(told(&mut agent, unknown), [(1, String::new())]);
        assert_eq!(told(&mut agent, json!([])), [(1, String::new())]);
    }

    #[test]
    fn its_mistakes_are_there() {
        let mut agent = agent();
        let mut boot = power(1, "start");
        boot["boot_type"] = json!(1);
        assert_eq!(
            told(&mut agent, json!([boot])),
            [(-1, "task handle is invalid".to_owned())]
        );
        let stopped = told(&mut agent, json!([power(2, "stop")]));
        assert!(stopped[0].1.contains("not running"), "{stopped:?}");
        // The father fails, the child is begun all the same.
        let mut child = power(4, "start");
        child["father_id"] = json!("20-3");
        let told_both = told(&mut agent, json!([power(3, "fly"), child]));
        assert_eq!(told_both[0], (-1, "invalid action: fly".to_owned()));
        assert_eq!(told_both[1], (2, "OK".to_owned()));
        // Two of one id are one.
        let one = told(
            &mut agent,
            json!([power(5, "stop"), {"id": 5, "type": 6, "vm_name": "web"}]),
        );
        assert_eq!(one, [(-1, "task handle is invalid".to_owned())]);
        assert_eq!(agent.machines["web"].state, 1);
    }

    #[test]
    fn numbers_are_text_where_a_machine_runs() {
        let mut agent = agent();
        assert_eq!(agent.status()[0]["cpu_idle"], json!(100.0));
        agent.machines.get_mut("web").unwrap().state = 1;
        assert_eq!(agent.status()[0]["cpu_idle"], json!("93.00"));
    }
}
