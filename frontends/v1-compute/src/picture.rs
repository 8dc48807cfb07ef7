//! Screens come from hypervisors as portable pixmaps, which no browser shows. This writes the same pixels as a PNG,
//! uncompressed: pictures are looked at once, and a compressor is not worth a dependency.

/// The most pixels that are taken: larger than any screen.
const MOST_PIXELS: usize = 64 << 20;
/// The most bytes in a stored block of zlib.
const BLOCK: usize = 0xffff;

/// A binary pixmap (`P6`, eight bits a colour) as a PNG; none for anything else.
pub(crate) fn to_png(pixmap: &[u8]) -> Option<Vec<u8>> {
    let (width, height, pixels) = read(pixmap)?;
    let mut rows = Vec::with_capacity(pixels.len() + height);
    for row in pixels.chunks(width * 3) {
        // Each row says how it is filtered: not at all.
        rows.push(0);
        rows.extend_from_slice(row);
    }
    let mut header = Vec::with_capacity(13);
    header.extend_from_slice(&u32::try_from(width).ok()?.to_be_bytes());
    header.extend_from_slice(&u32::try_from(height).ok()?.to_be_bytes());
    // Eight bits, true colour, and the only methods that there are.
    header.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut png, *b"IHDR", &header)?;
    chunk(&mut png, *b"IDAT", &stored(&rows))?;
    chunk(&mut png, *b"IEND", &[])?;
    Some(png)
}

/// Width, height and pixels of a pixmap.
fn read(pixmap: &[u8]) -> Option<(usize, usize, &[u8])> {
    let mut rest = pixmap.strip_prefix(b"P6")?;
    let mut number = || {
        loop {
            let blanks = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            rest = rest.get(blanks..)?;
            match rest.first()? {
                b'#' => {
                    let line = rest.iter().position(|byte| *byte == b'\n')?;
                    rest = rest.get(line..)?;
                }
                _ => break,
            }
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, after) = rest.split_at_checked(digits)?;
        rest = after;
        std::str::from_utf8(number).ok()?.parse::<usize>().ok()
    };
    let (width, height, largest) = (number()?, number()?, number()?);
    // One blank, then the pixels.
    let pixels = rest.get(1..)?;
    let count = width
        .checked_mul(height)
        .filter(|count| (1..=MOST_PIXELS).contains(count))?;
    let pixels = pixels.get(..count.checked_mul(3)?)?;
    (largest == 255).then_some((width, height, pixels))
}

fn chunk(png: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) -> Option<()> {
    png.extend_from_slice(&u32::try_from(data.len()).ok()?.to_be_bytes());
    png.extend_from_slice(&kind);
    png.extend_from_slice(data);
    let sum = crc(kind.iter().chain(data));
    png.extend_from_slice(&sum.to_be_bytes());
    Some(())
}

/// A zlib stream of blocks that are not compressed.
fn stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(BLOCK).peekable();
    while let Some(block) = blocks.next() {
        stream.push(u8::from(blocks.peek().is_none()));
        // A block has at most 65535 bytes.
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.extend_from_slice(&length.to_le_bytes());
        stream.extend_from_slice(&(!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in data {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    stream.extend_from_slice(&((b << 16) | a).to_be_bytes());
    stream
}

/// CRC-32 as PNG has it.
fn crc<'b>(bytes: impl Iterator<Item = &'b u8>) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                (sum >> 1) ^ 0xedb8_8320
            } else {
                sum >> 1
            };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixmap_becomes_a_picture_of_the_same_size() {
        let pixmap = [b"P6\n# a screen\n2 1\n255\n".as_slice(), &[255, 0, 0, 0, 0, 255]].concat();
        let png = to_png(&pixmap).unwrap();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
        assert_eq!(&png[16..24], &[0, 0, 0, 2, 0, 0, 0, 1]);
        assert!(
            png.windows(7).any(|part| part == [0, 255, 0, 0, 0, 0, 255]),
            "the pixels are there"
        );
        assert!(
            png.ends_with(b"IEND\xae\x42\x60\x82"),
            "with the sum that every PNG ends with"
        );
    }

    #[test]
    fn checksums_are_those_that_others_compute() {
        assert_eq!(crc(b"123456789".iter()), 0xcbf4_3926);
        assert!(stored(b"Wikipedia").ends_with(&[0x11, 0xe6, 0x03, 0x98]));
    }

    #[test]
    fn what_is_no_whole_pixmap_is_left_as_it_is() {
        for text in [
            b"".as_slice(),
            b"P5\n1 1\n255\n\0",
            b"P6\n2 2\n255\n\0\0\0",
            b"P6\n0 1\n255\n",
            b"P6\n1 1\n65535\n\0\0\0\0\0\0",
            b"P6\n99999999999 99999999999\n255\n\0",
            b"P6\n1",
            b"P6 # no end",
        ] {
            assert!(to_png(text).is_none(), "{text:?}");
        }
    }
}
