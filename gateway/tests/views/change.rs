//! Changes by chance, each as a client of its dialect makes it. What a state does not allow is refused, and that is a
//! step, too: nothing may have changed by it.

use std::sync::Arc;

use babelvisor_core::model::Vm;
use babelvisor_schemas::{Dialect, contract};
use serde_json::{Value, json};

use crate::site::{Answer, Site, send};

/// Numbers that are the same for the same seed (SplitMix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What can be done to a VM, or to none: dialect, operation.
const CHANGES: &[(Dialect, &str)] = &[
    (Dialect::GuestRest, "guest.create"),
    (Dialect::GuestRest, "guest.boot"),
    (Dialect::GuestRest, "guest.force_shutdown"),
    (Dialect::GuestRest, "guest.suspend"),
    (Dialect::GuestRest, "guest.resume"),
    (Dialect::GuestRest, "guest.update"),
    (Dialect::GuestRest, "guest.delete"),
    (Dialect::PveOpen, "pve.createquantity"),
    (Dialect::PveOpen, "pve.operate"),
    (Dialect::PveOpen, "pve.reboot"),
    (Dialect::PveOpen, "pve.delete"),
    (Dialect::Zstack, "CreateVmInstance"),
    (Dialect::Zstack, "StartVmInstance"),
    (Dialect::Zstack, "StopVmInstance"),
    (Dialect::Zstack, "PauseVmInstance"),
    (Dialect::Zstack, "ResumeVmInstance"),
    (Dialect::Zstack, "UpdateVmInstance"),
    (Dialect::Zstack, "DestroyVmInstance"),
    (Dialect::Zstack, "RecoverVmInstance"),
    (Dialect::Zstack, "ExpungeVmInstance"),
    (Dialect::Zstack, "ChangeInstanceOffering"),
    (Dialect::Zstack, "CloneVmInstance"),
    (Dialect::Zstack, "UpdateVmNicMac"),
    (Dialect::V1Compute, "compute.unified_create"),
    (Dialect::V1Compute, "compute.start"),
    (Dialect::V1Compute, "compute.shutoff"),
    (Dialect::V1Compute, "compute.suspend"),
    (Dialect::V1Compute, "compute.resume"),
    (Dialect::V1Compute, "compute.save"),
    (Dialect::V1Compute, "compute.restore"),
    (Dialect::V1Compute, "compute.vcpu_set"),
    (Dialect::V1Compute, "compute.vmemory_set"),
    (Dialect::V1Compute, "compute.delete"),
];

fn is_built(dialect: Dialect, operation: &str) -> bool {
    contract(dialect)
        .operation(operation)
        .is_some_and(|operation| operation.built)
}

/// The dialects that can change something.
pub fn built_dialects() -> Vec<Dialect> {
    Dialect::ALL
        .into_iter()
        .filter(|dialect| {
            CHANGES
                .iter()
                .any(|(of, operation)| of == dialect && is_built(*of, operation))
        })
        .collect()
}

/// A site with a client of each dialect.
pub struct Walker {
    pub site: Site,
    zstack: Option<(&'static str, String)>,
    compute: Option<(&'static str, String)>,
    pub tenant: String,
    pub cluster: String,
}

impl Walker {
    pub async fn new(site: Site) -> Self {
        let sign_in = async |dialect, operation: &str| match is_built(dialect, operation) {
            true => Some(site.signed_in(dialect).await),
            false => None,
        };
        let zstack = sign_in(Dialect::Zstack, "LogInByAccount").await;
        let compute = sign_in(Dialect::V1Compute, "auth.login").await;
        let mut walker = Self {
            site,
            zstack,
            compute,
            tenant: String::new(),
            cluster: String::new(),
        };
        if walker.compute.is_some() {
            let first =
                |list: &Value, member: &str| list["data"]["list"][0][member].as_str().map(str::to_owned);
            let tenants = walker
                .ask(Dialect::V1Compute, "GET", "/v1/tenant/list", None)
                .await;
            walker.tenant = first(&tenants.body, "uuid").unwrap_or_default();
            let clusters = walker
                .ask(Dialect::V1Compute, "GET", "/v1/cluster/list", None)
                .await;
            walker.cluster = first(&clusters.body, "cluster_uuid").unwrap_or_default();
        }
        walker
    }

    /// Those who can be asked.
    pub fn dialects(&self) -> Vec<Dialect> {
        let signed = [
            (Dialect::Zstack, &self.zstack),
            (Dialect::V1Compute, &self.compute),
        ];
        let signed = signed.into_iter().filter(|(_, session)| session.is_some());
        [Dialect::GuestRest, Dialect::PveOpen]
            .into_iter()
            .chain(signed.map(|(dialect, _)| dialect))
            .collect()
    }

    pub async fn ask(&self, dialect: Dialect, method: &str, target: &str, body: Option<&Value>) -> Answer {
        let session = match dialect {
            Dialect::Zstack => self.zstack.as_ref(),
            Dialect::V1Compute => self.compute.as_ref(),
            Dialect::GuestRest | Dialect::PveOpen | Dialect::KvmTaskFeed => None,
        };
        let headers: Vec<(&str, &str)> = session
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let body = body.map(Value::to_string).unwrap_or_default();
        send(
            self.site.frontend(dialect),
            dialect,
            method,
            target,
            &headers,
            body.as_bytes(),
        )
        .await
    }

    /// One change by chance: by whom, what, and whether it was taken.
    pub async fn step(&self, chance: &mut Chance) -> (Dialect, String, bool) {
        let dialects = built_dialects();
        let dialect = *chance.pick(&dialects);
        let changes: Vec<&str> = CHANGES
            .iter()
            .filter(|(of, operation)| *of == dialect && is_built(dialect, operation))
            .map(|(_, operation)| *operation)
            .collect();
        let operation = *chance.pick(&changes);
        let mut vms: Vec<Arc<Vm>> = self.site.core.now().vms.values().cloned().collect();
        vms.retain(|vm| vm.record.gone_at.is_none());
        // Ids of new machines differ from run to run, their numbers do not.
        vms.sort_by_key(|vm| vm.record.number);
        let Some(vm) = (!vms.is_empty()).then(|| chance.pick(&vms).clone()) else {
            return (dialect, format!("{operation}: nothing is left"), false);
        };
        let done = match dialect {
            Dialect::GuestRest => self.guest(operation, &vm, chance).await,
            Dialect::PveOpen => self.machine(operation, &vm, chance).await,
            Dialect::Zstack => self.instance(operation, &vm, chance).await,
            Dialect::V1Compute => self.compute(operation, &vm, chance).await,
            Dialect::KvmTaskFeed => false,
        };
        (
            dialect,
            format!("{operation} of {} {}", vm.record.number, vm.name()),
            done,
        )
    }

    async fn guest(&self, operation: &str, vm: &Vm, chance: &mut Chance) -> bool {
        let act = |word: &str| ("PUT", format!("/api/guests/_{word}/{}", vm.id), None);
        let (method, target, body) = match operation {
            "guest.create" => {
                let body = json!({"cpu": 1 + chance.below(3), "memory": 1 + chance.below(3), "os_template_id": 1,
                                  "quantity": 1, "name": "", "password": "Reef-lamp-7", "lease_term": 100});
                ("POST", "/api/guest".to_owned(), Some(body))
            }
            "guest.boot" => act("boot"),
            "guest.force_shutdown" => act("force_shutdown"),
            "guest.suspend" => act("suspend"),
            "guest.resume" => act("resume"),
            "guest.update" => {
                let remark = format!("note {}", chance.below(1000));
                (
                    "PATCH",
                    format!("/api/guest/{}", vm.id),
                    Some(json!({ "remark": remark })),
                )
            }
            _ => ("DELETE", format!("/api/guests/{}", vm.id), None),
        };
        let answer = self.ask(Dialect::GuestRest, method, &target, body.as_ref()).await;
        answer.status == 200
    }

    async fn machine(&self, operation: &str, vm: &Vm, chance: &mut Chance) -> bool {
        let id = &vm.record.short_id;
        let (method, target, body) = match operation {
            "pve.createquantity" => {
                let package = *chance.pick(&[crate::site::seeds::SMALL, crate::site::seeds::LARGE]);
                let body = json!({"packageId": package, "imageId": "1"});
                ("POST", "/v1/pve/open/createquantity".to_owned(), Some(body))
            }
            "pve.operate" => {
                let kind = chance.below(2);
                ("GET", format!("/v1/pve/open/operate/{id}?type={kind}"), None)
            }
            "pve.reboot" => ("GET", format!("/v1/pve/open/reboot/{id}"), None),
            _ => ("DELETE", format!("/v1/pve/open/delete/{id}"), None),
        };
        let answer = self.ask(Dialect::PveOpen, method, &target, body.as_ref()).await;
        answer.body["code"] == 0
    }

    /// The uuid of some resource.
    async fn uuid_of(&self, path: &str, chance: &mut Chance) -> Value {
        let answer = self
            .ask(Dialect::Zstack, "GET", &format!("/zstack/v1/{path}"), None)
            .await;
        let all: Vec<Value> = answer.body["inventories"]
            .as_array()
            .unwrap_or_else(|| panic!("{path}: {answer:?}"))
            .iter()
            .map(|one| one["uuid"].clone())
            .collect();
        chance.pick(&all).clone()
    }

    async fn instance(&self, operation: &str, vm: &Vm, chance: &mut Chance) -> bool {
        let path = format!("/zstack/v1/vm-instances/{}", vm.id.0.simple());
        let actions = format!("{path}/actions");
        let (method, target, body) = match operation {
            "CreateVmInstance" => {
                let offering = self.uuid_of("instance-offerings?sort=%2Bname", chance).await;
                let image = self.uuid_of("images?q=name=debian", chance).await;
                let network = self.uuid_of("l3-networks", chance).await;
                let params = json!({"name": format!("instance-{}", chance.below(100_000)), "instanceOfferingUuid": offering,
                                    "imageUuid": image, "l3NetworkUuids": [network], "description": "made by chance"});
                (
                    "POST",
                    "/zstack/v1/vm-instances".to_owned(),
                    json!({ "params": params }),
                )
            }
            "StartVmInstance" => ("PUT", actions, json!({"startVmInstance": {}})),
            "StopVmInstance" => ("PUT", actions, json!({"stopVmInstance": {"type": "cold"}})),
            "PauseVmInstance" => ("PUT", actions, json!({"pauseVmInstance": {}})),
            "ResumeVmInstance" => ("PUT", actions, json!({"resumeVmInstance": {}})),
            "UpdateVmInstance" => {
                let name = format!("renamed-{}", chance.below(1000));
                let words = format!("words {}", chance.below(1000));
                (
                    "PUT",
                    actions,
                    json!({"updateVmInstance": {"name": name, "description": words}}),
                )
            }
            "ChangeInstanceOffering" => {
                let offering = self.uuid_of("instance-offerings?sort=%2Bname", chance).await;
                (
                    "PUT",
                    actions,
                    json!({"changeInstanceOffering": {"instanceOfferingUuid": offering}}),
                )
            }
            "CloneVmInstance" => {
                let names = [format!("clone-{}", chance.below(100_000))];
                (
                    "PUT",
                    actions,
                    json!({"cloneVmInstance": {"names": names, "strategy": "JustCreate"}}),
                )
            }
            "UpdateVmNicMac" => {
                let query = format!(
                    "/zstack/v1/vm-instances/nics?q=vmInstanceUuid={}",
                    vm.id.0.simple()
                );
                let nics = self.ask(Dialect::Zstack, "GET", &query, None).await;
                let Some(nic) = nics.body["inventories"][0]["uuid"].as_str() else {
                    return false;
                };
                let mac = format!("fa:00:00:00:00:{:02x}", chance.below(256));
                let path = format!("/zstack/v1/vm-instances/nics/{nic}/actions");
                ("PUT", path, json!({"updateVmNicMac": {"mac": mac}}))
            }
            "DestroyVmInstance" => ("DELETE", format!("{path}?deleteMode=Permissive"), Value::Null),
            "RecoverVmInstance" => ("PUT", actions, json!({"recoverVmInstance": {}})),
            _ => ("PUT", actions, json!({"expungeVmInstance": {}})),
        };
        let body = Some(&body).filter(|body| !body.is_null());
        let answer = self.ask(Dialect::Zstack, method, &target, body).await;
        if answer.status != 202 {
            return answer.status == 200;
        }
        self.site.settled().await;
        let location = answer.body["location"].as_str().unwrap();
        let job = location.rsplit('/').next().unwrap();
        let end = self
            .ask(
                Dialect::Zstack,
                "GET",
                &format!("/zstack/v1/api-jobs/{job}"),
                None,
            )
            .await;
        assert_ne!(end.status, 202, "{operation} is said to go on, and nothing does");
        end.status == 200
    }

    async fn compute(&self, operation: &str, vm: &Vm, chance: &mut Chance) -> bool {
        let mut body = json!({"cluster_uuid": self.cluster, "tenant": self.tenant, "compute_uuid": vm.id.to_string(),
                              "compute_name": vm.name()});
        match operation {
            "compute.unified_create" => {
                body = json!({"cluster_uuid": self.cluster, "tenant": self.tenant, "cpunr": 1 + chance.below(2), "max_cpu_nr": 2,
                              "mem_size": 1_u64 << 30, "mem_max": 2_u64 << 30, "type": "GUS", "os": "Debian",
                              "meta": {"compute_name": format!("compute-{}", chance.below(100_000)), "os_loader_path": "BIOS",
                                       "video": [{"model_type": "vga"}], "vnc_enable": true},
                              "interfaces": [{"interface_model_type": "virtio", "interface_type": "manage"}],
                              "disks": [{"disk_target_bus": "virtio", "disk_unified_vsd": {"volume_name": "root", "capacity": 1_u64 << 30}}]});
            }
            "compute.vcpu_set" => body["cpu_current"] = json!(1 + chance.below(4)),
            "compute.vmemory_set" => body["mem_size"] = json!((1 + chance.below(3) as u64) << 30),
            "compute.delete" => {
                body["real_delete"] = json!(chance.below(2) == 0);
                body["is_delete_volumes"] = json!(true);
            }
            _ => {}
        }
        let path = contract(Dialect::V1Compute)
            .operation(operation)
            .unwrap()
            .path
            .as_str();
        let answer = self.ask(Dialect::V1Compute, "POST", path, Some(&body)).await;
        answer.body["scode"] == 0 && answer.body["data"]["fail"].as_u64().unwrap_or(0) == 0
    }
}
