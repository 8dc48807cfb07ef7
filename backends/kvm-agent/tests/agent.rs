//! The backend, the frontend and a stand-in agent between which everything goes as it would over the network.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on shall panic"
)]

use std::sync::{Arc, Mutex as Lock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use babelvisor_conformance::testbed::agent::{Agent, Machine, Platform};
use babelvisor_core::backend::{Backend, BackendEvent, CallContext, HandleKeeper, VmRef};
use babelvisor_core::command::PowerAction;
use babelvisor_core::frontend::{Frontend, Request, Routed};
use babelvisor_core::mailbox::Mailbox;
use babelvisor_core::model::{BackendId, JobId, PowerState, SnapshotSpec, Timestamp, VmChange, VmId};
use babelvisor_core::secret::Keyring;
use babelvisor_core::store::embedded::EmbeddedStore;
use babelvisor_core::{ErrorKind, Result};
use babelvisor_kvm_agent::{KvmAgentBackend, KvmAgentConfig};
use babelvisor_kvm_task_feed::KvmTaskFeed;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

const SERIAL: &str = "CAS1000000000";
const PATIENCE: Duration = Duration::from_secs(20);

/// The frontend in place of the network.
struct InProcess(Arc<dyn Frontend>);

#[async_trait]
impl Platform for InProcess {
    async fn post(&self, path: &str, body: String) -> (u16, String) {
        let serial = path.strip_prefix("/api/task/").map(|rest| rest.trim_matches('/'));
        let routed = Routed {
            operations: vec![if serial.is_some() {
                "feed.task"
            } else {
                "feed.report"
            }],
            params: vec![("sn", serial.unwrap_or_default().to_owned())],
        };
        let request = Request {
            method: "POST".to_owned(),
            path: path.to_owned(),
            body: body.into(),
            peer: "127.0.0.1:1".to_owned(),
            ..Request::default()
        };
        let reply = self.0.answer(routed, request).await;
        (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
    }
}

struct Host {
    backend: Arc<KvmAgentBackend>,
    platform: Arc<InProcess>,
    agent: Arc<Mutex<Agent>>,
    mailbox: Arc<Mailbox>,
    _directory: tempfile::TempDir,
}

fn host(machines: &[(&str, bool)], config: KvmAgentConfig) -> Host {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&directory.path().join("store.redb")).unwrap();
    let mailbox = Mailbox::new(Arc::new(store));
    let served = babelvisor_kvm_task_feed::Agent {
        serial: SERIAL.to_owned(),
        source: None,
        credential: None,
    };
    let feed = KvmTaskFeed::new(mailbox.clone(), &Default::default(), vec![served]);
    let mut agent = Agent::new(SERIAL);
    for (name, running) in machines {
        agent.machines.insert((*name).to_owned(), Machine::new(*running));
    }
    Host {
        backend: backend(&mailbox, config),
        platform: Arc::new(InProcess(feed)),
        agent: Arc::new(Mutex::new(agent)),
        mailbox,
        _directory: directory,
    }
}

fn backend(mailbox: &Arc<Mailbox>, config: KvmAgentConfig) -> Arc<KvmAgentBackend> {
    KvmAgentBackend::new(BackendId::new("kvm"), config, mailbox.clone()).unwrap()
}

fn config() -> KvmAgentConfig {
    KvmAgentConfig {
        serial: SERIAL.to_owned(),
        ..KvmAgentConfig::default()
    }
}

fn vm(name: &str) -> VmRef {
    VmRef {
        id: VmId::computed(&BackendId::new("kvm"), name),
        native: name.to_owned(),
    }
}

fn call() -> CallContext {
    CallContext {
        job: Some(JobId::random()),
        ..CallContext::plain(Instant::now() + PATIENCE, Arc::new(Keyring::ephemeral()))
    }
}

impl Host {
    /// One round of the agent.
    async fn round(&self) {
        self.agent.lock().await.round(&*self.platform).await.unwrap();
    }

    /// Rounds without end, as quick as they go, until the guard is dropped.
    async fn at_work(&self) -> AtWork {
        self.round().await;
        let (agent, platform) = (self.agent.clone(), self.platform.clone());
        AtWork(tokio::spawn(async move {
            loop {
                // Held for the whole round: whoever looks sees what the agent has told.
                agent.lock().await.round(&*platform).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }))
    }

    /// The kinds of the tasks that it was given.
    async fn given(&self) -> Vec<u64> {
        let agent = self.agent.lock().await;
        let kinds = agent.given.iter().map(|task| task["type"].as_u64().unwrap());
        kinds.collect()
    }

    async fn machine(&self, name: &str) -> Option<Machine> {
        self.agent.lock().await.machines.get(name).cloned()
    }

    async fn power(&self, name: &str) -> PowerState {
        self.backend.get(&call(), &vm(name)).await.unwrap().unwrap().power
    }
}

struct AtWork(JoinHandle<()>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test]
async fn a_host_is_unavailable_until_it_reports_and_after_it_falls_silent() {
    let host = host(
        &[("web", true)],
        KvmAgentConfig {
            lost_after_ms: 300,
            ..config()
        },
    );
    let (out, mut events) = mpsc::channel(16);
    let watching = host.backend.clone();
    let _watch = AtWork(tokio::spawn(async move { watching.watch(out).await }));
    let mut next = async || {
        tokio::time::timeout(PATIENCE, events.recv())
            .await
            .unwrap()
            .unwrap()
    };
    assert!(matches!(next().await, BackendEvent::Down(_)));
    assert_eq!(
        host.backend.list(&call()).await.unwrap_err().kind,
        ErrorKind::BackendUnavailable
    );
    host.round().await;
    let BackendEvent::Topology(topology) = next().await else {
        panic!("the topology comes first")
    };
    assert_eq!(topology.hosts[0].cpus, 8);
    assert!(matches!(next().await, BackendEvent::Resync(all) if all.len() == 1));
    loop {
        match next().await {
            BackendEvent::Changed(facts) => assert_eq!(facts.name, "web"),
            BackendEvent::Topology(_) => {}
            BackendEvent::Down(reason) => {
                assert!(reason.to_string().contains("has not reported since"), "{reason}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn power_is_one_task_each_and_already_so_is_none() {
    let host = host(&[("web", false)], config());
    let _agent = host.at_work().await;
    for (action, state, tasks) in [
        (PowerAction::ForceOff, PowerState::Off, 0),
        (PowerAction::Start, PowerState::Running, 1),
        (PowerAction::Start, PowerState::Running, 1),
        (PowerAction::Reset, PowerState::Running, 2),
        (PowerAction::ForceOff, PowerState::Off, 3),
    ] {
        host.backend.power(&call(), &vm("web"), action).await.unwrap();
        assert_eq!(host.power("web").await, state, "at once, {action:?}");
        assert_eq!(host.given().await, vec![20; tasks], "{action:?}");
    }
    {
        let agent = host.agent.lock().await;
        assert!(agent.given.iter().all(|task| task.get("boot_type").is_none()));
    }
    let refused = host
        .backend
        .power(&call(), &vm("web"), PowerAction::Suspend)
        .await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Unsupported);
    let absent = host
        .backend
        .power(&call(), &vm("nowhere"), PowerAction::Start)
        .await;
    assert_eq!(absent.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn snapshots_changes_and_deletion_are_tasks() {
    let host = host(&[("web", false), ("db", true)], config());
    let _agent = host.at_work().await;
    let snapshot = SnapshotSpec {
        name: "before".to_owned(),
        title: String::new(),
        memory: false,
        disks: None,
    };
    let backend = &host.backend;
    let web = vm("web");
    for _ in 0..2 {
        let made = backend.create_snapshot(&call(), &web, &snapshot).await.unwrap();
        assert_eq!(made.name, "before");
    }
    backend.revert_snapshot(&call(), &web, "before").await.unwrap();
    let absent = backend.revert_snapshot(&call(), &web, "after").await;
    assert_eq!(absent.unwrap_err().kind, ErrorKind::NotFound);
    for _ in 0..2 {
        backend.delete_snapshot(&call(), &web, "before").await.unwrap();
        assert_eq!(backend.snapshots(&call(), &web).await.unwrap(), []);
    }
    let running = backend.create_snapshot(&call(), &vm("db"), &snapshot).await;
    assert_eq!(running.unwrap_err().kind, ErrorKind::IllegalState);

    let cpu = VmChange::Cpu {
        current: 4,
        max: 4,
        topology: None,
    };
    for _ in 0..2 {
        backend.change(&call(), &web, &cpu).await.unwrap();
        let facts = backend.get(&call(), &web).await.unwrap().unwrap();
        assert_eq!((facts.cpu.max, facts.memory.max), (4, 512 << 20));
    }
    let on_running = backend.change(&call(), &vm("db"), &cpu).await;
    assert_eq!(on_running.unwrap_err().kind, ErrorKind::IllegalState);

    for _ in 0..2 {
        backend.undefine(&call(), &web).await.unwrap();
        assert_eq!(backend.get(&call(), &web).await.unwrap(), None);
    }
    assert_eq!(host.machine("web").await, None);
    assert_eq!(host.given().await, [4, 5, 7, 2, 3]);
}

#[tokio::test]
async fn the_agents_words_end_the_call() {
    let host = host(&[("web", true)], config());
    host.round().await;
    // Somebody switches it off at the host, and the report is still to come.
    host.agent.lock().await.machines.get_mut("web").unwrap().state = 5;
    let backend = host.backend.clone();
    let stop = tokio::spawn(async move { backend.power(&call(), &vm("web"), PowerAction::ForceOff).await });
    let given = async || {
        while host.mailbox.tasks(SERIAL).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, given()).await.unwrap();
    host.round().await;
    let error = stop.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::IllegalState);
    assert!(error.to_string().contains("domain is not running"), "{error}");
}

#[tokio::test]
async fn an_agent_that_never_says_how_it_ended_is_waited_for_no_longer_than_agreed() {
    let host = host(
        &[("web", false)],
        KvmAgentConfig {
            age_ms: 200,
            finish_ms: 200,
            ..config()
        },
    );
    host.round().await;
    let unfetched = host.backend.power(&call(), &vm("web"), PowerAction::Start).await;
    assert_eq!(unfetched.unwrap_err().kind, ErrorKind::Timeout);
    host.agent.lock().await.idle = true;
    let _agent = host.at_work().await;
    let silent = host.backend.power(&call(), &vm("web"), PowerAction::Start).await;
    let silent = silent.unwrap_err();
    assert_eq!(silent.kind, ErrorKind::Timeout);
    assert!(silent.to_string().contains("was fetched"), "{silent}");
    assert_eq!(host.given().await, [20]);
}

/// Remembers the handle, as a job's journal does.
#[derive(Default)]
struct Journal(Lock<Option<String>>);

#[async_trait]
impl HandleKeeper for Journal {
    async fn keep(&self, handle: &str) -> Result<()> {
        *self.0.lock().unwrap() = Some(handle.to_owned());
        Ok(())
    }
}

#[tokio::test]
async fn a_gateway_that_starts_again_goes_on_waiting_for_the_same_task() {
    let host = host(&[("web", false)], config());
    host.round().await;
    let journal = Arc::new(Journal::default());
    let first = CallContext {
        keeper: Some(journal.clone()),
        ..call()
    };
    let (backend_of_first, job) = (host.backend.clone(), first.job);
    let cut_off = tokio::spawn(async move {
        backend_of_first
            .power(&first, &vm("web"), PowerAction::Start)
            .await
    });
    let put = async || {
        while host.mailbox.tasks(SERIAL).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, put()).await.unwrap();
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());

    let handle = journal.0.lock().unwrap().clone();
    let again = CallContext {
        job,
        handle,
        begun: Some(Timestamp::UNIX_EPOCH),
        ..call()
    };
    let _agent = host.at_work().await;
    let second = backend(&host.mailbox, config());
    second
        .power(&again, &vm("web"), PowerAction::Start)
        .await
        .unwrap();
    assert_eq!(host.given().await, [20], "exactly one");
    assert_eq!(host.machine("web").await.unwrap().state, 1);

    // A second try in the same process knows the job, but its handle has not come back from the journal.
    let without = CallContext {
        handle: None,
        job: Some(JobId::random()),
        ..again
    };
    for _ in 0..2 {
        second
            .power(&without, &vm("web"), PowerAction::Reset)
            .await
            .unwrap();
        assert_eq!(host.given().await, [20, 20], "one for both tries");
    }
}
