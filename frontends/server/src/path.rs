//! Paths of strangers: decoded once, segment by segment, and refused when they try to be something else.
//!
//! A path that holds no percent sign is borrowed as it came, so that the common case costs one scan.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Stands for an encoded slash (`%2F`) while a path is routed, so that it stays inside its segment. No other path
/// can hold it: control characters are refused.
pub(crate) const SLASH_MARK: char = '\u{1f}';

/// Decodes and vets `raw`. In the result, `%2F` is [`SLASH_MARK`].
///
/// Refused, with the reason as text: anything that does not begin with a slash, `.` and `..` segments in any
/// spelling, control characters (NUL among them), percent signs without two hexadecimal digits, and bytes that
/// are not UTF-8.
pub(crate) fn clean(raw: &str) -> Result<Cow<'_, str>, &'static str> {
    if !raw.starts_with('/') {
        return Err("the path does not begin with a slash");
    }
    if raw.contains(char::is_control) {
        return Err("the path holds a control character");
    }
    if !raw.contains('%') {
        vet_segments(raw)?;
        return Ok(Cow::Borrowed(raw));
    }
    let mut clean = String::with_capacity(raw.len());
    for (position, segment) in raw.split('/').enumerate() {
        if position > 0 {
            clean.push('/');
        }
        vet_percent_signs(segment)?;
        let decoded = percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| "the path is not UTF-8")?;
        if decoded.contains(char::is_control) {
            return Err("the path holds a control character");
        }
        clean.extend(decoded.chars().map(|c| if c == '/' { SLASH_MARK } else { c }));
    }
    vet_segments(&clean)?;
    Ok(Cow::Owned(clean))
}

/// The path as a dialect may see and print it: an encoded slash is `%2F` again.
pub(crate) fn printable(clean: &str) -> String {
    if clean.contains(SLASH_MARK) {
        clean.replace(SLASH_MARK, "%2F")
    } else {
        clean.to_owned()
    }
}

/// Gives a path parameter its real slashes back.
pub(crate) fn restore_slashes(value: &mut String) {
    if value.contains(SLASH_MARK) {
        *value = value.replace(SLASH_MARK, "/");
    }
}

/// Refuses a query that is not UTF-8 once decoded, or that holds NUL. Lone percent signs pass: links of Guest REST
/// are printed unencoded, so that a filter may hold one.
pub(crate) fn vet_query(query: &str) -> Result<(), &'static str> {
    if !query.contains('%') {
        return Ok(());
    }
    let decoded = percent_decode_str(query)
        .decode_utf8()
        .map_err(|_| "the query is not UTF-8")?;
    if decoded.contains('\0') {
        return Err("the query holds a NUL character");
    }
    Ok(())
}

fn vet_segments(clean: &str) -> Result<(), &'static str> {
    // A marked slash splits here as well: `..%2F..` is the same trick.
    let dots = |segment: &str| segment == "." || segment == "..";
    if clean.contains("/.") || clean.contains(SLASH_MARK) {
        let tricky = clean.split(['/', SLASH_MARK]).any(dots);
        if tricky {
            return Err("the path holds a '.' or '..' segment");
        }
    }
    Ok(())
}

fn vet_percent_signs(segment: &str) -> Result<(), &'static str> {
    let mut rest = segment.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let digits = rest.get(at + 1..at + 3);
        if !digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)) {
            return Err("the path holds a percent sign without two hexadecimal digits");
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_are_borrowed_as_they_came() {
        assert!(matches!(
            clean("/api/guest/x.y"),
            Ok(Cow::Borrowed("/api/guest/x.y"))
        ));
        assert_eq!(clean("/api//guests/").unwrap(), "/api//guests/");
    }

    #[test]
    fn segments_are_decoded_exactly_once() {
        assert_eq!(clean("/a/%E4%BA%91").unwrap(), "/a/云");
        assert_eq!(clean("/a/%2541").unwrap(), "/a/%41");
    }

    #[test]
    fn an_encoded_slash_stays_inside_its_segment() {
        let path = clean("/a/b%2fc/d").unwrap();
        assert_eq!(path.split('/').count(), 4);
        assert_eq!(printable(&path), "/a/b%2Fc/d");
        let mut parameter = path.split('/').nth(2).unwrap().to_owned();
        restore_slashes(&mut parameter);
        assert_eq!(parameter, "b/c");
    }

    #[test]
    fn tricks_are_refused() {
        for trick in [
            "/a/../b",
            "/..",
            "/./a",
            "/a/.",
            "/%2e%2e/b",
            "/.%2E/b",
            "/a/%2e",
            "/a%00b",
            "/a/%0a",
            "/a/%1f",
            "/a/..%2f..%2fetc",
            "/%ff%fe",
            "/%c0%ae%c0%ae/",
            "/a/%",
            "/a/%4",
            "/a/%zz",
            "*",
            "",
            "a/b",
        ] {
            assert!(clean(trick).is_err(), "{trick} must be refused");
        }
    }

    #[test]
    fn dots_inside_names_are_fine() {
        for name in ["/a/...", "/a/.hidden", "/a/b..c", "/a/..b"] {
            assert!(clean(name).is_ok(), "{name} is an ordinary name");
        }
    }

    #[test]
    fn queries_may_hold_lone_percent_signs_but_no_nul_and_no_foreign_bytes() {
        assert!(vet_query("filter=name:like:50%").is_ok());
        assert!(vet_query("a=%E4%BA%91").is_ok());
        assert!(vet_query("a=%00").is_err());
        assert!(vet_query("a=%ff").is_err());
    }

    proptest! {
        #[test]
        fn what_passes_is_harmless(raw in "/[a-z0-9./%2eE0fF]{0,40}") {
            if let Ok(path) = clean(&raw) {
                prop_assert!(!path.contains('\0'));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert_eq!(path.split('/').count(), raw.split('/').count());
            }
        }
    }
}
