//! The catalogue: images, flavors, disk offerings.

use std::sync::Arc;

use imbl::OrdMap;

use super::{check_name, check_text};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::{Entry, Snapshot};
use crate::model::{
    DiskOffering, DiskOfferingId, Flavor, FlavorId, Image, ImageId, ResourceId, TenantId, Timestamp,
};
use crate::registry::Registry;
use crate::store::{RecordKind, Write};

/// What the configuration states cannot be changed by a call: the next start would undo it.
fn stated<I: ResourceId>(id: I, doing: &str) -> Error {
    let noun = I::NOUN;
    let text = format!("the configuration states {noun} {id}: {doing} it there");
    Error::new(ErrorKind::Forbidden, text).about(noun, id)
}

impl Entry for Image {
    kept!(Image, ImageId, images);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    async fn admit(&mut self, registry: &Registry) -> Result<Vec<Write>> {
        if self.number == 0 {
            self.number = registry.free_image_number().await?;
        }
        let alias = format!("image-number:{}", self.number);
        Ok(vec![registry.holder(&alias, &self.id).await?])
    }

    fn check(&self, now: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        check_text("description", &self.description)?;
        let holder = now.images_by_number.get(&self.number);
        if self.number != 0 && holder.is_some_and(|image| image.id != self.id) {
            let text = format!("number {} belongs to another image", self.number);
            return Err(Error::new(ErrorKind::AlreadyExists, text).about(ImageId::NOUN, self.id));
        }
        Ok(())
    }

    fn check_edit(&self, new: &Self) -> Result<()> {
        if new.number != self.number {
            return Err(Error::invalid("number", "an image keeps its number"));
        }
        if !self.seeded {
            return Ok(());
        }
        let allowed = Self {
            description: new.description.clone(),
            platform: new.platform.clone(),
            actual_size: new.actual_size,
            enabled: new.enabled,
            system: new.system,
            usages: new.usages.clone(),
            settings: new.settings.clone(),
            changed: new.changed,
            ..self.clone()
        };
        if allowed == *new {
            Ok(())
        } else {
            Err(stated(self.id, "change"))
        }
    }

    fn check_removal(&self, _: &Snapshot) -> Result<()> {
        if self.seeded {
            return Err(stated(self.id, "remove"));
        }
        Ok(())
    }

    fn index(
        next: &mut Snapshot,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        revise: &dyn Fn() -> u64,
    ) {
        next.surroundings = revise();
        if let Some(old) = old {
            // Another image may have taken the number over meanwhile.
            let holder = next.images_by_number.get(&old.number);
            if holder.is_some_and(|image| image.id == old.id) {
                next.images_by_number.remove(&old.number);
            }
        }
        if let Some(new) = new {
            next.images_by_number.insert(new.number, new.clone());
        }
    }
}

impl Entry for Flavor {
    kept!(Flavor, FlavorId, entries.flavors);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    async fn admit(&mut self, registry: &Registry) -> Result<Vec<Write>> {
        if self.short_id.is_empty() {
            self.short_id = crate::secret::random_text(10);
        }
        let alias = format!("flavor-short:{}", self.short_id);
        Ok(vec![registry.holder(&alias, &self.id).await?])
    }

    fn check(&self, now: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        check_text("description", &self.description)?;
        if self.vcpus == 0 {
            return Err(Error::invalid("vcpus", "a flavor has at least one vCPU"));
        }
        if self.memory == 0 {
            return Err(Error::invalid("memory", "a flavor has some memory"));
        }
        let holder = now.flavors.get(&self.short_id);
        if holder.is_some_and(|flavor| flavor.id != self.id) {
            let text = format!("short id {} belongs to another flavor", self.short_id);
            return Err(Error::new(ErrorKind::AlreadyExists, text).about(FlavorId::NOUN, self.id));
        }
        Ok(())
    }

    fn check_edit(&self, new: &Self) -> Result<()> {
        if new.short_id != self.short_id {
            return Err(Error::invalid("short_id", "a flavor keeps its short id"));
        }
        if !self.seeded {
            return Ok(());
        }
        let allowed = Self {
            description: new.description.clone(),
            enabled: new.enabled,
            allocator: new.allocator.clone(),
            sort_key: new.sort_key,
            settings: new.settings.clone(),
            changed: new.changed,
            ..self.clone()
        };
        if allowed == *new {
            Ok(())
        } else {
            Err(stated(self.id, "change"))
        }
    }

    fn check_removal(&self, _: &Snapshot) -> Result<()> {
        if self.seeded {
            return Err(stated(self.id, "remove"));
        }
        Ok(())
    }

    fn index(
        next: &mut Snapshot,
        old: Option<&Arc<Self>>,
        new: Option<&Arc<Self>>,
        revise: &dyn Fn() -> u64,
    ) {
        next.surroundings = revise();
        if let Some(old) = old {
            let holder = next.flavors.get(&old.short_id);
            if holder.is_some_and(|flavor| flavor.id == old.id) {
                next.flavors.remove(&old.short_id);
            }
        }
        if let Some(new) = new {
            next.flavors.insert(new.short_id.clone(), new.clone());
        }
    }
}

impl Entry for DiskOffering {
    kept!(DiskOffering, DiskOfferingId, entries.disk_offerings);

    fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    fn touch(&mut self, now: Timestamp) {
        self.changed = now;
    }

    fn check(&self, _: &Snapshot) -> Result<()> {
        check_name(&self.name)?;
        check_text("description", &self.description)?;
        if self.disk_size == 0 {
            return Err(Error::invalid("disk_size", "the size must be at least one byte"));
        }
        Ok(())
    }
}
