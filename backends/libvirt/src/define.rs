//! Making and removing domain definitions.

use babelvisor_core::backend::CallContext;
use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt_sys as sys;

use crate::connection::CallError;
use crate::convert::META_JOB;
use crate::error::code;
use crate::plan::Plan;
use crate::quirks::Driver;
use crate::xml::DomainXml;

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
    plan.prepare(connection)?;
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
