//! What can go wrong on the test bed, said so that the reader of a test log knows what to do.

use std::path::PathBuf;
use std::time::Duration;

/// The result of everything on the test bed.
pub type Result<T, E = TestbedError> = std::result::Result<T, E>;

/// Why a part of the test bed could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// A program could not be started at all; most often it is not installed.
    #[error("cannot start {program}: {source}; scripts/install.sh installs what the tests need")]
    Spawn {
        /// Path or name of the program.
        program: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A program ran and reported failure.
    #[error("{command} failed ({status}): {output}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it printed, standard error last.
        output: String,
    },
    /// A process ended before it was ready.
    #[error("{program} ended early ({status}); its log says:\n{log}")]
    EndedEarly {
        /// Path or name of the program.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Something that was waited for did not happen in time.
    #[error("{what} did not happen within {waited:?}{detail}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// More that helps, empty or beginning with a separator.
        detail: String,
    },
    /// A file of the test bed could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// An HTTP exchange broke.
    #[error("{method} {url}: {reason}")]
    Http {
        /// The method.
        method: String,
        /// Address and path.
        url: String,
        /// What broke.
        reason: String,
    },
    /// An answer was not what the protocol promises, for example no JSON where JSON was expected.
    #[error("unexpected answer to {what}: {answer}")]
    Answer {
        /// What was asked.
        what: String,
        /// What came.
        answer: String,
    },
}

/// Adds the path to a file error.
pub(crate) fn file_error(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> TestbedError {
    let path = path.into();
    move |source| TestbedError::File { path, source }
}
