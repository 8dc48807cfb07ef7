//! How jobs end that do not simply run through: cancelled, too late, met by a foreign object, asked for twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

mod support;

use std::time::{Duration, Instant};

use babelvisor_core::ErrorKind;
use babelvisor_core::command::{Command, DeleteVm, Power, PowerAction};
use babelvisor_core::layers::{CreateRequest, GuestLogin, SubmitOptions};
use babelvisor_core::model::{
    BackendId, Caller, ImageKind, ImageLocation, JobId, JobState, PowerState, Role, TenantId, Timestamp,
    VmId, VolumeFormat,
};
use babelvisor_core::registry::ImageSeed;
use babelvisor_core::secret::Secret;
use babelvisor_memory::{Delay, Fault, ForeignVm, Method};
use support::{Gateway, Site, admin, eventually};

const SOON: Duration = Duration::from_secs(10);

fn power(vm: VmId, action: PowerAction) -> Command {
    Command::Power(Power { vm, action })
}

fn delete(vm: VmId) -> Command {
    Command::DeleteVm(DeleteVm {
        vm,
        volumes: true,
        keep_data_volumes: false,
    })
}

fn user(tenant: &str) -> Caller {
    Caller {
        tenant: TenantId::new(tenant),
        role: Role::User,
        ..admin()
    }
}

async fn adopted(gateway: &Gateway, vm: VmId) {
    let core = &gateway.core;
    eventually("the vm is adopted", || core.now().vms.contains_key(&vm)).await;
}

#[test]
fn a_creation_that_is_cancelled_in_the_queue_leaves_no_row_and_no_secret() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let request = CreateRequest {
            login: Some(GuestLogin {
                user: None,
                password: Secret::new("made-up"),
            }),
            ..gateway.request("web")
        };
        // A gateway that goes down still takes jobs, for another one to run.
        core.engine().drain().await;
        let (vm, job) = core
            .create_vm(&admin(), request, SubmitOptions::QUEUE)
            .await
            .unwrap();
        assert_eq!(core.job(&admin(), job.id).await.unwrap().state, JobState::Queued);
        let ended = core.cancel(&admin(), job.id).await.unwrap();
        assert_eq!(ended.state, JobState::Cancelled);
        assert!(
            !format!("{:?}", ended.command).contains("Sealed"),
            "{:?}",
            ended.command
        );
        let gone = core.vm(&admin(), vm.id).await.unwrap_err();
        assert_eq!(gone.kind, ErrorKind::NotFound);
        let (record, _) = core.registry().vm(vm.id).await.unwrap().unwrap();
        assert!(record.gone_at.is_some() && record.admin_password.is_none());
    });
}

#[test]
fn a_job_behind_a_long_one_is_cancelled_at_once_and_by_its_own_tenant_only() {
    let site = Site::new();
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    site.hypervisor().set_delay(Method::Power, Delay::Fixed(400));
    gateway.run(async {
        adopted(&gateway, vm).await;
        let core = &gateway.core;
        let owner = user("default");
        let submit = |action| core.submit(&owner, power(vm, action), SubmitOptions::QUEUE);
        let first = submit(PowerAction::ForceOff).await.unwrap();
        let second = submit(PowerAction::Start).await.unwrap();

        let foreign = core.cancel(&user("others"), second.id).await.unwrap_err();
        assert_eq!(foreign.kind, ErrorKind::NotFound);
        let viewer = Caller {
            role: Role::Viewer,
            ..user("default")
        };
        let refused = core.cancel(&viewer, second.id).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Forbidden);
        let cancelled = core.cancel(&owner, second.id).await.unwrap();
        assert_eq!(cancelled.state, JobState::Cancelled);
        assert_eq!(cancelled.error.unwrap().kind, ErrorKind::Conflict);

        core.wait_for_success(first.id, SOON).await.unwrap();
        assert_eq!(core.vm(&owner, vm).await.unwrap().power(), PowerState::Off);
        // What has ended stays as it ended.
        let late = core.cancel(&owner, first.id).await.unwrap();
        assert_eq!(late.state, JobState::Succeeded);
    });
}

#[test]
fn a_job_whose_backend_stays_away_ends_at_its_deadline() {
    let mut site = Site::new();
    site.policy.job_deadline = Duration::from_millis(700);
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    gateway.run(async {
        adopted(&gateway, vm).await;
        let core = &gateway.core;
        site.hypervisor().disconnect();
        eventually("the backend is seen down", || !core.now().vms[&vm].reachable).await;
        let job = core
            .submit(&admin(), power(vm, PowerAction::ForceOff), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let ended = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(
            (ended.state, ended.error.map(|error| error.kind)),
            (JobState::Failed, Some(ErrorKind::Timeout))
        );
        assert_eq!(core.now().vms[&vm].activity, None);
        site.hypervisor().reconnect();
    });
}

#[test]
fn waiting_for_a_job_that_does_not_exist_ends_at_once_and_leaves_nothing() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        for _ in 0..3 {
            let unknown = gateway.core.wait(JobId::random(), SOON).await.unwrap_err();
            assert_eq!(unknown.kind, ErrorKind::NotFound);
        }
        assert_eq!(gateway.core.engine().waiting_count(), 0);
    });
}

#[test]
fn a_wait_that_gives_up_or_is_dropped_leaves_nothing_and_disturbs_no_other() {
    let site = Site::new();
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    site.hypervisor().set_delay(Method::Power, Delay::Fixed(500));
    gateway.run(async {
        adopted(&gateway, vm).await;
        let core = gateway.core.clone();
        let job = core
            .submit(&admin(), power(vm, PowerAction::ForceOff), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let patient = tokio::spawn({
            let core = core.clone();
            async move { core.wait(job.id, SOON).await }
        });
        let running = core.wait(job.id, Duration::from_millis(50)).await.unwrap();
        assert!(!running.state.ended());
        let dropped = tokio::time::timeout(Duration::from_millis(50), core.wait(job.id, SOON)).await;
        assert!(dropped.is_err());
        assert_eq!(patient.await.unwrap().unwrap().state, JobState::Succeeded);
        assert_eq!(core.engine().waiting_count(), 0);
    });
}

#[test]
fn the_same_job_id_is_the_same_job_also_when_its_work_has_made_it_illegal() {
    let site = Site::new();
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    gateway.run(async {
        adopted(&gateway, vm).await;
        let core = &gateway.core;
        let named = SubmitOptions {
            job: Some(JobId::random()),
            ..SubmitOptions::QUEUE
        };
        let first = core.submit(&admin(), delete(vm), named.clone()).await.unwrap();
        core.wait_for_success(first.id, SOON).await.unwrap();
        let again = core.submit(&admin(), delete(vm), named.clone()).await.unwrap();
        assert_eq!((again.id, again.state), (first.id, JobState::Succeeded));
        let stranger = core.submit(&user("others"), delete(vm), named).await.unwrap_err();
        assert_eq!(stranger.kind, ErrorKind::Conflict);
    });
}

#[test]
fn a_name_that_somebody_takes_at_the_last_moment_fails_no_creation() {
    let site = Site::new();
    let gateway = site.gateway();
    site.hypervisor()
        .set_delay(Method::CreateVolume, Delay::Fixed(200));
    gateway.run(async {
        let core = &gateway.core;
        let (vm, job) = core
            .create_vm(&admin(), gateway.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let foreign = site
            .hypervisor()
            .spawn_foreign_vm(ForeignVm::named("web"))
            .unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
        let made = core.vm(&admin(), vm.id).await.unwrap();
        assert_eq!(made.name(), "web", "the display name is the client's");
        assert_ne!(made.facts.as_ref().unwrap().name, "web");
        assert!(site.hypervisor().vm(foreign).is_some());
    });
}

#[test]
fn two_creations_of_one_name_at_once_both_succeed() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let caller = admin();
        let make = || core.create_vm(&caller, gateway.request("twin"), SubmitOptions::QUEUE);
        let (one, two, three) = tokio::join!(make(), make(), make());
        for accepted in [one, two, three] {
            let (_, job) = accepted.unwrap();
            core.wait_for_success(job.id, SOON).await.unwrap();
        }
        assert_eq!(site.hypervisor().vms().len(), 3);
    });
}

#[test]
fn two_creations_at_once_do_not_pass_a_quota_of_one() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let caller = Caller {
            vm_quota: Some(1),
            ..user("small")
        };
        let make = |name| core.create_vm(&caller, gateway.request(name), SubmitOptions::QUEUE);
        let (one, two, three) = tokio::join!(make("a"), make("b"), make("c"));
        let outcomes = [one, two, three];
        let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(made, 1, "{outcomes:?}");
        for refused in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(refused.kind, ErrorKind::QuotaExceeded);
        }
    });
}

#[test]
fn a_foreign_vm_of_that_very_id_survives_a_creation_that_fails() {
    // Cut off and taken over or not: what carries another job, or none, is not ours to remove.
    let site = Site::new();
    let gateway = site.gateway();
    site.hypervisor()
        .set_delay(Method::CreateVolume, Delay::Fixed(300));
    gateway.run(async {
        let core = &gateway.core;
        let (vm, job) = core
            .create_vm(&admin(), gateway.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let foreign = ForeignVm {
            id: Some(vm.id),
            ..ForeignVm::named("somebody")
        };
        site.hypervisor().spawn_foreign_vm(foreign).unwrap();
        let ended = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(ended.error.unwrap().kind, ErrorKind::AlreadyExists);
        let survivor = site.hypervisor().vm(vm.id).expect("the foreign vm lives");
        assert_eq!(survivor.name, "somebody");
    });
}

#[test]
fn a_foreign_vm_survives_the_undo_of_a_definition_that_was_cut_off() {
    let site = Site::new();
    let mut first = site.gateway();
    site.hypervisor().set_delay(Method::Define, Delay::Fixed(2000));
    let (vm, job) = first.run(async {
        let accepted = first
            .core
            .create_vm(&admin(), first.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let calls = || site.hypervisor().call_log();
        eventually("the definition is under way", || {
            calls().iter().any(|call| call.method == Method::Define)
        })
        .await;
        accepted
    });
    first.kill();
    let foreign = ForeignVm {
        id: Some(vm.id),
        ..ForeignVm::named("somebody")
    };
    site.hypervisor().spawn_foreign_vm(foreign).unwrap();
    site.hypervisor().set_delay(Method::Define, Delay::Fixed(0));
    // The job, taken over, is cancelled before it calls again: its journal says that the call was begun.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(site.store.cancel(job.id)).unwrap();
    let second = site.gateway();
    second.run(async {
        let ended = second.core.wait(job.id, SOON).await.unwrap();
        assert_eq!(ended.state, JobState::Cancelled);
        assert!(site.hypervisor().vm(vm.id).is_some(), "the foreign vm lives");
    });
}

#[test]
fn a_deletion_past_its_point_of_no_return_is_not_cancelled() {
    let site = Site::new();
    let images = site.hypervisor().volumes().len();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let (vm, job) = core
            .create_vm(&admin(), gateway.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
        site.hypervisor().set_delay(Method::Undefine, Delay::Fixed(300));
        let job = core
            .submit(&admin(), delete(vm.id), SubmitOptions::QUEUE)
            .await
            .unwrap();
        eventually("the definition is being removed", || {
            site.hypervisor()
                .call_log()
                .iter()
                .any(|call| call.method == Method::Undefine)
        })
        .await;
        core.cancel(&admin(), job.id).await.unwrap();
        let ended = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(ended.state, JobState::Succeeded);
        assert_eq!(site.hypervisor().volumes().len(), images);
    });
}

#[test]
fn a_deletion_that_cannot_remove_a_volume_names_it() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let (vm, job) = core
            .create_vm(&admin(), gateway.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
        site.hypervisor()
            .inject_fault(Fault::new(Method::DeleteVolume, ErrorKind::Internal));
        let job = core
            .submit(&admin(), delete(vm.id), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let ended = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(ended.state, JobState::Failed);
        assert_eq!(ended.left_behind.len(), 2, "{:?}", ended.left_behind);
        assert!(ended.left_behind[0].contains(&vm.id.to_string()));
    });
}

#[test]
fn a_disk_that_others_are_made_from_stays_when_its_vm_goes() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let (vm, job) = core
            .create_vm(&admin(), gateway.request("golden"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
        let root = core.vm(&admin(), vm.id).await.unwrap().record.volumes[0].clone();
        let golden = ImageSeed {
            name: "golden".to_owned(),
            number: None,
            kind: ImageKind::Disk,
            os: "Debian".to_owned(),
            os_version: "12".to_owned(),
            family: String::new(),
            admin_user: "root".to_owned(),
            size: 0,
            locations: vec![ImageLocation {
                backend: BackendId::new("sim"),
                native: format!("{}/{}", root.pool, root.name),
                format: VolumeFormat::Qcow2,
            }],
        };
        let golden = core.registry().seed_image(golden).await.unwrap();
        eventually("the image is known", || {
            core.now().images.contains_key(&golden.id)
        })
        .await;
        let job = core
            .submit(&admin(), delete(vm.id), SubmitOptions::QUEUE)
            .await
            .unwrap();
        core.wait_for_success(job.id, SOON).await.unwrap();
        let left = site.hypervisor().volumes();
        assert!(left.iter().any(|volume| volume.name == root.name));
        assert!(
            !left.iter().any(|volume| volume.name.contains("seed")),
            "{left:?}"
        );
    });
}

#[test]
fn what_fits_is_what_can_be_made() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let request = gateway.request("web");
        let fits = |quantity, memory, disk| core.fits(request.image().unwrap(), quantity, memory, disk);
        assert!(fits(1, request.memory, request.disk).is_ok());
        for (quantity, memory, disk) in [(1, u64::MAX, 0), (1, 1, u64::MAX), (u32::MAX, 1 << 40, 0)] {
            let refused = fits(quantity, memory, disk).unwrap_err();
            assert_eq!(
                refused.kind,
                ErrorKind::NoResources,
                "{quantity} × {memory}, {disk}"
            );
        }
        let too_large = CreateRequest {
            disk: u64::MAX / 2,
            ..request
        };
        let refused = core.create_vm(&admin(), too_large, SubmitOptions::QUEUE).await;
        assert_eq!(refused.unwrap_err().kind, ErrorKind::NoResources);
    });
}

#[test]
fn what_is_in_the_trash_is_not_started_blindly() {
    let site = Site::new();
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    gateway.run(async {
        adopted(&gateway, vm).await;
        let core = &gateway.core;
        site.hypervisor().power_from_outside(vm, PowerState::Off).unwrap();
        eventually("it is seen off", || {
            core.now().vms[&vm].power() == PowerState::Off
        })
        .await;
        core.annotate(&admin(), vm, |record| {
            record.trashed_at = Some(Timestamp::now());
            Ok(())
        })
        .await
        .unwrap();
        let job = core
            .submit(&admin(), power(vm, PowerAction::Start), SubmitOptions::BLIND)
            .await
            .unwrap();
        let ended = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(ended.error.unwrap().kind, ErrorKind::IllegalState);
        assert_eq!(site.hypervisor().vm(vm).unwrap().power, PowerState::Off);
    });
}

#[test]
fn nothing_that_is_taken_ends_later_than_its_deadline_and_undo_allow() {
    let mut site = Site::new();
    site.policy.job_deadline = Duration::from_millis(600);
    let gateway = site.gateway();
    site.hypervisor()
        .set_delay(Method::CreateVolume, Delay::Fixed(900));
    gateway.run(async {
        let core = &gateway.core;
        let begun = Instant::now();
        let (_, job) = core
            .create_vm(&admin(), gateway.request("slow"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        let ended = core.wait(job.id, SOON).await.unwrap();
        assert_eq!(ended.error.unwrap().kind, ErrorKind::Timeout);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(ended.left_behind.is_empty(), "{:?}", ended.left_behind);
    });
}
