//! A machine as `one` and `mypage` print it. Encoded once for each change of what it depends on, because
//! clients poll lists far more often than machines change.

use std::net::IpAddr;
use std::sync::Arc;

use babelvisor_core::inventory::Snapshot;
use babelvisor_core::model::{Area, Flavor, Host, Image, Purpose, Timestamp, Vm};
use bytes::Bytes;
use serde::Serialize;

use crate::PveOpen;
use crate::encode::unwritable;
use crate::error::Fault;
use crate::state::{Standing, expired};

const GIB: u64 = 1 << 30;

/// Everything that a machine's encoded form depends on.
pub(crate) struct Stamp {
    revision: u64,
    /// The end of a term passes without any change of the VM.
    expired: bool,
    flavor: Option<Arc<Flavor>>,
    image: Option<Arc<Image>>,
    host: Option<Arc<Host>>,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision
            && self.expired == other.expired
            && same(&self.flavor, &other.flavor, PartialEq::eq)
            && same(&self.image, &other.image, PartialEq::eq)
            // A host is reported anew with every change of its free memory; only its address is printed.
            && same(&self.host, &other.host, |one, other| one.address == other.address)
    }
}

fn same<T>(one: &Option<Arc<T>>, other: &Option<Arc<T>>, equal: impl Fn(&T, &T) -> bool) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || equal(one, other),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The fields in the order of the document, then those of later editions.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Machine<'a> {
    id: &'a str,
    name: &'a str,
    gpu_configuration: &'a str,
    gpu_number: Option<u32>,
    memory: u64,
    cpu: u32,
    rigid_disk: u64,
    operating_system: Option<&'static str>,
    host_account: Option<&'a str>,
    host_pw: Option<&'a str>,
    address: Option<&'a str>,
    port: Option<u16>,
    mac: Option<&'a str>,
    #[serde(rename = "ipV4")]
    ip_v4: Option<String>,
    pve_machine_type: &'static str,
    create_time: i64,
    expiration_time: Option<i64>,
    ipv4: Option<String>,
    status: &'static str,
    use_type: &'static str,
    area: Option<&'static str>,
}

impl PveOpen {
    /// `vm` as JSON at `at`.
    pub(crate) fn machine(&self, now: &Snapshot, vm: &Vm, at: Timestamp) -> Result<Bytes, Fault> {
        let record = &vm.record;
        let flavor = record.flavor.and_then(|id| now.entries.flavors.get(&id).cloned());
        let image = record.image.and_then(|id| now.images.get(&id).cloned());
        let host = vm
            .facts
            .as_ref()
            .and_then(|facts| now.hosts.get(&facts.host).cloned());
        let stamp = Stamp {
            revision: vm.revision,
            expired: expired(vm, at),
            flavor,
            image,
            host,
        };
        if let Some(known) = self.machines.get(vm.id, &stamp) {
            return Ok(known);
        }
        let encoded = self.encode_machine(vm, &stamp, at)?;
        self.machines.put(vm.id, stamp, encoded.clone());
        Ok(encoded)
    }

    fn encode_machine(&self, vm: &Vm, stamp: &Stamp, at: Timestamp) -> Result<Bytes, Fault> {
        let record = &vm.record;
        let facts = vm.facts.as_deref();
        let flavor = stamp.flavor.as_deref();
        let password = record.admin_password.as_ref().and_then(|sealed| {
            // One machine whose key was lost must not take the whole list down.
            self.core
                .open(sealed)
                .map_err(|error| tracing::error!(vm = %vm.id, %error, "password not shown"))
                .ok()
        });
        let port = facts.and_then(|facts| facts.graphics.iter().find_map(|display| display.port));
        let nics = facts.map_or(&[][..], |facts| &facts.nics);
        let ip_v4 = nics
            .iter()
            .flat_map(|nic| &nic.addresses)
            .find_map(|address| match address {
                IpAddr::V4(address) => Some(address.to_string()),
                IpAddr::V6(_) => None,
            });
        let machine = Machine {
            id: &record.short_id,
            name: vm.name(),
            gpu_configuration: flavor
                .and_then(|flavor| flavor.gpu_model.as_deref())
                .unwrap_or("-"),
            gpu_number: gpus(vm, flavor),
            memory: gib(vm.memory()),
            cpu: vm.vcpus(),
            rigid_disk: gib(vm.disk_bytes())
                .max(u64::from(facts.is_some_and(|facts| !facts.disks.is_empty()))),
            operating_system: stamp
                .image
                .as_deref()
                .and_then(|image| operating_system(&image.os)),
            host_account: record.admin_user.as_deref(),
            host_pw: password.as_ref().map(|password| password.expose()),
            // An address without a port leads nowhere.
            address: port.and(
                self.settings
                    .address
                    .as_deref()
                    .or_else(|| stamp.host.as_ref()?.address.as_deref()),
            ),
            port,
            mac: nics.first().map(|nic| nic.mac.as_str()),
            ipv4: ip_v4.clone(),
            ip_v4,
            pve_machine_type: purpose(flavor.map_or(Purpose::Office, |flavor| flavor.purpose)),
            create_time: record.first_seen.as_millisecond(),
            expiration_time: record.expires_at.map(Timestamp::as_millisecond),
            status: Standing::of(vm, at).status(),
            use_type: if record.expires_at.is_some() { "1" } else { "0" },
            area: flavor.map(|flavor| area(flavor.area)),
        };
        serde_json::to_vec(&machine).map(Bytes::from).map_err(unwritable)
    }
}

/// How many GPUs: the package's, or none for a machine without passed-through devices; else not known.
fn gpus(vm: &Vm, flavor: Option<&Flavor>) -> Option<u32> {
    match (flavor, &vm.facts) {
        (Some(flavor), _) => Some(flavor.gpus),
        (None, Some(facts)) if facts.host_devices.is_empty() => Some(0),
        (None, _) => None,
    }
}

/// GiB, rounded up, so that something never shows as 0.
pub(crate) const fn gib(bytes: u64) -> u64 {
    bytes.div_ceil(GIB)
}

/// What a machine is for, by number.
pub(crate) const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Office => "0",
        Purpose::Graphics => "1",
        Purpose::Compute => "2",
    }
}

/// A data centre, by number.
pub(crate) const fn area(area: Area) -> &'static str {
    match area {
        Area::South => "0",
        Area::West => "1",
        Area::International => "2",
    }
}

/// The documented name of an operating system; none for one that the document does not have.
fn operating_system(os: &str) -> Option<&'static str> {
    let os = os.to_lowercase();
    // Longer names first: each holds the shorter one.
    [
        ("windows server", "Windows Server"),
        ("windows", "Windows"),
        ("ubuntu", "Ubuntu Server"),
        ("debian", "Debian"),
    ]
    .into_iter()
    .find_map(|(word, name)| os.contains(word).then_some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_up_and_nothing_stays_nothing() {
        assert_eq!([0, 1, GIB, GIB + 1, 16 * GIB].map(gib), [0, 1, 1, 2, 16]);
    }

    #[test]
    fn only_documented_systems_are_named() {
        assert_eq!(operating_system("Windows Server"), Some("Windows Server"));
        assert_eq!(operating_system("Windows 11"), Some("Windows"));
        assert_eq!(operating_system("ubuntu"), Some("Ubuntu Server"));
        assert_eq!(operating_system("Debian GNU/Linux"), Some("Debian"));
        assert_eq!(operating_system("Plan 9"), None);
    }
}
