//! What operators see: health, metrics, VMs, jobs, coverage, version.

use std::sync::Arc;

use async_trait::async_trait;
use babelvisor_core::frontend::Frontend;
use babelvisor_core::layers::Core;
use babelvisor_core::model::{Job, JobId, Vm, VmId};
use babelvisor_core::store::JobFilter;
use babelvisor_server::{AdminSource, Readiness};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};

use crate::config::StoreKind;
use crate::{coverage, serve};

/// How many jobs `/_gw/jobs` shows.
const JOBS: usize = 500;

/// The admin listener's source.
pub(crate) struct Desk {
    core: Arc<Core>,
    metrics: PrometheusHandle,
    readiness: Readiness,
    store: StoreKind,
    dialects: Vec<Arc<dyn Frontend>>,
}

impl Desk {
    /// A desk on these parts.
    pub(crate) fn new(
        core: Arc<Core>,
        metrics: PrometheusHandle,
        readiness: Readiness,
        store: StoreKind,
        dialects: Vec<Arc<dyn Frontend>>,
    ) -> Self {
        Self {
            core,
            metrics,
            readiness,
            store,
            dialects,
        }
    }
}

impl Desk {
    /// The VM as each mounted dialect shows it to its owner, secrets hidden.
    fn views(&self, vm: &Vm) -> Value {
        let views = self.dialects.iter().filter_map(|dialect| {
            let view = dialect.view(vm)?;
            Some((dialect.dialect().to_owned(), hidden(view)))
        });
        Value::Object(views.collect())
    }

    /// What each backend can do now, through its connection.
    fn backends(&self) -> Value {
        let backends = self.core.backends().iter().map(|(id, backend)| {
            let capabilities = backend.capabilities();
            let verdicts = capabilities.iter().map(|(capability, support)| {
                let verdict = json!({ "support": support.word(), "reason": support.reason() });
                (capability.as_ref().to_owned(), verdict)
            });
            let verdicts: serde_json::Map<String, Value> = verdicts.collect();
            (
                id.to_string(),
                json!({ "kind": backend.kind(), "capabilities": verdicts }),
            )
        });
        Value::Object(backends.collect())
    }
}

#[async_trait]
impl AdminSource for Desk {
    async fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if self.readiness.is_draining() {
            reasons.push("the gateway is going down".to_owned());
        }
        if let Err(error) = self.core.registry().store().health().await {
            reasons.push(format!("store: {error}"));
        }
        let now = self.core.now();
        // One backend down degrades only its own machines; all down is not ready.
        if !self.core.backends().keys().any(|id| now.backend_up(id)) {
            for id in self.core.backends().keys() {
                let why = now
                    .backends
                    .get(id)
                    .and_then(|state| state.error.as_ref())
                    .map(ToString::to_string);
                reasons.push(format!(
                    "backend {id}: {}",
                    why.unwrap_or_else(|| "not connected yet".to_owned())
                ));
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    async fn metrics(&self) -> String {
        let now = self.core.now();
        for (id, backend) in self.core.backends() {
            let up = if now.backend_up(id) { 1.0 } else { 0.0 };
            metrics::gauge!("gateway_backend_up", "backend" => id.to_string(), "kind" => backend.kind())
                .set(up);
        }
        #[allow(clippy::cast_precision_loss, reason = "counts of this size are exact")]
        {
            metrics::gauge!("gateway_vms").set(now.vms.len() as f64);
            metrics::gauge!("gateway_jobs_running").set(self.core.engine().running_count() as f64);
        }
        metrics::gauge!("gateway_build_info", "version" => serve::VERSION).set(1.0);
        self.metrics.render()
    }

    async fn coverage(&self) -> Value {
        let mut report = coverage::json();
        if let Some(report) = report.as_object_mut() {
            report.insert("backends".to_owned(), self.backends());
        }
        report
    }

    async fn vms(&self) -> Result<Value, String> {
        let now = self.core.now();
        Ok(json!({ "vms": now.vms.values().map(|vm| vm_view(vm)).collect::<Vec<_>>() }))
    }

    async fn vm(&self, id: &str) -> Result<Option<Value>, String> {
        let Ok(id) = id.parse::<VmId>() else {
            return Ok(None);
        };
        let now = self.core.now();
        Ok(now.vms.get(&id).map(|vm| {
            let mut view = vm_view(vm);
            if let (Some(view), Some(facts)) = (view.as_object_mut(), &vm.facts) {
                view.insert("facts".to_owned(), json!(&**facts));
                view.insert("host_name".to_owned(), json!(now.host_name(vm)));
            }
            if let Some(view) = view.as_object_mut() {
                view.insert("dialects".to_owned(), self.views(vm));
            }
            view
        }))
    }

    async fn jobs(&self) -> Result<Value, String> {
        let filter = JobFilter {
            unfinished: false,
            limit: JOBS,
        };
        let jobs = self
            .core
            .registry()
            .store()
            .jobs(&filter)
            .await
            .map_err(|error| error.to_string())?;
        Ok(json!({ "jobs": jobs.iter().map(job_view).collect::<Vec<_>>() }))
    }

    async fn job(&self, id: &str) -> Result<Option<Value>, String> {
        let Ok(id) = id.parse::<JobId>() else {
            return Ok(None);
        };
        let job = self
            .core
            .registry()
            .store()
            .job(id)
            .await
            .map_err(|error| error.to_string())?;
        Ok(job.as_ref().map(job_view))
    }

    async fn version(&self) -> Value {
        let store = match self.store {
            StoreKind::Embedded => "embedded",
            StoreKind::Redis => "redis",
        };
        json!({ "name": "babelvisor", "version": serve::VERSION, "store": store })
    }
}

/// Parts of names that mark a secret, in small letters: some dialects show passwords to the owner.
const SECRETS: [&str; 5] = ["password", "passwd", "hostpw", "secret", "token"];

/// A value with its secrets hidden.
fn hidden(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, member)| {
                    let small = name.to_lowercase();
                    let secret = SECRETS.iter().any(|part| small.contains(part));
                    let shown = match member {
                        Value::String(text) if secret && !text.is_empty() => {
                            Value::String("hidden".to_owned())
                        }
                        other => hidden(other),
                    };
                    (name, shown)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(hidden).collect()),
        other => other,
    }
}

/// A VM for operators: ids, names, state. No secrets, sealed or not.
fn vm_view(vm: &Vm) -> Value {
    let record = &vm.record;
    json!({
        "id": vm.id,
        "name": vm.name(),
        "number": record.number,
        "short_id": record.short_id,
        "backend": record.backend,
        "tenant": record.tenant,
        "origin": record.origin,
        "power": vm.power(),
        "activity": vm.activity,
        "reachable": vm.reachable,
        "fault": record.fault,
        "vcpus": vm.vcpus(),
        "memory": vm.memory(),
        "first_seen": record.first_seen,
        "changed": vm.changed,
        "revision": vm.revision,
    })
}

/// A job for operators, without the command's sealed secrets.
fn job_view(job: &Job) -> Value {
    json!({
        "id": job.id,
        "command": job.command.name(),
        "vm": job.command.vm(),
        "backend": job.backend,
        "tenant": job.tenant,
        "dialect": job.dialect,
        "operation": job.operation,
        "state": job.state,
        "progress": job.progress,
        "epoch": job.epoch,
        "submitted": job.submitted,
        "started": job.started,
        "ended": job.ended,
        "deadline": job.deadline,
        "error": job.error,
        "left_behind": job.left_behind,
    })
}
