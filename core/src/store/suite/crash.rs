//! What is left after a crash.

use super::*;
use crate::error::ErrorKind;
use crate::store::JournalEntry;

/// Writers are busy when the store goes down; whatever was acknowledged to them is there afterwards.
pub(super) async fn nothing_acknowledged_is_lost(rig: &mut impl Rig) {
    let before = rig.store();
    let writers: Vec<_> = (0..4)
        .map(|number| {
            let store = Arc::clone(&before);
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for turn in 0..25 {
                    let job = job_on(VmId::random());
                    let record = write(&format!("{number}-{turn}"), Expect::Absent, "1");
                    match store.submit(&job, vec![record], queue()).await {
                        Ok(_) => acknowledged.push((job.id, format!("{number}-{turn}"))),
                        Err(error) => assert_eq!(error.kind, ErrorKind::BackendUnavailable),
                    }
                }
                acknowledged
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    assert_eq!(acknowledged.len(), 100);
    let first = store_counter(&*before).await;
    rig.crash().await;
    let store = rig.store();
    for (id, key) in &acknowledged {
        assert!(store.job(*id).await.unwrap().is_some(), "job {id} is lost");
        assert!(store.get(RecordKind::Vm, key).await.unwrap().is_some());
    }
    assert!(store_counter(&*store).await > first);
    for _ in &acknowledged {
        let claimed = must_claim(&*store, "w", LONG).await;
        store
            .finish(&claimed.claim, &succeeded(), Vec::new())
            .await
            .unwrap();
    }
    nothing_to_claim(&*store).await;
}

async fn store_counter(store: &dyn Store) -> u64 {
    store.allocate("guest", 1).await.unwrap()
}

/// A job that was running is handed over with its journal, and its first claim is worth nothing any more.
pub(super) async fn epochs_go_on_after_a_crash(rig: &mut impl Rig) {
    let vm = VmId::random();
    let (job, behind) = (job_on(vm), job_on(vm));
    let first = claim_directly(&*rig.store(), &job, "before", SHORT).await;
    enqueue(&*rig.store(), &behind).await;
    let entry = JournalEntry::Handle {
        step: "start".to_owned(),
        handle: "task-7".to_owned(),
    };
    rig.store().journal(&first, &entry).await.unwrap();
    rig.crash().await;
    let store = rig.store();
    let second = must_claim(&*store, "after", LONG).await;
    assert_eq!((second.job.id, second.claim.epoch), (job.id, 2));
    assert_eq!(second.journal, [entry]);
    let fenced = store.finish(&first, &succeeded(), Vec::new()).await.unwrap_err();
    assert_eq!(fenced.kind, ErrorKind::Conflict);
    nothing_to_claim(&*store).await;
    store
        .finish(&second.claim, &succeeded(), Vec::new())
        .await
        .unwrap();
    assert_eq!(must_claim(&*store, "after", LONG).await.job.id, behind.id);
}
