//! Gateways that are killed at named places, and the hypervisor's own word on what they left behind.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use babelvisor_conformance::testbed::http::{get, post};
use babelvisor_conformance::testbed::{Gateway, Libvirtd, Redis, eventually};
use serde_json::{Value, json};

use super::gateway;
use super::setup::Which;

/// The environment variable that names the place of death.
pub const KILL_AT: &str = "BABELVISOR_KILL_AT";
/// The environment variable that names the place where the gateway freezes.
pub const HALT_AT: &str = "BABELVISOR_HALT_AT";

const MINUTE: Duration = Duration::from_secs(60);
const SIGKILL: i32 = 9;

/// The libvirtd of this test program, with an image for both drivers. The guests find nothing to boot and idle.
pub fn libvirtd() -> &'static Libvirtd {
    static READY: OnceLock<()> = OnceLock::new();
    let libvirtd = Libvirtd::shared().unwrap();
    READY.get_or_init(|| {
        let image = |pool| ["vol-create-as", pool, "tiny.qcow2", "8M", "--format", "qcow2"];
        libvirtd.virsh_test(&image("default-pool")).unwrap();
        libvirtd.virsh(&image("default")).unwrap();
    });
    libvirtd
}

/// Where the gateway keeps its records and jobs.
#[derive(Clone, Copy)]
pub enum Store<'a> {
    /// In its state directory.
    Embedded,
    /// On this server, under a prefix of its own.
    Redis(&'a Redis, &'a str),
}

/// The configuration of a gateway on a hypervisor and a store. Leases last one second.
pub fn config(which: Which, store: Store<'_>, extra: &str) -> String {
    let (backend, native) = match which {
        Which::Memory => (
            "kind = \"memory\"\nstate_file = \"{state}/hypervisor.json\"\nimages = [{ name = \"tiny.qcow2\", size = 8388608 }]"
                .to_owned(),
            "default/tiny.qcow2",
        ),
        Which::TestUnix => (
            format!("kind = \"libvirt\"\nuri = \"{}\"", libvirtd().uri_test()),
            "default-pool/tiny.qcow2",
        ),
        Which::Qemu => (
            format!("kind = \"libvirt\"\nuri = \"{}\"\naccel = \"tcg\"", libvirtd().uri_qemu()),
            "default/tiny.qcow2",
        ),
    };
    let store = match store {
        Store::Embedded => String::new(),
        Store::Redis(redis, prefix) => format!(
            "[store]\nkind = \"redis\"\nurl = \"{}\"\nprefix = \"{prefix}:\"\n",
            redis.url()
        ),
    };
    format!(
        r#"
[[backend]]
id = "one"
{backend}
{extra}

{store}

[jobs]
lease_ms = 1000

[[image]]
name = "tiny"
number = 1
native = "{native}"
format = "qcow2"
os = "Debian"
family = "BZ"
"#
    )
}

/// A domain as the hypervisor itself knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    pub id: String,
    pub running: bool,
    /// Which start of it this is; a second start would show here. The memory backend counts none.
    pub incarnation: String,
}

/// What a hypervisor holds of one VM, asked past the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    pub domains: Vec<Domain>,
    pub volumes: Vec<String>,
}

/// Everything named `name` and every volume named after the VM `id`.
pub fn truth(which: Which, state_dir: &Path, name: &str, id: &str) -> Truth {
    let mut truth = Truth::default();
    if which == Which::Memory {
        let state = babelvisor_memory::read_state(&state_dir.join("hypervisor.json")).unwrap();
        truth.domains = state
            .vms
            .iter()
            .filter(|vm| vm.name == name || vm.id.to_string() == id)
            .map(|vm| Domain {
                id: vm.id.to_string(),
                running: vm.power.as_ref() == "running",
                incarnation: String::new(),
            })
            .collect();
        let volumes = state.volumes.iter().map(|volume| volume.name.clone());
        truth.volumes = volumes.filter(|volume| volume.starts_with(id)).collect();
    } else {
        for line in virsh(which, &["list", "--all", "--uuid", "--name"]).lines() {
            let mut words = line.split_whitespace();
            let (uuid, called) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if called != name && uuid != id {
                continue;
            }
            truth.domains.push(Domain {
                id: uuid.to_owned(),
                running: virsh(which, &["domstate", uuid]).trim() == "running",
                incarnation: virsh(which, &["domid", uuid]).trim().to_owned(),
            });
        }
        truth.volumes = volumes(which)
            .into_iter()
            .filter(|volume| volume.starts_with(id))
            .collect();
    }
    truth.volumes.sort();
    truth
}

/// The names of all volumes of a libvirt driver's pool.
pub fn volumes(which: Which) -> Vec<String> {
    let pool = pool(which);
    // Another process may have the pool locked for a moment.
    let _ = try_virsh(which, &["pool-refresh", pool]);
    let list = virsh(which, &["vol-list", pool]);
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// The names of all domains of a libvirt driver.
pub fn domains(which: Which) -> Vec<String> {
    let list = virsh(which, &["list", "--all", "--name"]);
    let names = list.lines().map(str::trim).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names
}

/// The pool that the gateway puts volumes into.
pub fn pool(which: Which) -> &'static str {
    if which == Which::TestUnix {
        "default-pool"
    } else {
        "default"
    }
}

/// Runs virsh on the driver behind a set-up.
pub fn virsh(which: Which, arguments: &[&str]) -> String {
    try_virsh(which, arguments).unwrap()
}

fn try_virsh(which: Which, arguments: &[&str]) -> babelvisor_conformance::testbed::Result<String> {
    if which == Which::TestUnix {
        libvirtd().virsh_test(arguments)
    } else {
        libvirtd().virsh(arguments)
    }
}

/// Starts a gateway without holding up the other cases.
pub fn start(config: &str, environment: &[(&str, &str)]) -> Gateway {
    let mut builder = gateway().config(config);
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    tokio::task::block_in_place(|| builder.start()).unwrap()
}

/// Waits for the death that was planned, and for no other.
pub fn assert_killed(gateway: &mut Gateway, place: &str) {
    let status = tokio::task::block_in_place(|| gateway.wait_exit(MINUTE))
        .unwrap_or_else(|error| panic!("{place} was never reached: {error}\n{}", gateway.log()));
    assert_eq!(status.signal(), Some(SIGKILL), "{place}: ended by {status}");
}

/// Starts it again, to die at `place` or not at all.
pub fn restart(gateway: &mut Gateway, place: Option<&str>) {
    gateway.set_env(KILL_AT, place);
    tokio::task::block_in_place(|| gateway.restart()).unwrap();
}

/// Sends a Guest REST call; none when the gateway died over it.
pub async fn try_guest(gateway: &Gateway, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
    use babelvisor_conformance::testbed::http::call;
    let request = call(gateway.address(), method, path).deadline(MINUTE);
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    request.send().await.ok()?.json().ok()
}

/// Asks for a guest; none when the gateway died over it.
pub async fn try_create(gateway: &Gateway, name: &str) -> Option<Value> {
    let body = json!({"cpu": 1, "memory": 1, "os_template_id": 1, "quantity": 1, "name": name,
                      "password": "Reef-lamp-7", "lease_term": 100});
    let request = post(gateway.address(), "/api/guest", &body).deadline(MINUTE);
    request.send().await.ok()?.json().ok()
}

/// Whether Guest REST accepted a call.
pub fn accepted(answer: Option<&Value>) -> bool {
    answer.is_some_and(|answer| answer["state"]["code"] == "200")
}

/// A view of the operators' listener.
pub async fn admin(gateway: &Gateway, path: &str) -> Value {
    get(gateway.admin(), path).send().await.unwrap().json().unwrap()
}

/// All jobs, newest first.
pub async fn jobs(gateway: &Gateway) -> Vec<Value> {
    admin(gateway, "/_gw/jobs").await["jobs"]
        .as_array()
        .unwrap()
        .clone()
}

/// The only job of a command; the test fails when there are two.
pub async fn only_job(gateway: &Gateway, command: &str) -> Value {
    let mut found: Vec<Value> = jobs(gateway).await;
    found.retain(|job| job["command"] == command);
    assert!(found.len() <= 1, "{command} was stored more than once: {found:?}");
    found.pop().unwrap_or(Value::Null)
}

/// Waits until a job has ended, by its address.
pub async fn ended(gateway: &Gateway, id: &str) -> Value {
    let what = format!("job {id} ends");
    let path = format!("/_gw/jobs/{id}");
    let waited = eventually(&what, MINUTE * 2, || async {
        let answer = get(gateway.admin(), &path).send().await.ok()?.json().ok()?;
        answer["ended"].is_string().then_some(answer)
    });
    match waited.await {
        Ok(job) => job,
        Err(error) => panic!("{error}: {}\n{}", admin(gateway, &path).await, gateway.log()),
    }
}

/// What operators see of a VM; null when it is not there.
pub async fn vm(gateway: &Gateway, id: &str) -> Value {
    let answer = get(gateway.admin(), &format!("/_gw/vms/{id}"))
        .send()
        .await
        .unwrap();
    if answer.status == 200 {
        answer.json().unwrap()
    } else {
        Value::Null
    }
}

/// How many jobs this process has taken over from a dead one.
pub async fn recovered(gateway: &Gateway) -> u64 {
    let text = get(gateway.admin(), "/metrics").send().await.unwrap().text();
    text.lines()
        .find_map(|line| line.strip_prefix("gateway_job_recovered_total "))
        .map_or(0, |count| count.trim().parse().unwrap())
}
