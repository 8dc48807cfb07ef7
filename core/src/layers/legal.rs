//! Whether a command is legal now: the state table, and what trash and faults forbid.

use crate::command::Command;
use crate::error::Result;
use crate::model::Vm;
use crate::state;

/// Refuses what the VM's power state, fault or trash mark forbids.
pub(super) fn check(command: &Command, vm: &Vm) -> Result<()> {
    match command {
        Command::CreateVm(_) | Command::DeleteVm(_) | Command::TrashVm(_) => Ok(()),
        Command::Power(_)
        | Command::ChangeVm(_)
        | Command::Snapshot(_)
        | Command::Volume(_)
        | Command::Image(_)
        | Command::MigrateVm(_) => {
            state::standing(vm)?;
            // A job that is under way will change the state before this one begins; it judges again then.
            if vm.activity.is_some() {
                return Ok(());
            }
            state::judge(command, vm).map(|_| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use strum::IntoEnumIterator as _;

    use super::*;
    use crate::command::{CreateVm, DeleteVm, MigrateVm, Power, PowerAction, TrashVm};
    use crate::error::{Error, ErrorKind};
    use crate::model::{
        Activity, BackendId, HostId, PowerState, TenantId, Timestamp, VmFacts, VmId, VmOrigin, VmSpec,
    };
    use crate::registry::Registry;

    fn vm(power: PowerState, activity: Option<Activity>) -> Vm {
        let (id, backend) = (VmId::random(), BackendId::new("east"));
        let alias = (1, "abcdefghij".to_owned());
        let record = Registry::new_vm(
            id,
            alias,
            backend.clone(),
            TenantId::new("red"),
            VmOrigin::Adopted,
            None,
        );
        let facts = VmFacts {
            id,
            native: id.to_string(),
            name: "web".to_owned(),
            host: HostId::computed(&backend, "host"),
            backend,
            power,
            saved: false,
            persistent: true,
            autostart: false,
            cpu: Default::default(),
            memory: Default::default(),
            firmware: Default::default(),
            boot: Vec::new(),
            disks: Vec::new(),
            removable: Vec::new(),
            nics: Vec::new(),
            graphics: Vec::new(),
            video: Vec::new(),
            host_devices: Vec::new(),
            agent: Default::default(),
            definition: None,
            made_by: None,
        };
        Vm {
            id,
            revision: 1,
            record: Arc::new(record),
            record_version: 1,
            facts: Some(Arc::new(facts)),
            activity,
            reachable: true,
            changed: Timestamp::now(),
        }
    }

    fn commands(vm: VmId) -> Vec<Command> {
        let spec = VmSpec {
            name: "web".to_owned(),
            title: "web".to_owned(),
            vcpus: 1,
            memory: 1 << 30,
            ..VmSpec::default()
        };
        let create = CreateVm {
            vm,
            spec,
            start: false,
            from: None,
            importing: false,
        };
        let delete = DeleteVm {
            vm,
            volumes: true,
            keep_data_volumes: false,
        };
        let fixed = [Command::CreateVm(Box::new(create)), Command::DeleteVm(delete)];
        let powers = PowerAction::iter().map(|action| Command::Power(Power { vm, action }));
        let fixed = fixed.into_iter().chain([
            Command::TrashVm(TrashVm { vm }),
            Command::MigrateVm(MigrateVm {
                vm,
                to: BackendId::new("west"),
                host: HostId::random(),
            }),
        ]);
        fixed.chain(powers).collect()
    }

    #[test]
    fn every_command_is_judged_in_every_state_and_activity() {
        let activities = || std::iter::once(None).chain(Activity::iter().map(Some));
        for power in PowerState::iter() {
            for activity in activities() {
                let vm = vm(power, activity);
                for command in commands(vm.id) {
                    let judged = check(&command, &vm);
                    let case = format!("{} while {power:?}, {activity:?}: {judged:?}", command.name());
                    let expected = match (&command, activity) {
                        (Command::CreateVm(_) | Command::DeleteVm(_) | Command::TrashVm(_), _) => true,
                        // What is under way changes the state first; the job judges again when it runs.
                        (Command::Power(_), Some(_)) => true,
                        (Command::Power(change), None) => {
                            state::verdict_on(change.action, power, false) != state::Verdict::Illegal
                        }
                        (Command::MigrateVm(_), Some(_)) => true,
                        (Command::MigrateVm(_), None) => {
                            matches!(
                                power,
                                PowerState::Running | PowerState::Blocked | PowerState::Paused
                            )
                        }
                        (
                            Command::ChangeVm(_)
                            | Command::Snapshot(_)
                            | Command::Volume(_)
                            | Command::Image(_),
                            _,
                        ) => unreachable!("not among the commands of this test"),
                    };
                    assert_eq!(judged.is_ok(), expected, "{case}");
                    if let Err(error) = judged {
                        assert_eq!(error.kind, ErrorKind::IllegalState, "{case}");
                        assert!(error.detail.contains(&power.as_ref().replace('_', " ")), "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_failed_or_is_in_the_trash_can_only_be_deleted() {
        type Mark = fn(&mut crate::model::VmRecord);
        let marks: [Mark; 2] = [
            |record| record.fault = Some(Error::internal("it broke")),
            |record| record.trashed_at = Some(Timestamp::now()),
        ];
        for mark in marks {
            let mut vm = vm(PowerState::Off, None);
            mark(Arc::make_mut(&mut vm.record));
            for command in commands(vm.id) {
                let may = !matches!(command, Command::Power(_) | Command::MigrateVm(_));
                assert_eq!(check(&command, &vm).is_ok(), may, "{}", command.name());
            }
        }
    }
}
