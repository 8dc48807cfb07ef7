//! What a site may choose about this dialect.

use babelvisor_schemas::Strictness;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// The `zstack` section of the configuration. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long a session lives after its last call, in seconds (original: two hours).
    pub session_seconds: u64,
    /// The time zone of dates that are printed and read without one, as the tz database names it: `UTC`,
    /// `Asia/Shanghai`. The original uses its server's.
    pub time_zone: String,
    /// What becomes of fields that would be ignored.
    pub strictness: Strictness,
    /// How many bytes of encoded machines are kept.
    pub cache_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_seconds: 7200,
            time_zone: "UTC".to_owned(),
            strictness: Strictness::Warn,
            cache_bytes: 32 << 20,
        }
    }
}

impl Settings {
    /// The time zone.
    ///
    /// # Errors
    /// In words, when the tz database has none of that name.
    pub fn zone(&self) -> Result<TimeZone, String> {
        if self.time_zone.eq_ignore_ascii_case("utc") {
            return Ok(TimeZone::UTC);
        }
        TimeZone::get(&self.time_zone).map_err(|_| {
            format!(
                "zstack.time_zone: the tz database has no `{}`; write UTC or a name such as Asia/Shanghai",
                self.time_zone
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_writes_only_what_it_changes() {
        let settings: Settings = toml::from_str("session_seconds = 60").unwrap();
        assert_eq!(settings.session_seconds, 60);
        assert_eq!(settings.time_zone, "UTC");
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
        assert!(toml::from_str::<Settings>("session_second = 60").is_err());
    }

    #[test]
    fn a_zone_that_does_not_exist_is_named() {
        let settings = Settings {
            time_zone: "Mars/Olympus".to_owned(),
            ..Settings::default()
        };
        assert!(settings.zone().unwrap_err().contains("Mars/Olympus"));
        assert_eq!(Settings::default().zone().unwrap(), TimeZone::UTC);
    }
}
