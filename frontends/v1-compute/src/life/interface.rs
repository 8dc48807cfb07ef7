//! Network interfaces of a machine that exists: added, removed, moved to another network, limited, re-addressed.

use std::sync::Arc;

use babelvisor_core::Error;
use babelvisor_core::capability::Capability;
use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Bandwidth, Nic, NicSource, NicSpec, Vm, VmChange, VmFacts};
use serde_json::json;

use super::entry::setting;
use super::request::random_mac;
use super::wanted::{Bound, Interface, said};
use crate::V1Compute;
use crate::call::Call;
use crate::encode::Data;
use crate::error::Fault;

/// Bytes of the document's kB.
const KB: u64 = 1024;

impl V1Compute {
    /// `compute.interface_attach`.
    pub(crate) async fn interface_attach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let wanted: Interface = call.params.typed()?;
        let mac = said(&wanted.mac_address).map_or_else(random_mac, str::to_lowercase);
        free(&self.core.now(), &mac)?;
        let limits = limits(&wanted);
        if limits.is_some() {
            self.can_limit(&vm)?;
        }
        let spec = NicSpec {
            source: self.plug(&vm, &wanted)?,
            mac: Some(mac.clone()),
            model: said(&wanted.interface_model_type).map(str::to_owned),
        };
        let mut changes = vec![VmChange::AttachNic(spec)];
        if let Some((inbound, outbound)) = limits {
            changes.push(VmChange::NicQos {
                mac: mac.clone(),
                inbound,
                outbound,
            });
        }
        self.reconfigure(call, &vm, changes).await?;
        self.bind_address(call, &vm, facts.nics.len(), said(&wanted.bound_ip))
            .await?;
        self.returned(&vm, &mac)
    }

    /// `compute.modify_network`.
    pub(crate) async fn modify_network(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let wanted: Interface = call.params.typed()?;
        let mac = interface(&facts, said(&wanted.mac_address).unwrap_or_default())?
            .mac
            .clone();
        let to = NicSpec {
            source: self.plug(&vm, &wanted)?,
            mac: None,
            model: said(&wanted.interface_model_type).map(str::to_owned),
        };
        let change = VmChange::UpdateNic { mac: mac.clone(), to };
        self.reconfigure(call, &vm, vec![change]).await?;
        self.returned(&vm, &mac)
    }

    /// `compute.interface_detach`.
    pub(crate) async fn interface_detach(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let mac = interface(&facts, call.params.text("mac_address"))?.mac.clone();
        self.reconfigure(call, &vm, vec![VmChange::DetachNic { mac }])
            .await?;
        Ok(Data::empty())
    }

    /// `compute.interface_mac_update`.
    pub(crate) async fn interface_mac_update(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let old = interface(&facts, call.params.text("old_mac_address"))?;
        let new = call.params.text("new_mac_address").to_lowercase();
        self.rename_nic(call, &vm, old, &new).await?;
        Ok(Data::empty())
    }

    /// `compute.interface_setqos`: a direction that is not sent stays as it is.
    pub(crate) async fn interface_setqos(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let wanted: Interface = call.params.typed()?;
        let nic = interface(&facts, said(&wanted.mac_address).unwrap_or_default())?;
        if wanted.in_bount.is_none() && wanted.out_bount.is_none() {
            return Err(Fault::parameter("one of in_bount and out_bount is needed"));
        }
        let change = VmChange::NicQos {
            mac: nic.mac.clone(),
            inbound: wanted.in_bount.map_or(nic.inbound, bandwidth),
            outbound: wanted.out_bount.map_or(nic.outbound, bandwidth),
        };
        self.reconfigure(call, &vm, vec![change]).await?;
        Ok(Data::empty())
    }

    /// `compute.ip_mac_bind_update`: the bound address is recorded, the network gives addresses out.
    pub(crate) async fn ip_mac_bind_update(&self, call: &mut Call<'_>) -> Result<Data, Fault> {
        let (vm, facts) = self.built(call).await?;
        let wanted: Interface = call.params.typed()?;
        let id = call.params.text("interface_id");
        let nic = facts
            .nics
            .iter()
            .find(|nic| nic.id.to_string().eq_ignore_ascii_case(id));
        let nic = nic.ok_or_else(|| Fault::unknown("interface", id))?;
        let mac = said(&wanted.mac_address).map_or_else(|| nic.mac.clone(), str::to_lowercase);
        if mac != nic.mac {
            self.rename_nic(call, &vm, nic, &mac).await?;
        }
        let slot = nic.slot as usize;
        match call.params.text("peer") {
            "" => {}
            "mac" => {
                let address = said(&wanted.bound_ip);
                let address = address.ok_or_else(|| Fault::parameter("bound_ip is missing"))?;
                self.bind_address(call, &vm, slot, Some(address)).await?;
            }
            _ => {
                let name = setting::bound_ip(slot);
                self.core
                    .annotate(&call.caller, vm.id, |record| {
                        record.settings.remove(&name);
                        Ok(())
                    })
                    .await?;
            }
        }
        Ok(Data::empty())
    }

    /// Gives an interface another address: of a machine that is off only, whose guest would lose it otherwise.
    async fn rename_nic(&self, call: &Call<'_>, vm: &Vm, nic: &Nic, new: &str) -> Result<(), Fault> {
        if !is_mac(new) {
            return Err(Fault::parameter(
                "the new address: expected six bytes in hex, with colons between",
            ));
        }
        if new == nic.mac {
            return Ok(());
        }
        free(&self.core.now(), new)?;
        let to = NicSpec {
            source: source_of(nic),
            mac: Some(new.to_owned()),
            model: None,
        };
        let mac = nic.mac.clone();
        self.reconfigure(call, vm, vec![VmChange::UpdateNic { mac, to }])
            .await
    }

    async fn bind_address(
        &self,
        call: &Call<'_>,
        vm: &Vm,
        slot: usize,
        address: Option<&str>,
    ) -> Result<(), Fault> {
        let Some(address) = address else { return Ok(()) };
        if address.parse::<std::net::IpAddr>().is_err() {
            return Err(Fault::parameter("bound_ip: expected an IP address"));
        }
        let name = setting::bound_ip(slot);
        self.core
            .annotate(&call.caller, vm.id, |record| {
                record.settings.insert(name.clone(), address.to_owned());
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// What an interface is plugged into.
    fn plug(&self, vm: &Vm, wanted: &Interface) -> Result<NicSource, Fault> {
        let now = self.core.now();
        if let Some(network) = self.network_of(&now, Some(vm.home()), wanted)? {
            let network = now.networks.get(&network);
            let network = network.ok_or_else(|| Error::internal("a network that was found is not there"))?;
            return Ok(NicSource::Network(network.name.clone()));
        }
        // The site's usual network: the first of the backend, as for new machines.
        let mut names: Vec<&str> = now
            .networks
            .values()
            .filter(|network| network.backend == *vm.home() && network.active)
            .map(|network| network.name.as_str())
            .collect();
        names.sort_unstable();
        Ok(names
            .first()
            .map_or(NicSource::User, |name| NicSource::Network((*name).to_owned())))
    }

    fn can_limit(&self, vm: &Vm) -> Result<(), Fault> {
        let backend = self.core.backends().get(vm.home());
        let capabilities = backend.map(|backend| backend.capabilities());
        let support = capabilities.as_ref().map(|all| all.get(Capability::NicQos));
        match support {
            Some(support) if !support.usable() => {
                let reason = support.reason().unwrap_or_default();
                Err(Error::unsupported(format!("limits of an interface: {reason}")).into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What the calls that make or move an interface answer.
    fn returned(&self, vm: &Vm, mac: &str) -> Result<Data, Fault> {
        let now = self.core.now();
        let facts: Option<Arc<VmFacts>> = now.vms.get(&vm.id).and_then(|vm| vm.facts.clone());
        let nic = facts
            .as_ref()
            .and_then(|facts| facts.nics.iter().find(|nic| nic.mac == mac));
        let shown = json!({
            "mac_address": mac,
            "interface_id": nic.map(|nic| nic.id.to_string()).unwrap_or_default(),
            "interface_model_type": nic.map(|nic| nic.model.as_str()).unwrap_or_default(),
        });
        Data::of(&json!({"name": vm.name(), "uuid": vm.id.to_string(), "interface_return": shown}))
    }
}

/// The interface with this address.
fn interface<'f>(facts: &'f VmFacts, mac: &str) -> Result<&'f Nic, Fault> {
    if mac.is_empty() {
        return Err(Fault::parameter("mac_address is missing"));
    }
    let mut nics = facts.nics.iter();
    let found = nics.find(|nic| nic.mac.eq_ignore_ascii_case(mac));
    found.ok_or_else(|| Fault::unknown("interface", mac))
}

/// Refuses an address that some machine has.
fn free(now: &Snapshot, mac: &str) -> Result<(), Fault> {
    if !is_mac(mac) {
        return Err(Fault::parameter(
            "mac_address: expected six bytes in hex, with colons between",
        ));
    }
    let mut facts = now.vms.values().filter_map(|vm| vm.facts.as_ref());
    if facts.any(|facts| facts.nics.iter().any(|nic| nic.mac == mac)) {
        let why = format!("a machine has the address {mac} already");
        return Err(Error::new(babelvisor_core::ErrorKind::AlreadyExists, why).into());
    }
    Ok(())
}

/// Whether it is the address of one interface, not of a group.
fn is_mac(text: &str) -> bool {
    let bytes: Vec<Option<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2))
        .collect();
    bytes.len() == 6
        && bytes.iter().all(Option::is_some)
        && bytes
            .first()
            .copied()
            .flatten()
            .is_some_and(|first| first & 1 == 0)
}

/// Limits that were sent; none where neither direction has any.
fn limits(wanted: &Interface) -> Option<(Option<Bandwidth>, Option<Bandwidth>)> {
    let (inbound, outbound) = (
        wanted.in_bount.and_then(bandwidth),
        wanted.out_bount.and_then(bandwidth),
    );
    (inbound.is_some() || outbound.is_some()).then_some((inbound, outbound))
}

/// From kB; an average of 0 is no limit.
fn bandwidth(bound: Bound) -> Option<Bandwidth> {
    (bound.average > 0).then(|| Bandwidth {
        average: bound.average.saturating_mul(KB),
        peak: bound.peak.saturating_mul(KB),
        burst: bound.burst.saturating_mul(KB),
    })
}

/// What an interface is plugged into now.
fn source_of(nic: &Nic) -> NicSource {
    match (&nic.network, nic.source.as_str()) {
        (_, "user") => NicSource::User,
        (Some(_), name) => NicSource::Network(name.to_owned()),
        (None, name) => NicSource::Bridge(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_six_bytes_of_one_interface() {
        assert!(is_mac("52:54:00:ab:cd:ef"));
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:eg",
            "53:54:00:ab:cd:ef",
            "525400abcdef",
            "5:54:00:ab:cd:ef",
        ] {
            assert!(!is_mac(text), "{text}");
        }
    }

    #[test]
    fn kilobytes_become_bytes_and_an_average_of_nothing_is_no_limit() {
        let bound = |average| Bound {
            average,
            peak: 2,
            burst: 3,
        };
        assert_eq!(bandwidth(bound(0)), None);
        let expected = Bandwidth {
            average: 1024,
            peak: 2048,
            burst: 3072,
        };
        assert_eq!(bandwidth(bound(1)), Some(expected));
    }
}
