//! What only the embedded store has: its file, its fsyncs, and what a real kill and a broken disk do to it.

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use redb::StorageBackend;

use super::*;
use crate::error::ErrorKind;
use crate::store::Expect;

fn setting(key: impl std::fmt::Display) -> Write {
    Write {
        kind: RecordKind::Setting,
        key: key.to_string(),
        expect: Expect::Any,
        value: Some(Bytes::from_static(b"1")),
    }
}

#[tokio::test]
async fn the_file_is_its_owners_and_one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let refused = EmbeddedStore::open(&path).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::BackendUnavailable);
    assert!(
        refused.detail.contains("in use by another process"),
        "{}",
        refused.detail
    );
    drop(store);
    EmbeddedStore::open(&path).unwrap();
}

#[test]
fn files_of_newer_releases_and_other_programs_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let create = |name: &str, table: &str, value: u64| -> PathBuf {
        let path = directory.path().join(name);
        let database = Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let definition = redb::TableDefinition::<&str, u64>::new(table);
        transaction
            .open_table(definition)
            .unwrap()
            .insert("format", value)
            .unwrap();
        transaction.commit().unwrap();
        path
    };
    let newer = EmbeddedStore::open(&create("newer", "meta", tables::FORMAT + 1)).unwrap_err();
    assert!(newer.detail.contains("a newer release wrote"), "{}", newer.detail);
    let foreign = EmbeddedStore::open(&create("foreign", "songs", 1)).unwrap_err();
    assert!(foreign.detail.contains("another program"), "{}", foreign.detail);
    let text = directory.path().join("text");
    std::fs::write(&text, "not a database at all").unwrap();
    assert_eq!(
        EmbeddedStore::open(&text).unwrap_err().kind,
        ErrorKind::BackendUnavailable
    );
}

/// A disk in memory that counts fsyncs and can fail.
#[derive(Debug, Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    syncs: AtomicUsize,
    broken: AtomicBool,
}

impl Disk {
    fn bytes(&self) -> io::Result<MutexGuard<'_, Vec<u8>>> {
        if self.broken.load(Ordering::SeqCst) {
            Err(io::Error::other("the disk is broken"))
        } else {
            Ok(self.bytes.lock().unwrap())
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Handle(Arc<Disk>);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes()?.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.bytes()?;
        let offset = usize::try_from(offset).unwrap();
        out.copy_from_slice(&bytes[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.bytes()?.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        drop(self.0.bytes()?);
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        // As long as a disk would take, so that requests gather meanwhile.
        std::thread::sleep(Duration::from_millis(2));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.0.bytes()?;
        let offset = usize::try_from(offset).unwrap();
        bytes[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn on_disk(disk: &Handle) -> EmbeddedStore {
    let disk = disk.clone();
    EmbeddedStore::open_with(Box::new(move || {
        let database = Builder::new()
            .create_with_backend(disk.clone())
            .map_err(unavailable)?;
        tables::prepare(&database, Path::new("memory"))?;
        Ok(database)
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_arrive_together_share_an_fsync() {
    let disk = Handle::default();
    let store = Arc::new(on_disk(&disk));
    let before = disk.0.syncs.load(Ordering::SeqCst);
    let writers: Vec<_> = (0..200)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(vec![setting(number)]).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let syncs = disk.0.syncs.load(Ordering::SeqCst) - before;
    assert!(
        (1..=50).contains(&syncs),
        "{syncs} fsyncs for 200 concurrent commits"
    );
    assert_eq!(store.load(RecordKind::Setting).await.unwrap().len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_disk_fails_requests_and_heals() {
    let disk = Handle::default();
    let store = on_disk(&disk);
    store.commit(vec![setting("kept")]).await.unwrap();
    let mut changes = store.changes().await.unwrap();

    disk.0.broken.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let failed = store.commit(vec![setting("lost")]).await.unwrap_err();
        assert_eq!(failed.kind, ErrorKind::BackendUnavailable);
        assert!(failed.detail.contains("store"), "{}", failed.detail);
    }
    disk.0.broken.store(false, Ordering::SeqCst);

    store.commit(vec![setting("after")]).await.unwrap();
    let keys: Vec<String> = store
        .load(RecordKind::Setting)
        .await
        .unwrap()
        .into_iter()
        .map(|record| record.key)
        .collect();
    assert_eq!(keys, ["after", "kept"]);
    assert!(matches!(changes.recv().await, Some(Change::Gap)));
}

/// A newer release stored a command that this one has never heard of.
#[tokio::test]
async fn a_job_that_cannot_be_read_hides_no_other_and_can_be_cancelled() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let (newer, behind) = (JobId::random(), JobId::random());
    for id in [newer, behind] {
        let job = job(id);
        let admission = Admission {
            when_busy: crate::command::WhenBusy::Queue,
            claim_for: None,
        };
        store.submit(&job, Vec::new(), admission).await.unwrap();
    }
    store
        .write(move |batch| {
            let mut fields = serde_json::to_value(job(newer)).unwrap();
            fields["command"] = serde_json::json!({"command": "teleport"});
            fields["command_version"] = (crate::command::COMMAND_VERSION + 1).into();
            let json = serde_json::to_vec(&fields).unwrap();
            let (number, _) = batch.tables.job(newer)?.unwrap();
            batch
                .tables
                .jobs
                .insert(newer.0.as_u128(), (number, json.as_slice()))?;
            Ok(())
        })
        .await
        .unwrap();
    drop(store);

    let store = EmbeddedStore::open(&path).unwrap();
    let listed = store.jobs(&JobFilter::default()).await.unwrap();
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), [behind]);
    let claim = async || {
        let worker = WorkerId("w".to_owned());
        let lease = Duration::from_secs(60);
        let claimed = store
            .claim(&worker, &[BackendId::new("east")], lease, Duration::ZERO)
            .await
            .unwrap();
        claimed.map(|claimed| claimed.job.id)
    };
    assert_eq!(claim().await, None, "it keeps its place in line");
    store.cancel(newer).await.unwrap();
    assert_eq!(claim().await, Some(behind));
    let kept = store
        .write(move |batch| Ok(batch.tables.job(newer)?.unwrap().1))
        .await
        .unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept["command"]["command"], "teleport");
    assert_eq!(kept["state"], "cancelled");
}

/// A queued job, always on the same VM.
fn job(id: JobId) -> Job {
    let command = crate::command::Command::Power(crate::command::Power {
        vm: crate::model::VmId(uuid::Uuid::nil()),
        action: crate::command::PowerAction::Start,
    });
    Job {
        id,
        subjects: command.subjects(),
        command,
        command_version: crate::command::COMMAND_VERSION,
        backend: BackendId::new("east"),
        tenant: crate::model::TenantId::new("acme"),
        dialect: "guest-rest".to_owned(),
        operation: "power.start".to_owned(),
        state: crate::model::JobState::Queued,
        submitted: Timestamp::now(),
        started: None,
        ended: None,
        deadline: Timestamp::now(),
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

/// The path of the file that [`a_writer_to_be_killed`] writes.
const FILE: &str = "BABELVISOR_TEST_STORE";

/// Not a test of its own: the process that [`a_killed_process_loses_nothing_acknowledged`] starts and kills.
#[tokio::test]
#[ignore = "only run as a child process"]
async fn a_writer_to_be_killed() {
    let Ok(path) = std::env::var(FILE) else {
        return;
    };
    let store = Arc::new(EmbeddedStore::open(Path::new(&path)).unwrap());
    let writers = (0..4).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            for number in 0.. {
                let key = format!("{writer}-{number}");
                store.commit(vec![setting(&key)]).await.unwrap();
                println!("acknowledged {key}");
            }
        }
    });
    futures_util::future::join_all(writers).await;
}

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["store::embedded::tests::a_writer_to_be_killed", "--exact"])
        .args(["--ignored", "--nocapture"])
        .env(FILE, &path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let acknowledged = |line: io::Result<String>| line.ok()?.split("acknowledged ").nth(1).map(str::to_owned);
    let mut keys: Vec<String> = lines.by_ref().filter_map(acknowledged).take(100).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it still said before it died counts as well, but for a line that was cut off.
    let mut rest: Vec<String> = lines.filter_map(acknowledged).collect();
    rest.pop();
    keys.extend(rest);
    assert!(keys.len() >= 100, "the child did not write: {keys:?}");

    let store = EmbeddedStore::open(&path).unwrap();
    for key in &keys {
        let record = store.get(RecordKind::Setting, key).await.unwrap();
        assert!(record.is_some(), "{key} was acknowledged and is lost");
    }
}
