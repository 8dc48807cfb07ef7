//! Volumes and seeds.

use std::time::Duration;

use babelvisor_core::ErrorKind;
use babelvisor_core::backend::Backend as _;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{JobId, VmId, VolumeFormat, VolumeSource};
use babelvisor_core::secret::Keyring;

use crate::bench::{Bench, GIB, blank, copy, kind, layer, refer, spec};

async fn available(bench: &Bench) -> u64 {
    let topology = bench.backend.topology(&bench.call()).await.unwrap();
    topology.pools[0].available
}

#[tokio::test]
async fn a_volume_is_made_blank_copied_or_layered() {
    let bench = Bench::small();
    for spec in [blank("a", GIB), copy("b", 3 * GIB), layer("c", 4 * GIB)] {
        let call = bench.call();
        let volume = bench.backend.create_volume(&call, &spec).await.unwrap();
        assert_eq!((volume.name, volume.capacity), (spec.name, spec.capacity));
        assert_eq!(volume.made_by, call.job);
    }
    assert_eq!(bench.control.volumes().len(), 4, "with the image");
    assert_eq!(available(&bench).await, (100 - 2 - 1 - 3 - 4) * GIB);
}

#[tokio::test]
async fn ten_times_the_same_job_is_one_volume() {
    let bench = Bench::small();
    let call = bench.call();
    for spec in [blank("a", GIB), copy("b", 3 * GIB), layer("c", 4 * GIB)] {
        let first = bench.backend.create_volume(&call, &spec).await.unwrap();
        for _ in 0..9 {
            assert_eq!(bench.backend.create_volume(&call, &spec).await.unwrap(), first);
        }
    }
    assert_eq!(bench.control.volumes().len(), 4);
    assert_eq!(available(&bench).await, 90 * GIB);
}

#[tokio::test]
async fn somebody_elses_name_is_refused() {
    let bench = Bench::small();
    bench
        .backend
        .create_volume(&bench.call(), &blank("a", GIB))
        .await
        .unwrap();
    bench
        .control
        .add_volume_from_outside("default", "b", GIB, VolumeFormat::Raw)
        .unwrap();
    for name in ["a", "b"] {
        let again = bench
            .backend
            .create_volume(&bench.call(), &blank(name, GIB))
            .await;
        assert_eq!(kind(again), ErrorKind::AlreadyExists);
    }
    // Without a job nobody can tell whose it is.
    let mut nobody = bench.call();
    nobody.job = None;
    bench
        .backend
        .create_volume(&nobody, &blank("c", GIB))
        .await
        .unwrap();
    let again = bench.backend.create_volume(&nobody, &blank("c", GIB)).await;
    assert_eq!(kind(again), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_full_pool_refuses_and_room_comes_back() {
    let bench = Bench::small();
    bench
        .backend
        .create_volume(&bench.call(), &blank("a", 90 * GIB))
        .await
        .unwrap();
    let too_much = bench
        .backend
        .create_volume(&bench.call(), &blank("b", 9 * GIB))
        .await;
    assert_eq!(kind(too_much), ErrorKind::NoResources);
    bench
        .backend
        .delete_volume(&bench.call(), "default", "a")
        .await
        .unwrap();
    bench
        .backend
        .create_volume(&bench.call(), &blank("b", 98 * GIB))
        .await
        .unwrap();
    assert_eq!(available(&bench).await, 0);
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let bench = Bench::small();
    let raw_layer = babelvisor_core::model::VolumeSpec {
        format: VolumeFormat::Raw,
        ..layer("x", 4 * GIB)
    };
    let wrong_layout = babelvisor_core::model::VolumeSpec {
        source: VolumeSource::Copy {
            image: "debian".to_owned(),
            format: VolumeFormat::Raw,
        },
        ..blank("x", 4 * GIB)
    };
    let no_image = babelvisor_core::model::VolumeSpec {
        source: VolumeSource::Copy {
            image: "plan9".to_owned(),
            format: VolumeFormat::Raw,
        },
        ..blank("x", 4 * GIB)
    };
    let no_pool = babelvisor_core::model::VolumeSpec {
        pool: "none".to_owned(),
        ..blank("x", GIB)
    };
    let cases = [
        (raw_layer, ErrorKind::InvalidInput),
        (wrong_layout, ErrorKind::InvalidInput),
        (layer("x", GIB), ErrorKind::InvalidInput),
        (blank("x", 0), ErrorKind::InvalidInput),
        (blank("../x", GIB), ErrorKind::InvalidInput),
        (blank("x\0", GIB), ErrorKind::InvalidInput),
        (blank("", GIB), ErrorKind::InvalidInput),
        (no_image, ErrorKind::NotFound),
        (no_pool, ErrorKind::NotFound),
        (blank("x", u64::MAX), ErrorKind::NoResources),
    ];
    for (spec, expected) in cases {
        let refused = bench.backend.create_volume(&bench.call(), &spec).await;
        assert_eq!(kind(refused), expected, "{spec:?}");
    }
    assert_eq!(bench.control.volumes().len(), 1, "only the image");
    assert_eq!(available(&bench).await, 98 * GIB);
}

#[tokio::test]
async fn deleting_ten_times_is_deleting_once() {
    let bench = Bench::small();
    bench
        .backend
        .create_volume(&bench.call(), &blank("a", GIB))
        .await
        .unwrap();
    for _ in 0..10 {
        bench
            .backend
            .delete_volume(&bench.call(), "default", "a")
            .await
            .unwrap();
    }
    bench
        .backend
        .delete_volume(&bench.call(), "none", "a")
        .await
        .unwrap();
    assert_eq!(bench.control.volumes().len(), 1);
    assert_eq!(available(&bench).await, 98 * GIB);
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted() {
    let bench = Bench::small();
    let call = bench.call();
    let volume = bench
        .backend
        .create_volume(&call, &layer("root", 4 * GIB))
        .await
        .unwrap();
    let mut wanted = spec("web");
    wanted.volumes = vec![layer("root", 4 * GIB)];
    let facts = bench
        .backend
        .define(&call, VmId::random(), &wanted, &[volume], None)
        .await
        .unwrap();
    let vm = refer(&facts);
    bench.power(&vm, PowerAction::Start).await.unwrap();

    let running = bench.backend.delete_volume(&call, "default", "root").await;
    assert_eq!(kind(running), ErrorKind::IllegalState);
    let base = bench.backend.delete_volume(&call, "default", "debian").await;
    assert_eq!(kind(base), ErrorKind::IllegalState);

    bench.power(&vm, PowerAction::ForceOff).await.unwrap();
    bench
        .backend
        .delete_volume(&call, "default", "root")
        .await
        .unwrap();
    bench
        .backend
        .delete_volume(&call, "default", "debian")
        .await
        .unwrap();
    assert_eq!(bench.control.volumes(), []);
}

#[tokio::test]
async fn a_seed_is_kept_as_it_was_prepared() {
    let bench = Bench::small();
    let (call, vm) = (bench.call(), VmId::random());
    let setup = bench.setup("made-up 1");
    let first = bench
        .backend
        .create_seed(&call, vm, "default", "web-seed", &setup)
        .await
        .unwrap();
    for _ in 0..9 {
        let again = bench
            .backend
            .create_seed(&call, vm, "default", "web-seed", &setup)
            .await;
        assert_eq!(again.unwrap(), first);
    }
    let kept = bench.control.seed(vm).unwrap();
    assert_eq!(
        (&kept.hostname, &kept.ssh_keys),
        (&setup.hostname, &setup.ssh_keys)
    );
    let password = bench.keyring.open(&kept.admin_password.unwrap()).unwrap();
    assert_eq!(password.expose(), "made-up 1");
    let other = bench
        .backend
        .create_seed(&bench.call(), vm, "default", "web-seed", &setup)
        .await;
    assert_eq!(kind(other), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_seed_whose_password_cannot_be_opened_is_refused() {
    let bench = Bench::small();
    let setup = bench.setup("made-up 2");
    let mut call = bench.call_of(JobId::random(), Duration::from_secs(20));
    call.keyring = std::sync::Arc::new(Keyring::ephemeral());
    let refused = bench
        .backend
        .create_seed(&call, VmId::random(), "default", "s", &setup)
        .await;
    assert_eq!(kind(refused), ErrorKind::Internal);
    assert_eq!(bench.control.volumes().len(), 1);
}
