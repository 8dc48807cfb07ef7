//! The other floor: the libvirt calls that a request cannot do without, on a connection of their own.

use super::Outcome;
use super::figures::{middle, time};
use std::time::{Duration, Instant};
use virt::connect::Connect;

/// How long the hypervisor is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to libvirt's test driver, over RPC.
pub(crate) struct Raw {
    connection: Connect,
}

impl Raw {
    /// Connects.
    pub(crate) fn open(uri: &str) -> Outcome<Self> {
        virt::error::clear_error_callback();
        Ok(Self {
            connection: Connect::open(Some(uri))?,
        })
    }

    /// Makes as many running domains as are missing and gives the UUID of the last.
    pub(crate) fn fill(&self, size: u32) -> Outcome<String> {
        let present = u32::try_from(self.connection.list_all_domains(0)?.len())?;
        for number in present..size {
            let xml = format!(
                "<domain type='test'><name>vm-{number:05}</name><memory unit='MiB'>1024</memory><vcpu>2</vcpu>\
                 <os><type arch='i686'>hvm</type></os><devices>\
                 <disk type='file' device='disk'><source file='/pool/vm-{number:05}.qcow2'/>\
                 <target dev='vda' bus='virtio'/></disk>\
                 <interface type='network'><source network='default'/></interface>\
                 <graphics type='vnc' port='-1'/></devices></domain>"
            );
            self.connection.define_domain_xml(&xml)?.create()?;
        }
        let domains = self.connection.list_all_domains(0)?;
        Ok(domains.last().ok_or("no domain")?.uuid_string()?)
    }

    /// Look-up and info of one domain.
    pub(crate) fn time_one(&self, uuid: &str) -> Outcome<Duration> {
        middle(&mut time(500, || {
            self.connection.lookup_domain_by_uuid_string(uuid)?.info()?;
            Ok(())
        })?)
    }

    /// One list of so many domains with the state of each.
    pub(crate) fn time_list(&self, most: usize) -> Outcome<Duration> {
        middle(&mut time(5, || {
            for domain in self.connection.list_all_domains(0)?.iter().take(most) {
                domain.info()?;
            }
            Ok(())
        })?)
    }

    /// All that there is to know of all domains: the list, and state and definition of each.
    pub(crate) fn time_refresh(&self) -> Outcome<Duration> {
        middle(&mut time(3, || {
            for domain in self.connection.list_all_domains(0)? {
                domain.info()?;
                domain.xml_desc(0)?;
            }
            Ok(())
        })?)
    }

    /// Whether a domain is as the gateway showed it; if not, waits until it is, so that the next change finds it so.
    pub(crate) fn agrees(&self, uuid: &str, running: bool) -> Outcome<bool> {
        let domain = self.connection.lookup_domain_by_uuid_string(uuid)?;
        if domain.is_active()? == running {
            return Ok(true);
        }
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if domain.is_active()? == running {
                return Ok(false);
            }
        }
        Err(format!("{uuid} is not as the gateway showed it, not even {PATIENCE:?} later").into())
    }

    /// Switches a domain past the gateway.
    pub(crate) fn switch(&self, uuid: &str, on: bool) -> Outcome<()> {
        let domain = self.connection.lookup_domain_by_uuid_string(uuid)?;
        if on {
            domain.create()?;
        } else {
            domain.destroy()?;
        }
        Ok(())
    }

    /// Off and on again.
    pub(crate) fn time_power(&self, uuid: &str) -> Outcome<Duration> {
        let domain = self.connection.lookup_domain_by_uuid_string(uuid)?;
        middle(&mut time(100, || {
            domain.destroy()?;
            domain.create()?;
            Ok(())
        })?)
    }
}
