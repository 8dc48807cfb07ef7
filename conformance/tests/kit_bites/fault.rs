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

    /// Says that vCPUs are set, and does nothing.
    ChangeIsLost => "settings::vcpus_are_as_set",
    /// Sets the vCPUs in use and forgets their maximum.
    ChangeIsHalf => "settings::vcpus_are_as_set",
    /// Sets the topology and forgets it.
    TopologyIsForgotten => "settings::vcpus_are_as_set",
    /// What is impossible is done as far as it goes, which is nowhere.
    ImpossibleIsSuccess => "settings::impossible_vcpus_change_nothing",
    /// Another maximum of a running VM is taken, and lost.
    HotMaximumIsSuccess => "settings::impossible_memory_changes_nothing",
    /// The maximum of memory is what is in use.
    MemoryHasNoReserve => "settings::memory_is_as_set",
    /// Memory of a running VM stays as it is.
    HotMemoryIsNothing => "settings::memory_of_a_running_vm_is_as_set",
    /// Only the first device of a boot order counts.
    BootOrderIsCut => "settings::boot_order_is_shown_back",
    /// What starts with its host does so for ever.
    AutostartStaysOn => "settings::autostart_is_shown_back",
    /// Only the first video adapter counts.
    OneVideoOnly => "settings::video_is_replaced",
    /// Takes other video adapters while the VM runs, and loses them.
    HotVideoIsSuccess => "settings::video_is_replaced",
    /// A volume that is plugged in already is refused.
    AttachTwiceIsRefused => "disk::is_plugged_in_once",
    /// A volume that is plugged in already is plugged in once more.
    AttachTwiceIsTwo => "disk::is_plugged_in_once",
    /// Disks can be written, whatever was asked for.
    AttachIsWritable => "disk::is_plugged_in_once",
    /// What is plugged in while the VM runs is gone at its next stop.
    HotAttachIsForgotten => "disk::is_plugged_in_once",
    /// A volume that another VM has is plugged in all the same.
    AttachTakesAnothers => "disk::in_use_elsewhere_is_refused",
    /// Unplugging an absent disk is an error.
    DetachAbsentIsNotFound => "disk::is_unplugged_and_its_volume_stays",
    /// Unplugging a disk deletes its volume.
    DetachTakesTheVolume => "disk::is_unplugged_and_its_volume_stays",
    /// A running guest keeps its disks.
    HotDetachIsNothing => "disk::a_running_guest_lets_go_of_it",
    /// Limits of disks are not shown.
    QosIsHidden => "disk::limits_are_shown_and_replaced",
    /// New limits of a disk are added to the old ones.
    QosIsMerged => "disk::limits_are_shown_and_replaced",
    /// An interface that is plugged in already is refused.
    NicTwiceIsRefused => "nic::is_plugged_in_once",
    /// All interfaces have the same model.
    NicIgnoresModel => "nic::is_plugged_in_once",
    /// Unplugs the first interface, whichever was named.
    NicDetachTakesAnother => "nic::is_unplugged",
    /// A running guest keeps its interfaces.
    HotNicDetachIsNothing => "nic::a_running_guest_lets_go_of_it",
    /// An update sets what it leaves out to the usual.
    NicUpdateForgets => "nic::an_update_keeps_what_it_leaves_out",
    /// An update that was made already is refused.
    NicUpdateTwiceIsRefused => "nic::an_update_keeps_what_it_leaves_out",
    /// Only what the guest receives is limited.
    NicQosIsOneWay => "nic::limits_are_shown_and_replaced",
    /// Says that a drive is empty, and does nothing.
    EjectIsNothing => "media::is_inserted_and_ejected",
    /// A medium needs a drive that is there.
    InsertMakesNoDrive => "media::a_drive_is_made_for_it",
    /// A medium that does not exist is success.
    GhostMediumIsSuccess => "media::impossible_ones_change_nothing",
    /// A console password stays once there is one.
    PasswordStays => "console::the_password_is_removed_while_off",
    /// A display that runs keeps its password.
    HotPasswordStays => "console::the_password_is_removed",
    /// A change that is cut off keeps its lock.
    ChangeLockOutlivesCut => "change::a_cut_off_one_is_made_once_at_the_second_try",
    /// Says that a change ran out of time, and makes it all the same.
    LateChange => "change::one_out_of_time_has_no_effect",
    /// A VM that does not exist can be changed.
    AbsentChangeIsSuccess => "change::one_of_an_absent_vm_is_not_found",
    /// Changes of anything but power are not told.
    LosesChanges => "change::is_told",
    /// A guest that is off takes a password.
    OffTakesPassword => "change::a_guest_takes_a_password",
    /// A second try of a snapshot makes another.
    SnapshotTwiceIsTwo => "snapshot::ten_tries_are_one_snapshot",
    /// A second try of a snapshot is refused.
    SnapshotTwiceIsRefused => "snapshot::ten_tries_are_one_snapshot",
    /// All snapshots are said to be based on nothing.
    SnapshotsAreOrphans => "snapshot::parents_are_told_and_come_first",
    /// Children are listed before their parents.
    SnapshotsBackwards => "snapshot::parents_are_told_and_come_first",
    /// Going back does not change what the next snapshot is based on.
    RevertForgetsPlace => "snapshot::parents_are_told_and_come_first",
    /// Deleting a snapshot deletes what is based on it.
    SnapshotDeleteTakesChildren => "snapshot::a_deleted_one_leaves_its_children",
    /// Deleting an absent snapshot is an error.
    SnapshotDeleteAbsentIsNotFound => "snapshot::a_deleted_one_leaves_its_children",
    /// Says that it went back, and does nothing.
    RevertIsNothing => "snapshot::one_without_memory_is_reverted_to_off",
    /// Memory of snapshots is not used.
    RevertLosesMemory => "snapshot::one_with_memory_goes_on",
    /// The memory of a VM that is off is left out without a word.
    NoMemoryIsSuccess => "snapshot::no_memory_of_a_vm_that_is_off",
    /// Snapshots stay when their VM goes.
    SnapshotsOutliveVm => "snapshot::they_go_with_their_vm",
    /// Saving a VM is cutting its power.
    SaveIsForceOff => "saved::start_goes_on_and_uses_it_up",
    /// Saved memory is there for ever.
    SavedIsKept => "saved::start_goes_on_and_uses_it_up",
    /// Says that a VM goes on, and does nothing.
    RestoreIsNothing => "saved::restore_goes_on_and_uses_it_up",
    /// Saving a VM that is off is success.
    SaveOffIsSuccess => "saved::what_is_not_running_is_not_saved",
    /// Saved memory stays when its VM goes.
    SavedOutlivesVm => "saved::it_goes_with_its_vm",
    /// Volumes are not found.
    LookIsBlind => "volume::is_found_as_it_was_made",
    /// Volumes become as small as asked.
    ResizeShrinks => "volume::grows_and_never_shrinks",
    /// Says that a volume is larger, and does nothing.
    ResizeIsNothing => "volume::grows_and_never_shrinks",
    /// Volumes that a VM has stay as they are.
    AttachedStaysSmall => "volume::an_attached_one_grows_for_its_vm",
    /// Uploads are made larger.
    UploadGrows => "volume::an_upload_keeps_its_size",
    /// An upload over another job's volume is success.
    UploadIsAnybodys => "volume::an_upload_keeps_its_size",
    /// Streams that break off or are too short are taken.
    UploadIsPadded => "volume::an_upload_of_another_size_leaves_nothing",
    /// Refused uploads leave their volume.
    UploadLeavesHalf => "volume::an_upload_of_another_size_leaves_nothing",
    /// Says that a VM moved, and does nothing.
    MoveIsNothing => "move::to_another_host_and_back",
    /// A VM that is moved is paused.
    MovePauses => "move::to_another_host_and_back",
    /// Moving a VM to where it is is refused.
    MoveToItselfIsRefused => "move::to_where_it_is_is_success",
    /// A picture is none.
    PictureIsText => "screen::of_a_running_vm_is_a_picture",
    /// A VM that is off has a screen.
    PictureWhileOff => "screen::of_a_vm_that_is_off_is_none",
    /// Maxima are what is in use.
    DefineForgetsReserves => "define::reserves_are_honoured",
    /// Every VM boots from its disk.
    DefineForgetsBoot => "define::boot_order_and_media_are_honoured",
    /// Drives are empty.
    DefineForgetsMedia => "define::boot_order_and_media_are_honoured",
    /// Volumes that exist are left out.
    DefineForgetsAttached => "define::volumes_that_exist_are_plugged_in",
    /// Volumes that other VMs have are plugged in.
    DefineTakesAnothers => "define::volumes_that_exist_are_plugged_in",
    /// All interfaces have the usual model.
    DefineForgetsModels => "define::models_and_buses_are_honoured",
    /// All disks are on the usual bus.
    DefineForgetsBuses => "define::models_and_buses_are_honoured",
    /// VMs are wherever there is room.
    DefineForgetsHost => "define::the_host_is_honoured",
    /// Declares a change that it cannot make.
    LyingChange => "declared::config.video",
    /// Takes snapshots that it does not declare.
    HiddenSnapshots => "undeclared::snapshot.create",
}

impl Fault {
    /// What the backend behind it cannot do, whatever it declares.
    pub(crate) const fn really_lacks(self) -> &'static [Capability] {
        if matches!(self, Self::LyingCapability) {
            &[Capability::PowerReset]
        } else if matches!(self, Self::LyingAddresses) {
            &[Capability::GuestAddresses]
        } else if matches!(self, Self::LyingChange) {
            &[Capability::ConfigVideo]
        } else {
            &[]
        }
    }

    /// The checks that are run for it: one that changes a single device or volume cannot be seen elsewhere.
    pub(crate) const fn shows_in(self) -> Option<&'static str> {
        if self as usize >= Self::ChangeIsLost as usize {
            Some(self.caught_by())
        } else {
            None
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
