//! Calls that are polled like jobs and are none.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::hooks::{engine, loopback};
use super::*;
use crate::inventory::Inventory;
use crate::layers::{Core, MOST_PER_SOURCE, Origin, Policy, SubmitOptions};
use crate::model::{Caller, EndedCall, Hook, Polled, Role};
use crate::registry::Registry;
use crate::secret::Keyring;
use crate::{Error, ErrorKind};

fn core(store: Arc<dyn Store>, keyring: &Arc<Keyring>) -> Arc<Core> {
    Core::new(
        Arc::new(Inventory::default()),
        Registry::new(store.clone()),
        engine(store, loopback()),
        HashMap::new(),
        keyring.clone(),
        Policy::default(),
    )
}

fn core_on(rig: &impl Rig) -> Arc<Core> {
    core(rig.store(), &Arc::new(Keyring::ephemeral()))
}

fn caller(tenant: &str, role: Role) -> Caller {
    Caller {
        account: None,
        tenant: TenantId::new(tenant),
        role,
        vm_quota: None,
        dialect: "zstack",
        operation: "UpdateVmInstance".to_owned(),
        request_id: "r".to_owned(),
    }
}

fn nobody(source: &str) -> Origin<'static> {
    Origin {
        source: source.parse().unwrap(),
        caller: None,
        dialect: "zstack",
        operation: "StartVmInstance",
    }
}

/// A request under an id of the client's choice.
fn request(id: JobId, core: &Core, caller: &Caller, body: &Value) -> SubmitOptions {
    SubmitOptions {
        job: Some(id),
        digest: Some(core.digest(caller, &caller.operation, body)),
        ..SubmitOptions::QUEUE
    }
}

fn call(polled: Option<Polled>) -> EndedCall {
    match polled {
        Some(Polled::Call(call)) => *call,
        other => panic!("no call: {other:?}"),
    }
}

pub(super) async fn a_stillborn_call_is_polled_by_whoever_knows_its_id(rig: &mut impl Rig) {
    let core = core_on(rig);
    let error = Error::new(ErrorKind::Unauthenticated, "no session");
    let options = SubmitOptions {
        note: Some(json!({"envelope": "inventory"})),
        ..SubmitOptions::QUEUE
    };
    let id = core
        .stillborn(&nobody("192.0.2.7"), error.clone(), options)
        .await
        .unwrap();
    let found = call(core.poll(None, id).await.unwrap());
    assert_eq!((found.error, found.result), (Some(error), None));
    assert_eq!(
        (found.dialect.as_str(), found.operation.as_str()),
        ("zstack", "StartVmInstance")
    );
    assert_eq!(found.note, Some(json!({"envelope": "inventory"})));
    assert_eq!(core.poll(None, JobId::random()).await.unwrap(), None);
    // The engine has never heard of it.
    assert!(rig.store().jobs(&Default::default()).await.unwrap().is_empty());
}

pub(super) async fn a_source_has_its_share_of_stillborn_calls(rig: &mut impl Rig) {
    let keyring = Arc::new(Keyring::ephemeral());
    let core = core(rig.store(), &keyring);
    let fail = || Error::invalid("x", "bad");
    let stillborn = async |core: &Core, source: &str| {
        let made = core
            .stillborn(&nobody(source), fail(), SubmitOptions::QUEUE)
            .await;
        made.unwrap()
    };
    let other = stillborn(&core, "192.0.2.8").await;
    let oldest = stillborn(&core, "192.0.2.7").await;
    let second = stillborn(&core, "192.0.2.7").await;
    for _ in 2..MOST_PER_SOURCE {
        stillborn(&core, "192.0.2.7").await;
    }
    assert!(core.poll(None, oldest).await.unwrap().is_some());
    stillborn(&core, "192.0.2.7").await;
    assert_eq!(core.poll(None, oldest).await.unwrap(), None);
    assert!(core.poll(None, other).await.unwrap().is_some());
    // A restart gives nobody a second share.
    let again = self::core(rig.store(), &keyring);
    assert!(again.poll(None, second).await.unwrap().is_some());
    stillborn(&again, "192.0.2.7").await;
    assert_eq!(again.poll(None, second).await.unwrap(), None);
    let left = rig.store().load(RecordKind::EndedCall).await.unwrap();
    assert_eq!(left.len(), MOST_PER_SOURCE + 1);
}

pub(super) async fn a_call_that_was_done_at_once_is_polled_by_its_tenant(rig: &mut impl Rig) {
    let core = core_on(rig);
    let (acme, others) = (caller("acme", Role::User), caller("others", Role::User));
    let done = core
        .done(&acme, Ok(json!({"vm": "x"})), SubmitOptions::QUEUE)
        .await
        .unwrap();
    assert_eq!(call(core.poll(Some(&acme), done.id).await.unwrap()), done);
    assert_eq!(done.result, Some(json!({"vm": "x"})));
    assert_eq!(core.poll(Some(&others), done.id).await.unwrap(), None);
    assert_eq!(core.poll(None, done.id).await.unwrap(), None);
    let admin = caller("others", Role::Admin);
    assert!(core.poll(Some(&admin), done.id).await.unwrap().is_some());
    let failed = core
        .done(&acme, Err(Error::not_found("vm", "x")), SubmitOptions::QUEUE)
        .await;
    assert_eq!(failed.unwrap().error.unwrap().kind, ErrorKind::NotFound);
    let viewer = core
        .done(
            &caller("acme", Role::Viewer),
            Ok(Value::Null),
            SubmitOptions::QUEUE,
        )
        .await;
    assert_eq!(viewer.unwrap_err().kind, ErrorKind::Forbidden);
}

pub(super) async fn the_same_request_is_the_same_call_and_another_one_a_conflict(rig: &mut impl Rig) {
    let core = core_on(rig);
    let acme = caller("acme", Role::User);
    let id = JobId::random();
    let one = request(id, &core, &acme, &json!({"a": 1, "b": 2}));
    assert_eq!(core.known(&acme, &one).await.unwrap(), None);
    let first = core.done(&acme, Ok(json!(1)), one.clone()).await.unwrap();
    let same = request(id, &core, &acme, &json!({"b": 2, "a": 1}));
    assert_eq!(call(core.known(&acme, &same).await.unwrap()), first);
    assert_eq!(core.done(&acme, Ok(json!(2)), same).await.unwrap(), first);
    let other = request(id, &core, &acme, &json!({"a": 2}));
    assert_eq!(
        core.known(&acme, &other).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    assert_eq!(
        core.done(&acme, Ok(json!(2)), other).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    let stranger = caller("others", Role::User);
    assert_eq!(
        core.known(&stranger, &one).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    assert_eq!(call(core.poll(Some(&acme), id).await.unwrap()), first);
}

pub(super) async fn who_had_no_session_takes_nobodys_id(rig: &mut impl Rig) {
    let core = core_on(rig);
    let acme = caller("acme", Role::User);
    let id = JobId::random();
    let mine = request(id, &core, &acme, &json!({}));
    let unsigned = SubmitOptions {
        digest: None,
        ..mine.clone()
    };
    let error = Error::new(ErrorKind::Unauthenticated, "no session");
    core.stillborn(&nobody("192.0.2.7"), error.clone(), unsigned.clone())
        .await
        .unwrap();
    assert_eq!(core.known(&acme, &mine).await.unwrap(), None);
    let done = core.done(&acme, Ok(json!(1)), mine).await.unwrap();
    let late = core
        .stillborn(&nobody("192.0.2.7"), error.clone(), unsigned.clone())
        .await;
    assert_eq!(late.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(call(core.poll(Some(&acme), id).await.unwrap()), done);
    // Nor a job's.
    let job = job_on(VmId::random());
    enqueue(&*rig.store(), &job).await;
    let other = SubmitOptions {
        job: Some(job.id),
        ..unsigned
    };
    let refused = core.stillborn(&nobody("192.0.2.7"), error, other).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(core.poll(None, job.id).await.unwrap(), None);
    assert!(
        matches!(core.poll(Some(&acme), job.id).await.unwrap(), Some(Polled::Job(found)) if found.id == job.id)
    );
}

pub(super) async fn what_a_call_leaves_has_its_hook_and_its_end(rig: &mut impl Rig) {
    let core = core_on(rig);
    let acme = caller("acme", Role::User);
    let with = |url: &str| SubmitOptions {
        hook: Some(Hook { url: url.to_owned() }),
        ..SubmitOptions::QUEUE
    };
    let told = core
        .done(&acme, Ok(json!(1)), with("http://127.0.0.1:9/"))
        .await
        .unwrap();
    // What is not allowed is not called; what was asked for has happened all the same.
    let untold = core
        .done(&acme, Ok(json!(1)), with("http://192.0.2.1/"))
        .await
        .unwrap();
    assert!(told.hook.is_some() && untold.hook.is_none());
    let due: Vec<String> = rig
        .store()
        .load(RecordKind::Hook)
        .await
        .unwrap()
        .into_iter()
        .map(|due| due.key)
        .collect();
    assert_eq!(due, [told.id.simple()]);

    let store = rig.store();
    let forget = |at| crate::layers::forget_calls_at(store.as_ref(), at);
    let ten_minutes = Timestamp::now() + Duration::from_secs(601);
    assert_eq!(forget(ten_minutes).await.unwrap(), 0);
    let id = core
        .stillborn(&nobody("::1"), Error::invalid("x", "bad"), SubmitOptions::QUEUE)
        .await
        .unwrap();
    assert_eq!(forget(ten_minutes).await.unwrap(), 1);
    assert_eq!(core.poll(None, id).await.unwrap(), None);
    assert_eq!(
        forget(ten_minutes + Duration::from_secs(3 * 3600)).await.unwrap(),
        2
    );
}
