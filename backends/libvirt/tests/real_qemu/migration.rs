//! A running guest moves between two hosts: two daemons with namespaces and host names of their own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use babelvisor_core::backend::{MigrationTarget, ProgressSink};

use super::*;

/// A second host. It ends with its standard input.
struct SecondHost {
    supervisor: Child,
    directory: tempfile::TempDir,
    uri: String,
}

fn script() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/private-libvirtd.sh");
    root.canonicalize().unwrap().display().to_string()
}

impl SecondHost {
    async fn start() -> SecondHost {
        let directory = tempfile::Builder::new()
            .prefix("bv-second-")
            .tempdir_in("/tmp")
            .unwrap();
        // libvirt refuses to move a guest to a host of the same name.
        let supervisor = Command::new("unshare")
            .args(["--uts", "--", "sh", "-c"])
            .arg("hostname bv-second && exec \"$0\" run \"$1\" --net private")
            .arg(script())
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let ready = directory.path().join("ready");
        let text = eventually("a second libvirtd", 90, async || {
            std::fs::read_to_string(&ready).ok()
        })
        .await;
        let uri = text.lines().find_map(|line| line.strip_prefix("qemu=")).unwrap();
        SecondHost {
            uri: uri.to_owned(),
            supervisor,
            directory,
        }
    }

    fn virsh(&self, arguments: &[&str]) -> String {
        let output = Command::new("virsh")
            .args(["-q", "-c", &self.uri])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn exec(&self, command: &[&str]) {
        let output = Command::new(script())
            .arg("exec")
            .arg(self.directory.path())
            .args(command)
            .output()
            .unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
    }

    fn backend(&self) -> LibvirtBackend {
        let sockets = self.directory.path().join("moves");
        std::fs::create_dir_all(&sockets).unwrap();
        backend(LibvirtConfig {
            accel: Accel::Tcg,
            migrate_uri: Some(self.uri.clone()),
            migrate_data_uri: Some(format!("unix://{}", sockets.display())),
            ..LibvirtConfig::new(self.uri.as_str())
        })
    }
}

impl Drop for SecondHost {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        let _ = self.supervisor.wait();
    }
}

fn first(shared_storage: bool) -> LibvirtBackend {
    backend(LibvirtConfig {
        accel: Accel::Tcg,
        shared_storage,
        ..LibvirtConfig::new(libvirtd().uri_qemu())
    })
}

#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<u8>>);

impl ProgressSink for Heard {
    fn report(&self, percent: u8) {
        self.0.lock().unwrap().push(percent);
    }
}

async fn target(there: &LibvirtBackend) -> MigrationTarget {
    MigrationTarget {
        host: there.topology(&call(30)).await.unwrap().hosts[0].id,
        address: there.migration_address(),
    }
}

async fn booted(lv: &Arc<LibvirtBackend>, name: &str, vm: VmId, volume: &VolumeSpec) {
    let mut watched = Watched::start(lv);
    let disk = lv.create_volume(&call(60), volume).await.unwrap();
    lv.define(
        &call(60),
        vm,
        &spec(name, vec![volume.clone()], NicSource::User),
        &[disk],
        None,
    )
    .await
    .unwrap();
    lv.power(&call(60), &vm_ref(vm), PowerAction::Start)
        .await
        .unwrap();
    watched
        .vm("the agent is connected", 120, vm, |f| {
            f.agent == AgentState::Connected
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_moves_to_another_host_and_can_be_kept_from_it() {
    let second = SecondHost::start().await;
    let (here, there) = (Arc::new(first(true)), second.backend());
    let to = target(&there).await;
    let vm = VmId::random();
    let root = layer(&format!("{vm}-0.qcow2"));
    booted(&here, "moves", vm, &root).await;
    guest::run_inside(libvirtd(), "moves", "echo here > /run/mark").unwrap();

    // Too slow for its deadline: it stays, and runs.
    libvirtd().virsh(&["migrate-setspeed", "moves", "1"]).unwrap();
    let heard = Arc::new(Heard::default());
    let hasty = CallContext {
        progress: Some(heard.clone()),
        ..call(8)
    };
    let late = here.migrate(&hasty, &vm_ref(vm), &to).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::Timeout, "{late}");
    assert_eq!(power_of(&here, vm).await, PowerState::Running);
    assert!(there.get(&call(20), &vm_ref(vm)).await.unwrap().is_none());
    let percents = heard.0.lock().unwrap().clone();
    assert!(percents.iter().any(|p| *p > 0), "{percents:?}");
    // Whoever asked goes away: it is stopped as well.
    let (lv, wish) = (here.clone(), to.clone());
    let gone = tokio::spawn(async move { lv.migrate(&call(60), &vm_ref(vm), &wish).await });
    let job = || libvirtd().virsh(&["domjobinfo", "moves"]).unwrap();
    eventually("the migration under way", 20, async || {
        job().contains("bounded").then_some(())
    })
    .await;
    gone.abort();
    eventually("the migration stopped", 20, async || {
        (!job().contains("bounded")).then_some(())
    })
    .await;
    assert_eq!(power_of(&here, vm).await, PowerState::Running);

    libvirtd().virsh(&["migrate-setspeed", "moves", "1000"]).unwrap();
    here.migrate(&call(90), &vm_ref(vm), &to).await.unwrap();
    assert!(here.get(&call(20), &vm_ref(vm)).await.unwrap().is_none());
    let arrived = facts(&there, vm).await;
    assert_eq!((arrived.power, arrived.host), (PowerState::Running, to.host));
    assert!(arrived.persistent);
    let agent = |command: &str| -> Option<serde_json::Value> {
        let output = Command::new("virsh")
            .args(["-q", "-c", &second.uri, "qemu-agent-command", "moves", command])
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    };
    let read = r#"{"execute":"guest-exec","arguments":{"path":"/bin/cat","arg":["/run/mark"],"capture-output":true}}"#;
    let started = eventually("the agent on the other host", 60, async || agent(read)).await;
    let status = format!(
        r#"{{"execute":"guest-exec-status","arguments":{{"pid":{}}}}}"#,
        started["return"]["pid"]
    );
    let ended = eventually("what the guest remembers", 30, async || {
        agent(&status).filter(|answer| answer["return"]["exited"] == true)
    })
    .await;
    // "here", in base64.
    assert_eq!(ended["return"]["out-data"], "aGVyZQo=");
    // Away from here for a second try is not found; there it is home already.
    let again = here.migrate(&call(30), &vm_ref(vm), &to).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::NotFound, "{again}");
    let home = MigrationTarget {
        host: to.host,
        address: None,
    };
    there.migrate(&call(30), &vm_ref(vm), &home).await.unwrap();

    there
        .power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    there.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    here.delete_volume(&call(30), POOL, &root.name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_takes_its_disk_along_where_storage_is_not_shared() {
    let second = SecondHost::start().await;
    let (here, there) = (Arc::new(first(false)), second.backend());
    let to = target(&there).await;
    // One path that is another directory on each host, and a pool there on both.
    let common = tempfile::Builder::new()
        .prefix("bv-common-")
        .tempdir_in("/tmp")
        .unwrap();
    let path = common.path().display().to_string();
    let pool = common.path().file_name().unwrap().to_str().unwrap().to_owned();
    let (ours, theirs) = (libvirtd().dir().join("own"), second.directory.path().join("own"));
    for own in [&ours, &theirs] {
        std::fs::create_dir_all(own).unwrap();
    }
    libvirtd()
        .exec(&["mount", "--bind", ours.to_str().unwrap(), &path])
        .unwrap();
    second.exec(&["mount", "--bind", theirs.to_str().unwrap(), &path]);
    let create = ["pool-create-as", pool.as_str(), "dir", "--target", path.as_str()];
    libvirtd().virsh(&create).unwrap();
    second.virsh(&create);

    let vm = VmId::random();
    let root = VolumeSpec {
        pool: pool.clone(),
        capacity: 0,
        source: VolumeSource::Copy {
            image: image().display().to_string(),
            format: VolumeFormat::Qcow2,
        },
        ..blank(&pool, &format!("{vm}-0.qcow2"), 0)
    };
    booted(&here, "packs", vm, &root).await;
    here.migrate(&call(120), &vm_ref(vm), &to).await.unwrap();
    assert_eq!(facts(&there, vm).await.power, PowerState::Running);
    assert!(theirs.join(&root.name).exists());
    there
        .power(&call(60), &vm_ref(vm), PowerAction::ForceOff)
        .await
        .unwrap();
    there.undefine(&call(30), &vm_ref(vm)).await.unwrap();
    for lv in [here.as_ref(), &there] {
        lv.delete_volume(&call(30), &pool, &root.name).await.unwrap();
    }
    libvirtd().virsh(&["pool-destroy", &pool]).unwrap();
    libvirtd().exec(&["umount", &path]).unwrap();
}
