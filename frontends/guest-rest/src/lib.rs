//! The Guest REST dialect: `docs/guest.md` of JimV-C, the ten operations of its document and the companions
//! that its clients call besides (delete, force reboot, search).
//!
//! ```text
//! answer ─▶ auth ─▶ decode (contract's schemas, then what they cannot say)
//!             ├─▶ read    one guest, list, search: from the inventory, through the cache of encoded guests
//!             ├─▶ create  template? room? names? then one job a guest
//!             └─▶ change  remark at once; power and deletion as jobs, accepted blindly
//!                    └─▶ encode, or error: a row of the contract's table
//! ```
//!
//! Codes, texts and bounds are data of `babelvisor-schemas`; nothing here repeats them.

mod auth;
mod cache;
mod change;
mod create;
mod decode;
mod encode;
mod error;
mod filter;
mod names;
mod operations;
mod paging;
mod read;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use babelvisor_core::ErrorKind;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_core::layers::Core;
use babelvisor_core::model::{Caller, Role};
use babelvisor_schemas::{Contract, Dialect, TransportFault, WARNING_HEADER, contract};

pub use babelvisor_schemas::Strictness;
pub use settings::{Credential, NameConflict, Settings};

use cache::Cache;
use encode::Encoder;
use error::{Fault, Outcome};
use names::Names;
use operations::Action;

/// The frontend of the dialect.
pub struct GuestRest {
    core: Arc<Core>,
    settings: Settings,
    contract: &'static Contract,
    encoder: Encoder,
    names: Names,
}

impl GuestRest {
    /// The dialect on `core`, with the site's choices.
    #[expect(
        clippy::new_ret_no_self,
        reason = "callers hold every dialect as a trait object"
    )]
    pub fn new(core: Arc<Core>, settings: Settings) -> Arc<dyn Frontend> {
        let contract = contract(Dialect::GuestRest);
        let cache = Cache::new(
            usize::try_from(settings.cache_mib)
                .unwrap_or(usize::MAX)
                .saturating_mul(1 << 20),
        );
        let shows_secrets = match settings.role {
            Role::Admin | Role::User => true,
            Role::Viewer => false,
        };
        let encoder = Encoder::new(
            core.clone(),
            contract,
            settings.manage_network.clone(),
            shows_secrets,
            cache,
        );
        Arc::new(Self {
            core,
            settings,
            contract,
            encoder,
            names: Names::default(),
        })
    }

    async fn act(&self, routed: &Routed, request: &Request) -> Outcome {
        let id = routed.operations.first().copied().unwrap_or_default();
        let known = self.contract.operation(id).zip(Action::of(id));
        let Some((operation, action)) = known else {
            return Err(Fault::transport(
                TransportFault::NotBuilt,
                format!("operation {id} is not built"),
            ));
        };
        auth::check(&self.settings, request)?;
        let caller: Caller = auth::caller(&self.settings, id, request);
        let mut remarks = decode::remarks(self.contract, operation, request, self.settings.strictness);
        if let Some(violation) = remarks.refusal() {
            return Err(Fault::violation(&violation));
        }
        let mut reply = match action {
            Action::Create => self.create(operation, &caller, request, &mut remarks).await,
            Action::Get => self.get(operation, &caller, routed).await,
            Action::List => self.list(operation, &caller, request),
            Action::Search => self.search(operation, &caller, request),
            Action::Update => self.update(operation, &caller, routed, request).await,
            Action::Delete => self.delete(operation, &caller, routed).await,
            Action::Power(power) => self.power(operation, &caller, routed, power).await,
        }?;
        reply
            .headers
            .extend(remarks.tell().map(|text| (WARNING_HEADER, text)));
        Ok(reply)
    }
}

#[async_trait]
impl Frontend for GuestRest {
    fn dialect(&self) -> &'static str {
        Dialect::GuestRest.name()
    }

    async fn answer(&self, routed: Routed, request: Request) -> Reply {
        let mut reply = match self.act(&routed, &request).await {
            Ok(reply) => reply,
            Err(fault) => {
                fault.log(&request.request_id);
                fault.reply()
            }
        };
        reply.operation = routed.operations.first().copied();
        reply
    }

    fn view(&self, vm: &babelvisor_core::model::Vm) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.encoder.guest(&self.core.now(), vm)).ok()
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Reply {
        let mut operation = None;
        let mut allow = None;
        let fault = match refusal {
            Refusal::UnknownPath => Fault::transport(
                TransportFault::UnknownPath,
                format!("no operation has the path {}", request.path),
            ),
            Refusal::WrongMethod { allowed } => {
                let allowed = allowed.join(", ");
                let detail = format!("{} is not a method of this path, {allowed} is", request.method);
                allow = Some(allowed);
                Fault::transport(TransportFault::WrongMethod, detail)
            }
            Refusal::NotBuilt { operation: id } => {
                operation = Some(id);
                Fault::transport(
                    TransportFault::NotBuilt,
                    format!("operation {id} is not built yet"),
                )
            }
            Refusal::BodyTooLarge { limit } => Fault::transport(
                TransportFault::BodyTooLarge,
                format!("the body has more than {limit} bytes"),
            ),
            Refusal::BadRequest(why) => Fault::transport(TransportFault::MalformedBody, why),
            Refusal::Timeout => Fault::of_kind(ErrorKind::Timeout, "it took too long"),
            Refusal::Overloaded => Fault::transport(
                TransportFault::Overloaded,
                "too many requests are under way, try again",
            ),
            Refusal::Internal => Fault::of_kind(ErrorKind::Internal, "a fault of the gateway"),
        };
        let mut reply = fault.reply();
        reply.operation = operation;
        reply.headers.extend(allow.map(|methods| ("allow", methods)));
        reply
    }
}
