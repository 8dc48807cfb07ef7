//! Making and removing domain definitions.

use babelvisor_core::backend::CallContext;
use babelvisor_core::model::{Firmware, NicSource as CoreNicSource, VmId, VmSpec, Volume, VolumeFormat};
use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt_sys as sys;

use crate::config::{Accel, LibvirtConfig};
use crate::connection::CallError;
use crate::convert::META_JOB;
use crate::error::code;
use crate::quirks::Driver;
use crate::read::Profile;
use crate::xml::build::{self, DiskSource, DiskSpec, DomainType, NicSource, NicSpec};
use crate::xml::host::VolumeXml;
use crate::xml::{DomainSpec, DomainXml, GraphicsSpec};

const NO_DOMAIN: u32 = 42;
/// VNC's own authentication uses eight bytes; libvirt refuses more and clients cut what is typed.
const VNC_PASSWORD_BYTES: usize = 8;

/// The password as VNC can carry it.
pub(crate) fn vnc_password(password: &str) -> String {
    let end = password
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= VNC_PASSWORD_BYTES);
    password
        .get(..end.last().unwrap_or(0))
        .unwrap_or_default()
        .to_owned()
}

/// A domain by UUID; `None` when there is none.
pub(crate) fn lookup(connection: &Connect, uuid: Uuid) -> Result<Option<Domain>, CallError> {
    match connection.lookup_domain_by_uuid(uuid) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if code(&error) == NO_DOMAIN => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How the CPU of a new domain is run on this host.
///
/// A host that lists KVM may still be unable to use it (nested guests, missing rights on the device), so in automatic
/// mode the host is also asked for its domain capabilities of that type.
pub(crate) fn domain_type(
    connection: &Connect,
    profile: &Profile,
    accel: Accel,
) -> Result<DomainType, CallError> {
    if profile.driver == Driver::Test {
        return Ok(DomainType::Test);
    }
    let arch = profile.capabilities.arch.as_str();
    let listed = profile.capabilities.offers(arch, "kvm");
    match accel {
        Accel::Tcg => Ok(DomainType::Qemu),
        Accel::Kvm if listed => Ok(DomainType::Kvm),
        Accel::Kvm => Err(Error::unsupported(
            "accel is set to kvm but the host does not offer it: check /dev/kvm there, or set accel to auto or tcg",
        )
        .into()),
        Accel::Auto => {
            let usable = listed && connection.domain_capabilities(None, Some(arch), None, Some("kvm"), 0).is_ok();
            Ok(if usable { DomainType::Kvm } else { DomainType::Qemu })
        }
    }
}

/// What a definition is made from.
pub(crate) struct Plan<'a> {
    /// The settings of the host.
    pub config: &'a LibvirtConfig,
    /// The host's profile.
    pub profile: &'a Profile,
    /// The new VM's id: the domain UUID.
    pub vm: VmId,
    /// What it shall be.
    pub spec: &'a VmSpec,
    /// Its disks, made already, in order.
    pub disks: &'a [Volume],
    /// The first-boot medium.
    pub seed: Option<&'a Volume>,
    /// The console password in plain text.
    pub console_password: Option<&'a str>,
}

/// Checks a name that becomes a libvirt domain name, and with it parts of paths on the host.
fn check_name(name: &str) -> Result<(), CallError> {
    let bad = name.is_empty()
        || name.len() > 128
        || name.starts_with('.')
        || name.trim() != name
        || name.chars().any(|c| c.is_control() || c == '/');
    if bad {
        return Err(
            Error::invalid("name", format!("{name:?} cannot be the name of a libvirt domain")).into(),
        );
    }
    Ok(())
}

impl Plan<'_> {
    fn domain(&self, connection: &Connect, job: Option<String>) -> Result<DomainSpec, CallError> {
        check_name(&self.spec.name)?;
        if self.spec.vcpus == 0 {
            return Err(Error::invalid("vcpus", "a VM needs at least one vCPU").into());
        }
        if self.spec.memory == 0 {
            return Err(Error::invalid("memory", "a VM needs memory").into());
        }
        let virt_type = domain_type(connection, self.profile, self.config.accel)?;
        let arch = self.profile.capabilities.arch.clone();
        let has_machine = self.profile.capabilities.has_machine(&arch, &self.config.machine);
        let machine = if has_machine {
            self.config.machine.clone()
        } else {
            String::new()
        };
        let mut disks = Vec::new();
        for (index, volume) in self.disks.iter().enumerate() {
            disks.push(DiskSpec {
                device: "disk".into(),
                source: Some(source(connection, volume)?),
                format: format_word(volume.format)?,
                target: build::disk_name("vd", index),
                bus: "virtio".into(),
                readonly: false,
                serial: None,
                boot_order: None,
            });
        }
        if let Some(seed) = self.seed {
            // Virtio SCSI: kernels made for clouds know it and virtio disks, but often neither SATA nor IDE.
            disks.push(DiskSpec {
                device: "cdrom".into(),
                source: Some(source(connection, seed)?),
                format: format_word(seed.format)?,
                target: "sda".into(),
                bus: "scsi".into(),
                readonly: true,
                serial: None,
                boot_order: None,
            });
        }
        let nics = self
            .spec
            .nics
            .iter()
            .map(|nic| NicSpec {
                source: match &nic.source {
                    CoreNicSource::Network(name) => NicSource::Network(name.clone()),
                    CoreNicSource::Bridge(name) => NicSource::Bridge(name.clone()),
                    CoreNicSource::User => NicSource::User,
                },
                mac: nic.mac.as_ref().map(|mac| mac.to_ascii_lowercase()),
                model: "virtio".into(),
            })
            .collect();
        // libvirt takes no newline in a title.
        let title = self.spec.title.replace(['\n', '\r'], " ");
        Ok(DomainSpec {
            name: self.spec.name.clone(),
            uuid: self.vm.0,
            title: (!title.trim().is_empty()).then_some(title),
            description: None,
            virt_type,
            arch,
            machine,
            uefi: self.spec.firmware == Firmware::Uefi,
            emulator: None,
            memory: self.spec.memory,
            vcpus: self.spec.vcpus,
            max_vcpus: self.spec.vcpus,
            disks,
            nics,
            graphics: Some(GraphicsSpec {
                listen: self.config.console_listen.clone(),
                password: self.console_password.map(vnc_password).filter(|p| !p.is_empty()),
            }),
            serial_log: self
                .config
                .serial_log_dir
                .as_ref()
                .map(|dir| format!("{dir}/{}.log", self.vm.0)),
            agent: true,
            boot: vec!["hd".into()],
            metadata: job.map(|job| (META_JOB.to_owned(), job)).into_iter().collect(),
        })
    }
}

fn format_word(format: VolumeFormat) -> Result<String, CallError> {
    match format {
        VolumeFormat::Raw => Ok("raw".into()),
        VolumeFormat::Qcow2 => Ok("qcow2".into()),
        VolumeFormat::Other => {
            Err(Error::invalid("format", "a disk must be raw or qcow2, as declared").into())
        }
    }
}

fn source(connection: &Connect, volume: &Volume) -> Result<DiskSource, CallError> {
    let kind = match connection.lookup_storage_vol_by_path(&volume.native) {
        Ok(found) => VolumeXml::parse(&found.xml_desc(0)?)?.kind,
        Err(error) if code(&error) == 50 => {
            return Err(Error::not_found("volume", &volume.name).into());
        }
        Err(error) => return Err(error.into()),
    };
    Ok(match kind.as_str() {
        "block" => DiskSource::Block(volume.native.clone()),
        _ => DiskSource::File(volume.native.clone()),
    })
}

/// Defines a domain, powered off. One that the same job made already is taken as it is.
pub(crate) fn define(connection: &Connect, plan: &Plan<'_>, call: &CallContext) -> Result<(), CallError> {
    let job = call.job.map(|job| job.to_string());
    let named = || connection.lookup_domain_by_name(&plan.spec.name).ok();
    let present = match lookup(connection, plan.vm.0)? {
        Some(present) => Some(present),
        // A cut-off try of the same job may have defined it since the look before.
        None => named().filter(|domain| domain.uuid().ok() == Some(plan.vm.0)),
    };
    if let Some(present) = present {
        let xml = DomainXml::parse(&present.xml_desc(0)?)?;
        return match (&job, xml.metadata(META_JOB)) {
            (Some(ours), Some(theirs)) if ours == theirs => Ok(()),
            _ => Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("a domain with the UUID {} exists already", plan.vm),
            )
            .about("vm", plan.vm)
            .into()),
        };
    }
    if named().is_some_and(|domain| domain.uuid().ok() != Some(plan.vm.0)) {
        return Err(Error {
            field: Some("name".into()),
            ..Error::new(
                ErrorKind::AlreadyExists,
                format!("a domain named {:?} exists already", plan.spec.name),
            )
        }
        .into());
    }
    let xml = plan.domain(connection, job)?.to_xml()?;
    connection.define_domain_xml(&xml)?;
    Ok(())
}

/// Removes a definition with saved memory, NVRAM and snapshot metadata; absent is success.
pub(crate) fn undefine(connection: &Connect, uuid: Uuid, driver: Driver) -> Result<(), CallError> {
    let Some(domain) = lookup(connection, uuid)? else {
        return Ok(());
    };
    if domain.is_active()? {
        return Err(Error::illegal_state("vm", uuid, "the VM is running; power it off first").into());
    }
    match domain.undefine_flags(driver.quirks().undefine_flags as sys::virDomainUndefineFlagsValues) {
        Err(error) if code(&error) == NO_DOMAIN => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::vnc_password;

    #[test]
    fn a_console_password_is_cut_to_what_vnc_can_carry() {
        assert_eq!(vnc_password("short"), "short");
        assert_eq!(vnc_password("exactly8"), "exactly8");
        assert_eq!(vnc_password("far too long"), "far too ");
        assert_eq!(vnc_password("ééééé"), "éééé");
        assert_eq!(vnc_password("1234567é"), "1234567");
        assert_eq!(vnc_password(""), "");
    }
}
