//! The core's first-boot set-up as a seed, and the addresses that interfaces of a new VM get.

use babelvisor_core::model::{GuestSetup, StaticAddress, VmId};
use babelvisor_core::secret::Keyring;
use babelvisor_core::{Error, Result};
use serde_json::{Map, Value, json};

use crate::seed::Seed;

/// The seed's image. `macs` are those of all interfaces, in order; without them the guest configures its network as
/// its image does by itself.
pub(crate) fn image(
    vm: VmId,
    setup: &GuestSetup,
    macs: Option<&[String]>,
    keyring: &Keyring,
) -> Result<Vec<u8>> {
    let open = |sealed: &Option<_>| -> Result<Option<String>> {
        let opened = sealed.as_ref().map(|sealed| keyring.open(sealed)).transpose()?;
        Ok(opened.map(|secret| secret.expose().to_owned()))
    };
    let network = match macs {
        Some(macs) if !setup.addresses.is_empty() => Some(network(macs, &setup.addresses)?),
        Some(_) | None => None,
    };
    let seed = Seed {
        instance_id: vm.to_string(),
        hostname: setup.hostname.clone(),
        user: (!setup.admin_user.is_empty()).then(|| setup.admin_user.clone()),
        password: open(&setup.admin_password)?,
        ssh_keys: setup.ssh_keys.clone(),
        user_data: open(&setup.user_data)?,
        network,
    };
    seed.image().map_err(|e| Error::invalid("guest", e.to_string()))
}

/// cloud-init's network configuration, version 2: the stated addresses, and DHCP for every other interface.
fn network(macs: &[String], addresses: &[StaticAddress]) -> Result<Value> {
    if let Some(lost) = addresses.iter().find(|address| address.nic >= macs.len()) {
        let text = format!(
            "the VM has no interface number {} for the address {}",
            lost.nic, lost.address
        );
        return Err(Error::invalid("addresses", text));
    }
    let mut ethernets = Map::new();
    for (place, mac) in macs.iter().enumerate() {
        let own: Vec<&StaticAddress> = addresses.iter().filter(|a| a.nic == place).collect();
        let mut nic = Map::new();
        nic.insert("match".into(), json!({"macaddress": mac}));
        if own.is_empty() {
            nic.insert("dhcp4".into(), json!(true));
        } else {
            let stated: Vec<String> = own
                .iter()
                .map(|a| format!("{}/{}", a.address, a.prefix))
                .collect();
            nic.insert("addresses".into(), json!(stated));
            for gateway in own.iter().filter_map(|a| a.gateway) {
                let key = if gateway.is_ipv4() { "gateway4" } else { "gateway6" };
                nic.insert(key.into(), json!(gateway.to_string()));
            }
        }
        ethernets.insert(format!("nic{place}"), Value::Object(nic));
    }
    Ok(json!({"version": 2, "ethernets": ethernets}))
}

/// The MAC address of a new VM's interface when its first-boot set-up has to know it beforehand: the same at every
/// try, in the range that QEMU guests use.
pub(crate) fn derived_mac(vm: VmId, slot: usize) -> String {
    let [.., a, b, c] = *vm.0.as_bytes();
    let last = c.wrapping_add(u8::try_from(slot % 256).unwrap_or(0));
    format!("52:54:00:{a:02x}:{b:02x}:{last:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stated_addresses_go_to_their_interfaces_and_the_others_ask() {
        let vm = VmId::random();
        let macs = [derived_mac(vm, 0), derived_mac(vm, 1)];
        assert_ne!(macs[0], macs[1]);
        assert_eq!(macs[0], derived_mac(vm, 0));
        let address = StaticAddress {
            nic: 1,
            address: "10.1.2.3".parse().unwrap(),
            prefix: 24,
            gateway: Some("10.1.2.1".parse().unwrap()),
        };
        let config = network(&macs, std::slice::from_ref(&address)).unwrap();
        assert_eq!(config["ethernets"]["nic0"]["dhcp4"], json!(true));
        let nic = &config["ethernets"]["nic1"];
        assert_eq!(nic["match"]["macaddress"], json!(macs[1]));
        assert_eq!(nic["addresses"], json!(["10.1.2.3/24"]));
        assert_eq!(nic["gateway4"], json!("10.1.2.1"));
        let lost = StaticAddress { nic: 2, ..address };
        assert_eq!(
            network(&macs, &[lost]).unwrap_err().field.as_deref(),
            Some("addresses")
        );
    }
}
