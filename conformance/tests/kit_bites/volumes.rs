//! What a mutant does wrong with volumes.

use std::sync::atomic::Ordering;
use std::time::Instant;

use babelvisor_core::backend::{Backend as _, ByteStream, CallContext, VmRef};
use babelvisor_core::model::{PoolVolume, VmId, Volume, VolumeFormat, VolumeSource, VolumeSpec};
use babelvisor_core::{Error, ErrorKind, Result};

use crate::fault::Fault;
use crate::mutant::Mutant;

impl Mutant {
    pub(crate) async fn create_volume_wrongly(
        &self,
        call: &CallContext,
        volume: &VolumeSpec,
    ) -> Result<Volume> {
        let mut spec = volume.clone();
        match self.fault {
            Some(Fault::VolumeInKib) => spec.capacity /= 1024,
            Some(Fault::VolumeInOneFormat) => spec.format = VolumeFormat::Qcow2,
            Some(Fault::LayerIgnoresSize) if matches!(spec.source, VolumeSource::Layer { .. }) => {
                spec.capacity = 0;
            }
            Some(Fault::NamesAreLaundered) => {
                spec.name = spec
                    .name
                    .replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-");
                if spec.name.is_empty() {
                    spec.name.push('-');
                }
            }
            Some(Fault::VolumeTwiceIsRefused) if call.begun.is_some() => {
                let there = self.control.volumes().iter().any(|known| known.name == spec.name);
                if there {
                    return Err(Error::new(ErrorKind::AlreadyExists, "it exists already"));
                }
            }
            Some(Fault::VolumeTwiceIsTwo) if call.begun.is_some() => {
                spec.name = format!("{}-{}", spec.name, VmId::random().simple());
            }
            Some(Fault::MixesUpCalls) => {
                // What is meant for one call is read from a place that all calls share.
                *self.last_volume.lock().unwrap() = Some((Instant::now(), spec.clone()));
                tokio::task::yield_now().await;
                if let Some((_, last)) = self.last_volume.lock().unwrap().clone() {
                    spec.capacity = last.capacity.max(1);
                }
            }
            Some(Fault::RoomIsLost) => {
                let lost = 1_usize << 39;
                if spec.capacity > 1 << 38 && self.taken.fetch_add(lost, Ordering::SeqCst) >= lost {
                    return Err(Error::new(ErrorKind::NoResources, "the pool is full"));
                }
            }
            _ => {}
        }
        let made = self.inner.create_volume(call, &spec).await;
        let late = Self::unhurried(call);
        let made = self
            .late(call, made, self.inner.create_volume(&late, &spec))
            .await;
        match made {
            Ok(mut made) => {
                if self.is(Fault::VolumeForgetsJob) {
                    made.made_by = None;
                }
                Ok(made)
            }
            Err(error) if self.is(Fault::VolumeIsAnybodys) && error.kind == ErrorKind::AlreadyExists => {
                let all = self.control.volumes();
                all.into_iter()
                    .find(|known| known.name == volume.name)
                    .ok_or(error)
            }
            Err(mut error) => {
                if self.is(Fault::AbsentPoolIsInternal) && error.kind == ErrorKind::NotFound {
                    error.kind = ErrorKind::Internal;
                }
                if self.is(Fault::NoRoomIsInvalid) && error.kind == ErrorKind::NoResources {
                    error.kind = ErrorKind::InvalidInput;
                }
                Err(error)
            }
        }
    }

    pub(crate) async fn delete_volume_wrongly(
        &self,
        call: &CallContext,
        pool: &str,
        name: &str,
    ) -> Result<()> {
        let volumes = self.control.volumes();
        match self.fault {
            Some(Fault::DeleteIsNothing) => return Ok(()),
            Some(Fault::DeleteAbsentIsNotFound) if !volumes.iter().any(|known| known.name == name) => {
                return Err(Error::not_found("volume", name));
            }
            Some(Fault::DeleteTakesAnothers) => {
                for other in volumes.iter().filter(|other| other.name.starts_with(name)) {
                    self.inner.delete_volume(call, pool, &other.name).await?;
                }
            }
            _ => {}
        }
        let done = self.inner.delete_volume(call, pool, name).await;
        let late = Self::unhurried(call);
        self.late(call, done, self.inner.delete_volume(&late, pool, name))
            .await
    }

    pub(crate) async fn resize_wrongly(
        &self,
        call: &CallContext,
        place: &PoolVolume,
        attached: Option<&VmRef>,
        capacity: u64,
    ) -> Result<Volume> {
        let nothing =
            self.is(Fault::ResizeIsNothing) || self.is(Fault::AttachedStaysSmall) && attached.is_some();
        let wanted = if nothing { 1 } else { capacity };
        let mut volume = self.inner.resize_volume(call, place, attached, wanted).await?;
        if self.is(Fault::ResizeShrinks) || nothing {
            volume.capacity = capacity;
        }
        Ok(volume)
    }

    pub(crate) async fn upload_wrongly(
        &self,
        call: &CallContext,
        spec: &VolumeSpec,
        bytes: ByteStream,
    ) -> Result<Volume> {
        let place = PoolVolume {
            pool: spec.pool.clone(),
            name: spec.name.clone(),
        };
        match (self.inner.upload_volume(call, spec, bytes).await, self.fault) {
            (Ok(volume), Some(Fault::UploadGrows)) => {
                let more = volume.capacity * 2;
                self.inner.resize_volume(call, &place, None, more).await
            }
            (Err(error), Some(Fault::UploadIsAnybodys)) if error.kind == ErrorKind::AlreadyExists => {
                self.inner.volume(call, &place).await?.ok_or(error)
            }
            (Err(_), Some(Fault::UploadIsPadded)) => self.inner.create_volume(call, spec).await,
            (Err(error), Some(Fault::UploadLeavesHalf)) => {
                self.inner.create_volume(call, spec).await?;
                Err(error)
            }
            (answer, _) => answer,
        }
    }
}
