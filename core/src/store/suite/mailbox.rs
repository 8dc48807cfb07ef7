//! The mailbox of agents: each task once, in order, and no end that is forgotten.

use std::collections::HashSet;

use serde_json::{Map, json};

use super::*;
use crate::ErrorKind;
use crate::mailbox::{Father, Mailbox, NewTask, Task, TaskReport, TaskState};

const SERIAL: &str = "CAS1000000000";

fn task(kind: u16, turn: u8) -> NewTask {
    NewTask {
        serial: SERIAL.to_owned(),
        kind,
        turn,
        fields: Map::from_iter([("vm_name".to_owned(), json!("web"))]),
        father: None,
        job: None,
        age: LONG,
        finish: LONG,
    }
}

async fn put(mailbox: &Mailbox, task: NewTask) -> Task {
    let id = mailbox.reserve().await.unwrap();
    mailbox.put(id, task).await.unwrap()
}

async fn taken(mailbox: &Mailbox) -> Vec<u64> {
    let tasks = mailbox.take(SERIAL).await.unwrap();
    tasks.into_iter().map(|task| task.id).collect()
}

fn says(id: u64, status: i64) -> TaskReport {
    TaskReport {
        id,
        status,
        percent: Some(100),
        message: "no such domain".to_owned(),
        ..TaskReport::default()
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

pub(super) async fn a_task_is_handed_out_once_and_its_end_is_heard_elsewhere(rig: &mut impl Rig) {
    let here = Mailbox::new(rig.store());
    let elsewhere = Mailbox::new(rig.other().await);
    let put = put(&here, task(20, 0)).await;
    let waiting = tokio::spawn({
        let here = here.clone();
        async move { here.wait(SERIAL, put.id, soon(), |_| {}).await }
    });
    let given = elsewhere.take(SERIAL).await.unwrap();
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].fields, put.fields);
    assert_eq!(taken(&here).await, [] as [u64; 0]);
    assert_eq!(elsewhere.note(SERIAL, &[says(put.id, 1)]).await.unwrap(), 1);
    assert_eq!(elsewhere.note(SERIAL, &[says(put.id, 2)]).await.unwrap(), 1);
    let ended = waiting.await.unwrap().unwrap();
    assert!(matches!(ended.state, TaskState::Done { .. }));
    assert_eq!(ended.outcome(), Ok(()));
}

pub(super) async fn racing_polls_share_the_tasks(rig: &mut impl Rig) {
    let (one, two) = (Mailbox::new(rig.store()), Mailbox::new(rig.other().await));
    let mut all = HashSet::new();
    for _ in 0..30 {
        all.insert(put(&one, task(20, 0)).await.id);
    }
    let polls = (0..8).map(|place| {
        let mailbox = if place % 2 == 0 { one.clone() } else { two.clone() };
        tokio::spawn(async move { taken(&mailbox).await })
    });
    let mut given = Vec::new();
    for poll in polls {
        given.extend(poll.await.unwrap());
    }
    assert_eq!(given.len(), all.len(), "none twice");
    assert_eq!(HashSet::from_iter(given), all);
}

pub(super) async fn kinds_come_in_their_turn_with_ids_of_one_row(rig: &mut impl Rig) {
    let mailbox = Mailbox::new(rig.store());
    let late = put(&mailbox, task(8, 9)).await.id;
    let first = put(&mailbox, task(1, 0)).await.id;
    let second = put(&mailbox, task(1, 0)).await.id;
    assert!(late < first && first < second);
    assert_eq!(taken(&mailbox).await, [first, second, late]);
}

pub(super) async fn a_child_waits_for_its_father_and_fails_with_it(rig: &mut impl Rig) {
    let mailbox = Mailbox::new(rig.store());
    for (status, inherits) in [(2, true), (-1, false)] {
        let father = put(&mailbox, task(4, 0)).await;
        let mut child = task(20, 0);
        child.father = Some(Father {
            kind: 4,
            id: father.id,
        });
        let child = put(&mailbox, child).await;
        assert_eq!(taken(&mailbox).await, [father.id]);
        assert_eq!(taken(&mailbox).await, [] as [u64; 0], "the father is at work");
        mailbox.note(SERIAL, &[says(father.id, status)]).await.unwrap();
        let released = taken(&mailbox).await;
        if inherits {
            assert_eq!(released, [child.id]);
            let child = mailbox.task(SERIAL, child.id).await.unwrap().unwrap();
            let father = mailbox.task(SERIAL, father.id).await.unwrap().unwrap();
            assert_eq!(Some(child.created), father.ended(), "its age counts from here");
        } else {
            assert_eq!(released, [] as [u64; 0]);
            let ended = mailbox.wait(SERIAL, child.id, soon(), |_| {}).await.unwrap();
            let error = ended.outcome().unwrap_err();
            assert!(error.to_string().contains("its father"), "{error}");
        }
    }
}

pub(super) async fn what_nobody_fetches_expires_and_what_is_not_reported_is_lost(rig: &mut impl Rig) {
    let mailbox = Mailbox::new(rig.store());
    let short = || NewTask {
        age: SHORT,
        finish: SHORT,
        ..task(20, 0)
    };
    let unfetched = put(&mailbox, short()).await.id;
    let ended = mailbox.wait(SERIAL, unfetched, soon(), |_| {}).await.unwrap();
    assert!(matches!(ended.state, TaskState::Expired { .. }));
    assert_eq!(ended.outcome().unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(
        taken(&mailbox).await,
        [] as [u64; 0],
        "it is not handed out any more"
    );

    let silent = put(&mailbox, short()).await.id;
    assert_eq!(taken(&mailbox).await, [silent]);
    let ended = mailbox.wait(SERIAL, silent, soon(), |_| {}).await.unwrap();
    assert!(matches!(ended.state, TaskState::Lost { .. }));
    assert_eq!(ended.outcome().unwrap_err().kind, ErrorKind::Timeout);
    assert_eq!(
        mailbox.note(SERIAL, &[says(silent, 2)]).await.unwrap(),
        0,
        "too late"
    );
}

pub(super) async fn who_stops_waiting_takes_back_what_was_not_fetched(rig: &mut impl Rig) {
    let mailbox = Mailbox::new(rig.store());
    let unfetched = put(&mailbox, task(20, 0)).await.id;
    let ended = mailbox
        .wait(SERIAL, unfetched, Instant::now(), |_| {})
        .await
        .unwrap();
    assert!(matches!(ended.state, TaskState::Withdrawn { .. }));
    assert_eq!(taken(&mailbox).await, [] as [u64; 0]);

    let fetched = put(&mailbox, task(20, 0)).await.id;
    assert_eq!(taken(&mailbox).await, [fetched]);
    let left = mailbox
        .wait(SERIAL, fetched, Instant::now(), |_| {})
        .await
        .unwrap();
    assert_eq!(left.ended(), None);
    assert_eq!(left.outcome().unwrap_err().kind, ErrorKind::Timeout);
}

pub(super) async fn only_what_was_given_to_a_host_is_believed_of_it(rig: &mut impl Rig) {
    let mailbox = Mailbox::new(rig.store());
    let id = put(&mailbox, task(20, 0)).await.id;
    let of_kind = |kind| TaskReport {
        kind: Some(kind),
        ..says(id, 2)
    };
    assert_eq!(
        mailbox.note(SERIAL, &[says(id, 2)]).await.unwrap(),
        0,
        "not fetched"
    );
    assert_eq!(taken(&mailbox).await, [id]);
    assert_eq!(mailbox.note("CAS2", &[says(id, 2)]).await.unwrap(), 0);
    assert_eq!(mailbox.note(SERIAL, &[of_kind(3)]).await.unwrap(), 0);
    assert_eq!(mailbox.note(SERIAL, &[says(id + 1000, 2)]).await.unwrap(), 0);
    assert_eq!(mailbox.note(SERIAL, &[says(id, -1)]).await.unwrap(), 1);
    assert_eq!(
        mailbox.note(SERIAL, &[of_kind(20)]).await.unwrap(),
        0,
        "it has ended"
    );
    let ended = mailbox.wait(SERIAL, id, soon(), |_| {}).await.unwrap();
    assert!(
        ended
            .outcome()
            .unwrap_err()
            .to_string()
            .contains("no such domain")
    );
}

pub(super) async fn tasks_and_reports_outlive_a_crash(rig: &mut impl Rig) {
    let mailbox = Mailbox::new(rig.store());
    let (waiting, given) = (
        put(&mailbox, task(20, 0)).await.id,
        put(&mailbox, task(3, 0)).await.id,
    );
    mailbox
        .keep_report(SERIAL, "vm.conf", json!([{"name": "web"}]))
        .await
        .unwrap();
    mailbox.keep_report("CAS2", "vm.conf", json!([])).await.unwrap();
    assert_eq!(taken(&mailbox).await, [waiting, given]);
    let left = put(&mailbox, task(20, 0)).await.id;
    drop(mailbox);
    rig.crash().await;
    let mailbox = Mailbox::new(rig.store());
    assert_eq!(taken(&mailbox).await, [left], "what was given is not given again");
    let reports = mailbox.reports(SERIAL).await.unwrap();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports["vm.conf"].body, json!([{"name": "web"}]));
    let again = mailbox.put(left, task(3, 0)).await.unwrap();
    assert_eq!(again.kind, 20, "what was put in stays as it is");
}
