//! One libvirt host: an event connection, and work connections in two lanes.
//!
//! libvirt's calls block and cannot be cancelled, and calls that share a connection wait for each other (a daemon
//! reads at most five requests of one client at a time). Therefore:
//!
//! - every call has a connection for itself while it runs, on a thread of its own (`lane`);
//! - calls that only read the daemon's memory use the *fast* lane (at most four connections); calls that may wait for
//!   a guest, QEMU or storage use the *slow* lane (at most eight), so a hung guest never delays a list;
//! - a call that is not done at its deadline is left behind with its connection, which is never used again;
//! - one more connection only receives events ([`events`]); it notices the loss of the daemon, reconnects with
//!   back-off and says so, because what happened in between is lost.

pub mod events;
mod lane;

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, watch};
use virt::connect::Connect;

use crate::ffi;
use crate::xml::XmlError;
use events::{Control, HostEvent, Status};
use lane::Lane;

/// How a host is reached, and the limits of its connections.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Short name for threads and logs.
    pub name: String,
    /// Any libvirt URI.
    pub uri: String,
    /// Most connections for calls that only read the daemon's memory.
    pub fast: usize,
    /// Most connections for calls that may wait for a guest or storage.
    pub slow: usize,
    /// A connection that was not used for so long is closed.
    pub idle: Duration,
    /// How long a call waits for a host that is being reconnected.
    pub grace: Duration,
}

impl HostOptions {
    /// The usual limits.
    pub fn new(name: impl Into<String>, uri: impl Into<String>) -> HostOptions {
        HostOptions {
            name: name.into(),
            uri: uri.into(),
            fast: 4,
            slow: 8,
            idle: Duration::from_secs(60),
            grace: Duration::from_secs(3),
        }
    }
}

/// Why a call brought no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// libvirt answered with an error.
    #[error("{0}")]
    Libvirt(#[from] virt::error::Error),
    /// A document of the host, or one meant for it, is unusable.
    #[error("{0}")]
    Xml(#[from] XmlError),
    /// Our own checks inside the call refused.
    #[error("{0}")]
    Refused(babelvisor_core::Error),
    /// The call was not done at its deadline; it may still take effect.
    #[error("the host did not answer within {0:?}; what was asked may still happen")]
    Timeout(Duration),
    /// All connections of the lane were busy until the deadline.
    #[error("all {limit} connections for {lane} calls to the host were busy for {waited:?}")]
    Busy {
        /// `fast` or `slow`.
        lane: &'static str,
        /// How many connections the lane has.
        limit: usize,
        /// How long the call waited.
        waited: Duration,
    },
    /// There is no connection to the host.
    #[error("no connection to the host: {0}")]
    Down(String),
    /// The call itself failed in a way that is our fault.
    #[error("a call to libvirt ended in a fault of ours")]
    Crashed,
}

impl From<babelvisor_core::Error> for CallError {
    fn from(error: babelvisor_core::Error) -> Self {
        CallError::Refused(error)
    }
}

/// A libvirt host. Cheap to clone; the last clone ends its threads.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    options: HostOptions,
    fast: Lane,
    slow: Lane,
    status: watch::Receiver<Status>,
    events: broadcast::Sender<HostEvent>,
    control: std_mpsc::Sender<Control>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.inner.options.name)
            .field("status", &*self.inner.status.borrow())
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The supervisor may be gone already; then there is nothing to end.
        let _ = self.control.send(Control::Stop);
    }
}

impl Host {
    /// Starts to connect and returns at once; [`Host::status`] and the events say how it goes.
    ///
    /// # Errors
    /// When the URI has a NUL byte, libvirt's event loop cannot be had or no thread can be started.
    pub fn start(mut options: HostOptions) -> Result<Host, CallError> {
        if options.uri.contains('\0') {
            return Err(CallError::Xml(XmlError::BadCharacter {
                field: "uri".into(),
                code: 0,
            }));
        }
        options.uri = unattended(&options.uri);
        ffi::start_event_loop().map_err(CallError::Down)?;
        let supervised = events::supervise(&options)?;
        Ok(Host {
            inner: Arc::new(Inner {
                fast: Lane::new("fast", options.fast, &options),
                slow: Lane::new("slow", options.slow, &options),
                status: supervised.status,
                events: supervised.events,
                control: supervised.control,
                options,
            }),
        })
    }

    /// The URI that this host is reached by.
    pub fn uri(&self) -> &str {
        &self.inner.options.uri
    }

    /// Whether there is a connection now.
    pub fn status(&self) -> Status {
        self.inner.status.borrow().clone()
    }

    /// Events from now on. A receiver that lags is told so and must resynchronise.
    pub fn subscribe(&self) -> broadcast::Receiver<HostEvent> {
        self.inner.events.subscribe()
    }

    /// Waits until there is a connection, and asks for one at once if there is none.
    ///
    /// # Errors
    /// [`CallError::Down`] with the reason when there is none within the grace period or at the deadline.
    pub async fn wait_up(&self, deadline: Instant) -> Result<(), CallError> {
        let mut status = self.inner.status.clone();
        if status.borrow().is_up() {
            return Ok(());
        }
        let _ = self.inner.control.send(Control::Wake);
        let until = deadline.min(Instant::now() + self.inner.options.grace);
        match tokio::time::timeout_at(until.into(), status.wait_for(Status::is_up)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(CallError::Down("the host is being shut down".into())),
            Err(_) => Err(CallError::Down(self.status().reason())),
        }
    }

    /// Runs a call that only reads the daemon's memory: lookups, lists, state, definitions.
    ///
    /// # Errors
    /// Those of `call`, and [`CallError::Down`], [`CallError::Busy`], [`CallError::Timeout`].
    pub async fn fast<T, F>(&self, deadline: Instant, call: F) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce(&Connect) -> Result<T, CallError> + Send + 'static,
    {
        self.wait_up(deadline).await?;
        self.inner.fast.call(deadline, call).await
    }

    /// Runs a call that may wait for a guest, for QEMU or for storage.
    ///
    /// # Errors
    /// As [`Host::fast`].
    pub async fn slow<T, F>(&self, deadline: Instant, call: F) -> Result<T, CallError>
    where
        T: Send + 'static,
        F: FnOnce(&Connect) -> Result<T, CallError> + Send + 'static,
    {
        self.wait_up(deadline).await?;
        self.inner.slow.call(deadline, call).await
    }

    /// Calls that were left behind at their deadline and still hold a thread.
    pub fn abandoned_calls(&self) -> usize {
        self.inner.fast.abandoned() + self.inner.slow.abandoned()
    }
}

/// The URI such that nobody is asked for anything: an ssh that prompts on a terminal would wait for ever.
fn unattended(uri: &str) -> String {
    let over_ssh = uri.split_once("://").is_some_and(|(scheme, _)| {
        ["+ssh", "+libssh", "+libssh2"]
            .iter()
            .any(|s| scheme.ends_with(s))
    });
    if !over_ssh || uri.contains("no_tty=") {
        return uri.to_owned();
    }
    let separator = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{separator}no_tty=1")
}

/// Opens one connection with keep-alive. Blocks: `virConnectOpen` has no time limit of its own.
fn open(uri: &str) -> Result<Connect, virt::error::Error> {
    let connection = Connect::open(Some(uri))?;
    // A dead daemon is noticed after 5 s × (3 + 1). Drivers inside this process need none and say so.
    if let Err(error) = connection.set_keep_alive(5, 3) {
        tracing::debug!(%error, "no keep-alive on this connection");
    }
    Ok(connection)
}

/// Whether a connection can still be used. Local: asks nobody.
fn alive(connection: &Connect) -> bool {
    matches!(connection.is_alive(), Ok(true))
}

#[cfg(test)]
mod tests {
    use super::unattended;

    #[test]
    fn ssh_never_asks_on_a_terminal() {
        assert_eq!(unattended("qemu+ssh://h/system"), "qemu+ssh://h/system?no_tty=1");
        assert_eq!(
            unattended("qemu+libssh2://h/system?port=2"),
            "qemu+libssh2://h/system?port=2&no_tty=1"
        );
        assert_eq!(
            unattended("qemu+ssh://h/system?no_tty=0"),
            "qemu+ssh://h/system?no_tty=0"
        );
        assert_eq!(
            unattended("qemu+unix:///system?socket=/s"),
            "qemu+unix:///system?socket=/s"
        );
    }
}
