//! The one test suite that both stores are held to. A case sees a store only through [`Rig`]; a store joins
//! by giving a rig and one line at the end of this file.

mod calls;
mod crash;
mod feed;
mod hooks;
mod jobs;
mod leases;
mod lines;
mod mailbox;
mod records;
mod redis_server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::embedded::EmbeddedStore;
use super::{
    Admission, Change, Claim, Claimed, Expect, JobEnd, RecordKind, Store, Submitted, WorkerId, Write,
};
use crate::command::{COMMAND_VERSION, Command, Power, PowerAction, Subject, WhenBusy};
use crate::model::{BackendId, Job, JobId, JobState, TenantId, Timestamp, VmId};

use redis_server::redis;
pub(super) use redis_server::{RedisServer, connect};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// A lease that no test outlives.
const LONG: Duration = Duration::from_secs(60);
/// A lease that runs out while the test looks on.
const SHORT: Duration = Duration::from_millis(150);

/// A store under test.
#[async_trait]
trait Rig: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// The store as another gateway sees it; a store for one process gives its only handle.
    async fn other(&self) -> Arc<dyn Store>;
    /// Ends the store as hard as a crash would, and opens what is left of it.
    async fn crash(&mut self);
}

struct EmbeddedRig {
    directory: tempfile::TempDir,
    copies: usize,
    store: Arc<EmbeddedStore>,
}

async fn embedded() -> EmbeddedRig {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&directory.path().join("store-0.redb")).unwrap());
    EmbeddedRig {
        directory,
        copies: 0,
        store,
    }
}

#[async_trait]
impl Rig for EmbeddedRig {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    async fn other(&self) -> Arc<dyn Store> {
        self.store()
    }

    // The file is copied while it is open: the copy was never closed, like a file after a kill.
    async fn crash(&mut self) {
        let path = |number| self.directory.path().join(format!("store-{number}.redb"));
        std::fs::copy(path(self.copies), path(self.copies + 1)).unwrap();
        self.copies += 1;
        self.store = Arc::new(EmbeddedStore::open(&path(self.copies)).unwrap());
    }
}

fn backend() -> BackendId {
    BackendId::new("east")
}

fn worker(name: &str) -> WorkerId {
    WorkerId(name.to_owned())
}

/// A queued job that starts a VM.
fn job_on(vm: VmId) -> Job {
    let command = Command::Power(Power {
        vm,
        action: PowerAction::Start,
    });
    Job {
        id: JobId::random(),
        subjects: command.subjects(),
        command,
        command_version: COMMAND_VERSION,
        backend: backend(),
        tenant: TenantId::new("acme"),
        dialect: "guest-rest".to_owned(),
        operation: "power.start".to_owned(),
        state: JobState::Queued,
        submitted: Timestamp::now(),
        started: None,
        ended: None,
        deadline: Timestamp::now() + Duration::from_secs(600),
        progress: 0,
        cancel_requested: false,
        epoch: 0,
        error: None,
        left_behind: Vec::new(),
        result: None,
        digest: None,
        hook: None,
        note: None,
    }
}

/// A queued job that locks several VMs.
fn job_on_all(vms: &[VmId]) -> Job {
    let mut subjects: Vec<Subject> = vms.iter().map(|vm| Subject::vm(*vm)).collect();
    subjects.sort();
    Job {
        subjects,
        ..job_on(vms[0])
    }
}

fn queue() -> Admission {
    Admission {
        when_busy: WhenBusy::Queue,
        claim_for: None,
    }
}

fn refuse() -> Admission {
    Admission {
        when_busy: WhenBusy::Refuse,
        claim_for: None,
    }
}

fn direct(name: &str, lease: Duration) -> Admission {
    Admission {
        when_busy: WhenBusy::Queue,
        claim_for: Some((worker(name), lease)),
    }
}

fn succeeded() -> JobEnd {
    JobEnd {
        state: JobState::Succeeded,
        error: None,
        left_behind: Vec::new(),
        command: None,
        result: None,
    }
}

fn write(key: &str, expect: Expect, value: &str) -> Write {
    Write {
        kind: RecordKind::Vm,
        key: key.to_owned(),
        expect,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    }
}

/// Submits a job that nothing refuses.
async fn enqueue(store: &dyn Store, job: &Job) {
    let submitted = store.submit(job, Vec::new(), queue()).await.unwrap();
    assert!(matches!(submitted, Submitted::Queued), "{submitted:?}");
}

/// Submits a job that is claimed in the same call.
async fn claim_directly(store: &dyn Store, job: &Job, name: &str, lease: Duration) -> Claim {
    match store.submit(job, Vec::new(), direct(name, lease)).await.unwrap() {
        Submitted::Claimed(claim) => claim,
        other => panic!("not claimed: {other:?}"),
    }
}

/// The claim that must come.
async fn must_claim(store: &dyn Store, name: &str, lease: Duration) -> Claimed {
    store
        .claim(&worker(name), &[backend()], lease, PATIENCE)
        .await
        .unwrap()
        .expect("no job to claim in time")
}

/// That nothing can be claimed now.
async fn nothing_to_claim(store: &dyn Store) {
    let claimed = store
        .claim(&worker("nobody"), &[backend()], LONG, Duration::from_millis(60))
        .await
        .unwrap();
    assert!(claimed.is_none(), "claimed {claimed:?}");
}

/// The next change that `wanted` takes something from.
async fn next_change<T>(changes: &mut mpsc::Receiver<Change>, wanted: impl Fn(&Change) -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let change = tokio::time::timeout(left, changes.recv())
            .await
            .expect("no such change in time")
            .expect("the feed ended");
        if let Some(found) = wanted(&change) {
            return found;
        }
    }
}

/// A job's next state in the feed.
async fn next_state(changes: &mut mpsc::Receiver<Change>, id: JobId) -> JobState {
    next_change(changes, |change| match change {
        Change::Job(job) if job.id == id => Some(job.state),
        _ => None,
    })
    .await
}

macro_rules! hold_to_the_suite {
    ($store:ident: $($family:ident { $($case:ident),* $(,)? })*) => {
        mod $store {$(
            mod $family {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let mut rig = crate::store::suite::$store().await;
                    crate::store::suite::$family::$case(&mut rig).await;
                }
            )*}
        )*}
    };
}

macro_rules! suite_for {
    ($($store:ident)*) => {mod runs {$(
        hold_to_the_suite! { $store:
            records {
                a_commit_is_all_or_nothing,
                versions_count_and_expectations_hold,
                one_transaction_cannot_write_a_key_twice,
                racing_writers_lose_no_update,
                allocated_numbers_never_repeat,
                health_says_what_it_is,
            }
            jobs {
                a_job_is_submitted_claimed_and_finished,
                a_job_brings_its_records_or_is_not_stored,
                the_end_writes_its_records_or_does_not_happen,
                the_same_id_twice_is_known,
                a_free_job_is_claimed_in_the_submit,
                a_job_behind_another_is_not_claimed_in_the_submit,
                only_gateways_of_its_backend_get_a_job,
                a_waiting_worker_is_woken,
                a_queued_job_is_cancelled_at_once,
                a_queued_job_ends_with_its_records_or_not_at_all,
                a_running_job_sees_the_request_to_stop,
                a_job_of_an_unknown_version_stays_queued,
                secrets_are_erased_at_the_end,
                jobs_are_listed_newest_first,
                old_jobs_are_purged,
                what_came_with_a_request_and_what_it_found_are_kept,
            }
            lines {
                one_vm_is_changed_in_order,
                a_taken_vm_refuses_and_stores_nothing,
                a_job_waits_for_all_its_vms,
                a_cancelled_job_lets_the_next_one_pass,
                random_load_never_deadlocks_or_overlaps,
            }
            leases {
                a_lost_lease_hands_over_the_journal_and_fences,
                a_direct_claim_is_recovered_in_the_same_way,
                a_renewed_lease_is_kept,
                finishing_twice_is_harmless,
                a_named_lease_has_one_holder,
            }
            feed {
                changes_arrive_in_order_with_own_ones,
                other_gateways_see_each_others_changes,
            }
            hooks {
                an_end_is_told_once,
                the_end_that_a_worker_writes_is_told,
                a_refusing_address_is_tried_again_after_a_pause,
                tries_come_to_an_end,
                a_silent_address_holds_up_nobody,
                another_gateway_goes_on_when_the_deliverer_dies,
                an_end_before_a_crash_is_told_after_it,
                a_hook_that_is_not_allowed_is_refused_with_its_job,
            }
            calls {
                a_stillborn_call_is_polled_by_whoever_knows_its_id,
                a_source_has_its_share_of_stillborn_calls,
                a_call_that_was_done_at_once_is_polled_by_its_tenant,
                the_same_request_is_the_same_call_and_another_one_a_conflict,
                who_had_no_session_takes_nobodys_id,
                what_a_call_leaves_has_its_hook_and_its_end,
            }
            mailbox {
                a_task_is_handed_out_once_and_its_end_is_heard_elsewhere,
                racing_polls_share_the_tasks,
                kinds_come_in_their_turn_with_ids_of_one_row,
                a_child_waits_for_its_father_and_fails_with_it,
                what_nobody_fetches_expires_and_what_is_not_reported_is_lost,
                who_stops_waiting_takes_back_what_was_not_fetched,
                only_what_was_given_to_a_host_is_believed_of_it,
                tasks_and_reports_outlive_a_crash,
            }
            crash {
                nothing_acknowledged_is_lost,
                epochs_go_on_after_a_crash,
            }
        }
    )*}};
}

suite_for! { embedded redis }
