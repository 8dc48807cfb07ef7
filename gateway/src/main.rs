//! The binary `babelvisor`: the only crate that knows every other.
//!
//! ```text
//! cli ─▶ config ─▶ assemble ─▶ serve
//!          │          ├ store, keyring, registry, inventory, engine, core
//!          │          ├ backends            (one per [[backend]])
//!          │          ├ frontends, listeners (one per [[listen]])
//!          │          ╰ admin listener
//!          ╰─▶ check-config        coverage, version, account: need less
//! ```

mod account;
mod admin;
mod assemble;
mod cli;
mod config;
mod conformance;
mod conformance_backend;
mod coverage;
mod logging;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            // The one place where a failed command speaks to a person on a terminal.
            eprintln!("babelvisor: {error}");
            ExitCode::FAILURE
        }
    }
}
