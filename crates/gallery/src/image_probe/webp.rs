//! WebP, chunk by chunk (RFC 9649: RIFF container, VP8, VP8L and VP8X headers; VP8 frame header
//! by RFC 6386, 9.1).

use super::exif::Exif;
use super::{Damage, EXIF_LIMIT, Field, Finding, ImageFacts, take};

/// "WEBP" and the header of one chunk: less cannot be a picture.
const MIN_RIFF_BYTES: u32 = 4 + 8;

/// Walks the chunks inside the RIFF size; what lies beyond it is not the picture's.
pub(super) struct Walker {
    state: State,
    riff: Field<12>,
    header: Field<8>,
    kept: Vec<u8>,
    /// Bytes that the RIFF size promises beyond those that have been pushed.
    promised: u64,
    size: Option<(u32, u32)>,
    pixels_seen: bool,
    exif: Option<Exif>,
}

#[derive(Clone, Copy)]
enum State {
    RiffHeader,
    ChunkHeader,
    Data {
        kind: Kind,
        /// Bytes still to be kept of those left.
        keep: u64,
        left: u64,
        padded: bool,
    },
    Padding,
    Done,
}

#[derive(Clone, Copy)]
enum Kind {
    Lossy,
    Lossless,
    Extended,
    Exif,
    Other,
}

impl Walker {
    pub(super) fn new() -> Self {
        Self {
            state: State::RiffHeader,
            riff: Field::new(),
            header: Field::new(),
            kept: Vec::new(),
            promised: 0,
            size: None,
            pixels_seen: false,
            exif: None,
        }
    }

    pub(super) fn push(&mut self, mut input: &[u8]) -> Result<(), Damage> {
        if let State::RiffHeader = self.state {
            let Some([_, _, _, _, s0, s1, s2, s3, ..]) = self.riff.fill(&mut input) else {
                return Ok(());
            };
            let size = u32::from_le_bytes([s0, s1, s2, s3]);
            if size < MIN_RIFF_BYTES {
                return Err(Damage("the RIFF size has no room for a picture"));
            }
            // The four bytes of "WEBP" are counted and have been read.
            self.promised = u64::from(size) - 4;
            self.state = State::ChunkHeader;
        }
        let inside = take(&mut input, self.promised);
        self.promised -= inside.len() as u64;
        self.walk(inside)?;
        if self.promised == 0 && !matches!(self.state, State::Done) {
            // Up to seven stray bytes or a missing pad byte at the very end do no harm.
            self.state = State::Done;
            if !self.pixels_seen {
                return Err(Damage("there is no picture in the container"));
            }
        }
        Ok(())
    }

    /// `None`: fewer bytes have been seen than the RIFF size says.
    pub(super) fn finish(self) -> Option<Finding> {
        match self.state {
            State::Done => Some(Finding::Whole(ImageFacts::of(self.size?, self.exif))),
            _ => None,
        }
    }

    fn walk(&mut self, mut input: &[u8]) -> Result<(), Damage> {
        loop {
            self.state = match self.state {
                State::ChunkHeader => match self.header.fill(&mut input) {
                    Some([n0, n1, n2, n3, length @ ..]) => {
                        let length = u32::from_le_bytes(length);
                        if u64::from(length) > self.promised + input.len() as u64 {
                            return Err(Damage("a chunk is longer than its container"));
                        }
                        self.open_chunk([n0, n1, n2, n3], length)?
                    }
                    None => return Ok(()),
                },
                State::Data {
                    kind,
                    mut keep,
                    left,
                    padded,
                } => {
                    let part = take(&mut input, left);
                    let left = left - part.len() as u64;
                    let mut rest = part;
                    let kept = take(&mut rest, keep);
                    self.kept.extend_from_slice(kept);
                    keep -= kept.len() as u64;
                    if left > 0 {
                        self.state = State::Data {
                            kind,
                            keep,
                            left,
                            padded,
                        };
                        return Ok(());
                    }
                    self.close_chunk(kind)?;
                    match padded {
                        true => State::Padding,
                        false => State::ChunkHeader,
                    }
                }
                State::Padding => match input.split_off_first() {
                    Some(_) => State::ChunkHeader,
                    None => return Ok(()),
                },
                State::RiffHeader | State::Done => return Ok(()),
            };
        }
    }

    fn open_chunk(&mut self, name: [u8; 4], length: u32) -> Result<State, Damage> {
        let first = self.size.is_none();
        let (kind, keep) = match &name {
            b"VP8 " if first => (Kind::Lossy, 10),
            b"VP8L" if first => (Kind::Lossless, 5),
            b"VP8X" if first => (Kind::Extended, 10),
            _ if first => return Err(Damage("the first chunk is not VP8, VP8L or VP8X")),
            // A larger block is skipped: it costs the capture time, not the upload.
            b"EXIF" if self.exif.is_none() && length <= EXIF_LIMIT => {
                let length = usize::try_from(length).unwrap_or_default();
                self.kept.reserve_exact(length);
                (Kind::Exif, length as u64)
            }
            _ => (Kind::Other, 0),
        };
        // In an extended file the picture, or its frames, follow the VP8X header.
        self.pixels_seen |= length > 0 && matches!(&name, b"VP8 " | b"VP8L" | b"ANMF");
        Ok(State::Data {
            kind,
            keep,
            left: length.into(),
            padded: length % 2 == 1,
        })
    }

    fn close_chunk(&mut self, kind: Kind) -> Result<(), Damage> {
        let kept = std::mem::take(&mut self.kept);
        match kind {
            Kind::Lossy => self.size = Some(lossy_size(&kept)?),
            Kind::Lossless => self.size = Some(lossless_size(&kept)?),
            Kind::Extended => self.size = Some(canvas_size(&kept)?),
            Kind::Exif => {
                self.exif = Some(Exif::read(&kept));
            }
            Kind::Other => {}
        }
        Ok(())
    }
}

fn lossy_size(header: &[u8]) -> Result<(u32, u32), Damage> {
    let &[tag, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1] = header else {
        return Err(Damage("the VP8 header is not one"));
    };
    if tag & 1 != 0 {
        return Err(Damage("the VP8 picture is not a key frame"));
    }
    // The two highest bits ask for scaling and are no part of the size.
    let width = u16::from_le_bytes([w0, w1]) & 0x3FFF;
    let height = u16::from_le_bytes([h0, h1]) & 0x3FFF;
    match (width, height) {
        (0, _) => Err(Damage("the width is zero")),
        (_, 0) => Err(Damage("the height is zero")),
        _ => Ok((width.into(), height.into())),
    }
}

fn lossless_size(header: &[u8]) -> Result<(u32, u32), Damage> {
    let &[0x2F, b0, b1, b2, b3] = header else {
        return Err(Damage("the VP8L header is not one"));
    };
    let bits = u32::from_le_bytes([b0, b1, b2, b3]);
    Ok(((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1))
}

fn canvas_size(header: &[u8]) -> Result<(u32, u32), Damage> {
    let &[_flags, _, _, _, w0, w1, w2, h0, h1, h2] = header else {
        return Err(Damage("the VP8X header is too short"));
    };
    let width = u32::from_le_bytes([w0, w1, w2, 0]) + 1;
    let height = u32::from_le_bytes([h0, h1, h2, 0]) + 1;
    match width.checked_mul(height) {
        Some(_) => Ok((width, height)),
        None => Err(Damage("the canvas is larger than the format allows")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{capture, exif_block, hex, moment, refused};
    use super::super::{ImageFacts, InspectError, MediaType, Orientation};

    /// 18 by 11.
    pub(in super::super) const LOSSY: &str = "\
        524946468a00000057454250565038207e000000d004009d012a12000b003ed156a44c2824a3a2300801001a\
        096c009d3284703792d30145fe03c9333ef82e606d5c0000fef337a998e2a2a2688e00e9c5d9cecfce88acf9\
        13a4efe0091e06cac8a9f66fd33d67e53841fe8a0a7ff4eebfa1a9d5ffa775fd0dfca024789d3335ae613a01\
        233b6f3fa153fc03f53e5ff00000\
    ";

    /// 7 by 13, with transparency.
    pub(in super::super) const LOSSLESS: &str = "\
        5249464636000000574542505650384c290000002f06000310b93244f43f76e58fe87f8030dba810e74fbbe7\
        010c8442000150d00cfe0400993396670000\
    ";

    /// 15 by 10, with transparency, taken at 18:30:05 five and a half hours west of UTC.
    pub(in super::super) const EXTENDED: &str = "\
        52494646ee00000057454250565038580a000000180000000e0000090000414c5048250000000177202448fe\
        3fa619bd101199814106680c5a2cb1c4124b2cb11ce90011fd0fcae90e7f00005650382046000000d001009d\
        012a0f000a0003805a25b00274010ec4b3000000fef5dc4a759d359185fcffe2e65fa321a0a7f9c19fe11daa\
        a4ed4ec80dcd8f8fb2fcff5fbf430bf6e0e218e0000045584946540000004d4d002a00000008000187690004\
        000000010000001a00000000000290030002000000140000003890110002000000070000004c000000003230\
        32343a30363a30312031383a33303a3035002d30353a33300000\
    ";

    /// 6 by 4, two frames.
    pub(in super::super) const ANIMATED: &str = "\
        52494646a200000057454250565038580a00000002000000050000030000414e494d06000000000000000000\
        414e4d463e0000000000000000000500000300003200000256503820260000003001009d012a060004000740\
        962500009fb000feeaf98c3755d895d4cb52efefd890c7890000414e4d463000000000000000000005000003\
        00003200000056503820180000003401009d012a0600040000009625a400037000feef244000\
    ";

    const LOSSY_HEADER: [u8; 10] = *b"\x10\0\0\x9D\x01\x2A\x03\0\x02\0";
    const CANVAS: [u8; 10] = [0x08, 0, 0, 0, 4, 0, 0, 5, 0, 0];

    fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap().to_le_bytes();
        let padding = &[0][..data.len() % 2];
        [&name[..], &length, data, padding].concat()
    }

    fn image(chunks: &[Vec<u8>]) -> Vec<u8> {
        let chunks = chunks.concat();
        let size = u32::try_from(4 + chunks.len()).unwrap().to_le_bytes();
        [b"RIFF", &size[..], b"WEBP", &chunks].concat()
    }

    fn inspect(bytes: &[u8]) -> Result<ImageFacts, InspectError> {
        super::super::tests::inspect(MediaType::Webp, bytes)
    }

    fn damage(bytes: &[u8]) -> &'static str {
        refused(MediaType::Webp, bytes)
    }

    fn size(bytes: &[u8]) -> (u32, u32) {
        let facts = inspect(bytes).unwrap();
        (facts.width.unwrap(), facts.height.unwrap())
    }

    #[test]
    fn real_files_tell_their_size_and_capture_time() {
        assert_eq!(size(&hex(LOSSY)), (18, 11));
        assert_eq!(size(&hex(LOSSLESS)), (7, 13));
        assert_eq!(size(&hex(ANIMATED)), (6, 4));
        assert_eq!(
            inspect(&hex(EXTENDED)),
            Ok(ImageFacts {
                width: Some(15),
                height: Some(10),
                orientation: Some(Orientation::default()),
                taken_at: moment("2024-06-02T00:00:05Z")
            })
        );
    }

    #[test]
    fn scaling_bits_are_no_part_of_a_lossy_size() {
        let mut header = LOSSY_HEADER;
        header[7] |= 0xC0;
        header[9] |= 0x40;
        assert_eq!(size(&image(&[chunk(b"VP8 ", &header)])), (3, 2));
    }

    #[test]
    fn the_canvas_is_the_size_of_an_extended_file() {
        let bytes = image(&[chunk(b"VP8X", &CANVAS), chunk(b"VP8 ", &LOSSY_HEADER)]);
        assert_eq!(size(&bytes), (5, 6));
    }

    #[test]
    fn exif_is_read_with_and_without_the_prefix_of_jpeg() {
        let block = exif_block(true, &capture("2020:02:29 01:02:03"));
        for block in [block.clone(), [&b"Exif\0\0"[..], &block].concat()] {
            let picture = chunk(b"VP8 ", &LOSSY_HEADER);
            let bytes = image(&[chunk(b"VP8X", &CANVAS), picture, chunk(b"EXIF", &block)]);
            assert_eq!(
                inspect(&bytes).unwrap().taken_at,
                moment("2020-02-29T01:02:03Z")
            );
        }
    }

    #[test]
    fn an_exif_block_beyond_the_limit_is_skipped() {
        let mut block = exif_block(true, &capture("2020:02:29 01:02:03"));
        block.resize(64 * 1024 + 1, 0);
        let picture = chunk(b"VP8 ", &LOSSY_HEADER);
        let bytes = image(&[chunk(b"VP8X", &CANVAS), chunk(b"EXIF", &block), picture]);
        assert_eq!(inspect(&bytes).unwrap().taken_at, None);
    }

    #[test]
    fn a_riff_size_without_the_last_pad_byte_or_with_stray_bytes_is_taken() {
        let odd = [&LOSSY_HEADER[..], b"x"].concat();
        let mut unpadded = image(&[chunk(b"VP8 ", &odd)]);
        unpadded.pop();
        unpadded[4] -= 1;
        assert_eq!(size(&unpadded), (3, 2));
        let stray = image(&[chunk(b"VP8 ", &LOSSY_HEADER), vec![0; 7]]);
        assert_eq!(size(&stray), (3, 2));
    }

    #[test]
    fn what_follows_the_container_is_left_alone() {
        let bytes = [hex(LOSSY), b"anything at all".to_vec()].concat();
        assert_eq!(inspect(&bytes), inspect(&hex(LOSSY)));
    }

    #[test]
    fn broken_rules_are_named() {
        let alone = |name, data: &[u8]| damage(&image(&[chunk(name, data)]));
        let mut lossy = LOSSY_HEADER;
        lossy[6] = 0;
        assert_eq!(alone(b"VP8 ", &lossy), "the width is zero");
        lossy = LOSSY_HEADER;
        lossy[8] = 0;
        assert_eq!(alone(b"VP8 ", &lossy), "the height is zero");
        lossy = LOSSY_HEADER;
        lossy[0] |= 1;
        assert_eq!(alone(b"VP8 ", &lossy), "the VP8 picture is not a key frame");
        assert_eq!(alone(b"VP8 ", &[0; 10]), "the VP8 header is not one");
        assert_eq!(alone(b"VP8 ", b""), "the VP8 header is not one");
        assert_eq!(alone(b"VP8L", &[0; 10]), "the VP8L header is not one");
        assert_eq!(alone(b"VP8X", b"short"), "the VP8X header is too short");
        assert_eq!(
            alone(b"VP8X", &[0xFF; 10]),
            "the canvas is larger than the format allows"
        );
        assert_eq!(
            alone(b"VP8X", &CANVAS),
            "there is no picture in the container"
        );
        assert_eq!(
            alone(b"ALPH", b"x"),
            "the first chunk is not VP8, VP8L or VP8X"
        );
        assert_eq!(
            damage(&image(&[])),
            "the RIFF size has no room for a picture"
        );
        let mut long = image(&[chunk(b"VP8 ", &LOSSY_HEADER)]);
        long[16] += 1;
        assert_eq!(damage(&long), "a chunk is longer than its container");
    }
}
