//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::conformance::{self, ConformanceCommand};
use crate::{account, config, coverage, serve};

/// What a command fails with: a text for people that says what to do.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Old clients keep their VM-management API; the machines live on libvirt or Proxmox VE.
///
/// Without a configuration file, `babelvisor serve` answers all dialects on 127.0.0.1:8080, operators on
/// 127.0.0.1:9080, keeps its state in an embedded store, and drives the local libvirt:
///
///     babelvisor serve
///     curl http://127.0.0.1:8080/api/guests            # Guest REST
///     curl http://127.0.0.1:9080/readyz
///
/// Dialects with a sign-in need an account first:
///
///     babelvisor account add A10000001 --secret-file secret.txt
#[derive(Parser)]
#[command(version = serve::VERSION, verbatim_doc_comment, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT; it then drains and ends with 0
    Serve(ServeOptions),
    /// Read the configuration as `serve` would, say what is wrong, start nothing
    CheckConfig(ServeOptions),
    /// Accounts for dialects that sign in
    #[command(subcommand)]
    Account(AccountCommand),
    /// Every documented operation, whether it is built, and on which backends it was verified; needs nothing
    Coverage {
        /// How to print it
        #[arg(long, value_enum, default_value = "text")]
        format: CoverageFormat,
    },
    /// Hold a target to a dialect's contract
    #[command(subcommand)]
    Conformance(ConformanceCommand),
    /// What every dialect answers to every kind of failure, as the page docs/error-atlas.md
    Atlas,
    /// Name, version and build
    Version,
}

/// Where the configuration is and what overrides it.
#[derive(Args, Default, Clone)]
pub(crate) struct ConfigOption {
    /// The configuration (TOML); without it, built-in defaults
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for the store and the key; overrides `state_dir`
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// `serve`'s options: each overrides the configuration. `check-config` takes the same.
#[derive(Args, Default, Clone)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    pub(crate) common: ConfigOption,
    /// A libvirt host to drive, in place of the configured backends; may be given several times
    #[arg(long, value_name = "URI")]
    pub(crate) libvirt: Vec<String>,
    /// How new machines on those hosts run; `auto` takes KVM where the host says that it has it
    #[arg(long, value_enum, requires = "libvirt")]
    pub(crate) accel: Option<AccelName>,
    /// Where all dialects listen, in place of the configured listeners
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where operators' calls are answered
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
    /// A TOML file of [[image]] and [[flavor]] entries, besides those of the configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) catalogue: Option<PathBuf>,
}

#[derive(Subcommand)]
enum AccountCommand {
    /// Make an account; the secret comes from a file, or is made and printed once
    Add(AddAccount),
}

/// A new account.
#[derive(Args)]
pub(crate) struct AddAccount {
    /// Login name, or account number
    pub(crate) name: String,
    /// Whose machines it sees
    #[arg(long, default_value = "default")]
    pub(crate) tenant: String,
    /// What it may do
    #[arg(long, value_enum, default_value = "user")]
    pub(crate) role: RoleName,
    /// File whose first line is the secret (`-`: standard input); without it, one is made
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Most machines the tenant may have
    #[arg(long)]
    pub(crate) vm_quota: Option<u32>,
    /// The holder's identity was not verified (some dialects then refuse to rent)
    #[arg(long)]
    pub(crate) unverified: bool,
    #[command(flatten)]
    pub(crate) common: ConfigOption,
}

/// How new machines run.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum AccelName {
    /// KVM where the host has it, else QEMU's translator
    Auto,
    /// Hardware virtualisation
    Kvm,
    /// QEMU's translator
    Tcg,
}

/// What an account may do.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RoleName {
    /// Everything, in every tenant
    Admin,
    /// Everything in its own tenant
    User,
    /// Read in its own tenant
    Viewer,
}

/// How `coverage` prints.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum CoverageFormat {
    /// A table
    Text,
    /// Markdown, as in the README
    Markdown,
    /// JSON
    Json,
}

/// Does what the command line says. Only `conformance` ends with a code of its own.
///
/// # Errors
/// A text for people.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let done = match arguments.command {
        Command::Serve(options) => serve::run(&options),
        Command::CheckConfig(options) => {
            let config = config::load(&options)?;
            print(&config.summary());
            Ok(())
        }
        Command::Account(AccountCommand::Add(new)) => account::add(&new),
        Command::Coverage { format } => {
            print(&match format {
                CoverageFormat::Text => coverage::text(),
                CoverageFormat::Markdown => coverage::markdown(),
                CoverageFormat::Json => coverage::json().to_string(),
            });
            Ok(())
        }
        Command::Conformance(command) => return conformance::run(&command),
        Command::Atlas => {
            print(babelvisor_schemas::atlas().trim_end());
            Ok(())
        }
        Command::Version => {
            print(&format!("babelvisor {}", serve::VERSION));
            Ok(())
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// A command's answer, on standard output. A reader that went away (`| head`) is not an error.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}
