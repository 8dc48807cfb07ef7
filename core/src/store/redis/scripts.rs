//! The Lua scripts: whatever must happen together happens inside one of them.

use redis::Script;

/// All scripts, compiled into the binary; Redis keeps them by their hash.
pub(super) struct Scripts {
    pub(super) commit: Script,
    pub(super) submit: Script,
    pub(super) claim: Script,
    pub(super) renew: Script,
    pub(super) journal: Script,
    pub(super) progress: Script,
    pub(super) finish: Script,
    pub(super) cancel: Script,
    pub(super) end_queued: Script,
    pub(super) purge: Script,
    pub(super) tidy: Script,
    pub(super) lease: Script,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("lua/common.lua"),
            include_str!(concat!("lua/", $name, ".lua"))
        ))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            commit: script!("commit"),
            submit: script!("submit"),
            claim: script!("claim"),
            renew: script!("renew"),
            journal: script!("journal"),
            progress: script!("progress"),
            finish: script!("finish"),
            cancel: script!("cancel"),
            end_queued: script!("end_queued"),
            purge: script!("purge"),
            tidy: script!("tidy"),
            lease: script!("lease"),
        }
    }
}
