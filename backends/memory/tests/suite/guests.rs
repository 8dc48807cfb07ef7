//! Defining, undefining, console, addresses, topology.

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::{Backend as _, VmRef};
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{AgentState, GraphicsKind, NicSource, NicSpec, PowerState, VmId};
use babelvisor_core::secret::Secret;
use babelvisor_memory::{ForeignVm, MemoryConfig};

use crate::bench::{Bench, GIB, blank, kind, layer, refer, small, spec};

#[tokio::test]
async fn a_vm_is_defined_as_the_spec_says() {
    let bench = Bench::small();
    let (call, id) = (bench.call(), VmId::random());
    let mut wanted = spec("web");
    wanted.volumes = vec![layer("web-root", 10 * GIB), blank("web-data", 5 * GIB)];
    wanted.console_password = Some(bench.keyring.seal(&Secret::new("made-up 3")).unwrap());
    wanted.nics.push(NicSpec {
        source: NicSource::User,
        mac: Some("52:54:00:AA:00:01".to_owned()),
        model: None,
    });
    let mut disks = Vec::new();
    for volume in &wanted.volumes {
        disks.push(bench.backend.create_volume(&call, volume).await.unwrap());
    }
    let seed = bench
        .backend
        .create_seed(&call, id, "default", "web-seed", &bench.setup("made-up 4"))
        .await
        .unwrap();

    let facts = bench
        .backend
        .define(&call, id, &wanted, &disks, Some(&seed))
        .await
        .unwrap();

    assert_eq!(
        (facts.id, facts.name.as_str(), facts.power),
        (id, "web", PowerState::Off)
    );
    assert_eq!((facts.cpu.current, facts.memory.current), (2, 4 * GIB));
    assert_eq!(facts.made_by, call.job);
    let targets: Vec<_> = facts
        .disks
        .iter()
        .map(|disk| (disk.target.as_str(), disk.root))
        .collect();
    assert_eq!(targets, [("vda", true), ("vdb", false)]);
    let named: Vec<_> = facts
        .disks
        .iter()
        .map(|disk| {
            let volume = disk.volume.clone().unwrap();
            (volume.pool, volume.name)
        })
        .collect();
    assert_eq!(
        named,
        [("default", "web-root"), ("default", "web-data")].map(|(p, n)| (p.to_owned(), n.to_owned()))
    );
    assert_eq!(facts.removable[0].source.as_deref(), Some(seed.native.as_str()));
    assert_eq!(facts.nics[1].mac, "52:54:00:aa:00:01");
    assert!(facts.graphics[0].has_password);
    let definition = facts.definition.clone().unwrap();
    assert!(definition.contains("The web") && definition.contains("web-root"));
    assert!(!definition.contains("made-up"));

    for _ in 0..9 {
        let again = bench
            .backend
            .define(&call, id, &wanted, &disks, Some(&seed))
            .await;
        assert_eq!(again.unwrap(), facts);
    }
    assert_eq!(bench.backend.list(&call).await.unwrap(), [facts]);
}

#[tokio::test]
async fn an_id_or_name_of_somebody_else_is_refused() {
    let bench = Bench::small();
    let vm = bench.defined("web").await;
    let same_id = bench
        .backend
        .define(&bench.call(), vm.id, &spec("other"), &[], None)
        .await;
    assert_eq!(kind(same_id), ErrorKind::AlreadyExists);
    let same_name = bench
        .backend
        .define(&bench.call(), VmId::random(), &spec("web"), &[], None)
        .await;
    assert_eq!(kind(same_name), ErrorKind::AlreadyExists);
    assert_eq!(bench.control.vms().len(), 1);
}

#[tokio::test]
async fn a_spec_that_cannot_be_is_refused_and_leaves_nothing() {
    let bench = Bench::small();
    let nic = |source, mac: Option<&str>| NicSpec {
        source,
        mac: mac.map(str::to_owned),
        model: None,
    };
    let change = |change: &dyn Fn(&mut babelvisor_core::model::VmSpec)| {
        let mut wanted = spec("web");
        change(&mut wanted);
        wanted
    };
    let cases = [
        (
            change(&|spec| spec.name = "a/b".to_owned()),
            ErrorKind::InvalidInput,
        ),
        (change(&|spec| spec.vcpus = 0), ErrorKind::InvalidInput),
        (change(&|spec| spec.memory = 0), ErrorKind::InvalidInput),
        (
            change(&|spec| spec.volumes = vec![blank("gone", GIB)]),
            ErrorKind::InvalidInput,
        ),
        (
            change(&|spec| spec.nics = vec![nic(NicSource::User, Some("zz"))]),
            ErrorKind::InvalidInput,
        ),
        (
            change(&|spec| spec.nics = vec![nic(NicSource::Network("none".to_owned()), None)]),
            ErrorKind::NotFound,
        ),
        (change(&|spec| spec.vcpus = 1_000_000), ErrorKind::NoResources),
        (change(&|spec| spec.memory = u64::MAX), ErrorKind::NoResources),
    ];
    for (wanted, expected) in cases {
        let refused = bench
            .backend
            .define(&bench.call(), VmId::random(), &wanted, &[], None)
            .await;
        assert_eq!(kind(refused), expected, "{wanted:?}");
    }
    assert_eq!(bench.control.vms(), []);
}

#[tokio::test]
async fn a_volume_serves_one_vm_and_must_exist() {
    let bench = Bench::small();
    let call = bench.call();
    let volume = bench
        .backend
        .create_volume(&call, &blank("a", GIB))
        .await
        .unwrap();
    let mut wanted = spec("one");
    wanted.volumes = vec![blank("a", GIB)];
    let disks = [volume];
    let one = bench
        .backend
        .define(&call, VmId::random(), &wanted, &disks, None)
        .await
        .unwrap();
    wanted.name = "two".to_owned();
    let two = bench
        .backend
        .define(&call, VmId::random(), &wanted, &disks, None)
        .await;
    assert_eq!(kind(two), ErrorKind::IllegalState);
    bench.backend.undefine(&call, &refer(&one)).await.unwrap();
    bench.backend.delete_volume(&call, "default", "a").await.unwrap();
    let gone = bench
        .backend
        .define(&call, VmId::random(), &wanted, &disks, None)
        .await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
}

#[tokio::test]
async fn undefining_ten_times_is_undefining_once_and_never_while_up() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    assert_eq!(
        kind(bench.backend.undefine(&bench.call(), &vm).await),
        ErrorKind::IllegalState
    );
    bench.power(&vm, PowerAction::ForceOff).await.unwrap();
    for _ in 0..10 {
        bench.backend.undefine(&bench.call(), &vm).await.unwrap();
    }
    assert_eq!(bench.backend.get(&bench.call(), &vm).await.unwrap(), None);
    bench.defined("web").await;
}

#[tokio::test]
async fn addresses_ports_and_memory_belong_to_running_vms() {
    let bench = Bench::small();
    let free = async || {
        let topology = bench.backend.topology(&bench.call()).await.unwrap();
        topology.hosts[0].memory_free.unwrap()
    };
    let before = free().await;
    let vm = bench.running("web").await;
    let up = bench.control.vm(vm.id).unwrap();
    let address = up.nics[0].addresses[0];
    assert!(address.to_string().starts_with("10."));
    assert_eq!(up.agent, AgentState::Connected);
    assert_eq!(before - free().await, 4 * GIB);
    let console = bench.backend.console(&bench.call(), &vm).await.unwrap();
    assert_eq!(
        (console.kind, console.host.as_str(), console.port),
        (GraphicsKind::Vnc, "127.0.0.1", 5900)
    );

    bench.power(&vm, PowerAction::ForceOff).await.unwrap();
    let off = bench.control.vm(vm.id).unwrap();
    assert!(off.nics[0].addresses.is_empty() && off.graphics[0].port.is_none());
    assert_eq!(free().await, before);
    let refused = bench.backend.console(&bench.call(), &vm).await;
    assert_eq!(kind(refused), ErrorKind::IllegalState);

    bench.power(&vm, PowerAction::Start).await.unwrap();
    assert_eq!(bench.control.vm(vm.id).unwrap().nics[0].addresses, [address]);
}

#[tokio::test]
async fn two_consoles_have_two_ports() {
    let bench = Bench::small();
    let (one, two) = (bench.running("one").await, bench.running("two").await);
    let port = async |vm| bench.backend.console(&bench.call(), vm).await.unwrap().port;
    assert_ne!(port(&one).await, port(&two).await);
}

#[tokio::test]
async fn the_console_password_is_set_and_read() {
    let bench = Bench::small();
    let vm = bench.running("web").await;
    assert_eq!(
        bench.backend.console_password(&bench.call(), &vm).await.unwrap(),
        None
    );
    for _ in 0..10 {
        bench
            .backend
            .set_console_password(&bench.call(), &vm, &Secret::new("made-up 5"))
            .await
            .unwrap();
    }
    let read = bench.backend.console_password(&bench.call(), &vm).await.unwrap();
    assert_eq!(read.unwrap().expose(), "made-up 5");
    assert!(bench.control.vm(vm.id).unwrap().graphics[0].has_password);
}

#[tokio::test]
async fn a_vm_that_does_not_exist_is_not_found() {
    let bench = Bench::small();
    let call = bench.call();
    let vm = VmRef {
        id: VmId::random(),
        native: String::new(),
    };
    assert_eq!(bench.backend.get(&call, &vm).await.unwrap(), None);
    assert_eq!(
        kind(bench.backend.power(&call, &vm, PowerAction::Start).await),
        ErrorKind::NotFound
    );
    assert_eq!(kind(bench.backend.console(&call, &vm).await), ErrorKind::NotFound);
    assert_eq!(
        kind(bench.backend.console_password(&call, &vm).await),
        ErrorKind::NotFound
    );
    let set = bench
        .backend
        .set_console_password(&call, &vm, &Secret::new("made-up 6"))
        .await;
    assert_eq!(kind(set), ErrorKind::NotFound);
}

#[tokio::test]
async fn vms_spread_over_the_hosts() {
    let mut config = small();
    config.hosts.count = 3;
    let bench = Bench::new(config);
    for number in 0..9 {
        bench.defined(&format!("vm-{number}")).await;
    }
    let topology = bench.backend.topology(&bench.call()).await.unwrap();
    for host in topology.hosts {
        let here = bench.control.vms().iter().filter(|vm| vm.host == host.id).count();
        assert_eq!(here, 3, "{}", host.name);
    }
}

#[tokio::test]
async fn what_others_do_is_seen() {
    let bench = Bench::new(MemoryConfig::default());
    let mut foreign = ForeignVm::named("theirs");
    foreign.networks = vec!["default".to_owned()];
    foreign.disks = vec![GIB, 2 * GIB];
    let id = bench.control.spawn_foreign_vm(foreign).unwrap();
    let seen = bench.backend.list(&bench.call()).await.unwrap();
    assert_eq!((seen.len(), seen[0].id, seen[0].made_by), (1, id, None));
    assert_eq!(seen[0].disks.len(), 2);
    bench.control.rename_from_outside(id, "ours").unwrap();
    let renamed = bench
        .backend
        .get(&bench.call(), &refer(&seen[0]))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(renamed.name, "ours");
    assert!(renamed.definition.unwrap().contains("ours"));
    bench.control.remove_from_outside(id).unwrap();
    assert_eq!(bench.backend.list(&bench.call()).await.unwrap(), []);
    assert_eq!(kind(bench.control.remove_from_outside(id)), ErrorKind::NotFound);
}
