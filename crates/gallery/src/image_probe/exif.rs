//! What an Exif block says (CIPA DC-008): a TIFF file (TIFF 6.0), behind `Exif\0\0` or not. Also what a whole TIFF
//! file or a camera's RAW says of itself, which is built in the same way.
//!
//! The directories are walked here because the library reads every one that a block links to, and directories may
//! overlap: 64 KiB of hostile bytes make it build 600 MB of entries. This asks for a few entries of two directories
//! and allocates nothing.

use chrono::{DateTime, Datelike as _, FixedOffset, NaiveDate, NaiveDateTime, TimeDelta, Utc};
use exif::Tag;

use super::{EXIF_PREFIX, Orientation, take};

/// What is kept of a TIFF file from its start, and from its first directory on.
const KEPT_BYTES: u64 = 64 * 1024;

/// Years in which a photo can have been taken: from the oldest photograph on. What lies outside is a clock that was
/// never set, or nonsense.
const YEARS: std::ops::RangeInclusive<i32> = 1826..=2199;

/// The largest offset from UTC that was ever in use, in minutes: 15:13 (Alaska, until 1867).
const MAX_OFFSET_MINUTES: i32 = 15 * 60 + 13;

/// What a block says of the picture that it belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Exif {
    pub(super) orientation: Orientation,
    pub(super) taken_at: Option<DateTime<Utc>>,
}

impl Exif {
    /// Reads a block. What cannot be read says nothing.
    pub(super) fn read(block: &[u8]) -> Self {
        let block = block.strip_prefix(EXIF_PREFIX).unwrap_or(block);
        let Some(tiff) = Tiff::open(block, None) else {
            return Self::default();
        };
        tiff.primary().map_or_else(Self::default, |primary| Self {
            orientation: primary.orientation(),
            taken_at: primary.taken_at(),
        })
    }
}

/// The tags of one time of capture: the time, its fraction, and its offset by the first of two tags that says one.
struct Moment {
    time: Tag,
    fraction: Tag,
    offset: Tag,
}

/// `DateTimeOriginal` is when the shutter was released. Scanners and some phones only write when the file was made.
const MOMENTS: [Moment; 2] = [
    Moment {
        time: Tag::DateTimeOriginal,
        fraction: Tag::SubSecTimeOriginal,
        offset: Tag::OffsetTimeOriginal,
    },
    Moment {
        time: Tag::DateTimeDigitized,
        fraction: Tag::SubSecTimeDigitized,
        offset: Tag::OffsetTimeDigitized,
    },
];

/// What a text says about an offset from UTC.
enum Offset {
    /// Nothing: it is missing, blank or unreadable.
    Unknown,
    /// One that no place on earth has.
    Impossible,
    Minutes(i32),
}

/// Reads `+09:00` (Exif 2.31).
fn offset(text: Option<&[u8]>) -> Offset {
    let Some(&[sign @ (b'+' | b'-'), ref digits @ ..]) = text.map(<[u8]>::trim_ascii) else {
        return Offset::Unknown;
    };
    let &[h1, h0, b':', m1, m0] = digits else {
        return Offset::Unknown;
    };
    if ![h1, h0, m1, m0].iter().all(u8::is_ascii_digit) {
        return Offset::Unknown;
    }
    let two = |tens: u8, ones: u8| i32::from(tens - b'0') * 10 + i32::from(ones - b'0');
    let (hours, minutes) = (two(h1, h0), two(m1, m0));
    let total = hours * 60 + minutes;
    match minutes {
        0..60 if total <= MAX_OFFSET_MINUTES && sign == b'-' => Offset::Minutes(-total),
        0..60 if total <= MAX_OFFSET_MINUTES => Offset::Minutes(total),
        _ => Offset::Impossible,
    }
}

/// Reads the digits behind the decimal point, to the microsecond: what is stored is what was told.
fn fraction(text: Option<&[u8]>) -> TimeDelta {
    let digits = text.map_or(&b""[..], <[u8]>::trim_ascii);
    if !digits.iter().all(u8::is_ascii_digit) {
        return TimeDelta::zero();
    }
    let places = digits.iter().chain(std::iter::repeat(&b'0')).take(6);
    let micros = places.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    TimeDelta::microseconds(micros)
}

fn local_time(text: &[u8]) -> Option<NaiveDateTime> {
    let time = exif::DateTime::from_ascii(text.trim_ascii()).ok()?;
    let date = NaiveDate::from_ymd_opt(time.year.into(), time.month.into(), time.day.into())?;
    date.and_hms_opt(time.hour.into(), time.minute.into(), time.second.into())
}

/// A TIFF file, or what was kept of it.
#[derive(Clone, Copy)]
struct Tiff<'a> {
    /// From its start on.
    head: &'a [u8],
    /// From some offset on.
    ahead: Option<(u64, &'a [u8])>,
    little_endian: bool,
}

/// An image file directory: twelve bytes an entry of tag, type, count and value or its offset.
struct Directory<'a> {
    tiff: Tiff<'a>,
    entries: &'a [[u8; 12]],
}

impl<'a> Tiff<'a> {
    fn open(head: &'a [u8], ahead: Option<(u64, &'a [u8])>) -> Option<Self> {
        let little_endian = match head.first_chunk()? {
            // TIFF, Panasonic, Olympus.
            b"II*\0" | b"IIU\0" | b"IIRO" | b"IIRS" => true,
            b"MM\0*" | b"MMOR" => false,
            _ => return None,
        };
        Some(Self {
            head,
            ahead,
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

    /// Where the first directory lies: behind the header, which has eight bytes.
    fn first(&self) -> Option<u32> {
        self.u32(self.head.get(4..)?).filter(|at| *at >= 8)
    }

    fn primary(self) -> Option<Directory<'a>> {
        self.directory(self.first()?)
    }

    fn from(&self, offset: u32) -> Option<&'a [u8]> {
        let behind = |start: u64, bytes: &'a [u8]| {
            let skip = u64::from(offset).checked_sub(start)?;
            bytes.get(usize::try_from(skip).ok()?..)
        };
        match behind(0, self.head) {
            Some(bytes) if !bytes.is_empty() => Some(bytes),
            _ => self.ahead.and_then(|(start, bytes)| behind(start, bytes)),
        }
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
    fn orientation(&self) -> Orientation {
        self.number(Tag::Orientation)
            .and_then(Orientation::of_exif)
            .unwrap_or_default()
    }

    /// Sides in pixels, as they are stored.
    fn size(&self) -> Option<(u32, u32)> {
        let side = |tag| self.number(tag).filter(|pixels| *pixels > 0);
        Some((side(Tag::ImageWidth)?, side(Tag::ImageLength)?))
    }

    fn taken_at(&self) -> Option<DateTime<Utc>> {
        let exif = self.tiff.directory(self.number(Tag::ExifIFDPointer)?)?;
        MOMENTS.iter().find_map(|moment| exif.moment(moment))
    }

    fn moment(&self, tags: &Moment) -> Option<DateTime<Utc>> {
        let local = local_time(self.ascii(tags.time)?)? + fraction(self.ascii(tags.fraction));
        // Older firmware writes one offset for all times.
        let offsets = [tags.offset, Tag::OffsetTime].map(|tag| offset(self.ascii(tag)));
        let known = offsets
            .into_iter()
            .find(|offset| !matches!(offset, Offset::Unknown));
        let utc = match known {
            None | Some(Offset::Unknown) => local.and_utc(),
            // Which of the two is wrong cannot be told.
            Some(Offset::Impossible) => return None,
            Some(Offset::Minutes(minutes)) => {
                let offset = FixedOffset::east_opt(minutes * 60)?;
                local.checked_sub_offset(offset)?.and_utc()
            }
        };
        YEARS.contains(&utc.year()).then_some(utc)
    }

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

    /// A single number: SHORT, LONG or IFD.
    fn number(&self, tag: Tag) -> Option<u32> {
        const SHORT: u16 = 3;
        const LONG: u16 = 4;
        const IFD: u16 = 13;
        match self.entry(tag)? {
            (SHORT, 1, value) => self.tiff.u16(value).map(u32::from),
            (LONG | IFD, 1, value) => self.tiff.u32(value),
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

/// What a TIFF file says: its sides as well.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TiffFacts {
    pub(super) size: Option<(u32, u32)>,
    pub(super) exif: Option<Exif>,
}

/// Keeps what a TIFF file says of itself while it streams past: its start, and what follows its first directory,
/// which many writers put behind the pixels.
pub(super) struct Walker {
    head: Vec<u8>,
    ahead: Vec<u8>,
    read_bytes: u64,
}

impl Walker {
    pub(super) fn new() -> Self {
        Self {
            head: Vec::new(),
            ahead: Vec::new(),
            read_bytes: 0,
        }
    }

    pub(super) fn push(&mut self, mut input: &[u8]) {
        keep(&mut self.head, &mut input, &mut self.read_bytes);
        let Some(at) = self.ahead_at() else { return };
        let skipped = take(&mut input, at.saturating_sub(self.read_bytes));
        self.read_bytes += skipped.len() as u64;
        if self.read_bytes >= at {
            keep(&mut self.ahead, &mut input, &mut self.read_bytes);
        }
    }

    /// Where the first directory lies, if that is beyond the start that is kept.
    fn ahead_at(&self) -> Option<u64> {
        let first = u64::from(Tiff::open(&self.head, None)?.first()?);
        (self.head.len() as u64 == KEPT_BYTES && first >= KEPT_BYTES).then_some(first)
    }

    pub(super) fn finish(self) -> TiffFacts {
        let ahead = self.ahead_at().map(|at| (at, &self.ahead[..]));
        let Some(primary) = Tiff::open(&self.head, ahead).and_then(Tiff::primary) else {
            return TiffFacts::default();
        };
        TiffFacts {
            size: primary.size(),
            exif: Some(Exif {
                orientation: primary.orientation(),
                taken_at: primary.taken_at(),
            }),
        }
    }
}

fn keep(kept: &mut Vec<u8>, input: &mut &[u8], read_bytes: &mut u64) {
    let part = take(input, KEPT_BYTES - kept.len() as u64);
    kept.extend_from_slice(part);
    *read_bytes += part.len() as u64;
}
