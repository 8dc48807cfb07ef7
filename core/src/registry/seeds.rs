//! Images and flavors that the configuration names. Each is stored once under an id computed from its name,
//! so that its number and short id stay the same over restarts and on every gateway.

use serde::{Deserialize, Serialize};

use super::{Registry, decode, encode};
use crate::error::{ErrorKind, Result};
use crate::model::{
    Area, BackendId, Billing, Flavor, FlavorId, Image, ImageId, ImageKind, ImageLocation, Purpose,
};
use crate::secret::random_text;
use crate::store::{Expect, RecordKind, Write};

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
    /// Stores a configured image, keeping the number of an earlier start.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn seed_image(&self, seed: ImageSeed) -> Result<Image> {
        let id = ImageId::computed(&BackendId::new("config"), &seed.name);
        let image = |number| Image {
            id,
            number,
            name: seed.name.clone(),
            kind: seed.kind,
            os: seed.os.clone(),
            os_version: seed.os_version.clone(),
            family: seed.family.clone(),
            admin_user: seed.admin_user.clone(),
            size: seed.size,
            locations: seed.locations.clone(),
        };
        loop {
            let old = self.store.get(RecordKind::Image, &id.simple()).await?;
            let (number, expect) = match (seed.number, &old) {
                (Some(number), Some(record)) => (number, Expect::Version(record.version)),
                (Some(number), None) => (number, Expect::Absent),
                (None, Some(record)) => (decode::<Image>(record)?.number, Expect::Version(record.version)),
                (None, None) => (self.free_image_number().await?, Expect::Absent),
            };
            let image = image(number);
            let write = Write {
                kind: RecordKind::Image,
                key: id.simple(),
                expect,
                value: Some(encode(&image)?),
            };
            match self.store.commit(vec![write]).await {
                Ok(_) => return Ok(image),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next number that no image has: the configuration may have named some.
    async fn free_image_number(&self) -> Result<u64> {
        let taken = self.store.load(RecordKind::Image).await?;
        let taken = taken
            .iter()
            .map(|record| Ok(decode::<Image>(record)?.number))
            .collect::<Result<Vec<_>>>()?;
        loop {
            let number = self.store.allocate("image-number", 1).await?;
            if !taken.contains(&number) {
                return Ok(number);
            }
        }
    }

    /// Stores a configured flavor, keeping the short id of an earlier start.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn seed_flavor(&self, seed: FlavorSeed) -> Result<Flavor> {
        let id = FlavorId::computed(&BackendId::new("config"), &seed.name);
        loop {
            let old = self.store.get(RecordKind::Flavor, &id.simple()).await?;
            let (short_id, expect) = match (&seed.short_id, &old) {
                (Some(short_id), Some(record)) => (short_id.clone(), Expect::Version(record.version)),
                (Some(short_id), None) => (short_id.clone(), Expect::Absent),
                (None, Some(record)) => (
                    decode::<Flavor>(record)?.short_id,
                    Expect::Version(record.version),
                ),
                (None, None) => (random_text(10), Expect::Absent),
            };
            let flavor = Flavor {
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
            };
            let write = Write {
                kind: RecordKind::Flavor,
                key: id.simple(),
                expect,
                value: Some(encode(&flavor)?),
            };
            match self.store.commit(vec![write]).await {
                Ok(_) => return Ok(flavor),
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }
}
