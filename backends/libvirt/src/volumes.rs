//! Volumes: blank, copied from an image, layered over one, and the first-boot medium.
//!
//! libvirt's volumes have no room for the id of the job that made them. What the core guarantees instead: their names
//! carry the VM's id, and a step that begins again says when it first began. So a volume that is already there when a
//! step begins for the first time is somebody else's, and one that is there when it begins again is our own.

use std::time::{Duration, Instant};

use babelvisor_core::backend::CallContext;
use babelvisor_core::model::{BackendId, Volume, VolumeFormat, VolumeId, VolumeSource, VolumeSpec};
use babelvisor_core::{Error, ErrorKind};
use virt::connect::Connect;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt_sys as sys;

use crate::connection::CallError;
use crate::convert;
use crate::error::code;
use crate::read::pool_id;
use crate::xml::host::{PoolXml, VolumeSpec as VolumeDefinition, VolumeXml};

/// Bytes sent to a stream at once.
const CHUNK: usize = 256 * 1024;
/// Pause between looks at what the daemon still does for an earlier try.
const AGAIN: Duration = Duration::from_millis(100);
/// STORAGE_VOL_EXIST.
const EXISTS: u32 = 90;
/// INTERNAL_ERROR.
const INTERNAL: u32 = 1;
/// OPERATION_FAILED.
const FAILED: u32 = 9;
const NO_POOL: u32 = 49;
const NO_VOLUME: u32 = 50;
/// OPERATION_INVALID: among others "is still being allocated".
const INVALID: u32 = 55;

/// libvirt's word for a format.
fn format_word(format: VolumeFormat) -> Result<&'static str, CallError> {
    match format {
        VolumeFormat::Raw => Ok("raw"),
        VolumeFormat::Qcow2 => Ok("qcow2"),
        VolumeFormat::Other => Err(Error::invalid("format", "only raw and qcow2 volumes can be made").into()),
    }
}

fn pool(connection: &Connect, name: &str) -> Result<StoragePool, CallError> {
    let pool = match connection.lookup_storage_pool_by_name(name) {
        Ok(pool) => pool,
        Err(error) if code(&error) == NO_POOL => return Err(Error::not_found("storage pool", name).into()),
        Err(error) => return Err(error.into()),
    };
    if !pool.is_active()? {
        let detail = format!("storage pool {name} is not started; start it on the host");
        return Err(Error::illegal_state("storage pool", name, detail).into());
    }
    Ok(pool)
}

fn find(pool: &StoragePool, name: &str) -> Result<Option<StorageVol>, CallError> {
    match pool.lookup_storage_vol_by_name(name) {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if code(&error) == NO_VOLUME => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Checks a name before it becomes part of a path on the host.
fn check_name(name: &str) -> Result<(), CallError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > 200 {
        return Err(Error::invalid("name", format!("{name:?} is not a volume name")).into());
    }
    Ok(())
}

/// A volume of libvirt as the core's.
fn describe(
    backend: &BackendId,
    pool: &str,
    volume: &StorageVol,
    call: &CallContext,
) -> Result<Volume, CallError> {
    let xml = VolumeXml::parse(&volume.xml_desc(0)?)?;
    Ok(Volume {
        id: VolumeId::computed(backend, &format!("{pool}/{}", xml.name)),
        backend: backend.clone(),
        pool: pool_id(backend, pool),
        native: volume.path()?,
        format: convert::format(xml.format.as_deref()),
        capacity: xml.capacity,
        allocation: xml.allocation,
        name: xml.name,
        made_by: call.job,
    })
}

/// Sees to it that the name is free.
///
/// Our own volume of an earlier try goes: cut off in the middle it looks like a whole one, and nothing can use it yet,
/// because only a recorded step is followed by the next.
fn free_place(pool: &StoragePool, name: &str, call: &CallContext) -> Result<(), CallError> {
    match find(pool, name)? {
        None => Ok(()),
        Some(volume) if call.job.is_some() && call.begun.is_some() => delete(&volume, call.deadline),
        Some(_) => Err(taken(name)),
    }
}

fn taken(name: &str) -> CallError {
    Error::new(ErrorKind::AlreadyExists, format!("volume {name} exists already"))
        .about("volume", name)
        .into()
}

/// Makes a volume under a name that is free, or that our own earlier try has taken.
fn in_free_place(
    pool: &StoragePool,
    name: &str,
    call: &CallContext,
    make: impl Fn() -> Result<StorageVol, CallError>,
) -> Result<StorageVol, CallError> {
    loop {
        free_place(pool, name, call)?;
        match make() {
            // The daemon has only now begun what the earlier try asked for: it is waited for and removed.
            Err(CallError::Libvirt(error))
                if exists(&error) && call.begun.is_some() && Instant::now() < call.deadline =>
            {
                std::thread::sleep(AGAIN);
            }
            Err(CallError::Libvirt(error)) if exists(&error) => return Err(taken(name)),
            made => return made,
        }
    }
}

/// Whether the name is taken; the test driver and a copy into a name that another call is just taking say so under
/// general numbers.
fn exists(error: &virt::error::Error) -> bool {
    match code(error) {
        EXISTS => true,
        FAILED => error.message().contains("already exists"),
        INTERNAL => error.message().contains("already in use"),
        _ => false,
    }
}

/// Deletes a volume; waits while the daemon still fills it for a call whose caller is gone.
fn delete(volume: &StorageVol, deadline: Instant) -> Result<(), CallError> {
    loop {
        match volume.delete(0) {
            Ok(()) => return Ok(()),
            Err(error) if code(&error) == NO_VOLUME => return Ok(()),
            Err(error)
                if code(&error) == INVALID
                    && error.message().contains("still")
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(AGAIN);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes one volume.
pub(crate) fn create(
    connection: &Connect,
    backend: &BackendId,
    spec: &VolumeSpec,
    call: &CallContext,
) -> Result<Volume, CallError> {
    check_name(&spec.name)?;
    let pool = pool(connection, &spec.pool)?;
    let definition = |capacity: u64, backing| -> Result<String, CallError> {
        Ok(VolumeDefinition {
            name: spec.name.clone(),
            capacity,
            allocation: 0,
            format: format_word(spec.format)?.to_owned(),
            backing,
        }
        .to_xml()?)
    };
    let volume = in_free_place(&pool, &spec.name, call, || match &spec.source {
        VolumeSource::Blank => Ok(StorageVol::create_xml(
            &pool,
            &definition(spec.capacity, None)?,
            0,
        )?),
        VolumeSource::Layer { image, format } => {
            let (path, size) = match image_volume(connection, image)? {
                Some(image) => {
                    refuse_chain(&image)?;
                    (image.path()?, image.info()?.capacity)
                }
                // An image outside all pools can still be a backing file; QEMU opens it by its path.
                None if image.starts_with('/') => (image.clone(), 0),
                None => return Err(Error::not_found("image", image).into()),
            };
            if spec.format != VolumeFormat::Qcow2 {
                return Err(Error::invalid("format", "a copy-on-write layer must be qcow2").into());
            }
            let backing = Some((path, format_word(*format)?.to_owned()));
            let xml = definition(spec.capacity.max(size), backing)?;
            Ok(StorageVol::create_xml(&pool, &xml, 0)?)
        }
        VolumeSource::Copy { image, .. } => {
            let source = image_volume(connection, image)?.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("image {image} is in no storage pool of the host; a full copy needs that"),
                )
                .about("image", image)
            })?;
            refuse_chain(&source)?;
            let size = source.info()?.capacity;
            let capacity = spec.capacity.max(size);
            let copy = StorageVol::create_xml_from(&pool, &definition(capacity, None)?, &source, 0)?;
            // A converted copy has the image's size whatever was asked for.
            if copy.info()?.capacity < capacity {
                copy.resize(capacity, 0)?;
            }
            Ok(copy)
        }
    })?;
    describe(backend, &spec.pool, &volume, call)
}

/// Finds an image by path or by `pool/volume`; a file that appeared after the pool was read is looked for once more.
fn image_volume(connection: &Connect, image: &str) -> Result<Option<StorageVol>, CallError> {
    if !image.starts_with('/') {
        let Some((pool_name, name)) = image.split_once('/') else {
            return Err(
                Error::invalid("image", format!("{image:?} is neither a path nor pool/volume")).into(),
            );
        };
        let pool = pool(connection, pool_name)?;
        return match find(&pool, name)? {
            Some(volume) => Ok(Some(volume)),
            None => {
                pool.refresh(0)?;
                find(&pool, name)
            }
        };
    }
    let lookup = || match connection.lookup_storage_vol_by_path(image) {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if code(&error) == NO_VOLUME => Ok(None),
        Err(error) => Err(CallError::from(error)),
    };
    if let Some(volume) = lookup()? {
        return Ok(Some(volume));
    }
    let directory = image
        .rsplit_once('/')
        .map(|(directory, _)| directory)
        .unwrap_or_default();
    for pool in connection.list_all_storage_pools(sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)? {
        if PoolXml::parse(&pool.xml_desc(0)?)?.path.as_deref() == Some(directory) {
            pool.refresh(0)?;
            return lookup();
        }
    }
    Ok(None)
}

/// An image that itself refers to another file could expose any file of the host.
fn refuse_chain(image: &StorageVol) -> Result<(), CallError> {
    let xml = VolumeXml::parse(&image.xml_desc(0)?)?;
    match xml.backing {
        Some(_) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "image {} has a backing file of its own; only self-contained images are taken",
                xml.name
            ),
        )
        .about("image", xml.name)
        .into()),
        None => Ok(()),
    }
}

/// Removes a volume; absent is success.
pub(crate) fn remove(
    connection: &Connect,
    pool_name: &str,
    name: &str,
    deadline: Instant,
) -> Result<Option<String>, CallError> {
    check_name(name)?;
    let pool = match pool(connection, pool_name) {
        Ok(pool) => pool,
        // Nothing can be left in a pool that the host does not have.
        Err(CallError::Refused(error)) if error.kind == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match find(&pool, name)? {
        Some(volume) => {
            let path = volume.path().ok();
            delete(&volume, deadline)?;
            Ok(path)
        }
        None => Ok(None),
    }
}

/// Stores a ready-made image as a raw volume.
pub(crate) fn upload(
    connection: &Connect,
    backend: &BackendId,
    pool_name: &str,
    name: &str,
    content: &[u8],
    call: &CallContext,
) -> Result<Volume, CallError> {
    check_name(name)?;
    let pool = pool(connection, pool_name)?;
    let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let xml = VolumeDefinition {
        name: name.to_owned(),
        capacity: size,
        allocation: size,
        format: "raw".to_owned(),
        backing: None,
    }
    .to_xml()?;
    let volume = in_free_place(&pool, name, call, || Ok(StorageVol::create_xml(&pool, &xml, 0)?))?;
    if let Err(error) = send(connection, &volume, content) {
        // Half a medium is worse than none.
        if let Err(error) = volume.delete(0) {
            tracing::warn!(volume = name, %error, "a volume whose upload failed could not be removed");
        }
        return Err(error);
    }
    describe(backend, pool_name, &volume, call)
}

fn send(connection: &Connect, volume: &StorageVol, content: &[u8]) -> Result<(), CallError> {
    let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let stream = Stream::new(connection, 0)?;
    volume.upload(&stream, 0, size, 0)?;
    for chunk in content.chunks(CHUNK) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let sent = match stream.send(rest) {
                Ok(sent) => usize::try_from(sent).unwrap_or(0),
                Err(error) => {
                    // The send's error says more than the abort's.
                    let _ = stream.abort();
                    return Err(error.into());
                }
            };
            match rest.get(sent..) {
                Some(next) if sent > 0 => rest = next,
                _ => {
                    let _ = stream.abort();
                    return Err(Error::internal("libvirt took no bytes of an upload").into());
                }
            }
        }
    }
    Ok(stream.finish()?)
}
