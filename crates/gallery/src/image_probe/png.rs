//! PNG, chunk by chunk (W3C "Portable Network Graphics", third edition, sections 5 and 11).

use super::exif::Exif;
use super::{Damage, EXIF_LIMIT, Field, Finding, ImageFacts, take};

/// The format's own bound on lengths and dimensions: 2³¹ − 1.
const MAX: u32 = i32::MAX as u32;
const IHDR_BYTES: u32 = 13;

/// Walks from the signature to IEND. Only the header's checksum is verified: it guards what is
/// reported, and the pixels are the viewer's to check.
pub(super) struct Walker {
    state: State,
    header: Field<8>,
    crc: Field<4>,
    kept: Vec<u8>,
    size: Option<(u32, u32)>,
    pixels_seen: bool,
    exif: Option<Exif>,
}

#[derive(Clone, Copy)]
enum State {
    Signature,
    ChunkHeader,
    Data { kind: Kind, left: u64 },
    Crc { kind: Kind },
    Done,
}

#[derive(Clone, Copy)]
enum Kind {
    Header,
    Exif,
    End,
    Other,
}

impl Walker {
    pub(super) fn new() -> Self {
        Self {
            state: State::Signature,
            header: Field::new(),
            crc: Field::new(),
            kept: Vec::new(),
            size: None,
            pixels_seen: false,
            exif: None,
        }
    }

    pub(super) fn push(&mut self, mut input: &[u8]) -> Result<(), Damage> {
        loop {
            self.state = match self.state {
                State::Signature => match self.header.fill(&mut input) {
                    Some(_) => State::ChunkHeader,
                    None => return Ok(()),
                },
                State::ChunkHeader => match self.header.fill(&mut input) {
                    Some([l3, l2, l1, l0, kind @ ..]) => {
                        self.open_chunk(u32::from_be_bytes([l3, l2, l1, l0]), kind)?
                    }
                    None => return Ok(()),
                },
                State::Data { kind, left } => {
                    let part = take(&mut input, left);
                    if matches!(kind, Kind::Header | Kind::Exif) {
                        self.kept.extend_from_slice(part);
                    }
                    match left - part.len() as u64 {
                        0 => State::Crc { kind },
                        left => {
                            self.state = State::Data { kind, left };
                            return Ok(());
                        }
                    }
                }
                State::Crc { kind } => match self.crc.fill(&mut input) {
                    Some(crc) => self.close_chunk(kind, u32::from_be_bytes(crc))?,
                    None => return Ok(()),
                },
                State::Done => return Ok(()),
            };
        }
    }

    /// `None`: IEND has not been seen.
    pub(super) fn finish(self) -> Option<Finding> {
        match self.state {
            State::Done => Some(Finding::Whole(ImageFacts::of(self.size?, self.exif))),
            _ => None,
        }
    }

    fn open_chunk(&mut self, length: u32, name: [u8; 4]) -> Result<State, Damage> {
        if length > MAX {
            return Err(Damage("a chunk is longer than the format allows"));
        }
        if !name.iter().all(u8::is_ascii_alphabetic) {
            return Err(Damage("a chunk's name is not made of letters"));
        }
        let kind = match &name {
            b"IHDR" if self.size.is_some() => return Err(Damage("there is a second IHDR")),
            b"IHDR" if length == IHDR_BYTES => Kind::Header,
            b"IHDR" => return Err(Damage("IHDR is not 13 bytes long")),
            _ if self.size.is_none() => return Err(Damage("the first chunk is not IHDR")),
            b"IEND" if !self.pixels_seen => return Err(Damage("there is no IDAT before IEND")),
            b"IEND" => Kind::End,
            // A larger block is skipped: it costs the capture time, not the upload.
            b"eXIf" if self.exif.is_none() && length <= EXIF_LIMIT => Kind::Exif,
            b"IDAT" => {
                self.pixels_seen |= length > 0;
                Kind::Other
            }
            _ => Kind::Other,
        };
        if matches!(kind, Kind::Exif) {
            self.kept
                .reserve_exact(usize::try_from(length).unwrap_or_default());
        }
        Ok(State::Data {
            kind,
            left: length.into(),
        })
    }

    fn close_chunk(&mut self, kind: Kind, crc: u32) -> Result<State, Damage> {
        let kept = std::mem::take(&mut self.kept);
        match kind {
            Kind::Header => {
                if crc32(b"IHDR".iter().chain(&kept)) != crc {
                    return Err(Damage("the checksum of IHDR is wrong"));
                }
                self.size = Some(image_size(&kept)?);
            }
            Kind::Exif => {
                self.exif = Some(Exif::read(&kept));
            }
            Kind::Other => {}
            Kind::End => return Ok(State::Done),
        }
        Ok(State::ChunkHeader)
    }
}

fn image_size(header: &[u8]) -> Result<(u32, u32), Damage> {
    let &[w3, w2, w1, w0, h3, h2, h1, h0, ..] = header else {
        return Err(Damage("IHDR is too short"));
    };
    let width = u32::from_be_bytes([w3, w2, w1, w0]);
    let height = u32::from_be_bytes([h3, h2, h1, h0]);
    match (width, height) {
        (0, _) => Err(Damage("the width is zero")),
        (_, 0) => Err(Damage("the height is zero")),
        (1..=MAX, 1..=MAX) => Ok((width, height)),
        _ => Err(Damage("the dimensions are larger than the format allows")),
    }
}

/// CRC-32 as in annex D, without its table: seventeen bytes per file pass through here.
fn crc32<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 * (crc & 1))
        })
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{capture, exif_block, hex, moment, refused};
    use super::super::{ImageFacts, InspectError, MediaType, Orientation};
    use super::{IHDR_BYTES, MAX, crc32};

    /// Grey, 5 by 3.
    pub(in super::super) const PLAIN: &str = "\
        89504e470d0a1a0a0000000d49484452000000050000000308000000007e5d9a240000001549444154789c63\
        641010101060626060606080900003e80046ef92f4690000000049454e44ae426082\
    ";

    /// Colour, stored as 9 by 7, to be turned to 7 by 9, taken at 18:30:05.5.
    pub(in super::super) const WITH_EXIF: &str = "\
        89504e470d0a1a0a0000000d494844520000000900000007080200000055f9f03700000058655849664d4d00\
        2a00000008000201120003000000010006000087690004000000010000002600000000000290030002000000\
        140000004492910002000000023500000000000000323032343a30363a30312031383a33303a3035002e1da7\
        a80000002e49444154789c6364606010c08158184418181898b122b81c1b264296e3444368723cc808538e1f\
        8eb0ca09411000f1b502a1768b4bf10000000049454e44ae426082\
    ";

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        let crc = crc32(name.iter().chain(data)).to_be_bytes();
        [&length, &name[..], data, &crc].concat()
    }

    fn header(width: u32, height: u32) -> Vec<u8> {
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        chunk(b"IHDR", &[&size[..], &[8, 0, 0, 0, 0]].concat())
    }

    /// The chunks behind the signature, and IEND.
    fn image(chunks: &[Vec<u8>]) -> Vec<u8> {
        [
            b"\x89PNG\r\n\x1A\n",
            &chunks.concat()[..],
            &chunk(b"IEND", b""),
        ]
        .concat()
    }

    fn inspect(bytes: &[u8]) -> Result<ImageFacts, InspectError> {
        super::super::tests::inspect(MediaType::Png, bytes)
    }

    fn damage(bytes: &[u8]) -> &'static str {
        refused(MediaType::Png, bytes)
    }

    #[test]
    fn real_files_tell_their_size_and_capture_time() {
        let facts = |width, height, orientation, taken_at| ImageFacts {
            width: Some(width),
            height: Some(height),
            orientation: Orientation::of_exif(orientation),
            taken_at,
        };
        assert_eq!(inspect(&hex(PLAIN)), Ok(facts(5, 3, 1, None)));
        assert_eq!(
            inspect(&hex(WITH_EXIF)),
            Ok(facts(7, 9, 6, moment("2024-06-01T18:30:05.5Z")))
        );
    }

    #[test]
    fn exif_may_follow_the_pixels_and_the_first_block_counts() {
        let exif = |hour: &str| {
            let date = format!("2020:02:29 {hour}:02:03");
            chunk(b"eXIf", &exif_block(false, &capture(&date)))
        };
        let pixels = chunk(b"IDAT", b"x");
        let bytes = image(&[header(MAX, 1), pixels, exif("01"), exif("02")]);
        let facts = inspect(&bytes).unwrap();
        assert_eq!(facts.width, Some(MAX));
        assert_eq!(facts.taken_at, moment("2020-02-29T01:02:03Z"));
    }

    #[test]
    fn an_exif_block_beyond_the_limit_is_skipped() {
        let mut block = exif_block(true, &capture("2020:02:29 01:02:03"));
        let taken_at = |block: &[u8]| {
            let parts = [header(1, 1), chunk(b"eXIf", block), chunk(b"IDAT", b"x")];
            inspect(&image(&parts)).unwrap().taken_at
        };
        block.resize(64 * 1024, 0);
        assert_eq!(taken_at(&block), moment("2020-02-29T01:02:03Z"));
        block.push(0);
        assert_eq!(taken_at(&block), None);
    }

    /// What decoders warn of or pass over: no viewer refuses the picture for it.
    #[test]
    fn flaws_that_every_viewer_passes_over_are_taken() {
        let mut wrong_checksum = chunk(b"tEXt", b"Comment\0x");
        *wrong_checksum.last_mut().unwrap() ^= 1;
        let pixels = || chunk(b"IDAT", b"x");
        for chunks in [
            vec![header(1, 1), wrong_checksum, pixels()],
            vec![header(1, 1), chunk(b"abCD", b"unknown"), pixels()],
            vec![header(1, 1), pixels(), chunk(b"IEND", b"four")],
        ] {
            assert_eq!(inspect(&image(&chunks)).unwrap().width, Some(1));
        }
    }

    #[test]
    fn what_follows_iend_is_left_alone() {
        let bytes = [hex(PLAIN), b"anything".to_vec()].concat();
        assert_eq!(inspect(&bytes), inspect(&hex(PLAIN)));
    }

    #[test]
    fn broken_rules_are_named() {
        let pixels = || chunk(b"IDAT", b"x");
        let behind_header = |part: Vec<u8>| image(&[header(1, 1), part]);
        let sized = |width, height| damage(&image(&[header(width, height), pixels()]));
        assert_eq!(sized(0, 1), "the width is zero");
        assert_eq!(sized(1, 0), "the height is zero");
        assert_eq!(
            sized(MAX + 1, 1),
            "the dimensions are larger than the format allows"
        );
        assert_eq!(damage(&image(&[pixels()])), "the first chunk is not IHDR");
        assert_eq!(
            damage(&image(&[chunk(b"IHDR", &[1; IHDR_BYTES as usize + 1])])),
            "IHDR is not 13 bytes long"
        );
        let mut flipped = header(1, 1);
        flipped[11] ^= 2;
        assert_eq!(damage(&image(&[flipped])), "the checksum of IHDR is wrong");
        assert_eq!(
            damage(&behind_header(header(1, 1))),
            "there is a second IHDR"
        );
        assert_eq!(
            damage(&behind_header(vec![])),
            "there is no IDAT before IEND"
        );
        assert_eq!(
            damage(&behind_header(chunk(b"IDAT", b""))),
            "there is no IDAT before IEND"
        );
        assert_eq!(
            damage(&behind_header(chunk(b"ID T", b"x"))),
            "a chunk's name is not made of letters"
        );
        assert_eq!(
            damage(&behind_header(b"\x80\0\0\0IDAT".to_vec())),
            "a chunk is longer than the format allows"
        );
    }
}
