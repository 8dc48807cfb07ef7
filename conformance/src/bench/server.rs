//! The servers that are measured, each a process on the processor that is set aside for servers.

use super::Outcome;
use super::load::Target;
use babelvisor_conformance::testbed::Gateway;
use babelvisor_conformance::testbed::process::{self, free_address};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Names the processor for servers; without it they run wherever the system puts them.
const SERVER_CPU: &str = "BENCH_SERVER_CPU";

/// Who signs in where a dialect wants that.
pub(crate) const USER: &str = "bench";
/// That account's password.
pub(crate) const PASSWORD: &str = "Tide-table-3";

/// The programs to measure, wrapped so that they stay on their processor from their first instruction.
pub(crate) struct Programs {
    directory: TempDir,
    gateway: PathBuf,
}

impl Programs {
    /// Wraps the gateway's binary.
    pub(crate) fn new(gateway: &Path) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let gateway = pinned(&directory, "gateway", gateway)?;
        Ok(Self { directory, gateway })
    }

    /// A running gateway.
    pub(crate) fn gateway(&self, config: &str) -> Outcome<Gateway> {
        let builder = Gateway::builder(&self.gateway).config(config);
        Ok(builder.account(USER, PASSWORD, &[]).start()?)
    }

    /// This program as a bare server that answers everything with `body`.
    pub(crate) fn bare(&self, body: &[u8]) -> Outcome<Bare> {
        let program = pinned(&self.directory, "bare", &std::env::current_exe()?)?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("body");
        std::fs::write(&file, body)?;
        let address = free_address()?;
        let mut command = Command::new(program);
        command.args(["bare", &address.to_string()]).arg(&file);
        let mut process = process::Process::start(command, &directory.path().join("log"))?;
        process.wait_ready(Duration::from_secs(10), || {
            std::net::TcpStream::connect(address).is_ok()
        })?;
        let pid = process.pid();
        Ok(Bare {
            target: Target { address, pid },
            _process: process,
            _directory: directory,
        })
    }
}

/// A running bare server.
pub(crate) struct Bare {
    pub(crate) target: Target,
    _process: process::Process,
    _directory: TempDir,
}

/// A script that becomes the program, on the processor for servers where there is one.
fn pinned(directory: &TempDir, name: &str, program: &Path) -> Outcome<PathBuf> {
    let Ok(cpu) = std::env::var(SERVER_CPU) else {
        return Ok(program.to_owned());
    };
    let path = directory.path().join(name);
    let program = program.to_str().ok_or("the program's path is not text")?;
    std::fs::write(
        &path,
        format!("#!/bin/sh\nexec taskset -c '{cpu}' '{program}' \"$@\"\n"),
    )?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Time that a process has spent on processors, over all its threads.
pub(crate) fn cpu_time(pid: u32) -> Outcome<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        nanos += text
            .split(' ')
            .next()
            .unwrap_or_default()
            .parse::<u64>()
            .unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanos))
}

/// Memory that a process holds, in kB.
pub(crate) fn resident(pid: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.ok_or("no VmRSS")?.parse()?)
}
