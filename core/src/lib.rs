//! Babelvisor's core: the canonical model that five legacy dialects are translated into and that every
//! backend is driven from.
//!
//! It serves no HTTP and knows no hypervisor and no dialect. A frontend hands it commands and queries
//! ([`Core`](crate::layers::Core)); a backend implements [`backend::Backend`]. How one request flows:
//!
//! ```text
//! frontend ──▶ layers: authorise ▶ resolve ▶ legal now? ▶ can the backend? ▶ audit
//!                │ query                               │ change
//!                ▼                                     ▼
//!           inventory + registry                 job: stored, then run in journalled steps on the backend
//! ```

pub mod backend;
pub mod capability;
pub mod command;
pub mod error;
pub mod frontend;
pub mod inventory;
pub mod jobs;
pub mod layers;
pub mod mailbox;
pub mod model;
pub mod outbound;
pub mod query;
pub mod registry;
pub mod secret;
pub mod state;
pub mod store;

pub use error::{Error, ErrorKind, Result};
