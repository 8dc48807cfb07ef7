//! The event connection of a host: kept open, reconnected with back-off, and honest about gaps.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::{CallError, HostOptions};
use crate::ffi::EventConnection;
use crate::raw::{CloseReason, EventSink, RawEvent};

/// Events that a slow receiver may be behind before it is told that it missed some.
const BUFFER: usize = 8192;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a host's subscribers hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// There is a connection (again): everything has to be read anew, events before this may be lost.
    Up,
    /// The connection is lost, with the reason.
    Down(String),
    /// Something happened on the host.
    Raw(RawEvent),
}

/// Whether a host is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Connected, events flow.
    Up,
    /// Not connected; the text says why.
    Down(String),
}

impl Status {
    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        matches!(self, Status::Up)
    }

    /// Why there is none, in words.
    pub fn reason(&self) -> String {
        match self {
            Status::Up => "connected".to_owned(),
            Status::Down(reason) => reason.clone(),
        }
    }
}

pub(super) enum Control {
    /// Somebody needs the host: try again now.
    Wake,
    /// The host object is gone.
    Stop,
    /// libvirt says that the connection of this generation is closed.
    Closed(u64, CloseReason),
}

pub(super) struct Supervised {
    pub(super) status: watch::Receiver<Status>,
    pub(super) events: broadcast::Sender<HostEvent>,
    pub(super) control: mpsc::Sender<Control>,
}

/// Starts the thread that keeps the event connection.
pub(super) fn supervise(options: &HostOptions) -> Result<Supervised, CallError> {
    let (status_sender, status) = watch::channel(Status::Down("not connected yet".into()));
    let (events, _) = broadcast::channel(BUFFER);
    let (control, inbox) = mpsc::channel();
    let supervisor = Supervisor {
        host: options.name.clone(),
        uri: options.uri.clone(),
        status: status_sender,
        events: events.clone(),
        control: control.clone(),
        inbox,
        generation: 0,
    };
    std::thread::Builder::new()
        .name(format!("{}-events", options.name))
        .spawn(move || supervisor.run())
        .map_err(|e| CallError::Down(format!("no thread for the event connection: {e}")))?;
    Ok(Supervised {
        status,
        events,
        control,
    })
}

struct Supervisor {
    host: String,
    uri: String,
    status: watch::Sender<Status>,
    events: broadcast::Sender<HostEvent>,
    control: mpsc::Sender<Control>,
    inbox: mpsc::Receiver<Control>,
    generation: u64,
}

impl Supervisor {
    fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.connect() {
                Ok(connection) => {
                    pause = FIRST_PAUSE;
                    tracing::info!(host = %self.host, "connected to libvirt");
                    self.status.send_replace(Status::Up);
                    let _ = self.events.send(HostEvent::Up);
                    let Some(reason) = self.wait_for_loss(&connection) else {
                        return;
                    };
                    tracing::warn!(host = %self.host, reason, "lost the connection to libvirt");
                    self.status.send_replace(Status::Down(reason.clone()));
                    let _ = self.events.send(HostEvent::Down(reason));
                }
                Err(error) => {
                    let reason = error.message().to_owned();
                    if self.status.borrow().reason() != reason {
                        tracing::warn!(host = %self.host, reason, "no connection to libvirt");
                        let _ = self.events.send(HostEvent::Down(reason.clone()));
                    }
                    self.status.send_replace(Status::Down(reason));
                }
            }
            if !self.pause(pause) {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn connect(&mut self) -> Result<EventConnection, virt::error::Error> {
        self.generation += 1;
        let connection = super::open(&self.uri)?;
        let (events, control, generation) = (self.events.clone(), self.control.clone(), self.generation);
        let sink: EventSink = Arc::new(move |event| {
            if let RawEvent::Closed(reason) = event {
                let _ = control.send(Control::Closed(generation, reason));
            } else {
                // Without a receiver there is nobody to tell.
                let _ = events.send(HostEvent::Raw(event));
            }
        });
        EventConnection::subscribe(connection, &sink)
    }

    /// Returns the reason of the loss, or `None` when the host object is gone.
    fn wait_for_loss(&self, connection: &EventConnection) -> Option<String> {
        loop {
            match self.inbox.recv_timeout(Duration::from_secs(1)) {
                Ok(Control::Closed(generation, reason)) if generation == self.generation => {
                    return Some(
                        match reason {
                            CloseReason::Eof => "the libvirt daemon ended",
                            CloseReason::KeepAlive => "the libvirt daemon does not answer",
                            CloseReason::Error => "the connection to the libvirt daemon broke",
                            CloseReason::Client | CloseReason::Other => "the connection was closed",
                        }
                        .to_owned(),
                    );
                }
                Ok(Control::Closed(..) | Control::Wake) | Err(mpsc::RecvTimeoutError::Timeout) => {
                    if !super::alive(connection.connection()) {
                        return Some("the connection to the libvirt daemon broke".to_owned());
                    }
                }
                Ok(Control::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Waits before the next try; somebody who needs the host shortens it. Says whether to go on.
    fn pause(&self, pause: Duration) -> bool {
        let until = std::time::Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(std::time::Instant::now());
            match self.inbox.recv_timeout(left) {
                Ok(Control::Wake) => {
                    // Many callers may wake at once: one try per pause of the shortest kind is enough.
                    std::thread::sleep(left.min(FIRST_PAUSE));
                    return true;
                }
                Ok(Control::Closed(..)) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => return true,
                Ok(Control::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}
