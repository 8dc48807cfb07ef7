//! What a client learns of its job, however often it asks: the same request is the same job, and its end is told.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

mod support;

#[path = "support/receiver.rs"]
mod receiver;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use babelvisor_core::jobs::{HookEncoder, HookMessage, HookSettings, deliver};
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::{Caller, Hook, JobId, JobState, Polled};
use babelvisor_core::outbound::{AllowList, Outbound, OutboundSettings};
use babelvisor_core::{ErrorKind, Result};
use babelvisor_memory::{Delay, Method};
use receiver::Receiver;
use serde_json::json;
use support::{Gateway, Site, admin};

const SOON: Duration = Duration::from_secs(10);

/// A site whose users may name hooks on this machine.
fn site() -> Site {
    let mut site = Site::new();
    site.outbound = Outbound::new(OutboundSettings {
        webhook: AllowList::parse(&["127.0.0.1"]).unwrap(),
        ..OutboundSettings::default()
    });
    site
}

fn named(gateway: &Gateway, caller: &Caller, id: JobId, name: &str) -> SubmitOptions {
    SubmitOptions {
        job: Some(id),
        digest: Some(gateway.core.digest(caller, "create", &json!({ "name": name }))),
        note: Some(json!({"envelope": "inventory"})),
        ..SubmitOptions::QUEUE
    }
}

#[test]
fn the_same_creation_twice_makes_one_vm() {
    let site = site();
    let gateway = site.gateway();
    gateway.run(async {
        let (core, caller) = (&gateway.core, admin());
        let id = JobId::random();
        let options = named(&gateway, &caller, id, "web");
        let (vm, job) = core
            .create_vm(&caller, gateway.request("web"), options.clone())
            .await
            .unwrap();
        assert_eq!(job.id, id);
        let (again, same) = core
            .create_vm(&caller, gateway.request("web"), options.clone())
            .await
            .unwrap();
        assert_eq!((again.id, same.id), (vm.id, id));
        let ended = core.wait_for_success(id, SOON).await.unwrap();
        assert_eq!((ended.progress, ended.note), (100, options.note.clone()));
        let other = named(&gateway, &caller, id, "db");
        let refused = core.create_vm(&caller, gateway.request("db"), other).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Conflict);
        let without = SubmitOptions {
            digest: None,
            ..options.clone()
        };
        let refused = core.create_vm(&caller, gateway.request("web"), without).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Conflict);
        assert!(
            matches!(core.known(&caller, &options).await.unwrap(), Some(Polled::Job(job)) if job.id == id)
        );
        assert_eq!(core.now().vms.len(), 1);
    });
}

#[test]
fn the_same_creation_at_the_same_moment_makes_one_vm() {
    let site = site();
    let gateway = site.gateway();
    gateway.run(async {
        let (core, caller) = (&gateway.core, admin());
        let id = JobId::random();
        let options = named(&gateway, &caller, id, "web");
        let create = || core.create_vm(&caller, gateway.request("web"), options.clone());
        let (one, two, three) = tokio::join!(create(), create(), create());
        let made: Vec<_> = [one, two, three]
            .into_iter()
            .filter_map(|outcome| match outcome {
                Ok((vm, job)) => Some((vm.id, job.id)),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Conflict);
                    None
                }
            })
            .collect();
        assert!(!made.is_empty());
        assert!(made.iter().all(|same| *same == made[0]), "{made:?}");
        core.wait_for_success(id, SOON).await.unwrap();
        assert_eq!(core.now().vms.len(), 1);
        assert_eq!(core.registry().all_vms().await.unwrap().len(), 1);
    });
}

/// Says who ended and which machine that made.
struct Words(Arc<babelvisor_core::layers::Core>);

#[async_trait]
impl HookEncoder for Words {
    fn dialect(&self) -> &'static str {
        "test"
    }

    async fn encode(&self, ended: &Polled) -> Result<HookMessage> {
        let Polled::Job(job) = ended else {
            return Err(babelvisor_core::Error::internal("not a job"));
        };
        let vm = job.command.vm().and_then(|vm| self.0.now().vms.get(&vm).cloned());
        let name = vm.map(|vm| vm.name().to_owned());
        Ok(HookMessage {
            headers: Vec::new(),
            body: format!("{} {name:?}", job.state.as_ref()).into(),
        })
    }
}

#[test]
fn a_hook_is_told_of_a_creation_by_the_gateway_that_took_its_job_over() {
    let site = site();
    let outside = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let told = outside.block_on(Receiver::answering(200));
    let mut dying = site.gateway();
    let id = JobId::random();
    let job = dying.run(async {
        let options = SubmitOptions {
            hook: Some(Hook {
                url: told.url("/told"),
            }),
            ..named(&dying, &admin(), id, "web")
        };
        let made = dying
            .core
            .create_vm(&admin(), dying.request("web"), options)
            .await;
        made.unwrap().1
    });
    dying.kill();
    let heir = site.gateway();
    heir.run(async {
        let settings = HookSettings {
            lease: Duration::from_millis(300),
            ..HookSettings::default()
        };
        let deliverer = deliver(
            heir.core.engine().clone(),
            Arc::new(Words(heir.core.clone())),
            settings,
        );
        let deliverer = tokio::spawn(deliverer);
        let until = Instant::now() + SOON;
        while told.received().is_empty() {
            assert!(Instant::now() < until, "the hook was not told");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let received = told.received();
        assert_eq!(received[0].body, "succeeded Some(\"web\")");
        let ended = heir.core.wait(job.id, SOON).await.unwrap();
        assert_eq!(ended.state, JobState::Succeeded);
        deliverer.abort();
    });
}

#[test]
fn a_creation_that_takes_long_says_how_far_it_has_come() {
    let site = site();
    site.hypervisor().set_delay(Method::Define, Delay::Fixed(3000));
    let gateway = site.gateway();
    gateway.run(async {
        let (core, caller) = (&gateway.core, admin());
        let request = gateway.request("web");
        let (_, job) = core
            .create_vm(&caller, request, SubmitOptions::QUEUE)
            .await
            .unwrap();
        let until = Instant::now() + SOON;
        loop {
            let now = core.job(&caller, job.id).await.unwrap();
            if now.progress == 90 {
                assert_eq!(now.state, JobState::Running);
                break;
            }
            assert_eq!(now.progress, 0, "the disk is nine tenths of the work");
            assert!(
                Instant::now() < until && !now.state.ended(),
                "no progress was seen"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(core.wait_for_success(job.id, SOON).await.unwrap().progress, 100);
    });
}
