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

/// Accounts of dialects with sign-in: name, secret, what `account add` is told besides. An administrator, a member and a
/// viewer of one tenant, and a member of another.
pub const ACCOUNTS: [(&str, &str, &[&str]); 4] = [
    (
        "keeper",
        "Kelp-forest-4",
        &["--tenant", "default", "--role", "admin"],
    ),
    ("member", "Tide-pool-5", &["--tenant", "default"]),
    (
        "watcher",
        "Sand-dune-6",
        &["--tenant", "default", "--role", "viewer"],
    ),
    ("stranger", "Salt-marsh-8", &["--tenant", "elsewhere"]),
];

/// A gateway to be configured.
pub fn gateway() -> GatewayBuilder {
    Gateway::builder(binary())
}
