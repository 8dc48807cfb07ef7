//! libvirt's XML, read and written through a real XML library and typed structs.
//!
//! [`tree`] keeps a document whole; [`view`] reads what the gateway knows of a domain; [`edit`] changes one thing
//! and leaves the rest; [`build`] makes new definitions and devices; [`host`] reads capabilities, pools, volumes and networks;
//! [`canon`] compares two documents by meaning.

pub mod build;
pub mod canon;
mod devices;
pub mod edit;
pub mod host;
mod parts;
pub mod tree;
pub mod units;
pub mod view;

pub use build::{DiskSource, DiskSpec, DomainSpec, GraphicsSpec, NicSource, NicSpec, VideoSpec};
pub use edit::DomainDocument;
pub use tree::{Element, Node};
pub use view::DomainXml;

/// The namespace of our own metadata element inside a domain definition.
pub const METADATA_NAMESPACE: &str = "urn:babelvisor:domain:1";
/// The prefix that we write for it; any prefix is understood.
pub const METADATA_PREFIX: &str = "babelvisor";

/// What can be wrong with a document or with a text that should go into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed, or uses something that is not accepted.
    #[error("the XML is not well-formed: {0}")]
    Malformed(String),
    /// More bytes than are read.
    #[error("the XML has {bytes} bytes; at most {limit} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Nested too deeply.
    #[error("the XML is nested more than {limit} levels deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A text has a character that XML 1.0 cannot carry.
    #[error("{field} has the character U+{code:04X}, which cannot be written in XML")]
    BadCharacter {
        /// Where the text was meant to go.
        field: String,
        /// The character's code point.
        code: u32,
    },
    /// A required part is missing or has an impossible value.
    #[error("the domain definition has no usable {0}")]
    Missing(String),
    /// The change would contradict something else in this definition.
    #[error("{0}")]
    Conflict(String),
}

/// Checks that a text can be carried by XML 1.0: no NUL, no control characters except tab, newline and return.
///
/// # Errors
/// [`XmlError::BadCharacter`] with `field` and the first offending character.
pub fn check_text(field: &str, text: &str) -> Result<(), XmlError> {
    let bad = |c: char| matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    match text.chars().find(|c| bad(*c)) {
        Some(c) => Err(XmlError::BadCharacter {
            field: field.to_owned(),
            code: u32::from(c),
        }),
        None => Ok(()),
    }
}
