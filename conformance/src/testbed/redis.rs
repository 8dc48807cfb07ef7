//! A real Redis server with its files in a directory of its own.

use super::error::{Result, TestbedError, file_error};
use super::process::{Process, free_address};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const READY: Duration = Duration::from_secs(20);

/// A running `redis-server` with append-only persistence.
#[derive(Debug)]
pub struct Redis {
    // Before the directory: fields are dropped in this order.
    process: Process,
    address: SocketAddr,
    directory: TempDir,
    settings: Vec<String>,
}

impl Redis {
    /// Starts a server on a free port of loopback: append-only file with fsync on every write, nothing evicted.
    ///
    /// # Errors
    /// When `redis-server` is not installed or does not come up.
    pub fn start() -> Result<Self> {
        Self::start_with(&[
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("maxmemory-policy", "noeviction"),
        ])
    }

    /// Starts a server with settings of `redis.conf`, for tests of what the gateway says about bad ones.
    ///
    /// # Errors
    /// When `redis-server` is not installed or does not come up.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("bv-redis-")
            .tempdir()
            .map_err(file_error("redis"))?;
        let settings: Vec<String> = settings
            .iter()
            .flat_map(|(key, value)| [format!("--{key}"), (*value).to_owned()])
            .collect();
        // A port that was free may be taken a moment later by another test: try again with another.
        let mut attempts = 0;
        loop {
            let address = free_address()?;
            match launch(&directory, address, &settings) {
                Ok(process) => {
                    return Ok(Self {
                        process,
                        address,
                        directory,
                        settings,
                    });
                }
                Err(TestbedError::EndedEarly { .. }) if attempts < 5 => attempts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The address as the gateway's configuration takes it: `redis://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, for signals and its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it with SIGKILL; what was acknowledged is in its files.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Ends it if it runs, and starts it again with the same address and files.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill9();
        self.process = launch(&self.directory, self.address, &self.settings)?;
        Ok(())
    }

    /// Sends one inline command and gives the first bytes of the raw answer, for probes in tests.
    ///
    /// # Errors
    /// When the server cannot be reached within a second.
    pub fn command(&self, line: &str) -> Result<String> {
        exchange(self.address, line).map_err(file_error(self.url()))
    }
}

fn launch(directory: &TempDir, address: SocketAddr, settings: &[String]) -> Result<Process> {
    let mut command = Command::new("redis-server");
    command
        .args([
            "--bind",
            &address.ip().to_string(),
            "--port",
            &address.port().to_string(),
        ])
        .args(["--daemonize", "no", "--save", "", "--dir"])
        .arg(directory.path())
        .args(settings);
    let mut process = Process::start(command, &directory.path().join("redis.log"))?;
    process.wait_ready(READY, || {
        exchange(address, "PING").is_ok_and(|answer| answer.starts_with("+PONG"))
    })?;
    Ok(process)
}

fn exchange(address: SocketAddr, line: &str) -> std::io::Result<String> {
    let second = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, second)?;
    stream.set_read_timeout(Some(second))?;
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    let mut answer = [0_u8; 4096];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
}
