//! Where volumes are, and which domains have them: so that no two domains write one, and no tool changes an image
//! under a running guest.

use babelvisor_core::model::{PoolVolume, VolumeFormat};
use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::storage_vol::StorageVol;
use virt_sys as sys;

use crate::connection::CallError;
use crate::error::code;
use crate::read::GONE;
use crate::volumes;
use crate::xml::host::VolumeXml;
use crate::xml::view::DiskXml;
use crate::xml::{DiskSource, DomainXml};

/// Codes for a pool or a volume that is not there.
const ABSENT: [u32; 2] = [49, 50];

/// A volume that was found.
pub(crate) struct Found {
    /// Pool and name.
    pub place: PoolVolume,
    /// Path on the host.
    pub path: String,
    /// What its definition says.
    pub xml: VolumeXml,
    /// libvirt's object.
    pub volume: StorageVol,
}

impl Found {
    fn read(volume: StorageVol, place: PoolVolume) -> Result<Found, CallError> {
        Ok(Found {
            place,
            path: volume.path()?,
            xml: VolumeXml::parse(&volume.xml_desc(0)?)?,
            volume,
        })
    }

    /// How a disk refers to it.
    pub(crate) fn source(&self) -> DiskSource {
        match self.xml.kind.as_str() {
            "block" => DiskSource::Block(self.path.clone()),
            _ => DiskSource::File(self.path.clone()),
        }
    }

    /// Whether a disk of a definition is this volume.
    pub(crate) fn is(&self, disk: &DiskXml) -> bool {
        disk.source.as_deref() == Some(self.path.as_str())
            || (disk.pool.as_deref() == Some(self.place.pool.as_str())
                && disk.volume.as_deref() == Some(self.place.name.as_str()))
    }
}

/// A volume by pool and name; `None` when there is none.
pub(crate) fn find(connection: &Connect, place: &PoolVolume) -> Result<Option<Found>, CallError> {
    let found = connection
        .lookup_storage_pool_by_name(&place.pool)
        .and_then(|pool| pool.lookup_storage_vol_by_name(&place.name));
    match found {
        Ok(volume) => Ok(Some(Found::read(volume, place.clone())?)),
        Err(error) if ABSENT.contains(&code(&error)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A volume that must be there.
pub(crate) fn existing(connection: &Connect, place: &PoolVolume) -> Result<Found, CallError> {
    find(connection, place)?.ok_or_else(|| {
        let text = format!("there is no volume {} in pool {}", place.name, place.pool);
        Error::new(ErrorKind::NotFound, text)
            .about("volume", &place.name)
            .into()
    })
}

/// A volume that is to become a disk of the declared layout: what it refers to must be known, because QEMU opens it.
pub(crate) fn for_disk(
    connection: &Connect,
    place: &PoolVolume,
    declared: VolumeFormat,
) -> Result<Found, CallError> {
    let found = existing(connection, place)?;
    if declared == VolumeFormat::Qcow2 {
        volumes::check_chain(connection, &found.volume, declared)?;
    }
    Ok(found)
}

/// A domain that has a volume.
pub(crate) struct User {
    /// The domain.
    pub domain: Domain,
    /// Its name.
    pub name: String,
    /// The disk that is the volume.
    pub disk: DiskXml,
}

/// The domains that have a volume, running (`VIR_CONNECT_LIST_DOMAINS_ACTIVE`) or all (0), but for one.
pub(crate) fn users(
    connection: &Connect,
    found: &Found,
    which: u32,
    except: Option<Uuid>,
) -> Result<Vec<User>, CallError> {
    let groups = match which {
        0 => vec![
            sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE,
            sys::VIR_CONNECT_LIST_DOMAINS_INACTIVE,
        ],
        one => vec![one],
    };
    let mut users = Vec::new();
    for group in groups {
        for domain in connection.list_all_domains(group)? {
            if except.is_some() && domain.uuid().ok() == except {
                continue;
            }
            let text = match domain.xml_desc(0) {
                Ok(text) => text,
                Err(error) if GONE.contains(&code(&error)) => continue,
                Err(error) => return Err(error.into()),
            };
            // The name is part of the path and of a reference by pool: most definitions need not be read.
            if !text.contains(&escaped(&found.place.name)) {
                continue;
            }
            let Ok(xml) = DomainXml::parse(&text) else {
                continue;
            };
            if let Some(disk) = xml.disks.into_iter().find(|disk| found.is(disk)) {
                let name = xml.name;
                users.push(User { domain, name, disk });
            }
        }
    }
    Ok(users)
}

/// A text as it stands in libvirt's XML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}

/// Refuses a volume that another domain has, unless both may share it.
pub(crate) fn refuse_taken(
    connection: &Connect,
    found: &Found,
    vm: Uuid,
    readonly: bool,
    shareable: bool,
) -> Result<(), CallError> {
    let others = users(connection, found, 0, Some(vm))?;
    let conflict = others
        .iter()
        .find(|user| !((shareable && user.disk.shareable) || (readonly && user.disk.readonly)));
    match conflict {
        None => Ok(()),
        Some(user) => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "volume {} is attached to the VM {} as {}; detach it there first, or attach it as shareable to both",
                found.place.name, user.name, user.disk.target
            ),
        )
        .about("volume", &found.place.name)
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_are_looked_for_as_libvirt_writes_them() {
        assert_eq!(
            escaped("a&b<'c'>\"d\".qcow2"),
            "a&amp;b&lt;&apos;c&apos;&gt;&quot;d&quot;.qcow2"
        );
    }
}
