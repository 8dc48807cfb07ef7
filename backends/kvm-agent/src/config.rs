//! The settings of a `[[backend]]` entry of kind `kvm-agent`.

use std::net::IpAddr;
use std::time::Duration;

use babelvisor_core::{Error, Result};
use serde::Deserialize;

/// A shared secret that the agent sends in a header.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The header's name.
    pub header: String,
    /// SHA-256 of the secret, in hexadecimal.
    pub sha256: String,
}

/// One host and its agent. The clocks are those of the original (§2, §6 of what is known of it); tests shorten them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KvmAgentConfig {
    /// The serial number under which the agent reports: `CAS` and ten digits in the original.
    pub serial: String,
    /// The only address that the agent calls from.
    pub source: Option<IpAddr>,
    /// The secret that it sends.
    pub credential: Option<Credential>,
    /// After how many milliseconds without a host.status the host counts as lost.
    pub lost_after_ms: u64,
    /// How many milliseconds a task may wait to be fetched and begun.
    pub age_ms: u64,
    /// How many milliseconds a task may take after that.
    pub finish_ms: u64,
    /// How many milliseconds after a task's end a report may still say what was before it: an agent takes two
    /// seconds, and three more for each running machine, to collect one.
    pub settle_ms: u64,
    /// Whether a deletion removes the machine's disks from the host as well.
    pub delete_disks: bool,
    /// The cluster that the host is shown in.
    pub cluster: String,
    /// The zone that the host is shown in.
    pub zone: String,
}

impl Default for KvmAgentConfig {
    fn default() -> Self {
        Self {
            serial: String::new(),
            source: None,
            credential: None,
            lost_after_ms: 3_600_000,
            age_ms: 3_600_000,
            finish_ms: 600_000,
            settle_ms: 30_000,
            delete_disks: false,
            cluster: "default".to_owned(),
            zone: "default".to_owned(),
        }
    }
}

impl KvmAgentConfig {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// `InvalidInput` naming the setting.
    pub fn check(&self) -> Result<()> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if self.serial.is_empty() || self.serial.len() > 64 || !self.serial.chars().all(plain) {
            let text = "serial is the agent's serial number, 1 to 64 letters, digits, - and _";
            return Err(Error::invalid("serial", text));
        }
        if let Some(Credential { header, sha256 }) = &self.credential
            && (header.is_empty() || sha256.len() != 64 || !sha256.chars().all(|c| c.is_ascii_hexdigit()))
        {
            let text =
                "credential has a header's name, and the SHA-256 of the secret in 64 hexadecimal digits";
            return Err(Error::invalid("credential", text));
        }
        let clocks = [
            ("lost_after_ms", self.lost_after_ms),
            ("age_ms", self.age_ms),
            ("finish_ms", self.finish_ms),
        ];
        for (name, clock) in clocks {
            if clock == 0 {
                return Err(Error::invalid(name, format!("{name} is at least 1")));
            }
        }
        Ok(())
    }

    pub(crate) fn lost_after(&self) -> Duration {
        Duration::from_millis(self.lost_after_ms)
    }

    pub(crate) fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_needs_no_more_than_its_serial_number() {
        let config: KvmAgentConfig = toml::from_str("serial = \"CAS1000000000\"").unwrap();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.lost_after(), Duration::from_secs(3600));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, field) in [
            ("", "serial"),
            ("serial = \"a/b\"", "serial"),
            ("serial = \"a\"\nage_ms = 0", "age_ms"),
            (
                "serial = \"a\"\ncredential = { header = \"x\", sha256 = \"12\" }",
                "credential",
            ),
        ] {
            let config: KvmAgentConfig = toml::from_str(text).unwrap();
            assert_eq!(
                config.check().unwrap_err().field.as_deref(),
                Some(field),
                "{text}"
            );
        }
        assert!(toml::from_str::<KvmAgentConfig>("seriall = \"a\"").is_err());
    }
}
