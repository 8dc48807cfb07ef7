//! The gateway's real binary, run as an operator runs it.

use super::error::{Result, file_error};
use super::process::{Process, free_address};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;

const READY: Duration = Duration::from_secs(60);

/// How a gateway shall be run; [`GatewayBuilder::start`] starts it.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before `start`"]
pub struct GatewayBuilder {
    binary: PathBuf,
    config: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    accounts: Vec<NewAccount>,
    wait_ready: bool,
}

/// An account as an operator makes it, before the gateway is started.
#[derive(Debug, Clone)]
struct NewAccount {
    name: String,
    secret: String,
    arguments: Vec<String>,
}

impl GatewayBuilder {
    /// The configuration file's text. `{listen}`, `{admin}` and `{state}` are replaced by the addresses and the directory
    /// of this instance, `{port}` by a free port each time it appears. Without a text no `--config` is passed.
    pub fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// Adds arguments after `serve`; the same words are replaced as in the configuration.
    pub fn args<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes an account with `babelvisor account add` before the start; `arguments` are the command's further ones.
    pub fn account(mut self, name: &str, secret: &str, arguments: &[&str]) -> Self {
        self.accounts.push(NewAccount {
            name: name.to_owned(),
            secret: secret.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        });
        self
    }

    /// Returns from `start` as soon as the process runs, for gateways that are meant to fail.
    pub fn without_waiting(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// Starts the gateway and waits until `/readyz` on its admin address answers 200.
    ///
    /// # Errors
    /// When the binary cannot be started, ends early (its log is in the error) or is not ready within 60 s.
    pub fn start(self) -> Result<Gateway> {
        let directory = tempfile::Builder::new()
            .prefix("bv-gateway-")
            .tempdir()
            .map_err(file_error("gateway"))?;
        let (listen, admin) = (free_address()?, free_address()?);
        let state = directory.path().join("state");
        std::fs::create_dir(&state).map_err(file_error(&state))?;
        let fill = |text: &str| -> Result<String> {
            let mut text = text
                .replace("{listen}", &listen.to_string())
                .replace("{admin}", &admin.to_string())
                .replace("{state}", &state.to_string_lossy());
            while text.contains("{port}") {
                text = text.replacen("{port}", &free_address()?.port().to_string(), 1);
            }
            Ok(text)
        };
        let mut arguments = vec!["serve".to_owned()];
        if let Some(text) = &self.config {
            let path = directory.path().join("gateway.toml");
            std::fs::write(&path, fill(text)?).map_err(file_error(&path))?;
            arguments.extend(["--config".to_owned(), path.to_string_lossy().into_owned()]);
        }
        arguments.extend(["--listen".to_owned(), listen.to_string()]);
        arguments.extend(["--admin".to_owned(), admin.to_string()]);
        arguments.extend(["--state-dir".to_owned(), state.to_string_lossy().into_owned()]);
        for argument in &self.arguments {
            arguments.push(fill(argument)?);
        }
        for account in &self.accounts {
            account.add(&self.binary, directory.path(), &state)?;
        }
        let setup = Setup {
            binary: self.binary,
            arguments,
            environment: self.environment,
            admin,
        };
        let process = setup.launch(directory.path(), self.wait_ready)?;
        Ok(Gateway {
            process,
            setup,
            listen,
            state,
            directory,
        })
    }
}

impl NewAccount {
    fn add(&self, binary: &Path, directory: &Path, state: &Path) -> Result<()> {
        let secret = directory.join("account.secret");
        std::fs::write(&secret, format!("{}\n", self.secret)).map_err(file_error(&secret))?;
        let mut command = Command::new(binary);
        command.args(["account", "add", &self.name]).args(&self.arguments);
        command.arg("--secret-file").arg(&secret);
        command.arg("--state-dir").arg(state);
        let config = directory.join("gateway.toml");
        if config.exists() {
            command.arg("--config").arg(&config);
        }
        let made = super::process::run(&mut command);
        std::fs::remove_file(&secret).map_err(file_error(&secret))?;
        made.map(|_| ())
    }
}

#[derive(Debug)]
struct Setup {
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    admin: SocketAddr,
}

impl Setup {
    fn launch(&self, directory: &Path, wait_ready: bool) -> Result<Process> {
        let mut command = Command::new(&self.binary);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start(command, &directory.join("gateway.log"))?;
        if wait_ready {
            process.wait_ready(READY, || probe(self.admin, "/readyz") == Some(200))?;
        }
        Ok(process)
    }
}

/// A running gateway; dropping it kills it and removes its files.
#[derive(Debug)]
pub struct Gateway {
    // Before the directory: fields are dropped in this order.
    process: Process,
    setup: Setup,
    listen: SocketAddr,
    state: PathBuf,
    directory: TempDir,
}

impl Gateway {
    /// Begins with a path to the binary; in tests of the crate `babelvisor` that is `env!("CARGO_BIN_EXE_babelvisor")`.
    pub fn builder(binary: impl Into<PathBuf>) -> GatewayBuilder {
        GatewayBuilder {
            binary: binary.into(),
            config: None,
            accounts: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            wait_ready: true,
        }
    }

    /// Where the dialects listen.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Where the admin calls listen.
    pub fn admin(&self) -> SocketAddr {
        self.setup.admin
    }

    /// The state directory, kept over restarts.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// All that it has logged, over all restarts.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The process, for its id and for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Waits until it ends by itself, for crash points and bad configurations.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.wait_exit(deadline)
    }

    /// Sets or removes an environment variable for the next [`Gateway::restart`].
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.setup.environment.retain(|(known, _)| known != name);
        if let Some(value) = value {
            self.setup.environment.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Kills it if it runs, and starts it again with the same configuration, addresses and state.
    ///
    /// # Errors
    /// As [`GatewayBuilder::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill9();
        self.process = self.setup.launch(self.directory.path(), true)?;
        Ok(())
    }
}

/// The status of a GET, or nothing when there is no answer yet.
fn probe(address: SocketAddr, path: &str) -> Option<u16> {
    let second = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&address, second).ok()?;
    stream.set_read_timeout(Some(second)).ok()?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream.take(64).read_to_string(&mut answer).ok()?;
    answer.split_whitespace().nth(1)?.parse().ok()
}
