//! Volumes: blank, copied from an image or another volume, layered over one, made larger, and removed.
//!
//! libvirt's volumes have no room for the id of the job that made them. What the core guarantees instead: their names
//! carry the VM's id, and a step that begins again says when it first began. So a volume that is already there when a
//! step begins for the first time is somebody else's, and one that is there when it begins again is our own.

use std::time::{Duration, Instant};

use babelvisor_core::backend::CallContext;
use babelvisor_core::model::{
    BackendId, PoolVolume, Volume, VolumeFormat, VolumeId, VolumeSource, VolumeSpec,
};
use babelvisor_core::{Error, ErrorKind};
use virt::connect::Connect;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt_sys as sys;

use crate::connection::CallError;
use crate::convert;
use crate::error::code;
use crate::read::pool_id;
use crate::upload;
use crate::usage;
use crate::xml::DiskSource;
use crate::xml::host::{PoolXml, VolumeSpec as VolumeDefinition, VolumeXml};

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
/// Most images in one chain of backing files.
const MOST_LAYERS: usize = 32;
/// Sizes of images are multiples of this.
const SECTOR: u64 = 512;
/// OPERATION_INVALID: among others "is still being allocated".
const INVALID: u32 = 55;

/// libvirt's word for a format.
pub(crate) fn format_word(format: VolumeFormat) -> Result<&'static str, CallError> {
    match format {
        VolumeFormat::Raw => Ok("raw"),
        VolumeFormat::Qcow2 => Ok("qcow2"),
        VolumeFormat::Other => Err(Error::invalid("format", "only raw and qcow2 volumes can be made").into()),
    }
}

pub(crate) fn pool(connection: &Connect, name: &str) -> Result<StoragePool, CallError> {
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

pub(crate) fn find(pool: &StoragePool, name: &str) -> Result<Option<StorageVol>, CallError> {
    match pool.lookup_storage_vol_by_name(name) {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if code(&error) == NO_VOLUME => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Checks a name before it becomes part of a path on the host.
pub(crate) fn check_name(name: &str) -> Result<(), CallError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > 200 {
        return Err(Error::invalid("name", format!("{name:?} is not a volume name")).into());
    }
    Ok(())
}

/// A volume of libvirt as the core's.
fn described(backend: &BackendId, pool: &str, volume: &StorageVol) -> Result<Volume, CallError> {
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
        made_by: None,
    })
}

/// A volume that this job has just made.
pub(crate) fn describe(
    backend: &BackendId,
    pool: &str,
    volume: &StorageVol,
    call: &CallContext,
) -> Result<Volume, CallError> {
    Ok(Volume {
        made_by: call.job,
        ..described(backend, pool, volume)?
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
pub(crate) fn in_free_place(
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
                    check_chain(connection, &image, *format)?;
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
        VolumeSource::Copy { image, format } => {
            let source = image_volume(connection, image)?.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("image {image} is in no storage pool of the host; a full copy needs that"),
                )
                .about("image", image)
            })?;
            refuse_other_format(&source, *format)?;
            check_chain(connection, &source, *format)?;
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
pub(crate) fn image_volume(connection: &Connect, image: &str) -> Result<Option<StorageVol>, CallError> {
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
    if let Some(pool) = pool_of(connection, image)? {
        pool.refresh(0)?;
        return lookup();
    }
    Ok(None)
}

/// The pool whose directory a path lies in.
fn pool_of(connection: &Connect, path: &str) -> Result<Option<StoragePool>, CallError> {
    let directory = path
        .rsplit_once('/')
        .map(|(directory, _)| directory)
        .unwrap_or_default();
    for pool in connection.list_all_storage_pools(sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)? {
        if PoolXml::parse(&pool.xml_desc(0)?)?.path.as_deref() == Some(directory) {
            return Ok(Some(pool));
        }
    }
    Ok(None)
}

/// Checks what an image is made of before it is read or built upon.
///
/// An image that refers to another file could expose any file of the host. Layers are taken where every file below is
/// a volume of a pool itself, as the disks are that the gateway makes.
pub(crate) fn check_chain(
    connection: &Connect,
    image: &StorageVol,
    declared: VolumeFormat,
) -> Result<(), CallError> {
    let top = VolumeXml::parse(&image.xml_desc(0)?)?;
    let refused = |text: String| -> CallError {
        Error::new(ErrorKind::Unsupported, text)
            .about("image", &top.name)
            .into()
    };
    let (mut xml, mut volume, mut format) = (top.clone(), image.clone(), declared);
    for _ in 0..MOST_LAYERS {
        if format == VolumeFormat::Qcow2 {
            upload::refuse_data_file(connection, &volume, &xml.name)?;
        }
        let Some(below) = xml.backing.filter(|_| format == VolumeFormat::Qcow2) else {
            return Ok(());
        };
        format = match xml.backing_format.as_deref() {
            Some("raw") => VolumeFormat::Raw,
            Some("qcow2") => VolumeFormat::Qcow2,
            _ => {
                return Err(refused(format!(
                    "image {} has the backing file {below} without a declared format",
                    top.name
                )));
            }
        };
        volume = match connection.lookup_storage_vol_by_path(&below) {
            Ok(volume) => volume,
            Err(error) if code(&error) == NO_VOLUME => {
                return Err(refused(format!(
                    "image {} has the backing file {below}, which is in no storage pool",
                    top.name
                )));
            }
            Err(error) => return Err(error.into()),
        };
        xml = VolumeXml::parse(&volume.xml_desc(0)?)?;
    }
    Err(refused(format!(
        "image {} has more than {MOST_LAYERS} layers",
        top.name
    )))
}

/// A copy is read in the layout that libvirt found, which a guest can forge on a raw disk.
fn refuse_other_format(image: &StorageVol, declared: VolumeFormat) -> Result<(), CallError> {
    let xml = VolumeXml::parse(&image.xml_desc(0)?)?;
    let found = convert::format(xml.format.as_deref());
    if found == declared {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!(
            "image {} is declared {} but its content is {}; such an image is not copied",
            xml.name,
            declared.as_ref(),
            xml.format.as_deref().unwrap_or("raw")
        ),
    )
    .about("image", xml.name)
    .into())
}

/// A medium for a drive, by an image's key: how a disk refers to it, and its layout.
pub(crate) fn medium(connection: &Connect, key: &str) -> Result<(DiskSource, String), CallError> {
    let Some(volume) = image_volume(connection, key)? else {
        // A medium outside all pools is only read, and only as plain bytes. In a pool's directory it would be known.
        if key.starts_with('/') && pool_of(connection, key)?.is_none() {
            return Ok((DiskSource::File(key.to_owned()), "raw".into()));
        }
        return Err(Error::not_found("image", key).into());
    };
    let xml = VolumeXml::parse(&volume.xml_desc(0)?)?;
    let format = convert::format(xml.format.as_deref());
    if format == VolumeFormat::Qcow2 {
        check_chain(connection, &volume, format)?;
    }
    let path = volume.path()?;
    let source = match xml.kind.as_str() {
        "block" => DiskSource::Block(path),
        _ => DiskSource::File(path),
    };
    Ok((source, format_word(format)?.to_owned()))
}

/// One volume as it is now; `None` when there is none.
pub(crate) fn look(
    connection: &Connect,
    backend: &BackendId,
    place: &PoolVolume,
) -> Result<Option<Volume>, CallError> {
    let Some(found) = usage::find(connection, place)? else {
        return Ok(None);
    };
    described(backend, &place.pool, &found.volume).map(Some)
}

/// Makes a volume larger; a guest that runs with it sees the new size.
pub(crate) fn resize(
    connection: &Connect,
    backend: &BackendId,
    place: &PoolVolume,
    capacity: u64,
) -> Result<Volume, CallError> {
    let found = usage::existing(connection, place)?;
    let capacity = capacity
        .checked_next_multiple_of(SECTOR)
        .ok_or_else(|| Error::invalid("capacity", format!("{capacity} bytes are too many")))?;
    if found.xml.capacity < capacity {
        let running = usage::users(connection, &found, sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE, None)?;
        match running.as_slice() {
            [] => found.volume.resize(capacity, 0)?,
            [user] => {
                user.domain
                    .block_resize(&user.disk.target, capacity, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES)?
            }
            [first, second, ..] => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "volume {} is in use by the running VMs {} and {}; stop all but one to resize it",
                        place.name, first.name, second.name
                    ),
                )
                .about("volume", &place.name)
                .into());
            }
        }
    }
    described(backend, &place.pool, &found.volume)
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
