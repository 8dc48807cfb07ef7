//! The faults, and the check that must catch each.

use babelvisor_core::capability::Capability;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $name:ident => $check:literal,)*) => {
        /// What is wrong with a mutant.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($(#[doc = $doc])* $name,)*
        }

        impl Fault {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The check that is there for it.
            pub(crate) const fn caught_by(self) -> &'static str {
                match self {
                    $(Self::$name => $check,)*
                }
            }
        }
    };
}

faults! {
    /// Declares a reset button that it does not have.
    LyingCapability => "declared::power.reset",
    /// Has a reset button that it does not declare.
    HiddenCapability => "undeclared::power.reset",
    /// Declares addresses that never come.
    LyingAddresses => "declared::guest.addresses",
    /// Makes volumes a 1024th of the size.
    VolumeInKib => "volume::blank_is_as_asked",
    /// Makes every volume qcow2.
    VolumeInOneFormat => "volume::blank_is_as_asked",
    /// Volumes do not say which job made them.
    VolumeForgetsJob => "volume::blank_is_as_asked",
    /// Ignores the size of layers.
    LayerIgnoresSize => "volume::layer_is_as_large_as_the_image_or_larger",
    /// A job's second try at a volume is refused.
    VolumeTwiceIsRefused => "volume::ten_tries_of_one_job_are_one_volume",
    /// A job's second try at a volume makes another.
    VolumeTwiceIsTwo => "volume::ten_tries_of_one_job_are_one_volume",
    /// Hands another job's volume over.
    VolumeIsAnybodys => "volume::another_jobs_name_is_taken",
    /// Says that a volume is deleted, and does nothing.
    DeleteIsNothing => "volume::deleted_ten_times_is_deleted_once",
    /// Deletes another volume whose name begins alike, too.
    DeleteTakesAnothers => "volume::only_the_named_volume_is_deleted",
    /// Deleting an absent volume is an error.
    DeleteAbsentIsNotFound => "volume::deleted_ten_times_is_deleted_once",
    /// Makes hostile names plain without a word.
    NamesAreLaundered => "volume::hostile_names_are_refused_or_kept",
    /// An absent pool is a fault of ours.
    AbsentPoolIsInternal => "volume::impossible_ones_leave_nothing",
    /// A full pool is a bad value.
    NoRoomIsInvalid => "volume::a_full_pool_refuses",
    /// A pool does not get its room back.
    RoomIsLost => "volume::room_comes_back",
    /// Reads memory as KiB.
    MemoryInKib => "define::is_as_asked",
    /// VMs do not say which job made them.
    VmForgetsJob => "define::is_as_asked",
    /// Defines one disk less.
    LosesADisk => "define::has_its_disks_in_order",
    /// Defines disks in the wrong order.
    DisksReversed => "define::has_its_disks_in_order",
    /// Makes BIOS of UEFI.
    FirmwareIgnored => "define::firmware_is_honoured",
    /// A new VM is started at once.
    DefineStarts => "define::is_as_asked",
    /// A job's second try defines a second VM.
    DefineTwiceIsTwo => "kit::leaves_everything_as_it_was",
    /// Another job's VM is handed over.
    DefineIsAnybodys => "define::another_jobs_vm_is_taken",
    /// The seed is not put into a drive.
    SeedIsForgotten => "guest::the_seed_is_in_the_drive",
    /// A seed is prepared without a look at its password.
    SeedIsBlind => "guest::a_password_that_cannot_be_opened_leaves_nothing",
    /// Undefining a VM deletes its volumes.
    UndefineTakesVolumes => "undefine::keeps_the_volumes",
    /// Undefines a running VM.
    UndefineKills => "undefine::refuses_a_running_vm",
    /// Undefining an absent VM is an error.
    UndefineAbsentIsNotFound => "undefine::ten_times_is_once",
    /// Says that a VM is started, and does nothing.
    StartIsNothing => "power::started_ten_times_runs_once",
    /// Starting a running VM is refused.
    StartTwiceIsRefused => "power::started_ten_times_runs_once",
    /// Starting a running VM starts it anew.
    StartTwiceIsRestart => "power::started_ten_times_runs_once",
    /// Says that a VM is suspended, and does nothing.
    SuspendIsNothing => "power::suspended_and_resumed_ten_times",
    /// Answers before a shutdown is over.
    ShutdownReturnsEarly => "power::shutdown_ends_a_guest_that_listens",
    /// Does what is illegal.
    IllegalIsSuccess => "power::what_is_illegal_while_off",
    /// Refuses what is illegal with the wrong kind.
    IllegalIsInvalid => "power::what_is_illegal_while_paused",
    /// A stop gives a VM new interfaces.
    StopChangesMac => "power::a_vm_keeps_what_it_is",
    /// Forcing a VM off takes another one along.
    ForceOffTakesAnother => "kit::leaves_everything_as_it_was",
    /// A VM that does not exist can be started.
    UnknownIsSuccess => "errors::a_vm_that_is_not_there_is_not_found",
    /// A VM that does not exist is not named.
    UnknownIsNameless => "errors::a_vm_that_is_not_there_is_not_found",
    /// Does not look at deadlines.
    IgnoresDeadline => "errors::volumes_out_of_time_have_no_effect",
    /// Says that it ran out of time, and does it all the same.
    LateAllTheSame => "errors::power_out_of_time_has_no_effect",
    /// All consoles are at one port.
    OneConsoleForAll => "console::a_running_vm_has_one_of_its_own",
    /// A VM that is off has a console.
    ConsoleWhileOff => "console::a_vm_that_is_off_has_none",
    /// Says that a console password is set, and does nothing.
    PasswordIsNothing => "console::the_password_is_what_was_set_last",
    /// Shows the console password in the VM's facts.
    PasswordIsShown => "console::the_password_is_what_was_set_last",
    /// List leaves out what is off.
    ListForgets => "define::get_and_list_agree",
    /// Get answers from a memory that is never renewed.
    GetIsStale => "power::suspended_and_resumed_ten_times",
    /// Hosts have a new id at each look.
    HostsChangeIds => "topology::is_sound",
    /// A call that is cut off keeps its lock.
    LockOutlivesCut => "adoption::a_cut_off_definition_is_one_vm",
    /// Two jobs that define one VM at a time are both told that it is theirs.
    RaceHasTwoWinners => "together::one_id_has_one_maker",
    /// Mixes up calls that come at the same time.
    MixesUpCalls => "together::many_volumes_at_once",
    /// Panics when a guest is to be rebooted.
    Panics => "power::reboot_leaves_it_running",
    /// Never answers when a guest is to be reset.
    Hangs => "power::reset_leaves_it_running",
    /// That a VM is off is told when it is made, and never again.
    LosesEvents => "events::a_burst_loses_nothing",
    /// The end of a VM is not told.
    LosesGone => "events::each_change_is_told",
    /// Suspends are not told.
    LosesPaused => "events::suspend_and_resume_are_told",
    /// Everything is never told.
    NoResync => "events::everything_comes_first",
    /// Everything is told, but without the VMs that are off.
    ResyncForgets => "events::everything_comes_first",
    /// After each change the one before is told again.
    OldAfterNew => "events::each_change_is_told",
    /// Changes tell the power state and forget the rest.
    EventsAreThin => "events::what_is_told_is_what_is",
    /// A second listener hears nothing.
    OneListenerOnly => "events::two_listeners_hear_the_same",
    /// Goes on when nobody listens.
    WatchNeverEnds => "events::watch_ends_with_its_listener",
    /// Returns although somebody listens.
    WatchEndsEarly => "events::each_change_is_told",
    /// The topology is never told.
    NoTopology => "events::topology_is_told",
}

impl Fault {
    /// What the backend behind it cannot do, whatever it declares.
    pub(crate) const fn really_lacks(self) -> &'static [Capability] {
        if matches!(self, Self::LyingCapability) {
            &[Capability::PowerReset]
        } else if matches!(self, Self::LyingAddresses) {
            &[Capability::GuestAddresses]
        } else {
            &[]
        }
    }

    /// Whether nobody could clean up behind it through its own calls.
    pub(crate) const fn hinders_cleaning(self) -> bool {
        matches!(
            self,
            Self::VolumeTwiceIsTwo
                | Self::DeleteIsNothing
                | Self::NamesAreLaundered
                | Self::DefineTwiceIsTwo
                | Self::ListForgets
                | Self::LockOutlivesCut
                | Self::DeleteTakesAnothers
        )
    }
}
