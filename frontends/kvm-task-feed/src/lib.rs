//! The KVM task feed, platform side: agents on KVM hosts post reports to `/api/kvm/` and poll `/api/task/{sn}/`.
//!
//! Neither is built yet. Reports are read as far as naming them needs, so that an agent that sends nonsense and an
//! agent that comes too early get different answers.

mod decode;
mod encode;
mod error;
mod operations;

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_schemas::Dialect;

/// The dialect; it holds no state.
#[derive(Debug, Default)]
pub struct KvmTaskFeed;

impl KvmTaskFeed {
    /// The dialect, ready to be mounted.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Frontend for KvmTaskFeed {
    fn dialect(&self) -> &'static str {
        Dialect::KvmTaskFeed.name()
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
