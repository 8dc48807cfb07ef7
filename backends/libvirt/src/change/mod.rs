//! Changes of existing domains: live, in the definition, or both.
//!
//! A change is made on the running domain first: what a guest or QEMU refuses is then refused before the definition
//! says otherwise. Each side is looked at by itself, so that a second try of a job that was cut off between the two
//! makes what is missing. Where a driver cannot plug (libvirt's test driver), the definition is edited while the
//! domain is off.

mod config;
mod disks;
mod media;
mod nics;
mod turn;
mod unplug;

use std::time::{Duration, Instant};

use babelvisor_core::backend::CallContext;
use babelvisor_core::model::{PowerState, VmChange};
use babelvisor_core::secret::Secret;
use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt_sys as sys;

use crate::connection::{CallError, Host};
use crate::console;
use crate::error::code;
use crate::quirks::Driver;
use crate::tasks;
use crate::xml::{DomainDocument, DomainXml, Element};
use turn::Turn;
use unplug::Device;

/// How the definition is read: with passwords, because it is written back.
const DEFINITION: u32 = sys::VIR_DOMAIN_XML_SECURE | sys::VIR_DOMAIN_XML_INACTIVE;

/// What libvirt and QEMU say of a device whose name, alias or image is in use: by the same device, plugged in a moment ago.
const COLLISIONS: [&str; 6] = [
    "already exists",
    "duplicated for disk",
    "non unique alias",
    "Duplicate device ID",
    "Duplicate nodes",
    "is already in use by",
];
/// Pause before looking again.
const AGAIN: Duration = Duration::from_millis(100);

/// Makes one change.
pub(crate) async fn make(
    host: &Host,
    driver: Driver,
    uuid: Uuid,
    change: &VmChange,
    call: &CallContext,
) -> Result<(), CallError> {
    match change {
        VmChange::DetachDisk { target } => {
            let device = Device::Disk(target.clone());
            return unplug::unplug(host, driver, uuid, device, call.deadline).await;
        }
        VmChange::DetachNic { mac } => {
            let device = Device::Nic(mac.to_ascii_lowercase());
            return unplug::unplug(host, driver, uuid, device, call.deadline).await;
        }
        _ => {}
    }
    let password = match change {
        VmChange::ConsolePassword {
            password: Some(sealed),
        }
        | VmChange::GuestPassword { password: sealed, .. } => Some(call.keyring.open(sealed)?),
        _ => None,
    };
    let (change, deadline) = (change.clone(), call.deadline);
    host.slow(deadline, move |connection| {
        at_once(connection, driver, uuid, &change, password.as_ref(), deadline)
    })
    .await
}

fn at_once(
    connection: &Connect,
    driver: Driver,
    uuid: Uuid,
    change: &VmChange,
    password: Option<&Secret>,
    deadline: Instant,
) -> Result<(), CallError> {
    let _turn = Turn::take(uuid, deadline)?;
    if let VmChange::ConsolePassword { .. } = change {
        return console::set_password(connection, uuid, password, driver);
    }
    let target = Target::open(connection, driver, uuid, deadline)?;
    match change {
        VmChange::Cpu {
            current,
            max,
            topology,
        } => config::cpu(&target, *current, *max, *topology),
        VmChange::Memory { current, max } => config::memory(&target, *current, *max),
        VmChange::BootOrder { order } => config::boot_order(&target, order),
        VmChange::Autostart { on } => config::autostart(&target, *on),
        VmChange::Video { adapters } => config::video(&target, adapters),
        VmChange::AttachDisk(disk) => target.settle(|| disks::attach(&target, disk)),
        VmChange::DiskQos { target: name, limits } => disks::limit(&target, name, limits),
        VmChange::AttachNic(nic) => target.settle(|| nics::attach(&target, nic)),
        VmChange::UpdateNic { mac, to } => nics::update(&target, mac, to),
        VmChange::NicQos {
            mac,
            inbound,
            outbound,
        } => nics::limit(&target, mac, inbound.as_ref(), outbound.as_ref()),
        VmChange::InsertMedium {
            kind,
            target: name,
            source,
        } => target.settle(|| media::insert(&target, *kind, name.as_deref(), source)),
        VmChange::EjectMedium { kind, target: name } => media::eject(&target, *kind, name.as_deref()),
        VmChange::GuestPassword { user, .. } => guest_password(&target, user, password),
        VmChange::ConsolePassword { .. } | VmChange::DetachDisk { .. } | VmChange::DetachNic { .. } => {
            Err(Error::internal("this change is made elsewhere").into())
        }
    }
}

/// A domain that is being changed.
struct Target<'a> {
    connection: &'a Connect,
    driver: Driver,
    uuid: Uuid,
    domain: Domain,
    /// When the change must have been made.
    deadline: Instant,
    /// Whether it runs or is paused: then the running domain is changed, too.
    live: bool,
    /// Whether it has a definition that survives a stop.
    persistent: bool,
    /// Whether its memory is saved.
    saved: bool,
}

/// One side of a domain: as it runs, or as it is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Live,
    Config,
}

impl Side {
    /// libvirt's flag for changes of devices and settings; all its kinds of changes share the two numbers.
    const fn flag(self) -> u32 {
        match self {
            Side::Live => sys::VIR_DOMAIN_AFFECT_LIVE,
            Side::Config => sys::VIR_DOMAIN_AFFECT_CONFIG,
        }
    }

    const fn xml(self) -> u32 {
        match self {
            Side::Live => sys::VIR_DOMAIN_XML_SECURE,
            Side::Config => DEFINITION,
        }
    }
}

impl<'a> Target<'a> {
    fn open(
        connection: &'a Connect,
        driver: Driver,
        uuid: Uuid,
        deadline: Instant,
    ) -> Result<Target<'a>, CallError> {
        let (domain, power) = tasks::state(connection, uuid)?.ok_or_else(|| Error::not_found("vm", uuid))?;
        let live = matches!(
            power,
            PowerState::Running | PowerState::Blocked | PowerState::Paused
        );
        let persistent = domain.is_persistent()?;
        Ok(Target {
            live,
            persistent,
            saved: tasks::saved(&domain, power)?,
            connection,
            driver,
            uuid,
            domain,
            deadline,
        })
    }

    /// Plugs something in that an earlier try of the same job may be plugging in at this moment: whoever comes second
    /// meets it and looks again.
    fn settle(&self, plug: impl Fn() -> Result<(), CallError>) -> Result<(), CallError> {
        loop {
            match plug() {
                Err(CallError::Libvirt(error))
                    if COLLISIONS.iter().any(|text| error.message().contains(text))
                        && Instant::now() + AGAIN < self.deadline =>
                {
                    std::thread::sleep(AGAIN);
                }
                other => return other,
            }
        }
    }

    /// The sides that there are, in the order in which they are changed.
    fn sides(&self) -> impl Iterator<Item = Side> + use<> {
        let live = self.live.then_some(Side::Live);
        let config = self.persistent.then_some(Side::Config);
        live.into_iter().chain(config)
    }

    fn document(&self, side: Side) -> Result<DomainDocument, CallError> {
        Ok(DomainDocument::parse(&self.domain.xml_desc(side.xml())?)?)
    }

    fn xml(&self, side: Side) -> Result<DomainXml, CallError> {
        Ok(DomainXml::parse(&self.domain.xml_desc(side.xml())?)?)
    }

    /// Changes the definition, if `edit` makes it another.
    fn edit(&self, edit: impl FnOnce(&mut DomainDocument) -> Result<(), CallError>) -> Result<(), CallError> {
        if !self.persistent {
            return Ok(());
        }
        let before = self.document(Side::Config)?;
        let mut after = before.clone();
        edit(&mut after)?;
        if after != before {
            self.connection.define_domain_xml(&after.to_xml()?)?;
        }
        Ok(())
    }

    fn illegal(&self, why: &str) -> CallError {
        Error::illegal_state("vm", self.uuid, why).into()
    }

    fn unsupported(&self, why: impl Into<String>) -> CallError {
        Error::new(ErrorKind::Unsupported, why)
            .about("vm", self.uuid)
            .into()
    }

    /// Refuses a change of hardware that saved memory would not know of when it is restored.
    fn refuse_saved(&self) -> Result<(), CallError> {
        if self.saved {
            return Err(self.illegal(
                "its memory is saved and was made with the present hardware; start it before it is changed",
            ));
        }
        Ok(())
    }

    /// Refuses what libvirt's test driver cannot do to a running domain.
    fn refuse_unpluggable(&self) -> Result<(), CallError> {
        if self.live && self.driver == Driver::Test {
            return Err(self.unsupported(
                "libvirt's test driver cannot change devices of a running domain; power it off first",
            ));
        }
        Ok(())
    }

    /// Plugs one device in on the given sides: all of them in one call, so that none is left out.
    fn plug(&self, device: &Element, sides: &[Side]) -> Result<(), CallError> {
        if sides.is_empty() {
            return Ok(());
        }
        if self.driver == Driver::Test {
            self.refuse_unpluggable()?;
            return self.edit(|document| Ok(document.add_device(device.clone())?));
        }
        let flags = sides.iter().fold(0, |flags, side| flags | side.flag());
        match self.domain.attach_device_flags(&device.to_xml()?, flags) {
            Err(error) if code(&error) == 1 && error.message().contains("No more available PCI slots") => {
                Err(Error::new(
                    ErrorKind::NoResources,
                    "the running VM has no free PCI slot for another device; power it off to add it",
                )
                .about("vm", self.uuid)
                .into())
            }
            other => Ok(other?),
        }
    }
}

fn guest_password(target: &Target<'_>, user: &str, password: Option<&Secret>) -> Result<(), CallError> {
    let Some(password) = password else {
        return Err(Error::internal("a guest's password was not opened").into());
    };
    if user.is_empty() || user.contains(['\0', ':', '\n']) {
        return Err(Error::invalid("user", format!("{user:?} is no login name")).into());
    }
    if password.expose().contains(['\0', '\n']) {
        return Err(Error::invalid("password", "a password has no line breaks and no NUL").into());
    }
    if !target.live {
        return Err(target.illegal("a password inside the guest can only be set while it runs"));
    }
    match target.domain.set_user_password(user, password.expose(), 0) {
        Err(error) if matches!(code(&error), 86 | 74) => Err(target.illegal(&format!(
            "the guest's agent, which sets passwords, does not answer: {}",
            error.message()
        ))),
        other => Ok(other?),
    }
}
