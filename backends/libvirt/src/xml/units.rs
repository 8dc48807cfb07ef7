//! libvirt's memory units, read as bytes and written as KiB.
//!
//! Source: libvirt "Domain XML format", memory allocation: a unit may be given in powers of ten or of two; without
//! one the number is KiB.

use super::XmlError;
use super::tree::Element;

/// How many bytes one unit is. Names are compared without case, as libvirt does.
const UNITS: &[(&str, u64)] = &[
    ("b", 1),
    ("byte", 1),
    ("bytes", 1),
    ("kb", 1_000),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("mb", 1_000_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("gb", 1_000_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("pb", 1_000_000_000_000_000),
    ("p", 1 << 50),
    ("pib", 1 << 50),
    ("eb", 1_000_000_000_000_000_000),
    ("e", 1 << 60),
    ("eib", 1 << 60),
];

/// The size that an element like `<memory unit='KiB'>…</memory>` states, in bytes. `default_unit` applies where it
/// has no `unit`: `KiB` for memory, `bytes` for storage.
///
/// # Errors
/// [`XmlError::Missing`] when the number or the unit cannot be read or overflows.
pub fn bytes_of(element: &Element, default_unit: &str) -> Result<u64, XmlError> {
    let unit = element.attr("unit").unwrap_or(default_unit).to_ascii_lowercase();
    let text = element.own_text();
    let bad = || XmlError::Missing(format!("<{}> (read {:?} {unit:?})", element.name, text.trim()));
    let factor = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
        .ok_or_else(bad)?;
    let number: u64 = text.trim().parse().map_err(|_| bad())?;
    number.checked_mul(factor).ok_or_else(bad)
}

/// Bytes as whole KiB, rounded up: libvirt's granularity for memory.
pub fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(unit: Option<&str>, text: &str) -> Element {
        Element::new("memory").with_opt("unit", unit).text(text)
    }

    #[test]
    fn every_unit_of_the_documentation_is_understood() {
        assert_eq!(bytes_of(&memory(None, " 2 "), "KiB").unwrap(), 2048);
        assert_eq!(bytes_of(&memory(Some("bytes"), "17"), "KiB").unwrap(), 17);
        assert_eq!(bytes_of(&memory(Some("KB"), "2"), "KiB").unwrap(), 2000);
        assert_eq!(bytes_of(&memory(Some("MiB"), "2"), "KiB").unwrap(), 2 << 20);
        assert_eq!(bytes_of(&memory(Some("G"), "2"), "KiB").unwrap(), 2 << 30);
        assert_eq!(
            bytes_of(&memory(Some("TB"), "1"), "KiB").unwrap(),
            1_000_000_000_000
        );
    }

    #[test]
    fn absurd_sizes_are_refused_and_not_wrapped() {
        assert!(bytes_of(&memory(Some("EiB"), "999"), "KiB").is_err());
        assert!(bytes_of(&memory(Some("furlong"), "1"), "KiB").is_err());
        assert!(bytes_of(&memory(None, "-1"), "KiB").is_err());
    }

    #[test]
    fn bytes_round_up_to_kib() {
        assert_eq!(kib(1), 1);
        assert_eq!(kib(1024), 1);
        assert_eq!(kib(1025), 2);
    }
}
