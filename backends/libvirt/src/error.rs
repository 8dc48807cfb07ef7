//! libvirt's errors as the core's: one table, walked by one function.

use babelvisor_core::{Error, ErrorKind};

use crate::connection::CallError;
use crate::quirks::Quirks;

/// libvirt's error numbers that mean one thing to the core, wherever they come from. Source: `virErrorNumber`, and
/// what libvirt 9.0 was seen to answer.
const KINDS: &[(u32, ErrorKind)] = &[
    (2, ErrorKind::NoResources),         // NO_MEMORY
    (3, ErrorKind::Unsupported),         // NO_SUPPORT
    (8, ErrorKind::InvalidInput),        // INVALID_ARG
    (27, ErrorKind::InvalidInput),       // XML_ERROR
    (28, ErrorKind::AlreadyExists),      // DOM_EXIST
    (29, ErrorKind::Forbidden),          // OPERATION_DENIED
    (35, ErrorKind::InvalidInput),       // XML_DETAIL
    (42, ErrorKind::NotFound),           // NO_DOMAIN
    (43, ErrorKind::NotFound),           // NO_NETWORK
    (44, ErrorKind::InvalidInput),       // INVALID_MAC
    (45, ErrorKind::BackendUnavailable), // AUTH_FAILED: the gateway's own credentials, not the caller's
    (49, ErrorKind::NotFound),           // NO_STORAGE_POOL
    (50, ErrorKind::NotFound),           // NO_STORAGE_VOL
    (55, ErrorKind::IllegalState),       // OPERATION_INVALID
    (67, ErrorKind::Unsupported),        // CONFIG_UNSUPPORTED
    (68, ErrorKind::Timeout),            // OPERATION_TIMEOUT: another call holds the domain
    (72, ErrorKind::NotFound),           // NO_DOMAIN_SNAPSHOT
    (74, ErrorKind::Unsupported),        // ARGUMENT_UNSUPPORTED
    (78, ErrorKind::Conflict),           // OPERATION_ABORTED
    (81, ErrorKind::Unsupported),        // MIGRATE_UNSAFE
    (82, ErrorKind::InvalidInput),       // OVERFLOW
    (84, ErrorKind::Unsupported),        // OPERATION_UNSUPPORTED
    (86, ErrorKind::Timeout),            // AGENT_UNRESPONSIVE
    (87, ErrorKind::Busy),               // RESOURCE_BUSY
    (88, ErrorKind::Forbidden),          // ACCESS_DENIED
    (90, ErrorKind::AlreadyExists),      // STORAGE_VOL_EXIST
    (92, ErrorKind::InvalidInput),       // XML_INVALID_SCHEMA
    (99, ErrorKind::NotFound),           // DEVICE_MISSING
];

/// `VIR_FROM_RPC`: the error is about the connection, not about what was asked.
const DOMAIN_RPC: u32 = 7;
/// `VIR_FROM_REMOTE`: likewise, from the client side.
const DOMAIN_REMOTE: u32 = 13;

/// Texts of code 9 (OPERATION_FAILED) and 1 (INTERNAL_ERROR) that say what the number does not.
const PHRASES: &[(&str, ErrorKind)] = &[
    ("already exists", ErrorKind::AlreadyExists),
    ("already in use by", ErrorKind::AlreadyExists),
    ("is already defined with uuid", ErrorKind::AlreadyExists),
    // QEMU takes a display's password only if it was started with one.
    ("Could not set password", ErrorKind::IllegalState),
    ("Cannot allocate memory", ErrorKind::NoResources),
    ("No space left on device", ErrorKind::NoResources),
    ("cannot set up guest memory", ErrorKind::NoResources),
    ("is not running", ErrorKind::IllegalState),
    ("is already running", ErrorKind::IllegalState),
    ("is already active", ErrorKind::IllegalState),
    ("is not active", ErrorKind::IllegalState),
];

/// libvirt's number of an error.
pub fn code(error: &virt::error::Error) -> u32 {
    error.code().to_raw()
}

/// Whether the error is about the connection.
pub fn is_connection(error: &virt::error::Error) -> bool {
    matches!(error.domain().to_raw(), DOMAIN_RPC | DOMAIN_REMOTE) && matches!(code(error), 1 | 38 | 39)
}

/// The core's kind of a libvirt error.
pub fn kind(error: &virt::error::Error, quirks: Quirks) -> ErrorKind {
    if is_connection(error) {
        return ErrorKind::BackendUnavailable;
    }
    let number = code(error);
    if let Some((_, kind)) = KINDS.iter().find(|(n, _)| *n == number) {
        return *kind;
    }
    let phrase = PHRASES.iter().find(|(text, _)| error.message().contains(text));
    match (phrase, number) {
        (Some((_, kind)), _) => *kind,
        (None, 1) if quirks.internal_error_is_state => ErrorKind::IllegalState,
        (None, _) => ErrorKind::Internal,
    }
}

/// A failed call as an error of the core, about `noun` `id`.
pub fn convert(error: CallError, quirks: Quirks, noun: &str, id: impl std::fmt::Display) -> Error {
    let plain = |kind, detail: String| Error::new(kind, detail);
    match error {
        CallError::Refused(error) => error,
        CallError::Libvirt(error) => {
            // The message names objects and reasons; libvirt never puts passwords into it.
            plain(
                kind(&error, quirks),
                format!("libvirt: {} (code {})", error.message(), code(&error)),
            )
            .about(noun, id)
        }
        CallError::Xml(error) => {
            let field = match &error {
                crate::xml::XmlError::BadCharacter { field, .. } => Some(field.clone()),
                crate::xml::XmlError::Malformed(_)
                | crate::xml::XmlError::TooLarge { .. }
                | crate::xml::XmlError::TooDeep { .. }
                | crate::xml::XmlError::Missing(_)
                | crate::xml::XmlError::Conflict(_) => None,
            };
            let kind = match &error {
                crate::xml::XmlError::BadCharacter { .. } => ErrorKind::InvalidInput,
                crate::xml::XmlError::Conflict(_) => ErrorKind::Unsupported,
                crate::xml::XmlError::Malformed(_)
                | crate::xml::XmlError::TooLarge { .. }
                | crate::xml::XmlError::TooDeep { .. }
                | crate::xml::XmlError::Missing(_) => ErrorKind::Internal,
            };
            Error {
                field,
                ..plain(kind, error.to_string()).about(noun, id)
            }
        }
        error @ CallError::Timeout(_) => plain(ErrorKind::Timeout, error.to_string()).about(noun, id),
        error @ CallError::Busy { .. } => plain(ErrorKind::Busy, error.to_string()).about(noun, id),
        error @ CallError::Down(_) => plain(ErrorKind::BackendUnavailable, error.to_string()),
        error @ CallError::Crashed => plain(ErrorKind::Internal, error.to_string()).about(noun, id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_listed_twice() {
        for (at, (number, _)) in KINDS.iter().enumerate() {
            assert!(KINDS.iter().skip(at + 1).all(|(n, _)| n != number), "{number}");
        }
    }

    #[test]
    fn the_numbers_are_libvirts() {
        use virt_sys as sys;
        assert_eq!(sys::VIR_ERR_NO_DOMAIN, 42);
        assert_eq!(sys::VIR_ERR_OPERATION_INVALID, 55);
        assert_eq!(sys::VIR_ERR_STORAGE_VOL_EXIST, 90);
        assert_eq!(sys::VIR_ERR_NO_STORAGE_POOL, 49);
        assert_eq!(sys::VIR_ERR_NO_STORAGE_VOL, 50);
        assert_eq!(sys::VIR_ERR_DEVICE_MISSING, 99);
        assert_eq!(sys::VIR_ERR_RESOURCE_BUSY, 87);
        assert_eq!(sys::VIR_ERR_ACCESS_DENIED, 88);
        assert_eq!(sys::VIR_ERR_OVERFLOW, 82);
        assert_eq!(sys::VIR_ERR_XML_INVALID_SCHEMA, 92);
        assert_eq!(sys::VIR_ERR_INVALID_MAC, 44);
        assert_eq!(sys::VIR_ERR_NO_NETWORK, 43);
        assert_eq!(sys::VIR_ERR_AUTH_FAILED, 45);
        assert_eq!(sys::VIR_ERR_DOM_EXIST, 28);
        assert_eq!(sys::VIR_ERR_OPERATION_DENIED, 29);
        assert_eq!(sys::VIR_ERR_XML_DETAIL, 35);
        assert_eq!(sys::VIR_FROM_RPC, DOMAIN_RPC);
        assert_eq!(sys::VIR_FROM_REMOTE, DOMAIN_REMOTE);
    }
}
