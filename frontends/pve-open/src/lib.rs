//! The pve-open dialect: the open API of a desktop rental service, whose clients rent, switch and delete
//! machines with ten-letter ids and read a code from every answer.
//!
//! ```text
//! request ─▶ token? (auth) ─▶ may change? ─▶ valid? (decode) ─▶ call (create · power · reads) ─▶ envelope (encode)
//!                 401             1001            1007          codes of the dialect (error, state)
//! ```
//! What each code means in which state is one table in `state.rs`; its texts, the routes and the schemas are
//! the contract's, in the schemas crate.

mod auth;
mod create;
mod decode;
mod encode;
mod error;
mod machine;
mod operations;
mod power;
mod reads;
mod settings;
mod state;

use std::sync::Arc;

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_core::inventory::FragmentCache;
use babelvisor_core::layers::Core;
use babelvisor_schemas::{Contract, Dialect, WARNING_HEADER, contract};

use crate::auth::Tokens;
use crate::error::Fault;
use crate::machine::Stamp;
pub use babelvisor_schemas::Strictness;

pub use crate::settings::{CreateAnswers, PowerOff, Settings, Switch};

/// The frontend of the pve-open dialect.
pub struct PveOpen {
    core: Arc<Core>,
    settings: Settings,
    contract: &'static Contract,
    tokens: Tokens,
    machines: FragmentCache<Stamp>,
}

impl PveOpen {
    /// The dialect on `core`, with the site's choices.
    // The server and the tests want the trait object; nothing else of this type is public.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(core: Arc<Core>, settings: Settings) -> Arc<dyn Frontend> {
        Arc::new(Self {
            core,
            machines: FragmentCache::new(settings.cache_bytes),
            settings,
            contract: contract(Dialect::PveOpen),
            tokens: Tokens::default(),
        })
    }
}

#[async_trait]
impl Frontend for PveOpen {
    fn dialect(&self) -> &'static str {
        Dialect::PveOpen.name()
    }

    async fn answer(&self, routed: Routed, request: Request) -> Reply {
        let operation = routed.operations.first().copied();
        let mut reply = match self.call(operation, &routed, &request).await {
            Ok((data, remarks)) => {
                let mut reply = encode::good(self.contract, &data, &request.request_id);
                let warning = remarks.tell().map(|text| (WARNING_HEADER, text));
                reply.headers.extend(warning);
                reply
            }
            Err(fault) => {
                fault.log(operation, &request.request_id);
                encode::bad(self.contract, &fault, &request.request_id)
            }
        };
        reply.operation = operation;
        reply
    }

    fn view(&self, vm: &babelvisor_core::model::Vm) -> Option<serde_json::Value> {
        let now = babelvisor_core::model::Timestamp::now();
        let machine = self.machine(&self.core.now(), vm, now).ok()?;
        serde_json::from_slice(&machine).ok()
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Reply {
        let fault = Fault::refusal(&refusal);
        let mut reply = encode::bad(self.contract, &fault, &request.request_id);
        match refusal {
            Refusal::WrongMethod { allowed } => reply.headers.push(("allow", allowed.join(", "))),
            Refusal::NotBuilt { operation } => reply.operation = Some(operation),
            Refusal::UnknownPath
            | Refusal::BodyTooLarge { .. }
            | Refusal::BadRequest(_)
            | Refusal::Timeout
            | Refusal::Overloaded
            | Refusal::Internal => {}
        }
        reply
    }
}
