//! Web hooks: no end goes untold, whoever dies in between.

use std::collections::HashMap;

use tokio::task::JoinHandle;

use super::*;
use crate::ErrorKind;
use crate::inventory::Inventory;
use crate::jobs::{Engine, EngineSettings, HookEncoder, HookMessage, HookSettings, deliver};
use crate::model::{Hook, Polled};
use crate::outbound::receiver::{Receiver, status_line};
use crate::outbound::{AllowList, Outbound, OutboundSettings};
use crate::registry::Registry;
use crate::secret::Keyring;

/// Says an end in words of its own.
struct Words;

#[async_trait]
impl HookEncoder for Words {
    fn dialect(&self) -> &'static str {
        "guest-rest"
    }

    async fn encode(&self, ended: &Polled) -> crate::Result<HookMessage> {
        let text = match ended {
            Polled::Job(job) => format!("job {} {}", job.id, job.state.as_ref()),
            Polled::Call(call) => format!("call {} {}", call.id, call.error.is_none()),
        };
        Ok(HookMessage {
            headers: vec![("X-Ended".to_owned(), "yes".to_owned())],
            body: text.into(),
        })
    }
}

pub(super) fn loopback() -> Outbound {
    Outbound::new(OutboundSettings {
        webhook: AllowList::parse(&["127.0.0.0/8"]).unwrap(),
        answer: Duration::from_millis(500),
        ..OutboundSettings::default()
    })
}

/// An engine without backends: what is submitted stays queued until it is cancelled.
pub(super) fn engine(store: Arc<dyn Store>, outbound: Outbound) -> Arc<Engine> {
    let settings = EngineSettings {
        outbound,
        ..EngineSettings::default()
    };
    let keyring = Arc::new(Keyring::ephemeral());
    Engine::new(
        Registry::new(store),
        Arc::new(Inventory::default()),
        keyring,
        HashMap::new(),
        settings,
    )
}

fn deliverer(engine: &Arc<Engine>) -> JoinHandle<()> {
    let settings = HookSettings {
        tries: 4,
        pause: Duration::from_millis(50),
        lease: Duration::from_millis(300),
        ..HookSettings::default()
    };
    tokio::spawn(deliver(engine.clone(), Arc::new(Words), settings))
}

/// A job that has ended, with a hook for `url`.
async fn ended(engine: &Arc<Engine>, url: String) -> Job {
    let job = Job {
        hook: Some(Hook { url }),
        ..job_on(VmId::random())
    };
    let job = engine.submit(job, Vec::new(), WhenBusy::Queue).await.unwrap();
    let ended = engine.cancel(job.id).await.unwrap();
    assert_eq!(ended.state, JobState::Cancelled);
    ended
}

async fn no_hook_is_left(store: &dyn Store) {
    let until = Instant::now() + PATIENCE;
    while !store.load(RecordKind::Hook).await.unwrap().is_empty() {
        assert!(Instant::now() < until, "a hook is still due");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn an_end_is_told_once(rig: &mut impl Rig) {
    let engine = engine(rig.store(), loopback());
    let told = Receiver::answering(204).await;
    let deliverer = deliverer(&engine);
    let job = ended(&engine, told.url("/hook?key=1")).await;
    let posts = told.wait_for(1).await;
    no_hook_is_left(&*rig.store()).await;
    assert_eq!(told.received().len(), 1);
    assert!(
        posts[0].head.starts_with("post /hook?key=1 http/1.1\r\n"),
        "{}",
        posts[0].head
    );
    assert!(posts[0].head.contains("x-ended: yes\r\n"), "{}", posts[0].head);
    assert!(posts[0].head.contains(&format!("host: {}\r\n", told.address)));
    assert_eq!(posts[0].body, format!("job {} cancelled", job.id));
    deliverer.abort();
}

pub(super) async fn the_end_that_a_worker_writes_is_told(rig: &mut impl Rig) {
    let store = rig.store();
    let engine = engine(store.clone(), loopback());
    let told = Receiver::answering(200).await;
    let job = Job {
        hook: Some(Hook { url: told.url("/") }),
        ..job_on(VmId::random())
    };
    let claim = claim_directly(&*store, &job, "w", LONG).await;
    let writes = crate::jobs::delivery_of_job(&job).unwrap();
    store
        .finish(&claim, &succeeded(), writes.into_iter().collect())
        .await
        .unwrap();
    let deliverer = deliverer(&engine);
    assert_eq!(
        told.wait_for(1).await[0].body,
        format!("job {} succeeded", job.id)
    );
    deliverer.abort();
}

pub(super) async fn a_refusing_address_is_tried_again_after_a_pause(rig: &mut impl Rig) {
    let engine = engine(rig.store(), loopback());
    let told = Receiver::start(|number| status_line(if number < 2 { 503 } else { 200 })).await;
    let deliverer = deliverer(&engine);
    ended(&engine, told.url("/")).await;
    let posts = told.wait_for(3).await;
    no_hook_is_left(&*rig.store()).await;
    assert_eq!(told.received().len(), 3);
    for (earlier, later) in posts.iter().zip(posts.iter().skip(1)) {
        assert!(later.at - earlier.at >= Duration::from_millis(45));
    }
    deliverer.abort();
}

pub(super) async fn tries_come_to_an_end(rig: &mut impl Rig) {
    let engine = engine(rig.store(), loopback());
    // A redirect is no success, and is not followed.
    let told = Receiver::start(|_| {
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let deliverer = deliverer(&engine);
    ended(&engine, told.url("/")).await;
    told.wait_for(4).await;
    no_hook_is_left(&*rig.store()).await;
    assert_eq!(told.received().len(), 4);
    deliverer.abort();
}

pub(super) async fn a_silent_address_holds_up_nobody(rig: &mut impl Rig) {
    let engine = engine(rig.store(), loopback());
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let told = Receiver::answering(200).await;
    let deliverer = deliverer(&engine);
    ended(&engine, format!("http://{}/", silent.local_addr().unwrap())).await;
    let begun = Instant::now();
    ended(&engine, told.url("/")).await;
    told.wait_for(1).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    // It is given up for being silent, not for ever.
    no_hook_is_left(&*rig.store()).await;
    deliverer.abort();
}

pub(super) async fn another_gateway_goes_on_when_the_deliverer_dies(rig: &mut impl Rig) {
    let first = engine(rig.store(), loopback());
    let told = Receiver::start(|number| status_line(if number == 0 { 500 } else { 200 })).await;
    let dying = deliverer(&first);
    let second = engine(rig.other().await, loopback());
    ended(&first, told.url("/")).await;
    told.wait_for(1).await;
    dying.abort();
    let _ = dying.await;
    let heir = deliverer(&second);
    told.wait_for(2).await;
    no_hook_is_left(&*rig.store()).await;
    heir.abort();
}

pub(super) async fn an_end_before_a_crash_is_told_after_it(rig: &mut impl Rig) {
    let told = Receiver::answering(200).await;
    let job = ended(&engine(rig.store(), loopback()), told.url("/")).await;
    rig.crash().await;
    let engine = engine(rig.store(), loopback());
    let deliverer = deliverer(&engine);
    assert_eq!(
        told.wait_for(1).await[0].body,
        format!("job {} cancelled", job.id)
    );
    no_hook_is_left(&*rig.store()).await;
    deliverer.abort();
}

pub(super) async fn a_hook_that_is_not_allowed_is_refused_with_its_job(rig: &mut impl Rig) {
    let nowhere = engine(rig.store(), Outbound::default());
    let job = Job {
        hook: Some(Hook {
            url: "http://127.0.0.1:1/?key=made-up".to_owned(),
        }),
        ..job_on(VmId::random())
    };
    let refused = nowhere.submit(job.clone(), Vec::new(), WhenBusy::Queue).await;
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.kind, refused.field.as_deref()),
        (ErrorKind::InvalidInput, Some("hook"))
    );
    assert!(refused.detail.contains("webhook.allow"), "{refused}");
    assert!(!format!("{refused:?} {job:?}").contains("made-up"));
    assert_eq!(rig.store().job(job.id).await.unwrap(), None);
}
