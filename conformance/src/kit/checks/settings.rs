//! Settings of VMs that exist: processors, memory, boot order, start with the host, video.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{BootDevice, Cpu, Memory, PowerState, VideoAdapter, VmChange, VmFacts, VmSpec};

use super::{Check, RUN, VM, VOLUME, Want};
use crate::kit::bench::{Bench, lasting, refer};
use crate::kit::config::GuestHabit;
use crate::kit::equipment::OCCASIONS;
use crate::kit::verdict::{During as _, Verdict, ensure};

const CPU: &[Capability] = &[Capability::ConfigCpu];
const MEMORY: &[Capability] = &[Capability::ConfigMemory];
const BOOT: &[Capability] = &[Capability::ConfigBoot];
const AUTOSTART: &[Capability] = &[Capability::ConfigAutostart];
const VIDEO: &[Capability] = &[Capability::ConfigVideo];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "settings::vcpus_are_as_set",
            "vCPUs, their maximum and topology are as they were set last; a running VM takes more, up to its maximum",
            &[RUN, CPU],
            vcpus,
        ),
        Check::new(
            "settings::impossible_vcpus_change_nothing",
            "no vCPU, or more than the maximum, is InvalidInput; another maximum of a running VM is IllegalState",
            &[RUN, CPU],
            impossible_vcpus,
        ),
        Check::new(
            "settings::memory_is_as_set",
            "memory and its maximum are as they were set last",
            &[VM, MEMORY],
            memory,
        ),
        Check::new(
            "settings::memory_of_a_running_vm_is_as_set",
            "a running VM whose guest helps takes another size up to its maximum, and keeps it over a stop",
            &[RUN, MEMORY],
            running_memory,
        )
        .wants(&[Want::Listener]),
        Check::new(
            "settings::impossible_memory_changes_nothing",
            "no memory, or more than the maximum, is InvalidInput; another maximum of a running VM is IllegalState",
            &[RUN, MEMORY],
            impossible_memory,
        ),
        Check::new(
            "settings::boot_order_is_shown_back",
            "the boot order is the one that was set last; an empty one is InvalidInput",
            &[RUN, VOLUME, BOOT],
            boot_order,
        ),
        Check::new(
            "settings::autostart_is_shown_back",
            "whether a VM starts with its host is as it was set last, running or off",
            &[RUN, AUTOSTART],
            autostart,
        ),
        Check::new(
            "settings::video_is_replaced",
            "all video adapters are replaced while the VM is off; while it runs that is IllegalState",
            &[RUN, VIDEO],
            video,
        ),
    ]
}

fn set_cpu(current: u32, max: u32, topology: Option<(u32, u32, u32)>) -> VmChange {
    VmChange::Cpu {
        current,
        max,
        topology,
    }
}

fn has_cpu(facts: &VmFacts, wanted: &Cpu, after: &str) -> Verdict {
    let (is, was) = (&facts.cpu, wanted);
    ensure!(
        (is.current, is.max) == (was.current, was.max),
        "after {after} the VM has {} of {} vCPUs, not {} of {}",
        is.current,
        is.max,
        was.current,
        was.max
    );
    ensure!(
        was.topology.is_none() || is.topology == was.topology,
        "after {after} the topology is {:?}, not {:?}",
        is.topology,
        was.topology
    );
    Ok(())
}

async fn vcpus(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let mut wanted = Cpu {
        current: 2,
        max: 4,
        topology: Some((2, 2, 1)),
        model: None,
    };
    let cold = set_cpu(wanted.current, wanted.max, wanted.topology);
    for time in ["setting vCPUs while it is off", "setting them again"] {
        let facts = bench.must(&vm, &cold, time).await?;
        has_cpu(&facts, &wanted, time)?;
    }
    bench.bring(&vm, PowerState::Running).await?;
    has_cpu(&bench.get(&vm).await?, &wanted, "a start")?;
    wanted.current = 3;
    let hot = set_cpu(3, 4, None);
    for time in ["setting vCPUs while it runs", "setting them again while it runs"] {
        let facts = bench.must(&vm, &hot, time).await?;
        has_cpu(&facts, &wanted, time)?;
    }
    bench.bring(&vm, PowerState::Off).await?;
    has_cpu(&bench.get(&vm).await?, &wanted, "a stop")?;
    wanted = Cpu {
        current: 1,
        max: 1,
        topology: None,
        model: None,
    };
    let fewer = "setting fewer vCPUs while it is off";
    has_cpu(
        &bench.must(&vm, &set_cpu(1, 1, None), fewer).await?,
        &wanted,
        fewer,
    )
}

async fn impossible_vcpus(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let invalid = &[ErrorKind::InvalidInput];
    let none = "setting no vCPU";
    bench.must_not(&vm, &set_cpu(0, 1, None), invalid, none).await?;
    let more = "setting more vCPUs than the maximum";
    bench.must_not(&vm, &set_cpu(3, 2, None), invalid, more).await?;
    let odd = "a topology that does not make the vCPUs";
    bench
        .must_not(&vm, &set_cpu(2, 2, Some((3, 1, 1))), invalid, odd)
        .await?;
    bench.bring(&vm, PowerState::Running).await?;
    let maximum = set_cpu(bench.config.vcpus, bench.config.vcpus + 1, None);
    let illegal = &[ErrorKind::IllegalState];
    let what = "setting another maximum of vCPUs while it runs";
    bench.must_not(&vm, &maximum, illegal, what).await?;
    Ok(())
}

fn has_memory(bench: &Bench, facts: &VmFacts, wanted: Memory, after: &str) -> Verdict {
    let fits = bench.config.fits(wanted.current, facts.memory.current)
        && bench.config.fits(wanted.max, facts.memory.max);
    ensure!(
        fits,
        "after {after} the VM has {} of {} bytes of memory, not {} of {}",
        facts.memory.current,
        facts.memory.max,
        wanted.current,
        wanted.max
    );
    Ok(())
}

const fn set_memory(memory: Memory) -> VmChange {
    VmChange::Memory {
        current: memory.current,
        max: memory.max,
    }
}

async fn memory(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let size = bench.config.memory;
    for (current, max) in [(size * 2, size * 4), (size * 3, size * 3), (size, size * 2)] {
        let wanted = Memory { current, max };
        for time in ["setting memory", "setting it again"] {
            let facts = bench.must(&vm, &set_memory(wanted), time).await?;
            has_memory(&bench, &facts, wanted, time)?;
        }
    }
    Ok(())
}

async fn running_memory(bench: Arc<Bench>) -> Verdict {
    let vm = bench.listening().await?;
    let max = bench.get(&vm).await?.memory.max;
    let near = |facts: &VmFacts, wanted: u64, after: &str| {
        // A guest gives pages back one by one.
        ensure!(
            facts.memory.current.abs_diff(wanted) <= 4 << 20 && facts.memory.max == max,
            "after {after} the VM has {} of {} bytes of memory, not {wanted} of {max}",
            facts.memory.current,
            facts.memory.max
        );
        Ok(())
    };
    let less = max - (32 << 20).min(max / 2);
    for (current, what) in [
        (less, "taking memory from a guest"),
        (max, "giving it back"),
        (less, "taking it again"),
    ] {
        let facts = bench
            .must(&vm, &set_memory(Memory { current, max }), what)
            .await?;
        near(&facts, current, what)?;
    }
    bench
        .power(&vm, PowerAction::ForceOff)
        .await
        .during("forcing a VM off")?;
    near(&bench.get(&vm).await?, less, "a stop")
}

async fn impossible_memory(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let size = bench.config.memory;
    let invalid = &[ErrorKind::InvalidInput];
    let none = set_memory(Memory {
        current: 0,
        max: size,
    });
    bench.must_not(&vm, &none, invalid, "setting no memory").await?;
    let more = set_memory(Memory {
        current: size * 2,
        max: size,
    });
    bench
        .must_not(&vm, &more, invalid, "setting more memory than the maximum")
        .await?;
    bench.bring(&vm, PowerState::Running).await?;
    let maximum = set_memory(Memory {
        current: size,
        max: size * 2,
    });
    let illegal = &[ErrorKind::IllegalState];
    let what = "setting another maximum of memory while it runs";
    bench.must_not(&vm, &maximum, illegal, what).await?;
    Ok(())
}

async fn boot_order(bench: Arc<Bench>) -> Verdict {
    use BootDevice::{Cdrom, Disk, Network};
    let vm = bench.equipped().await?;
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        for order in [vec![Network, Disk, Cdrom], vec![Cdrom, Disk], vec![Network]] {
            let change = VmChange::BootOrder { order: order.clone() };
            for time in ["setting the boot order", "setting it again"] {
                bench.must(&vm, &change, time).await?;
            }
            if state == PowerState::Off {
                let now = bench.get(&vm).await?;
                ensure!(
                    now.boot == order,
                    "the boot order was set to {order:?} and is {:?}",
                    now.boot
                );
            }
        }
        let empty = VmChange::BootOrder { order: Vec::new() };
        let invalid = &[ErrorKind::InvalidInput];
        bench
            .must_not(&vm, &empty, invalid, "an empty boot order")
            .await?;
    }
    // What was set while it ran takes effect at the next start.
    bench.bring(&vm, PowerState::Off).await?;
    let now = bench.get(&vm).await?;
    ensure!(
        now.boot == [Network],
        "the boot order was set to the network while it ran, and is {:?} after a stop",
        now.boot
    );
    Ok(())
}

async fn autostart(bench: Arc<Bench>) -> Verdict {
    let vm = bench.off().await?;
    let before = bench.get(&vm).await?;
    for state in OCCASIONS {
        bench.bring(&vm, state).await?;
        for on in [true, true, false, false] {
            let facts = bench
                .must(&vm, &VmChange::Autostart { on }, "setting autostart")
                .await?;
            ensure!(
                facts.autostart == on,
                "autostart was set to {on} while the VM was {} and is {}",
                state.as_ref(),
                facts.autostart
            );
        }
    }
    bench.bring(&vm, PowerState::Off).await?;
    let after = bench.get(&vm).await?;
    ensure!(
        lasting(&after) == lasting(&before),
        "setting autostart changed something else"
    );
    Ok(())
}

fn adapters(models: &[&str]) -> Vec<VideoAdapter> {
    let adapter = |model: &&str| VideoAdapter {
        model: (*model).to_owned(),
        memory: None,
        heads: None,
    };
    models.iter().map(adapter).collect()
}

async fn video(bench: Arc<Bench>) -> Verdict {
    let spec = VmSpec {
        video: adapters(&["vga"]),
        ..bench.spec(bench.name("video"), Vec::new())
    };
    let made = bench
        .defined(&spec, &[], "defining a VM with a video adapter")
        .await?;
    ensure!(
        made.video == ["vga"],
        "asked for the video adapter vga, got {:?}",
        made.video
    );
    let vm = refer(&made);
    for models in [&["cirrus"][..], &["vga", "virtio"], &["vga"]] {
        let change = VmChange::Video {
            adapters: adapters(models),
        };
        for time in ["setting the video adapters", "setting them again"] {
            let facts = bench.must(&vm, &change, time).await?;
            ensure!(
                facts.video == *models,
                "after {time} to {models:?} they are {:?}",
                facts.video
            );
        }
    }
    let none = VmChange::Video { adapters: Vec::new() };
    bench
        .must_not(&vm, &none, &[ErrorKind::InvalidInput], "no video adapter")
        .await?;
    bench.bring(&vm, PowerState::Running).await?;
    let other = VmChange::Video {
        adapters: adapters(&["cirrus"]),
    };
    let what = "other video adapters while it runs";
    bench
        .must_not(&vm, &other, &[ErrorKind::IllegalState], what)
        .await?;
    Ok(())
}

/// Whether guests here do at once what they are asked for.
pub(super) fn obeys(bench: &Bench) -> bool {
    bench.config.guest == GuestHabit::Obeys
}
