//! Logs: for people on a terminal, JSON lines otherwise. To standard error, so that standard output stays
//! for answers.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::Config;

/// Starts logging as configured; `RUST_LOG` wins over the configured filter.
pub(crate) fn start(config: &Config) {
    let configured = config.log.filter.clone().unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(configured));
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
}
