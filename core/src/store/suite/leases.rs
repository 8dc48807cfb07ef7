//! Leases: who may work, and what becomes of work whose worker died.

use super::*;
use crate::error::ErrorKind;
use crate::store::JournalEntry;

fn begun(step: &str) -> JournalEntry {
    JournalEntry::Begun {
        step: step.to_owned(),
        at: Timestamp::now(),
        undo: Some(serde_json::json!({"remove": [step], "empty": []})),
    }
}

fn done(step: &str) -> JournalEntry {
    JournalEntry::Done {
        step: step.to_owned(),
        output: serde_json::json!({"bytes": u64::MAX}),
    }
}

pub(super) async fn a_lost_lease_hands_over_the_journal_and_fences(rig: &mut impl Rig) {
    let (store, other) = (rig.store(), rig.other().await);
    let job = job_on(VmId::random());
    enqueue(&*store, &job).await;
    let first = must_claim(&*store, "first", SHORT).await;
    let entries = [begun("volume"), done("volume"), begun("define")];
    for entry in &entries {
        store.journal(&first.claim, entry).await.unwrap();
    }
    let second = must_claim(&*other, "second", LONG).await;
    assert_eq!(second.job.id, job.id);
    assert!(second.claim.epoch > first.claim.epoch);
    assert_eq!(second.job.epoch, second.claim.epoch);
    assert_eq!(second.job.started, first.job.started);
    assert_eq!(second.journal, entries);
    fenced_off(&*store, &first.claim).await;

    other.journal(&second.claim, &done("define")).await.unwrap();
    other
        .finish(&second.claim, &succeeded(), Vec::new())
        .await
        .unwrap();
    fenced_off(&*store, &first.claim).await;
    nothing_to_claim(&*store).await;
}

async fn fenced_off(store: &dyn Store, claim: &Claim) {
    let forbidden = vec![write("forbidden", Expect::Any, "1")];
    let attempts = [
        store.renew(claim, LONG).await,
        store.journal(claim, &done("late")).await,
        store.progress(claim, 99).await,
        store.finish(claim, &succeeded(), forbidden).await,
    ];
    for attempt in attempts {
        assert_eq!(attempt.unwrap_err().kind, ErrorKind::Conflict);
    }
    assert_eq!(store.get(RecordKind::Vm, "forbidden").await.unwrap(), None);
}

pub(super) async fn a_direct_claim_is_recovered_in_the_same_way(rig: &mut impl Rig) {
    let (store, other) = (rig.store(), rig.other().await);
    let job = job_on(VmId::random());
    let first = claim_directly(&*store, &job, "first", SHORT).await;
    store.journal(&first, &begun("start")).await.unwrap();
    let second = must_claim(&*other, "second", SHORT).await;
    assert_eq!((second.job.id, second.claim.epoch), (job.id, 2));
    assert_eq!(second.journal.len(), 1);
    fenced_off(&*store, &first).await;
    let third = must_claim(&*store, "first", LONG).await;
    assert_eq!((third.job.id, third.claim.epoch), (job.id, 3));
    store
        .finish(&third.claim, &succeeded(), Vec::new())
        .await
        .unwrap();
}

pub(super) async fn a_renewed_lease_is_kept(rig: &mut impl Rig) {
    let (store, other) = (rig.store(), rig.other().await);
    let direct = claim_directly(&*store, &job_on(VmId::random()), "w", SHORT).await;
    enqueue(&*store, &job_on(VmId::random())).await;
    let queued = must_claim(&*store, "w", SHORT).await.claim;
    // Renewed for long enough that a slow machine does not look like a lost lease.
    let until = Instant::now() + SHORT * 5;
    while Instant::now() < until {
        store.renew(&direct, SHORT * 10).await.unwrap();
        store.renew(&queued, SHORT * 10).await.unwrap();
        let stolen = other
            .claim(&worker("thief"), &[backend()], LONG, SHORT / 5)
            .await
            .unwrap();
        assert!(stolen.is_none(), "stolen: {stolen:?}");
    }
    store.finish(&direct, &succeeded(), Vec::new()).await.unwrap();
    // Without renewal the other one goes.
    let stolen = must_claim(&*other, "thief", LONG).await;
    assert_eq!(stolen.claim.job, queued.job);
}

pub(super) async fn finishing_twice_is_harmless(rig: &mut impl Rig) {
    let store = rig.store();
    let claim = claim_directly(&*store, &job_on(VmId::random()), "w", LONG).await;
    let writes = || vec![write("a", Expect::Absent, "1")];
    store.finish(&claim, &succeeded(), writes()).await.unwrap();
    let ended = store.job(claim.job).await.unwrap();
    // The answer was lost, the worker asks again: the same answer, nothing is done again.
    store.finish(&claim, &succeeded(), writes()).await.unwrap();
    assert_eq!(store.job(claim.job).await.unwrap(), ended);
    assert_eq!(store.get(RecordKind::Vm, "a").await.unwrap().unwrap().version, 1);
}

pub(super) async fn a_named_lease_has_one_holder(rig: &mut impl Rig) {
    let (store, other) = (rig.store(), rig.other().await);
    let (a, b) = (worker("a"), worker("b"));
    assert!(store.lease("reaper", &a, LONG).await.unwrap());
    assert!(!other.lease("reaper", &b, SHORT).await.unwrap());
    assert!(store.lease("reaper", &a, SHORT).await.unwrap());
    assert!(other.lease("schedules", &b, LONG).await.unwrap());
    let until = Instant::now() + PATIENCE;
    while !other.lease("reaper", &b, LONG).await.unwrap() {
        assert!(Instant::now() < until, "the lease never ran out");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!store.lease("reaper", &a, SHORT).await.unwrap());
}
