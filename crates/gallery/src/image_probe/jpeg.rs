//! JPEG, marker by marker (ITU-T T.81, annex B; Exif in APP1 by CIPA DC-008, 4.7.2).

use super::exif::Exif;
use super::{Damage, EXIF_PREFIX, Field, Finding, ImageFacts, take};

pub(super) const START_OF_IMAGE: u8 = 0xD8;
pub(super) const END_OF_IMAGE: u8 = 0xD9;
pub(super) const START_OF_SCAN: u8 = 0xDA;
const APP1: u8 = 0xE1;

/// A frame header before its components, and each of at most 255 components (T.81, B.2.2).
const FRAME_BYTES: u16 = 6;
const COMPONENT_BYTES: u16 = 3;
const MAX_COMPONENTS: u16 = u8::MAX as u16;

/// Walks segments by their lengths and scans by their marker prefix, so that an end marker inside
/// a thumbnail or a comment is never mistaken for the picture's own.
///
/// Decoders look for the next marker and pass over what lies before it, and so does this. Some vendors write their
/// trailer where the end marker should be. Entropy-coded data has no marker in it but restarts, so that whatever
/// else is found behind a scan's data, and is no segment, is known to lie behind the picture. A trailer in which
/// nothing is found leaves the end open: [`Blocks`](super::blocks::Blocks) counts what is there.
pub(super) struct Walker {
    state: State,
    field: Field<2>,
    kept: Vec<u8>,
    size: Option<(u16, u16)>,
    /// A scan has had data.
    picture_seen: bool,
    exif: Option<Exif>,
}

#[derive(Clone, Copy)]
enum State {
    StartOfImage,
    /// Before the 0xFF of a marker. What else comes is passed over.
    Marker,
    /// After the 0xFF of a marker, or a fill byte.
    Code,
    Length {
        code: u8,
    },
    Segment {
        code: u8,
        keep: Keep,
        left: u64,
    },
    /// Entropy-coded data.
    Scan,
    /// After a 0xFF in entropy-coded data.
    ScanCode,
    /// The picture has ended.
    Done,
}

#[derive(Clone, Copy)]
enum Keep {
    Nothing,
    Frame,
    /// Exif, as long as its first bytes do not say otherwise: APP1 carries XMP as well.
    Exif,
}

impl Walker {
    pub(super) fn new() -> Self {
        Self {
            state: State::StartOfImage,
            field: Field::new(),
            kept: Vec::new(),
            size: None,
            picture_seen: false,
            exif: None,
        }
    }

    pub(super) fn push(&mut self, mut input: &[u8]) -> Result<(), Damage> {
        loop {
            self.state = match self.state {
                State::StartOfImage => match self.field.fill(&mut input) {
                    Some(_) => State::Marker,
                    None => return Ok(()),
                },
                State::Marker => match memchr::memchr(0xFF, input) {
                    Some(at) => {
                        take(&mut input, at as u64 + 1);
                        State::Code
                    }
                    None => return Ok(()),
                },
                State::Code => match input.split_off_first() {
                    Some(&code) => self.marker(code)?,
                    None => return Ok(()),
                },
                State::Length { code } => match self.field.fill(&mut input) {
                    Some(length) => self.open_segment(code, u16::from_be_bytes(length))?,
                    None => return Ok(()),
                },
                State::Segment { code, keep, left } => {
                    let part = take(&mut input, left);
                    let keep = self.keep(keep, part, left);
                    match left - part.len() as u64 {
                        0 => self.close_segment(code, keep)?,
                        left => {
                            self.state = State::Segment { code, keep, left };
                            return Ok(());
                        }
                    }
                }
                State::Scan => match memchr::memchr(0xFF, input) {
                    Some(at) => {
                        self.picture_seen |= at > 0;
                        take(&mut input, at as u64 + 1);
                        State::ScanCode
                    }
                    None => {
                        self.picture_seen |= !input.is_empty();
                        return Ok(());
                    }
                },
                State::ScanCode => match input.split_off_first() {
                    // A stuffed zero: 0xFF is data.
                    Some(0x00) => {
                        self.picture_seen = true;
                        State::Scan
                    }
                    Some(code) if is_restart(*code) => State::Scan,
                    Some(0xFF) => State::ScanCode,
                    Some(&code) => self.marker(code)?,
                    None => return Ok(()),
                },
                // What follows is another picture's (MPF) or the vendor's.
                State::Done => return Ok(()),
            };
        }
    }

    /// `None`: the picture has not begun, or its header breaks off.
    pub(super) fn finish(self) -> Option<Finding> {
        let (width, height) = self.size?;
        let facts = ImageFacts::of((width.into(), height.into()), self.exif);
        match self.state {
            State::Done => Some(Finding::Whole(facts)),
            _ if self.picture_seen => Some(Finding::Open(facts)),
            _ => None,
        }
    }

    fn marker(&self, code: u8) -> Result<State, Damage> {
        match code {
            0xFF => Ok(State::Code),
            END_OF_IMAGE | START_OF_IMAGE if self.picture_seen => Ok(State::Done),
            END_OF_IMAGE => Err(Damage("the image ends without a picture")),
            START_OF_IMAGE => Err(Damage("a second image starts inside the first")),
            START_OF_SCAN if self.size.is_none() => Err(Damage("a scan comes before its frame")),
            code if has_segment(code) => Ok(State::Length { code }),
            // Behind a scan's data only a trailer has what is no marker; before it are stray bytes.
            0x00..=0xBF if self.picture_seen && code != 0x00 => Ok(State::Done),
            _ => Ok(State::Marker),
        }
    }

    fn open_segment(&mut self, code: u8, length: u16) -> Result<State, Damage> {
        // The length counts its own two bytes.
        let Some(left) = length.checked_sub(2) else {
            return match self.picture_seen {
                true => Ok(State::Done),
                false => Err(Damage("a segment is shorter than its own length")),
            };
        };
        if self.size.is_none()
            && is_frame(code)
            && left > FRAME_BYTES + COMPONENT_BYTES * MAX_COMPONENTS
        {
            return Err(Damage("the frame header does not fit its components"));
        }
        let keep = match code {
            _ if is_frame(code) && self.size.is_none() => Keep::Frame,
            APP1 if self.exif.is_none() => Keep::Exif,
            _ => Keep::Nothing,
        };
        Ok(State::Segment {
            code,
            keep,
            left: left.into(),
        })
    }

    fn keep(&mut self, keep: Keep, part: &[u8], left: u64) -> Keep {
        match keep {
            Keep::Nothing => return Keep::Nothing,
            Keep::Frame => self.kept.extend_from_slice(part),
            Keep::Exif => {
                let known = self.kept.len().min(EXIF_PREFIX.len());
                let expected = EXIF_PREFIX[known..].iter();
                if !expected.zip(part).all(|(expected, byte)| expected == byte) {
                    self.kept.clear();
                    return Keep::Nothing;
                }
                // Exactly, since doubling would reach twice the largest segment.
                let left = usize::try_from(left).unwrap_or(part.len());
                self.kept.reserve_exact(left);
                self.kept.extend_from_slice(part);
            }
        }
        keep
    }

    fn close_segment(&mut self, code: u8, keep: Keep) -> Result<State, Damage> {
        let kept = std::mem::take(&mut self.kept);
        match keep {
            Keep::Nothing => {}
            Keep::Frame => self.size = Some(frame_size(&kept)?),
            Keep::Exif if kept.starts_with(EXIF_PREFIX) => {
                self.exif = Some(Exif::read(&kept));
            }
            Keep::Exif => {}
        }
        Ok(match code {
            START_OF_SCAN => State::Scan,
            _ => State::Marker,
        })
    }
}

pub(super) fn is_restart(code: u8) -> bool {
    matches!(code, 0xD0..=0xD7)
}

/// Whether a marker is followed by a length: all but stuffing, temporary use, restarts, start and end of an image,
/// and what T.81 reserves.
pub(super) fn has_segment(code: u8) -> bool {
    matches!(code, 0xC0..=0xCF | 0xDA..=0xFE)
}

/// Every SOFn; 0xC4, 0xC8 and 0xCC lie among them and are Huffman tables, reserved and
/// arithmetic conditioning.
pub(super) fn is_frame(code: u8) -> bool {
    matches!(code, 0xC0..=0xCF) && !matches!(code, 0xC4 | 0xC8 | 0xCC)
}

/// Width and height of a frame header (T.81, B.2.2).
fn frame_size(header: &[u8]) -> Result<(u16, u16), Damage> {
    let &[_precision, h1, h0, w1, w0, components, ref rest @ ..] = header else {
        return Err(Damage("the frame header is too short"));
    };
    if components == 0 || rest.len() != usize::from(u16::from(components) * COMPONENT_BYTES) {
        return Err(Damage("the frame header does not fit its components"));
    }
    match (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0])) {
        (0, _) => Err(Damage("the width is zero")),
        // T.81 lets a DNL segment say the height after the first scan; no camera does so.
        (_, 0) => Err(Damage("the height is zero")),
        size => Ok(size),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{capture, exif_block, hex, moment, refused};
    use super::super::{ImageFacts, InspectError, MediaType, Orientation};

    /// Grey, 16 by 12.
    pub(in super::super) const BASELINE: &str = "\
        ffd8ffe000104a46494600010100000100010000ffdb004300100b0c0e0c0a100e0d0e1211101318281a1816\
        16183123251d283a333d3c3933383740485c4e404457453738506d51575f626768673e4d71797064785c6567\
        63ffc0000b08000c001001011100ffc4001500010100000000000000000000000000000706ffc40016100003\
        0000000000000000000000000000000542ffda0008010100003f009b492202490fd24880924fffd9\
    ";

    /// Grey, 40 by 24, with a restart marker after every block.
    pub(in super::super) const RESTARTS: &str = "\
        ffd8ffe000104a46494600010100000100010000ffdb00430003020203020203030303040303040508050504\
        04050a070706080c0a0c0c0b0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f1718161418121415\
        14ffc0000b080018002801011100ffc40014000100000000000000000000000000000008ffc4001710000301\
        0000000000000000000000000000084481ffdd00040001ffda0008010100003f001fadb2e1ffd04aadb2e1ff\
        d11fadb2e1ffd24aadb2e1ffd31fadb2e1ffd41fadb2e1ffd54aadb2e1ffd61fadb2e1ffd74aadb2e1ffd01f\
        adb2e1ffd11fadb2e1ffd24aadb2e1ffd31fadb2e1ffd44aadb2e1ffd51fadb2e1ffd9\
    ";

    /// Colour, 20 by 10, ten scans, taken at 18:30:05.25 two hours east of UTC.
    pub(in super::super) const PROGRESSIVE: &str = "\
        ffd8ffe000104a46494600010100000100010000ffe100684578696600004d4d002a00000008000187690004\
        000000010000001a000000000003900300020000001400000044901100020000000700000058929100020000\
        00033235000000000000323032343a30363a30312031383a33303a3035002b30323a30300000ffdb0043000d\
        090a0b0a080d0b0a0b0e0e0d0f13201513121213271c1e17202e2931302e292d2c333a4a3e333646372c2d40\
        5741464c4e525352323e5a615a50604a51524fffdb0043010e0e0e131113261515264f352d354f4f4f4f4f4f\
        4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f4f\
        ffc2001108000a001403012200021101031101ffc40018000003010100000000000000000000000000040503\
        06ffc400160101010100000000000000000000000000030104ffda000c0301000210031000000194feee95e7\
        4a63e3ffc4001810000301010000000000000000000000000001030231ffda0008010100010502c44cc45144\
        c5d3ffc400191100030003000000000000000000000000000203010411ffda0008010301013f01d5bb18b370\
        ffc4001a110002020300000000000000000000000000011112020331ffda0008010201013f01b461663d90f8\
        7fffc400161000030000000000000000000000000000102031ffda0008010100063f02113fffc4001a100003\
        000301000000000000000000000000011121315161ffda0008010100013f21f03ba20d844297890fffda000c\
        03010002000300000010880fffc400161100030000000000000000000000000000000111ffda000801030101\
        3f10a52261ffc40017110101010100000000000000000000000001110091ffda0008010201013f100005566b\
        04737fffc4001b10010002030101000000000000000000000100211131416191ffda0008010100013f10c988\
        101009a14f712851f212a8e726a52b93ffd9\
    ";

    fn segment(code: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len() + 2).unwrap();
        [&[0xFF, code], &length.to_be_bytes()[..], payload].concat()
    }

    fn frame(code: u8, width: u16, height: u16) -> Vec<u8> {
        let [w1, w0] = width.to_be_bytes();
        let [h1, h0] = height.to_be_bytes();
        segment(code, &[8, h1, h0, w1, w0, 1, 1, 0x11, 0])
    }

    fn scan(data: &[u8]) -> Vec<u8> {
        [&segment(0xDA, &[1, 1, 0, 0, 63, 0]), data].concat()
    }

    /// The parts between the markers that start and end an image.
    fn image(parts: &[Vec<u8>]) -> Vec<u8> {
        [b"\xFF\xD8", &parts.concat()[..], b"\xFF\xD9"].concat()
    }

    fn inspect(bytes: &[u8]) -> Result<ImageFacts, InspectError> {
        super::super::tests::inspect(MediaType::Jpeg, bytes)
    }

    fn damage(bytes: &[u8]) -> &'static str {
        refused(MediaType::Jpeg, bytes)
    }

    #[test]
    fn real_files_tell_their_stored_size_and_capture_time() {
        let facts = |width, height, taken_at| ImageFacts {
            width: Some(width),
            height: Some(height),
            orientation: Some(Orientation::default()),
            taken_at,
        };
        assert_eq!(inspect(&hex(BASELINE)), Ok(facts(16, 12, None)));
        assert_eq!(inspect(&hex(RESTARTS)), Ok(facts(40, 24, None)));
        assert_eq!(
            inspect(&hex(PROGRESSIVE)),
            Ok(facts(20, 10, moment("2024-06-01T16:30:05.25Z")))
        );
    }

    #[test]
    fn every_kind_of_frame_tells_the_size() {
        for code in (0xC0..=0xCF).filter(|code| ![0xC4, 0xC8, 0xCC].contains(code)) {
            let facts = inspect(&image(&[frame(code, 300, 200), scan(b"x")])).unwrap();
            assert_eq!((facts.width, facts.height), (Some(300), Some(200)));
        }
    }

    #[test]
    fn tables_that_share_the_range_of_frames_are_not_frames() {
        for code in [0xC4, 0xC8, 0xCC] {
            let bytes = image(&[frame(code, 1, 1), frame(0xC0, 300, 200), scan(b"x")]);
            assert_eq!(inspect(&bytes).unwrap().width, Some(300));
        }
    }

    #[test]
    fn the_end_marker_of_a_thumbnail_is_not_the_end_of_the_image() {
        let thumbnail = segment(0xE2, b"\xFF\xD8\xFF\xD9");
        let mut bytes = image(&[thumbnail, frame(0xC0, 3, 2), scan(b"x")]);
        assert_eq!(inspect(&bytes).unwrap().width, Some(3));
        bytes.truncate(bytes.len() - 2);
        assert_eq!(inspect(&bytes), CUT_OFF);
    }

    const CUT_OFF: Result<ImageFacts, InspectError> = Err(InspectError::Truncated {
        expected: MediaType::Jpeg,
    });

    #[test]
    fn stuffed_zeros_restarts_and_fill_bytes_do_not_end_a_scan() {
        let data = b"a\xFF\x00b\xFF\xD0c\xFF\xFF\xD7d\xFF\xFF\xFF";
        let bytes = image(&[vec![0xFF; 3], frame(0xC2, 3, 2), scan(data), scan(b"z")]);
        assert_eq!(inspect(&bytes).unwrap().height, Some(2));
    }

    #[test]
    fn what_follows_the_image_is_left_alone() {
        let bytes = [hex(BASELINE), hex(PROGRESSIVE), b"\xFF\x00vendor".to_vec()].concat();
        assert_eq!(inspect(&bytes), inspect(&hex(BASELINE)));
    }

    #[test]
    fn the_first_exif_block_counts_and_xmp_before_it_does_not() {
        let exif = |second: &str| {
            let date = format!("2020:02:29 01:02:{second}");
            segment(
                0xE1,
                &[&b"Exif\0\0"[..], &exif_block(true, &capture(&date))].concat(),
            )
        };
        let xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>");
        let almost = segment(0xE1, b"Exi");
        let picture = [frame(0xC0, 3, 2), scan(b"z")].concat();
        let bytes = image(&[xmp, almost, exif("03"), exif("04"), picture]);
        assert_eq!(
            inspect(&bytes).unwrap().taken_at,
            moment("2020-02-29T01:02:03Z")
        );
    }

    #[test]
    fn unreadable_exif_costs_the_capture_time_alone() {
        let exif = segment(0xE1, b"Exif\0\0MM\0*\xFF\xFF\xFF\xFF");
        let facts = inspect(&image(&[exif, frame(0xC0, 3, 2), scan(b"z")])).unwrap();
        assert_eq!((facts.width, facts.taken_at), (Some(3), None));
    }

    #[test]
    fn the_largest_exif_segment_is_the_most_that_is_ever_held() {
        let mut payload = b"Exif\0\0".to_vec();
        payload.resize(usize::from(u16::MAX) - 2, 0);
        let bytes = [b"\xFF\xD8", &segment(0xE1, &payload)[..]].concat();
        let mut walker = super::Walker::new();
        for chunk in bytes.chunks(1000) {
            assert!(walker.push(chunk).is_ok());
            assert!(walker.kept.capacity() <= 64 * 1024);
        }
        assert_eq!(walker.kept.capacity(), 0);
    }

    /// As decoders do, which look for the next marker.
    #[test]
    fn stray_bytes_between_segments_are_passed_over() {
        let comment = || segment(0xFE, b"x");
        for stray in [
            &b"\0"[..],
            b"ab",
            b"\xFF\x00",
            b"\xFF\x02",
            b"\xFF\xFF\xFF",
            b"\xFF\x01\xFF\xD0",
        ] {
            let parts = [
                comment(),
                stray.to_vec(),
                frame(0xC0, 3, 2),
                stray.to_vec(),
                scan(b"z"),
            ];
            assert_eq!(inspect(&image(&parts)).unwrap().width, Some(3), "{stray:?}");
        }
    }

    /// Trailers where the end marker should be: with what no picture holds, and with nothing to tell them by.
    #[test]
    fn a_trailer_instead_of_the_end_marker_is_left_alone() {
        for whole in [BASELINE, RESTARTS] {
            let bytes = hex(whole);
            let facts = inspect(&bytes);
            let open = &bytes[..bytes.len() - 2];
            for trailer in [
                &b"\0"[..],
                b"\xFF\0",
                b"\0\0\x01\x08\x0E\0\0\0Panorama_Shot_InfoSEFHe\0\0\0SEFT",
                b"\0\xFF\x5B\x10SEFT",
                b"SEFH\xFF\xE1\xFF\xFFSEFT",
                b"SEFH\xFF\xE1\0\x01SEFT",
                b"\xFF\xD8\xFF\xE0\0\x10JFIF",
                b"\0\0\0\x18ftypmp42\xFF\x00\xFF\xD3",
            ] {
                assert_eq!(inspect(&[open, trailer].concat()), facts, "{trailer:?}");
            }
        }
        // What cannot be counted counts as cut off, unless a trailer is seen.
        let bytes = hex(PROGRESSIVE);
        let open = &bytes[..bytes.len() - 2];
        assert_eq!(inspect(&[open, b"SEFT"].concat()), CUT_OFF);
        assert_eq!(inspect(&[open, b"\xFF\x5BSEFT"].concat()), inspect(&bytes));
    }

    #[test]
    fn a_scan_without_data_is_no_picture() {
        let header = [b"\xFF\xD8", &frame(0xC0, 3, 2)[..]].concat();
        for rest in [
            vec![],
            scan(b""),
            scan(b"\xFF\xFF"),
            scan(b"\xFF\xD0\xFF\xD1"),
            scan(b"\xFF\x5B"),
        ] {
            assert_eq!(inspect(&[&header[..], &rest].concat()), CUT_OFF, "{rest:?}");
            let ended = [&header[..], &rest, b"\xFF\xD9"].concat();
            assert_eq!(damage(&ended), "the image ends without a picture");
        }
        let bytes = image(&[frame(0xC0, 3, 2), scan(b""), scan(b"z")]);
        assert!(inspect(&bytes).is_ok());
    }

    #[test]
    fn broken_rules_are_named() {
        let good = frame(0xC0, 3, 2);
        let with = |part: &[u8]| image(&[good.clone(), part.to_vec(), scan(b"")]);
        assert_eq!(damage(&image(&[frame(0xC0, 0, 2)])), "the width is zero");
        assert_eq!(damage(&image(&[frame(0xC0, 3, 0)])), "the height is zero");
        assert_eq!(
            damage(&image(&[segment(0xC0, &[8, 0, 1, 0, 1])])),
            "the frame header is too short"
        );
        for header in [
            &[8, 0, 1, 0, 1, 0][..],
            &[8, 0, 1, 0, 1, 2, 1, 1, 1],
            &[1; 1000],
        ] {
            assert_eq!(
                damage(&image(&[segment(0xC0, header)])),
                "the frame header does not fit its components"
            );
        }
        assert_eq!(
            damage(&image(&[scan(b"")])),
            "a scan comes before its frame"
        );
        assert_eq!(
            damage(&image(std::slice::from_ref(&good))),
            "the image ends without a picture"
        );
        assert_eq!(
            damage(&with(b"\xFF\xD8")),
            "a second image starts inside the first"
        );
        assert_eq!(
            damage(&with(b"\xFF\xE0\0\x01")),
            "a segment is shorter than its own length"
        );
    }
}
