//! What an image says about itself, read while its bytes stream past.
//!
//! An [`Inspector`] is told the declared [`MediaType`], is pushed every chunk of an upload in order
//! and answers with [`ImageFacts`], or with the reason why these bytes are not such an image. Where
//! the chunks are cut makes no difference to the answer.
//!
//! Invariant: memory is bounded whatever the bytes say. The only buffer is one Exif block of at most
//! 64 KiB; no pixel is decoded and nothing is kept of the stream.
//!
//! Deliberately absent: decoding, thumbnails, and any look inside HEIC, TIFF and camera RAW beyond
//! their first bytes; those are stored as they are and their facts are unknown.

mod jpeg;
mod png;
mod webp;

use std::fmt;

use chrono::{DateTime, Datelike as _, FixedOffset, NaiveDate, Utc};
use exif::Tag;

/// Content is recognised within this many first bytes: enough to find markup behind blank lines.
const HEAD_BYTES: usize = 256;

/// An Exif block is bounded by what a JPEG segment can hold; other containers get no more.
const EXIF_LIMIT: u32 = 64 * 1024;

const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// An image format that a gallery takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    Webp,
    /// HEIF with HEVC inside, as phones write it.
    Heic,
    /// HEIF.
    Heif,
    /// TIFF.
    Tiff,
    /// Canon RAW, version 2.
    Cr2,
    /// Canon RAW, version 3.
    Cr3,
    /// Nikon RAW.
    Nef,
    /// Sony RAW.
    Arw,
    /// Adobe Digital Negative.
    Dng,
    /// Fujifilm RAW.
    Raf,
    /// Panasonic RAW.
    Rw2,
    /// Olympus RAW.
    Orf,
}

impl MediaType {
    /// Every format, for listing what is accepted.
    pub const ALL: [Self; 14] = [
        Self::Jpeg,
        Self::Png,
        Self::Webp,
        Self::Heic,
        Self::Heif,
        Self::Tiff,
        Self::Cr2,
        Self::Cr3,
        Self::Nef,
        Self::Arw,
        Self::Dng,
        Self::Raf,
        Self::Rw2,
        Self::Orf,
    ];

    /// The type that a file's name ends in, such as `IMG_1.CR3`, for where nobody declared one.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" => Self::Jpeg,
            "png" => Self::Png,
            "webp" => Self::Webp,
            "heic" => Self::Heic,
            "heif" => Self::Heif,
            "tif" | "tiff" => Self::Tiff,
            "cr2" => Self::Cr2,
            "cr3" => Self::Cr3,
            "nef" => Self::Nef,
            "arw" => Self::Arw,
            "dng" => Self::Dng,
            "raf" => Self::Raf,
            "rw2" => Self::Rw2,
            "orf" => Self::Orf,
            _ => return None,
        })
    }

    /// Reads a `Content-Type` (RFC 9110, 8.3): case and parameters make no difference. `None` if it
    /// is not one of [`MediaType::ALL`].
    pub fn parse(content_type: &str) -> Option<Self> {
        let essence = match content_type.split_once(';') {
            Some((essence, _parameters)) => essence,
            None => content_type,
        };
        let essence = essence.trim_matches([' ', '\t']);
        Self::ALL
            .into_iter()
            .find(|media_type| media_type.as_str().eq_ignore_ascii_case(essence))
    }

    /// The content type to store: lower case, no parameters, the RAW subtype kept.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Heic => "image/heic",
            Self::Heif => "image/heif",
            Self::Tiff => "image/tiff",
            Self::Cr2 => "image/x-canon-cr2",
            Self::Cr3 => "image/x-canon-cr3",
            Self::Nef => "image/x-nikon-nef",
            Self::Arw => "image/x-sony-arw",
            Self::Dng => "image/x-adobe-dng",
            Self::Raf => "image/x-fuji-raf",
            Self::Rw2 => "image/x-panasonic-rw2",
            Self::Orf => "image/x-olympus-orf",
        }
    }

    fn content(self) -> Content {
        match self {
            Self::Jpeg => Content::Jpeg,
            Self::Png => Content::Png,
            Self::Webp => Content::Webp,
            Self::Heic | Self::Heif => Content::Heif,
            Self::Tiff
            | Self::Cr2
            | Self::Cr3
            | Self::Nef
            | Self::Arw
            | Self::Dng
            | Self::Raf
            | Self::Rw2
            | Self::Orf => Content::TiffOrRaw,
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a whole image said about itself; `None` is "not said", or not looked for in this format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Stored pixels per row, before any Exif orientation is applied.
    pub width: Option<u32>,
    /// Stored rows, before any Exif orientation is applied.
    pub height: Option<u32>,
    /// When the shutter was released: Exif `DateTimeOriginal` with `SubSecTimeOriginal`, moved to
    /// UTC by `OffsetTimeOriginal`. Most cameras write no offset; their local time is then **taken
    /// as UTC**, which keeps the order of one camera's photos and may be off by its time zone.
    pub taken_at: Option<DateTime<Utc>>,
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
    pub fn finish(self) -> Result<ImageFacts, InspectError> {
        let expected = self.expected;
        match self.state {
            State::Failed(error) => Err(error),
            State::Walking(walker) => walker.finish().ok_or(InspectError::Truncated { expected }),
            State::Sniffing(head) => match judge(expected, &head, true)? {
                Verdict::Undecided => Err(InspectError::Truncated { expected }),
                // A short RAW file without a known signature: all others are walked by now.
                Verdict::AsExpected => Ok(ImageFacts::default()),
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
            Content::Heif | Content::TiffOrRaw | Content::Foreign(_) => Self::Opaque,
        }
    }

    fn push(&mut self, chunk: &[u8], expected: MediaType) -> Result<(), InspectError> {
        let walked = match self {
            Self::Jpeg(walker) => walker.push(chunk),
            Self::Png(walker) => walker.push(chunk),
            Self::Webp(walker) => walker.push(chunk),
            Self::Opaque => Ok(()),
        };
        walked.map_err(|Damage(detail)| InspectError::Damaged { expected, detail })
    }

    fn finish(self) -> Option<ImageFacts> {
        match self {
            Self::Jpeg(walker) => walker.finish(),
            Self::Png(walker) => walker.finish(),
            Self::Webp(walker) => walker.finish(),
            Self::Opaque => Some(ImageFacts::default()),
        }
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
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// The capture time in an Exif block: a TIFF file (CIPA DC-008, 4.5), behind `Exif\0\0` or not.
///
/// The directories are walked here because the library reads every one that a block links to, and
/// directories may overlap: 64 KiB of hostile bytes make it build 600 MB of entries. This asks for
/// four entries of two directories and allocates nothing. Dates are the library's.
fn taken_at(block: &[u8]) -> Option<DateTime<Utc>> {
    let tiff = Tiff::open(block.strip_prefix(EXIF_PREFIX).unwrap_or(block))?;
    let primary = tiff.directory(tiff.u32(tiff.bytes.get(4..)?)?)?;
    let exif = tiff.directory(primary.long(Tag::ExifIFDPointer)?)?;

    let mut local = exif::DateTime::from_ascii(exif.ascii(Tag::DateTimeOriginal)?).ok()?;
    // A malformed fraction or offset is as good as none.
    if let Some(digits) = exif.ascii(Tag::SubSecTimeOriginal) {
        _ = local.parse_subsec(digits);
    }
    if let Some(offset) = exif.ascii(Tag::OffsetTimeOriginal) {
        _ = local.parse_offset(offset);
    }

    let date = NaiveDate::from_ymd_opt(local.year.into(), local.month.into(), local.day.into())?;
    let date_time = date.and_hms_nano_opt(
        local.hour.into(),
        local.minute.into(),
        local.second.into(),
        local.nanosecond.unwrap_or(0),
    )?;
    let offset = local
        .offset
        .and_then(|minutes| FixedOffset::east_opt(i32::from(minutes) * 60));
    let utc = match offset {
        Some(offset) => date_time.checked_sub_offset(offset)?.and_utc(),
        None => date_time.and_utc(),
    };
    // RFC 3339, in which the moment will be told, has four digits for the year.
    (1..=9999).contains(&utc.year()).then_some(utc)
}

#[derive(Clone, Copy)]
struct Tiff<'a> {
    bytes: &'a [u8],
    little_endian: bool,
}

/// An image file directory: twelve bytes an entry of tag, type, count and value or its offset.
struct Directory<'a> {
    tiff: Tiff<'a>,
    entries: &'a [[u8; 12]],
}

impl<'a> Tiff<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let little_endian = match bytes.first_chunk()? {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        Some(Self {
            bytes,
            little_endian,
        })
    }

    fn u16(&self, bytes: &[u8]) -> Option<u16> {
        let bytes = *bytes.first_chunk()?;
        Some(match self.little_endian {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        })
    }

    fn u32(&self, bytes: &[u8]) -> Option<u32> {
        let bytes = *bytes.first_chunk()?;
        Some(match self.little_endian {
            true => u32::from_le_bytes(bytes),
            false => u32::from_be_bytes(bytes),
        })
    }

    fn from(&self, offset: u32) -> Option<&'a [u8]> {
        self.bytes.get(usize::try_from(offset).ok()?..)
    }

    fn directory(self, offset: u32) -> Option<Directory<'a>> {
        let bytes = self.from(offset)?;
        let count = usize::from(self.u16(bytes)?);
        let (entries, _) = bytes.get(2..)?.as_chunks();
        Some(Directory {
            tiff: self,
            entries: entries.get(..count).unwrap_or(entries),
        })
    }
}

impl<'a> Directory<'a> {
    /// Type, count and the value's four bytes.
    fn entry(&self, tag: Tag) -> Option<(u16, u32, &'a [u8])> {
        let entry = self
            .entries
            .iter()
            .find(|entry| self.tiff.u16(*entry) == Some(tag.number()))?;
        let (_, rest) = entry.split_at(2);
        let (kind, rest) = rest.split_at(2);
        let (count, value) = rest.split_at(4);
        Some((self.tiff.u16(kind)?, self.tiff.u32(count)?, value))
    }

    fn long(&self, tag: Tag) -> Option<u32> {
        const LONG: u16 = 4;
        match self.entry(tag)? {
            (LONG, 1, value) => self.tiff.u32(value),
            _ => None,
        }
    }

    /// A text up to its first NUL.
    fn ascii(&self, tag: Tag) -> Option<&'a [u8]> {
        const ASCII: u16 = 2;
        let (ASCII, count, value) = self.entry(tag)? else {
            return None;
        };
        // Up to four bytes live in the entry itself.
        let place = match count {
            0..=4 => value,
            _ => self.tiff.from(self.tiff.u32(value)?)?,
        };
        let text = place.get(..usize::try_from(count).ok()?)?;
        text.split(|byte| *byte == 0).next()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        inspector.finish()
    }

    /// Cuts `bytes` by the given lengths, over and over.
    fn inspect_cut(
        expected: MediaType,
        mut bytes: &[u8],
        lengths: &[usize],
    ) -> Result<ImageFacts, InspectError> {
        let mut inspector = Inspector::new(expected);
        for length in lengths.iter().cycle() {
            inspector.push(take(&mut bytes, *length as u64))?;
            if bytes.is_empty() {
                break;
            }
        }
        inspector.finish()
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
    fn a_content_type_is_read_whatever_its_case_and_parameters() {
        for media_type in MediaType::ALL {
            assert_eq!(MediaType::parse(media_type.as_str()), Some(media_type));
        }
        assert_eq!(
            MediaType::parse(" Image/X-Canon-CR2 ; q=1; x"),
            Some(MediaType::Cr2)
        );
        for other in [
            "",
            ";",
            "image/",
            "image/gif",
            "image/jpegs",
            "text/html; image/jpeg",
        ] {
            assert_eq!(MediaType::parse(other), None, "{other}");
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
            wrong("a Windows executable").map(|()| ImageFacts::default())
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
            let texts = [
                (Tag::DateTimeOriginal, date.as_bytes()),
                (Tag::SubSecTimeOriginal, fraction.as_bytes()),
                (Tag::OffsetTimeOriginal, offset.as_bytes()),
            ];
            let orders = [true, false].map(|order| taken_at(&exif_block(order, &texts)));
            assert_eq!(orders[0], orders[1]);
            orders[0]
        };
        let date = "2021:12:31 23:30:00\0";
        assert_eq!(taken(date, "", ""), moment("2021-12-31T23:30:00Z"));
        assert_eq!(taken(date, "07\0", ""), moment("2021-12-31T23:30:00.07Z"));
        assert_eq!(
            taken(date, "123456789012\0", "-01:00\0"),
            moment("2022-01-01T00:30:00.123456789Z")
        );
        assert_eq!(taken(date, "x", "+99:00\0"), moment("2021-12-31T23:30:00Z"));
        assert_eq!(taken(date, "", "   :  \0"), moment("2021-12-31T23:30:00Z"));
        for nonsense in [
            "",
            "2021:12:31",
            "    :  :     :  :  ",
            "0000:00:00 00:00:00",
            "2021:02:29 00:00:00",
            "2021:01:01 24:00:00",
            "2021-01-01T00:00:00",
        ] {
            assert_eq!(taken(nonsense, "", ""), None, "{nonsense}");
        }
        assert_eq!(taken("9999:12:31 23:30:00", "", "-01:00"), None);
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
            date in "[12][0-9]{3}:(0[1-9]|1[0-2]):[01][0-9] [01][0-9]:[0-5][0-9]:[0-5][0-9]",
        ) {
            let block = exif_block(little_endian, &capture(&date));
            let library = exif::Reader::new().read_raw(block.clone()).unwrap();
            let field = library.get_field(Tag::DateTimeOriginal, exif::In::PRIMARY).unwrap();
            let exif::Value::Ascii(texts) = &field.value else {
                panic!("not a text");
            };
            prop_assert_eq!(texts, &[date.as_bytes()]);
            let expected = chrono::NaiveDateTime::parse_from_str(&date, "%Y:%m:%d %H:%M:%S");
            prop_assert_eq!(taken_at(&block), expected.ok().map(|local| local.and_utc()));
        }
    }
}
