//! The change feed.

use super::*;

async fn next_version(changes: &mut mpsc::Receiver<Change>, key: &str) -> Option<u64> {
    next_change(changes, |change| match change {
        Change::Record {
            key: found, record, ..
        } if found == key => Some(record.as_ref().map(|record| record.version)),
        _ => None,
    })
    .await
}

pub(super) async fn changes_arrive_in_order_with_own_ones(rig: &mut impl Rig) {
    let store = rig.store();
    store
        .commit(vec![write("before", Expect::Any, "1")])
        .await
        .unwrap();
    let mut changes = store.changes().await.unwrap();
    let job = job_on(VmId::random());
    store
        .submit(&job, vec![write("a", Expect::Absent, "1")], queue())
        .await
        .unwrap();
    assert_eq!(next_state(&mut changes, job.id).await, JobState::Queued);
    assert_eq!(next_version(&mut changes, "a").await, Some(1));

    let claimed = must_claim(&*store, "w", LONG).await;
    assert_eq!(next_state(&mut changes, job.id).await, JobState::Running);
    store.progress(&claimed.claim, 50).await.unwrap();
    let percent = next_change(&mut changes, |change| match change {
        Change::Job(found) if found.id == job.id => Some(found.progress),
        _ => None,
    })
    .await;
    assert_eq!(percent, 50);
    store
        .finish(
            &claimed.claim,
            &succeeded(),
            vec![write("a", Expect::Version(1), "2")],
        )
        .await
        .unwrap();
    // What the end means for the records is told before the end itself.
    assert_eq!(next_version(&mut changes, "a").await, Some(2));
    assert_eq!(next_state(&mut changes, job.id).await, JobState::Succeeded);

    let removal = Write {
        value: None,
        ..write("a", Expect::Any, "")
    };
    store.commit(vec![removal]).await.unwrap();
    assert_eq!(next_version(&mut changes, "a").await, None);
    for number in 0..50 {
        store
            .commit(vec![write("b", Expect::Any, &number.to_string())])
            .await
            .unwrap();
    }
    let mut last = 0;
    while last < 50 {
        let version = next_version(&mut changes, "b").await.unwrap();
        assert!(version >= last, "{version} came after {last}");
        last = version;
    }
}

pub(super) async fn other_gateways_see_each_others_changes(rig: &mut impl Rig) {
    let (store, other) = (rig.store(), rig.other().await);
    let mut here = store.changes().await.unwrap();
    let mut there = other.changes().await.unwrap();
    store.commit(vec![write("a", Expect::Any, "1")]).await.unwrap();
    assert_eq!(next_version(&mut there, "a").await, Some(1));
    other.commit(vec![write("b", Expect::Any, "1")]).await.unwrap();
    assert_eq!(next_version(&mut here, "b").await, Some(1));

    let job = job_on(VmId::random());
    let claim = claim_directly(&*store, &job, "w", LONG).await;
    assert_eq!(next_state(&mut there, job.id).await, JobState::Running);
    other.cancel(job.id).await.unwrap();
    let asked = next_change(&mut here, |change| match change {
        Change::Job(found) if found.id == job.id && found.cancel_requested => Some(true),
        _ => None,
    });
    assert!(asked.await);
    store.finish(&claim, &succeeded(), Vec::new()).await.unwrap();
    let ended = next_change(&mut there, |change| match change {
        Change::Job(found) if found.id == job.id && found.state.ended() => Some(found.state),
        _ => None,
    });
    assert_eq!(ended.await, JobState::Succeeded);
}
