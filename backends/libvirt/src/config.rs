//! The settings of one libvirt host, as a `[[backend]]` entry gives them.

use serde::{Deserialize, Serialize};

use babelvisor_core::{Error, Result};

/// How the CPU of new VMs is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// Hardware virtualisation where the host both lists it and confirms that it can be used, else translation.
    #[default]
    Auto,
    /// Hardware virtualisation (KVM).
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// Settings of one host. Everything but the URI has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibvirtConfig {
    /// Any libvirt URI: `qemu:///system`, `qemu+tls://host/system`, `qemu+unix:///system?socket=…`, `test:///default`.
    pub uri: String,
    /// Name of the cluster that the host belongs to.
    #[serde(default = "default_word")]
    pub cluster: String,
    /// Name of the zone that the cluster belongs to.
    #[serde(default = "default_word")]
    pub zone: String,
    /// How the CPU of new VMs is run.
    #[serde(default)]
    pub accel: Accel,
    /// Machine type of new VMs; taken where the host has it, else the host's own default.
    #[serde(default = "default_machine")]
    pub machine: String,
    /// Address that consoles of new VMs listen on.
    #[serde(default = "default_listen")]
    pub console_listen: String,
    /// Address that clients reach consoles at; without it the console's own, or the host's name.
    #[serde(default)]
    pub console_address: Option<String>,
    /// Address that the libvirt daemons of other hosts reach this one at, to move running VMs here:
    /// `qemu+tls://host/system`, `qemu+ssh://host/system`. Without it none are moved here.
    #[serde(default)]
    pub migrate_uri: Option<String>,
    /// Where the memory and disks of VMs that move here are sent: `tcp://address`, or `unix:///directory` that both
    /// hosts see. libvirt takes the host's name without it.
    #[serde(default)]
    pub migrate_data_uri: Option<String>,
    /// Whether the other hosts have this one's storage at the same paths. Otherwise disks are copied when a VM moves.
    #[serde(default)]
    pub shared_storage: bool,
    /// Directory on the host for the output of new VMs' serial ports; none is kept without it.
    #[serde(default)]
    pub serial_log_dir: Option<String>,
    /// Most connections for calls that only read the daemon's memory.
    #[serde(default = "default_fast")]
    pub fast_connections: usize,
    /// Most connections for calls that may wait for a guest or storage.
    #[serde(default = "default_slow")]
    pub slow_connections: usize,
    /// How often everything is read again, in seconds: for what events miss, and for the free space of pools.
    #[serde(default = "default_reconcile")]
    pub reconcile_seconds: u32,
}

fn default_word() -> String {
    "default".to_owned()
}

fn default_machine() -> String {
    "q35".to_owned()
}

fn default_listen() -> String {
    "127.0.0.1".to_owned()
}

const fn default_fast() -> usize {
    4
}

const fn default_slow() -> usize {
    8
}

const fn default_reconcile() -> u32 {
    60
}

impl LibvirtConfig {
    /// The defaults for a URI.
    pub fn new(uri: impl Into<String>) -> LibvirtConfig {
        LibvirtConfig {
            uri: uri.into(),
            cluster: default_word(),
            zone: default_word(),
            accel: Accel::default(),
            machine: default_machine(),
            console_listen: default_listen(),
            console_address: None,
            migrate_uri: None,
            migrate_data_uri: None,
            shared_storage: false,
            serial_log_dir: None,
            fast_connections: default_fast(),
            slow_connections: default_slow(),
            reconcile_seconds: default_reconcile(),
        }
    }

    /// Checks what serde cannot.
    ///
    /// # Errors
    /// `InvalidInput` with the field at fault.
    pub fn check(&self) -> Result<()> {
        let scheme_end = self.uri.find("://").or_else(|| self.uri.find(":/"));
        if scheme_end.is_none_or(|at| at == 0) || self.uri.chars().any(char::is_control) {
            return Err(Error::invalid(
                "uri",
                format!("{:?} is not a libvirt URI such as qemu:///system", self.uri),
            ));
        }
        if let Some(rest) = self.uri.strip_prefix("test://")
            && rest != "/default"
        {
            return Err(Error::invalid(
                "uri",
                "libvirt's in-process test driver gives every connection a private copy of such a state; \
                 use test:///default, or test+unix://… through a daemon",
            ));
        }
        for (field, value) in [
            ("fast_connections", self.fast_connections),
            ("slow_connections", self.slow_connections),
        ] {
            if !(1..=64).contains(&value) {
                return Err(Error::invalid(
                    field,
                    format!("{value} connections; give 1 to 64"),
                ));
            }
        }
        if !(1..=86_400).contains(&self.reconcile_seconds) {
            let detail = format!("{} seconds; give 1 to 86400", self.reconcile_seconds);
            return Err(Error::invalid("reconcile_seconds", detail));
        }
        for (field, value) in [
            ("migrate_uri", &self.migrate_uri),
            ("migrate_data_uri", &self.migrate_data_uri),
        ] {
            if let Some(uri) = value
                && (!uri.contains("://") || uri.contains(|c: char| c.is_whitespace() || c.is_control()))
            {
                return Err(Error::invalid(field, format!("{uri:?} is no URI")));
            }
        }
        if let Some(data) = &self.migrate_data_uri
            && !["tcp://", "unix:///"]
                .iter()
                .any(|scheme| data.starts_with(scheme))
        {
            let detail = format!("{data:?} is neither tcp://address nor unix:///directory");
            return Err(Error::invalid("migrate_data_uri", detail));
        }
        if let Some(dir) = &self.serial_log_dir
            && (!dir.starts_with('/') || dir.contains('\0'))
        {
            return Err(Error::invalid(
                "serial_log_dir",
                format!("{dir:?} is not an absolute path"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_states_of_the_test_driver_are_refused() {
        assert!(LibvirtConfig::new("test:///default").check().is_ok());
        assert!(
            LibvirtConfig::new("test+unix:///node.xml?socket=/s")
                .check()
                .is_ok()
        );
        let error = LibvirtConfig::new("test:///tmp/node.xml").check().unwrap_err();
        assert_eq!(error.field.as_deref(), Some("uri"));
    }

    #[test]
    fn senseless_settings_name_their_field() {
        let bad = |change: fn(&mut LibvirtConfig)| {
            let mut config = LibvirtConfig::new("qemu:///system");
            change(&mut config);
            config.check().unwrap_err().field.unwrap()
        };
        assert_eq!(bad(|c| c.uri = "qemu".into()), "uri");
        assert_eq!(bad(|c| c.fast_connections = 0), "fast_connections");
        assert_eq!(bad(|c| c.reconcile_seconds = 0), "reconcile_seconds");
        assert_eq!(bad(|c| c.migrate_uri = Some("host".into())), "migrate_uri");
        assert_eq!(
            bad(|c| c.migrate_data_uri = Some("rdma://host".into())),
            "migrate_data_uri"
        );
        assert_eq!(bad(|c| c.serial_log_dir = Some("logs".into())), "serial_log_dir");
    }
}
