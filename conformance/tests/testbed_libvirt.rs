//! The private libvirtd: a guest lives a whole life on it, faults can be made, and nothing is left behind.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

use babelvisor_conformance::testbed::guest::{
    Kernel, domain_xml, image, run_inside, seed_iso, wait_agent, wait_serial, wait_state,
};
use babelvisor_conformance::testbed::process::{Signal, send_signal};
use babelvisor_conformance::testbed::{Libvirtd, eventually_blocking};
use std::path::Path;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn pids_that_mention(directory: &Path) -> Vec<String> {
    let needle = directory.to_string_lossy().into_owned();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .filter(|line| line.contains(&needle))
        .collect()
}

#[test]
fn a_guest_boots_reads_its_seed_gets_an_address_and_obeys_the_power_button() {
    let libvirtd = Libvirtd::start().unwrap();
    let disk = image(&libvirtd.pool_dir(), Kernel::Cloud).unwrap();
    let seed = seed_iso(
        &libvirtd.pool_dir(),
        "seed",
        "instance-id: i-0001\nlocal-hostname: web1\n",
        "#cloud-config\nchpasswd:\n  expire: false\n  users:\n    - {name: root, password: \"Spring-7 tide\", type: text}\n",
    )
    .unwrap();
    libvirtd
        .define(&domain_xml(&libvirtd, "seeded", &disk, Some(&seed)))
        .unwrap();
    libvirtd.virsh(&["start", "seeded"]).unwrap();

    wait_agent(&libvirtd, "seeded", MINUTE).unwrap();
    wait_serial(
        &libvirtd,
        "seeded",
        "seed hostname=web1 instance-id=i-0001",
        MINUTE,
    )
    .unwrap();
    let hash = run_inside(&libvirtd, "seeded", "grep ^root: /etc/shadow | cut -d: -f2").unwrap();
    assert!(
        hash.starts_with("$6$"),
        "the seed's password was not applied: {hash}"
    );
    if libvirtd.has_network() {
        wait_serial(&libvirtd, "seeded", "address 192.168.", MINUTE).unwrap();
        assert!(
            libvirtd
                .virsh(&["domifaddr", "seeded"])
                .unwrap()
                .contains("192.168.")
        );
    }

    libvirtd.virsh(&["shutdown", "seeded", "--mode", "acpi"]).unwrap();
    wait_state(&libvirtd, "seeded", "shut off", MINUTE).unwrap();

    let directory = libvirtd.dir().to_owned();
    drop(libvirtd);
    assert!(!directory.exists(), "{} is still there", directory.display());
    assert_eq!(pids_that_mention(&directory), Vec::<String>::new());
}

#[test]
fn guests_outlive_a_killed_daemon_and_faults_can_be_made() {
    let libvirtd = Libvirtd::start().unwrap();
    let disk = libvirtd.pool_dir().join("blank.qcow2");
    libvirtd
        .virsh(&[
            "vol-create-as",
            "default",
            "blank.qcow2",
            "1M",
            "--format",
            "qcow2",
        ])
        .unwrap();
    libvirtd
        .define(&domain_xml(&libvirtd, "blank", &disk, None))
        .unwrap();
    libvirtd.virsh(&["start", "blank"]).unwrap();
    let guest = libvirtd.guest_pid("blank").unwrap();

    libvirtd.kill9().unwrap();
    assert!(libvirtd.daemon_pid().is_err(), "the daemon should be dead");
    libvirtd.virsh(&["list"]).unwrap_err();
    libvirtd.start_daemon().unwrap();
    assert_eq!(libvirtd.guest_pid("blank").unwrap(), guest);
    assert_eq!(libvirtd.virsh(&["domstate", "blank"]).unwrap().trim(), "running");

    let before = libvirtd.daemon_pid().unwrap();
    libvirtd.restart().unwrap();
    assert_ne!(libvirtd.daemon_pid().unwrap(), before);

    libvirtd.sigstop().unwrap();
    let halted = libvirtd.daemon_pid().unwrap();
    let state = std::fs::read_to_string(format!("/proc/{halted}/stat")).unwrap();
    assert!(state.contains(") T "), "not halted: {state}");
    libvirtd.sigcont().unwrap();

    send_signal(guest, Signal::Kill).unwrap();
    wait_state(&libvirtd, "blank", "shut off", MINUTE).unwrap();
}

#[test]
fn several_run_side_by_side_and_the_test_driver_is_inside() {
    let first = Libvirtd::start().unwrap();
    let second = Libvirtd::start().unwrap();
    first.virsh_test(&["destroy", "test"]).unwrap();
    // The test driver by itself would forget this with the last connection.
    assert_eq!(
        first.virsh_test(&["domstate", "test"]).unwrap().trim(),
        "shut off"
    );
    assert_eq!(
        second.virsh_test(&["domstate", "test"]).unwrap().trim(),
        "running"
    );
    assert_ne!(first.uri_qemu(), second.uri_qemu());
    assert!(first.virsh(&["pool-list"]).unwrap().contains("default"));
    // Both have the same bridge name: their networks cannot see each other.
    for libvirtd in [&first, &second] {
        if libvirtd.has_network() {
            assert!(libvirtd.exec(&["ip", "-br", "link"]).unwrap().contains("virbr0"));
        }
    }
}

#[test]
fn everything_ends_when_the_holder_of_its_input_is_gone() {
    // What a killed test process looks like from the script's side: its end of the pipe closes, nothing else is done.
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/private-libvirtd.sh");
    let directory = tempfile::Builder::new()
        .prefix("bv-holder-")
        .tempdir_in("/tmp")
        .unwrap();
    let mut child = std::process::Command::new(scripts)
        .arg("run")
        .arg(directory.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ready = directory.path().join("ready");
    eventually_blocking("ready", MINUTE, || ready.exists().then_some(())).unwrap();
    drop(child.stdin.take());
    let status = eventually_blocking("its end", MINUTE, || child.try_wait().unwrap()).unwrap();
    assert!(status.success());
    assert!(!directory.path().exists());
    assert_eq!(pids_that_mention(directory.path()), Vec::<String>::new());
}
