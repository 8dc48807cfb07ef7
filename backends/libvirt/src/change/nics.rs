//! Interfaces: plugged in, moved to another network, and limited.

use babelvisor_core::model::{Bandwidth, NicSpec};
use babelvisor_core::{Error, ErrorKind};

use super::{Side, Target};
use crate::connection::CallError;
use crate::error::code;
use crate::ffi;
use crate::plan;
use crate::qos;
use crate::quirks::Driver;
use crate::xml::build::{self, nic_element};
use crate::xml::view::InterfaceXml;
use crate::xml::{DomainXml, NicSource};

/// A MAC address in libvirt's spelling.
fn mac_of(field: &str, text: &str) -> Result<String, CallError> {
    let mac = text.to_ascii_lowercase();
    let octets: Vec<&str> = mac.split(':').collect();
    let hex = |octet: &&str| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit());
    let bad = |why: &str| Err(Error::invalid(field, format!("{text:?} {why}")).into());
    if octets.len() != 6 || !octets.iter().all(hex) {
        return bad("is no MAC address such as 52:54:00:12:34:56");
    }
    let first = octets
        .first()
        .and_then(|octet| u8::from_str_radix(octet, 16).ok());
    if first.is_none_or(|octet| octet & 1 == 1) {
        return bad("is the address of a group, not of an interface");
    }
    Ok(mac)
}

fn find<'x>(xml: &'x DomainXml, mac: &str) -> Option<&'x InterfaceXml> {
    xml.interfaces.iter().find(|nic| nic.mac.as_deref() == Some(mac))
}

/// Plugs an interface in.
pub(super) fn attach(target: &Target<'_>, nic: &NicSpec) -> Result<(), CallError> {
    target.refuse_saved()?;
    let Some(mac) = &nic.mac else {
        return Err(Error::invalid("mac", "an interface to plug in needs a MAC address").into());
    };
    let mac = mac_of("mac", mac)?;
    let mut lacking = Vec::new();
    for side in target.sides() {
        if find(&target.xml(side)?, &mac).is_none() {
            lacking.push(side);
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    target.refuse_unpluggable()?;
    let spec = build::NicSpec {
        source: plan::nic_source(target.connection, &nic.source)?,
        alias: Some(format!("ua-nic-{}", mac.replace(':', ""))),
        mac: Some(mac),
        model: nic.model.clone().unwrap_or_else(|| "virtio".into()),
    };
    target.plug(&nic_element(&spec), &lacking)
}

/// Whether an interface is what it shall be.
fn is(nic: &InterfaceXml, source: &NicSource, model: Option<&str>) -> bool {
    let plugged = match source {
        NicSource::Network(name) => nic.kind == "network" && nic.source.as_ref() == Some(name),
        NicSource::Bridge(name) => nic.kind == "bridge" && nic.source.as_ref() == Some(name),
        NicSource::User => nic.kind == "user",
    };
    plugged && model.is_none_or(|model| nic.model.as_deref() == Some(model))
}

/// Moves an interface to another network, or gives it another address or model.
pub(super) fn update(target: &Target<'_>, mac: &str, to: &NicSpec) -> Result<(), CallError> {
    target.refuse_saved()?;
    let mac = mac_of("mac", mac)?;
    let new = to.mac.as_deref().map(|new| mac_of("to.mac", new)).transpose()?;
    let goal = new.clone().unwrap_or_else(|| mac.clone());
    let source = plan::nic_source(target.connection, &to.source)?;
    let model = to.model.as_deref();
    let mut lacking = Vec::new();
    for side in target.sides() {
        let xml = target.xml(side)?;
        if find(&xml, &goal).is_some_and(|nic| is(nic, &source, model)) {
            continue;
        }
        let Some(present) = find(&xml, &mac) else {
            return Err(Error::not_found("nic", &mac).into());
        };
        let replaced = goal != mac || model.is_some_and(|model| present.model.as_deref() != Some(model));
        if side == Side::Live && replaced {
            return Err(target.unsupported(
                "libvirt cannot change the MAC address or the model of an interface while the VM runs; power it off first",
            ));
        }
        lacking.push(side);
    }
    if lacking.is_empty() {
        return Ok(());
    }
    target.refuse_unpluggable()?;
    if lacking.contains(&Side::Live) {
        let mut running = target.document(Side::Live)?;
        running.set_nic(&mac, &source, None, None)?;
        if let Some(element) = running.nic(&mac) {
            target
                .domain
                .update_device_flags(&element.to_xml()?, Side::Live.flag())?;
        }
    }
    if !lacking.contains(&Side::Config) {
        return Ok(());
    }
    target.edit(|document| Ok(document.set_nic(&mac, &source, new.as_deref(), model)?))
}

/// libvirt counts KiB; a limit that is stated is never none.
fn kib(bytes: u64) -> Result<u32, CallError> {
    u32::try_from(bytes.div_ceil(1024)).map_err(|_| {
        Error::invalid(
            "bandwidth",
            format!("{bytes} bytes a second are more than libvirt can state"),
        )
        .into()
    })
}

/// Limits an interface; what the host cannot do is refused before anything is changed.
pub(super) fn limit(
    target: &Target<'_>,
    mac: &str,
    inbound: Option<&Bandwidth>,
    outbound: Option<&Bandwidth>,
) -> Result<(), CallError> {
    let mac = mac_of("mac", mac)?;
    let mut params = Vec::new();
    for (direction, limits) in [("inbound", inbound), ("outbound", outbound)] {
        let limits = limits.copied().unwrap_or_default();
        if limits.average == 0 && (limits.peak > 0 || limits.burst > 0) {
            let text = "a peak or a burst needs an average rate beside it";
            return Err(Error::invalid(direction, text).into());
        }
        params.push((format!("{direction}.average"), kib(limits.average)?));
        // A removed direction takes its peak and burst with it.
        if limits.average > 0 {
            params.push((format!("{direction}.peak"), kib(limits.peak)?));
            params.push((format!("{direction}.burst"), kib(limits.burst)?));
        }
    }
    let wanted = inbound.is_some_and(|l| l.average > 0) || outbound.is_some_and(|l| l.average > 0);
    let mut limited = false;
    for side in target.sides() {
        let document = target.document(side)?;
        let nic = document.nic(&mac).ok_or_else(|| Error::not_found("nic", &mac))?;
        limited |= nic.get("bandwidth").is_some();
        let kind = nic.attr("type").unwrap_or_default();
        if wanted && !matches!(kind, "network" | "bridge" | "direct" | "ethernet") {
            return Err(target.unsupported(format!(
                "an interface of type {kind} passes no device of the host that could be limited"
            )));
        }
    }
    if !wanted && !limited {
        return Ok(());
    }
    if wanted && target.driver == Driver::Qemu {
        qos::probe(target.connection)?;
    }
    let apply = |flags: u32| match ffi::set_interface_parameters(&target.domain, &mac, &params, flags) {
        Err(error) if code(&error) == 1 => Err(Error::new(
            ErrorKind::Unsupported,
            format!("the host cannot limit interfaces: {}", error.message()),
        )
        .about("vm", target.uuid)
        .into()),
        other => other.map_err(CallError::from),
    };
    if target.driver == Driver::Test {
        return target.sides().try_for_each(|side| apply(side.flag()));
    }
    apply(target.sides().fold(0, |flags, side| flags | side.flag()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_interfaces_are_told_from_others() {
        assert_eq!(mac_of("mac", "52:54:00:AB:cd:01").unwrap(), "52:54:00:ab:cd:01");
        for bad in [
            "",
            "52:54:00:ab:cd",
            "53:54:00:ab:cd:01",
            "52-54-00-ab-cd-01",
            "5:54:00:ab:cd:001",
        ] {
            assert!(mac_of("mac", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_small_limit_stays_a_limit() {
        assert_eq!(kib(1).unwrap(), 1);
        assert_eq!(kib(0).unwrap(), 0);
        assert!(kib(u64::MAX).is_err());
    }
}
