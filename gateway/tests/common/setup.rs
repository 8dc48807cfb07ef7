//! Set-ups: which backend stands behind the gateway, and how a test looks at it past the gateway.

use std::path::PathBuf;

use babelvisor_conformance::testbed::guest::{Kernel, image};
use babelvisor_conformance::testbed::{Libvirtd, Redis};

/// A backend that a test brought up.
pub enum Setup {
    /// The memory backend; its state lives in a file of the gateway's state directory.
    Memory,
    /// libvirt's test driver inside a real daemon: real RPC.
    TestUnix(Box<Libvirtd>),
    /// QEMU guests under a real daemon.
    Qemu(Box<Libvirtd>),
}

/// The three of them by name, for tests that are run on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Memory,
    TestUnix,
    Qemu,
}

impl Setup {
    pub fn start(which: Which) -> Self {
        match which {
            Which::Memory => Self::Memory,
            Which::TestUnix => {
                let libvirtd = Libvirtd::start().unwrap();
                let volume = [
                    "vol-create-as",
                    "default-pool",
                    "tiny.qcow2",
                    "64M",
                    "--format",
                    "qcow2",
                ];
                libvirtd.virsh_test(&volume).unwrap();
                Self::TestUnix(Box::new(libvirtd))
            }
            Which::Qemu => {
                let libvirtd = Libvirtd::start().unwrap();
                image(&libvirtd.pool_dir(), Kernel::Cloud).unwrap();
                libvirtd.virsh(&["pool-refresh", "default"]).unwrap();
                Self::Qemu(Box::new(libvirtd))
            }
        }
    }

    /// The folder under `backends/`.
    pub fn backend(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::TestUnix(_) | Self::Qemu(_) => "libvirt",
        }
    }

    /// The name of the set-up in the coverage report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "state-file",
            Self::TestUnix(_) => "test+unix",
            Self::Qemu(_) => "qemu-tcg",
        }
    }

    /// The configuration for this backend, one image and two flavors, both dialects, no sign-in.
    pub fn config(&self) -> String {
        let (backend, native) = match self {
            Self::Memory => (
                "kind = \"memory\"\nstate_file = \"{state}/hypervisor.json\"\nimages = [{ name = \"tiny.qcow2\", size = 67108864 }]"
                    .to_owned(),
                "default/tiny.qcow2",
            ),
            Self::TestUnix(libvirtd) => {
                (format!("kind = \"libvirt\"\nuri = \"{}\"", libvirtd.uri_test()), "default-pool/tiny.qcow2")
            }
            Self::Qemu(libvirtd) => (
                format!("kind = \"libvirt\"\nuri = \"{}\"\naccel = \"tcg\"", libvirtd.uri_qemu()),
                "default/tiny.qcow2",
            ),
        };
        format!(
            r#"
[[backend]]
id = "one"
{backend}

[jobs]
lease_ms = 1000

[[image]]
name = "tiny"
number = 1
native = "{native}"
format = "qcow2"
os = "Debian"
family = "BZ"

[[flavor]]
name = "small"
id = "smallflavo"
vcpus = 1
memory_mib = 1024
family = "BZ"
billing = "both"

[pve-open]
authentication = "off"
"#
        )
    }

    /// The same for dialects with sign-in: an optical disc and larger and smaller flavors besides; on the memory backend
    /// also a second host, pool and network.
    pub fn rich_config(&self) -> String {
        let (config, native) = match self {
            Self::Memory => {
                let disc = "{ name = \"installer.iso\", size = 1048576, format = \"raw\" }";
                let more = "pools = [{ name = \"default\", capacity = 109951162777600 }, { name = \"spare\", capacity = 1099511627776 }]\n\
                            networks = [\"default\", \"lan\"]\nhosts = { count = 2, cpus = 64, memory = 549755813888 }\nimages = [";
                let config = self
                    .config()
                    .replacen("images = [", &format!("{more}{disc}, "), 1);
                (config, "default/installer.iso")
            }
            Self::TestUnix(libvirtd) => {
                let disc = [
                    "vol-create-as",
                    "default-pool",
                    "installer.iso",
                    "1M",
                    "--format",
                    "raw",
                ];
                libvirtd.virsh_test(&disc).unwrap();
                (self.config(), "default-pool/installer.iso")
            }
            Self::Qemu(libvirtd) => {
                let disc = [
                    "vol-create-as",
                    "default",
                    "installer.iso",
                    "1M",
                    "--format",
                    "raw",
                ];
                libvirtd.virsh(&disc).unwrap();
                (self.config(), "default/installer.iso")
            }
        };
        format!(
            r#"{config}
[[image]]
name = "installer"
number = 2
native = "{native}"
format = "raw"
kind = "iso"
os = "Debian"

[[flavor]]
name = "large"
id = "largeflavo"
vcpus = 2
memory_mib = 1536
family = "BZ"
billing = "both"
"#
        )
    }

    /// The names of all domains on the hypervisor, past the gateway. The memory backend is its own file.
    pub fn domains(&self, state_dir: &std::path::Path) -> Vec<String> {
        match self {
            Self::Memory => memory_state(state_dir).map_or_else(Vec::new, |state| state.0),
            Self::TestUnix(libvirtd) => lines(&libvirtd.virsh_test(&["list", "--all", "--name"]).unwrap()),
            Self::Qemu(libvirtd) => lines(&libvirtd.virsh(&["list", "--all", "--name"]).unwrap()),
        }
    }

    /// The names of all volumes on the hypervisor, past the gateway.
    pub fn volumes(&self, state_dir: &std::path::Path) -> Vec<String> {
        let first = |text: &str| {
            // virsh is quiet on the test bed: no head stands above the rows.
            let names = text.lines().filter_map(|line| line.split_whitespace().next());
            names.map(str::to_owned).collect()
        };
        match self {
            Self::Memory => memory_state(state_dir).map_or_else(Vec::new, |state| state.1),
            Self::TestUnix(libvirtd) => first(&libvirtd.virsh_test(&["vol-list", "default-pool"]).unwrap()),
            Self::Qemu(libvirtd) => {
                libvirtd.virsh(&["pool-refresh", "default"]).unwrap();
                first(&libvirtd.virsh(&["vol-list", "default"]).unwrap())
            }
        }
    }

    /// The libvirtd, where there is one.
    pub fn libvirtd(&self) -> Option<&Libvirtd> {
        match self {
            Self::Memory => None,
            Self::TestUnix(libvirtd) | Self::Qemu(libvirtd) => Some(libvirtd),
        }
    }
}

/// Guests and volumes of the memory backend's file.
fn memory_state(state_dir: &std::path::Path) -> Option<(Vec<String>, Vec<String>)> {
    let path: PathBuf = state_dir.join("hypervisor.json");
    let state = babelvisor_memory::read_state(&path).ok()?;
    let guests = state.vms.iter().map(|vm| vm.name.clone()).collect();
    let volumes = state.volumes.iter().map(|volume| volume.name.clone()).collect();
    Some((guests, volumes))
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The `[store]` section for a Redis that a test started.
pub fn redis_section(redis: &Redis) -> String {
    format!("[store]\nkind = \"redis\"\nurl = \"{}\"\n", redis.url())
}
