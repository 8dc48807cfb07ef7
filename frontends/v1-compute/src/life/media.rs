//! What is in the drives for optical and floppy discs. The drive stays; one that carries first-boot set-up is not
//! touched.

use babelvisor_core::Error;
use babelvisor_core::model::{ImageKind, MediumKind, RemovableMedium, Vm, VmChange, VmFacts};

use crate::V1Compute;
use crate::call::Call;
use crate::encode::Data;
use crate::error::Fault;

/// What the volume of a machine's first-boot set-up is called, with the machine's id before it.
const SEED: &str = "-seed";

impl V1Compute {
    /// `compute.cdrom_attach`.
    pub(crate) async fn cdrom_attach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        self.insert(call, MediumKind::Cdrom).await
    }

    /// `compute.floppy_attach`.
    pub(crate) async fn floppy_attach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        self.insert(call, MediumKind::Floppy).await
    }

    /// `compute.cdrom_detach`.
    pub(crate) async fn cdrom_detach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        self.eject(call, MediumKind::Cdrom).await
    }

    /// `compute.floppy_detach`.
    pub(crate) async fn floppy_detach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        self.eject(call, MediumKind::Floppy).await
    }

    async fn insert(&self, call: &Call<'_>, kind: MediumKind) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        self.repository(call.params.text("repository_uuid"))?;
        let image = self.image_named(&call.caller, call.params.text("source_network_name"))?;
        if image.kind != ImageKind::Iso {
            let why = format!("image {} is a disk, not a medium for a drive", image.name);
            return Err(Error::invalid("source_network_name", why).into());
        }
        let mut locations = image.locations.iter();
        let location = locations.find(|location| location.backend == *vm.home());
        let location = location.ok_or_else(|| {
            Error::unsupported(format!("image {} is not on the machine's backend", image.name))
        })?;
        let change = VmChange::InsertMedium {
            kind,
            target: drive(&vm, &facts, kind).map(|drive| drive.target.clone()),
            source: location.native.clone(),
        };
        self.reconfigure(call, &vm, vec![change]).await?;
        Ok(Data::empty())
    }

    async fn eject(&self, call: &Call<'_>, kind: MediumKind) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let Some(drive) = drive(&vm, &facts, kind) else {
            let why = format!("the machine has no {} drive", kind.as_ref());
            return Err(Error::illegal_state("vm", vm.id, why).into());
        };
        let target = Some(drive.target.clone());
        self.reconfigure(call, &vm, vec![VmChange::EjectMedium { kind, target }])
            .await?;
        Ok(Data::empty())
    }
}

/// The drive that clients mean: the first of its kind that does not carry first-boot set-up.
pub(super) fn drive<'f>(vm: &Vm, facts: &'f VmFacts, kind: MediumKind) -> Option<&'f RemovableMedium> {
    let seed = format!("{}{SEED}", vm.id);
    let mut drives = facts.removable.iter();
    drives.find(|drive| {
        let carries_seed = drive.source.as_ref().is_some_and(|source| source.contains(&seed));
        drive.kind == kind.as_ref() && !carries_seed
    })
}
