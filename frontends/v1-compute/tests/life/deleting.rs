//! Deletion for good and into the recycle bin.

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_memory::Fault;
use serde_json::json;

use crate::support::{ADMIN, Site, USER, eventually};
use crate::{named, with};

const REAL: &str = "/v1/compute/delete";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_deletes_for_good_a_machine_that_runs() {
    let site = Site::closed().await;
    let admin = site.client(ADMIN).await;
    let uuid = admin.machine("web").await;
    admin.post("/v1/compute/start", &named(&uuid)).await.good();
    let before = site.control.volumes().len();
    let body = with(&uuid, json!({"real_delete": true, "is_delete_volumes": true}));
    admin.post(REAL, &body).await.good();
    assert!(site.control.vms().is_empty(), "it is gone");
    assert!(site.control.volumes().len() < before, "and so is its volume");
    admin.post(REAL, &body).await.bad(22001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_stay_unless_they_are_to_go() {
    let site = Site::closed().await;
    let admin = site.client(ADMIN).await;
    let uuid = admin.machine("web").await;
    let before = site.control.volumes().len();
    admin
        .post(REAL, &with(&uuid, json!({"real_delete": true})))
        .await
        .good();
    assert!(site.control.vms().is_empty());
    assert_eq!(site.control.volumes().len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_whoever_is_no_administrator_it_is_always_the_recycle_bin() {
    let site = Site::closed().await;
    let user = site.client(USER).await;
    let uuid = user.machine("web").await;
    let body = with(&uuid, json!({"real_delete": true, "is_delete_volumes": true}));
    user.post(REAL, &body).await.good();
    assert_eq!(site.control.vms().len(), 1, "the hypervisor still has it");
    assert!(site.vm(&uuid).record.trashed_at.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_runs_does_not_go_into_the_recycle_bin() {
    let site = Site::open().await;
    let uuid = site.running("web").await;
    let why = site.post(REAL, &named(&uuid)).await.bad(22003);
    assert!(why.contains("recycle bin"), "{why}");
    assert_eq!(site.inspect(&uuid).await["state"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_machines_are_deleted_each_on_its_own() {
    let site = Site::open().await;
    let (on, off) = (site.running("on").await, site.machine("off").await);
    let body = json!({"vms": [named(&on), named(&off)]});
    let data = site.post("/v1/compute/batch_delete", &body).await.good();
    assert_eq!((&data["success"], &data["fail"]), (&json!(1), &json!(1)));
    assert_eq!(data["results"][0]["data"]["compute_uuid"], on);
    eventually("the other is in the bin", || site.vm(&off).record.trashed_at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_cannot_be_removed_stays_behind_and_that_is_no_error() {
    let site = Site::closed().await;
    let admin = site.client(ADMIN).await;
    let uuid = admin.machine("web").await;
    let before = site.control.volumes().len();
    let fault = Fault::new(Capability::VolumeDelete, ErrorKind::Unsupported).times(99);
    site.control.inject_fault(fault);
    let body = with(&uuid, json!({"real_delete": true, "is_delete_volumes": true}));
    let answer = admin.post(REAL, &body).await;
    if site.control.vms().is_empty() {
        answer.good();
        assert_eq!(site.control.volumes().len(), before);
    } else {
        panic!("the machine is still there: {}", answer.body);
    }
}
