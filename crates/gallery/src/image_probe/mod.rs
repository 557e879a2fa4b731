//! What an image says about itself, read while its bytes stream past.
//!
//! An [`Inspector`] is told the declared [`MediaType`], is pushed every chunk of an upload in order
//! and answers with [`ImageFacts`], or with the reason why these bytes are not such an image. Where
//! the chunks are cut makes no difference to the answer.
//!
//! Bytes are checked for being what they are said to be, not for being flawless: what every viewer passes
//! over is passed over here, what breaks off is refused (decision 0013).
//!
//! Invariant: memory is bounded whatever the bytes say. What is kept at a time is one Exif block of at most
//! 64 KiB, twice as much of a TIFF file, or 256 KiB of HEIF boxes; no pixel is decoded.
//!
//! Deliberately absent: decoding, thumbnails, and any look at the pixels of HEIC, TIFF and camera RAW:
//! those are stored as they are.

mod blocks;
mod exif;
mod heif;
mod jpeg;
mod media;
mod png;
mod webp;

use std::fmt;

use chrono::{DateTime, Utc};

pub use media::MediaType;

use crate::Orientation;

/// Content is recognised within this many first bytes: enough to find markup behind blank lines.
const HEAD_BYTES: usize = 256;

/// An Exif block is bounded by what a JPEG segment can hold; other containers get no more.
const EXIF_LIMIT: u32 = 64 * 1024;

const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// What a whole image said about itself; `None` is "not said", or not looked for in this format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Pixels across, as the image is displayed: turned as its orientation says.
    pub width: Option<u32>,
    /// Pixels down, as the image is displayed.
    pub height: Option<u32>,
    /// How the stored pixels are turned for display. An image that says nothing stands upright.
    pub orientation: Option<Orientation>,
    /// When the shutter was released, to the microsecond: Exif `DateTimeOriginal`, else
    /// `DateTimeDigitized`, each with its fraction and moved to UTC by its own offset or `OffsetTime`.
    /// Many cameras write no offset; their local time is then **taken as UTC**, which keeps the order of
    /// one camera's photos and may be off by its time zone.
    pub taken_at: Option<DateTime<Utc>>,
}

impl ImageFacts {
    /// Of an image with stored sides and its Exif block, where it has one.
    fn of((width, height): (u32, u32), exif: Option<exif::Exif>) -> Self {
        let exif = exif.unwrap_or_default();
        let (width, height) = exif.orientation.displayed(width, height);
        Self {
            width: Some(width),
            height: Some(height),
            orientation: Some(exif.orientation),
            taken_at: exif.taken_at,
        }
    }
}

/// What an [`Inspector`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The image is whole.
    Whole(ImageFacts),
    /// Its end was not seen: it breaks off, or something else stands where its end marker should be. A
    /// [`SecondLook`] at the same bytes decides.
    Open(ImageFacts),
}

/// Decides whether an image without an end is whole, from the bytes that an [`Inspector`] has seen.
pub struct SecondLook {
    expected: MediaType,
    blocks: blocks::Blocks,
}

impl SecondLook {
    /// Starts on the same stream from its beginning.
    #[must_use]
    pub fn new(expected: MediaType) -> Self {
        Self {
            expected,
            blocks: blocks::Blocks::new(),
        }
    }

    /// Takes the next bytes. True once all of the image has been seen: the rest makes no difference.
    pub fn push(&mut self, chunk: &[u8]) -> bool {
        self.blocks.push(chunk);
        self.blocks.complete()
    }

    /// Says whether the image is whole, now that there are no more bytes.
    ///
    /// # Errors
    ///
    /// [`InspectError::Truncated`] if it is not.
    pub fn finish(self) -> Result<(), InspectError> {
        let expected = self.expected;
        match self.blocks.complete() {
            true => Ok(()),
            false => Err(InspectError::Truncated { expected }),
        }
    }
}

impl fmt::Debug for SecondLook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecondLook")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

/// Why bytes are not an image of the declared type. All three are final: the same bytes fail again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// The bytes are something else altogether.
    #[error("expected {expected}, found {found}")]
    WrongContent {
        /// The declared type.
        expected: MediaType,
        /// What the bytes look like, with its article: "a PDF document".
        found: &'static str,
    },
    /// The bytes begin as that type and stop before its end.
    #[error("the {expected} content ends too early")]
    Truncated {
        /// The declared type.
        expected: MediaType,
    },
    /// The bytes begin as that type and then break its rules.
    #[error("the {expected} content is damaged: {detail}")]
    Damaged {
        /// The declared type.
        expected: MediaType,
        /// The broken rule.
        detail: &'static str,
    },
}

/// Inspects one image as it streams past.
pub struct Inspector {
    expected: MediaType,
    state: State,
}

enum State {
    /// The first bytes, until they have been recognised.
    Sniffing(Vec<u8>),
    Walking(Walker),
    Failed(InspectError),
}

enum Walker {
    Jpeg(jpeg::Walker),
    Png(png::Walker),
    Webp(webp::Walker),
    /// A TIFF file or a RAW file built like one. Only TIFF's own sides are those of the picture.
    Tiff {
        walker: exif::Walker,
        sized: bool,
    },
    Heif(heif::Walker),
    /// A format that is stored as it is.
    Opaque,
}

impl Inspector {
    /// Starts on a stream whose declared type is `expected`.
    pub fn new(expected: MediaType) -> Self {
        Self {
            expected,
            state: State::Sniffing(Vec::new()),
        }
    }

    /// Takes the next bytes, however many.
    ///
    /// # Errors
    ///
    /// [`InspectError::WrongContent`] as soon as the content is recognised as something else, and
    /// after 256 bytes at the latest; [`InspectError::Damaged`] at the first broken rule. An error
    /// is repeated by every later call.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), InspectError> {
        let result = match &mut self.state {
            State::Failed(error) => Err(*error),
            State::Walking(walker) => walker.push(chunk, self.expected),
            State::Sniffing(head) => {
                let mut rest = chunk;
                let room = HEAD_BYTES.saturating_sub(head.len());
                head.extend_from_slice(take(&mut rest, room as u64));
                match judge(self.expected, head, head.len() >= HEAD_BYTES) {
                    Ok(Verdict::Undecided) => Ok(()),
                    Ok(Verdict::AsExpected) => {
                        let head = std::mem::take(head);
                        let mut walker = Walker::new(self.expected);
                        let result = walker
                            .push(&head, self.expected)
                            .and_then(|()| walker.push(rest, self.expected));
                        self.state = State::Walking(walker);
                        result
                    }
                    Err(error) => Err(error),
                }
            }
        };
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// Says what the image is, now that there are no more bytes.
    ///
    /// # Errors
    ///
    /// [`InspectError::Truncated`] if the image should have gone on, [`InspectError::WrongContent`]
    /// if it was too short to be recognised before, and any error that a push returned.
    pub fn finish(self) -> Result<Finding, InspectError> {
        let expected = self.expected;
        match self.state {
            State::Failed(error) => Err(error),
            State::Walking(walker) => walker.finish().ok_or(InspectError::Truncated { expected }),
            State::Sniffing(head) => match judge(expected, &head, true)? {
                Verdict::Undecided => Err(InspectError::Truncated { expected }),
                // A short RAW file without a known signature: all others are walked by now.
                Verdict::AsExpected => Ok(Finding::Whole(ImageFacts::default())),
            },
        }
    }
}

impl fmt::Debug for Inspector {
    /// Names the type alone: the bytes seen so far are somebody's photo.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector")
            .field("expected", &self.expected)
            .finish_non_exhaustive()
    }
}

impl Walker {
    fn new(expected: MediaType) -> Self {
        match expected.content() {
            Content::Jpeg => Self::Jpeg(jpeg::Walker::new()),
            Content::Png => Self::Png(png::Walker::new()),
            Content::Webp => Self::Webp(webp::Walker::new()),
            Content::TiffOrRaw => Self::Tiff {
                walker: exif::Walker::new(),
                sized: expected == MediaType::Tiff,
            },
            Content::Heif => Self::Heif(heif::Walker::new()),
            Content::Foreign(_) => Self::Opaque,
        }
    }

    fn push(&mut self, chunk: &[u8], expected: MediaType) -> Result<(), InspectError> {
        let walked = match self {
            Self::Jpeg(walker) => walker.push(chunk),
            Self::Png(walker) => walker.push(chunk),
            Self::Webp(walker) => walker.push(chunk),
            Self::Tiff { walker, .. } => {
                walker.push(chunk);
                Ok(())
            }
            Self::Heif(walker) => {
                walker.push(chunk);
                Ok(())
            }
            Self::Opaque => Ok(()),
        };
        walked.map_err(|Damage(detail)| InspectError::Damaged { expected, detail })
    }

    fn finish(self) -> Option<Finding> {
        match self {
            Self::Jpeg(walker) => walker.finish(),
            Self::Png(walker) => walker.finish(),
            Self::Webp(walker) => walker.finish(),
            Self::Tiff { walker, sized } => {
                Some(Finding::Whole(tiff_facts(walker.finish(), sized)))
            }
            Self::Heif(walker) => Some(Finding::Whole(walker.finish())),
            Self::Opaque => Some(Finding::Whole(ImageFacts::default())),
        }
    }
}

fn tiff_facts(said: exif::TiffFacts, sized: bool) -> ImageFacts {
    match said.size.filter(|_| sized) {
        Some(size) => ImageFacts::of(size, said.exif),
        // The first directory of a RAW file is often that of its preview, which is turned alike.
        None => ImageFacts {
            orientation: said.exif.map(|exif| exif.orientation),
            taken_at: said.exif.and_then(|exif| exif.taken_at),
            ..ImageFacts::default()
        },
    }
}

/// The rule that a walker saw broken; the inspector adds the type.
struct Damage(&'static str);

/// Splits up to `wanted` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], wanted: u64) -> &'a [u8] {
    let count = usize::try_from(wanted).map_or(input.len(), |wanted| wanted.min(input.len()));
    let (front, rest) = input.split_at(count);
    *input = rest;
    front
}

/// Collects `N` bytes over as many chunks as it takes, again and again.
struct Field<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Field<N> {
    fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    /// `Some` once complete, and the field is then empty again; `None` used up all of `input`.
    fn fill(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        let part = take(input, (N - self.len) as u64);
        self.bytes[self.len..][..part.len()].copy_from_slice(part);
        self.len += part.len();
        if self.len < N {
            return None;
        }
        self.len = 0;
        Some(self.bytes)
    }
}

/// What the first bytes of a file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Jpeg,
    Png,
    Webp,
    Heif,
    TiffOrRaw,
    Foreign(&'static str),
}

impl Content {
    fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "a JPEG image",
            Self::Png => "a PNG image",
            Self::Webp => "a WebP image",
            Self::Heif => "a HEIF image",
            Self::TiffOrRaw => "a TIFF or RAW image",
            Self::Foreign(name) => name,
        }
    }
}

/// Bytes at offsets that must all be there.
type Signature = &'static [(usize, &'static [u8])];

/// No signature is the beginning of another, so a content once recognised stays so.
const SIGNATURES: &[(Signature, Content)] = &[
    (&[(0, b"\xFF\xD8\xFF")], Content::Jpeg),
    (&[(0, b"\x89PNG\r\n\x1A\n")], Content::Png),
    (&[(0, b"RIFF"), (8, b"WEBP")], Content::Webp),
    (&[(0, b"II*\0")], Content::TiffOrRaw),
    (&[(0, b"MM\0*")], Content::TiffOrRaw),
    // BigTIFF.
    (&[(0, b"II+\0")], Content::TiffOrRaw),
    (&[(0, b"MM\0+")], Content::TiffOrRaw),
    // Panasonic, Olympus (three spellings), Fujifilm.
    (&[(0, b"IIU\0")], Content::TiffOrRaw),
    (&[(0, b"IIRO")], Content::TiffOrRaw),
    (&[(0, b"IIRS")], Content::TiffOrRaw),
    (&[(0, b"MMOR")], Content::TiffOrRaw),
    (&[(0, b"FUJIFILM")], Content::TiffOrRaw),
    // Sigma, Minolta, Canon before its TIFF.
    (&[(0, b"FOVb")], Content::TiffOrRaw),
    (&[(0, b"\0MRM")], Content::TiffOrRaw),
    (&[(0, b"II\x1A\0\0\0HEAPCCDR")], Content::TiffOrRaw),
    (&[(0, b"GIF87a")], Content::Foreign("a GIF image")),
    (&[(0, b"GIF89a")], Content::Foreign("a GIF image")),
    (&[(0, b"BM")], Content::Foreign("a BMP image")),
    (&[(0, b"8BPS")], Content::Foreign("a Photoshop document")),
    (&[(0, b"MZ")], Content::Foreign("a Windows executable")),
    (&[(0, b"\x7FELF")], Content::Foreign("an ELF executable")),
    (&[(0, b"\xCF\xFA\xED\xFE")], MACH_O),
    (&[(0, b"\xCE\xFA\xED\xFE")], MACH_O),
    (&[(0, b"\xFE\xED\xFA\xCE")], MACH_O),
    (&[(0, b"\xFE\xED\xFA\xCF")], MACH_O),
    (&[(0, b"\xCA\xFE\xBA\xBE")], MACH_O),
    (&[(0, b"#!")], Content::Foreign("a script")),
    (&[(0, b"%PDF-")], Content::Foreign("a PDF document")),
    (&[(0, b"%!PS")], Content::Foreign("a PostScript document")),
    (&[(0, b"PK\x03\x04")], Content::Foreign("a ZIP archive")),
    (&[(0, b"PK\x05\x06")], Content::Foreign("a ZIP archive")),
    (&[(0, b"Rar!")], Content::Foreign("a RAR archive")),
    (&[(0, b"7z\xBC\xAF")], Content::Foreign("a 7-Zip archive")),
    (&[(0, b"\x1F\x8B")], Content::Foreign("a gzip archive")),
];

const MACH_O: Content = Content::Foreign("a macOS executable");

/// Where an ISO base media file (ISO/IEC 14496-12, 4.3) has its `ftyp` and its major brand.
const FILE_TYPE: Signature = &[(4, b"ftyp")];
const BRAND_AT: usize = 8;
const BRAND_END: usize = 12;

enum Verdict {
    AsExpected,
    /// More bytes are needed, which at the end of the stream means that they are missing.
    Undecided,
}

/// Compares what is expected with the first bytes. `complete` says that `head` will not grow.
fn judge(expected: MediaType, head: &[u8], complete: bool) -> Result<Verdict, InspectError> {
    let wanted = expected.content();
    match sniff(head, complete) {
        Some(content) if content == wanted => Ok(Verdict::AsExpected),
        Some(content) => Err(InspectError::WrongContent {
            expected,
            found: content.name(),
        }),
        None if !complete || begins_as(wanted, head) => Ok(Verdict::Undecided),
        // There are more RAW formats and vendor quirks than anybody lists.
        None if wanted == Content::TiffOrRaw => Ok(Verdict::AsExpected),
        None => Err(InspectError::WrongContent {
            expected,
            found: "unknown content",
        }),
    }
}

fn sniff(head: &[u8], complete: bool) -> Option<Content> {
    let known = SIGNATURES
        .iter()
        .find(|(signature, _)| matches(signature, head) == Some(true));
    if let Some((_, content)) = known {
        return Some(*content);
    }
    if matches(FILE_TYPE, head) == Some(true) {
        return head.get(BRAND_AT..BRAND_END).map(brand);
    }
    markup(head, complete)
}

/// HEIF has an open-ended list of brands, so only those of other formats are singled out.
fn brand(brand: &[u8]) -> Content {
    match brand {
        b"crx " => Content::TiffOrRaw,
        b"avif" | b"avis" => Content::Foreign("an AVIF image"),
        b"qt  " | b"isom" | b"avc1" | b"dash" | b"M4V " | b"M4A " | b"MSNV" => VIDEO,
        [b'i', b's', b'o', b'0'..=b'9'] | [b'm', b'p', b'4', _] | [b'3', b'g', _, _] => VIDEO,
        _ => Content::Heif,
    }
}

const VIDEO: Content = Content::Foreign("a video");

/// HTML and its kin: a tag behind an optional byte order mark and white space, as browsers sniff it.
fn markup(head: &[u8], complete: bool) -> Option<Content> {
    // Both lengths keep an early verdict from being overturned by later bytes.
    const TAG_BYTES: usize = 4;
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let tag = text.trim_ascii_start().strip_prefix(b"<")?;
    if !complete && (tag.len() < TAG_BYTES || head.len() < BRAND_END) {
        return None;
    }
    let begins = |name: &[u8]| {
        tag.get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    if begins(b"?xml") {
        return Some(Content::Foreign("an XML document"));
    }
    if begins(b"svg") {
        return Some(Content::Foreign("an SVG drawing"));
    }
    match tag.first()? {
        b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'/' | b'?' => Some(Content::Foreign("an HTML page")),
        _ => None,
    }
}

/// Whether `head`, too short to be recognised, may be the beginning of `wanted`.
fn begins_as(wanted: Content, head: &[u8]) -> bool {
    let possible = |signature| matches(signature, head) != Some(false);
    match wanted {
        Content::Heif => possible(FILE_TYPE),
        // RAW has no signature that it must begin with; it must only begin.
        Content::TiffOrRaw | Content::Foreign(_) => head.is_empty(),
        Content::Jpeg | Content::Png | Content::Webp => SIGNATURES
            .iter()
            .any(|(signature, content)| *content == wanted && possible(signature)),
    }
}

/// `None`: as far as `head` goes, yes.
fn matches(signature: Signature, head: &[u8]) -> Option<bool> {
    let mut whole = true;
    for (at, expected) in signature {
        let present = head.get(*at..).unwrap_or_default();
        if expected.iter().zip(present).any(|(a, b)| a != b) {
            return Some(false);
        }
        whole &= present.len() >= expected.len();
    }
    whole.then_some(true)
}

#[cfg(test)]
mod tests {
    use ::exif::Tag;
    use proptest::prelude::*;

    use super::exif::Exif;
    use super::*;

    fn taken_at(block: &[u8]) -> Option<DateTime<Utc>> {
        Exif::read(block).taken_at
    }

    /// Every real file, with its type.
    fn real_files() -> Vec<(MediaType, Vec<u8>)> {
        [
            (MediaType::Jpeg, jpeg::tests::BASELINE),
            (MediaType::Jpeg, jpeg::tests::RESTARTS),
            (MediaType::Jpeg, jpeg::tests::PROGRESSIVE),
            (MediaType::Png, png::tests::PLAIN),
            (MediaType::Png, png::tests::WITH_EXIF),
            (MediaType::Webp, webp::tests::LOSSY),
            (MediaType::Webp, webp::tests::LOSSLESS),
            (MediaType::Webp, webp::tests::EXTENDED),
            (MediaType::Webp, webp::tests::ANIMATED),
        ]
        .map(|(media_type, digits)| (media_type, hex(digits)))
        .to_vec()
    }

    pub(super) fn hex(digits: &str) -> Vec<u8> {
        let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
            panic!("an odd number of digits");
        };
        let byte =
            |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.iter().map(byte).collect()
    }

    pub(super) fn moment(rfc3339: &str) -> Option<DateTime<Utc>> {
        Some(DateTime::parse_from_rfc3339(rfc3339).unwrap().to_utc())
    }

    /// A block with an Exif directory of ASCII entries.
    pub(super) fn exif_block(little_endian: bool, texts: &[(Tag, &[u8])]) -> Vec<u8> {
        let u16 = |value: u16| match little_endian {
            true => value.to_le_bytes(),
            false => value.to_be_bytes(),
        };
        let u32 = |value: usize| match little_endian {
            true => u32::try_from(value).unwrap().to_le_bytes(),
            false => u32::try_from(value).unwrap().to_be_bytes(),
        };
        let mut block = match little_endian {
            true => b"II*\0".to_vec(),
            false => b"MM\0*".to_vec(),
        };
        block.extend(u32(8));
        block.extend(u16(1));
        block.extend(u16(Tag::ExifIFDPointer.number()));
        block.extend(u16(4));
        block.extend(u32(1));
        block.extend(u32(26));
        block.extend(u32(0));
        block.extend(u16(u16::try_from(texts.len()).unwrap()));
        let mut values = Vec::new();
        let values_at = 26 + 2 + 12 * texts.len() + 4;
        for (tag, text) in texts {
            block.extend(u16(tag.number()));
            block.extend(u16(2));
            block.extend(u32(text.len()));
            if text.len() <= 4 {
                let mut inline = [0; 4];
                inline[..text.len()].copy_from_slice(text);
                block.extend(inline);
            } else {
                block.extend(u32(values_at + values.len()));
                values.extend_from_slice(text);
            }
        }
        block.extend(u32(0));
        block.extend(values);
        block
    }

    pub(super) fn capture(date: &str) -> [(Tag, &[u8]); 1] {
        [(Tag::DateTimeOriginal, date.as_bytes())]
    }

    pub(super) fn inspect(expected: MediaType, bytes: &[u8]) -> Result<ImageFacts, InspectError> {
        let mut inspector = Inspector::new(expected);
        inspector.push(bytes)?;
        decide(expected, inspector.finish()?, &mut bytes.chunks(7))
    }

    /// Takes a second look where the first leaves the end open.
    fn decide(
        expected: MediaType,
        found: Finding,
        bytes: &mut dyn Iterator<Item = &[u8]>,
    ) -> Result<ImageFacts, InspectError> {
        let facts = match found {
            Finding::Whole(facts) => return Ok(facts),
            Finding::Open(facts) => facts,
        };
        let mut look = SecondLook::new(expected);
        for chunk in bytes {
            if look.push(chunk) {
                break;
            }
        }
        look.finish().map(|()| facts)
    }

    /// Cuts `bytes` by the given lengths, over and over.
    fn inspect_cut(
        expected: MediaType,
        mut bytes: &[u8],
        lengths: &[usize],
    ) -> Result<ImageFacts, InspectError> {
        let mut chunks = Vec::new();
        for length in lengths.iter().cycle() {
            chunks.push(take(&mut bytes, *length as u64));
            if bytes.is_empty() {
                break;
            }
        }
        let mut inspector = Inspector::new(expected);
        for chunk in &chunks {
            inspector.push(chunk)?;
        }
        decide(expected, inspector.finish()?, &mut chunks.iter().copied())
    }

    /// The rule that `bytes` break.
    pub(super) fn refused(expected: MediaType, bytes: &[u8]) -> &'static str {
        match inspect(expected, bytes) {
            Err(InspectError::Damaged { detail, .. }) => detail,
            other => panic!("not damaged but {other:?}"),
        }
    }

    fn found(expected: MediaType, bytes: &[u8]) -> &'static str {
        match inspect(expected, bytes) {
            Err(InspectError::WrongContent { found, .. }) => found,
            other => panic!("not the wrong content but {other:?}"),
        }
    }

    #[test]
    fn disguised_files_are_called_by_their_name() {
        let files: [(&[u8], &str); 25] = [
            (b"MZ\x90\0\x03", "a Windows executable"),
            (b"\x7FELF\x02\x01", "an ELF executable"),
            (b"\xCF\xFA\xED\xFE", "a macOS executable"),
            (b"#!/bin/sh\n", "a script"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"PK\x03\x04rest", "a ZIP archive"),
            (b"\x1F\x8B\x08", "a gzip archive"),
            (b"GIF89a\x01\0", "a GIF image"),
            (b"BM\x46\0", "a BMP image"),
            (b"8BPS\0\x01", "a Photoshop document"),
            (b"<!DOCTYPE html><html>", "an HTML page"),
            (b"\xEF\xBB\xBF \r\n\t<Html>", "an HTML page"),
            (b"<p>", "an HTML page"),
            (b"<!--", "an HTML page"),
            (b"<SVG xmlns='x'>", "an SVG drawing"),
            (b"<?xml version='1.0'?>", "an XML document"),
            (b"\0\0\0\x18ftypavif\0", "an AVIF image"),
            (b"\0\0\0\x18ftypisom\0", "a video"),
            (b"\0\0\0\x18ftypqt  \0", "a video"),
            (b"\0\0\0\x18ftypheic\0", "a HEIF image"),
            (b"\0\0\0\x18ftypcrx \0", "a TIFF or RAW image"),
            (b"II*\0\x08\0\0\0", "a TIFF or RAW image"),
            (b"FUJIFILMCCD-RAW ", "a TIFF or RAW image"),
            (b"RIFF\0\0\0\0WAVEfmt ", "unknown content"),
            (b"just some words", "unknown content"),
        ];
        for (bytes, name) in files {
            assert_eq!(found(MediaType::Jpeg, bytes), name);
        }
        let blank = [&[b' '; 200][..], b"<script>"].concat();
        assert_eq!(found(MediaType::Dng, &blank), "an HTML page");
    }

    #[test]
    fn one_image_type_is_not_another() {
        let other = [
            ("a JPEG image", hex(jpeg::tests::BASELINE)),
            ("a PNG image", hex(png::tests::PLAIN)),
            ("a WebP image", hex(webp::tests::LOSSY)),
        ];
        for (name, bytes) in &other {
            for expected in MediaType::ALL {
                match inspect(expected, bytes) {
                    Ok(_) => assert_eq!(expected.content().name(), *name),
                    Err(_) => assert_eq!(found(expected, bytes), *name),
                }
            }
        }
    }

    #[test]
    fn wrong_content_is_refused_before_the_stream_ends() {
        let wrong = |found| {
            Err(InspectError::WrongContent {
                expected: MediaType::Png,
                found,
            })
        };
        let mut inspector = Inspector::new(MediaType::Png);
        assert_eq!(inspector.push(b"M"), Ok(()));
        assert_eq!(inspector.push(b"Z"), wrong("a Windows executable"));
        assert_eq!(inspector.push(b"more"), wrong("a Windows executable"));
        assert_eq!(
            inspector.finish(),
            wrong("a Windows executable").map(|()| Finding::Whole(ImageFacts::default()))
        );

        let mut inspector = Inspector::new(MediaType::Png);
        assert_eq!(inspector.push(&[b'x'; HEAD_BYTES - 1]), Ok(()));
        assert_eq!(inspector.push(b"x"), wrong("unknown content"));
    }

    #[test]
    fn heif_needs_its_file_type_box() {
        for expected in [MediaType::Heic, MediaType::Heif] {
            for brand in [b"heic", b"heix", b"mif1", b"msf1"] {
                let bytes = [b"\0\0\0\x18ftyp", &brand[..], b"\0\0\0\0"].concat();
                assert_eq!(inspect(expected, &bytes), Ok(ImageFacts::default()));
            }
            assert_eq!(found(expected, b"\0\0\0\x18free"), "unknown content");
            for bytes in [&b""[..], b"\0\0\0", b"\0\0\0\x18ftyphei"] {
                assert_eq!(
                    inspect(expected, bytes),
                    Err(InspectError::Truncated { expected })
                );
            }
        }
    }

    #[test]
    fn a_box_whose_length_looks_like_markup_is_still_a_box() {
        let bytes = b"<divftypheic\0\0\0\0";
        let whole = inspect(MediaType::Heic, bytes);
        assert_eq!(whole, Ok(ImageFacts::default()));
        assert_eq!(inspect_cut(MediaType::Heic, bytes, &[1]), whole);
    }

    #[test]
    fn raw_is_stored_as_it_is_unless_it_is_something_else() {
        let long = [7; 1000];
        for expected in MediaType::ALL {
            if expected.content() != Content::TiffOrRaw {
                continue;
            }
            for bytes in [&b"II*\0\x08"[..], b"MM\0*", b"IIU\0", b"?", &long] {
                assert_eq!(inspect(expected, bytes), Ok(ImageFacts::default()));
            }
            assert_eq!(found(expected, b"MZ\x90"), "a Windows executable");
            assert_eq!(found(expected, b"%PDF-1.4"), "a PDF document");
            assert_eq!(
                inspect(expected, b""),
                Err(InspectError::Truncated { expected })
            );
        }
    }

    #[test]
    fn every_prefix_of_a_real_file_is_truncated() {
        for (expected, bytes) in real_files() {
            assert!(inspect(expected, &bytes).is_ok());
            for length in 0..bytes.len() {
                assert_eq!(
                    inspect(expected, &bytes[..length]),
                    Err(InspectError::Truncated { expected }),
                    "{length} of {} bytes",
                    bytes.len()
                );
            }
        }
    }

    #[test]
    fn errors_read_as_sentences() {
        let expected = MediaType::Jpeg;
        let found = "a ZIP archive";
        let errors = [
            InspectError::WrongContent { expected, found }.to_string(),
            InspectError::Truncated { expected }.to_string(),
            InspectError::Damaged {
                expected,
                detail: "the width is zero",
            }
            .to_string(),
        ];
        assert_eq!(
            errors,
            [
                "expected image/jpeg, found a ZIP archive",
                "the image/jpeg content ends too early",
                "the image/jpeg content is damaged: the width is zero",
            ]
        );
    }

    #[test]
    fn a_capture_time_is_moved_to_utc_if_its_offset_is_known() {
        let taken = |date: &str, fraction: &str, offset: &str| {
            taken_of(&[
                (Tag::DateTimeOriginal, date),
                (Tag::SubSecTimeOriginal, fraction),
                (Tag::OffsetTimeOriginal, offset),
            ])
        };
        let date = "2021:12:31 23:30:00\0";
        assert_eq!(taken(date, "", ""), moment("2021-12-31T23:30:00Z"));
        assert_eq!(taken(date, "07\0", ""), moment("2021-12-31T23:30:00.07Z"));
        assert_eq!(taken(date, "5   ", ""), moment("2021-12-31T23:30:00.5Z"));
        // To the microsecond: what is stored is what was told.
        assert_eq!(
            taken(date, "123456789012\0", "-01:00\0"),
            moment("2022-01-01T00:30:00.123456Z")
        );
        // An unreadable fraction or offset is as good as none; one that no place has makes the time unknown.
        for offset in ["", "   :  \0", "x", "Z", "+9:00", "09:00"] {
            assert_eq!(taken(date, "x", offset), moment("2021-12-31T23:30:00Z"));
        }
        assert_eq!(taken(date, "", "+14:00"), moment("2021-12-31T09:30:00Z"));
        for offset in ["+99:00", "-15:14", "+09:60"] {
            assert_eq!(taken(date, "", offset), None, "{offset}");
        }
        for nonsense in [
            "",
            "2021:12:31",
            "    :  :     :  :  ",
            "                   ",
            "0000:00:00 00:00:00",
            "0001:01:01 00:00:00",
            "2021:13:01 00:00:00",
            "2021:02:29 00:00:00",
            "2021:01:01 24:00:00",
            "2021-01-01T00:00:00",
            "9999:12:31 23:59:59",
            "1825:12:31 23:59:59",
            "2200:01:01 00:00:00",
        ] {
            assert_eq!(taken(nonsense, "", ""), None, "{nonsense}");
        }
    }

    fn taken_of(texts: &[(Tag, &str)]) -> Option<DateTime<Utc>> {
        let texts: Vec<_> = texts
            .iter()
            .map(|(tag, text)| (*tag, text.as_bytes()))
            .collect();
        let orders = [true, false].map(|order| taken_at(&exif_block(order, &texts)));
        assert_eq!(orders[0], orders[1]);
        orders[0]
    }

    #[test]
    fn what_one_tag_does_not_say_another_does() {
        let original = (Tag::DateTimeOriginal, "2026:05:02 01:30:00");
        let digitized = (Tag::DateTimeDigitized, "2026:05:03 04:00:00");
        let blank = (Tag::DateTimeOriginal, "    :  :     :  :  ");
        let tokyo = (Tag::OffsetTime, "+09:00");
        let expected = |rfc3339| moment(rfc3339);
        for (texts, rfc3339) in [
            (&[original, tokyo][..], "2026-05-01T16:30:00Z"),
            (
                &[original, (Tag::OffsetTimeOriginal, "+02:00"), tokyo],
                "2026-05-01T23:30:00Z",
            ),
            (
                &[original, (Tag::OffsetTimeOriginal, "   :  "), tokyo],
                "2026-05-01T16:30:00Z",
            ),
            (&[digitized], "2026-05-03T04:00:00Z"),
            (&[original, digitized], "2026-05-02T01:30:00Z"),
            (&[blank, digitized, tokyo], "2026-05-02T19:00:00Z"),
            (
                &[
                    digitized,
                    (Tag::OffsetTimeDigitized, "-03:30"),
                    tokyo,
                    (Tag::SubSecTimeDigitized, "25"),
                    (Tag::SubSecTimeOriginal, "75"),
                ],
                "2026-05-03T07:30:00.25Z",
            ),
        ] {
            assert_eq!(taken_of(texts), expected(rfc3339), "{texts:?}");
        }
    }

    #[test]
    fn an_orientation_turns_the_sides_and_nonsense_is_upright() {
        let oriented = |value: u16| {
            let mut block = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01".to_vec();
            block.extend(value.to_be_bytes());
            block.extend([0; 6]);
            Exif::read(&block)
        };
        for value in 0..=9 {
            let exif = oriented(value);
            let known = if (1..=8).contains(&value) { value } else { 1 };
            assert_eq!(u16::from(exif.orientation.get()), known);
            let facts = ImageFacts::of((96, 64), Some(exif));
            let turned = (5..=8).contains(&value);
            let expected = if turned { (64, 96) } else { (96, 64) };
            assert_eq!((facts.width.unwrap(), facts.height.unwrap()), expected);
        }
    }

    /// A TIFF file whose first directory lies `at` some offset.
    fn tiff(at: usize) -> Vec<u8> {
        let mut bytes = b"II*\0".to_vec();
        bytes.extend(u32::try_from(at).unwrap().to_le_bytes());
        bytes.resize(at, 7);
        bytes.extend(3_u16.to_le_bytes());
        for (tag, kind, value) in [(0x100_u16, 3_u16, 300_u32), (0x101, 4, 200), (0x112, 3, 8)] {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn a_tiff_tells_its_sides_wherever_its_directory_lies() {
        for at in [8, 30_000, 200_000] {
            let facts = inspect(MediaType::Tiff, &tiff(at)).unwrap();
            assert_eq!((facts.width, facts.height), (Some(200), Some(300)));
            assert_eq!(facts.orientation.map(Orientation::get), Some(8));
            let cut = inspect_cut(MediaType::Tiff, &tiff(at), &[1, 1000, 70_000]);
            assert_eq!(cut, Ok(facts));
            // A RAW file's first directory is often its preview's.
            let raw = inspect(MediaType::Nef, &tiff(at)).unwrap();
            assert_eq!((raw.width, raw.orientation), (None, facts.orientation));
        }
    }

    #[test]
    fn overlapping_directories_do_not_multiply_the_work() {
        // Thousands of links to as many overlapping directories of two thousand entries each.
        let mut block = b"MM\0*\0\0\0\x08".to_vec();
        let links: u16 = 2500;
        block.extend(links.to_be_bytes());
        for link in 0..u32::from(links) {
            block.extend(Tag::ExifIFDPointer.number().to_be_bytes());
            block.extend([0, 4, 0, 0, 0, 1]);
            block.extend((31_000 + link).to_be_bytes());
        }
        block.resize(36_000, 8);
        block.resize(64 * 1024, 0);
        assert_eq!(taken_at(&block), None);
    }

    fn any_type() -> impl Strategy<Value = MediaType> {
        prop::sample::select(&MediaType::ALL[..])
    }

    fn any_cuts() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(prop_oneof![1..8_usize, 1..400_usize], 1..20)
    }

    /// Noise behind a plausible beginning, so that the walkers are reached.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let beginnings: Vec<&[u8]> = vec![
            b"",
            b"\xFF\xD8\xFF",
            b"\xFF\xD8\xFF\xE1\0\x40Exif\0\0MM\0*\0\0\0\x08\0\x02",
            b"\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR",
            b"RIFF\xFF\0\0\0WEBP",
            b"RIFF\x50\0\0\0WEBPVP8X\x0A\0\0\0",
            b"\0\0\0\x18ftyp",
            b"  <",
        ];
        let byte = prop_oneof![any::<u8>(), prop::sample::select(&b"\xFF\xD9\xDA\0"[..])];
        (
            prop::sample::select(beginnings),
            prop::collection::vec(byte, 0..600),
        )
            .prop_map(|(beginning, noise)| [beginning, &noise].concat())
    }

    proptest! {
        #[test]
        fn where_a_real_file_is_cut_makes_no_difference(
            (expected, bytes) in prop::sample::select(real_files()),
            cuts in any_cuts(),
            trailer in any::<[u8; 9]>(),
        ) {
            let whole = inspect(expected, &bytes);
            prop_assert!(whole.is_ok());
            prop_assert_eq!(inspect_cut(expected, &bytes, &cuts), whole);
            let followed = [bytes, trailer.to_vec()].concat();
            prop_assert_eq!(inspect_cut(expected, &followed, &cuts), whole);
        }

        #[test]
        fn a_damaged_file_never_panics_and_gets_one_answer(
            (expected, mut bytes) in prop::sample::select(real_files()),
            cuts in any_cuts(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            for (at, byte) in flips {
                *at.get_mut(&mut bytes) = byte;
            }
            prop_assert_eq!(inspect_cut(expected, &bytes, &cuts), inspect(expected, &bytes));
        }

        #[test]
        fn noise_never_panics_and_gets_one_answer(
            expected in any_type(),
            bytes in any_bytes(),
            cuts in any_cuts(),
        ) {
            prop_assert_eq!(inspect_cut(expected, &bytes, &cuts), inspect(expected, &bytes));
        }

        #[test]
        fn a_damaged_exif_block_never_panics(
            little_endian: bool,
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
            length in any::<prop::sample::Index>(),
        ) {
            let mut block = exif_block(little_endian, &[
                (Tag::DateTimeOriginal, b"2021:12:31 23:30:00\0"),
                (Tag::SubSecTimeOriginal, b"12\0"),
                (Tag::OffsetTimeOriginal, b"+02:00\0"),
            ]);
            for (at, byte) in flips {
                *at.get_mut(&mut block) = byte;
            }
            block.truncate(length.index(block.len()) + 1);
            let _ = taken_at(&block);
        }

        #[test]
        fn a_capture_time_agrees_with_the_library(
            little_endian: bool,
            date in "(19|20)[0-9]{2}:(0[1-9]|1[0-2]):[01][0-9] [01][0-9]:[0-5][0-9]:[0-5][0-9]",
        ) {
            let block = exif_block(little_endian, &capture(&date));
            let library = ::exif::Reader::new().read_raw(block.clone()).unwrap();
            let field = library.get_field(Tag::DateTimeOriginal, ::exif::In::PRIMARY).unwrap();
            let ::exif::Value::Ascii(texts) = &field.value else {
                panic!("not a text");
            };
            prop_assert_eq!(texts, &[date.as_bytes()]);
            let expected = chrono::NaiveDateTime::parse_from_str(&date, "%Y:%m:%d %H:%M:%S");
            prop_assert_eq!(taken_at(&block), expected.ok().map(|local| local.and_utc()));
        }
    }
}
