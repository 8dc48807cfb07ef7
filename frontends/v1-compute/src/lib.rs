//! The `/v1/compute` dialect: HTTP 200 for success and failure alike, and an envelope that tells them apart. Its
//! clients are a builder of machine images, in Go, and a desktop client.
//!
//! ```text
//! request ─▶ token or key? (auth) ─▶ fields? (strictness) ─▶ valid? (decode) ─▶ call ─▶ envelope (encode)
//!                  10002                 10001                   10001           codes of the table (error)
//! ```
//! An operation's id leads to its function through the tables that `operations.rs` puts together; routes, schemas,
//! codes and texts are the contract's, in the schemas crate.

mod auth;
mod call;
mod cloud;
mod console;
mod decode;
mod encode;
mod error;
mod groups;
mod images;
mod life;
mod log;
mod lookups;
mod meta;
mod network;
mod operations;
mod people;
mod picture;
mod place;
mod settings;
mod storage;
mod trash;

use std::sync::Arc;

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_core::layers::Core;
use babelvisor_schemas::{Contract, Dialect, WARNING_HEADER, contract};

use crate::auth::Visitors;
use crate::error::Fault;
pub use babelvisor_schemas::Strictness;

pub use crate::settings::{Repository, Settings, Switch};

/// The frontend of the dialect.
pub struct V1Compute {
    core: Arc<Core>,
    settings: Settings,
    contract: &'static Contract,
    visitors: Visitors,
    life: life::Life,
}

impl V1Compute {
    /// The dialect on `core`, with the site's choices.
    // The server and the tests want the trait object; nothing else of this type is public.
    #[allow(clippy::new_ret_no_self)]
    pub fn new(core: Arc<Core>, settings: Settings) -> Arc<dyn Frontend> {
        Arc::new(Self {
            life: life::Life::new(&settings),
            core,
            settings,
            contract: contract(Dialect::V1Compute),
            visitors: Visitors::default(),
        })
    }
}

#[async_trait]
impl Frontend for V1Compute {
    fn dialect(&self) -> &'static str {
        Dialect::V1Compute.name()
    }

    async fn answer(&self, routed: Routed, request: Request) -> Reply {
        let operation = routed.operations.first().copied();
        let mut reply = match self.call(operation, &request).await {
            Ok((data, remarks)) => {
                let mut reply = encode::good(self.contract, &data);
                let warning = remarks.tell().map(|text| (WARNING_HEADER, text));
                reply.headers.extend(warning);
                reply
            }
            Err(fault) => {
                fault.log(operation, &request.request_id);
                encode::bad(self.contract, &fault, operation.unwrap_or_default())
            }
        };
        reply.operation = operation;
        reply
    }

    fn view(&self, vm: &babelvisor_core::model::Vm) -> Option<serde_json::Value> {
        self.shown(vm)
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Reply {
        let fault = Fault::refusal(&refusal, &request.method, &request.path, &request.request_id);
        let mut reply = encode::bad(self.contract, &fault, "");
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
