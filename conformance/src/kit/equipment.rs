//! What the checks of changes work with: VMs with devices in them, one change at a time, and what a VM says of its
//! devices afterwards.

use babelvisor_core::Result;
use babelvisor_core::backend::VmRef;
use babelvisor_core::command::PowerAction;
use babelvisor_core::model::{
    Disk, DiskAttachment, MediumKind, MediumSpec, Nic, NicSpec, PoolVolume, PowerState, VmChange, VmFacts,
    VmId, VmSpec, Volume, VolumeFormat, VolumeSpec,
};
use babelvisor_core::{Error, ErrorKind};

use super::bench::{Bench, lasting, refer};
use super::verdict::{During as _, Verdict, ensure, fail, refused};

/// When changes are tried: on the definition alone, and on a machine that runs.
pub(crate) const OCCASIONS: [PowerState; 2] = [PowerState::Off, PowerState::Running];

impl Bench {
    /// One change, by a job of its own.
    pub(crate) async fn change(&self, vm: &VmRef, change: &VmChange) -> Result<()> {
        self.backend.change(&self.call(), vm, change).await
    }

    /// A change that must be made.
    pub(crate) async fn must(&self, vm: &VmRef, change: &VmChange, what: &str) -> Verdict<VmFacts> {
        self.change(vm, change).await.during(what)?;
        self.get(vm).await
    }

    /// A change of a device that must be made; where running VMs take none, it must be refused whole instead, and
    /// there are no facts.
    pub(crate) async fn plug(&self, vm: &VmRef, change: &VmChange, what: &str) -> Verdict<Option<VmFacts>> {
        let before = self.get(vm).await?;
        if before.power == PowerState::Off || self.config.hot_plug {
            return self.must(vm, change, what).await.map(Some);
        }
        let answer = self.change(vm, change).await;
        let what = format!("{what} while it runs");
        refused(answer, &[ErrorKind::Unsupported, ErrorKind::IllegalState], &what)?;
        self.unchanged(vm, &before, &what).await?;
        Ok(None)
    }

    /// A change that must be refused, without an effect.
    pub(crate) async fn must_not(
        &self,
        vm: &VmRef,
        change: &VmChange,
        kinds: &[ErrorKind],
        what: &str,
    ) -> Verdict<Error> {
        let before = self.get(vm).await?;
        let error = refused(self.change(vm, change).await, kinds, what)?;
        self.unchanged(vm, &before, what).await?;
        Ok(error)
    }

    /// The VM is as it was.
    pub(crate) async fn unchanged(&self, vm: &VmRef, before: &VmFacts, what: &str) -> Verdict {
        let now = self.get(vm).await?;
        ensure!(
            lasting(&now) == lasting(before) && now.memory == before.memory,
            "{what} is refused, but changed the VM: {}",
            difference(before, &now)
        );
        Ok(())
    }

    /// Brings an off VM to where a change is tried.
    pub(crate) async fn bring(&self, vm: &VmRef, state: PowerState) -> Verdict {
        let (action, what) = match state {
            PowerState::Off => (PowerAction::ForceOff, "forcing a VM off"),
            _ => (PowerAction::Start, "starting a VM"),
        };
        self.power(vm, action).await.during(what)
    }

    /// An empty volume to be, in the layout that everything can be done with.
    pub(crate) fn rich(&self) -> Verdict<VolumeSpec> {
        let qcow2 = self.config.formats.contains(&VolumeFormat::Qcow2);
        let mut spec = self.blank()?;
        if qcow2 {
            spec.format = VolumeFormat::Qcow2;
        }
        Ok(spec)
    }

    /// An empty volume that is in no VM.
    pub(crate) async fn loose(&self) -> Verdict<Loose> {
        let spec = self.rich()?;
        let volume = self
            .create_volume(&self.call(), &spec)
            .await
            .during("making a volume")?;
        Ok(Loose { spec, volume })
    }

    /// Defines a VM after its spec.
    pub(crate) async fn defined(&self, spec: &VmSpec, disks: &[Volume], what: &str) -> Verdict<VmFacts> {
        self.define(&self.call(), VmId::random(), spec, disks, None)
            .await
            .during(what)
    }

    /// A VM that is off, with one disk, one interface and an empty optical drive.
    pub(crate) async fn equipped(&self) -> Verdict<VmRef> {
        let disk = self.loose().await?;
        let mut spec = self.spec(self.name("equipped"), vec![disk.spec]);
        spec.media = vec![MediumSpec {
            kind: MediumKind::Cdrom,
            source: None,
        }];
        let made = self
            .defined(&spec, &[disk.volume], "defining a VM with a disk and a drive")
            .await?;
        Ok(refer(&made))
    }

    /// A MAC address that nothing else has.
    pub(crate) fn mac(&self) -> String {
        let [a, b, c, ..] = *VmId::random().0.as_bytes();
        format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
    }

    /// An interface to plug in.
    pub(crate) fn nic_spec(&self, mac: &str, model: Option<&str>) -> NicSpec {
        NicSpec {
            source: self.nic.clone(),
            mac: Some(mac.to_owned()),
            model: model.map(ToOwned::to_owned),
        }
    }
}

/// A volume that a check made.
pub(crate) struct Loose {
    pub(crate) spec: VolumeSpec,
    pub(crate) volume: Volume,
}

impl Loose {
    pub(crate) fn place(&self) -> PoolVolume {
        PoolVolume {
            pool: self.spec.pool.clone(),
            name: self.spec.name.clone(),
        }
    }

    pub(crate) fn attachment(&self) -> DiskAttachment {
        DiskAttachment {
            volume: self.place(),
            format: self.volume.format,
            bus: None,
            readonly: false,
            shareable: false,
        }
    }

    /// The disk that is this volume, once.
    pub(crate) fn disk<'f>(&self, facts: &'f VmFacts) -> Verdict<Option<&'f Disk>> {
        let place = self.place();
        let mut disks = facts
            .disks
            .iter()
            .filter(|disk| disk.volume.as_ref() == Some(&place) || disk.source == self.volume.native);
        let first = disks.next();
        ensure!(
            disks.next().is_none(),
            "volume {} is plugged in twice",
            place.name
        );
        Ok(first)
    }

    /// The disk that must be there.
    pub(crate) fn there<'f>(&self, facts: &'f VmFacts, after: &str) -> Verdict<&'f Disk> {
        match self.disk(facts)? {
            Some(disk) => Ok(disk),
            None => fail(format!(
                "after {after} the VM does not have volume {}: {:?}",
                self.spec.name,
                facts.disks.iter().map(|disk| &disk.source).collect::<Vec<_>>()
            )),
        }
    }
}

/// The interface with that address, once.
pub(crate) fn nic_with<'f>(facts: &'f VmFacts, mac: &str) -> Verdict<Option<&'f Nic>> {
    let mut nics = facts.nics.iter().filter(|nic| nic.mac == mac);
    let first = nics.next();
    ensure!(nics.next().is_none(), "two interfaces have the address {mac}");
    Ok(first)
}

/// The interface that must be there.
pub(crate) fn nic_there<'f>(facts: &'f VmFacts, mac: &str, after: &str) -> Verdict<&'f Nic> {
    match nic_with(facts, mac)? {
        Some(nic) => Ok(nic),
        None => fail(format!(
            "after {after} the VM has no interface {mac}: {:?}",
            facts.nics.iter().map(|nic| &nic.mac).collect::<Vec<_>>()
        )),
    }
}

/// What differs between two looks at a VM, in words.
fn difference(before: &VmFacts, after: &VmFacts) -> String {
    let (before, after) = (
        format!("{:#?}", lasting(before)),
        format!("{:#?}", lasting(after)),
    );
    let differ = before
        .lines()
        .zip(after.lines())
        .find(|(before, after)| before != after);
    match differ {
        Some((before, after)) => format!("{} became {}", before.trim(), after.trim()),
        None => "something appeared, went, or its memory is another".to_owned(),
    }
}
