//! What a site may choose about this dialect.

use babelvisor_schemas::Strictness;
use serde::{Deserialize, Serialize};

/// The `pve-open` section of the configuration. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether calls need a token. Off means that whoever reaches the listener acts for `tenant`.
    pub authentication: Switch,
    /// Whose machines callers see while authentication is off.
    pub tenant: String,
    /// How long a token lives, in seconds (document: 30 minutes).
    pub token_seconds: u64,
    /// What the two create calls answer as `data`.
    pub create_answers: CreateAnswers,
    /// Whether createRent answers 1037 to accounts whose holder was not verified by name.
    pub require_verified_identity: bool,
    /// Whether mypage without `page` or `pageSize` means page 1 of 10, rather than 1007.
    pub default_page: bool,
    /// How operate with type 0 stops a machine.
    pub power_off: PowerOff,
    /// What becomes of fields that would be ignored.
    pub strictness: Strictness,
    /// What machines show as `address`; without, the host's own address.
    pub address: Option<String>,
    /// How many bytes of encoded machines are kept.
    pub cache_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            authentication: Switch::On,
            tenant: "default".to_owned(),
            token_seconds: 30 * 60,
            create_answers: CreateAnswers::True,
            require_verified_identity: false,
            default_page: false,
            power_off: PowerOff::Shutdown,
            strictness: Strictness::Warn,
            address: None,
            cache_bytes: 8 << 20,
        }
    }
}

impl Settings {
    /// Whether whoever reaches the listener may act without signing in. The configuration check wants to
    /// hear this said for listeners that are not on loopback.
    pub const fn is_open(&self) -> bool {
        match self.authentication {
            Switch::On => false,
            Switch::Off => true,
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

/// What a create call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreateAnswers {
    /// `true`, as the first edition prints it.
    True,
    /// The id of the new machine, as later editions do.
    Id,
}

/// How a machine is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerOff {
    /// The guest is asked and takes its time.
    Shutdown,
    /// The power is cut.
    ForceOff,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_writes_only_what_it_changes() {
        let settings: Settings = toml::from_str("authentication = \"off\"\ncreate_answers = \"id\"").unwrap();
        assert_eq!(settings.authentication, Switch::Off);
        assert_eq!(settings.create_answers, CreateAnswers::Id);
        assert!(settings.is_open() && !Settings::default().is_open());
        assert_eq!(settings.token_seconds, 1800);
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
    }

    #[test]
    fn a_key_that_does_not_exist_is_refused() {
        assert!(toml::from_str::<Settings>("authentification = \"off\"").is_err());
    }
}
