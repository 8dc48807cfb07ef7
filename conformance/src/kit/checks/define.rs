//! Definitions: what was asked for is what is reported, once.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::model::{
    Firmware, NicSource, PowerState, VmFacts, VmId, VmSpec, Volume, VolumeId, VolumeSource, VolumeSpec,
};

use super::volumes::HOSTILE;
use super::{Check, VM, VOLUME, Want};
use crate::kit::bench::{Bench, lasting, refer};
use crate::kit::verdict::{During as _, Verdict, ensure, fail, refused};

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "define::is_as_asked",
            "a new VM is off and has the name, id, vCPUs, memory and interfaces that were asked for, and carries its job",
            &[VM],
            is_as_asked,
        ),
        Check::new(
            "define::has_its_disks_in_order",
            "a new VM has the volumes that were handed over, in order, the first as root disk",
            &[VM, VOLUME],
            has_its_disks,
        ),
        Check::new(
            "define::firmware_is_honoured",
            "a VM that shall have UEFI has it",
            &[VM],
            firmware,
        )
        .wants(&[Want::Uefi]),
        Check::new(
            "define::ten_tries_of_one_job_are_one_vm",
            "a call for the same job that finds its own VM returns that VM",
            &[VM],
            ten_tries,
        ),
        Check::new(
            "define::another_jobs_vm_is_taken",
            "a VM of the same id or name made by anybody else is AlreadyExists, and stays as it is",
            &[VM],
            taken,
        ),
        Check::new(
            "define::hostile_names_are_refused_or_kept",
            "a name is refused, or it is the VM's name; it never becomes part of something else",
            &[VM],
            hostile_names,
        ),
        Check::new(
            "define::impossible_ones_leave_nothing",
            "no vCPU, no memory, a disk that does not exist are refused with the right kind, without an effect",
            &[VM],
            impossible,
        ),
        Check::new(
            "define::get_and_list_agree",
            "define, get and list report the same VM, once",
            &[VM],
            agree,
        ),
    ]
}

fn compare(bench: &Bench, vm: VmId, asked: &VmSpec, facts: &VmFacts) -> Verdict {
    ensure!(facts.id == vm, "asked for the id {vm}, got {}", facts.id);
    ensure!(
        facts.name == asked.name,
        "asked for the name {:?}, got {:?}",
        asked.name,
        facts.name
    );
    ensure!(
        facts.backend == *bench.backend.id(),
        "the VM says that it is on backend {}",
        facts.backend
    );
    ensure!(!facts.native.is_empty(), "the VM has no key of its own");
    ensure!(
        facts.power == PowerState::Off,
        "a new VM is {}, not off",
        facts.power.as_ref()
    );
    ensure!(facts.persistent, "a new VM is not persistent");
    ensure!(
        !facts.autostart,
        "a new VM starts with its host, though nobody asked for that"
    );
    ensure!(
        (facts.cpu.current, facts.cpu.max) == (asked.vcpus, asked.vcpus),
        "asked for {} vCPUs, got {} of {}",
        asked.vcpus,
        facts.cpu.current,
        facts.cpu.max
    );
    ensure!(
        bench.config.fits(asked.memory, facts.memory.max) && facts.memory.current == facts.memory.max,
        "asked for {} bytes of memory, got {} of {}",
        asked.memory,
        facts.memory.current,
        facts.memory.max
    );
    ensure!(
        facts.firmware == asked.firmware,
        "asked for {:?}, got {:?}",
        asked.firmware,
        facts.firmware
    );
    ensure!(
        facts.nics.len() == asked.nics.len(),
        "asked for {} interfaces, got {}",
        asked.nics.len(),
        facts.nics.len()
    );
    for (slot, (nic, wanted)) in (0_u32..).zip(facts.nics.iter().zip(&asked.nics)) {
        ensure!(
            nic.slot == slot,
            "interface {slot} says that it is number {}",
            nic.slot
        );
        let source = match &wanted.source {
            NicSource::Network(name) | NicSource::Bridge(name) => name.as_str(),
            NicSource::User => "user",
        };
        ensure!(
            nic.source == source,
            "interface {slot} is plugged into {:?}, not {source:?}",
            nic.source
        );
        let plain = nic.mac.len() == 17 && nic.mac == nic.mac.to_ascii_lowercase();
        ensure!(plain, "interface {slot} has the MAC address {:?}", nic.mac);
        if let Some(mac) = &wanted.mac {
            ensure!(
                nic.mac.eq_ignore_ascii_case(mac),
                "asked for the MAC address {mac}, got {}",
                nic.mac
            );
        }
    }
    Ok(())
}

async fn is_as_asked(bench: Arc<Bench>) -> Verdict {
    let (vm, call) = (VmId::random(), bench.call());
    let mut asked = bench.spec(bench.name("asked"), Vec::new());
    asked.vcpus += 1;
    asked.memory += 64 << 20;
    let [a, b, c, ..] = *vm.0.as_bytes();
    let mut second = bench.spec(String::new(), Vec::new()).nics;
    for nic in &mut second {
        nic.mac = Some(format!("52:54:00:{a:02X}:{b:02X}:{c:02X}"));
    }
    asked.nics.extend(second);
    let made = bench
        .define(&call, vm, &asked, &[], None)
        .await
        .during("defining a VM")?;
    compare(&bench, vm, &asked, &made)?;
    ensure!(
        made.made_by == call.job,
        "the VM that define reports does not carry the id of its job"
    );
    let read = bench.get(&refer(&made)).await?;
    compare(&bench, vm, &asked, &read)?;
    ensure!(
        read.made_by == call.job,
        "the VM that get reports does not carry the id of its job"
    );
    Ok(())
}

async fn has_its_disks(bench: Arc<Bench>) -> Verdict {
    let call = bench.call();
    let mut specs = Vec::new();
    let mut disks: Vec<Volume> = Vec::new();
    for (factor, format) in (1..).zip(bench.config.formats.iter().cycle().take(3)) {
        let asked = VolumeSpec {
            capacity: bench.config.volume * factor,
            format: *format,
            ..bench.blank()?
        };
        disks.push(
            bench
                .create_volume(&call, &asked)
                .await
                .during("making a volume")?,
        );
        specs.push(asked);
    }
    let asked = bench.spec(bench.name("disks"), specs.clone());
    let made = bench
        .define(&call, VmId::random(), &asked, &disks, None)
        .await
        .during("defining a VM with three disks")?;
    for facts in [&made, &bench.get(&refer(&made)).await?] {
        ensure!(
            facts.disks.len() == disks.len(),
            "handed over 3 volumes, got {} disks",
            facts.disks.len()
        );
        for (slot, ((disk, volume), spec)) in facts.disks.iter().zip(&disks).zip(&specs).enumerate() {
            let place = disk.volume.as_ref().map(|v| (v.pool.as_str(), v.name.as_str()));
            ensure!(
                place == Some((spec.pool.as_str(), spec.name.as_str())),
                "disk {slot} is {place:?}, not {:?}",
                spec.name
            );
            ensure!(
                disk.format == volume.format,
                "disk {slot} is {}, its volume {}",
                disk.format.as_ref(),
                volume.format.as_ref()
            );
            ensure!(
                disk.capacity == volume.capacity,
                "disk {slot} has {} bytes, its volume {}",
                disk.capacity,
                volume.capacity
            );
            ensure!(disk.root == (slot == 0), "disk {slot}: root is {}", disk.root);
            ensure!(!disk.readonly, "disk {slot} cannot be written");
        }
    }
    Ok(())
}

async fn firmware(bench: Arc<Bench>) -> Verdict {
    let mut asked = bench.spec(bench.name("uefi"), Vec::new());
    asked.firmware = Firmware::Uefi;
    let vm = VmId::random();
    let made = bench
        .define(&bench.call(), vm, &asked, &[], None)
        .await
        .during("defining a VM with UEFI")?;
    compare(&bench, vm, &asked, &made)?;
    compare(&bench, vm, &asked, &bench.get(&refer(&made)).await?)
}

async fn ten_tries(bench: Arc<Bench>) -> Verdict {
    let (vm, call) = (VmId::random(), bench.call());
    let asked = bench.spec(bench.name("tries"), Vec::new());
    let first = bench
        .define(&call, vm, &asked, &[], None)
        .await
        .during("defining a VM")?;
    for time in 2..=bench.config.repeats {
        let answer = bench.define(&bench.again(&call), vm, &asked, &[], None).await;
        let made = answer.during(&format!("try {time} of the job that defined a VM"))?;
        ensure!(
            lasting(&made) == lasting(&first),
            "try {time} of the job that defined a VM got another VM, or a changed one"
        );
    }
    let named = bench.list().await?;
    let count = named
        .iter()
        .filter(|facts| facts.name == asked.name || facts.id == vm)
        .count();
    ensure!(
        count == 1,
        "{} tries of one job made {count} VMs",
        bench.config.repeats
    );
    Ok(())
}

async fn taken(bench: Arc<Bench>) -> Verdict {
    let (vm, call) = (VmId::random(), bench.call());
    let asked = bench.spec(bench.name("taken"), Vec::new());
    let first = bench
        .define(&call, vm, &asked, &[], None)
        .await
        .during("defining a VM")?;
    let mut larger = asked.clone();
    larger.vcpus += 1;
    for _ in 0..bench.config.repeats {
        let answer = bench.define(&bench.call(), vm, &larger, &[], None).await;
        refused(answer, &[ErrorKind::AlreadyExists], "another job's VM id")?;
    }
    let answer = bench
        .define(&bench.again(&bench.call()), vm, &larger, &[], None)
        .await;
    refused(
        answer,
        &[ErrorKind::AlreadyExists],
        "another job's VM id, at a second try",
    )?;
    let answer = bench
        .define(&bench.call(), VmId::random(), &larger, &[], None)
        .await;
    refused(answer, &[ErrorKind::AlreadyExists], "another VM's name")?;
    let now = bench.get(&refer(&first)).await?;
    ensure!(
        lasting(&now) == lasting(&first),
        "another job's refused call changed the VM"
    );
    Ok(())
}

async fn hostile_names(bench: Arc<Bench>) -> Verdict {
    for name in HOSTILE.into_iter().chain(["", "kit\0null"]) {
        let vm = VmId::random();
        let name = match name {
            "" | "." | "kit\0null" => name.to_owned(),
            other => format!("{other}-{}", bench.tag),
        };
        let asked = bench.spec(name.clone(), Vec::new());
        let answer = bench.define(&bench.call(), vm, &asked, &[], None).await;
        match answer {
            Ok(made) => {
                ensure!(
                    !name.is_empty() && !name.contains('\0'),
                    "the VM name {name:?} was taken"
                );
                let read = bench.get(&refer(&made)).await?;
                ensure!(
                    read.name == name,
                    "the VM name {name:?} was taken, and became {:?}",
                    read.name
                );
                bench
                    .backend
                    .undefine(&bench.call(), &refer(&made))
                    .await
                    .during(&format!("undefining the VM named {name:?}"))?;
            }
            answer @ Err(_) => {
                refused(
                    answer,
                    &[ErrorKind::InvalidInput],
                    &format!("the VM name {name:?}"),
                )?;
                absent(&bench, vm).await?;
            }
        }
    }
    Ok(())
}

async fn absent(bench: &Bench, vm: VmId) -> Verdict {
    let there = bench.list().await?.iter().any(|facts| facts.id == vm);
    ensure!(!there, "a VM whose definition was refused is there");
    Ok(())
}

async fn impossible(bench: Arc<Bench>) -> Verdict {
    let sound = bench.spec(bench.name("impossible"), Vec::new());
    let no_cpu = VmSpec {
        vcpus: 0,
        ..sound.clone()
    };
    let no_memory = VmSpec {
        memory: 0,
        ..sound.clone()
    };
    for (what, asked) in [("a VM without vCPUs", no_cpu), ("a VM without memory", no_memory)] {
        let vm = VmId::random();
        let answer = bench.define(&bench.call(), vm, &asked, &[], None).await;
        refused(answer, &[ErrorKind::InvalidInput], what)?;
        absent(&bench, vm).await?;
    }
    let Some(pool) = bench.pool.clone() else {
        return Ok(());
    };
    let name = bench.name("no-volume");
    let ghost = Volume {
        id: VolumeId::random(),
        backend: bench.backend.id().clone(),
        pool: babelvisor_core::model::PoolId::computed(bench.backend.id(), &pool),
        native: format!("/nowhere/{pool}/{name}"),
        name: name.clone(),
        format: babelvisor_core::model::VolumeFormat::Raw,
        capacity: bench.config.volume,
        allocation: 0,
        made_by: None,
    };
    let vm = VmId::random();
    let asked = VmSpec {
        volumes: vec![VolumeSpec {
            pool,
            name,
            capacity: bench.config.volume,
            format: ghost.format,
            source: VolumeSource::Blank,
            bus: None,
        }],
        ..sound
    };
    let answer = bench.define(&bench.call(), vm, &asked, &[ghost], None).await;
    refused(
        answer,
        &[ErrorKind::NotFound, ErrorKind::InvalidInput],
        "a VM with a disk that does not exist",
    )?;
    absent(&bench, vm).await
}

async fn agree(bench: Arc<Bench>) -> Verdict {
    let vm = VmId::random();
    let asked = bench.spec(bench.name("agree"), Vec::new());
    let made = bench
        .define(&bench.call(), vm, &asked, &[], None)
        .await
        .during("defining a VM")?;
    let all = bench.list().await?;
    let listed: Vec<&VmFacts> = all.iter().filter(|facts| facts.id == vm).collect();
    let [listed] = listed.as_slice() else {
        return fail(format!("a VM is listed {} times", listed.len()));
    };
    let read = bench.get(&refer(&made)).await?;
    ensure!(
        lasting(listed) == lasting(&read),
        "list and get report different things of one VM"
    );
    ensure!(
        lasting(&made) == lasting(&read),
        "define and get report different things of one VM"
    );
    ensure!(
        bench.find(&bench.nobody()).await?.is_none(),
        "get finds a VM that was never made"
    );
    Ok(())
}
