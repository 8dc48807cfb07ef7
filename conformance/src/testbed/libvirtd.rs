//! A private libvirtd with everything below it, in namespaces of its own.
//!
//! `scripts/private-libvirtd.sh` does the work and says how; the demo uses the same script. The script reads its standard
//! input and ends when that ends, so a libvirtd goes with the test process that started it, guests and network included.

use super::error::{Result, TestbedError, file_error};
use super::eventually::eventually_blocking;
use super::process::{Signal, run, script, send_signal};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

// A cold start probes QEMU, which takes up to 12 s on an idle machine.
const READY: Duration = Duration::from_secs(90);
const GONE: Duration = Duration::from_secs(30);

/// Whether guests and the daemon share the machine's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkScope {
    /// A network namespace of their own: nothing of the machine's network is seen or changed. Ports of guests (VNC)
    /// are reached with [`Libvirtd::exec`].
    #[default]
    Private,
    /// The machine's network: VNC ports can be reached; a bridge exists while it runs.
    Host,
}

/// A running libvirtd with the QEMU driver and the test driver, a pool `default`, and a network `default` where possible.
#[derive(Debug)]
pub struct Libvirtd {
    supervisor: Child,
    directory: TempDir,
    uri_qemu: String,
    uri_test: String,
    has_network: bool,
}

impl Libvirtd {
    /// Starts one with a private network.
    ///
    /// # Errors
    /// When packages are missing or the machine allows no private namespaces; the message says which.
    pub fn start() -> Result<Self> {
        Self::start_with(NetworkScope::Private)
    }

    /// Starts one.
    ///
    /// # Errors
    /// As [`Libvirtd::start`].
    pub fn start_with(scope: NetworkScope) -> Result<Self> {
        // Not $TMPDIR: a socket's path must stay below 108 bytes.
        let directory = tempfile::Builder::new()
            .prefix("bv-libvirt-")
            .tempdir_in("/tmp")
            .map_err(file_error("/tmp"))?;
        // Not in the directory, which the script removes when it fails.
        let log = tempfile::NamedTempFile::new().map_err(file_error("/tmp"))?;
        let output = log.reopen().map_err(file_error(log.path()))?;
        let errors = output.try_clone().map_err(file_error(log.path()))?;
        let program = script("private-libvirtd.sh");
        let supervisor = Command::new(&program)
            .arg("run")
            .arg(directory.path())
            .args([
                "--net",
                if scope == NetworkScope::Host {
                    "host"
                } else {
                    "private"
                },
            ])
            // A group of its own: it must live to clean up when the test's group is killed.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|source| TestbedError::Spawn {
                program: program.display().to_string(),
                source,
            })?;
        let mut libvirtd = Self {
            supervisor,
            directory,
            uri_qemu: String::new(),
            uri_test: String::new(),
            has_network: false,
        };
        let ready_path = libvirtd.directory.path().join("ready");
        let ready = eventually_blocking("libvirtd being ready", READY, || {
            match std::fs::read_to_string(&ready_path) {
                Ok(text) => Some(Ok(text)),
                Err(_) => libvirtd.supervisor.try_wait().ok().flatten().map(Err),
            }
        });
        let text = match ready {
            Ok(Ok(text)) => text,
            Ok(Err(status)) => {
                return Err(TestbedError::EndedEarly {
                    program: program.display().to_string(),
                    status: status.to_string(),
                    log: std::fs::read_to_string(log.path()).unwrap_or_default(),
                });
            }
            Err(error) => return Err(error),
        };
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_default()
                .to_owned()
        };
        libvirtd.uri_qemu = value("qemu");
        libvirtd.uri_test = value("test");
        libvirtd.has_network = value("network") == "default";
        Ok(libvirtd)
    }

    /// The one that all tests of this process share. Name what you define so that it cannot clash.
    ///
    /// # Errors
    /// As [`Libvirtd::start`]; a failed start is not tried again.
    pub fn shared() -> std::result::Result<&'static Self, &'static TestbedError> {
        static SHARED: OnceLock<Result<Libvirtd>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// URI of the QEMU driver: `qemu+unix:///system?socket=…`.
    pub fn uri_qemu(&self) -> &str {
        &self.uri_qemu
    }

    /// URI of libvirt's test driver inside this daemon: real RPC, no real guests, one state for all clients.
    pub fn uri_test(&self) -> &str {
        &self.uri_test
    }

    /// The directory of the whole instance.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of the pool `default`.
    pub fn pool_dir(&self) -> PathBuf {
        self.dir().join("pool")
    }

    /// Where a guest made from [`super::guest::domain_xml`] writes what it prints on its serial console.
    pub fn serial_log(&self, domain: &str) -> PathBuf {
        self.dir().join("log/serial").join(format!("{domain}.log"))
    }

    /// Whether there is a network `default`; otherwise guests need `<interface type='user'>`.
    pub fn has_network(&self) -> bool {
        self.has_network
    }

    /// Runs virsh on the QEMU driver and gives what it prints.
    ///
    /// # Errors
    /// [`TestbedError::Command`] with libvirt's message.
    pub fn virsh(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new("virsh")
            .args(["-q", "-c", self.uri_qemu()])
            .args(arguments))
    }

    /// Runs virsh on the test driver.
    ///
    /// # Errors
    /// [`TestbedError::Command`] with libvirt's message.
    pub fn virsh_test(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new("virsh")
            .args(["-q", "-c", self.uri_test()])
            .args(arguments))
    }

    /// Defines a domain from XML text.
    ///
    /// # Errors
    /// [`TestbedError::Command`] with libvirt's message.
    pub fn define(&self, xml: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new().map_err(file_error("domain.xml"))?;
        std::fs::write(file.path(), xml).map_err(file_error(file.path()))?;
        self.virsh(&["define", &file.path().to_string_lossy()]).map(drop)
    }

    /// Runs a command inside the namespaces, for example to reach a guest's address or VNC port.
    ///
    /// # Errors
    /// [`TestbedError::Command`].
    pub fn exec(&self, command: &[&str]) -> Result<String> {
        run(self.script("exec").args(command))
    }

    /// The process id of libvirtd itself.
    ///
    /// # Errors
    /// [`TestbedError::Command`] when it does not run.
    pub fn daemon_pid(&self) -> Result<u32> {
        parse_pid(&run(&mut self.script("pid"))?)
    }

    /// The process id of a guest's QEMU.
    ///
    /// # Errors
    /// [`TestbedError::Command`] when it does not run.
    pub fn guest_pid(&self, domain: &str) -> Result<u32> {
        parse_pid(&run(self.script("pid").arg(domain))?)
    }

    /// Kills libvirtd with SIGKILL; guests live on. [`Libvirtd::start_daemon`] brings it back.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill9(&self) -> Result<()> {
        self.end_daemon(Signal::Kill)
    }

    /// Starts libvirtd again after it was ended.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_daemon(&self) -> Result<()> {
        run(&mut self.script("daemon")).map(drop)
    }

    /// Ends libvirtd as a package update does, and starts it again; guests live on.
    ///
    /// # Errors
    /// When it does not run or does not come up.
    pub fn restart(&self) -> Result<()> {
        self.end_daemon(Signal::Terminate)?;
        self.start_daemon()
    }

    /// Halts libvirtd: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn sigstop(&self) -> Result<()> {
        send_signal(self.daemon_pid()?, Signal::Stop)
    }

    /// Lets libvirtd go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn sigcont(&self) -> Result<()> {
        send_signal(self.daemon_pid()?, Signal::Continue)
    }

    fn end_daemon(&self, signal: Signal) -> Result<()> {
        let pid = self.daemon_pid()?;
        send_signal(pid, signal)?;
        let path = PathBuf::from(format!("/proc/{pid}"));
        eventually_blocking("the end of libvirtd", GONE, || (!path.exists()).then_some(()))
    }

    fn script(&self, action: &str) -> Command {
        let mut command = Command::new(script("private-libvirtd.sh"));
        command.arg(action).arg(self.dir());
        command
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        // The end of its standard input makes the script end everything and remove the directory.
        drop(self.supervisor.stdin.take());
        let ended = eventually_blocking("the end of the private libvirtd", GONE, || {
            self.supervisor.try_wait().ok().flatten()
        });
        if ended.is_err() {
            let _ = run(&mut self.script("stop"));
            let _ = self.supervisor.kill();
            let _ = self.supervisor.wait();
        }
    }
}

fn parse_pid(text: &str) -> Result<u32> {
    text.trim().parse().map_err(|_| TestbedError::Answer {
        what: "a process id".to_owned(),
        answer: text.trim().to_owned(),
    })
}
