//! `[outbound]`: which addresses that users name the gateway connects to.

use std::path::PathBuf;
use std::time::Duration;

use babelvisor_core::jobs::HookSettings;
use babelvisor_core::outbound::{AllowList, Outbound, OutboundSettings};
use serde::Deserialize;

/// `[outbound]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OutboundSection {
    webhook: WebHookSection,
    image: ImageSection,
    /// PEM file of certificate authorities that are trusted besides the system's.
    trust: Option<PathBuf>,
}

/// `webhook.…` of `[outbound]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WebHookSection {
    allow: Ranges,
    tries: u32,
    pause_ms: u64,
    timeout_ms: u64,
}

impl Default for WebHookSection {
    fn default() -> Self {
        Self {
            allow: Ranges::default(),
            tries: 15,
            pause_ms: 2_000,
            timeout_ms: 10_000,
        }
    }
}

/// `image.…` of `[outbound]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ImageSection {
    allow: Ranges,
}

/// Ranges of addresses; none allows nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
struct Ranges(AllowList);

impl TryFrom<Vec<String>> for Ranges {
    type Error = babelvisor_core::Error;

    fn try_from(ranges: Vec<String>) -> Result<Self, Self::Error> {
        AllowList::parse(&ranges).map(Self)
    }
}

impl OutboundSection {
    /// What the types cannot say.
    pub(super) fn fault(&self) -> Option<String> {
        let hooks = &self.webhook;
        let good = (1..=1000).contains(&hooks.tries)
            && (1..=3_600_000).contains(&hooks.pause_ms)
            && (1..=600_000).contains(&hooks.timeout_ms);
        let readable = |path: &PathBuf| std::fs::File::open(path).map(|_| ());
        let unread = self.trust.as_ref().map(|path| (path, readable(path)));
        match unread {
            Some((path, Err(error))) => Some(format!("outbound: trust {}: {error}", path.display())),
            _ if !good => Some(
                "outbound: webhook.tries is 1 to 1000, pause_ms 1 to 3600000, timeout_ms 1 to 600000"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// The client.
    pub(super) fn client(&self) -> Outbound {
        Outbound::new(OutboundSettings {
            webhook: self.webhook.allow.0.clone(),
            image: self.image.allow.0.clone(),
            trust: self.trust.clone(),
            answer: Duration::from_millis(self.webhook.timeout_ms),
            ..OutboundSettings::default()
        })
    }

    /// How web hooks are delivered, where a dead gateway's work is taken over after `lease`.
    pub(super) fn hooks(&self, lease: Duration) -> HookSettings {
        HookSettings {
            tries: self.webhook.tries,
            pause: Duration::from_millis(self.webhook.pause_ms),
            lease,
            ..HookSettings::default()
        }
    }
}
