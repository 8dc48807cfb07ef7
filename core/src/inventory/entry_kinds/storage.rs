//! Volumes and snapshots as the gateway remembers them.

use std::sync::Arc;

use imbl::OrdMap;

use super::{check_label, check_text};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::entries::{note, unnote};
use crate::inventory::{Entry, Snapshot};
use crate::model::{SnapshotId, SnapshotRecord, TenantId, Timestamp, VolumeId, VolumeRecord};
use crate::store::RecordKind;

impl Entry for VolumeRecord {
    kept!(Volume, VolumeId, entries.volumes);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    fn gone(&self) -> bool {
        self.gone_at.is_some()
    }

    fn check(&self, now: &Snapshot) -> Result<()> {
        check_label(&self.display_name)?;
        check_text("description", &self.description)?;
        let holder = now.volume_at(&self.backend, &self.place());
        if holder.is_some_and(|volume| volume.id != self.id) {
            let text = format!(
                "{} in pool {} of backend {} has a record already",
                self.name, self.pool, self.backend
            );
            return Err(Error::new(ErrorKind::AlreadyExists, text).about(VolumeId::NOUN, self.id));
        }
        Ok(())
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        let index = &mut next.entries.volume_at;
        if let Some(old) = old
            && let Some(of_backend) = index.get_mut(&old.backend)
        {
            let place = old.place();
            if of_backend.get(&place) == Some(&old.id) {
                of_backend.remove(&place);
            }
        }
        if let Some(new) = new {
            let of_backend = index.entry(new.backend.clone()).or_default();
            of_backend.insert(new.place(), new.id);
        }
    }
}

impl Entry for SnapshotRecord {
    kept!(Snapshot, SnapshotId, entries.snapshots);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        check_label(&self.display_name)?;
        check_text("description", &self.description)
    }

    fn index(next: &mut Snapshot, old: Option<&Arc<Self>>, new: Option<&Arc<Self>>, _: &dyn Fn() -> u64) {
        let index = &mut next.entries.snapshots_of;
        if let Some(old) = old {
            unnote(index, &old.vm, &old.id);
        }
        if let Some(new) = new {
            note(index, new.vm, new.id);
        }
    }
}
