//! The ZStack 3.0 dialect: paths under `/zstack/v1`, asynchronous calls with a poll address, errors of the REST
//! layer in plain text and all others as an error object under HTTP 503.
//!
//! ```text
//! answer ─▶ operations   which one: by address, or by the key of the body
//!             ├─▶ session    login, logout; who calls
//!             ├─▶ decode     wrapper, tags, query in the documented form, judged by the contract: a call
//!             ├─▶ synchronous: the family's function ─▶ 200
//!             └─▶ asynchronous: jobs ─▶ 202 with a location; the family's function begins a job of the core
//! poll   ─▶ jobs         202, 200 with what the family tells of the job, 503 with its error
//! ```
//! Codes, texts and schemas are data of `babelvisor-schemas`. A family of operations has a table of its own.

mod call;
mod dates;
mod decode;
mod encode;
mod error;
mod find;
mod hooks;
mod jobs;
mod operations;
mod query;
mod resources;
mod schema;
mod session;
mod settings;
mod vm;

use std::sync::Arc;

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_core::inventory::FragmentCache;
use babelvisor_core::jobs::HookEncoder;
use babelvisor_core::layers::{Core, SubmitOptions};
use babelvisor_schemas::{Contract, Dialect, Operation, WARNING_HEADER, contract};
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

pub use babelvisor_schemas::Strictness;
pub use settings::Settings;

use decode::Call;
use error::Fault;
use operations::{Door, How, Read};
use session::Sessions;
use vm::Stamp;

/// The frontend of the dialect.
pub struct Zstack {
    core: Arc<Core>,
    settings: Settings,
    zone: TimeZone,
    contract: &'static Contract,
    sessions: Sessions,
    machines: FragmentCache<Stamp>,
    indexes: query::Indexes,
}

impl Zstack {
    /// The dialect on `core`, with the site's choices. A time zone that does not exist counts as UTC; the
    /// configuration check has refused it before.
    #[expect(
        clippy::new_ret_no_self,
        reason = "callers hold every dialect as a trait object"
    )]
    pub fn new(core: Arc<Core>, settings: Settings) -> Arc<dyn Frontend> {
        Arc::new(Self::made(core, settings))
    }

    /// What posts the ends of its calls to the web hooks that they name.
    pub fn hooks(core: Arc<Core>, settings: Settings) -> Arc<dyn HookEncoder> {
        Arc::new(Self::made(core, settings))
    }

    fn made(core: Arc<Core>, settings: Settings) -> Self {
        Self {
            core,
            zone: settings.zone().unwrap_or(TimeZone::UTC),
            machines: FragmentCache::new(settings.cache_bytes),
            settings,
            contract: contract(Dialect::Zstack),
            sessions: Sessions::default(),
            indexes: query::Indexes::default(),
        }
    }

    async fn call(&self, routed: Routed, request: Request) -> (Option<&'static str>, Result<Reply, Fault>) {
        let first = routed.operations.first().copied();
        let body = match decode::body(&request) {
            Ok(body) => body,
            Err(fault) => return (first, Err(fault)),
        };
        // The operations of an address are told apart by the body, which the router does not read.
        let named = match routed.operations.as_slice() {
            [only] => self.contract.operation(only),
            _ => operations::operation(&request, &body),
        };
        let Some(operation) = named else {
            return (first, Err(Fault::no_action(&request.path)));
        };
        let id = operation.id.as_str();
        let Some(row) = operations::row(id).filter(|_| operation.built) else {
            let refusal = Refusal::NotBuilt { operation: id };
            return (Some(id), Err(Fault::refusal(&refusal, &request, Some(id))));
        };
        let answer = match row.how {
            How::Door(Door::LogIn) => self.door(operation, &request, body).await,
            How::Door(Door::LogOut) => {
                let ended = self.log_out(routed.param("uuid")).await;
                ended
                    .map(|body| encode::reply(200, body))
                    .map_err(|error| Fault::of(id, &error))
            }
            How::Door(Door::Poll) => self.poll(&routed, &request).await,
            How::Sync(read) => self.read(operation, read, routed, request, body).await,
            How::Async(begin, _) => self.accept(operation, begin, routed, request, body).await,
        };
        (Some(id), answer)
    }

    async fn door(
        &self,
        operation: &'static Operation,
        request: &Request,
        body: Map<String, Value>,
    ) -> Result<Reply, Fault> {
        let content = decode::content(self.contract, operation, self.settings.strictness, request, body)?;
        let fault = |error| Fault::of(&operation.id, &error);
        if let Some(error) = content.refusal {
            return Err(fault(error));
        }
        let body = self.log_in(&content.body).await.map_err(fault)?;
        Ok(encode::reply(200, body))
    }

    /// A synchronous call.
    async fn read(
        &self,
        operation: &'static Operation,
        read: Read,
        routed: Routed,
        request: Request,
        body: Map<String, Value>,
    ) -> Result<Reply, Fault> {
        let token = session::token(&request)?;
        let content = decode::content(self.contract, operation, self.settings.strictness, &request, body)?;
        let fault = |error| Fault::of(&operation.id, &error);
        let caller = self.caller(token, &operation.id, &request).await.map_err(fault)?;
        if let Some(error) = content.refusal {
            return Err(fault(error));
        }
        let warning = content.remarks.tell().map(|text| (WARNING_HEADER, text));
        let described = jobs::wants_schema(&request);
        let call = Call::new(operation, caller, SubmitOptions::QUEUE, routed, content);
        let mut body = read(self, &call).await.map_err(fault)?;
        if described {
            body = schema::described(operation, body);
        }
        let mut reply = encode::reply(200, body);
        reply.headers.extend(warning);
        Ok(reply)
    }
}

#[async_trait]
impl Frontend for Zstack {
    fn dialect(&self) -> &'static str {
        Dialect::Zstack.name()
    }

    async fn answer(&self, routed: Routed, request: Request) -> Reply {
        let request_id = request.request_id.clone();
        let (operation, answer) = self.call(routed, request).await;
        let mut reply = answer.unwrap_or_else(|fault| {
            fault.log(operation, &request_id);
            encode::failure(&fault)
        });
        reply.operation = operation;
        reply
    }

    fn view(&self, vm: &babelvisor_core::model::Vm) -> Option<serde_json::Value> {
        serde_json::to_value(self.vm_inventory(&self.core.now(), vm)).ok()
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Reply {
        let mut operation = None;
        let fault = match &refusal {
            Refusal::NotBuilt { operation: first } => {
                // Which one of those that share the address may take a look at the body.
                operation = Some(*first);
                let body = decode::body(request).unwrap_or_default();
                match operations::operation(request, &body) {
                    Some(named) => {
                        operation = Some(&named.id);
                        Fault::refusal(&refusal, request, operation)
                    }
                    None => Fault::no_action(&request.path),
                }
            }
            Refusal::UnknownPath
            | Refusal::WrongMethod { .. }
            | Refusal::BodyTooLarge { .. }
            | Refusal::BadRequest(_)
            | Refusal::Timeout
            | Refusal::Overloaded
            | Refusal::Internal => Fault::refusal(&refusal, request, None),
        };
        let mut reply = encode::failure(&fault);
        if let Refusal::WrongMethod { allowed } = refusal {
            reply.headers.push(("allow", allowed.join(", ")));
        }
        reply.operation = operation;
        reply
    }
}
