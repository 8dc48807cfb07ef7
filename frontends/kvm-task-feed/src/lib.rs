//! The KVM task feed, platform side: agents on KVM hosts post reports to `/api/kvm/` and poll `/api/task/{sn}/`.
//!
//! ```text
//! report ─▶ whose? ─▶ which kind? ─▶ documented form ─▶ mailbox: kept, or the news of tasks
//! poll   ─▶ whose? ─▶ mailbox: what is ready, marked as handed out ─▶ {"body":[task, ...]}
//! ```
//!
//! Reports become hosts and VMs, and commands become tasks, in the backend `kvm-agent`: nothing of that is known here.

mod auth;
mod decode;
mod encode;
mod error;
mod operations;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use babelvisor_core::frontend::{Frontend, Refusal, Reply, Request, Routed};
use babelvisor_core::mailbox::Mailbox;
use babelvisor_schemas::{Contract, Dialect, contract};
use jiff::tz::TimeZone;
use serde_json::Value;

pub use settings::{Agent, Credential, Settings};

/// The address that polls go to.
const POLL: &str = "feed.task";
/// The address that reports go to.
const REPORT: &str = "feed.report";
/// The report about tasks: its entries are news, not something to keep.
const TASK_STATUS: &str = "report.host.task_status";

/// The frontend of the dialect.
pub struct KvmTaskFeed {
    mailbox: Arc<Mailbox>,
    agents: Vec<Agent>,
    zone: TimeZone,
    contract: &'static Contract,
}

impl KvmTaskFeed {
    /// The dialect for `agents`, with the site's choices.
    #[expect(
        clippy::new_ret_no_self,
        reason = "callers hold every dialect as a trait object"
    )]
    pub fn new(mailbox: Arc<Mailbox>, settings: &Settings, agents: Vec<Agent>) -> Arc<dyn Frontend> {
        let zone = settings.zone().unwrap_or_else(|reason| {
            tracing::error!("{reason}; the gateway's own zone is used");
            TimeZone::system()
        });
        Arc::new(Self {
            mailbox,
            agents,
            zone,
            contract: contract(Dialect::KvmTaskFeed),
        })
    }

    async fn poll(&self, serial: &str, request: &Request) -> Reply {
        let taken = match auth::agent(&self.agents, serial, request) {
            Ok(agent) => self.mailbox.take(&agent.serial).await,
            Err(error) => Err(error),
        };
        let content_type = &self.contract.settings().content_type;
        match taken {
            Ok(tasks) => encode::tasks(&tasks, &self.zone, POLL, content_type),
            Err(error) => error::of_core(&error, POLL, request),
        }
    }

    async fn report(&self, request: &Request) -> Reply {
        let named = match operations::name(request) {
            Ok(named) => named.and_then(|id| self.contract.operation(id)),
            Err(reason) => return error::bad_report(&reason, REPORT),
        };
        let Some(operation) = named else {
            return error::refuse(Refusal::NotBuilt { operation: REPORT }, request);
        };
        let id = operation.id.as_str();
        let frame = match decode::frame(&request.body) {
            Ok(frame) => frame,
            Err(reason) => return error::bad_report(&reason, id),
        };
        let agent = match auth::agent(&self.agents, &frame.serial, request) {
            Ok(agent) => agent,
            Err(error) => return error::of_core(&error, id, request),
        };
        let entries = match decode::entries(operation, frame.report) {
            Ok(entries) => entries,
            Err(reason) => return error::bad_report(&reason, id),
        };
        let kept = if id == TASK_STATUS {
            let news = decode::task_reports(&entries);
            self.mailbox.note(&agent.serial, &news).await.map(|_| ())
        } else {
            let body = Value::Array(entries);
            self.mailbox.keep_report(&agent.serial, &frame.kind, body).await
        };
        match kept {
            Ok(()) => encode::taken(id, &self.contract.settings().content_type),
            Err(error) => error::of_core(&error, id, request),
        }
    }
}

#[async_trait]
impl Frontend for KvmTaskFeed {
    fn dialect(&self) -> &'static str {
        Dialect::KvmTaskFeed.name()
    }

    async fn answer(&self, routed: Routed, request: Request) -> Reply {
        let reports = routed
            .operations
            .iter()
            .any(|id| *id == REPORT || id.starts_with("report."));
        if reports {
            self.report(&request).await
        } else {
            self.poll(routed.param("sn"), &request).await
        }
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Reply {
        error::refuse(refusal, request)
    }
}
