//! A complete simulated hypervisor: the reference implementation of [`Backend`] and the partner that the
//! gateway is tested against. It keeps hosts, pools, volumes and guests in memory, obeys the same rules as a
//! real hypervisor (a guest needs time to boot, may ignore the power button, is changed by other people),
//! and can be told to be slow, to fail and to vanish.
//!
//! ```text
//!  gateway ──Backend──▶ MemoryBackend ──▶ quirks: log, delay, fault ──▶ World (hosts, pools, guests)
//!                            ▲ watch                                        │ every change
//!  tests ───Control──────────┼──────── from outside ────────────────────────┤
//!                            ╰───────────── events ◀────────────────────────┴──▶ state file (optional)
//! ```
//!
//! With a `state_file` the simulated hypervisor outlives the process, as a real one would: a gateway that
//! was killed finds its guests and volumes again.
//!
//! [`Backend`]: babelvisor_core::backend::Backend

mod backend;
mod capability;
mod change;
mod config;
mod control;
mod convert;
mod error;
mod guests;
mod hosts;
mod moves;
mod power;
mod quirks;
mod restore;
mod snapshots;
mod state_file;
mod tasks;
mod volumes;
mod watch;
mod world;

pub use backend::MemoryBackend;
pub use capability::{Method, Target};
pub use config::{Delay, Fault, HostsConfig, ImageConfig, MemoryConfig, PoolConfig, When};
pub use control::{Control, ForeignVm};
pub use quirks::CallRecord;
pub use state_file::{StoredState, read_state};

/// What the backend declares when nothing is taken away: for reports that are made without a hypervisor.
pub fn declared() -> babelvisor_core::capability::CapabilitySet {
    capability::declared(&std::collections::BTreeMap::new())
}
