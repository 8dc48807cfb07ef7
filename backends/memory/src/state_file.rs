//! Keeps the simulated hypervisor's guests and volumes on disk, so that they outlive the process as a real
//! hypervisor's do.
//!
//! One JSON object a line; a later line about the same object replaces the earlier. Each change is one
//! `write`, which a killed process has either made or not; a last line that was cut short is dropped. Opening
//! rewrites the file without what is outdated, through a second file that is renamed. A lock beside it keeps
//! two processes from being the same hypervisor. Nothing is synced: the file survives the process, not the
//! machine.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use babelvisor_core::model::{BackendId, VmFacts, VmId, Volume};
use babelvisor_core::secret::Sealed;
use babelvisor_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::snapshots::Snapshots;
use crate::world::{Origin, Transition};

const VERSION: u32 = 1;

/// Lines that may be outdated before a running hypervisor rewrites its file.
const SLACK: usize = 10_000;

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line {
    /// The first.
    Hypervisor { version: u32, backend: BackendId },
    /// A guest is, or has become, this.
    Guest(Box<StoredGuest>),
    /// A guest is gone.
    GuestGone { id: VmId },
    /// A volume is this.
    Volume(Box<StoredVolume>),
    /// A volume is gone.
    VolumeGone { native: String },
}

/// A guest as kept on disk; its console password is sealed under the key of whoever set it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredGuest {
    pub(crate) facts: VmFacts,
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) ignores_acpi: bool,
    #[serde(default)]
    pub(crate) boots: u32,
    #[serde(default)]
    pub(crate) leases: Vec<Option<Ipv4Addr>>,
    #[serde(default)]
    pub(crate) password: Option<Sealed>,
    #[serde(default)]
    pub(crate) transition: Option<Transition>,
    #[serde(default)]
    pub(crate) snapshots: Snapshots,
}

/// A volume as kept on disk.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredVolume {
    pub(crate) volume: Volume,
    pub(crate) origin: Origin,
}

/// What a state file holds: the hypervisor's truth, for tests that count objects after a gateway was killed.
#[derive(Debug, Clone, Default)]
pub struct StoredState {
    /// Guests, by id.
    pub vms: Vec<VmFacts>,
    /// Volumes, by native key; images and seeds among them.
    pub volumes: Vec<Volume>,
}

/// Reads a state file, also while a process is using it.
///
/// # Errors
/// `Internal` when it cannot be read or understood.
pub fn read_state(path: &Path) -> Result<StoredState> {
    let held = Held::read(path, None)?.unwrap_or_default();
    Ok(StoredState {
        vms: held.guests.into_values().map(|guest| guest.facts).collect(),
        volumes: held.volumes.into_values().map(|stored| stored.volume).collect(),
    })
}

/// Everything that a file holds.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) guests: BTreeMap<VmId, StoredGuest>,
    pub(crate) volumes: BTreeMap<String, StoredVolume>,
}

impl Held {
    /// `None` when there is no file, or an empty one.
    fn read(path: &Path, backend: Option<&BackendId>) -> Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Ok(text) if text.is_empty() => return Ok(None),
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(path, error)),
        };
        let mut held = Self::default();
        // What follows the last line break is empty, or a line cut short.
        let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let lines = text.get(..whole).unwrap_or_default();
        for (number, line) in lines.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let line: Line = serde_json::from_slice(line)
                .map_err(|error| fault(path, format!("line {}: {error}", number + 1)))?;
            held.take(line, backend)
                .map_err(|what| fault(path, format!("line {}: {what}", number + 1)))?;
        }
        Ok(Some(held))
    }

    fn take(&mut self, line: Line, expected: Option<&BackendId>) -> Result<(), String> {
        match line {
            Line::Hypervisor { version, backend } => {
                if version != VERSION {
                    return Err(format!("version {version} is not known, only {VERSION}"));
                }
                if expected.is_some_and(|expected| *expected != backend) {
                    return Err(format!("it belongs to backend {backend}"));
                }
            }
            Line::Guest(guest) => {
                self.guests.insert(guest.facts.id, *guest);
            }
            Line::GuestGone { id } => {
                self.guests.remove(&id);
            }
            Line::Volume(volume) => {
                self.volumes.insert(volume.volume.native.clone(), *volume);
            }
            Line::VolumeGone { native } => {
                self.volumes.remove(&native);
            }
        }
        Ok(())
    }
}

/// An open state file.
pub(crate) struct StateFile {
    path: PathBuf,
    file: File,
    lines: usize,
    /// Held as long as this lives; the system releases it when the process dies.
    _lock: File,
}

impl StateFile {
    /// Opens `path` for `backend` and hands over what it holds, if it held anything.
    pub(crate) fn open(path: &Path, backend: &BackendId) -> Result<(Self, Option<Held>)> {
        let beside = with_ending(path, ".lock");
        let lock = private()
            .truncate(false)
            .open(&beside)
            .map_err(|error| fault(&beside, error))?;
        lock.try_lock().map_err(|_| {
            fault(
                path,
                "another process uses it; two gateways cannot share a simulated hypervisor",
            )
        })?;
        let held = Held::read(path, Some(backend))?;
        let lines = held.iter().flat_map(|held| {
            let volumes = held
                .volumes
                .values()
                .map(|volume| Line::Volume(Box::new(volume.clone())));
            let guests = held
                .guests
                .values()
                .map(|guest| Line::Guest(Box::new(guest.clone())));
            volumes.chain(guests)
        });
        let (file, lines) = rewrite(path, backend, lines)?;
        let opened = Self {
            path: path.to_owned(),
            file,
            lines,
            _lock: lock,
        };
        Ok((opened, held))
    }

    /// Appends one line.
    pub(crate) fn append(&mut self, line: &Line) -> Result<()> {
        let text = encode(line)?;
        self.file
            .write_all(&text)
            .map_err(|error| fault(&self.path, error))?;
        self.lines += 1;
        Ok(())
    }

    /// Whether most lines are outdated, with `living` objects to be kept.
    pub(crate) fn wants_rewriting(&self, living: usize) -> bool {
        self.lines > living.saturating_mul(2).saturating_add(SLACK)
    }

    /// Puts `lines` in place of all that the file holds.
    pub(crate) fn rewrite(&mut self, backend: &BackendId, lines: impl Iterator<Item = Line>) -> Result<()> {
        (self.file, self.lines) = rewrite(&self.path, backend, lines)?;
        Ok(())
    }
}

fn rewrite(path: &Path, backend: &BackendId, lines: impl Iterator<Item = Line>) -> Result<(File, usize)> {
    let head = Line::Hypervisor {
        version: VERSION,
        backend: backend.clone(),
    };
    let mut text = encode(&head)?;
    let mut count = 1;
    for line in lines {
        text.extend(encode(&line)?);
        count += 1;
    }
    let fresh = with_ending(path, ".new");
    let mut file = private()
        .truncate(true)
        .open(&fresh)
        .map_err(|error| fault(&fresh, error))?;
    file.write_all(&text).map_err(|error| fault(&fresh, error))?;
    std::fs::rename(&fresh, path).map_err(|error| fault(path, error))?;
    Ok((file, count))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn encode(line: &Line) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)
        .map_err(|error| Error::internal(format!("the hypervisor's state cannot be written: {error}")))?;
    text.push(b'\n');
    Ok(text)
}

fn fault(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::internal(format!("hypervisor state file {}: {what}", path.display()))
}
