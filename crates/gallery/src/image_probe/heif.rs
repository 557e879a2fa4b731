//! HEIF, box by box (ISO/IEC 14496-12, 4.2 and 8.11; ISO/IEC 23008-12, 6.5 and 9): what the box `meta` says of the
//! primary item, and the Exif item that it points at.

use super::exif::Exif;
use super::{EXIF_LIMIT, Field, ImageFacts, take};
use crate::Orientation;

/// The largest `meta` that is read. Phones write a few kilobytes.
const META_LIMIT: u64 = 256 * 1024;

/// Walks the boxes of a file. What cannot be understood says nothing: a file is never refused for it.
pub(super) struct Walker {
    state: State,
    header: Field<8>,
    large_size: Field<8>,
    read_bytes: u64,
    kept: Vec<u8>,
    said: Said,
    exif: Option<Exif>,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    /// The size of a box that needs eight bytes for it.
    LargeSize {
        kind: [u8; 4],
    },
    /// Inside `meta`.
    Meta {
        left: u64,
    },
    Skip {
        left: u64,
    },
    /// Before the Exif item.
    Seek {
        left: u64,
    },
    Exif {
        left: u64,
    },
    Done,
}

/// What `meta` says.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    /// Sides of the primary item as they are coded.
    size: Option<(u32, u32)>,
    /// How it is turned and mirrored; known where its properties are.
    orientation: Option<Orientation>,
    /// Where the Exif item lies in the file, and its length.
    exif: Option<(u64, u64)>,
}

impl Walker {
    pub(super) fn new() -> Self {
        Self {
            state: State::Header,
            header: Field::new(),
            large_size: Field::new(),
            read_bytes: 0,
            kept: Vec::new(),
            said: Said::default(),
            exif: None,
        }
    }

    pub(super) fn push(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            let before = input.len();
            self.step(&mut input);
            self.read_bytes += (before - input.len()) as u64;
            if matches!(self.state, State::Done) {
                return;
            }
            if let State::Seek { .. } = self.state {
                // Positions count from the file's start, and what was taken counts only now.
                self.seek();
            }
        }
    }

    pub(super) fn finish(self) -> ImageFacts {
        let taken_at = self.exif.and_then(|exif| exif.taken_at);
        let Some((width, height)) = self.said.size else {
            return ImageFacts {
                taken_at,
                ..ImageFacts::default()
            };
        };
        let orientation = self.said.orientation.unwrap_or_default();
        ImageFacts {
            taken_at,
            ..ImageFacts::of(
                (width, height),
                Some(Exif {
                    orientation,
                    taken_at,
                }),
            )
        }
    }

    fn step(&mut self, input: &mut &[u8]) {
        self.state = match self.state {
            State::Header => match self.header.fill(input) {
                Some([s3, s2, s1, s0, kind @ ..]) => match u32::from_be_bytes([s3, s2, s1, s0]) {
                    // To the end of the file.
                    0 => State::Done,
                    1 => State::LargeSize { kind },
                    size => enter(kind, u64::from(size).checked_sub(8)),
                },
                None => return,
            },
            State::LargeSize { kind } => match self.large_size.fill(input) {
                Some(size) => enter(kind, u64::from_be_bytes(size).checked_sub(16)),
                None => return,
            },
            State::Meta { left } => {
                let part = take(input, left);
                self.kept.extend_from_slice(part);
                match left - part.len() as u64 {
                    0 => {
                        let kept = std::mem::take(&mut self.kept);
                        self.said = Said::read(&kept).unwrap_or_default();
                        State::Seek { left: 0 }
                    }
                    left => State::Meta { left },
                }
            }
            State::Skip { left } => match left - take(input, left).len() as u64 {
                0 => State::Header,
                left => State::Skip { left },
            },
            State::Seek { left } => match left - take(input, left).len() as u64 {
                0 => State::Exif {
                    left: self.said.exif.map_or(0, |(_, length)| length),
                },
                left => State::Seek { left },
            },
            State::Exif { left } => {
                let part = take(input, left);
                self.kept.extend_from_slice(part);
                match left - part.len() as u64 {
                    0 => {
                        self.exif = exif_item(&std::mem::take(&mut self.kept));
                        State::Done
                    }
                    left => State::Exif { left },
                }
            }
            State::Done => return,
        };
    }

    /// Sets out for the Exif item, where there is one ahead.
    fn seek(&mut self) {
        let ahead = self.said.exif.and_then(|(at, length)| {
            let fits = (1..=u64::from(EXIF_LIMIT)).contains(&length);
            Some((at.checked_sub(self.read_bytes)?, length)).filter(|_| fits)
        });
        self.state = match ahead {
            Some((0, length)) => State::Exif { left: length },
            Some((left, _)) => State::Seek { left },
            None => State::Done,
        };
    }
}

fn enter(kind: [u8; 4], left: Option<u64>) -> State {
    match (&kind, left) {
        (_, None) => State::Done,
        (b"meta", Some(left @ 1..=META_LIMIT)) => State::Meta { left },
        (_, Some(0)) => State::Header,
        (_, Some(left)) => State::Skip { left },
    }
}

/// An Exif item: how far its TIFF header is away, then the block (ISO/IEC 23008-12, A.2.1).
fn exif_item(item: &[u8]) -> Option<Exif> {
    let (offset, block) = item.split_first_chunk()?;
    let offset = usize::try_from(u32::from_be_bytes(*offset)).ok()?;
    Some(Exif::read(block.get(offset..)?))
}

/// What is left of a box.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    /// A number of so many bytes, at most eight.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        let number = self.take(bytes)?.iter();
        Some(number.fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// Two bytes in a box's early versions, four later.
    fn id(&mut self, wide: bool) -> Option<u64> {
        self.number(if wide { 4 } else { 2 })
    }

    /// A box's version; its flags follow.
    fn version(&mut self) -> Option<(u64, u64)> {
        Some((self.number(1)?, self.number(3)?))
    }

    /// The boxes in it: name and content.
    fn boxes(mut self) -> impl Iterator<Item = ([u8; 4], Bytes<'a>)> {
        std::iter::from_fn(move || {
            let size = usize::try_from(self.number(4)?).ok()?;
            let kind = *self.take(4)?.first_chunk()?;
            let content = match size {
                0 => std::mem::take(&mut self.0),
                size => self.take(size.checked_sub(8)?)?,
            };
            Some((kind, Bytes(content)))
        })
    }

    fn child(self, name: &[u8; 4]) -> Option<Self> {
        self.boxes()
            .find(|(kind, _)| kind == name)
            .map(|(_, content)| content)
    }
}

impl Said {
    fn read(meta: &[u8]) -> Option<Self> {
        let mut meta = Bytes(meta);
        meta.version()?;
        let mut pitm = meta.child(b"pitm")?;
        let (version, _) = pitm.version()?;
        let primary = pitm.id(version > 0)?;
        let mut said = Self {
            exif: exif_place(meta),
            ..Self::default()
        };
        let iprp = meta.child(b"iprp")?;
        let properties: Vec<_> = iprp.child(b"ipco")?.boxes().collect();
        let mut turned = Turned::default();
        for index in associated(iprp.child(b"ipma")?, primary)? {
            let Some((kind, mut property)) = index
                .checked_sub(1)
                .and_then(|at| properties.get(at).copied())
            else {
                continue;
            };
            match &kind {
                b"ispe" => {
                    property.version()?;
                    let side = |bytes: u64| u32::try_from(bytes).ok().filter(|side| *side > 0);
                    said.size = side(property.number(4)?).zip(side(property.number(4)?));
                }
                b"irot" => turned.rotate(property.number(1)?),
                b"imir" => turned.mirror(property.number(1)?),
                _ => {}
            }
        }
        said.orientation = Some(turned.orientation());
        Some(said)
    }
}

/// The properties of an item, by their places in `ipco`, in the order in which they apply.
fn associated(mut ipma: Bytes<'_>, item: u64) -> Option<Vec<usize>> {
    let (version, flags) = ipma.version()?;
    for _ in 0..ipma.number(4)? {
        let id = ipma.id(version > 0)?;
        let count = ipma.number(1)?;
        let mut found = Vec::new();
        for _ in 0..count {
            // The highest bit says that the property is essential.
            let index = match flags & 1 {
                1 => ipma.number(2)? & 0x7FFF,
                _ => ipma.number(1)? & 0x7F,
            };
            found.push(usize::try_from(index).ok()?);
        }
        if id == item {
            return Some(found);
        }
    }
    None
}

/// Where the first Exif item lies, if it lies in the file in one piece.
fn exif_place(meta: Bytes<'_>) -> Option<(u64, u64)> {
    let mut iinf = meta.child(b"iinf")?;
    let (version, _) = iinf.version()?;
    iinf.id(version > 0)?;
    let item = iinf.boxes().find_map(|(_, mut infe)| {
        let (version, _) = infe.version()?;
        let id = infe.id(version > 2)?;
        infe.number(2)?;
        (version >= 2 && infe.take(4)? == b"Exif").then_some(id)
    })?;
    let mut iloc = meta.child(b"iloc")?;
    let (version, _) = iloc.version()?;
    let sizes = iloc.number(2)?;
    let size = |shift: u32| {
        usize::try_from(sizes >> shift & 0x0F)
            .unwrap_or_default()
            .min(8)
    };
    let (offset_size, length_size, base_size) = (size(12), size(8), size(4));
    let index_size = if version > 0 { size(0) } else { 0 };
    for _ in 0..iloc.id(version > 1)? {
        let id = iloc.id(version > 1)?;
        // How the item is found: 0 is by its place in the file.
        let method = if version > 0 {
            iloc.number(2)? & 0x0F
        } else {
            0
        };
        let elsewhere = iloc.number(2)?;
        let base = iloc.number(base_size)?;
        let extents = iloc.number(2)?;
        let mut first = None;
        for _ in 0..extents {
            iloc.take(index_size)?;
            let extent = (
                base.checked_add(iloc.number(offset_size)?)?,
                iloc.number(length_size)?,
            );
            first = first.or(Some(extent));
        }
        if id == item {
            return first.filter(|_| (method, elsewhere, extents) == (0, 0, 1));
        }
    }
    None
}

/// How a picture is turned for display: mirrored from left to right or not, then by quarters clockwise.
#[derive(Debug, Clone, Copy, Default)]
struct Turned {
    mirrored: bool,
    quarters: u64,
}

impl Turned {
    /// `irot`: by quarters anticlockwise.
    fn rotate(&mut self, anticlockwise: u64) {
        self.quarters = (self.quarters + 4 - anticlockwise % 4) % 4;
    }

    /// `imir`: 0 exchanges top and bottom, 1 left and right. What was turned before turns the other way then.
    fn mirror(&mut self, axis: u64) {
        self.mirrored = !self.mirrored;
        let half = if axis & 1 == 0 { 2 } else { 0 };
        self.quarters = (4 - self.quarters + half) % 4;
    }

    fn orientation(self) -> Orientation {
        let number = match (self.mirrored, self.quarters) {
            (false, 0) => 1,
            (true, 0) => 2,
            (false, 2) => 3,
            (true, 2) => 4,
            (true, 3) => 5,
            (false, 1) => 6,
            (true, 1) => 7,
            _ => 8,
        };
        Orientation::of_exif(number).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{inspect, moment};
    use super::super::{ImageFacts, MediaType, Orientation};
    use super::Turned;

    /// 96 by 64, to be turned a quarter clockwise, taken at 01:30 nine hours east of UTC. Written by libheif.
    const TURNED: &[u8] = include_bytes!("../../../../tests/assets/files/o6.heic");

    #[test]
    fn a_real_file_tells_its_sides_as_they_are_displayed_and_its_time() {
        let expected = ImageFacts {
            width: Some(64),
            height: Some(96),
            orientation: Orientation::of_exif(6),
            taken_at: moment("2026-05-01T16:30:00Z"),
        };
        for media in [MediaType::Heic, MediaType::Heif] {
            assert_eq!(inspect(media, TURNED), Ok(expected));
        }
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_taken_and_says_nothing() {
        for length in 12..TURNED.len() {
            let facts = inspect(MediaType::Heic, &TURNED[..length]).unwrap();
            // Behind its properties the pixels may break off.
            assert!(facts.width.is_none() || facts.width == Some(64), "{length}");
        }
        for at in 28..TURNED.len() {
            for value in [0, 1, 0x7F, 0xFF] {
                let mut bytes = TURNED.to_vec();
                bytes[at] = value;
                assert!(inspect(MediaType::Heic, &bytes).is_ok(), "{at} {value}");
            }
        }
    }

    /// Each step on a picture of four letters, beside what Exif's number says of it.
    #[test]
    fn turning_and_mirroring_add_up_to_exifs_numbers() {
        // Places: top left, top right, bottom right, bottom left.
        type Corners = [u8; 4];
        fn clockwise([a, b, c, d]: Corners) -> Corners {
            [d, a, b, c]
        }
        fn left_right([a, b, c, d]: Corners) -> Corners {
            [b, a, d, c]
        }
        fn top_bottom([a, b, c, d]: Corners) -> Corners {
            [d, c, b, a]
        }
        let stored = *b"abcd";
        // Exif: what is displayed of a picture that is stored so.
        let displayed: [Corners; 8] = [
            stored,
            left_right(stored),
            clockwise(clockwise(stored)),
            top_bottom(stored),
            left_right(clockwise(stored)),
            clockwise(stored),
            left_right(clockwise(clockwise(clockwise(stored)))),
            clockwise(clockwise(clockwise(stored))),
        ];
        for steps in 0..6_u32.pow(4) {
            let (mut turned, mut corners) = (Turned::default(), stored);
            let mut rest = steps;
            for _ in 0..4 {
                match rest % 6 {
                    quarters @ 0..4 => {
                        turned.rotate(quarters.into());
                        for _ in 0..(4 - quarters) % 4 {
                            corners = clockwise(corners);
                        }
                    }
                    4 => {
                        turned.mirror(0);
                        corners = top_bottom(corners);
                    }
                    _ => {
                        turned.mirror(1);
                        corners = left_right(corners);
                    }
                }
                rest /= 6;
            }
            let number = usize::from(turned.orientation().get());
            assert_eq!(displayed[number - 1], corners, "{steps}");
        }
    }
}
