//! The backend kit: a verdict on any [`Backend`], for its author and for whoever has to trust it.
//!
//! ```text
//! capabilities() ─▶ registered checks ─▶ each on a bench of its own ─▶ what it made is removed ─▶ Report
//!   + KitConfig       (needs, wants)        calls, names, watchers        also when it failed      text, JSON
//! ```
//!
//! Checks are registered from what the backend declares: what it declares must work as the trait says, what it does
//! not declare must be refused without an effect. The kit knows nothing of any hypervisor; what the capabilities
//! cannot say (an image to copy, whether guests hear the power button) stands in [`KitConfig`].
//!
//! [`run`] is the whole as one call; [`cli`] is what the command line does; with the feature `harness`,
//! `harness::main` makes each check a named test under `cargo test`.

mod bench;
mod checks;
mod cli;
mod config;
mod equipment;
#[cfg(feature = "harness")]
pub mod harness;
mod report;
mod run;
mod verdict;
mod watcher;

pub use cli::{Format, cli};
pub use config::{Bounds, GuestHabit, KitConfig, KitImage};
pub use report::{CapabilityReport, CheckReport, Outcome, Report};
pub use run::run;

#[cfg(doc)]
use babelvisor_core::backend::Backend;
