//! KVM hosts that cannot be called: an agent on each posts what is there and fetches what is to be done, through the
//! task feed. One backend is one host.
//!
//! ```text
//! gateway ──Backend──▶ tasks: put into the mailbox, wait for the end ──▶ mailbox ──poll──▶ agent
//!    ▲                                                                      │
//!    ╰── watch, get, list ◀── convert: reports, and what ended since ◀──────╯◀──reports── agent
//! ```
//!
//! What a method shows is the newest report, corrected by the tasks that ended after it was collected: so a machine
//! that was just started is running here before the agent says so, on every gateway and after a restart.

mod backend;
mod capability;
mod config;
mod convert;
mod error;
mod quirks;
mod tasks;
mod watch;

pub use backend::KvmAgentBackend;
pub use capability::declared;
pub use config::{Credential, KvmAgentConfig};
