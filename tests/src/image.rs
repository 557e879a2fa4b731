//! Valid images of any size, and a few real photographs.

/// A JPEG with EXIF: 600 × 400, taken 2024-05-18 09:41:07.
pub const COFFEE_JPEG: &[u8] = include_bytes!("../../bins/rawdrive/assets/photos/coffee.jpg");
/// A PNG of 256 × 256.
pub const CAMERA_PNG: &[u8] = include_bytes!("../../bins/rawdrive/assets/photos/camera.png");
/// A lossy WebP of 384 × 384.
pub const GRASS_WEBP: &[u8] = include_bytes!("../../bins/rawdrive/assets/photos/grass.webp");

const TINY_JPEG: &[u8] = include_bytes!("../assets/tiny.jpg");
const TINY_PNG: &[u8] = include_bytes!("../assets/tiny.png");

const SOF0: [u8; 2] = [0xFF, 0xC0];
const SOS: [u8; 2] = [0xFF, 0xDA];

/// Width and height of what [`jpeg`] and [`png`] make.
pub const TINY_SIZE: (u64, u64) = (16, 8);

/// A valid baseline JPEG of exactly `size_bytes`, whose bytes are another's for another `seed`.
///
/// The padding are comment segments between frame header and scan, so that the dimensions stand where a
/// camera puts them.
#[must_use]
pub fn jpeg(size_bytes: usize, seed: u64) -> Vec<u8> {
    padded(TINY_JPEG, SOS, size_bytes, seed)
}

/// The same, with the padding before the frame header, as large colour profiles and previews are.
#[must_use]
pub fn jpeg_with_late_header(size_bytes: usize, seed: u64) -> Vec<u8> {
    padded(TINY_JPEG, SOF0, size_bytes, seed)
}

fn padded(image: &[u8], before: [u8; 2], size_bytes: usize, seed: u64) -> Vec<u8> {
    let at = image
        .windows(2)
        .position(|pair| pair == before)
        .expect("the tiny JPEG has the marker");
    let mut left = size_bytes
        .checked_sub(image.len())
        .expect("the size is at least the tiny JPEG's");
    assert!(!(1..4).contains(&left), "a segment takes at least 4 bytes");
    let mut bytes = Vec::with_capacity(size_bytes);
    bytes.extend_from_slice(&image[..at]);
    let mut noise = Noise(seed);
    while left > 0 {
        let mut segment = left.min(2 + 0xFFFF);
        if (1..4).contains(&(left - segment)) {
            segment -= 4;
        }
        let length = u16::try_from(segment - 2).expect("at most 65535");
        bytes.extend_from_slice(&[0xFF, 0xFE]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend(std::iter::repeat_with(|| noise.next_byte()).take(segment - 4));
        left -= segment;
    }
    bytes.extend_from_slice(&image[at..]);
    assert_eq!(bytes.len(), size_bytes);
    bytes
}

/// A valid PNG of exactly `size_bytes`, padded by a private ancillary chunk.
#[must_use]
pub fn png(size_bytes: usize, seed: u64) -> Vec<u8> {
    const END_CHUNK_BYTES: usize = 12;
    let payload = size_bytes
        .checked_sub(TINY_PNG.len() + 12)
        .expect("the size is at least the tiny PNG's and one chunk's");
    let (head, end) = TINY_PNG.split_at(TINY_PNG.len() - END_CHUNK_BYTES);
    let mut noise = Noise(seed);
    let padding: Vec<u8> = std::iter::repeat_with(|| noise.next_byte())
        .take(payload)
        .collect();
    [head, &chunk(b"raWd", &padding), end].concat()
}

/// A PNG of the pixels that `color` says, without compression.
#[must_use]
pub fn picture(width: u32, height: u32, color: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
    const TRUE_COLOUR: [u8; 5] = [8, 2, 0, 0, 0];
    let mut rows = Vec::new();
    for y in 0..height {
        // Each row begins with its filter: none.
        rows.push(0);
        rows.extend((0..width).flat_map(|x| color(x, y)));
    }
    // zlib with stored blocks (RFC 1950, RFC 1951, 3.2.4).
    let mut zlib = vec![0x78, 0x01];
    let mut blocks = rows.chunks(0xFFFF).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).expect("at most 65535");
        zlib.push(u8::from(blocks.peek().is_none()));
        zlib.extend_from_slice(&length.to_le_bytes());
        zlib.extend_from_slice(&(!length).to_le_bytes());
        zlib.extend_from_slice(block);
    }
    let (a, b) = rows.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    zlib.extend_from_slice(&(b << 16 | a).to_be_bytes());
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &TRUE_COLOUR,
    ]
    .concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &zlib),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

/// A PNG that says it has this size and holds the pixels of a small one.
#[must_use]
pub fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = picture(1, 1, |_, _| [0; 3]);
    let header = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &bytes[24..29],
    ]
    .concat();
    bytes.splice(8..33, chunk(b"IHDR", &header));
    bytes
}

/// A progressive JPEG of one flat colour: one bit a block, and a decoder keeps the coefficients of them all.
#[must_use]
pub fn progressive_jpeg(width: u16, height: u16, components: u8) -> Vec<u8> {
    let segment = |code: u8, body: &[u8]| {
        let length = u16::try_from(body.len() + 2).expect("a short segment");
        [&[0xFF, code], &length.to_be_bytes()[..], body].concat()
    };
    let mut frame = vec![8];
    frame.extend(height.to_be_bytes());
    frame.extend(width.to_be_bytes());
    frame.push(components);
    frame.extend((0..components).flat_map(|id| [id, 0x11, 0]));
    // One code, `0`: the same as the block before.
    let codes = [&[0, 1][..], &[0; 15], &[0]].concat();
    let mut scan = vec![components];
    scan.extend((0..components).flat_map(|id| [id, 0]));
    scan.extend([0, 0, 0]);
    let blocks = usize::from(width).div_ceil(8) * usize::from(height).div_ceil(8);
    let bits = vec![0; (blocks * usize::from(components)).div_ceil(8)];
    [
        b"\xFF\xD8".to_vec(),
        segment(0xDB, &[&[0][..], &[1; 64]].concat()),
        segment(0xC2, &frame),
        segment(0xC4, &codes),
        segment(0xDA, &scan),
        bits,
        b"\xFF\xD9".to_vec(),
    ]
    .concat()
}

/// A small PNG whose colour profile is so many zeros, in a 640th of the bytes.
#[must_use]
pub fn png_with_profile(unpacked_bytes: usize) -> Vec<u8> {
    // zlib with one block of fixed codes (RFC 1951, 3.2.6): a zero, and copies of 258 bytes, 13 bits each.
    let mut zlib = vec![0x78, 0x01];
    let (mut bits, mut count) = (0_u64, 0);
    let mut put = |code: u64, length: u32| {
        bits |= code << count;
        count += length;
        while count >= 8 {
            zlib.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
    };
    put(0b011, 3);
    put(0b0000_1100, 8);
    let copies = unpacked_bytes / 258;
    for _ in 0..copies {
        put(0b1010_0011, 13);
    }
    put(0, 7);
    put(0, 7);
    let length = u32::try_from(1 + copies * 258).expect("less than 4 GiB");
    zlib.extend(((length % 65_521) << 16 | 1).to_be_bytes());
    let profile = [&b"flat\0\0"[..], &zlib].concat();
    let (head, rest) = TINY_PNG.split_at(33);
    [head, &chunk(b"iCCP", &profile), rest].concat()
}

/// [`CAMERA_PNG`] with scribble in the middle of its pixels: its header and its chunks are whole.
#[must_use]
pub fn damaged_png() -> Vec<u8> {
    let mut bytes = CAMERA_PNG.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 2_000].fill(0xA5);
    bytes
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("a chunk is shorter than 4 GiB");
    let named = [&kind[..], data].concat();
    let crc = crc32(&named);
    [&length.to_be_bytes()[..], &named, &crc.to_be_bytes()].concat()
}

/// The CRC of PNG, bit by bit: slow and short.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// xorshift: bytes that do not compress, the same for the same seed.
struct Noise(u64);

impl Noise {
    fn next_byte(&mut self) -> u8 {
        let mut x = self.0 ^ 0x9E37_79B9_7F4A_7C15;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0 = self.0.wrapping_add(x | 1);
        x.to_be_bytes()[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_exactly_the_size_asked_for() {
        let least = TINY_JPEG.len();
        for size in [
            least,
            least + 4,
            1_000,
            100_000,
            least + 65_537,
            least + 65_538,
            least + 65_540,
        ] {
            let image = jpeg(size, 7);
            assert_eq!(image.len(), size);
            assert_eq!(jpeg_with_late_header(size, 7).len(), size);
            assert!(image.starts_with(&[0xFF, 0xD8]) && image.ends_with(&[0xFF, 0xD9]));
        }
        assert_eq!(png(10_000, 7).len(), 10_000);
        assert_ne!(jpeg(1_000, 1), jpeg(1_000, 2));
    }

    #[test]
    fn the_checksum_is_that_of_png() {
        assert_eq!(crc32(b"IEND"), 0xAE42_6082);
    }
}
