//! The `/v1/compute` dialect: HTTP 200 for success and failure alike, and an envelope that tells them apart.
//!
//! None of its operations is built yet. Each is known by name and refused with a code of its own in the envelope.

mod encode;
mod error;

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_schemas::Dialect;

/// The dialect; it holds no state.
#[derive(Debug, Default)]
pub struct V1Compute;

impl V1Compute {
    /// The dialect, ready to be mounted.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Frontend for V1Compute {
    fn dialect(&self) -> &'static str {
        Dialect::V1Compute.name()
    }

    async fn answer(&self, routed: Routed, request: Request) -> Reply {
        // Reached only if the contract calls an operation built that has no code here.
        let refusal = match routed.operations.first() {
            Some(operation) => Refusal::NotBuilt { operation },
            None => Refusal::UnknownPath,
        };
        error::refuse(refusal, &request)
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Reply {
        error::refuse(refusal, request)
    }
}
