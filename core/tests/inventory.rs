//! Whatever order news arrives in, the inventory shows what a naive model of the same news says, and its
//! indexes agree with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on shall panic"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use babelvisor_core::backend::BackendEvent;
use babelvisor_core::command::{COMMAND_VERSION, Command, Power, PowerAction};
use babelvisor_core::inventory::Inventory;
use babelvisor_core::model::*;
use babelvisor_core::registry::Registry;
use babelvisor_core::{Error, ErrorKind};
use proptest::prelude::*;
use uuid::Uuid;

const VMS: u8 = 3;
const BACKENDS: u8 = 2;
const JOBS: u8 = 4;

/// One piece of news.
#[derive(Debug, Clone)]
enum News {
    Changed {
        backend: u8,
        vm: u8,
        power: u8,
    },
    Gone {
        backend: u8,
        vm: u8,
    },
    Resync {
        backend: u8,
        powers: [Option<u8>; VMS as usize],
    },
    Down {
        backend: u8,
    },
    Record {
        vm: u8,
        version: u64,
    },
    Job {
        job: u8,
        moment: u8,
    },
}

fn news() -> impl Strategy<Value = News> {
    let (backend, vm, power) = (0..BACKENDS, 0..VMS, 0..3_u8);
    prop_oneof![
        4 => (backend.clone(), vm.clone(), power.clone())
            .prop_map(|(backend, vm, power)| News::Changed { backend, vm, power }),
        2 => (backend.clone(), vm.clone()).prop_map(|(backend, vm)| News::Gone { backend, vm }),
        2 => (backend.clone(), prop::array::uniform3(prop::option::of(power)))
            .prop_map(|(backend, powers)| News::Resync { backend, powers }),
        1 => backend.prop_map(|backend| News::Down { backend }),
        6 => (vm, 1..12_u64).prop_map(|(vm, version)| News::Record { vm, version }),
        4 => (0..JOBS, 0..3_u8).prop_map(|(job, moment)| News::Job { job, moment }),
    ]
}

fn vm_id(vm: u8) -> VmId {
    VmId(Uuid::from_u128(100 + u128::from(vm)))
}

fn backend_id(backend: u8) -> BackendId {
    BackendId::new(format!("b{backend}"))
}

fn facts(backend: u8, vm: u8, power: u8) -> VmFacts {
    VmFacts {
        id: vm_id(vm),
        backend: backend_id(backend),
        native: vm_id(vm).to_string(),
        name: format!("vm{vm}"),
        host: HostId::computed(&backend_id(backend), "host"),
        power: [PowerState::Off, PowerState::Running, PowerState::Paused][usize::from(power)],
        saved: false,
        persistent: true,
        autostart: false,
        cpu: Cpu::default(),
        memory: Memory::default(),
        firmware: Firmware::Bios,
        boot: Vec::new(),
        disks: Vec::new(),
        removable: Vec::new(),
        nics: Vec::new(),
        graphics: Vec::new(),
        video: Vec::new(),
        host_devices: Vec::new(),
        agent: AgentState::Absent,
        definition: None,
        made_by: None,
    }
}

/// The record of a VM as its `version`th write left it: every version differs in all that the indexes see.
fn record(vm: u8, version: u64) -> VmRecord {
    let alias = (u64::from(vm) + 1, format!("short{vm}"));
    let tenant = TenantId::new(if version.is_multiple_of(3) { "red" } else { "blue" });
    let home = backend_id(u8::try_from(version % 2).unwrap());
    let mut record = Registry::new_vm(vm_id(vm), alias, home, tenant, VmOrigin::Adopted, None);
    record.first_seen = Timestamp::UNIX_EPOCH;
    record.remark = format!("version {version}");
    record.trashed_at = (version % 5 == 4).then_some(Timestamp::UNIX_EPOCH);
    record.gone_at = (version % 4 == 3).then_some(Timestamp::UNIX_EPOCH);
    record
}

fn job(number: u8, moment: u8) -> Job {
    let actions = [
        PowerAction::Start,
        PowerAction::Suspend,
        PowerAction::ForceOff,
        PowerAction::Reboot,
    ];
    let command = Command::Power(Power {
        vm: vm_id(number % VMS),
        action: actions[usize::from(number)],
    });
    Job {
        id: JobId(Uuid::from_u128(u128::from(number))),
        subjects: command.subjects(),
        command,
        command_version: COMMAND_VERSION,
        backend: backend_id(0),
        tenant: TenantId::new("blue"),
        dialect: "test".to_owned(),
        operation: "test".to_owned(),
        state: [JobState::Queued, JobState::Running, JobState::Failed][usize::from(moment)],
        submitted: Timestamp::from_second(i64::from(JOBS - number)).unwrap(),
        started: None,
        ended: None,
        deadline: Timestamp::MAX,
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

/// The naive model: tables of what was said last, and no cleverness.
#[derive(Debug, Default)]
struct Model {
    reports: BTreeMap<(u8, u8), u8>,
    up: BTreeSet<u8>,
    versions: BTreeMap<u8, u64>,
    begun: BTreeSet<u8>,
    ended: BTreeSet<u8>,
}

impl Model {
    fn hear(&mut self, news: &News) {
        match news {
            News::Changed { backend, vm, power } => {
                self.reports.insert((*vm, *backend), *power);
            }
            News::Gone { backend, vm } => {
                self.reports.remove(&(*vm, *backend));
            }
            News::Resync { backend, powers } => {
                self.up.insert(*backend);
                for (vm, power) in (0..).zip(powers) {
                    match power {
                        Some(power) => self.reports.insert((vm, *backend), *power),
                        None => self.reports.remove(&(vm, *backend)),
                    };
                }
            }
            News::Down { backend } => {
                self.up.remove(backend);
            }
            News::Record { vm, version } => {
                let newest = self.versions.entry(*vm).or_default();
                *newest = (*newest).max(*version);
            }
            News::Job { job, moment: 2 } => {
                self.ended.insert(*job);
            }
            News::Job { job, .. } => {
                self.begun.insert(*job);
            }
        }
    }

    fn shows(&self, vm: u8) -> Option<Shown> {
        let version = *self.versions.get(&vm)?;
        let record = record(vm, version);
        if record.gone_at.is_some() {
            return None;
        }
        let home = u8::try_from(version % 2).unwrap();
        let all: BTreeMap<u8, u8> = (0..BACKENDS)
            .filter_map(|backend| Some((backend, *self.reports.get(&(vm, backend))?)))
            .collect();
        let report = all.get_key_value(&home).or_else(|| all.first_key_value());
        let jobs = (0..JOBS).filter(|job| job % VMS == vm);
        let jobs = jobs.filter(|job| self.begun.contains(job) && !self.ended.contains(job));
        let oldest = jobs.max().map(|number| job(number, 0));
        Some(Shown {
            facts: report.map(|(backend, power)| facts(*backend, vm, *power)),
            activity: oldest.and_then(|job| job.command.activities().first().map(|(_, activity)| *activity)),
            reachable: self.up.contains(report.map_or(&home, |(backend, _)| backend)),
            record,
        })
    }
}

/// What of one VM can be seen.
#[derive(Debug, PartialEq)]
struct Shown {
    facts: Option<VmFacts>,
    activity: Option<Activity>,
    reachable: bool,
    record: VmRecord,
}

fn tell(inventory: &Inventory, news: &News) {
    match news {
        News::Changed { backend, vm, power } => {
            let event = BackendEvent::Changed(Box::new(facts(*backend, *vm, *power)));
            inventory.backend_event(&backend_id(*backend), event);
        }
        News::Gone { backend, vm } => {
            inventory.backend_event(&backend_id(*backend), BackendEvent::Gone(vm_id(*vm)));
        }
        News::Resync { backend, powers } => {
            let all = (0..).zip(powers);
            let all = all.filter_map(|(vm, power)| Some(facts(*backend, vm, (*power)?)));
            inventory.backend_event(&backend_id(*backend), BackendEvent::Resync(all.collect()));
        }
        News::Down { backend } => {
            let error = Error::new(ErrorKind::BackendUnavailable, "gone");
            inventory.backend_event(&backend_id(*backend), BackendEvent::Down(error));
        }
        News::Record { vm, version } => inventory.records(vec![(record(*vm, *version), *version)]),
        News::Job { job: number, moment } => inventory.job(&job(*number, *moment)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_the_inventory_shows_what_was_said(history in prop::collection::vec(news(), 0..40)) {
        let (inventory, mut model) = (Inventory::default(), Model::default());
        let mut revisions: HashMap<VmId, (u64, String)> = HashMap::new();
        for news in &history {
            tell(&inventory, news);
            model.hear(news);
            let now = inventory.now();
            for vm in 0..VMS {
                let seen = now.vms.get(&vm_id(vm));
                let shown = seen.map(|vm| Shown {
                    facts: vm.facts.as_deref().cloned(),
                    activity: vm.activity,
                    reachable: vm.reachable,
                    record: (*vm.record).clone(),
                });
                prop_assert_eq!(&shown, &model.shows(vm), "vm {} after {:?}", vm, news);
                // Whoever caches by revision must not miss a change.
                if let Some(seen) = seen {
                    let looks = format!("{shown:?}");
                    let (revision, before) = revisions.entry(seen.id).or_insert((0, String::new()));
                    prop_assert!(*before == looks || seen.revision > *revision, "unnoticed: {:?}", news);
                    (*revision, *before) = (seen.revision, looks);
                }
            }
            let visible: BTreeMap<u64, VmId> = now
                .vms
                .values()
                .filter(|vm| vm.record.trashed_at.is_none())
                .map(|vm| (vm.record.number, vm.id))
                .collect();
            let by_number: BTreeMap<u64, VmId> = now.by_number.iter().map(|(number, vm)| (*number, vm.id)).collect();
            prop_assert_eq!(&by_number, &visible);
            for (number, vm) in &now.by_number {
                prop_assert_eq!(vm.revision, now.vms[&vm.id].revision, "number {} is behind", number);
            }
            let of_tenants: BTreeMap<u64, (TenantId, VmId)> = now
                .by_tenant
                .iter()
                .flat_map(|(tenant, vms)| vms.iter().map(|(number, vm)| (*number, (tenant.clone(), vm.id))))
                .collect();
            let expected: BTreeMap<u64, (TenantId, VmId)> = visible
                .iter()
                .map(|(number, id)| (*number, (now.vms[id].record.tenant.clone(), *id)))
                .collect();
            prop_assert_eq!(of_tenants, expected);
            prop_assert!(now.by_tenant.values().all(|vms| !vms.is_empty()));
            let short: BTreeMap<String, VmId> = now.by_short_id.iter().map(|(k, id)| (k.clone(), *id)).collect();
            let expected: BTreeMap<String, VmId> =
                now.vms.values().map(|vm| (vm.record.short_id.clone(), vm.id)).collect();
            prop_assert_eq!(short, expected);
        }
    }
}

#[test]
fn late_news_of_an_ended_job_brings_its_activity_not_back() {
    let inventory = Inventory::default();
    inventory.records(vec![(record(0, 1), 1)]);
    inventory.job(&job(0, 2));
    inventory.job(&job(0, 1));
    assert_eq!(inventory.now().vms[&vm_id(0)].activity, None);
}

#[test]
fn a_vm_that_its_backend_does_not_list_is_missing_even_if_it_was_never_seen() {
    let inventory = Inventory::default();
    inventory.records(vec![(record(0, 2), 2)]);
    let chores = inventory.backend_event(&backend_id(0), BackendEvent::Resync(Vec::new()));
    assert_eq!(chores.missing, [vm_id(0)]);
    assert_eq!(inventory.loose_ends(&backend_id(0)).missing, [vm_id(0)]);
}

#[test]
fn a_vm_that_another_backend_lists_has_moved_rather_than_gone() {
    let inventory = Inventory::default();
    inventory.records(vec![(record(0, 2), 2)]);
    tell(
        &inventory,
        &News::Changed {
            backend: 0,
            vm: 0,
            power: 1,
        },
    );
    tell(
        &inventory,
        &News::Changed {
            backend: 1,
            vm: 0,
            power: 1,
        },
    );
    let chores = inventory.backend_event(&backend_id(0), BackendEvent::Gone(vm_id(0)));
    assert_eq!(chores.moved, [(vm_id(0), backend_id(1))]);
    assert!(chores.missing.is_empty());
    assert_eq!(*inventory.now().vms[&vm_id(0)].home(), backend_id(1));
}
