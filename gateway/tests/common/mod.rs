//! What the tests of the real binary share: set-ups of backends, calls in both dialects, evidence.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

pub mod calls;
pub mod crash;
pub mod evidence;
pub mod ledger;
pub mod setup;
pub mod witness;

use std::path::PathBuf;

use babelvisor_conformance::testbed::Gateway;
use babelvisor_conformance::testbed::gateway::GatewayBuilder;

/// The binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_babelvisor"))
}

/// A gateway to be configured.
pub fn gateway() -> GatewayBuilder {
    Gateway::builder(binary())
}
