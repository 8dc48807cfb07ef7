//! Lines: who stands before whom.

use std::collections::HashSet;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::error::ErrorKind;
use crate::store::JobFilter;

pub(super) async fn one_vm_is_changed_in_order(rig: &mut impl Rig) {
    let store = rig.store();
    let vm = VmId::random();
    let jobs: Vec<Job> = (0..4).map(|_| job_on(vm)).collect();
    for job in &jobs {
        enqueue(&*store, job).await;
    }
    for job in &jobs {
        let claimed = must_claim(&*store, "w", LONG).await;
        assert_eq!(claimed.job.id, job.id);
        nothing_to_claim(&*store).await;
        store
            .finish(&claimed.claim, &succeeded(), Vec::new())
            .await
            .unwrap();
    }
    nothing_to_claim(&*store).await;
}

pub(super) async fn a_taken_vm_refuses_and_stores_nothing(rig: &mut impl Rig) {
    let store = rig.store();
    let vm = VmId::random();
    let front = job_on(vm);
    let claim = claim_directly(&*store, &front, "w", LONG).await;
    let late = job_on(vm);
    let refused = store
        .submit(&late, vec![write("a", Expect::Absent, "1")], refuse())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Busy);
    assert_eq!(refused.subject.as_ref().unwrap().id, front.id.to_string());
    assert_eq!(store.job(late.id).await.unwrap(), None);
    assert_eq!(store.get(RecordKind::Vm, "a").await.unwrap(), None);
    store.finish(&claim, &succeeded(), Vec::new()).await.unwrap();
    nothing_to_claim(&*store).await;
    let free = store.submit(&late, Vec::new(), refuse()).await.unwrap();
    assert!(matches!(free, Submitted::Queued), "{free:?}");
}

pub(super) async fn a_job_waits_for_all_its_vms(rig: &mut impl Rig) {
    let store = rig.store();
    let (a, b) = (VmId::random(), VmId::random());
    let on_a = claim_directly(&*store, &job_on(a), "w", LONG).await;
    let on_b = claim_directly(&*store, &job_on(b), "w", LONG).await;
    let both = job_on_all(&[a, b]);
    enqueue(&*store, &both).await;
    let behind = job_on(b);
    enqueue(&*store, &behind).await;

    store.finish(&on_b, &succeeded(), Vec::new()).await.unwrap();
    nothing_to_claim(&*store).await;
    store.finish(&on_a, &succeeded(), Vec::new()).await.unwrap();
    let claimed = must_claim(&*store, "w", LONG).await;
    assert_eq!(claimed.job.id, both.id);
    nothing_to_claim(&*store).await;
    store
        .finish(&claimed.claim, &succeeded(), Vec::new())
        .await
        .unwrap();
    assert_eq!(must_claim(&*store, "w", LONG).await.job.id, behind.id);
}

pub(super) async fn a_cancelled_job_lets_the_next_one_pass(rig: &mut impl Rig) {
    let store = rig.store();
    let (a, b) = (VmId::random(), VmId::random());
    let first = claim_directly(&*store, &job_on(a), "w", LONG).await;
    let middle = job_on_all(&[a, b]);
    let on_b = job_on(b);
    let last = job_on(a);
    for job in [&middle, &on_b, &last] {
        enqueue(&*store, job).await;
    }
    nothing_to_claim(&*store).await;
    store.cancel(middle.id).await.unwrap();
    assert_eq!(must_claim(&*store, "w", LONG).await.job.id, on_b.id);
    nothing_to_claim(&*store).await;
    store.finish(&first, &succeeded(), Vec::new()).await.unwrap();
    assert_eq!(must_claim(&*store, "w", LONG).await.job.id, last.id);
}

/// What the random load found out.
#[derive(Default)]
struct Watch {
    /// VMs that some worker works on now.
    taken: Mutex<HashSet<Subject>>,
    done: Mutex<Vec<JobId>>,
}

/// Four gateways submit jobs on one to three of five VMs, cancel some, claim, sometimes directly, and
/// sometimes let a lease run out. No two work on one VM at once, and all jobs end.
pub(super) async fn random_load_never_deadlocks_or_overlaps(rig: &mut impl Rig) {
    const GATEWAYS: u64 = 4;
    const JOBS: usize = 30;
    let vms: Arc<Vec<VmId>> = Arc::new((0..5).map(|_| VmId::random()).collect());
    let watch = Arc::new(Watch::default());
    let mut tasks = Vec::new();
    for seed in 0..GATEWAYS {
        let (submitter, store) = (rig.other().await, rig.other().await);
        let vms = Arc::clone(&vms);
        tasks.push(tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            for _ in 0..JOBS {
                let count = random.random_range(1..=3);
                let some: Vec<VmId> = vms.sample(&mut random, count).copied().collect();
                let job = job_on_all(&some);
                enqueue(&*submitter, &job).await;
                if random.random_ratio(1, 10) {
                    submitter.cancel(job.id).await.unwrap();
                }
            }
        }));
        let watch = Arc::clone(&watch);
        tasks.push(tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(100 + seed);
            while let Some(claimed) = store
                .claim(&worker(&format!("w{seed}")), &[backend()], LONG, SHORT * 10)
                .await
                .unwrap()
            {
                if random.random_ratio(1, 20) {
                    // This worker dies before its first step, shortly before its lease ends.
                    store.renew(&claimed.claim, SHORT / 5).await.unwrap();
                    continue;
                }
                for subject in &claimed.job.subjects {
                    let free = watch.taken.lock().unwrap().insert(subject.clone());
                    assert!(free, "two jobs on {subject:?} at once");
                }
                tokio::task::yield_now().await;
                for subject in &claimed.job.subjects {
                    watch.taken.lock().unwrap().remove(subject);
                }
                match store.finish(&claimed.claim, &succeeded(), Vec::new()).await {
                    Ok(()) => watch.done.lock().unwrap().push(claimed.job.id),
                    Err(error) => assert_eq!(error.kind, ErrorKind::Conflict),
                }
            }
        }));
    }
    for task in tasks {
        tokio::time::timeout(PATIENCE * 3, task)
            .await
            .expect("deadlock")
            .unwrap();
    }
    let store = rig.store();
    let open = store
        .jobs(&JobFilter {
            unfinished: true,
            limit: 0,
        })
        .await
        .unwrap();
    assert!(open.is_empty(), "left over: {open:?}");
    let all = store.jobs(&JobFilter::default()).await.unwrap();
    assert_eq!(all.len(), JOBS * usize::try_from(GATEWAYS).unwrap());
    let done = watch.done.lock().unwrap();
    let unique: HashSet<_> = done.iter().collect();
    assert_eq!(unique.len(), done.len(), "a job was finished twice");
    let succeeded = all.iter().filter(|job| job.state == JobState::Succeeded);
    assert_eq!(succeeded.count(), done.len());
}
