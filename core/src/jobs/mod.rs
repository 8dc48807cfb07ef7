//! Jobs: how an accepted command becomes work that survives the gateway.
//!
//! ```text
//!            submit (one atomic store call)
//! command ──────────────▶ queued ──claim──▶ running ──▶ step ▶ step ▶ step ──finish──▶ succeeded
//!                                   ▲            │
//!                                   │ lease out  │ error or cancel
//!                                   ╰── another  ╰──▶ undo ◀ undo ◀ undo ──finish──▶ failed | cancelled
//!                                       gateway
//! ```
//!
//! A step is journalled before and after its backend call. A gateway that takes a job over reads the journal:
//! finished steps are not repeated, the one that was cut off is made again (backend calls are idempotent per
//! job), and a job that was being undone goes on being undone.

mod aftermath;
mod context;
mod ending;
mod engine;
mod hooks;
pub mod killpoint;
mod progress;
mod run;
mod undo;

pub use context::JobContext;
pub(crate) use engine::job_id_taken;
pub use engine::{Engine, EngineSettings};
pub(crate) use hooks::delivery_of_call;
#[cfg(test)]
pub(crate) use hooks::delivery_of_job;
pub use hooks::{HookEncoder, HookMessage, HookSettings, deliver};
pub(crate) use run::seed_volume;
