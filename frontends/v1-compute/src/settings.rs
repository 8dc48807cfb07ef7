//! What a site may choose about this dialect.

use babelvisor_schemas::Strictness;
use serde::{Deserialize, Serialize};

/// The `v1-compute` section of the configuration. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether calls need a token or key. Off means that whoever reaches the listener acts for `tenant`.
    pub authentication: Switch,
    /// Whose machines callers see while authentication is off.
    pub tenant: String,
    /// How long a token lives, in seconds (document: the printed example lives 300000).
    pub token_seconds: u64,
    /// What becomes of fields that would be ignored.
    pub strictness: Strictness,
    /// The name of the one layer-2 network, under which the backends' networks are shown as port groups.
    pub layer2: String,
    /// The port group that stands for the site's own choice of a network, besides those of the backends.
    pub port_group: String,
    /// Where images are shown and exports are written.
    pub repository: Repository,
    /// What machines show as the address of their console; without, the host's own address.
    pub console_address: Option<String>,
    /// How many bytes of encoded machines are kept.
    pub cache_bytes: usize,
    /// How many entries of the operation log are kept for one machine.
    pub log_entries: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            authentication: Switch::On,
            tenant: "default".to_owned(),
            token_seconds: 300_000,
            strictness: Strictness::Warn,
            layer2: "manage".to_owned(),
            port_group: "default".to_owned(),
            repository: Repository::default(),
            console_address: None,
            cache_bytes: 16 << 20,
            log_entries: 100,
        }
    }
}

impl Settings {
    /// Whether whoever reaches the listener may act without signing in. The configuration check wants to hear
    /// this said for listeners that are not on loopback.
    pub const fn is_open(&self) -> bool {
        match self.authentication {
            Switch::On => false,
            Switch::Off => true,
        }
    }
}

/// The one repository of the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// The pool that exports are written to; the site's choice for new volumes without.
    pub pool: Option<String>,
}

impl Default for Repository {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            pool: None,
        }
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_writes_only_what_it_changes() {
        let text = "authentication = \"off\"\nlayer2 = \"lan\"\n[repository]\npool = \"images\"";
        let settings: Settings = toml::from_str(text).unwrap();
        assert!(settings.is_open() && !Settings::default().is_open());
        assert_eq!(
            (settings.layer2.as_str(), settings.port_group.as_str()),
            ("lan", "default")
        );
        assert_eq!(settings.repository.name, "default");
        assert_eq!(settings.repository.pool.as_deref(), Some("images"));
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
    }

    #[test]
    fn a_key_that_does_not_exist_is_refused() {
        assert!(toml::from_str::<Settings>("layer3 = \"lan\"").is_err());
    }
}
