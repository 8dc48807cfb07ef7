//! A hypervisor that outlives its gateway.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::Backend as _;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{JobId, PowerState, VmId};
use babelvisor_core::secret::{Keyring, Secret};
use babelvisor_memory::{Delay, ForeignVm, MemoryConfig, read_state};

use crate::bench::{Bench, GIB, blank, kind, layer, refer, small, spec};

fn kept(folder: &Path) -> MemoryConfig {
    MemoryConfig {
        state_file: Some(folder.join("hypervisor.json")),
        ..small()
    }
}

#[tokio::test]
async fn guests_volumes_and_passwords_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Arc::new(Keyring::ephemeral());
    let (id, job) = (VmId::random(), JobId::random());
    let mut wanted = spec("web");
    wanted.volumes = vec![layer("web-root", 10 * GIB)];

    let (vms, volumes, topology) = {
        let bench = Bench::with_keys(kept(folder.path()), Arc::clone(&keyring));
        wanted.console_password = Some(keyring.seal(&Secret::new("made-up 10")).unwrap());
        let call = bench.call_of(job, Duration::from_secs(20));
        let root = bench
            .backend
            .create_volume(&call, &wanted.volumes[0])
            .await
            .unwrap();
        let setup = bench.setup("made-up 11");
        let seed = bench
            .backend
            .create_seed(&call, id, "default", "web-seed", &setup)
            .await
            .unwrap();
        let facts = bench
            .backend
            .define(&call, id, &wanted, &[root], Some(&seed))
            .await
            .unwrap();
        bench.power(&refer(&facts), PowerAction::Start).await.unwrap();
        let gone = bench.running("gone").await;
        bench.control.remove_from_outside(gone.id).unwrap();
        bench
            .backend
            .create_volume(&call, &blank("gone", GIB))
            .await
            .unwrap();
        bench
            .backend
            .delete_volume(&call, "default", "gone")
            .await
            .unwrap();
        let topology = bench.backend.topology(&call).await.unwrap();
        (bench.control.vms(), bench.control.volumes(), topology)
    };

    let on_disk = read_state(&folder.path().join("hypervisor.json")).unwrap();
    assert_eq!((&on_disk.vms, &on_disk.volumes), (&vms, &volumes));

    let bench = Bench::with_keys(kept(folder.path()), keyring);
    assert_eq!((bench.control.vms(), bench.control.volumes()), (vms, volumes));
    let call = bench.call_of(job, Duration::from_secs(20));
    assert_eq!(bench.backend.topology(&call).await.unwrap(), topology);
    let vm = refer(&bench.control.vm(id).unwrap());
    let password = bench.backend.console_password(&call, &vm).await.unwrap().unwrap();
    assert_eq!(password.expose(), "made-up 10");
    assert_eq!(bench.control.seed(id).unwrap().hostname, "web");
    // The job that was cut off finds its own objects.
    bench
        .backend
        .create_volume(&call, &wanted.volumes[0])
        .await
        .unwrap();
    // What is attached or a layer's base is so still; a new guest gets another port.
    let in_use = bench.backend.delete_volume(&call, "default", "web-root").await;
    assert_eq!(kind(in_use), ErrorKind::IllegalState);
    let base = bench.backend.delete_volume(&call, "default", "debian").await;
    assert_eq!(kind(base), ErrorKind::IllegalState);
    let second = bench.running("second").await;
    let ports = [
        bench.backend.console(&call, &vm).await.unwrap().port,
        bench.backend.console(&call, &second).await.unwrap().port,
    ];
    assert_ne!(ports[0], ports[1]);
}

#[tokio::test]
async fn no_secret_is_on_disk_in_plain_text() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(kept(folder.path()));
    let vm = bench.running("web").await;
    let password = Secret::new("made-up-12");
    bench
        .backend
        .set_console_password(&bench.call(), &vm, &password)
        .await
        .unwrap();
    let setup = bench.setup("made-up-13");
    bench
        .backend
        .create_seed(&bench.call(), vm.id, "default", "s", &setup)
        .await
        .unwrap();
    let path = folder.path().join("hypervisor.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"seed\"") && !text.contains("made-up"));
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn what_was_under_way_has_ended_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (boots, stops) = {
        let bench = Bench::new(kept(folder.path()));
        let (boots, stops) = (bench.defined("boots").await, bench.running("stops").await);
        bench
            .control
            .set_delay(Capability::PowerStart, Delay::Fixed(60_000));
        bench
            .control
            .set_delay(Capability::PowerShutdown, Delay::Fixed(60_000));
        for (vm, action) in [(&boots, PowerAction::Start), (&stops, PowerAction::Shutdown)] {
            let short = bench.call_of(JobId::random(), Duration::from_millis(10));
            let late = bench.backend.power(&short, vm, action).await;
            assert_eq!(kind(late), ErrorKind::Timeout);
        }
        assert_eq!(bench.state(&stops), PowerState::ShuttingDown);
        (boots, stops)
    };
    let bench = Bench::new(kept(folder.path()));
    assert_eq!(bench.state(&boots), PowerState::Running);
    assert_eq!(bench.state(&stops), PowerState::Off);
}

#[tokio::test]
async fn a_line_that_was_cut_short_is_dropped_and_a_broken_one_is_not_guessed_at() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hypervisor.json");
    let append = |text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let vm = Bench::new(kept(folder.path())).defined("web").await;
    append("{\"line\":\"guest_gone\",\"id\":\"");
    assert_eq!(read_state(&path).unwrap().vms.len(), 1);
    let bench = Bench::new(kept(folder.path()));
    bench.power(&vm, PowerAction::Start).await.unwrap();
    drop(bench);
    assert_eq!(read_state(&path).unwrap().vms[0].power, PowerState::Running);

    append("nonsense\n");
    assert_eq!(read_state(&path).unwrap_err().kind, ErrorKind::Internal);
    let before = std::fs::read(&path).unwrap();
    let bench = Bench::new(kept(folder.path()));
    let error = bench.backend.list(&bench.call()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BackendUnavailable);
    assert!(error.detail.contains("hypervisor.json"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn one_state_file_is_one_hypervisor() {
    let folder = tempfile::tempdir().unwrap();
    let first = Bench::new(kept(folder.path()));
    let second = Bench::new(kept(folder.path()));
    let refused = second.backend.list(&second.call()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::BackendUnavailable);
    first.defined("web").await;
    drop((first, second));
    assert_eq!(Bench::new(kept(folder.path())).control.vms().len(), 1);
}

#[tokio::test]
async fn guests_of_the_start_are_made_once_and_new_images_are_added() {
    let folder = tempfile::tempdir().unwrap();
    let config = |vms| MemoryConfig {
        vms,
        ..kept(folder.path())
    };
    let without_image = MemoryConfig {
        images: Vec::new(),
        ..config(3)
    };
    assert_eq!(Bench::new(without_image).control.volumes(), []);
    let bench = Bench::new(config(7));
    assert_eq!((bench.control.vms().len(), bench.control.volumes().len()), (3, 1));
}

#[tokio::test]
async fn a_long_life_does_not_grow_the_file_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(kept(folder.path()));
    let id = bench.control.spawn_foreign_vm(ForeignVm::named("busy")).unwrap();
    for _ in 0..6_000 {
        bench.control.power_from_outside(id, PowerState::Off).unwrap();
        bench.control.power_from_outside(id, PowerState::Running).unwrap();
    }
    let path = folder.path().join("hypervisor.json");
    let lines = std::fs::read_to_string(&path).unwrap().lines().count();
    assert!(lines < 11_000, "{lines}");
    let held = read_state(&path).unwrap();
    assert_eq!((held.vms, held.volumes.len()), (bench.control.vms(), 1));
}

/// Names the folder of the hypervisor that [`a_hypervisor_to_be_killed`] runs.
const FOLDER: &str = "BABELVISOR_TEST_HYPERVISOR";

/// Not a test by itself: the process that [`a_killed_process_leaves_a_whole_hypervisor`] kills.
#[tokio::test]
#[ignore = "runs for ever; started by a_killed_process_leaves_a_whole_hypervisor"]
async fn a_hypervisor_to_be_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let bench = Bench::new(kept(Path::new(&folder)));
    for number in 0_u64.. {
        let name = format!("vm-{number}");
        let volume = blank(&name, 1);
        bench.backend.create_volume(&bench.call(), &volume).await.unwrap();
        let vm = bench.running(&name).await;
        if number % 2 == 1 {
            bench.control.remove_from_outside(vm.id).unwrap();
        }
    }
}

#[test]
fn a_killed_process_leaves_a_whole_hypervisor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hypervisor.json");
    let mut guests = 0;
    for round in 1..=3 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "restart::a_hypervisor_to_be_killed", "--ignored"])
            .env(FOLDER, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        // The file is read while it is being written: it must be whole at any moment.
        let grown = loop {
            let found = read_state(&path).unwrap().vms.len();
            if found >= 50 * round {
                break true;
            }
            if std::time::Instant::now() > deadline {
                break false;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(grown, "round {round}: too few guests");
        let held = read_state(&path).unwrap();
        assert!(held.vms.len() >= guests);
        guests = held.vms.len();
        for vm in held.vms.iter().filter(|vm| vm.name.starts_with("vm-")) {
            let made = held.volumes.iter().any(|volume| volume.name == vm.name);
            assert!(made, "the volume of {} was made before it", vm.name);
        }
        // Each killed process leaves at most one guest between its definition and its start.
        let off = held.vms.iter().filter(|vm| vm.power == PowerState::Off).count();
        assert!(off <= round, "{off} in round {round}");
        let bench = Bench::new(kept(folder.path()));
        assert_eq!(bench.control.volumes(), held.volumes);
        assert_eq!(bench.control.vms().len(), guests);
        // The names are free again for the next round, as are the volumes'.
        for vm in bench.control.vms() {
            bench
                .control
                .rename_from_outside(vm.id, &format!("{round}-{}", vm.id))
                .unwrap();
        }
        for volume in held
            .volumes
            .iter()
            .filter(|volume| volume.name.starts_with("vm-"))
        {
            let (control, name) = (&bench.control, &volume.name);
            control.remove_volume_from_outside("default", name).unwrap();
        }
    }
}
