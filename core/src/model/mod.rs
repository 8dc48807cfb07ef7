//! The canonical nouns, a file each. Units everywhere inside: bytes, vCPUs, UTC. What a dialect calls a
//! thing, or in which unit it prints it, is decided at the dialect's edge only.

mod account;
mod flavor;
mod host;
mod id;
mod image;
mod job;
mod nic;
mod spec;
mod vm;
mod volume;

pub use account::*;
pub use flavor::*;
pub use host::*;
pub use id::*;
pub use image::*;
pub use job::*;
pub use nic::*;
pub use spec::*;
pub use vm::*;
pub use volume::*;

/// A point in time, UTC.
pub type Timestamp = jiff::Timestamp;
