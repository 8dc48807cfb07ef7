//! A witness of what happens on a hypervisor, whoever does it.

use std::collections::BTreeMap;

use babelvisor_conformance::testbed::process::Process;

use super::crash::{libvirtd, virsh};
use super::setup::Which;

/// What libvirt itself tells about the lives of domains, as virsh prints it.
pub struct Witness {
    process: Process,
    _directory: tempfile::TempDir,
}

impl Witness {
    pub fn start(which: Which) -> Self {
        let uri = if which == Which::TestUnix {
            libvirtd().uri_test()
        } else {
            libvirtd().uri_qemu()
        };
        let directory = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new("stdbuf");
        command.args([
            "-oL",
            "virsh",
            "-c",
            uri,
            "event",
            "--event",
            "lifecycle",
            "--loop",
        ]);
        let process = Process::start(command, &directory.path().join("events")).unwrap();
        let witness = Self {
            process,
            _directory: directory,
        };
        // It listens once it sees something happen.
        for number in 0..200 {
            let name = format!("probe-{number}");
            let kind = if which == Which::TestUnix { "test" } else { "qemu" };
            let xml = format!(
                "<domain type='{kind}'><name>{name}</name><memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
            );
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), xml).unwrap();
            virsh(which, &["define", file.path().to_str().unwrap()]);
            virsh(which, &["undefine", &name]);
            if witness.process.log().contains("probe-") {
                return witness;
            }
        }
        panic!("no event is seen: {}", witness.process.log());
    }

    /// How often each thing happened to a domain.
    pub fn of(&self, name: &str) -> BTreeMap<String, usize> {
        let marker = format!("domain '{name}': ");
        let mut counts = BTreeMap::new();
        for line in self.process.log().lines() {
            if let Some((_, happened)) = line.split_once(&marker) {
                let word = happened.split_whitespace().next().unwrap_or_default();
                if ["Defined", "Started", "Stopped", "Undefined"].contains(&word) {
                    *counts.entry(word.to_owned()).or_default() += 1;
                }
            }
        }
        counts
    }
}
