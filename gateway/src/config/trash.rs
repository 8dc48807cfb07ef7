//! `[trash]`: how long what was moved to the trash stays there.

use std::time::Duration;

use babelvisor_core::layers::retention::RetentionSettings;
use serde::Deserialize;

/// `[trash]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TrashSection {
    /// How often it is looked at.
    pub(crate) every_seconds: u64,
    /// Days after which things are removed for good; none keeps them until somebody removes them.
    keep_days: Option<u64>,
}

impl Default for TrashSection {
    fn default() -> Self {
        Self {
            every_seconds: 5,
            keep_days: None,
        }
    }
}

impl TrashSection {
    /// The clocks of the trash.
    pub(crate) fn settings(&self) -> RetentionSettings {
        RetentionSettings {
            every: Duration::from_secs(self.every_seconds),
            keep: self
                .keep_days
                .map(|days| Duration::from_secs(days.saturating_mul(86_400))),
        }
    }
}
