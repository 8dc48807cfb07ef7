//! What libvirt's callbacks and records become: owned values, still in libvirt's terms.

use std::sync::Arc;

use uuid::Uuid;

/// What happened to one domain, in libvirt's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainChange {
    /// The power state or the definition changed; the numbers are `virDomainEventType` and its detail.
    Lifecycle {
        /// `virDomainEventType`: 0 defined, 1 undefined, 2 started, 3 suspended, 4 resumed, 5 stopped …
        event: i32,
        /// The detail that belongs to `event`.
        detail: i32,
    },
    /// The guest rebooted itself or was rebooted.
    Rebooted,
    /// A device is gone from the running guest.
    DeviceRemoved {
        /// libvirt's device alias.
        alias: String,
    },
    /// The guest refused to give a device away.
    DeviceRemovalFailed {
        /// libvirt's device alias.
        alias: String,
    },
    /// A device was added to the running guest.
    DeviceAdded {
        /// libvirt's device alias.
        alias: String,
    },
    /// The guest agent appeared or vanished.
    Agent {
        /// Whether it is connected now.
        connected: bool,
    },
    /// The balloon reached a new size.
    Balloon {
        /// Present memory of the guest in bytes.
        bytes: u64,
    },
    /// A long job of the hypervisor (save, migration, dump) ended.
    JobCompleted,
    /// Title, description or a metadata element changed.
    Metadata {
        /// The namespace of the element; `None` for title and description.
        namespace: Option<String>,
    },
    /// A removable medium's tray was opened or closed.
    Tray {
        /// libvirt's device alias.
        alias: String,
        /// Whether it is open now.
        open: bool,
    },
    /// The guest suspended itself to memory or disk.
    SuspendedByGuest,
    /// The guest woke up.
    WokenUp,
    /// A block job (commit, pull, copy) changed its status.
    BlockJob {
        /// Target device or source path.
        disk: String,
        /// `virConnectDomainEventBlockJobStatus`: 0 completed, 1 failed, 2 cancelled, 3 ready.
        status: i32,
    },
}

/// Why libvirt closed a connection (`virConnectCloseReason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// An error on the wire.
    Error,
    /// The daemon ended or hung up.
    Eof,
    /// The daemon did not answer keep-alive probes.
    KeepAlive,
    /// We closed it ourselves.
    Client,
    /// A reason of a newer libvirt.
    Other,
}

/// One event of a host, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawEvent {
    /// Something happened to a domain.
    Domain {
        /// The domain's UUID.
        uuid: Uuid,
        /// The domain's name at the time of the event.
        name: String,
        /// What happened.
        change: DomainChange,
    },
    /// A storage pool was defined, removed, started or stopped.
    Pool {
        /// The pool's name.
        name: String,
    },
    /// A network was defined, removed, started or stopped.
    Network {
        /// The network's name.
        name: String,
    },
    /// The connection is dead.
    Closed(CloseReason),
}

/// Where events go. It runs on the event loop's thread: it must not block and must not call libvirt.
pub type EventSink = Arc<dyn Fn(RawEvent) + Send + Sync>;

/// One value of a statistics record.
#[derive(Debug, Clone, PartialEq)]
pub enum StatValue {
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Unsigned(u64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
}

/// The statistics of one domain, by libvirt's field names (`state.state`, `balloon.current` …).
#[derive(Debug, Clone, PartialEq)]
pub struct DomainStats {
    /// The domain's UUID.
    pub uuid: Uuid,
    /// The values that the driver gave.
    pub values: Vec<(String, StatValue)>,
}

impl DomainStats {
    /// A value as an unsigned number, whatever integer type libvirt gave it.
    pub fn unsigned(&self, name: &str) -> Option<u64> {
        self.values
            .iter()
            .find(|(n, _)| n == name)
            .and_then(|(_, value)| match value {
                StatValue::Unsigned(v) => Some(*v),
                StatValue::Int(v) => u64::try_from(*v).ok(),
                StatValue::Bool(v) => Some(u64::from(*v)),
                StatValue::Float(_) | StatValue::Text(_) => None,
            })
    }
}

/// Where addresses of a guest are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressSource {
    /// DHCP leases of libvirt's own networks.
    Lease,
    /// The guest agent.
    Agent,
}

/// One interface of a guest as libvirt sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestInterface {
    /// Name on the host (leases) or in the guest (agent).
    pub name: String,
    /// MAC address, when known.
    pub mac: Option<String>,
    /// Addresses with their prefix length.
    pub addresses: Vec<(String, u32)>,
}

/// An address that a network's DHCP server has given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose, in lower case.
    pub mac: String,
    /// The address.
    pub address: String,
    /// Bits of the network part.
    pub prefix: u32,
}

/// How far a long job of a domain has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobProgress {
    /// Whether there is one.
    pub running: bool,
    /// Bytes to move; 0 while that is not known. Grows while a guest writes.
    pub total: u64,
    /// Bytes that are left.
    pub remaining: u64,
}

impl JobProgress {
    /// Percent done; never 100, which only the end is.
    pub fn percent(self) -> u8 {
        let done = self.total.saturating_sub(self.remaining);
        let percent = done.saturating_mul(100).checked_div(self.total).unwrap_or(0);
        u8::try_from(percent.min(99)).unwrap_or(99)
    }
}

#[cfg(test)]
mod tests {
    use super::JobProgress;

    #[test]
    fn only_the_end_is_a_hundred() {
        let of = |total, remaining| {
            let progress = JobProgress {
                running: true,
                total,
                remaining,
            };
            progress.percent()
        };
        assert_eq!((of(0, 0), of(200, 200), of(200, 50), of(200, 0)), (0, 0, 75, 99));
    }
}
