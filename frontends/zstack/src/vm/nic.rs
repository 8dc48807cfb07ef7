//! Interfaces: plugged in and out, their addresses and limits.

use std::net::IpAddr;

use babelvisor_core::Error;
use babelvisor_core::model::{Bandwidth, NetworkId, Nic, NicSource, NicSpec, VmChange};
use babelvisor_core::secret::random_bytes;
use bytes::Bytes;
use serde_json::json;

use super::tags;
use crate::decode::Call;
use crate::operations::Started;
use crate::{Zstack, encode};

/// The prefix of addresses that the gateway makes: QEMU's.
const OURS: [u8; 3] = [0x52, 0x54, 0x00];

/// `AttachL3NetworkToVm`.
pub(super) async fn attach(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let vm = zstack.vm_in(call, "vmInstanceUuid").await?;
    let id = call.path_id("l3NetworkUuid", NetworkId::NOUN)?;
    let network = zstack.network("l3NetworkUuid", id)?;
    if network.backend != *vm.home() {
        let text = "invalid field[l3NetworkUuid], the network is not on the machine's host";
        return Err(Error::invalid("l3NetworkUuid", text));
    }
    let ip = call.text("staticIp").map(address).transpose()?;
    let mut bytes = Vec::from(OURS);
    bytes.extend(random_bytes::<3>());
    let mac: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let change = VmChange::AttachNic(NicSpec {
        source: NicSource::Network(network.name.clone()),
        mac: Some(mac.join(":")),
        model: None,
    });
    let started = super::change(zstack, call, vm.id, vec![change]).await?;
    if let Some(ip) = ip {
        tags::fix_address(zstack, call, &vm, network.id, ip).await?;
    }
    Ok(started)
}

/// `DetachL3NetworkFromVm`.
pub(super) async fn detach(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let (vm, nic) = zstack.nic(call, "vmNicUuid")?;
    let change = VmChange::DetachNic { mac: nic.mac.clone() };
    let started = super::change(zstack, call, vm.id, vec![change]).await?;
    let mut others = vm.facts.iter().flat_map(|facts| &facts.nics);
    if let Some(network) = nic.network
        && !others.any(|other| other.id != nic.id && other.network == Some(network))
    {
        tags::free_address(zstack, call, &vm, network).await?;
    }
    Ok(started)
}

/// `UpdateVmNicMac`.
pub(super) async fn update_mac(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let (vm, nic) = zstack.nic(call, "vmNicUuid")?;
    let new = call.needed("mac")?;
    let new = mac(new).ok_or_else(|| {
        Error::invalid(
            "mac",
            "invalid field[mac], expected six pairs of hexadecimal digits such as fa:00:37:ee:9f:00",
        )
    })?;
    let now = zstack.core.now();
    let mut others = now
        .vms
        .values()
        .flat_map(|vm| vm.facts.iter())
        .flat_map(|facts| &facts.nics);
    if others.any(|other| other.id != nic.id && other.mac == new) {
        return Err(Error::invalid(
            "mac",
            "invalid field[mac], another interface has this address",
        ));
    }
    let change = VmChange::UpdateNic {
        to: NicSpec {
            source: source(&nic),
            mac: Some(new),
            model: None,
        },
        mac: nic.mac,
    };
    super::change(zstack, call, vm.id, vec![change]).await
}

/// `SetNicQoS`: limits in bits a second; a direction that is not named keeps its limit.
pub(super) async fn set_limits(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let (vm, nic) = zstack.nic(call, "uuid")?;
    let inbound = limit(call, "inboundBandwidth")?.map(rate);
    let outbound = limit(call, "outboundBandwidth")?.map(rate);
    if inbound.is_none() && outbound.is_none() {
        return Err(Error::invalid(
            "outboundBandwidth",
            "at least one of field[outboundBandwidth] and field[inboundBandwidth] must be set",
        ));
    }
    let change = VmChange::NicQos {
        mac: nic.mac,
        inbound: inbound.or(nic.inbound),
        outbound: outbound.or(nic.outbound),
    };
    super::change(zstack, call, vm.id, vec![change]).await
}

/// `GetNicQoS`: -1 is no limit.
pub(super) async fn limits(zstack: &Zstack, call: &Call) -> Result<Bytes, Error> {
    let (_, nic) = zstack.nic(call, "uuid")?;
    encode::json_of(&json!({
        "outboundBandwidth": bits(nic.outbound),
        "inboundBandwidth": bits(nic.inbound),
    }))
}

/// `DeleteNicQoS`: of one direction.
pub(super) async fn remove_limit(zstack: &Zstack, call: &Call) -> Result<Started, Error> {
    let (vm, nic) = zstack.nic(call, "uuid")?;
    let keeps = |direction| call.asked("direction") != Some(direction);
    let change = VmChange::NicQos {
        mac: nic.mac,
        inbound: nic.inbound.filter(|_| keeps("in")),
        outbound: nic.outbound.filter(|_| keeps("out")),
    };
    super::change(zstack, call, vm.id, vec![change]).await
}

/// A limit of the wrapper in bits a second.
fn limit(call: &Call, name: &str) -> Result<Option<u64>, Error> {
    let Some(number) = call.number(name) else {
        return Ok(None);
    };
    match u64::try_from(number) {
        Ok(bits) if bits >= 8 => Ok(Some(bits)),
        _ => Err(Error::invalid(
            name,
            format!("invalid field[{name}], a limit is at least 8 bits a second"),
        )),
    }
}

/// Bits a second as the core counts them.
const fn rate(bits: u64) -> Bandwidth {
    Bandwidth {
        average: bits / 8,
        peak: 0,
        burst: 0,
    }
}

/// A limit as this dialect counts it.
fn bits(limit: Option<Bandwidth>) -> i64 {
    match limit {
        Some(limit) if limit.average > 0 => {
            i64::try_from(limit.average.saturating_mul(8)).unwrap_or(i64::MAX)
        }
        _ => -1,
    }
}

/// What an interface is plugged into.
fn source(nic: &Nic) -> NicSource {
    match (&nic.network, nic.source.as_str()) {
        (_, "user") => NicSource::User,
        (Some(_), name) => NicSource::Network(name.to_owned()),
        (None, name) => NicSource::Bridge(name.to_owned()),
    }
}

/// An address that a client names.
pub(super) fn address(text: &str) -> Result<IpAddr, Error> {
    text.parse()
        .map_err(|_| Error::invalid("ip", "invalid field[ip], expected an IP address"))
}

/// A MAC address in the canonical spelling: lower case with colons. None for what is none, or no address of a
/// single interface.
pub(super) fn mac(text: &str) -> Option<String> {
    let plain = text.trim().to_ascii_lowercase().replace('-', ":");
    let bytes: Vec<u8> = plain
        .split(':')
        .map(|part| match part.len() {
            2 => u8::from_str_radix(part, 16).ok(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let group = bytes.first().is_some_and(|first| first & 1 == 1);
    (bytes.len() == 6 && !group).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_has_one_spelling() {
        for text in ["fa:00:37:ee:9f:00", "FA:00:37:EE:9F:00", "fa-00-37-ee-9f-00"] {
            assert_eq!(mac(text).as_deref(), Some("fa:00:37:ee:9f:00"), "{text}");
        }
        for text in [
            "",
            "fa:00:37:ee:9f",
            "fa:00:37:ee:9f:0g",
            "ff:ff:ff:ff:ff:ff",
            "fa:0:37:ee:9f:00",
        ] {
            assert_eq!(mac(text), None, "{text}");
        }
    }
}
