//! Jobs as their owners experience them: done, undone or taken over, and never twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod support;

use std::time::Duration;

use babelvisor_core::ErrorKind;
use babelvisor_core::command::{Command, DeleteVm, Power, PowerAction};
use babelvisor_core::layers::lapse::{self, LapseSettings};
use babelvisor_core::layers::{CreateRequest, SubmitOptions};
use babelvisor_core::model::{JobState, PowerState, Timestamp, VmId};
use babelvisor_memory::{Delay, Fault, ForeignVm, Method};
use support::{GIB, Site, admin, eventually};

const SOON: Duration = Duration::from_secs(10);

fn power(vm: VmId, action: PowerAction) -> Command {
    Command::Power(Power { vm, action })
}

#[test]
fn a_vm_is_made_with_its_volumes_and_goes_with_them() {
    let site = Site::new();
    let images = site.hypervisor().volumes().len();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let request = CreateRequest {
            start: true,
            ..gateway.request("web")
        };
        let (vm, job) = core
            .create_vm(&admin(), request, SubmitOptions::QUEUE)
            .await
            .unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
        let seen = core.vm(&admin(), vm.id).await.unwrap();
        assert_eq!(
            (seen.power(), seen.name(), seen.memory()),
            (PowerState::Running, "web", GIB)
        );
        assert_eq!(
            site.hypervisor().volumes().len(),
            images + 2,
            "a root disk and a seed"
        );

        let delete = Command::DeleteVm(DeleteVm {
            vm: vm.id,
            volumes: true,
            keep_data_volumes: false,
        });
        let job = core.submit(&admin(), delete, SubmitOptions::QUEUE).await.unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
        assert_eq!(
            core.vm(&admin(), vm.id).await.unwrap_err().kind,
            ErrorKind::NotFound
        );
        assert!(site.hypervisor().vms().is_empty());
        assert_eq!(site.hypervisor().volumes().len(), images);
    });
}

#[test]
fn a_creation_that_fails_halfway_is_taken_back_and_says_why() {
    let site = Site::new();
    let images = site.hypervisor().volumes().len();
    let gateway = site.gateway();
    site.hypervisor()
        .inject_fault(Fault::new(Method::Define, ErrorKind::NoResources));
    gateway.run(async {
        let core = &gateway.core;
        let (vm, job) = core
            .create_vm(&admin(), gateway.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let job = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(job.state, JobState::Failed);
        assert_eq!(job.error.unwrap().kind, ErrorKind::NoResources);
        assert!(job.left_behind.is_empty());
        assert_eq!(site.hypervisor().volumes().len(), images);
        let row = core.vm(&admin(), vm.id).await.unwrap();
        assert_eq!(row.record.fault.as_ref().unwrap().kind, ErrorKind::NoResources);
    });
}

#[test]
fn an_undo_that_the_backend_refuses_is_named_not_hidden() {
    let site = Site::new();
    let gateway = site.gateway();
    site.hypervisor()
        .inject_fault(Fault::new(Method::Define, ErrorKind::NoResources));
    site.hypervisor()
        .inject_fault(Fault::new(Method::DeleteVolume, ErrorKind::Internal));
    gateway.run(async {
        let core = &gateway.core;
        let (_, job) = core
            .create_vm(&admin(), gateway.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let job = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(job.left_behind.len(), 1, "{:?}", job.left_behind);
        assert!(job.left_behind[0].contains("volume"), "{:?}", job.left_behind);
    });
}

#[test]
fn what_a_killed_gateway_was_doing_another_one_finishes_once() {
    // Not in the middle of a start: the simulated guest boots in the runtime that this test kills. The
    // gateway's own tests kill the real binary there.
    for method in [Method::CreateVolume, Method::CreateSeed, Method::Define] {
        let site = Site::new();
        let images = site.hypervisor().volumes().len();
        let mut first = site.gateway();
        site.hypervisor().set_delay(method, Delay::Fixed(300));
        let (vm, job) = first.run(async {
            let request = CreateRequest {
                start: true,
                ..first.request("web")
            };
            let accepted = first
                .core
                .create_vm(&admin(), request, SubmitOptions::QUEUE)
                .await
                .unwrap();
            eventually("the call is under way", || {
                site.hypervisor()
                    .call_log()
                    .iter()
                    .any(|call| call.method == method)
            })
            .await;
            accepted
        });
        first.kill();
        let second = site.gateway();
        second.run(async {
            let ended = second.core.wait(job.id, SOON).await.unwrap();
            assert_eq!(ended.state, JobState::Succeeded, "{method:?}: {:?}", ended.error);
            assert!(ended.epoch > 1);
            assert_eq!(
                second.core.vm(&admin(), vm.id).await.unwrap().power(),
                PowerState::Running
            );
        });
        assert_eq!(site.hypervisor().vms().len(), 1, "{method:?}");
        assert_eq!(site.hypervisor().volumes().len(), images + 2, "{method:?}");
        assert_eq!(site.hypervisor().boots(vm.id), 1, "{method:?}");
    }
}

#[test]
fn a_backend_that_is_away_for_a_moment_fails_no_job() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        site.hypervisor()
            .inject_fault(Fault::new(Method::Define, ErrorKind::BackendUnavailable).times(2));
        let (_, job) = core
            .create_vm(&admin(), gateway.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
    });
}

#[test]
fn a_busy_vm_queues_or_refuses_as_the_dialect_asks() {
    let site = Site::new();
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    site.hypervisor().set_delay(Method::Power, Delay::Fixed(300));
    gateway.run(async {
        let core = &gateway.core;
        eventually("the vm is adopted", || core.now().vms.contains_key(&vm)).await;
        let off = core
            .submit(&admin(), power(vm, PowerAction::ForceOff), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let refused = core
            .submit(&admin(), power(vm, PowerAction::Start), SubmitOptions::REFUSE)
            .await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Busy);
        let on = core
            .submit(&admin(), power(vm, PowerAction::Start), SubmitOptions::QUEUE)
            .await
            .unwrap();
        core.wait_for_success(off.id, SOON).await.unwrap();
        core.wait_for_success(on.id, SOON).await.unwrap();
        assert_eq!(core.vm(&admin(), vm).await.unwrap().power(), PowerState::Running);
    });
}

#[test]
fn a_blindly_accepted_call_in_the_wrong_state_becomes_a_failed_job() {
    let site = Site::new();
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        eventually("the vm is adopted", || core.now().vms.contains_key(&vm)).await;
        site.hypervisor().power_from_outside(vm, PowerState::Off).unwrap();
        eventually("it is seen off", || {
            core.now().vms[&vm].power() == PowerState::Off
        })
        .await;
        let refused = core
            .submit(&admin(), power(vm, PowerAction::Suspend), SubmitOptions::QUEUE)
            .await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::IllegalState);
        let job = core
            .submit(&admin(), power(vm, PowerAction::Suspend), SubmitOptions::BLIND)
            .await
            .unwrap();
        let job = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(
            (job.state, job.error.unwrap().kind),
            (JobState::Failed, ErrorKind::IllegalState)
        );
    });
}

#[test]
fn a_cancelled_creation_leaves_nothing() {
    let site = Site::new();
    let images = site.hypervisor().volumes().len();
    let gateway = site.gateway();
    site.hypervisor()
        .set_delay(Method::CreateVolume, Delay::Fixed(300));
    gateway.run(async {
        let core = &gateway.core;
        let (vm, job) = core
            .create_vm(&admin(), gateway.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        eventually("the volume is being made", || {
            !site.hypervisor().call_log().is_empty()
        })
        .await;
        core.registry().store().cancel(job.id).await.unwrap();
        let job = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(job.state, JobState::Cancelled);
        assert_eq!(
            core.vm(&admin(), vm.id).await.unwrap_err().kind,
            ErrorKind::NotFound
        );
        assert_eq!(site.hypervisor().volumes().len(), images);
    });
}

#[test]
fn what_the_backend_cannot_do_is_refused_before_anything_happens() {
    let mut config = babelvisor_memory::MemoryConfig::default();
    let lacking = "power.suspend".parse().unwrap();
    config
        .lacks
        .insert(lacking, "this hypervisor cannot stop vCPUs".to_owned());
    let site = Site::with(config);
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        eventually("the vm is adopted", || core.now().vms.contains_key(&vm)).await;
        site.hypervisor().clear_call_log();
        let refused = core
            .submit(&admin(), power(vm, PowerAction::Suspend), SubmitOptions::BLIND)
            .await
            .unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unsupported);
        assert!(refused.detail.contains("cannot stop vCPUs"), "{refused}");
        assert!(site.hypervisor().call_log().is_empty());
    });
}

#[test]
fn a_vm_removed_behind_our_back_is_gone_and_its_number_is_not_given_again() {
    let site = Site::new();
    let first = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        eventually("the vm is adopted", || core.now().vms.contains_key(&first)).await;
        let number = core.now().vms[&first].record.number;
        site.hypervisor().remove_from_outside(first).unwrap();
        eventually("it is gone", || !core.now().vms.contains_key(&first)).await;
        let second = site
            .hypervisor()
            .spawn_foreign_vm(ForeignVm::named("new"))
            .unwrap();
        eventually("the new one is adopted", || core.now().vms.contains_key(&second)).await;
        assert!(core.now().vms[&second].record.number > number);
    });
}

#[test]
fn a_lapsed_lease_suspends_and_later_deletes_and_a_small_number_is_no_lease() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let soon = Timestamp::now().as_second() + 1;
        let make = |name: &str, lease| CreateRequest {
            lease_term: Some(lease),
            start: true,
            ..gateway.request(name)
        };
        let mut made = Vec::new();
        for (name, lease) in [("lapses", soon), ("stays", 100)] {
            let (vm, job) = core
                .create_vm(&admin(), make(name, lease), SubmitOptions::QUEUE)
                .await
                .unwrap();
            core.wait_for_success(job.id, SOON).await.unwrap();
            made.push(vm.id);
        }
        let settings = LapseSettings {
            every: Duration::from_millis(100),
            keep: Duration::from_secs(2),
        };
        tokio::spawn(lapse::enforce(core.clone(), settings));
        let power_of = |id: &VmId| core.now().vms.get(id).map(|vm| vm.power());
        eventually("the lapsed vm is paused", || {
            power_of(&made[0]) == Some(PowerState::Paused)
        })
        .await;
        eventually("the lapsed vm is deleted", || power_of(&made[0]).is_none()).await;
        assert_eq!(power_of(&made[1]), Some(PowerState::Running));
    });
}
