//! The backend on a real libvirtd: QEMU guests under emulation, and the test driver over real RPC.
//!
//! All tests share one private libvirtd with its pool and network; each names its own objects.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod changes;
mod life;
mod migration;
mod snapshots;
mod storage;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use babelvisor_conformance::testbed::guest::{self, Kernel};
use babelvisor_conformance::testbed::{Libvirtd, NetworkScope};
use babelvisor_core::ErrorKind;
use babelvisor_core::backend::{Backend, BackendEvent, CallContext};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    AgentState, Firmware, GuestSetup, NicSource, PowerState, VmFacts, VmId, VolumeFormat, VolumeSource,
    VolumeSpec,
};
use babelvisor_core::secret::Secret;
use babelvisor_libvirt::{Accel, LibvirtBackend, LibvirtConfig};
use support::{again, backend, blank, call, eventually, facts, power_of, spec, vm_ref};

const POOL: &str = "default";

fn libvirtd() -> &'static Libvirtd {
    Libvirtd::shared().unwrap_or_else(|error| panic!("no libvirtd: {error}"))
}

fn image() -> &'static PathBuf {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| guest::image(&libvirtd().pool_dir(), Kernel::Cloud).unwrap())
}

fn on_qemu() -> LibvirtBackend {
    backend(LibvirtConfig {
        accel: Accel::Tcg,
        serial_log_dir: Some(libvirtd().dir().join("log/serial").display().to_string()),
        ..LibvirtConfig::new(libvirtd().uri_qemu())
    })
}

fn nic() -> NicSource {
    if libvirtd().has_network() {
        NicSource::Network("default".into())
    } else {
        NicSource::User
    }
}

fn layer(name: &str) -> VolumeSpec {
    VolumeSpec {
        source: VolumeSource::Layer {
            image: image().display().to_string(),
            format: VolumeFormat::Qcow2,
        },
        ..blank(POOL, name, 1 << 30)
    }
}

/// Listens to a backend; events are kept until they are asked for.
struct Watched {
    events: tokio::sync::mpsc::Receiver<BackendEvent>,
}

impl Watched {
    fn start(lv: &Arc<LibvirtBackend>) -> Watched {
        let (out, events) = tokio::sync::mpsc::channel(4096);
        let lv = lv.clone();
        tokio::spawn(async move { lv.watch(out).await });
        Watched { events }
    }

    async fn until<T>(
        &mut self,
        what: &str,
        seconds: u64,
        mut wanted: impl FnMut(BackendEvent) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let event = tokio::time::timeout_at(deadline.into(), self.events.recv()).await;
            let event = event
                .unwrap_or_else(|_| panic!("not within {seconds} s: {what}"))
                .unwrap();
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    async fn vm(&mut self, what: &str, seconds: u64, vm: VmId, wanted: impl Fn(&VmFacts) -> bool) -> VmFacts {
        self.until(what, seconds, |event| match event {
            BackendEvent::Changed(facts) if facts.id == vm && wanted(&facts) => Some(*facts),
            _ => None,
        })
        .await
    }
}

/// The whole of it: a copy-on-write disk, a first-boot medium that the guest reads, addresses, console, power.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_boots_reads_its_seed_and_obeys() {
    let lv = Arc::new(on_qemu());
    let mut watched = Watched::start(&lv);
    let vm = VmId::random();
    let job = call(120);
    let root = layer(&format!("{vm}-0.qcow2"));
    let disk = lv.create_volume(&job, &root).await.unwrap();
    assert_eq!((disk.capacity, disk.format), (1 << 30, VolumeFormat::Qcow2));
    let setup = GuestSetup {
        hostname: "seeded-host".into(),
        admin_user: "root".into(),
        admin_password: Some(job.keyring.seal(&Secret::new("Corr3ct-horse")).unwrap()),
        ssh_keys: vec!["ssh-ed25519 AAAAC3Nza example".into()],
        ..GuestSetup::default()
    };
    let seed_name = format!("{vm}-seed.img");
    let seed = lv.create_seed(&job, vm, POOL, &seed_name, &setup).await.unwrap();
    let seed_again = lv
        .create_seed(&again(&job, 60), vm, POOL, &seed_name, &setup)
        .await
        .unwrap();
    assert_eq!(seed.native, seed_again.native);

    let mut plan = spec("boots", vec![root.clone()], nic());
    plan.console_password = Some(job.keyring.seal(&Secret::new("first-pw")).unwrap());
    let made = lv.define(&job, vm, &plan, &[disk], Some(&seed)).await.unwrap();
    assert_eq!(
        (made.power, made.disks.len(), made.removable.len()),
        (PowerState::Off, 1, 1)
    );
    assert_eq!(made.disks[0].capacity, 1 << 30);
    assert!(made.persistent && made.graphics[0].has_password);
    assert!(!made.definition.as_ref().unwrap().contains("first-pw"));

    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    watched
        .vm("the start is seen", 30, vm, |f| f.power == PowerState::Running)
        .await;
    let up = watched
        .vm("the agent is connected", 120, vm, |f| {
            f.agent == AgentState::Connected
        })
        .await;
    assert_eq!(up.power, PowerState::Running);
    // From the network's leases, or from the agent.
    let with_address = |f: &VmFacts| f.nics[0].addresses.iter().any(std::net::IpAddr::is_ipv4);
    if !with_address(&up) {
        watched.vm("an address", 90, vm, with_address).await;
    }

    // A list asks for volumes and leases once for all; what it says of one VM is what a look at that VM says.
    let listed = lv.list(&call(30)).await.unwrap();
    let listed = listed.into_iter().find(|f| f.id == vm).unwrap();
    assert_eq!(listed, facts(&lv, vm).await);
    assert!(with_address(&listed) && listed.disks[0].capacity == 1 << 30);

    let inside = |line: &'static str| {
        tokio::task::spawn_blocking(move || guest::run_inside(libvirtd(), "boots", line))
    };
    let log = libvirtd().dir().join(format!("log/serial/{vm}.log"));
    eventually("the seed being looked for", 60, async || {
        std::fs::read_to_string(&log)
            .ok()
            .filter(|text| text.contains("guest: seed "))
    })
    .await;
    let printed = std::fs::read_to_string(&log).unwrap();
    let applied = inside("cat /run/seed/.applied")
        .await
        .unwrap()
        .unwrap_or_else(|e| panic!("{e}: {printed}"));
    assert_eq!(applied.trim(), "seeded-host");
    let user_data = inside("cat /run/seed/user-data").await.unwrap().unwrap();
    assert!(user_data.starts_with("#cloud-config") && user_data.contains("Corr3ct-horse"));
    let meta_data = inside("cat /run/seed/meta-data").await.unwrap().unwrap();
    assert!(meta_data.contains(&vm.to_string()));

    let console = lv.console(&call(20), &vm_ref(vm)).await.unwrap();
    assert!(console.host == "127.0.0.1" && console.port >= 5900, "{console:?}");
    lv.set_console_password(&call(20), &vm_ref(vm), &Secret::new("other-pw"))
        .await
        .unwrap();
    assert_eq!(
        lv.console_password(&call(20), &vm_ref(vm))
            .await
            .unwrap()
            .unwrap()
            .expose(),
        "other-pw"
    );

    lv.power(&call(60), &vm_ref(vm), PowerAction::Suspend)
        .await
        .unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Paused);
    lv.power(&call(60), &vm_ref(vm), PowerAction::Resume)
        .await
        .unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Running);
    lv.power(&call(90), &vm_ref(vm), PowerAction::Shutdown)
        .await
        .unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Off);
    watched
        .vm("the end is seen", 30, vm, |f| f.power == PowerState::Off)
        .await;

    lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    watched
        .until("it is gone", 30, |e| {
            matches!(e, BackendEvent::Gone(id) if id == vm).then_some(())
        })
        .await;
    for name in [&root.name, &seed_name] {
        lv.delete_volume(&call(30), POOL, name).await.unwrap();
        assert!(
            !libvirtd().pool_dir().join(name).exists(),
            "{name} is still there"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_copy_grows_to_the_size_that_was_asked_for_and_a_cut_off_one_is_made_anew() {
    let lv = on_qemu();
    let job = call(120);
    for format in [VolumeFormat::Qcow2, VolumeFormat::Raw] {
        let name = format!("{}-copy", VmId::random());
        let source = VolumeSource::Copy {
            image: image().display().to_string(),
            format: VolumeFormat::Qcow2,
        };
        let wanted = VolumeSpec {
            source,
            format,
            ..blank(POOL, &name, 256 << 20)
        };
        let copy = lv.create_volume(&job, &wanted).await.unwrap();
        assert_eq!((copy.capacity, copy.format), (256 << 20, format));
        // What an interrupted copy leaves behind.
        std::fs::write(libvirtd().pool_dir().join(&name), b"half").unwrap();
        let whole = lv.create_volume(&again(&job, 120), &wanted).await.unwrap();
        assert_eq!((whole.capacity, whole.format), (256 << 20, format));
        assert!(
            std::fs::metadata(libvirtd().pool_dir().join(&name))
                .unwrap()
                .len()
                > 1 << 20
        );
        lv.delete_volume(&call(30), POOL, &name).await.unwrap();
        // A caller that gave up while the daemon still copies: the next try waits for the daemon, then begins anew.
        let hasty = CallContext {
            deadline: Instant::now() + Duration::from_millis(30),
            ..call(0)
        };
        let first = lv.create_volume(&hasty, &wanted).await;
        let second = lv.create_volume(&again(&hasty, 120), &wanted).await.unwrap();
        assert_eq!(
            (second.capacity, second.format),
            (256 << 20, format),
            "after {first:?}"
        );
        lv.delete_volume(&call(30), POOL, &name).await.unwrap();
    }
    // A layer over a volume of a pool, as the gateway's own disks are, is copied with what lies below it.
    let layered = layer(&format!("{}-layer.qcow2", VmId::random()));
    lv.create_volume(&call(30), &layered).await.unwrap();
    let chain = VolumeSource::Copy {
        image: format!("{POOL}/{}", layered.name),
        format: VolumeFormat::Qcow2,
    };
    let name = format!("{}-whole.qcow2", VmId::random());
    let wanted = VolumeSpec {
        source: chain,
        ..blank(POOL, &name, 1 << 30)
    };
    lv.create_volume(&call(120), &wanted).await.unwrap();
    let info = storage::image_info(&name);
    assert!(info.get("backing-filename").is_none(), "{info}");
    for name in [&name, &layered.name] {
        lv.delete_volume(&call(30), POOL, name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_ignores_the_power_button_ends_in_a_timeout_and_can_be_forced_off() {
    let lv = on_qemu();
    let vm = VmId::random();
    lv.define(&call(60), vm, &spec("deaf", vec![], NicSource::User), &[], None)
        .await
        .unwrap();
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    let begun = Instant::now();
    let ignored = lv
        .power(&call(4), &vm_ref(vm), PowerAction::Shutdown)
        .await
        .unwrap_err();
    assert_eq!(ignored.kind, ErrorKind::Timeout);
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(power_of(&lv, vm).await, PowerState::Running);
    lv.power(&call(60), &vm_ref(vm), PowerAction::Reset)
        .await
        .unwrap();
    lv.power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Off);
    lv.undefine(&call(60), &vm_ref(vm)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uefi_vm_is_removed_with_its_variables() {
    let lv = on_qemu();
    let vm = VmId::random();
    let mut plan = spec("uefi", vec![], NicSource::User);
    plan.firmware = Firmware::Uefi;
    let made = lv.define(&call(60), vm, &plan, &[], None).await.unwrap();
    assert_eq!(made.firmware, Firmware::Uefi);
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    assert_eq!(facts(&lv, vm).await.firmware, Firmware::Uefi);
    lv.power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    lv.undefine(&call(60), &vm_ref(vm)).await.unwrap();
    assert!(lv.get(&call(20), &vm_ref(vm)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_automatic_choice_of_virtualisation_can_be_started() {
    let lv = backend(LibvirtConfig::new(libvirtd().uri_qemu()));
    let vm = VmId::random();
    let made = lv
        .define(&call(60), vm, &spec("auto", vec![], NicSource::User), &[], None)
        .await
        .unwrap();
    let definition = made.definition.unwrap();
    assert!(
        ["<domain type='kvm'", "<domain type='qemu'"]
            .iter()
            .any(|t| definition.starts_with(t))
    );
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    lv.power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    lv.undefine(&call(60), &vm_ref(vm)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_guest_delays_nobody_else() {
    let lv = on_qemu();
    let vm = VmId::random();
    lv.define(&call(60), vm, &spec("hung", vec![], NicSource::User), &[], None)
        .await
        .unwrap();
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    let pid = libvirtd().guest_pid("hung").unwrap();
    let signal = |word: &'static str| {
        std::process::Command::new("kill")
            .args([word, &pid.to_string()])
            .status()
            .unwrap();
    };
    signal("-STOP");
    // More calls to the hung guest than a daemon reads from one client at once.
    let stuck: Vec<_> = (0..6)
        .map(|_| {
            let host = lv.host().clone();
            tokio::spawn(async move {
                host.slow(Instant::now() + Duration::from_secs(3), move |c| {
                    let domain = c.lookup_domain_by_uuid(vm.0)?;
                    Ok(domain.qemu_monitor_command("{\"execute\":\"query-status\"}", 0)?)
                })
                .await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    assert_eq!(power_of(&lv, vm).await, PowerState::Running);
    assert!(lv.list(&call(10)).await.unwrap().iter().any(|f| f.id == vm));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "reads took {:?}",
        begun.elapsed()
    );
    for call in stuck {
        let error = call.await.unwrap().unwrap_err();
        assert!(
            matches!(error, babelvisor_libvirt::connection::CallError::Timeout(_)),
            "{error}"
        );
    }
    assert!(lv.host().abandoned_calls() > 0);
    signal("-CONT");
    eventually("the calls that were left behind end", 60, async || {
        (lv.host().abandoned_calls() == 0).then_some(())
    })
    .await;
    lv.power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    lv.undefine(&call(60), &vm_ref(vm)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loss_of_the_daemon_is_seen_and_everything_is_read_again_after_it() {
    // A daemon of its own: killing the shared one would disturb the other tests.
    let daemon = tokio::task::spawn_blocking(|| Libvirtd::start_with(NetworkScope::Private))
        .await
        .unwrap()
        .unwrap();
    let lv = Arc::new(backend(LibvirtConfig {
        accel: Accel::Tcg,
        ..LibvirtConfig::new(daemon.uri_qemu())
    }));
    let mut watched = Watched::start(&lv);
    watched
        .until("the first reading", 30, |e| {
            matches!(e, BackendEvent::Resync(_)).then_some(())
        })
        .await;
    let vm = VmId::random();
    lv.define(
        &call(60),
        vm,
        &spec("survivor", vec![], NicSource::User),
        &[],
        None,
    )
    .await
    .unwrap();
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();

    daemon.kill9().unwrap();
    let down = watched
        .until("the loss", 30, |e| match e {
            BackendEvent::Down(error) => Some(error),
            _ => None,
        })
        .await;
    assert_eq!(down.kind, ErrorKind::BackendUnavailable);
    let refused = lv.list(&call(10)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::BackendUnavailable);

    daemon.start_daemon().unwrap();
    let all = watched
        .until("everything again", 60, |e| match e {
            BackendEvent::Resync(all) => Some(all),
            _ => None,
        })
        .await;
    assert!(
        all.iter().any(|f| f.id == vm && f.power == PowerState::Running),
        "{all:?}"
    );
    lv.power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    watched
        .vm("events flow again", 30, vm, |f| f.power == PowerState::Off)
        .await;
    lv.undefine(&call(60), &vm_ref(vm)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_test_driver_works_over_real_rpc() {
    let lv = backend(LibvirtConfig::new(libvirtd().uri_test()));
    let vm = VmId::random();
    let job = call(30);
    let root = blank("default-pool", &format!("{vm}-0.qcow2"), 1 << 30);
    let disk = lv.create_volume(&job, &root).await.unwrap();
    let plan = spec(
        "over-rpc",
        vec![root.clone()],
        NicSource::Network("default".into()),
    );
    lv.define(&job, vm, &plan, &[disk], None).await.unwrap();
    lv.power(&call(30), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    assert_eq!(power_of(&lv, vm).await, PowerState::Running);
    lv.power(&call(30), &vm_ref(vm), PowerAction::Shutdown)
        .await
        .unwrap();
    lv.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    lv.delete_volume(&call(30), "default-pool", &root.name)
        .await
        .unwrap();
}
