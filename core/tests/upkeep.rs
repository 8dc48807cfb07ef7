//! What becomes of VMs that come, go and move while nobody, or somebody else, looks.

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

use babelvisor_core::backend::BackendEvent;
use babelvisor_core::command::{Command, DeleteVm};
use babelvisor_core::layers::SubmitOptions;
use babelvisor_core::model::{BackendId, VmId};
use babelvisor_memory::ForeignVm;
use support::{Gateway, Site, admin, eventually};

async fn adopted(gateway: &Gateway, vm: VmId) {
    let core = &gateway.core;
    eventually("the vm is adopted", || core.now().vms.contains_key(&vm)).await;
}

#[test]
fn a_vm_that_vanished_while_no_gateway_ran_is_gone() {
    let site = Site::new();
    let (stays, goes) = (
        site.hypervisor()
            .spawn_foreign_vm(ForeignVm::named("stays"))
            .unwrap(),
        site.hypervisor()
            .spawn_foreign_vm(ForeignVm::named("goes"))
            .unwrap(),
    );
    let mut first = site.gateway();
    first.run(async {
        adopted(&first, stays).await;
        adopted(&first, goes).await;
    });
    first.kill();
    site.hypervisor().remove_from_outside(goes).unwrap();
    let second = site.gateway();
    second.run(async {
        let core = &second.core;
        eventually("the vanished vm is gone", || !core.now().vms.contains_key(&goes)).await;
        let (record, _) = core.registry().vm(goes).await.unwrap().unwrap();
        assert!(record.gone_at.is_some());
        assert!(core.now().vms.contains_key(&stays));
    });
}

#[test]
fn news_of_a_deleted_vm_that_was_under_way_brings_it_not_back() {
    let site = Site::new();
    let gateway = site.gateway();
    gateway.run(async {
        let core = &gateway.core;
        let (vm, job) = core
            .create_vm(&admin(), gateway.request("web"), SubmitOptions::QUEUE)
            .await
            .unwrap();
        core.wait_for_success(job.id, Duration::from_secs(10))
            .await
            .unwrap();
        let old = core.now().vms[&vm.id].facts.clone().unwrap();
        let delete = Command::DeleteVm(DeleteVm {
            vm: vm.id,
            volumes: true,
            keep_data_volumes: false,
        });
        let job = core.submit(&admin(), delete, SubmitOptions::QUEUE).await.unwrap();
        core.wait_for_success(job.id, Duration::from_secs(10))
            .await
            .unwrap();
        let (_, version) = core.registry().vm(vm.id).await.unwrap().unwrap();

        let late = BackendEvent::Changed(Box::new((*old).clone()));
        let chores = gateway.inventory.backend_event(&BackendId::new("sim"), late);
        gateway.upkeep().do_chores(&site.as_backend(), chores).await;
        assert!(!core.now().vms.contains_key(&vm.id));
        let (record, after) = core.registry().vm(vm.id).await.unwrap().unwrap();
        assert!(record.gone_at.is_some());
        assert_eq!(after, version, "nobody touched the record");
        assert!(
            gateway
                .inventory
                .loose_ends(&BackendId::new("sim"))
                .adopt
                .is_empty()
        );
    });
}

#[test]
fn a_living_record_is_not_touched_when_its_vm_is_found_before_it() {
    let site = Site::new();
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let mut first = site.gateway();
    first.run(adopted(&first, vm));
    let facts = first.core.now().vms[&vm].facts.clone().unwrap();
    first.run(async {
        let before = first.core.registry().vm(vm).await.unwrap().unwrap();
        let adopted = first
            .core
            .registry()
            .adopt(&[Arc::clone(&facts)], &before.0.tenant)
            .await
            .unwrap();
        assert_eq!(adopted, [before]);
    });
    first.kill();
}

#[test]
fn a_vm_that_came_back_under_its_old_id_is_the_old_one() {
    let site = Site::new();
    let vm = site
        .hypervisor()
        .spawn_foreign_vm(ForeignVm::named("old"))
        .unwrap();
    let gateway = site.gateway();
    gateway.run(async {
        adopted(&gateway, vm).await;
        let core = &gateway.core;
        let number = core.now().vms[&vm].record.number;
        site.hypervisor().remove_from_outside(vm).unwrap();
        eventually("it is gone", || !core.now().vms.contains_key(&vm)).await;
        let again = ForeignVm {
            id: Some(vm),
            ..ForeignVm::named("old")
        };
        site.hypervisor().spawn_foreign_vm(again).unwrap();
        adopted(&gateway, vm).await;
        assert_eq!(core.now().vms[&vm].record.number, number);
        assert!(core.now().vms[&vm].facts.is_some());
    });
}
