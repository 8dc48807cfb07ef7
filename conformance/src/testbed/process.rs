//! A child process on a leash: its output goes to a file, and it does not outlive the test process.

use super::error::{Result, TestbedError, file_error};
use super::eventually::eventually_blocking;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The signals that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends at once, without any handler.
    Kill,
    /// Asks to end.
    Terminate,
    /// Halts until [`Signal::Continue`].
    Stop,
    /// Goes on after [`Signal::Stop`].
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Signal::Kill => "KILL",
            Signal::Terminate => "TERM",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        }
    }
}

/// Sends `signal` to the process with the id `pid`.
///
/// # Errors
/// [`TestbedError::Command`] when there is no such process.
pub fn send_signal(pid: u32, signal: Signal) -> Result<()> {
    run(Command::new("kill").args(["-s", signal.name(), &pid.to_string()])).map(drop)
}

/// Runs a command to its end and gives its standard output.
///
/// # Errors
/// [`TestbedError::Spawn`] when it cannot be started, [`TestbedError::Command`] when it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| TestbedError::Spawn {
            program: program.clone(),
            source,
        })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let arguments: Vec<_> = command
        .get_args()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    Err(TestbedError::Command {
        command: format!("{program} {}", arguments.join(" ")),
        status: output.status.to_string(),
        output: format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
            .trim()
            .to_owned(),
    })
}

/// A script of this repository.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts")
        .join(name)
}

/// Ports below those that systems give to outgoing connections (Linux: from 32768): one of those may be taken for a
/// moment by any client between the look and the listener.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A TCP address on loopback that was free a moment ago. Ports are tried in no order, so that processes that look at the
/// same time do not find the same one.
///
/// # Errors
/// [`TestbedError::File`] when the machine has no free port.
pub fn free_address() -> Result<SocketAddr> {
    let mut last = None;
    for _ in 0..100 {
        let (_, random) = uuid::Uuid::new_v4().as_u64_pair();
        let span = u64::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(random % span).unwrap_or(0);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr()) {
            Ok(address) => return Ok(address),
            Err(error) => last = Some(error),
        }
    }
    let last = last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(file_error("tcp")(last))
}

/// A running child process; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    program: String,
    child: Child,
    leash: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to the file `log`.
    ///
    /// # Errors
    /// [`TestbedError::Spawn`] or [`TestbedError::File`].
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(file_error(log))?;
        let errors = file.try_clone().map_err(file_error(log))?;
        let spawn_error = |source| TestbedError::Spawn {
            program: program.clone(),
            source,
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(spawn_error)?;
        // A process of its own that outlives us just long enough to end the child.
        let leash = Command::new("sh")
            .args([
                "-c",
                "while read -r _; do :; done; kill -9 \"$0\" 2>/dev/null",
                &child.id().to_string(),
            ])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match leash {
            Ok(leash) => Ok(Self {
                program,
                child,
                leash,
                log: log.to_owned(),
            }),
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(TestbedError::Spawn {
                    program: "sh".to_owned(),
                    source,
                })
            }
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`TestbedError::Command`] when the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        send_signal(self.pid(), signal)
    }

    /// The exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// [`TestbedError::Deadline`].
    pub fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.program);
        eventually_blocking(&what, deadline, || self.exited())
    }

    /// All that it has printed so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until `ready` says so, and stops waiting when the process ends.
    ///
    /// # Errors
    /// [`TestbedError::EndedEarly`] or [`TestbedError::Deadline`], both with the end of its log.
    pub fn wait_ready(&mut self, deadline: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let what = format!("{} being ready", self.program);
        let outcome = eventually_blocking(&what, deadline, || match self.exited() {
            Some(status) => Some(Err(status)),
            None => ready().then_some(Ok(())),
        });
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => Err(TestbedError::EndedEarly {
                program: self.program.clone(),
                status: status.to_string(),
                log: self.log_tail(),
            }),
            Err(_) => Err(TestbedError::Deadline {
                what,
                waited: deadline,
                detail: format!("; its log says:\n{}", self.log_tail()),
            }),
        }
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill9(&mut self) {
        // The leash first: it must not shoot at a process id that is free again.
        let _ = self.leash.kill();
        let _ = self.leash.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(30))
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}
