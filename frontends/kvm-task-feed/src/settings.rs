//! What a site may choose about this dialect, and which agents it serves.

use std::net::IpAddr;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// The `[kvm-task-feed]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The zone of the agents' hosts, a name of the tz database: the dialect writes times without one, and agents
    /// compare them with their own clock. Without, the gateway's own zone.
    pub time_zone: Option<String>,
}

impl Settings {
    /// The zone.
    ///
    /// # Errors
    /// The name, if the tz database has no such zone.
    pub fn zone(&self) -> Result<TimeZone, String> {
        match self.time_zone.as_deref() {
            None => Ok(TimeZone::system()),
            Some(name) if name.eq_ignore_ascii_case("utc") => Ok(TimeZone::UTC),
            Some(name) => TimeZone::get(name).map_err(|_| {
                format!(
                    "kvm-task-feed.time_zone: the tz database has no `{name}`; write UTC or a name such as \
                     Asia/Shanghai, or leave it out for the gateway's own zone"
                )
            }),
        }
    }
}

/// A shared secret that an agent sends in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// The header's name.
    pub header: String,
    /// SHA-256 of the secret, in hexadecimal.
    pub sha256: String,
}

/// An agent that is served. Without an address and a secret whoever knows the serial number is believed, as in the
/// original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its serial number.
    pub serial: String,
    /// The only address that it calls from, if that is known.
    pub source: Option<IpAddr>,
    /// The secret that it sends, if it sends one.
    pub credential: Option<Credential>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_does_not_exist_is_named() {
        let settings: Settings = toml::from_str("time_zone = \"Mars/Olympus\"").unwrap();
        assert!(settings.zone().unwrap_err().contains("Mars/Olympus"));
        let settings: Settings = toml::from_str("time_zone = \"utc\"").unwrap();
        assert_eq!(settings.zone(), Ok(TimeZone::UTC));
        assert!(Settings::default().zone().is_ok());
        assert!(toml::from_str::<Settings>("timezone = \"UTC\"").is_err());
    }
}
