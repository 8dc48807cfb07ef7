//! What is done to VMs that exist, and to volumes, snapshots, images and groups around them, as its owners
//! experience it: the records say what the hypervisor has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use babelvisor_core::ErrorKind;
use babelvisor_core::command::{Command, DeleteVm, Power, PowerAction};
use babelvisor_core::layers::{
    CloneRequest, CreateRequest, DiskRequest, ImageFrom, ImageRequest, SnapshotRequest, SubmitOptions,
    VolumeRequest, Wish,
};
use babelvisor_core::model::*;
use babelvisor_core::query::VolumeView;
use babelvisor_memory::{Delay, Fault, HostsConfig, MemoryConfig, Method};
use support::{GIB, Gateway, Site, admin};

const SOON: Duration = Duration::from_secs(10);
const QUEUE: SubmitOptions = SubmitOptions::QUEUE;

/// A VM that is made and, if asked for, runs.
async fn made(gateway: &Gateway, request: CreateRequest) -> Arc<Vm> {
    let core = &gateway.core;
    let (vm, job) = core.create_vm(&admin(), request, QUEUE).await.unwrap();
    core.wait_for_success(job.id, SOON).await.unwrap();
    core.vm(&admin(), vm.id).await.unwrap()
}

async fn done(gateway: &Gateway, job: babelvisor_core::Result<Job>) -> Job {
    gateway
        .core
        .wait_for_success(job.unwrap().id, SOON)
        .await
        .unwrap()
}

async fn changed(gateway: &Gateway, vm: VmId, change: VmChange) -> Arc<Vm> {
    done(
        gateway,
        gateway.core.change_vm(&admin(), vm, vec![change], QUEUE).await,
    )
    .await;
    gateway.core.vm(&admin(), vm).await.unwrap()
}

fn running(gateway: &Gateway, name: &str) -> CreateRequest {
    CreateRequest {
        start: true,
        ..gateway.request(name)
    }
}

fn with_two_hosts() -> Site {
    let hosts = HostsConfig {
        count: 2,
        ..MemoryConfig::default().hosts
    };
    Site::with(MemoryConfig {
        hosts,
        ..MemoryConfig::default()
    })
}

async fn delete(gateway: &Gateway, vm: VmId, keep_data_volumes: bool) {
    let volumes = true;
    let command = Command::DeleteVm(DeleteVm {
        vm,
        volumes,
        keep_data_volumes,
    });
    done(gateway, gateway.core.submit(&admin(), command, QUEUE).await).await;
}

#[test]
fn data_disks_are_made_with_a_vm_and_outlive_it_where_they_shall() {
    let site = Site::new();
    let before = site.hypervisor().volumes().len();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let chosen = VolumeId::random();
        let request = CreateRequest {
            disks: vec![DiskRequest {
                id: Some(chosen),
                name: "logs".to_owned(),
                size: 3 * GIB,
                ..DiskRequest::default()
            }],
            ..gateway.request("web")
        };
        let vm = made(&gateway, request.clone()).await;
        let volume = core.volume(&admin(), chosen).await.unwrap();
        assert_eq!((volume.name(), volume.capacity), ("logs", 3 * GIB));
        assert_eq!(volume.state(), EntryState::Ready);
        assert_eq!(volume.vm.as_ref().map(|holder| holder.id), Some(vm.id));
        assert_eq!(VolumeView::of_vm(&core.now(), &vm).len(), 2);

        // The id is in use, and stays so.
        let again = core.create_vm(&admin(), request.clone(), QUEUE).await;
        assert!(again.is_err(), "a volume's id was given out twice");

        delete(&gateway, vm.id, true).await;
        let kept = core.volume(&admin(), chosen).await.unwrap();
        assert!(kept.vm.is_none());
        assert_eq!(site.hypervisor().volumes().len(), before + 1);
        done(&gateway, core.delete_volume(&admin(), chosen, QUEUE).await).await;
        let gone = core.volume(&admin(), chosen).await.unwrap_err();
        assert_eq!(gone.kind, ErrorKind::NotFound);
        assert_eq!(site.hypervisor().volumes().len(), before);
    });
}

#[test]
fn a_creation_that_fails_takes_its_data_volumes_back() {
    let site = Site::new();
    let before = site.hypervisor().volumes().len();
    let gateway = site.gateway();
    site.hypervisor()
        .inject_fault(Fault::new(Method::Define, ErrorKind::NoResources));
    gateway.run(async {
        let core = &gateway.core;
        let id = VolumeId::random();
        let request = CreateRequest {
            disks: vec![DiskRequest {
                id: Some(id),
                size: GIB,
                ..DiskRequest::default()
            }],
            ..gateway.request("web")
        };
        let (_, job) = core.create_vm(&admin(), request, QUEUE).await.unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap_err();
        assert_eq!(site.hypervisor().volumes().len(), before);
        let gone = core.volume(&admin(), id).await.unwrap_err();
        assert_eq!(gone.kind, ErrorKind::NotFound);
    });
}

#[test]
fn a_volume_is_made_attached_grown_detached_and_removed() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let vm = made(&gateway, running(&gateway, "web")).await;
        let other = made(&gateway, gateway.request("db")).await;
        let request = VolumeRequest {
            name: "data".to_owned(),
            size: GIB,
            ..VolumeRequest::default()
        };
        let (volume, job) = core.create_volume(&admin(), request, QUEUE).await.unwrap();
        assert_eq!(volume.state(), EntryState::Creating);
        core.wait_for_success(job.id, SOON).await.unwrap();
        let id = volume.id;

        done(
            &gateway,
            core.attach_volume(&admin(), id, vm.id, None, false, QUEUE).await,
        )
        .await;
        let seen = core.volume(&admin(), id).await.unwrap();
        assert_eq!(seen.disk.unwrap().target, "vdb");
        let twice = core
            .attach_volume(&admin(), id, other.id, None, false, QUEUE)
            .await;
        assert_eq!(twice.unwrap_err().kind, ErrorKind::IllegalState);
        let removed = core.delete_volume(&admin(), id, QUEUE).await;
        assert_eq!(removed.unwrap_err().kind, ErrorKind::IllegalState);

        done(&gateway, core.resize_volume(&admin(), id, 2 * GIB, QUEUE).await).await;
        assert_eq!(core.volume(&admin(), id).await.unwrap().capacity, 2 * GIB);
        let smaller = core.resize_volume(&admin(), id, GIB, QUEUE).await;
        assert_eq!(smaller.unwrap_err().kind, ErrorKind::InvalidInput);

        done(&gateway, core.detach_volume(&admin(), id, None, QUEUE).await).await;
        assert!(core.volume(&admin(), id).await.unwrap().vm.is_none());
        done(&gateway, core.delete_volume(&admin(), id, QUEUE).await).await;

        let root = VolumeView::of_vm(&core.now(), &vm).remove(0);
        let detached = core.detach_volume(&admin(), root.id, None, QUEUE).await;
        assert_eq!(detached.unwrap_err().kind, ErrorKind::IllegalState);
        let rename = |record: &mut VolumeRecord| {
            record.display_name = "root of web".to_owned();
            Ok(())
        };
        let renamed = core.edit_volume(&admin(), root.id, rename).await.unwrap();
        assert_eq!(renamed.name(), "root of web");
        assert_eq!(renamed.id, root.id);
    });
}

#[test]
fn hardware_changes_show_at_once_and_keep_to_their_occasions() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let request = CreateRequest {
            vcpus: 1,
            max_vcpus: 4,
            memory: GIB,
            max_memory: 2 * GIB,
            ..running(&gateway, "web")
        };
        let vm = made(&gateway, request).await.id;
        let cpu = |current, max| VmChange::Cpu {
            current,
            max,
            topology: None,
        };
        let seen = changed(&gateway, vm, cpu(3, 4)).await;
        assert_eq!(seen.vcpus(), 3);
        let more = core.change_vm(&admin(), vm, vec![cpu(8, 8)], QUEUE).await;
        assert_eq!(more.unwrap_err().kind, ErrorKind::IllegalState);

        let current = 2 * GIB;
        let seen = changed(
            &gateway,
            vm,
            VmChange::Memory {
                current,
                max: current,
            },
        )
        .await;
        assert_eq!(seen.memory(), 2 * GIB);

        let nic = NicSpec {
            mac: Some("52:54:00:00:00:07".to_owned()),
            ..NicSpec::default()
        };
        let seen = changed(&gateway, vm, VmChange::AttachNic(nic)).await;
        assert_eq!(seen.facts.as_ref().unwrap().nics.len(), 2);
        let mac = "52:54:00:00:00:07".to_owned();
        let seen = changed(&gateway, vm, VmChange::DetachNic { mac }).await;
        assert_eq!(seen.facts.as_ref().unwrap().nics.len(), 1);

        let order = vec![BootDevice::Network, BootDevice::Disk];
        let seen = changed(&gateway, vm, VmChange::BootOrder { order: order.clone() }).await;
        assert_eq!(seen.facts.as_ref().unwrap().boot, order);

        let sealed = core
            .seal(&babelvisor_core::secret::Secret::new("made-up"))
            .unwrap();
        let password = Some(sealed);
        let seen = changed(&gateway, vm, VmChange::ConsolePassword { password }).await;
        assert!(seen.record.console_password.is_some());
        let seen = changed(&gateway, vm, VmChange::ConsolePassword { password: None }).await;
        assert!(seen.record.console_password.is_none());

        let video = VmChange::Video {
            adapters: vec![VideoAdapter {
                model: "vga".to_owned(),
                memory: None,
                heads: None,
            }],
        };
        let refused = core.change_vm(&admin(), vm, vec![video], QUEUE).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::IllegalState);
    });
}

#[test]
fn snapshots_are_a_tree_that_mends_itself() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let vm = made(&gateway, running(&gateway, "web")).await.id;
        let mut chain = Vec::new();
        for (name, memory) in [("first", true), ("second", false), ("third", false)] {
            let request = SnapshotRequest {
                name: name.to_owned(),
                memory,
                ..SnapshotRequest::default()
            };
            let (record, job) = core.create_snapshot(&admin(), vm, request, QUEUE).await.unwrap();
            core.wait_for_success(job.id, SOON).await.unwrap();
            chain.push(record.id);
        }
        let parent = |id| {
            let now = core.now();
            now.entry::<SnapshotRecord>(id).unwrap().parent
        };
        assert_eq!(
            [parent(chain[0]), parent(chain[1]), parent(chain[2])],
            [None, Some(chain[0]), Some(chain[1])]
        );
        done(&gateway, core.delete_snapshot(&admin(), chain[1], QUEUE).await).await;
        assert_eq!(parent(chain[2]), Some(chain[0]));

        done(&gateway, core.revert_snapshot(&admin(), chain[2], QUEUE).await).await;
        assert_eq!(core.vm(&admin(), vm).await.unwrap().power(), PowerState::Off);
        done(&gateway, core.revert_snapshot(&admin(), chain[0], QUEUE).await).await;
        assert_eq!(core.vm(&admin(), vm).await.unwrap().power(), PowerState::Running);

        delete(&gateway, vm, false).await;
        assert!(core.entries::<SnapshotRecord>(&admin()).is_empty());
    });
}

#[test]
fn an_image_is_made_of_a_disk_and_machines_of_the_image() {
    let site = Site::new();
    let before = site.hypervisor().volumes().len();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let vm = made(&gateway, running(&gateway, "web")).await;
        let root = VolumeView::of_vm(&core.now(), &vm).remove(0).id;
        let request = || ImageRequest {
            image: Image::new("golden", ImageKind::Disk, Some(admin().tenant)),
            from: ImageFrom::Volume(root),
            format: None,
            pool: None,
        };
        let torn = core.make_image(&admin(), request(), QUEUE).await.unwrap_err();
        assert_eq!(torn.kind, ErrorKind::IllegalState, "a running disk was copied");
        let off = Command::Power(Power {
            vm: vm.id,
            action: PowerAction::ForceOff,
        });
        done(&gateway, core.submit(&admin(), off, QUEUE).await).await;
        let (image, job) = core.make_image(&admin(), request(), QUEUE).await.unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
        let image = core.entry::<Image>(&admin(), image.id).await.unwrap();
        assert!(image.usable() && image.size == vm.disk_bytes());

        let copy = CreateRequest {
            root: babelvisor_core::layers::Root::Image(image.clone()),
            disk: image.size,
            ..gateway.request("copy")
        };
        let copy = made(&gateway, copy).await;
        delete(&gateway, copy.id, false).await;
        delete(&gateway, vm.id, false).await;
        done(&gateway, core.delete_image(&admin(), image.id, QUEUE).await).await;
        assert_eq!(site.hypervisor().volumes().len(), before);
        let seeded = core.now().images.values().next().unwrap().id;
        let refused = core.delete_image(&admin(), seeded, QUEUE).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Forbidden);
    });
}

#[test]
fn a_vm_is_copied_while_it_is_off() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let request = CreateRequest {
            disks: vec![DiskRequest {
                size: 2 * GIB,
                ..DiskRequest::default()
            }],
            ..gateway.request("web")
        };
        let source = made(&gateway, request).await;
        let request = CloneRequest {
            name: "twin".to_owned(),
            data_disks: true,
            start: true,
            ..CloneRequest::default()
        };
        let (twin, job) = core
            .clone_vm(&admin(), source.id, request.clone(), QUEUE)
            .await
            .unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
        let twin = core.vm(&admin(), twin.id).await.unwrap();
        assert_eq!((twin.name(), twin.power()), ("twin", PowerState::Running));
        let (a, b) = (source.facts.as_ref().unwrap(), twin.facts.as_ref().unwrap());
        assert_eq!(a.disks.len(), b.disks.len());
        assert_ne!(a.nics[0].mac, b.nics[0].mac);
        assert_ne!(a.disks[0].source, b.disks[0].source);

        let moving = core
            .clone_vm(&admin(), twin.id, request, QUEUE)
            .await
            .unwrap_err();
        assert_eq!(moving.kind, ErrorKind::IllegalState);
    });
}

#[test]
fn the_trash_keeps_a_vm_until_it_is_recovered_or_removed() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let vm = made(&gateway, running(&gateway, "web")).await.id;
        done(&gateway, core.trash_vm(&admin(), vm, QUEUE).await).await;
        let seen = core.vm(&admin(), vm).await.unwrap();
        assert!(!seen.visible() && seen.power() == PowerState::Off);
        let start = Command::Power(Power {
            vm,
            action: PowerAction::Start,
        });
        let refused = core.submit(&admin(), start.clone(), QUEUE).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::IllegalState);
        core.recover_vm(&admin(), vm).await.unwrap();
        done(&gateway, core.submit(&admin(), start, QUEUE).await).await;
        let twice = core.recover_vm(&admin(), vm).await.unwrap_err();
        assert_eq!(twice.kind, ErrorKind::IllegalState);
    });
}

#[test]
fn groups_keep_their_members_apart() {
    let site = with_two_hosts();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let group = AffinityGroup::new("apart", AffinityPolicy::AntiAffinityHard, Some(admin().tenant));
        let group = core.add_entry(&admin(), group).await.unwrap().id;
        let request = |name: &str| CreateRequest {
            wish: Wish {
                affinity: Some(group),
                ..Wish::default()
            },
            ..gateway.request(name)
        };
        let first = made(&gateway, request("a")).await;
        let second = made(&gateway, request("b")).await;
        let host = |vm: &Vm| vm.facts.as_ref().unwrap().host;
        assert_ne!(host(&first), host(&second));
        let third = core.create_vm(&admin(), request("c"), QUEUE).await.unwrap_err();
        assert_eq!(third.kind, ErrorKind::NoResources);

        delete(&gateway, first.id, false).await;
        let third = made(&gateway, request("c")).await;
        assert_ne!(host(&third), host(&second));
    });
}

#[test]
fn a_running_vm_moves_to_another_host() {
    let site = with_two_hosts();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let vm = made(&gateway, running(&gateway, "web")).await;
        let here = vm.facts.as_ref().unwrap().host;
        let now = core.now();
        let there = *now.hosts.keys().find(|host| **host != here).unwrap();
        done(&gateway, core.migrate_vm(&admin(), vm.id, there, QUEUE).await).await;
        let moved = core.vm(&admin(), vm.id).await.unwrap();
        assert_eq!(moved.facts.as_ref().unwrap().host, there);
        assert_eq!(moved.power(), PowerState::Running);
        let again = core.migrate_vm(&admin(), vm.id, there, QUEUE).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::IllegalState);
    });
}

#[test]
fn saved_memory_is_restored() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let vm = made(&gateway, running(&gateway, "web")).await.id;
        let power = |action| Command::Power(Power { vm, action });
        let nothing = core.submit(&admin(), power(PowerAction::Save), QUEUE).await;
        done(&gateway, nothing).await;
        let saved = core.vm(&admin(), vm).await.unwrap();
        assert!(saved.power() == PowerState::Off && saved.facts.as_ref().unwrap().saved);
        done(
            &gateway,
            core.submit(&admin(), power(PowerAction::Restore), QUEUE).await,
        )
        .await;
        let back = core.vm(&admin(), vm).await.unwrap();
        assert!(back.power() == PowerState::Running && !back.facts.as_ref().unwrap().saved);
        done(
            &gateway,
            core.submit(&admin(), power(PowerAction::ForceOff), QUEUE).await,
        )
        .await;
        let refused = core.submit(&admin(), power(PowerAction::Restore), QUEUE).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::IllegalState);
    });
}

#[test]
fn a_move_under_way_is_broken_off() {
    let site = with_two_hosts();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let vm = made(&gateway, running(&gateway, "web")).await;
        let here = vm.facts.as_ref().unwrap().host;
        let there = *core.now().hosts.keys().find(|host| **host != here).unwrap();
        site.hypervisor().set_delay(Method::Migrate, Delay::Fixed(60_000));
        let job = core.migrate_vm(&admin(), vm.id, there, QUEUE).await.unwrap();
        support::eventually("the move is under way", || {
            let vms = &core.now().vms;
            vms.get(&vm.id).unwrap().activity == Some(Activity::Migrating)
        })
        .await;
        core.cancel(&admin(), job.id).await.unwrap();
        let ended = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(ended.state, JobState::Cancelled);
        let stays = core.vm(&admin(), vm.id).await.unwrap();
        assert_eq!(stays.facts.as_ref().unwrap().host, here);
    });
}
