//! What a definition may ask for beyond the least: reserves, boot order, media, volumes that exist, models, hosts.

use std::sync::Arc;

use babelvisor_core::ErrorKind;
use babelvisor_core::capability::Capability;
use babelvisor_core::model::{
    BootDevice, DiskAttachment, HostId, MediumKind, MediumSpec, NicSpec, VmFacts, VmId, VmSpec,
};

use super::{Check, VM, VOLUME};
use crate::kit::bench::{Bench, refer};
use crate::kit::verdict::{During as _, Verdict, ensure, fail, refused};

const TOPOLOGY: &[Capability] = &[Capability::TopologyList];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new(
            "define::reserves_are_honoured",
            "maxima of vCPUs and memory, and the topology, are what was asked for",
            &[VM],
            reserves,
        ),
        Check::new(
            "define::boot_order_and_media_are_honoured",
            "a new VM boots in the order that was asked for, and has its drives with what is in them",
            &[VM, VOLUME],
            boot_and_media,
        ),
        Check::new(
            "define::volumes_that_exist_are_plugged_in",
            "volumes that exist come after those that were made, as asked; one that another VM has is refused",
            &[VM, VOLUME],
            attached,
        ),
        Check::new(
            "define::models_and_buses_are_honoured",
            "interfaces have the model and disks the bus that was asked for",
            &[VM, VOLUME],
            models,
        ),
        Check::new(
            "define::the_host_is_honoured",
            "a new VM is on the host that was asked for; one that does not exist is refused, without an effect",
            &[VM, TOPOLOGY],
            host,
        ),
    ]
}

/// Defines a VM; its facts as they were answered, and as they are read.
async fn both(
    bench: &Bench,
    spec: &VmSpec,
    disks: &[babelvisor_core::model::Volume],
) -> Verdict<[VmFacts; 2]> {
    let made = bench.defined(spec, disks, "defining a VM").await?;
    let read = bench.get(&refer(&made)).await?;
    Ok([made, read])
}

async fn reserves(bench: Arc<Bench>) -> Verdict {
    let plain = bench.spec(bench.name("reserves"), Vec::new());
    let spec = VmSpec {
        vcpus: 2,
        max_vcpus: 4,
        topology: Some((1, 4, 1)),
        max_memory: plain.memory * 2,
        ..plain
    };
    for facts in both(&bench, &spec, &[]).await? {
        ensure!(
            (facts.cpu.current, facts.cpu.max) == (spec.vcpus, spec.max_vcpus)
                && facts.cpu.topology == spec.topology,
            "asked for 2 of 4 vCPUs in one socket, got {:?}",
            facts.cpu
        );
        ensure!(
            bench.config.fits(spec.memory, facts.memory.current)
                && bench.config.fits(spec.max_memory, facts.memory.max),
            "asked for {} of {} bytes of memory, got {} of {}",
            spec.memory,
            spec.max_memory,
            facts.memory.current,
            facts.memory.max
        );
    }
    Ok(())
}

async fn boot_and_media(bench: Arc<Bench>) -> Verdict {
    use BootDevice::{Cdrom, Disk, Network};
    let (root, disc) = (bench.loose().await?, bench.loose().await?);
    let medium = |source: Option<&str>| MediumSpec {
        kind: MediumKind::Cdrom,
        source: source.map(ToOwned::to_owned),
    };
    for boot in [vec![Cdrom, Disk, Network], vec![Network]] {
        let spec = VmSpec {
            boot: boot.clone(),
            media: vec![medium(Some(&disc.volume.native)), medium(None)],
            ..bench.spec(bench.name("boot"), vec![root.spec.clone()])
        };
        let facts = both(&bench, &spec, std::slice::from_ref(&root.volume)).await?;
        for facts in &facts {
            ensure!(
                facts.boot == boot,
                "asked for the boot order {boot:?}, got {:?}",
                facts.boot
            );
            let told: Vec<_> = facts
                .removable
                .iter()
                .map(|drive| (drive.kind.as_str(), drive.source.as_deref()))
                .collect();
            let wanted = [("cdrom", Some(disc.volume.native.as_str())), ("cdrom", None)];
            ensure!(told == wanted, "asked for the drives {wanted:?}, got {told:?}");
            ensure!(facts.disks.len() == 1, "a medium is shown as a disk");
        }
        let [made, _] = &facts;
        bench
            .backend
            .undefine(&bench.call(), &refer(made))
            .await
            .during("undefining a VM")?;
    }
    Ok(())
}

async fn attached(bench: Arc<Bench>) -> Verdict {
    let (root, data, fixed) = (bench.loose().await?, bench.loose().await?, bench.loose().await?);
    let spec = VmSpec {
        attached: vec![
            data.attachment(),
            DiskAttachment {
                readonly: true,
                ..fixed.attachment()
            },
        ],
        ..bench.spec(bench.name("attached"), vec![root.spec.clone()])
    };
    for facts in both(&bench, &spec, std::slice::from_ref(&root.volume)).await? {
        let told: Vec<_> = facts
            .disks
            .iter()
            .map(|disk| (disk.volume.clone(), disk.root, disk.readonly, disk.capacity))
            .collect();
        let wanted: Vec<_> = [(&root, true, false), (&data, false, false), (&fixed, false, true)]
            .iter()
            .map(|(disk, root, readonly)| (Some(disk.place()), *root, *readonly, disk.volume.capacity))
            .collect();
        ensure!(
            told == wanted,
            "asked for a root disk, a volume and one to read only, got {told:?}"
        );
    }
    let id = VmId::random();
    let greedy = VmSpec {
        attached: vec![data.attachment()],
        ..bench.spec(bench.name("greedy"), Vec::new())
    };
    let answer = bench.define(&bench.call(), id, &greedy, &[], None).await;
    let kinds = &[ErrorKind::IllegalState, ErrorKind::Conflict];
    refused(answer, kinds, "defining a VM with a volume that another VM has")?;
    let there = bench.list().await?.iter().any(|facts| facts.id == id);
    ensure!(!there, "a VM whose definition was refused is there");
    Ok(())
}

async fn models(bench: Arc<Bench>) -> Verdict {
    let (one, two) = (bench.loose().await?, bench.loose().await?);
    let mut volumes = vec![one.spec.clone(), two.spec.clone()];
    for (volume, bus) in volumes.iter_mut().zip(["scsi", "virtio"]) {
        volume.bus = Some(bus.to_owned());
    }
    let nic = |model: &str| NicSpec {
        source: bench.nic.clone(),
        mac: None,
        model: Some(model.to_owned()),
    };
    let spec = VmSpec {
        nics: vec![nic("e1000"), nic("virtio")],
        ..bench.spec(bench.name("models"), volumes)
    };
    for facts in both(&bench, &spec, &[one.volume.clone(), two.volume.clone()]).await? {
        let buses: Vec<&str> = facts.disks.iter().map(|disk| disk.bus.as_str()).collect();
        ensure!(
            buses == ["scsi", "virtio"],
            "asked for disks on scsi and virtio, got {buses:?}"
        );
        let models: Vec<&str> = facts.nics.iter().map(|nic| nic.model.as_str()).collect();
        ensure!(
            models == ["e1000", "virtio"],
            "asked for the models e1000 and virtio, got {models:?}"
        );
    }
    Ok(())
}

async fn host(bench: Arc<Bench>) -> Verdict {
    let topology = bench
        .backend
        .topology(&bench.call())
        .await
        .during("reading the topology")?;
    let Some(last) = topology.hosts.last() else {
        return fail("the backend has no hosts");
    };
    let on = |host: HostId| VmSpec {
        host: Some(host),
        ..bench.spec(bench.name("host"), Vec::new())
    };
    for _ in 0..2 {
        for facts in both(&bench, &on(last.id), &[]).await? {
            ensure!(
                facts.host == last.id,
                "asked for host {}, got {}",
                last.id,
                facts.host
            );
        }
    }
    let id = VmId::random();
    let nowhere = bench
        .define(&bench.call(), id, &on(HostId::random()), &[], None)
        .await;
    let kinds = &[
        ErrorKind::NotFound,
        ErrorKind::InvalidInput,
        ErrorKind::NoResources,
    ];
    refused(nowhere, kinds, "defining a VM on a host that does not exist")?;
    let there = bench.list().await?.iter().any(|facts| facts.id == id);
    ensure!(!there, "a VM whose definition was refused is there");
    Ok(())
}
