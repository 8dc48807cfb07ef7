//! Where a domain's console is, and its password.

use babelvisor_core::Error;
use babelvisor_core::backend::Console;
use babelvisor_core::secret::Secret;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt_sys as sys;

use crate::config::LibvirtConfig;
use crate::connection::CallError;
use crate::convert::graphics_kind;
use crate::define::{lookup, vnc_password};
use crate::quirks::Driver;
use crate::read::Profile;
use crate::xml::view::GraphicsXml;
use crate::xml::{DomainDocument, DomainXml};

/// Addresses that mean "all of the host's".
const WILDCARDS: [&str; 3] = ["0.0.0.0", "::", "[::]"];

fn existing(connection: &Connect, uuid: Uuid) -> Result<Domain, CallError> {
    lookup(connection, uuid)?.ok_or_else(|| Error::not_found("vm", uuid).into())
}

/// Where a client connects to.
pub(crate) fn endpoint(
    connection: &Connect,
    uuid: Uuid,
    config: &LibvirtConfig,
    profile: &Profile,
) -> Result<Console, CallError> {
    let domain = existing(connection, uuid)?;
    if !domain.is_active()? {
        return Err(
            Error::illegal_state("vm", uuid, "the VM is off; a console exists only while it runs").into(),
        );
    }
    let xml = DomainXml::parse(&domain.xml_desc(0)?)?;
    let found = xml
        .graphics
        .iter()
        .find_map(|g| Some((graphics_kind(&g.kind)?, g.port?, g)));
    let Some((kind, port, graphics)) = found else {
        return Err(
            Error::unsupported("the VM has no VNC or SPICE server on a TCP port")
                .about("vm", uuid)
                .into(),
        );
    };
    Ok(Console {
        kind,
        host: host(graphics, config, profile),
        port,
    })
}

fn host(graphics: &GraphicsXml, config: &LibvirtConfig, profile: &Profile) -> String {
    if let Some(address) = &config.console_address {
        return address.clone();
    }
    match graphics.listen.as_deref() {
        Some(listen) if !WILDCARDS.contains(&listen) => listen.to_owned(),
        _ => profile.hostname.clone(),
    }
}

/// The password in the definition.
pub(crate) fn password(connection: &Connect, uuid: Uuid) -> Result<Option<Secret>, CallError> {
    let domain = existing(connection, uuid)?;
    let text = domain.xml_desc(sys::VIR_DOMAIN_XML_SECURE | sys::VIR_DOMAIN_XML_INACTIVE)?;
    let xml = DomainXml::parse(&text)?;
    Ok(xml.graphics.into_iter().find_map(|g| g.password).map(Secret::new))
}

/// Sets or removes the password of the first VNC or SPICE server: in the running domain, then in the definition.
///
/// A display that QEMU started with a password asks for one until it ends: removing it takes effect at the next start.
pub(crate) fn set_password(
    connection: &Connect,
    uuid: Uuid,
    password: Option<&Secret>,
    driver: Driver,
) -> Result<(), CallError> {
    let domain = existing(connection, uuid)?;
    let live = password.filter(|_| driver.quirks().live_password);
    if let Some(password) = live
        && domain.is_active()?
    {
        let (kind, text, mut document) = document(&domain, sys::VIR_DOMAIN_XML_SECURE, uuid)?;
        document.set_graphics_password(&kind, Some(&fit(&kind, password)))?;
        if DomainDocument::parse(&text)? != document
            && let Some(graphics) = document.graphics(&kind)
        {
            domain.update_device_flags(&graphics.to_xml()?, sys::VIR_DOMAIN_AFFECT_LIVE)?;
        }
    }
    if domain.is_persistent()? {
        let flags = sys::VIR_DOMAIN_XML_SECURE | sys::VIR_DOMAIN_XML_INACTIVE;
        let (kind, text, mut document) = self::document(&domain, flags, uuid)?;
        let fitting = password.map(|password| fit(&kind, password));
        document.set_graphics_password(&kind, fitting.as_deref())?;
        if DomainDocument::parse(&text)? != document {
            connection.define_domain_xml(&document.to_xml()?)?;
        }
    }
    Ok(())
}

fn fit(kind: &str, password: &Secret) -> String {
    if kind == "vnc" {
        vnc_password(password.expose())
    } else {
        password.expose().to_owned()
    }
}

fn document(domain: &Domain, flags: u32, uuid: Uuid) -> Result<(String, String, DomainDocument), CallError> {
    let text = domain.xml_desc(flags)?;
    let kind = DomainXml::parse(&text)?
        .graphics
        .into_iter()
        .find(|g| graphics_kind(&g.kind).is_some())
        .map(|g| g.kind)
        .ok_or_else(|| Error::unsupported("the VM has no VNC or SPICE server").about("vm", uuid))?;
    let document = DomainDocument::parse(&text)?;
    Ok((kind, text, document))
}
