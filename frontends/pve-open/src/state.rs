//! What a machine's state is called here, and what each call answers in it. The codes are documented; which
//! state answers which is chosen, because the document does not say.
//!
//! | state | status | operate 1 | operate 0 | reboot | delete |
//! |---|---|---|---|---|---|
//! | off | 0 | start | nothing to do | 7002 | yes |
//! | paused, asleep | 0 | resume, start | force off | 7004 | yes |
//! | crashed | 0 | start | nothing to do | 7003 | yes |
//! | creation failed | 0 | 1003 | 1003 | 7003 | yes |
//! | being created | 0 | 1005 | 1005 | 7004 | no |
//! | starting, rebooting | 1 | 6000 | 6000 | 7004 | no |
//! | on | 2 | nothing to do | stop | reboot | yes |
//! | on, another change under way | 2 | 1005 | 1005 | 7004 | no |
//! | stopping, being deleted | 4 | 6001 | 6001 | 7004 | no |
//! | term over | 5 | 6003 | as before | 7003 | yes |
//!
//! Status 3, "being charged", never occurs: nothing is charged.

use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{Activity, PowerState, Timestamp, Vm};

use crate::error::{Code, Fault};
use crate::settings::PowerOff;

/// Where a machine stands, in this dialect's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Off.
    Off,
    /// vCPUs stopped by somebody; shown as off, because the guest does nothing.
    Paused,
    /// Suspended by the guest itself.
    Asleep,
    /// Ended by a fault.
    Crashed,
    /// Its creation failed; it can only be deleted.
    Failed,
    /// Its backend has not reported it yet, and no job is at it.
    Unknown,
    /// Being created.
    Creating,
    /// On its way up.
    Starting,
    /// On.
    On,
    /// Another change is under way; what it was before, or is meanwhile.
    Occupied {
        /// Whether it is on.
        on: bool,
    },
    /// On its way down, or away.
    Stopping,
}

/// A machine's state together with its term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The state.
    pub(crate) state: State,
    /// Whether its paid term is over.
    pub(crate) expired: bool,
}

/// What a call does in a state.
#[derive(Debug, Clone)]
pub(crate) enum Ruling {
    /// This.
    Do(PowerAction),
    /// Nothing: it is so already.
    Nothing,
    /// It says no.
    Refuse(Fault),
}

/// Whether the term of `vm` is over at `now`.
pub(crate) fn expired(vm: &Vm, now: Timestamp) -> bool {
    vm.record.expires_at.is_some_and(|end| end <= now)
}

impl Standing {
    /// Where `vm` stands at `now`.
    pub(crate) fn of(vm: &Vm, now: Timestamp) -> Self {
        Self {
            state: state(vm),
            expired: expired(vm, now),
        }
    }

    /// The number shown as `status`.
    pub(crate) const fn status(self) -> &'static str {
        match (self.state, self.expired) {
            (State::Starting, _) => "1",
            (State::Stopping, _) => "4",
            (_, true) => "5",
            (State::On | State::Occupied { on: true }, false) => "2",
            (
                State::Off
                | State::Paused
                | State::Asleep
                | State::Crashed
                | State::Failed
                | State::Unknown
                | State::Creating
                | State::Occupied { on: false },
                false,
            ) => "0",
        }
    }

    /// operate with type 1.
    pub(crate) fn switch_on(self) -> Ruling {
        if self.expired && self.settled() {
            return refuse(Code::WalletTooLow);
        }
        match self.state {
            State::Off | State::Asleep | State::Crashed => Ruling::Do(PowerAction::Start),
            State::Paused => Ruling::Do(PowerAction::Resume),
            State::On => Ruling::Nothing,
            State::Starting => refuse(Code::Starting),
            State::Stopping => refuse(Code::Stopping),
            State::Creating | State::Occupied { .. } => refuse(Code::InProgress),
            State::Failed | State::Unknown => Ruling::Refuse(self.unusable()),
        }
    }

    /// operate with type 0.
    pub(crate) fn switch_off(self, how: PowerOff) -> Ruling {
        match self.state {
            State::On => Ruling::Do(match how {
                PowerOff::Shutdown => PowerAction::Shutdown,
                PowerOff::ForceOff => PowerAction::ForceOff,
            }),
            // A guest that does not run cannot be asked.
            State::Paused | State::Asleep => Ruling::Do(PowerAction::ForceOff),
            State::Off | State::Crashed => Ruling::Nothing,
            State::Starting => refuse(Code::Starting),
            State::Stopping => refuse(Code::Stopping),
            State::Creating | State::Occupied { .. } => refuse(Code::InProgress),
            State::Failed | State::Unknown => Ruling::Refuse(self.unusable()),
        }
    }

    /// reboot.
    pub(crate) fn reboot(self) -> Ruling {
        if self.expired && self.settled() {
            return refuse(Code::RebootUnusable);
        }
        match self.state {
            State::On => Ruling::Do(PowerAction::Reboot),
            State::Off => refuse(Code::RebootOff),
            State::Crashed | State::Failed | State::Unknown => refuse(Code::RebootUnusable),
            State::Paused
            | State::Asleep
            | State::Creating
            | State::Starting
            | State::Occupied { .. }
            | State::Stopping => refuse(Code::RebootNotRunning),
        }
    }

    /// Whether delete may go ahead; otherwise it answers `false`.
    pub(crate) const fn deletable(self) -> bool {
        self.settled()
    }

    /// Whether no change is under way.
    const fn settled(self) -> bool {
        match self.state {
            State::Off
            | State::Paused
            | State::Asleep
            | State::Crashed
            | State::Failed
            | State::Unknown
            | State::On => true,
            State::Creating | State::Starting | State::Occupied { .. } | State::Stopping => false,
        }
    }

    fn unusable(self) -> Fault {
        match self.state {
            State::Failed => Fault::business("the machine's creation failed, it can only be deleted"),
            _ => Fault::business("the machine's state is not known at this moment, try again"),
        }
    }
}

fn refuse(code: Code) -> Ruling {
    Ruling::Refuse(Fault::code(code))
}

fn state(vm: &Vm) -> State {
    let on = matches!(vm.power(), PowerState::Running | PowerState::Blocked);
    if let Some(activity) = vm.activity {
        return match activity {
            Activity::Creating => State::Creating,
            Activity::Starting | Activity::Rebooting | Activity::Resuming | Activity::Restoring => {
                State::Starting
            }
            Activity::Stopping | Activity::Suspending | Activity::Saving | Activity::Deleting => {
                State::Stopping
            }
            Activity::Cloning
            | Activity::Migrating
            | Activity::Importing
            | Activity::Exporting
            | Activity::Reconfiguring
            | Activity::Snapshotting => State::Occupied { on },
        };
    }
    if vm.record.fault.is_some() {
        return State::Failed;
    }
    match vm.power() {
        PowerState::Running | PowerState::Blocked => State::On,
        PowerState::Paused => State::Paused,
        PowerState::ShuttingDown => State::Stopping,
        PowerState::Off => State::Off,
        PowerState::Crashed => State::Crashed,
        PowerState::Suspended => State::Asleep,
        PowerState::NoState => State::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ruling in short: what is done, `-` for nothing, or the code.
    fn short(ruling: Ruling) -> String {
        match ruling {
            Ruling::Do(action) => action.as_ref().to_owned(),
            Ruling::Nothing => "-".to_owned(),
            Ruling::Refuse(fault) => fault.outcome.row.code.clone(),
        }
    }

    #[test]
    fn each_state_answers_as_the_table_says() {
        use State as S;
        let table = [
            (S::Off, "0", "start", "-", "7002", true),
            (S::Paused, "0", "resume", "force_off", "7004", true),
            (S::Asleep, "0", "start", "force_off", "7004", true),
            (S::Crashed, "0", "start", "-", "7003", true),
            (S::Failed, "0", "1003", "1003", "7003", true),
            (S::Unknown, "0", "1003", "1003", "7003", true),
            (S::Creating, "0", "1005", "1005", "7004", false),
            (S::Starting, "1", "6000", "6000", "7004", false),
            (S::On, "2", "-", "shutdown", "reboot", true),
            (S::Occupied { on: true }, "2", "1005", "1005", "7004", false),
            (S::Occupied { on: false }, "0", "1005", "1005", "7004", false),
            (S::Stopping, "4", "6001", "6001", "7004", false),
        ];
        for (state, status, on, off, reboot, deletable) in table {
            let standing = Standing {
                state,
                expired: false,
            };
            assert_eq!(standing.status(), status, "{state:?}");
            assert_eq!(short(standing.switch_on()), on, "{state:?}");
            assert_eq!(short(standing.switch_off(PowerOff::Shutdown)), off, "{state:?}");
            assert_eq!(short(standing.reboot()), reboot, "{state:?}");
            assert_eq!(standing.deletable(), deletable, "{state:?}");
        }
    }

    #[test]
    fn a_machine_whose_term_is_over_can_be_stopped_and_deleted_only() {
        let on = Standing {
            state: State::On,
            expired: true,
        };
        assert_eq!(on.status(), "5");
        assert_eq!(short(on.switch_on()), "6003");
        assert_eq!(short(on.switch_off(PowerOff::Shutdown)), "shutdown");
        assert_eq!(short(on.reboot()), "7003");
        assert!(on.deletable());
        let off = Standing {
            state: State::Off,
            expired: true,
        };
        assert_eq!(off.status(), "5");
        assert_eq!(short(off.switch_on()), "6003");
        assert_eq!(short(off.switch_off(PowerOff::Shutdown)), "-");
        assert_eq!(short(off.reboot()), "7003");
    }

    #[test]
    fn a_change_under_way_shows_even_when_the_term_is_over() {
        let stopping = Standing {
            state: State::Stopping,
            expired: true,
        };
        assert_eq!(stopping.status(), "4");
        assert_eq!(short(stopping.switch_on()), "6001");
        assert!(!stopping.deletable());
    }

    #[test]
    fn a_site_may_cut_the_power_instead_of_asking() {
        let on = Standing {
            state: State::On,
            expired: false,
        };
        assert_eq!(short(on.switch_off(PowerOff::ForceOff)), "force_off");
    }
}
