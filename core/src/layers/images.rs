//! Images that clients bring or make: from a volume, from the network; and their removal.

use std::sync::Arc;

use super::{Core, SubmitOptions, audit, authorise, capable, legal};
use crate::command::{Command, ImageAction, ImageJob};
use crate::error::{Error, ErrorKind, Result};
use crate::inventory::{Entry as _, Heard};
use crate::model::{
    BackendId, Caller, Image, ImageId, Job, PoolId, PoolVolume, VolumeFormat, VolumeId, VolumeSource,
    VolumeSpec,
};
use crate::outbound::Purpose;

/// Where a new image's content comes from.
#[derive(Debug, Clone)]
pub enum ImageFrom {
    /// A volume. One that is attached is copied while its VM is off.
    Volume(VolumeId),
    /// The network; the address was vetted against the outbound rules.
    Url(String),
}

/// An image that a client asks for.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    /// What it shall be; no locations yet.
    pub image: Image,
    /// What it is made of.
    pub from: ImageFrom,
    /// Its layout; a volume's own without.
    pub format: Option<VolumeFormat>,
    /// Where it goes.
    pub pool: Option<PoolId>,
}

impl Core {
    /// Takes the making of an image, whose record is visible at once, not ready.
    ///
    /// # Errors
    /// `InvalidInput`, `AlreadyExists` for a chosen id that was ever in use, `NotFound`, `IllegalState` when the
    /// volume's VM is not off, `NoResources`, `Unsupported`.
    pub async fn make_image(
        &self,
        caller: &Caller,
        request: ImageRequest,
        options: SubmitOptions,
    ) -> Result<(Arc<Image>, Job)> {
        authorise::may_change(caller)?;
        if let Some(job) = self.known_job(caller, None, &options).await?
            && let Command::Image(made) = &job.command
        {
            return Ok((self.entry(caller, made.image).await?, job));
        }
        let now = self.now();
        let mut image = request.image;
        image.check(&now)?;
        let (backend, command) = match request.from {
            ImageFrom::Volume(id) => {
                let view = self.volume(caller, id).await?;
                if let Some(wish) = request.format.filter(|wish| *wish != view.format) {
                    let text = format!(
                        "the volume's layout is {}, a copy of layout {} cannot be made",
                        view.format.as_ref(),
                        wish.as_ref()
                    );
                    return Err(Error::unsupported(text));
                }
                let pool = self.choose_pool(&now, &view.backend, view.capacity, request.pool)?;
                image.size = view.capacity;
                image.format = Some(view.format);
                let action = ImageAction::Copy {
                    volume: VolumeSpec {
                        pool,
                        name: format!("{}.{}", image.id, view.format.as_ref()),
                        capacity: 0,
                        format: view.format,
                        source: VolumeSource::Copy {
                            image: format!("{}/{}", view.place.pool, view.place.name),
                            format: view.format,
                        },
                        bus: None,
                    },
                };
                let job = ImageJob {
                    image: image.id,
                    vm: view.vm.as_ref().map(|vm| vm.id),
                    volume: Some(id),
                    action,
                };
                if let Some(vm) = &view.vm {
                    legal::check(&Command::Image(job.clone()), vm)?;
                }
                (view.backend, job)
            }
            ImageFrom::Url(url) => {
                self.engine.outbound().check(Purpose::Image, &url).await?;
                let format = request.format.unwrap_or(VolumeFormat::Raw);
                let (backend, pool) = self.image_place(request.pool, image.size)?;
                let place = PoolVolume {
                    pool,
                    name: format!("{}.{}", image.id, format.as_ref()),
                };
                image.format = Some(format);
                image.url = Some(url.clone());
                let action = ImageAction::Fetch { url, place, format };
                let (vm, volume) = (None, None);
                let job = ImageJob {
                    image: image.id,
                    vm,
                    volume,
                    action,
                };
                (backend, job)
            }
        };
        let command = Command::Image(command);
        capable::check(&command, self.backend(&backend)?.as_ref())?;
        audit::asked(caller, &command);
        let id = image.id;
        let writes = self.registry.new_entry(&mut image).await?;
        let job = self.accept(caller, command, backend, writes, options).await;
        let job = match job {
            Err(error)
                if error.kind == ErrorKind::Conflict && self.registry.entry::<Image>(id).await?.is_some() =>
            {
                let text = format!("an image with the id {id} exists or existed");
                return Err(Error::new(ErrorKind::AlreadyExists, text).about(ImageId::NOUN, id));
            }
            outcome => outcome?,
        };
        self.inventory.entries(vec![Heard::written(image, 1)]);
        Ok((self.entry(caller, id).await?, job))
    }

    fn image_place(&self, wish: Option<PoolId>, size: u64) -> Result<(BackendId, String)> {
        let now = self.now();
        if let Some(id) = wish {
            let pool = now.pools.get(&id);
            let pool = pool.ok_or_else(|| Error::not_found(PoolId::NOUN, id))?;
            let name = self.choose_pool(&now, &pool.backend, size, Some(id))?;
            return Ok((pool.backend.clone(), name));
        }
        let mut backends: Vec<&BackendId> = self.backends().keys().collect();
        backends.retain(|backend| now.backend_up(backend));
        backends.sort_unstable();
        let found = backends
            .into_iter()
            .find_map(|backend| Some((backend.clone(), self.choose_pool(&now, backend, size, None).ok()?)));
        found.ok_or_else(|| Error::new(ErrorKind::NoResources, "no backend that is up can take the image"))
    }

    /// Removes an image and its volumes for good. Copies made from it stay; it is refused while layers over it
    /// are in use, by the backend.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden` for one that the configuration states; those of [`Core::submit`].
    pub async fn delete_image(&self, caller: &Caller, id: ImageId, options: SubmitOptions) -> Result<Job> {
        authorise::may_change(caller)?;
        let image = self.entry::<Image>(caller, id).await?;
        image.check_removal(&self.now())?;
        let backend = image.locations.first().map(|location| location.backend.clone());
        let backend = match backend {
            Some(backend) => backend,
            None => {
                let any = self.backends().keys().min().cloned();
                any.ok_or_else(|| Error::internal("no backend is configured"))?
            }
        };
        let places = image
            .locations
            .iter()
            .filter(|location| location.backend == backend);
        let places = places.filter_map(|location| {
            let (pool, name) = location.native.split_once('/')?;
            (!pool.is_empty()).then(|| PoolVolume {
                pool: pool.to_owned(),
                name: name.to_owned(),
            })
        });
        let command = Command::Image(ImageJob {
            image: id,
            vm: None,
            volume: None,
            action: ImageAction::Delete {
                places: places.collect(),
            },
        });
        self.submit_on(caller, command, &backend, options).await
    }
}
