//! What only the Redis store has: the server's settings, its failures, and what stands in its keys.

use ::redis::{Client, Cmd, FromRedisValue};
use bytes::Bytes;

use super::*;
use crate::command::{Command, CreateVm};
use crate::error::ErrorKind;
use crate::model::{Firmware, TenantId, VmId, VmSpec};
use crate::secret::{Keyring, Sealed, Secret};
use crate::store::Expect;
use crate::store::suite::{RedisServer, connect};

const PATIENCE: Duration = Duration::from_secs(20);

fn setting(key: impl std::fmt::Display, value: &str) -> Write {
    Write {
        kind: RecordKind::Setting,
        key: key.to_string(),
        expect: Expect::Any,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
    }
}

/// A job that makes a VM with this password.
fn create(password: Option<Sealed>) -> Job {
    let vm = VmId::random();
    let command = Command::CreateVm(Box::new(CreateVm {
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
    }));
    Job {
        id: JobId::random(),
        subjects: command.subjects(),
        command,
        command_version: COMMAND_VERSION,
        backend: BackendId::new("east"),
        tenant: TenantId::new("acme"),
        dialect: "zstack".to_owned(),
        operation: "create".to_owned(),
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

fn admission(worker: Option<&str>) -> Admission {
    Admission {
        when_busy: WhenBusy::Queue,
        claim_for: worker.map(|worker| (WorkerId(worker.to_owned()), Duration::from_secs(60))),
    }
}

/// Asks the server past the store.
async fn raw<T: FromRedisValue>(server: &RedisServer, command: &Cmd) -> T {
    let client = Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    command.query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_server_that_would_lose_or_split_the_data_is_refused() {
    let evicting =
        RedisServer::start_with(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let refused = RedisStore::connect(&evicting.url(), DEFAULT_PREFIX)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidInput);
    assert!(refused.detail.contains("noeviction"), "{}", refused.detail);

    let cluster = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    let refused = RedisStore::connect(&cluster.url(), DEFAULT_PREFIX)
        .await
        .unwrap_err();
    assert!(refused.detail.contains("is a cluster"), "{}", refused.detail);
}

#[tokio::test]
async fn an_unusable_address_is_refused_without_repeating_its_password() {
    for url in [
        "http://:made-up-secret@x/",
        "redis://:made-up-secret@127.0.0.1:1/",
    ] {
        let refused = RedisStore::connect(url, DEFAULT_PREFIX).await.unwrap_err();
        assert!(!format!("{refused:?}").contains("made-up"), "{refused:?}");
    }
}

#[tokio::test]
async fn keys_of_another_format_are_refused() {
    let server = RedisServer::start().await;
    drop(connect(&server).await);
    let mut command = ::redis::cmd("HSET");
    command.arg("test:1:meta").arg("format").arg(link::FORMAT + 1);
    raw::<()>(&server, &command).await;
    let refused = RedisStore::connect(&server.url(), "test:1:").await.unwrap_err();
    assert!(refused.detail.contains("format 2"), "{}", refused.detail);
}

#[tokio::test]
async fn all_keys_have_the_prefix_and_prefixes_are_worlds_apart() {
    let server = RedisServer::start().await;
    let (one, two) = (
        connect(&server).await,
        RedisStore::connect(&server.url(), "other:1:").await.unwrap(),
    );
    let job = create(None);
    one.submit(&job, vec![setting("a", "1")], admission(Some("w")))
        .await
        .unwrap();
    one.submit(&create(None), Vec::new(), admission(None))
        .await
        .unwrap();
    one.allocate("guest", 1).await.unwrap();
    one.lease("reaper", &WorkerId("w".to_owned()), PATIENCE)
        .await
        .unwrap();
    let keys: Vec<String> = raw(&server, ::redis::cmd("KEYS").arg("*")).await;
    assert!(keys.len() > 10, "{keys:?}");
    for key in &keys {
        assert!(
            key.starts_with("test:1:") || key == "other:1:meta",
            "{key} lacks the prefix"
        );
    }
    assert_eq!(two.job(job.id).await.unwrap(), None);
    assert_eq!(two.load(RecordKind::Setting).await.unwrap(), []);
}

#[tokio::test]
async fn no_key_keeps_an_erased_secret() {
    let server = RedisServer::start().await;
    let store = connect(&server).await;
    let sealed = Keyring::ephemeral().seal(&Secret::new("made-up")).unwrap();
    let text = serde_json::to_value(&sealed).unwrap()["text"]
        .as_str()
        .unwrap()
        .to_owned();
    let job = create(Some(sealed));
    let record = setting("vm", &format!("{{\"password\":\"{text}\"}}"));
    let submitted = store
        .submit(&job, vec![record], admission(Some("w")))
        .await
        .unwrap();
    let Submitted::Claimed(claim) = submitted else {
        panic!("not claimed: {submitted:?}");
    };
    let undo = serde_json::json!({ "password": text });
    let entry = JournalEntry::Begun {
        step: "define".to_owned(),
        at: Timestamp::now(),
        undo: Some(undo),
    };
    store.journal(&claim, &entry).await.unwrap();
    assert!(dump(&server).await.contains(&text));

    let end = JobEnd {
        state: JobState::Succeeded,
        error: None,
        left_behind: Vec::new(),
        command: Some(create(None).command),
        result: None,
    };
    store
        .finish(&claim, &end, vec![setting("vm", "{}")])
        .await
        .unwrap();
    assert!(!dump(&server).await.contains(&text), "the secret is still there");
}

/// Everything that is stored, as text.
async fn dump(server: &RedisServer) -> String {
    let keys: Vec<String> = raw(server, ::redis::cmd("KEYS").arg("*")).await;
    let mut text = String::new();
    for key in keys {
        let kind: String = raw(server, ::redis::cmd("TYPE").arg(&key)).await;
        let command = match kind.as_str() {
            "string" => ::redis::cmd("GET").arg(&key).clone(),
            "hash" => ::redis::cmd("HGETALL").arg(&key).clone(),
            "list" => ::redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).clone(),
            "zset" => ::redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).clone(),
            "stream" => ::redis::cmd("XRANGE").arg(&key).arg("-").arg("+").clone(),
            other => panic!("{key} is a {other}"),
        };
        let value: ::redis::Value = raw(server, &command).await;
        write_text(&value, &mut text);
    }
    text
}

fn write_text(value: &::redis::Value, text: &mut String) {
    match value {
        ::redis::Value::BulkString(bytes) => {
            text.push_str(&String::from_utf8_lossy(bytes));
            text.push('\n');
        }
        ::redis::Value::Array(values) => values.iter().for_each(|value| write_text(value, text)),
        ::redis::Value::Map(pairs) => pairs.iter().for_each(|(key, value)| {
            write_text(key, text);
            write_text(value, text);
        }),
        _ => {}
    }
}

#[tokio::test]
async fn an_ended_job_leaves_no_trace_in_lines_and_streams() {
    let server = RedisServer::start().await;
    let store = connect(&server).await;
    let worker = WorkerId("w".to_owned());
    for direct in [true, false] {
        let job = create(None);
        let submitted = store
            .submit(&job, Vec::new(), admission(direct.then_some("w")))
            .await
            .unwrap();
        let claim = match submitted {
            Submitted::Claimed(claim) => claim,
            _ => {
                store
                    .claim(&worker, &[BackendId::new("east")], PATIENCE, PATIENCE)
                    .await
                    .unwrap()
                    .unwrap()
                    .claim
            }
        };
        let end = JobEnd {
            state: JobState::Succeeded,
            error: None,
            left_behind: Vec::new(),
            command: None,
            result: None,
        };
        store.finish(&claim, &end, Vec::new()).await.unwrap();
    }
    let lines: Vec<String> = raw(&server, ::redis::cmd("KEYS").arg("test:1:line:*")).await;
    assert!(lines.is_empty(), "{lines:?}");
    for stream in ["test:1:ready:east:1", "test:1:direct:east:1"] {
        let length: u64 = raw(&server, ::redis::cmd("XLEN").arg(stream)).await;
        assert_eq!(length, 0, "{stream}");
        let (pending, ..): (u64, ::redis::Value, ::redis::Value, ::redis::Value) =
            raw(&server, ::redis::cmd("XPENDING").arg(stream).arg("gateways")).await;
        assert_eq!(pending, 0, "{stream}");
    }
}

#[tokio::test]
async fn a_trimmed_feed_is_a_gap() {
    let server = RedisServer::start().await;
    let store = connect(&server).await;
    for number in 0..10 {
        store.commit(vec![setting(number, "1")]).await.unwrap();
    }
    let mut trim = ::redis::cmd("XTRIM");
    trim.arg("test:1:changes").arg("MAXLEN").arg(3);
    raw::<()>(&server, &trim).await;

    let feed = Arc::new(Feed::default());
    let mut changes = feed.subscribe();
    let reader = Watch::from_start(store.link.clone(), "test:1:".to_owned(), feed);
    let reader = tokio::spawn(reader.run());
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let change = tokio::time::timeout(PATIENCE, changes.recv()).await.unwrap();
        seen.push(match change.unwrap() {
            Change::Gap => "gap".to_owned(),
            Change::Record { key, .. } => key,
            Change::Job(job) => job.id.to_string(),
        });
    }
    reader.abort();
    assert_eq!(seen, ["gap", "7", "8", "9"]);
}

/// The server dies under load and comes back: nobody panics, nothing acknowledged is lost, the same handle
/// works again, and the feed says that it missed something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_is_used_again() {
    let mut server = RedisServer::start().await;
    let store = Arc::new(connect(&server).await);
    let mut changes = store.changes().await.unwrap();
    let east = [BackendId::new("east")];
    let waiting = {
        let (store, east) = (Arc::clone(&store), east.clone());
        tokio::spawn(async move {
            let worker = WorkerId("waiting".to_owned());
            let until = std::time::Instant::now() + PATIENCE;
            loop {
                match store
                    .claim(&worker, &east, PATIENCE, Duration::from_secs(1))
                    .await
                {
                    Ok(Some(claimed)) => return claimed.job.id,
                    Ok(None) => {}
                    Err(error) => assert_eq!(error.kind, ErrorKind::BackendUnavailable, "{error:?}"),
                }
                assert!(std::time::Instant::now() < until, "no job came");
            }
        })
    };
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut failed = 0;
            while failed == 0 {
                let key = format!("k{}", acknowledged.len());
                match store.commit(vec![setting(&key, "1")]).await {
                    Ok(_) => acknowledged.push(key),
                    Err(error) => {
                        assert_eq!(error.kind, ErrorKind::BackendUnavailable, "{error:?}");
                        assert!(error.detail.contains("store"), "{error}");
                        failed += 1;
                    }
                }
            }
            acknowledged
        })
    };
    // The load is on once the feed shows it.
    for _ in 0..20 {
        tokio::time::timeout(PATIENCE, changes.recv())
            .await
            .unwrap()
            .unwrap();
    }
    server.kill();
    let acknowledged = writer.await.unwrap();
    let down = store.health().await.unwrap_err();
    assert_eq!(down.kind, ErrorKind::BackendUnavailable);
    server.revive().await;

    let until = std::time::Instant::now() + PATIENCE;
    while let Err(error) = store.health().await {
        assert_eq!(error.kind, ErrorKind::BackendUnavailable, "{error:?}");
        assert!(std::time::Instant::now() < until, "the store did not heal");
    }
    assert!(acknowledged.len() >= 20);
    for key in &acknowledged {
        let record = store.get(RecordKind::Setting, key).await.unwrap();
        assert!(record.is_some(), "{key} was acknowledged and is lost");
    }
    let job = create(None);
    store.submit(&job, Vec::new(), admission(None)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), job.id);

    let mut gap = false;
    loop {
        match tokio::time::timeout(PATIENCE, changes.recv())
            .await
            .unwrap()
            .unwrap()
        {
            Change::Gap => gap = true,
            Change::Record { .. } | Change::Job(_) if gap => break,
            Change::Record { .. } | Change::Job(_) => {}
        }
        if gap {
            store.commit(vec![setting("after", "1")]).await.unwrap();
        }
    }
}

/// Gateways outlive the server: its restart must not hand their running jobs to others.
#[tokio::test]
async fn a_lease_outlives_a_restart_of_the_server() {
    let mut server = RedisServer::start().await;
    let store = connect(&server).await;
    let submitted = store
        .submit(&create(None), Vec::new(), admission(Some("w")))
        .await
        .unwrap();
    let Submitted::Claimed(claim) = submitted else {
        panic!("not claimed: {submitted:?}");
    };
    server.restart().await;
    let thief = connect(&server).await;
    let (worker, east) = (WorkerId("thief".to_owned()), [BackendId::new("east")]);
    let stolen = thief
        .claim(&worker, &east, PATIENCE, Duration::from_millis(300))
        .await
        .unwrap();
    assert!(stolen.is_none(), "stolen: {stolen:?}");
    store.renew(&claim, Duration::from_millis(1)).await.unwrap();
    let claimed = thief.claim(&worker, &east, PATIENCE, PATIENCE).await.unwrap();
    assert_eq!(claimed.unwrap().claim.epoch, claim.epoch + 1);
}

/// An answer that never arrives: the submit is repeated and recognises its own job.
#[tokio::test]
async fn a_submit_whose_answer_was_lost_is_recognised() {
    let server = RedisServer::start().await;
    let store = connect(&server).await;
    let direct = admission(Some("w"));
    let job = create(None);
    store.submit(&job, Vec::new(), direct.clone()).await.unwrap();
    let own = store
        .stored_by_lost_call(&job, direct.claim_for.as_ref())
        .await
        .unwrap();
    assert!(
        matches!(&own, Some(Submitted::Claimed(claim)) if claim.epoch == 1),
        "{own:?}"
    );
    // Another submitter of the same id sees a known job, not a claim of its own.
    let other = Job {
        submitted: job.submitted + Duration::from_millis(1),
        ..job.clone()
    };
    let foreign = store
        .stored_by_lost_call(&other, direct.claim_for.as_ref())
        .await
        .unwrap();
    assert!(foreign.is_none(), "{foreign:?}");
}

/// A newer release stored a command that this one has never heard of.
#[tokio::test]
async fn a_job_that_cannot_be_read_hides_no_other_and_can_be_cancelled() {
    let server = RedisServer::start().await;
    let store = connect(&server).await;
    let newer = Job {
        command_version: COMMAND_VERSION + 1,
        ..create(None)
    };
    let known = create(None);
    for job in [&newer, &known] {
        store.submit(job, Vec::new(), admission(None)).await.unwrap();
    }
    let mut replace = ::redis::cmd("HSET");
    replace
        .arg(format!("test:1:job:{}", newer.id))
        .arg("command")
        .arg(r#"{"command":"teleport"}"#);
    raw::<()>(&server, &replace).await;

    let listed = store.jobs(&JobFilter::default()).await.unwrap();
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), [known.id]);
    let unreadable = store.job(newer.id).await.unwrap_err();
    assert!(unreadable.detail.contains("by this release"), "{unreadable}");
    store.cancel(newer.id).await.unwrap();
    let mut read = ::redis::cmd("HMGET");
    read.arg(format!("test:1:job:{}", newer.id))
        .arg("state")
        .arg("command");
    let kept: (String, String) = raw(&server, &read).await;
    assert_eq!(
        kept,
        ("cancelled".to_owned(), r#"{"command":"teleport"}"#.to_owned())
    );
}

/// A server that hangs: calls end with an error in bounded time, and work when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_reported() {
    let server = RedisServer::start().await;
    let store = connect(&server).await;
    // PAUSE makes the server sit on all commands of other connections.
    let mut pause = ::redis::cmd("CLIENT");
    pause.arg("PAUSE").arg(3000);
    raw::<()>(&server, &pause).await;
    let silent = store.health().await.unwrap_err();
    assert_eq!(silent.kind, ErrorKind::BackendUnavailable);
    assert!(silent.detail.contains("did not answer"), "{silent}");
    store.commit(vec![setting("after", "1")]).await.unwrap();
}
