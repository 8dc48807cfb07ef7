//! The names of the five dialects: the one enum that everything else is keyed by.

use std::fmt;

/// One documented legacy API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// Guest REST (JimV-C).
    GuestRest,
    /// `/v1/compute` (TopHC).
    V1Compute,
    /// ZStack 3.0, volume cloud resource pool.
    Zstack,
    /// pve-open (finovy open-api).
    PveOpen,
    /// The KVM task feed (webkvmmgr).
    KvmTaskFeed,
}

impl Dialect {
    /// All dialects, in the order in which reports list them.
    pub const ALL: [Dialect; 5] = [
        Dialect::GuestRest,
        Dialect::V1Compute,
        Dialect::Zstack,
        Dialect::PveOpen,
        Dialect::KvmTaskFeed,
    ];

    /// The name used in configuration, reports and folders, for example `guest-rest`.
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::GuestRest => "guest-rest",
            Dialect::V1Compute => "v1-compute",
            Dialect::Zstack => "zstack",
            Dialect::PveOpen => "pve-open",
            Dialect::KvmTaskFeed => "kvm-task-feed",
        }
    }

    /// The dialect of that name, or `None`. Names are exact.
    pub fn from_name(name: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.name() == name)
    }

    /// The place of this dialect in [`Dialect::ALL`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Dialect::GuestRest => 0,
            Dialect::V1Compute => 1,
            Dialect::Zstack => 2,
            Dialect::PveOpen => 3,
            Dialect::KvmTaskFeed => 4,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
