//! Moving a running domain to another host: the daemons talk to each other, the gateway watches and can stop it.

use std::time::{Duration, Instant};

use babelvisor_core::backend::CallContext;
use babelvisor_core::{Error, ErrorKind};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::MigrateParameters;
use virt_sys as sys;

use crate::config::LibvirtConfig;
use crate::connection::{CallError, Host};
use crate::define::lookup;
use crate::error::code;
use crate::longjob;
use crate::xml::DomainXml;

/// Pause between looks whether an earlier move is over.
const AGAIN: Duration = Duration::from_millis(250);
/// libvirt's words for an earlier move that is not over.
const ANOTHER: &str = "another migration job is already running";
/// MIGRATE_UNSAFE.
const UNSAFE: u32 = 81;

/// What other hosts are told: the daemon's address, and where the data go, behind a blank.
pub(crate) fn address(config: &LibvirtConfig) -> Option<String> {
    let daemon = config.migrate_uri.as_ref()?;
    Some(match &config.migrate_data_uri {
        Some(data) => format!("{daemon} {data}"),
        None => daemon.clone(),
    })
}

/// A destination, read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Destination {
    daemon: String,
    memory: Option<String>,
    disks: Option<String>,
}

impl Destination {
    fn read(address: &str, uuid: Uuid) -> Destination {
        let (daemon, data) = match address.split_once(' ') {
            Some((daemon, data)) => (daemon, Some(data)),
            None => (address, None),
        };
        // A socket serves one VM; over TCP libvirt chooses the ports.
        let socket = |what: &str| match data {
            Some(data) if data.starts_with("unix:") => Some(format!("{data}/{uuid}-{what}.sock")),
            Some(data) => Some(data.to_owned()),
            None => None,
        };
        Destination {
            daemon: daemon.to_owned(),
            memory: socket("memory"),
            disks: socket("disks"),
        }
    }
}

/// Moves the domain; on failure it runs here as before.
pub(crate) async fn migrate(
    host: &Host,
    uuid: Uuid,
    address: &str,
    shared: bool,
    call: &CallContext,
) -> Result<(), CallError> {
    let destination = Destination::read(address, uuid);
    let deadline = call.deadline;
    let work = host.slow(deadline, move |connection| {
        after_others(deadline, || go(connection, uuid, &destination, shared))
    });
    let kept = "the VM could not be moved in time; it runs where it was";
    match longjob::run(host, uuid, call, kept, work).await {
        Err(CallError::Libvirt(error)) if code(&error) == UNSAFE => Err(Error::unsupported(format!(
            "libvirt holds this move for unsafe ({}); if the hosts share their storage, say so with shared_storage",
            error.message()
        ))
        .about("vm", uuid)
        .into()),
        other => other,
    }
}

/// Makes the move once an earlier one of the same domain, which a caller left behind, is over. Where that one came
/// through, this one is done.
fn after_others(deadline: Instant, go: impl Fn() -> Result<(), CallError>) -> Result<(), CallError> {
    let mut waited = false;
    loop {
        match go() {
            Err(CallError::Libvirt(error))
                if error.message().contains(ANOTHER) && Instant::now() < deadline =>
            {
                waited = true;
                std::thread::sleep(AGAIN);
            }
            Err(CallError::Refused(error)) if waited && error.kind == ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
}

fn go(connection: &Connect, uuid: Uuid, to: &Destination, shared: bool) -> Result<(), CallError> {
    let domain = lookup(connection, uuid)?.ok_or_else(|| Error::not_found("vm", uuid))?;
    if !domain.is_active()? {
        return Err(Error::illegal_state("vm", uuid, "the VM is off; only running ones are moved").into());
    }
    let mut flags = sys::VIR_MIGRATE_LIVE
        | sys::VIR_MIGRATE_PEER2PEER
        | sys::VIR_MIGRATE_AUTO_CONVERGE
        | sys::VIR_MIGRATE_ABORT_ON_ERROR;
    if domain.is_persistent()? {
        flags |= sys::VIR_MIGRATE_PERSIST_DEST | sys::VIR_MIGRATE_UNDEFINE_SOURCE;
    }
    if shared {
        // The operator knows what libvirt cannot see.
        flags |= sys::VIR_MIGRATE_UNSAFE;
    } else {
        let xml = DomainXml::parse(&domain.xml_desc(0)?)?;
        let inserted = xml
            .disks
            .iter()
            .find(|disk| !disk.is_disk() && disk.source.is_some());
        if let Some(drive) = inserted {
            return Err(Error::unsupported(format!(
                "drive {} holds {}, which is not copied to the other host; eject it, or share the storage",
                drive.target,
                drive.source.as_deref().unwrap_or_default()
            ))
            .about("vm", uuid)
            .into());
        }
        flags |= sys::VIR_MIGRATE_NON_SHARED_DISK;
    }
    let parameters = MigrateParameters {
        uri: to.memory.clone(),
        disks_uri: to.disks.clone().filter(|uri| !shared && uri.starts_with("unix:")),
        ..MigrateParameters::default()
    };
    domain.migrate_to_uri3(Some(&to.daemon), parameters, flags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_daemon_and_data_are() {
        let mut config = LibvirtConfig::new("qemu:///system");
        assert_eq!(address(&config), None);
        config.migrate_uri = Some("qemu+tls://b/system".into());
        let uuid = Uuid::new_v4();
        let plain = Destination::read(&address(&config).unwrap(), uuid);
        assert_eq!(
            (plain.daemon.as_str(), plain.memory),
            ("qemu+tls://b/system", None)
        );
        config.migrate_data_uri = Some("tcp://10.0.0.2".into());
        let tcp = Destination::read(&address(&config).unwrap(), uuid);
        assert_eq!(tcp.memory.as_deref(), Some("tcp://10.0.0.2"));
        config.migrate_data_uri = Some("unix:///run/moves".into());
        let unix = Destination::read(&address(&config).unwrap(), uuid);
        assert_eq!(unix.memory, Some(format!("unix:///run/moves/{uuid}-memory.sock")));
        assert_ne!(unix.memory, unix.disks);
    }
}
