//! What the header of a qcow2 image says about files outside it.
//!
//! Source: QEMU, "The qcow2 image format": magic at 0, version at 4, backing file offset at 8, size at 24, incompatible
//! features (version 3) at 72, all big-endian.

/// Bytes of an image that are enough to judge it.
pub(crate) const HEADER: usize = 104;

const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Incompatible feature: the data are in another file.
const DATA_FILE: u64 = 1 << 2;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Qcow {
    /// Bytes that a guest sees.
    pub size: u64,
    /// Whether what is not in it is in a backing file.
    pub backing: bool,
    /// Whether its data are in another file.
    pub data_file: bool,
}

/// Reads the beginning of an image; `None` when it is no qcow2 image.
pub(crate) fn read(head: &[u8]) -> Option<Qcow> {
    if head.get(..4)? != MAGIC {
        return None;
    }
    let version = u32::from_be_bytes(head.get(4..8)?.try_into().ok()?);
    let long = |at: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(8)?)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let features = if version >= 3 {
        long(72).unwrap_or(u64::MAX)
    } else {
        0
    };
    Some(Qcow {
        size: long(24)?,
        backing: long(8)? != 0,
        data_file: features & DATA_FILE != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(version: u32, backing: u64, features: u64) -> Vec<u8> {
        let mut head = vec![0_u8; HEADER];
        head[..4].copy_from_slice(&MAGIC);
        head[4..8].copy_from_slice(&version.to_be_bytes());
        head[8..16].copy_from_slice(&backing.to_be_bytes());
        head[24..32].copy_from_slice(&(5_u64 << 30).to_be_bytes());
        head[72..80].copy_from_slice(&features.to_be_bytes());
        head
    }

    #[test]
    fn references_to_other_files_are_seen() {
        let plain = read(&image(3, 0, 0)).unwrap();
        assert_eq!(
            (plain.size, plain.backing, plain.data_file),
            (5 << 30, false, false)
        );
        assert!(read(&image(3, 200, 0)).unwrap().backing);
        assert!(read(&image(3, 0, 4)).unwrap().data_file);
        // Version 2 has no feature bits: what stands there is something else.
        assert!(!read(&image(2, 0, 4)).unwrap().data_file);
    }

    #[test]
    fn what_is_no_image_is_none_and_what_is_cut_short_is_not_trusted() {
        assert_eq!(read(b"not an image at all, but long enough"), None);
        assert_eq!(read(b"QF"), None);
        assert_eq!(read(&image(3, 0, 0)[..20]), None);
        assert!(read(&image(3, 0, 0)[..40]).unwrap().data_file);
    }
}
