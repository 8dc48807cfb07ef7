//! Logs: for people on a terminal, JSON lines otherwise. To standard error, so that standard output stays
//! for answers.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::cli::Failure;
use crate::config::Config;

/// Starts logging as configured; `RUST_LOG` wins over the configured filter.
///
/// # Errors
/// A text for people: a filter that cannot be read.
pub(crate) fn start(config: &Config) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) => EnvFilter::try_new(text).map_err(|error| format!("RUST_LOG: {error}"))?,
        Err(_) => {
            let configured = config.log.filter.as_deref().unwrap_or("info");
            EnvFilter::try_new(configured).map_err(|error| format!("log.filter: {error}"))?
        }
    };
    let human = match config.log.format {
        Some(format) => format == crate::config::LogFormat::Human,
        None => std::io::stderr().is_terminal(),
    };
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if human {
        log.with_ansi(std::io::stderr().is_terminal()).init();
    } else {
        // The one span there is, the request's, once and not again as a list.
        log.json().flatten_event(true).with_span_list(false).init();
    }
    Ok(())
}
