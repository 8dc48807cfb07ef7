//! Images and flavors that the configuration names. Each is stored once under an id computed from its name,
//! so that its number and short id stay the same over restarts and on every gateway.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::entries::{entry_write, read_entry};
use super::{Registry, encode};
use crate::error::{ErrorKind, Result};
use crate::inventory::Entry;
use crate::model::{
    Area, BackendId, Billing, EntryState, Flavor, FlavorId, Image, ImageId, ImageKind, ImageLocation,
    Purpose, ResourceId, Timestamp,
};
use crate::secret::random_text;
use crate::store::{Expect, Record, RecordKind, Write};

/// An image as configured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageSeed {
    /// Unique name.
    pub name: String,
    /// The number that clients know it by; given out without.
    pub number: Option<u64>,
    /// What it is for.
    pub kind: ImageKind,
    /// The system's family as shown.
    pub os: String,
    /// The system's release as shown.
    pub os_version: String,
    /// Word that must equal the flavor's.
    pub family: String,
    /// The administrator's login.
    pub admin_user: String,
    /// Virtual size in bytes, 0 if not known.
    pub size: u64,
    /// Where it can be had.
    pub locations: Vec<ImageLocation>,
}

/// A flavor as configured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlavorSeed {
    /// Unique name.
    pub name: String,
    /// The ten characters that clients know it by; made without.
    pub short_id: Option<String>,
    /// vCPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Root disk in bytes.
    pub disk: u64,
    /// GPUs.
    pub gpus: u32,
    /// GPU model in words.
    pub gpu_model: Option<String>,
    /// Mbit/s.
    pub bandwidth: u32,
    /// Price for an hour.
    pub price: f64,
    /// Factor on the price.
    pub discount: f64,
    /// Word that must equal the image's.
    pub family: String,
    /// What it is for.
    pub purpose: Purpose,
    /// Which area offers it.
    pub area: Area,
    /// How it may be paid.
    pub billing: Billing,
}

impl Registry {
    /// Stores a configured image, keeping the number of an earlier start. Another image that has the number gets
    /// a new one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn seed_image(&self, seed: ImageSeed) -> Result<Image> {
        let id = ImageId::computed(&BackendId::new("config"), &seed.name);
        // What the configuration does not state is kept as somebody set it.
        let image = |number, old: Option<Image>| Image {
            id,
            number,
            os: seed.os.clone(),
            os_version: seed.os_version.clone(),
            family: seed.family.clone(),
            admin_user: seed.admin_user.clone(),
            size: seed.size,
            locations: seed.locations.clone(),
            seeded: true,
            state: EntryState::Ready,
            name: seed.name.clone(),
            kind: seed.kind,
            ..old.unwrap_or_else(|| Image::new(seed.name.clone(), seed.kind, None))
        };
        loop {
            let old = self.store.get(RecordKind::Image, &id.simple()).await?;
            let expect = expectation(old.as_ref());
            let old: Option<Image> = old.as_ref().map(read_entry).transpose()?.flatten();
            let number = match (seed.number, &old) {
                (Some(number), _) => number,
                (None, Some(old)) => old.number,
                (None, None) => self.free_image_number().await?,
            };
            // A number has one image, and a configured number is the site's will: who had it gets another one.
            let mut writes = vec![self.holder(&format!("image-number:{number}"), &id).await?];
            for other in self.store.load(RecordKind::Image).await? {
                let Ok(Some(mut moved)) = read_entry::<Image>(&other) else {
                    continue;
                };
                if moved.number == number && moved.id != id {
                    moved.number = self.free_image_number().await?;
                    tracing::warn!(
                        image = moved.name,
                        number = moved.number,
                        by = seed.name,
                        "an image lost its number"
                    );
                    writes.push(entry_write(&moved, Expect::Version(other.version))?);
                }
            }
            let mut image = image(number, old.clone());
            if old.as_ref() != Some(&image) {
                image.changed = Timestamp::now();
            }
            writes.push(entry_write(&image, expect)?);
            match self.store.commit(writes).await {
                Ok(_) => return Ok(image),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The write that notes whose an alias is. Two gateways that give one alias to two objects at the same time
    /// meet here.
    pub(crate) async fn holder<I: Serialize>(&self, alias: &str, id: &I) -> Result<Write> {
        let held = self.store.get(RecordKind::Alias, alias).await?;
        Ok(Write {
            kind: RecordKind::Alias,
            key: alias.to_owned(),
            expect: expectation(held.as_ref()),
            value: Some(encode(id)?),
        })
    }

    /// The next number that no image has: the configuration may have named some.
    pub(crate) async fn free_image_number(&self) -> Result<u64> {
        let taken = self.store.load(RecordKind::Image).await?;
        // What cannot be read, or was removed, has no number.
        let taken: HashSet<u64> = taken
            .iter()
            .filter_map(|record| Some(read_entry::<Image>(record).ok()??.number))
            .collect();
        loop {
            let number = self.store.allocate("image-number", 1).await?;
            if !taken.contains(&number) {
                return Ok(number);
            }
        }
    }

    /// Stores a configured flavor, keeping the short id of an earlier start. Another flavor that has the id gets
    /// a new one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn seed_flavor(&self, seed: FlavorSeed) -> Result<Flavor> {
        let id = FlavorId::computed(&BackendId::new("config"), &seed.name);
        loop {
            let old = self.store.get(RecordKind::Flavor, &id.simple()).await?;
            let expect = expectation(old.as_ref());
            let old: Option<Flavor> = old.as_ref().map(read_entry).transpose()?.flatten();
            let short_id = match (&seed.short_id, &old) {
                (Some(short_id), _) => short_id.clone(),
                (None, Some(old)) => old.short_id.clone(),
                (None, None) => random_text(10),
            };
            let mut writes = vec![self.holder(&format!("flavor-short:{short_id}"), &id).await?];
            for other in self.store.load(RecordKind::Flavor).await? {
                let Ok(Some(mut moved)) = read_entry::<Flavor>(&other) else {
                    continue;
                };
                if moved.short_id == short_id && moved.id != id {
                    moved.short_id = random_text(10);
                    tracing::warn!(
                        flavor = moved.name,
                        id = moved.short_id,
                        by = seed.name,
                        "a flavor lost its id"
                    );
                    writes.push(entry_write(&moved, Expect::Version(other.version))?);
                }
            }
            let mut flavor = Flavor {
                id,
                short_id,
                name: seed.name.clone(),
                vcpus: seed.vcpus,
                memory: seed.memory,
                disk: seed.disk,
                gpus: seed.gpus,
                gpu_model: seed.gpu_model.clone(),
                bandwidth: seed.bandwidth,
                price: seed.price,
                discount: seed.discount,
                family: seed.family.clone(),
                purpose: seed.purpose,
                area: seed.area,
                billing: seed.billing,
                seeded: true,
                ..old
                    .clone()
                    .unwrap_or_else(|| Flavor::new(seed.name.clone(), seed.vcpus, seed.memory, None))
            };
            if old.as_ref() != Some(&flavor) {
                flavor.changed = Timestamp::now();
            }
            writes.push(entry_write(&flavor, expect)?);
            match self.store.commit(writes).await {
                Ok(_) => return Ok(flavor),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets go of images and flavors that an earlier configuration named and this one, which names `images` and
    /// `flavors`, does not: from now on they are changed and removed like any other.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn release_seeds(&self, images: &HashSet<ImageId>, flavors: &HashSet<FlavorId>) -> Result<()> {
        for id in self.unnamed::<Image>(images, |image| image.seeded).await? {
            self.edit_entry::<Image>(id, |image| {
                image.seeded = false;
                Ok(())
            })
            .await?;
        }
        for id in self.unnamed::<Flavor>(flavors, |flavor| flavor.seeded).await? {
            self.edit_entry::<Flavor>(id, |flavor| {
                flavor.seeded = false;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn unnamed<T: Entry>(&self, named: &HashSet<T::Id>, seeded: fn(&T) -> bool) -> Result<Vec<T::Id>> {
        let records = self.store.load(T::KIND).await?;
        let entries = records.iter().filter_map(|record| read_entry::<T>(record).ok()?);
        let unnamed = entries.filter(|entry| seeded(entry) && !named.contains(&entry.id()));
        Ok(unnamed
            .map(|entry| {
                let (noun, id) = (<T::Id as ResourceId>::NOUN, entry.id());
                tracing::info!(noun, %id, "the configuration no longer names it");
                id
            })
            .collect())
    }
}

fn expectation(old: Option<&Record>) -> Expect {
    old.map_or(Expect::Absent, |record| Expect::Version(record.version))
}
