//! Records and counters.

use super::*;
use crate::error::ErrorKind;

pub(super) async fn a_commit_is_all_or_nothing(rig: &mut impl Rig) {
    let store = rig.store();
    store.commit(vec![write("a", Expect::Absent, "1")]).await.unwrap();
    let refused = store
        .commit(vec![
            write("b", Expect::Absent, "1"),
            write("a", Expect::Absent, "2"),
            write("c", Expect::Any, "1"),
        ])
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert_eq!(refused.subject.unwrap().id, "a");
    let left = store.load(RecordKind::Vm).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].value, "1");
}

pub(super) async fn versions_count_and_expectations_hold(rig: &mut impl Rig) {
    let store = rig.store();
    let versions = store
        .commit(vec![
            write("a", Expect::Absent, "1"),
            write("b", Expect::Any, "1"),
        ])
        .await
        .unwrap();
    assert_eq!(versions, [1, 1]);
    assert_eq!(
        store
            .commit(vec![write("a", Expect::Version(1), "2")])
            .await
            .unwrap(),
        [2]
    );
    let stale = store
        .commit(vec![write("a", Expect::Version(1), "3")])
        .await
        .unwrap_err();
    assert_eq!(stale.kind, ErrorKind::Conflict);
    let absent = store
        .commit(vec![write("z", Expect::Version(1), "3")])
        .await
        .unwrap_err();
    assert_eq!(absent.kind, ErrorKind::Conflict);

    let record = store.get(RecordKind::Vm, "a").await.unwrap().unwrap();
    assert_eq!((record.version, record.value.as_ref()), (2, b"2".as_slice()));
    assert_eq!(store.get(RecordKind::Image, "a").await.unwrap(), None);

    let removal = Write {
        value: None,
        ..write("a", Expect::Version(2), "")
    };
    assert_eq!(store.commit(vec![removal]).await.unwrap(), [0]);
    assert_eq!(store.get(RecordKind::Vm, "a").await.unwrap(), None);
    store
        .commit(vec![write("a", Expect::Absent, "new")])
        .await
        .unwrap();
}

pub(super) async fn one_transaction_cannot_write_a_key_twice(rig: &mut impl Rig) {
    let store = rig.store();
    let refused = store
        .commit(vec![write("a", Expect::Any, "1"), write("a", Expect::Any, "2")])
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Internal);
    assert_eq!(store.get(RecordKind::Vm, "a").await.unwrap(), None);
}

pub(super) async fn racing_writers_lose_no_update(rig: &mut impl Rig) {
    let store = rig.store();
    store
        .commit(vec![write("sum", Expect::Absent, "0")])
        .await
        .unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..5 {
                    loop {
                        let old = store.get(RecordKind::Vm, "sum").await.unwrap().unwrap();
                        let sum: u64 = std::str::from_utf8(&old.value).unwrap().parse().unwrap();
                        let next = write("sum", Expect::Version(old.version), &(sum + 1).to_string());
                        match store.commit(vec![next]).await {
                            Ok(_) => break,
                            Err(error) => assert_eq!(error.kind, ErrorKind::Conflict),
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let sum = store.get(RecordKind::Vm, "sum").await.unwrap().unwrap();
    assert_eq!((sum.value.as_ref(), sum.version), (b"40".as_slice(), 41));
}

pub(super) async fn allocated_numbers_never_repeat(rig: &mut impl Rig) {
    let other = rig.other().await;
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let store = if number % 2 == 0 {
                rig.store()
            } else {
                Arc::clone(&other)
            };
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for count in 1..=5 {
                    let first = store.allocate("guest", count).await.unwrap();
                    mine.extend(first..first + count);
                }
                mine
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all.sort_unstable();
    assert_eq!(all, (1..=16 * 15).collect::<Vec<u64>>());
    assert_eq!(rig.store().allocate("another", 1).await.unwrap(), 1);
}

pub(super) async fn health_says_what_it_is(rig: &mut impl Rig) {
    let text = rig.store().health().await.unwrap();
    assert!(text == "embedded" || text.starts_with("redis "), "{text}");
}
