//! The ZStack 3.0 dialect: paths under `/zstack/v1`, asynchronous calls with a poll address, errors of the REST
//! layer in plain text and all others as an error object under HTTP 503.
//!
//! None of its operations is built yet. Each is known by name and refused as not implemented, which a client can
//! tell from a path that does not exist, from a wrong method, and from a body that names no action.

mod decode;
mod encode;
mod error;
mod operations;

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_schemas::Dialect;

/// The dialect; it holds no state.
#[derive(Debug, Default)]
pub struct Zstack;

impl Zstack {
    /// The dialect, ready to be mounted.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Frontend for Zstack {
    fn dialect(&self) -> &'static str {
        Dialect::Zstack.name()
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
