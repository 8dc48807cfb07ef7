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
use crate::ffi;
use crate::xml::DomainXml;

/// How often it is looked how far it has come.
const LOOK: Duration = Duration::from_millis(500);
/// How long a look, or a word to stop, may take.
const SHORT: Duration = Duration::from_secs(10);
/// The time that is kept for stopping in time.
const MARGIN: Duration = Duration::from_secs(5);
/// Pause between looks whether an earlier move is over.
const AGAIN: Duration = Duration::from_millis(250);
/// libvirt's words for an earlier move that is not over.
const ANOTHER: &str = "another migration job is already running";
/// OPERATION_ABORTED.
const ABORTED: u32 = 78;
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
    let run = host.slow(deadline, move |connection| {
        after_others(deadline, || go(connection, uuid, &destination, shared))
    });
    tokio::pin!(run);
    let mut guard = Guard {
        host: host.clone(),
        uuid,
        armed: true,
    };
    let stop_at = call.deadline - MARGIN.min(call.left() / 4);
    let mut stopped = false;
    let outcome = loop {
        let wake = if stopped {
            call.deadline
        } else {
            stop_at.min(Instant::now() + LOOK)
        };
        tokio::select! {
            outcome = &mut run => break outcome,
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        if !stopped && Instant::now() >= stop_at {
            stopped = true;
            stop(host, uuid).await;
        } else if !stopped {
            look(host, uuid, call).await;
        }
    };
    guard.armed = false;
    match outcome {
        Err(CallError::Libvirt(error)) if code(&error) == ABORTED && stopped => Err(Error::new(
            ErrorKind::Timeout,
            "the VM could not be moved in time; it runs where it was",
        )
        .about("vm", uuid)
        .into()),
        Err(CallError::Libvirt(error)) if code(&error) == UNSAFE => Err(Error::unsupported(format!(
            "libvirt holds this move for unsafe ({}); if the hosts share their storage, say so with shared_storage",
            error.message()
        ))
        .about("vm", uuid)
        .into()),
        other => other,
    }
}

/// Stops the move of a caller that went away.
struct Guard {
    host: Host,
    uuid: Uuid,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (host, uuid) = (self.host.clone(), self.uuid);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { stop(&host, uuid).await });
        }
    }
}

async fn stop(host: &Host, uuid: Uuid) {
    let stopped = host
        .slow(Instant::now() + SHORT, move |connection| {
            match lookup(connection, uuid)? {
                Some(domain) => Ok(ffi::abort_job(&domain)?),
                None => Ok(()),
            }
        })
        .await;
    if let Err(error) = stopped {
        tracing::warn!(vm = %uuid, %error, "a migration could not be stopped");
    }
}

async fn look(host: &Host, uuid: Uuid, call: &CallContext) {
    let looked = host.slow(Instant::now() + SHORT, move |connection| {
        let domain = lookup(connection, uuid)?;
        Ok(domain.map(|domain| ffi::job_progress(&domain)).transpose()?)
    });
    match looked.await {
        Ok(Some(progress)) if progress.running => call.report(progress.percent()),
        Ok(_) => {}
        Err(error) => tracing::debug!(vm = %uuid, %error, "how far a migration has come is not known"),
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
