//! The life of a job.

use super::*;
use crate::error::{Error, ErrorKind};
use crate::model::{Firmware, Hook, VmSpec};
use crate::secret::{Keyring, Secret};
use crate::store::JobFilter;
use serde_json::json;

pub(super) async fn a_job_is_submitted_claimed_and_finished(rig: &mut impl Rig) {
    let store = rig.store();
    let job = job_on(VmId::random());
    enqueue(&*store, &job).await;
    assert_eq!(store.job(job.id).await.unwrap().unwrap(), job);

    let claimed = must_claim(&*store, "w", LONG).await;
    assert_eq!(claimed.job.id, job.id);
    assert_eq!(claimed.job.command, job.command);
    assert_eq!(claimed.job.state, JobState::Running);
    assert_eq!((claimed.claim.epoch, claimed.job.epoch), (1, 1));
    assert!(claimed.job.started.is_some());
    assert!(claimed.journal.is_empty());

    store.progress(&claimed.claim, 40).await.unwrap();
    let running = store.job(job.id).await.unwrap().unwrap();
    assert_eq!((running.state, running.progress), (JobState::Running, 40));

    let end = JobEnd {
        state: JobState::Failed,
        error: Some(Error::not_found("vm", "x")),
        left_behind: vec!["volume y".to_owned()],
        command: None,
        result: None,
    };
    store.finish(&claimed.claim, &end, Vec::new()).await.unwrap();
    let ended = store.job(job.id).await.unwrap().unwrap();
    assert_eq!(ended.state, JobState::Failed);
    assert_eq!(ended.error, end.error);
    assert_eq!(ended.left_behind, end.left_behind);
    assert!(ended.ended.is_some());
    nothing_to_claim(&*store).await;
    assert_eq!(store.job(JobId::random()).await.unwrap(), None);
}

pub(super) async fn a_job_brings_its_records_or_is_not_stored(rig: &mut impl Rig) {
    let store = rig.store();
    let first = job_on(VmId::random());
    store
        .submit(&first, vec![write("name", Expect::Absent, "1")], queue())
        .await
        .unwrap();
    assert!(store.get(RecordKind::Vm, "name").await.unwrap().is_some());

    let second = job_on(VmId::random());
    let refused = store
        .submit(
            &second,
            vec![
                write("other", Expect::Absent, "1"),
                write("name", Expect::Absent, "2"),
            ],
            direct("w", LONG),
        )
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert_eq!(store.job(second.id).await.unwrap(), None);
    assert_eq!(store.get(RecordKind::Vm, "other").await.unwrap(), None);
    assert_eq!(must_claim(&*store, "w", LONG).await.job.id, first.id);
    nothing_to_claim(&*store).await;
}

pub(super) async fn the_end_writes_its_records_or_does_not_happen(rig: &mut impl Rig) {
    let store = rig.store();
    store.commit(vec![write("a", Expect::Absent, "1")]).await.unwrap();
    let job = job_on(VmId::random());
    let claim = claim_directly(&*store, &job, "w", LONG).await;
    let refused = store
        .finish(&claim, &succeeded(), vec![write("a", Expect::Version(9), "2")])
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert_eq!(refused.subject.unwrap().noun, "vm");
    assert_eq!(store.job(job.id).await.unwrap().unwrap().state, JobState::Running);
    store
        .finish(&claim, &succeeded(), vec![write("a", Expect::Version(1), "2")])
        .await
        .unwrap();
    let ended = store.job(job.id).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.progress), (JobState::Succeeded, 100));
    assert_eq!(store.get(RecordKind::Vm, "a").await.unwrap().unwrap().value, "2");
}

pub(super) async fn the_same_id_twice_is_known(rig: &mut impl Rig) {
    let store = rig.store();
    let job = job_on(VmId::random());
    enqueue(&*store, &job).await;
    let again = store
        .submit(
            &Job {
                operation: "other".to_owned(),
                ..job.clone()
            },
            vec![write("a", Expect::Absent, "1")],
            refuse(),
        )
        .await
        .unwrap();
    match again {
        Submitted::Known(known) => assert_eq!(*known, job),
        other => panic!("stored twice: {other:?}"),
    }
    assert_eq!(store.get(RecordKind::Vm, "a").await.unwrap(), None);
    must_claim(&*store, "w", LONG).await;
    nothing_to_claim(&*store).await;
}

pub(super) async fn a_free_job_is_claimed_in_the_submit(rig: &mut impl Rig) {
    let store = rig.store();
    let job = job_on(VmId::random());
    let claim = claim_directly(&*store, &job, "w", LONG).await;
    assert_eq!(
        (claim.job, claim.epoch, claim.worker.clone()),
        (job.id, 1, worker("w"))
    );
    let stored = store.job(job.id).await.unwrap().unwrap();
    assert_eq!((stored.state, stored.epoch), (JobState::Running, 1));
    assert!(stored.started.is_some());
    nothing_to_claim(&*store).await;
    store.finish(&claim, &succeeded(), Vec::new()).await.unwrap();
}

pub(super) async fn a_job_behind_another_is_not_claimed_in_the_submit(rig: &mut impl Rig) {
    let store = rig.store();
    let vm = VmId::random();
    claim_directly(&*store, &job_on(vm), "w", LONG).await;
    let submitted = store
        .submit(&job_on(vm), Vec::new(), direct("w", LONG))
        .await
        .unwrap();
    assert!(matches!(submitted, Submitted::Queued), "{submitted:?}");
}

pub(super) async fn only_gateways_of_its_backend_get_a_job(rig: &mut impl Rig) {
    let store = rig.store();
    let job = Job {
        backend: BackendId::new("west"),
        ..job_on(VmId::random())
    };
    enqueue(&*store, &job).await;
    nothing_to_claim(&*store).await;
    let claimed = store
        .claim(&worker("w"), &[backend(), BackendId::new("west")], LONG, PATIENCE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claimed.job.id, job.id);
}

/// Woken, not found by looking again now and then: the median of several waits tells the two apart.
pub(super) async fn a_waiting_worker_is_woken(rig: &mut impl Rig) {
    let store = rig.store();
    let other = rig.other().await;
    let mut delays = Vec::new();
    for _ in 0..5 {
        let waiting = {
            let other = Arc::clone(&other);
            tokio::spawn(async move { (must_claim(&*other, "w", LONG).await, Instant::now()) })
        };
        // Long enough for the worker to be waiting; if it is not yet, it only gets the job sooner.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let job = job_on(VmId::random());
        let begun = Instant::now();
        enqueue(&*store, &job).await;
        let (claimed, when) = waiting.await.unwrap();
        assert_eq!(claimed.job.id, job.id);
        delays.push(when.saturating_duration_since(begun));
    }
    delays.sort();
    assert!(delays[2] < Duration::from_millis(100), "woken after {delays:?}");
}

pub(super) async fn a_queued_job_is_cancelled_at_once(rig: &mut impl Rig) {
    let store = rig.store();
    let job = job_on(VmId::random());
    enqueue(&*store, &job).await;
    store.cancel(job.id).await.unwrap();
    let ended = store.job(job.id).await.unwrap().unwrap();
    assert_eq!(ended.state, JobState::Cancelled);
    assert!(ended.cancel_requested && ended.ended.is_some());
    nothing_to_claim(&*store).await;
    store.cancel(job.id).await.unwrap();
    let unknown = store.cancel(JobId::random()).await.unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::NotFound);
}

pub(super) async fn a_queued_job_ends_with_its_records_or_not_at_all(rig: &mut impl Rig) {
    let store = rig.store();
    let vm = VmId::random();
    let (first, second) = (job_on(vm), job_on(vm));
    enqueue(&*store, &first).await;
    enqueue(&*store, &second).await;
    let end = JobEnd {
        state: JobState::Failed,
        error: Some(Error::new(ErrorKind::Timeout, "too late")),
        left_behind: Vec::new(),
        command: Some(second.command.clone()),
        result: None,
    };
    let row = |expect| vec![write("row", expect, "told")];

    let refused = store.end_queued(first.id, &end, row(Expect::Version(7))).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(
        store.job(first.id).await.unwrap().unwrap().state,
        JobState::Queued
    );

    assert!(
        store
            .end_queued(first.id, &end, row(Expect::Absent))
            .await
            .unwrap()
    );
    let ended = store.job(first.id).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.error), (JobState::Failed, end.error.clone()));
    assert!(ended.ended.is_some() && !ended.cancel_requested);
    assert_eq!(ended.command, second.command);
    let told = store.get(RecordKind::Vm, "row").await.unwrap().unwrap();
    assert_eq!(&told.value[..], b"told");

    // The next in line moves up, and what is claimed is not ended this way.
    let claimed = must_claim(&*store, "w", LONG).await;
    assert_eq!(claimed.job.id, second.id);
    assert!(!store.end_queued(second.id, &end, row(Expect::Any)).await.unwrap());
    assert!(!store.end_queued(first.id, &end, row(Expect::Any)).await.unwrap());
    let untouched = store.get(RecordKind::Vm, "row").await.unwrap().unwrap();
    assert_eq!(untouched.version, told.version);
    let unknown = store.end_queued(JobId::random(), &end, Vec::new()).await;
    assert_eq!(unknown.unwrap_err().kind, ErrorKind::NotFound);
}

pub(super) async fn a_running_job_sees_the_request_to_stop(rig: &mut impl Rig) {
    let store = rig.store();
    let job = job_on(VmId::random());
    let claim = claim_directly(&*store, &job, "w", LONG).await;
    store.cancel(job.id).await.unwrap();
    let running = store.job(job.id).await.unwrap().unwrap();
    assert_eq!(running.state, JobState::Running);
    assert!(running.cancel_requested);
    let end = JobEnd {
        state: JobState::Cancelled,
        ..succeeded()
    };
    store.finish(&claim, &end, Vec::new()).await.unwrap();
    let ended = store.job(job.id).await.unwrap().unwrap();
    assert_eq!(ended.state, JobState::Cancelled);
}

pub(super) async fn a_job_of_an_unknown_version_stays_queued(rig: &mut impl Rig) {
    let store = rig.store();
    let newer = Job {
        command_version: COMMAND_VERSION + 1,
        ..job_on(VmId::random())
    };
    let submitted = store.submit(&newer, Vec::new(), direct("w", LONG)).await.unwrap();
    assert!(matches!(submitted, Submitted::Queued), "{submitted:?}");
    nothing_to_claim(&*store).await;
    assert_eq!(
        store.job(newer.id).await.unwrap().unwrap().state,
        JobState::Queued
    );
    // It holds its place: a later job on the same VM waits behind it, until it is gone.
    let behind = Job {
        subjects: newer.subjects.clone(),
        ..job_on(VmId::random())
    };
    enqueue(&*store, &behind).await;
    nothing_to_claim(&*store).await;
    store.cancel(newer.id).await.unwrap();
    assert_eq!(must_claim(&*store, "w", LONG).await.job.id, behind.id);
}

pub(super) async fn secrets_are_erased_at_the_end(rig: &mut impl Rig) {
    let store = rig.store();
    let vm = VmId::random();
    let create = |password| {
        Command::CreateVm(Box::new(crate::command::CreateVm {
            vm,
            spec: VmSpec {
                name: "db".to_owned(),
                title: "db".to_owned(),
                vcpus: 1,
                memory: 1 << 30,
                firmware: Firmware::Bios,
                volumes: Vec::new(),
                nics: Vec::new(),
                console_password: password,
                guest: None,
                ..VmSpec::default()
            },
            start: false,
            from: None,
            importing: false,
        }))
    };
    let sealed = Keyring::ephemeral().seal(&Secret::new("made-up")).unwrap();
    let job = Job {
        command: create(Some(sealed)),
        ..job_on(vm)
    };
    let claim = claim_directly(&*store, &job, "w", LONG).await;
    assert_eq!(store.job(job.id).await.unwrap().unwrap().command, job.command);
    let end = JobEnd {
        command: Some(create(None)),
        ..succeeded()
    };
    store.finish(&claim, &end, Vec::new()).await.unwrap();
    assert_eq!(store.job(job.id).await.unwrap().unwrap().command, create(None));
}

pub(super) async fn jobs_are_listed_newest_first(rig: &mut impl Rig) {
    let store = rig.store();
    let jobs: Vec<Job> = (0..5).map(|_| job_on(VmId::random())).collect();
    for job in &jobs {
        enqueue(&*store, job).await;
    }
    let claimed = must_claim(&*store, "w", LONG).await;
    assert_eq!(claimed.job.id, jobs[0].id);
    store
        .finish(&claimed.claim, &succeeded(), Vec::new())
        .await
        .unwrap();
    let list = async |unfinished, limit| -> Vec<JobId> {
        let filter = JobFilter { unfinished, limit };
        let jobs = store.jobs(&filter).await.unwrap();
        jobs.iter().map(|job| job.id).collect()
    };
    let newest: Vec<JobId> = jobs.iter().rev().map(|job| job.id).collect();
    assert_eq!(list(false, 0).await, newest);
    assert_eq!(list(true, 0).await, newest[..4]);
    assert_eq!(list(false, 2).await, newest[..2]);
}

pub(super) async fn old_jobs_are_purged(rig: &mut impl Rig) {
    let store = rig.store();
    let old = job_on(VmId::random());
    let claim = claim_directly(&*store, &old, "w", LONG).await;
    store.finish(&claim, &succeeded(), Vec::new()).await.unwrap();
    let ended = store.job(old.id).await.unwrap().unwrap().ended.unwrap();
    let running = job_on(VmId::random());
    claim_directly(&*store, &running, "w", LONG).await;

    assert_eq!(store.purge(ended - Duration::from_secs(1)).await.unwrap(), 0);
    assert!(store.job(old.id).await.unwrap().is_some());
    assert_eq!(store.purge(ended + Duration::from_secs(60)).await.unwrap(), 1);
    assert_eq!(store.job(old.id).await.unwrap(), None);
    let left = store.jobs(&JobFilter::default()).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].id, running.id);
}

pub(super) async fn what_came_with_a_request_and_what_it_found_are_kept(rig: &mut impl Rig) {
    let store = rig.store();
    let job = Job {
        digest: Some("of the request".to_owned()),
        hook: Some(Hook {
            url: "http://192.0.2.1/".to_owned(),
        }),
        note: Some(json!({"envelope": ["inventory", null, 1.5]})),
        ..job_on(VmId::random())
    };
    let claim = claim_directly(&*store, &job, "w", LONG).await;
    assert_eq!(store.job(job.id).await.unwrap().unwrap().result, None);
    let end = JobEnd {
        result: Some(json!({"uuid": "x", "sizes": [1_u64 << 60]})),
        ..succeeded()
    };
    store.finish(&claim, &end, Vec::new()).await.unwrap();
    let ended = store.job(job.id).await.unwrap().unwrap();
    assert_eq!(ended.result, end.result);
    assert_eq!(
        (ended.digest, ended.hook, ended.note),
        (job.digest, job.hook, job.note)
    );
    assert_eq!(ended.progress, 100);
}
