//! Whether a JPEG's scans hold every block of its frame (ITU-T T.81, annexes B and F).
//!
//! Asked for pictures alone whose end marker is missing: a picture that was cut off lacks blocks, one that a vendor's
//! trailer follows has them all. Symbols are counted and no pixel is decoded, so that memory is a few tables.
//!
//! Deliberately absent: progressive, lossless and arithmetic coding. No camera that forgets the end marker writes
//! them, and a picture whose blocks cannot be counted counts as cut off.

use super::jpeg::{END_OF_IMAGE, START_OF_SCAN, has_segment, is_frame, is_restart};
use super::{Field, take};

const BASELINE: u8 = 0xC0;
const EXTENDED: u8 = 0xC1;
const HUFFMAN_TABLES: u8 = 0xC4;
const RESTART_INTERVAL: u8 = 0xDD;

const BLOCK_SIDE: u64 = 8;
const COEFFICIENTS: u8 = 64;

/// Walks the same bytes as [`Walker`](super::jpeg::Walker), down to the symbols of each scan.
pub(super) struct Blocks {
    state: State,
    length: Field<2>,
    kept: Vec<u8>,
    frame: Option<Frame>,
    /// Of the first coefficients, and of the others.
    tables: [[Option<Box<Table>>; 4]; 2],
    restart_interval: u64,
    scan: Option<Scan>,
    /// Something follows the last block that is no marker cut in half.
    followed: bool,
}

#[derive(Clone, Copy)]
enum State {
    /// Before a marker.
    Marker,
    Code,
    Length {
        code: u8,
    },
    Segment {
        code: u8,
        left: u64,
    },
    Scan,
    ScanCode,
    /// All blocks have been seen.
    Complete,
    /// Something stands where a block should be.
    Incomplete,
}

/// Why counting ends: a block is missing or cannot be read.
struct Missing;

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            state: State::Marker,
            length: Field::new(),
            kept: Vec::new(),
            frame: None,
            tables: Default::default(),
            restart_interval: 0,
            scan: None,
            followed: false,
        }
    }

    pub(super) fn push(&mut self, input: &[u8]) {
        if let Err(Missing) = self.walk(input) {
            self.state = State::Incomplete;
        }
    }

    /// Whether every block has been seen, and a trailer behind them. A file that just ends there has lost its end.
    pub(super) fn complete(&self) -> bool {
        matches!(self.state, State::Complete) && self.followed
    }

    fn walk(&mut self, mut input: &[u8]) -> Result<(), Missing> {
        loop {
            self.state = match self.state {
                State::Marker => match memchr::memchr(0xFF, input) {
                    Some(at) => {
                        take(&mut input, at as u64 + 1);
                        State::Code
                    }
                    None => return Ok(()),
                },
                State::Code => match input.split_off_first() {
                    Some(&code) => marker(code)?,
                    None => return Ok(()),
                },
                State::Length { code } => match self.length.fill(&mut input) {
                    Some(length) => State::Segment {
                        code,
                        left: u64::from(u16::from_be_bytes(length).checked_sub(2).ok_or(Missing)?),
                    },
                    None => return Ok(()),
                },
                State::Segment { code, left } => {
                    let part = take(&mut input, left);
                    self.kept.extend_from_slice(part);
                    match left - part.len() as u64 {
                        0 => self.close_segment(code)?,
                        left => {
                            self.state = State::Segment { code, left };
                            return Ok(());
                        }
                    }
                }
                State::Scan => match input.split_off_first() {
                    Some(0xFF) => State::ScanCode,
                    Some(&byte) => self.data(byte)?,
                    None => return Ok(()),
                },
                State::ScanCode => match input.split_off_first() {
                    Some(0x00) => self.data(0xFF)?,
                    Some(0xFF) => State::ScanCode,
                    Some(code) if is_restart(*code) => self.restart()?,
                    Some(_) => return Err(Missing),
                    None => return Ok(()),
                },
                State::Complete => {
                    self.followed |= input.iter().any(|byte| *byte != 0xFF);
                    return Ok(());
                }
                State::Incomplete => return Ok(()),
            };
        }
    }

    fn close_segment(&mut self, code: u8) -> Result<State, Missing> {
        let kept = std::mem::take(&mut self.kept);
        match code {
            BASELINE | EXTENDED if self.frame.is_none() => {
                self.frame = Some(Frame::read(&kept).ok_or(Missing)?);
            }
            code if is_frame(code) => return Err(Missing),
            HUFFMAN_TABLES => self.read_tables(&kept).ok_or(Missing)?,
            RESTART_INTERVAL => {
                let interval = kept.first_chunk().ok_or(Missing)?;
                self.restart_interval = u16::from_be_bytes(*interval).into();
            }
            START_OF_SCAN => {
                let frame = self.frame.as_ref().ok_or(Missing)?;
                let scan = Scan::begin(frame, &kept, self.restart_interval);
                self.scan = Some(scan.ok_or(Missing)?);
                return Ok(State::Scan);
            }
            _ => {}
        }
        Ok(State::Marker)
    }

    /// Reads any number of Huffman tables (T.81, B.2.4.2).
    fn read_tables(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&[class_and_place], rest)) = segment.split_first_chunk() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let (symbols, rest) = rest.split_at_checked(total)?;
            let class = self.tables.get_mut(usize::from(class_and_place >> 4))?;
            let place = class.get_mut(usize::from(class_and_place & 0x0F))?;
            *place = Some(Box::new(Table::new(counts, symbols)?));
            segment = rest;
        }
        Some(())
    }

    fn data(&mut self, byte: u8) -> Result<State, Missing> {
        let (Some(scan), Some(frame)) = (&mut self.scan, &mut self.frame) else {
            return Err(Missing);
        };
        for shift in (0..8).rev() {
            if scan.is_complete() || scan.awaits_restart {
                break;
            }
            scan.bit(byte >> shift & 1, &self.tables)?;
        }
        if !scan.is_complete() {
            return Ok(State::Scan);
        }
        for part in &scan.parts {
            frame.components[part.component].complete = true;
        }
        Ok(match frame.components.iter().all(|c| c.complete) {
            true => State::Complete,
            false => State::Marker,
        })
    }

    fn restart(&mut self) -> Result<State, Missing> {
        let scan = self.scan.as_mut().filter(|scan| scan.awaits_restart);
        scan.ok_or(Missing)?.awaits_restart = false;
        Ok(State::Scan)
    }
}

fn marker(code: u8) -> Result<State, Missing> {
    match code {
        0xFF => Ok(State::Code),
        END_OF_IMAGE => Err(Missing),
        code if has_segment(code) => Ok(State::Length { code }),
        _ => Ok(State::Marker),
    }
}

struct Frame {
    width: u64,
    height: u64,
    components: Vec<Component>,
}

struct Component {
    id: u8,
    horizontal: u64,
    vertical: u64,
    complete: bool,
}

impl Frame {
    /// Reads a frame header (T.81, B.2.2).
    fn read(header: &[u8]) -> Option<Self> {
        let &[_precision, h1, h0, w1, w0, count, ref rest @ ..] = header else {
            return None;
        };
        let (components, []) = rest.as_chunks::<3>() else {
            return None;
        };
        let components: Vec<_> = components
            .iter()
            .map(|[id, sampling, _table]| Component {
                id: *id,
                horizontal: u64::from(sampling >> 4),
                vertical: u64::from(sampling & 0x0F),
                complete: false,
            })
            .collect();
        let sampled =
            |c: &Component| (1..=4).contains(&c.horizontal) && (1..=4).contains(&c.vertical);
        let fits = components.len() == usize::from(count) && components.iter().all(sampled);
        (fits && count > 0).then(|| Self {
            width: u16::from_be_bytes([w1, w0]).into(),
            height: u16::from_be_bytes([h1, h0]).into(),
            components,
        })
    }

    /// The largest sampling factors.
    fn sampling(&self) -> (u64, u64) {
        let largest = |factor: fn(&Component) -> u64| self.components.iter().map(factor).max();
        (
            largest(|c| c.horizontal).unwrap_or(1),
            largest(|c| c.vertical).unwrap_or(1),
        )
    }
}

/// One component's part of a scan.
struct Part {
    component: usize,
    tables: [usize; 2],
    /// In each unit.
    blocks: u64,
}

struct Scan {
    parts: Vec<Part>,
    /// Minimum coded units that are still to come, the present one included.
    units_left: u64,
    restart_interval: u64,
    until_restart: u64,
    awaits_restart: bool,
    /// Where in the unit: part, and block of it.
    part: usize,
    block: u64,
    /// The next coefficient of the block.
    coefficient: u8,
    /// The bits of a symbol so far.
    code: u32,
    code_bits: u8,
    /// Bits of a coefficient's value that are still to come.
    value_bits: u8,
}

impl Scan {
    /// Reads a scan header (T.81, B.2.3).
    fn begin(frame: &Frame, header: &[u8], restart_interval: u64) -> Option<Self> {
        let (&[count], rest) = header.split_first_chunk()?;
        let (pairs, _spectrum) = rest.split_at_checked(usize::from(count) * 2)?;
        let (pairs, _) = pairs.as_chunks::<2>();
        let alone = count == 1;
        let mut parts = Vec::with_capacity(pairs.len());
        for [id, tables] in pairs {
            let component = frame.components.iter().position(|c| c.id == *id)?;
            let Component {
                horizontal,
                vertical,
                ..
            } = frame.components[component];
            parts.push(Part {
                component,
                tables: [usize::from(tables >> 4), usize::from(tables & 0x0F)],
                // The blocks of a component that comes alone are not grouped (T.81, A.2.2).
                blocks: if alone { 1 } else { horizontal * vertical },
            });
        }
        let (horizontal, vertical) = frame.sampling();
        let first = &frame.components[parts.first()?.component];
        let across = |side: u64, own: u64, most: u64| match alone {
            true => (side * own).div_ceil(most).div_ceil(BLOCK_SIDE),
            false => side.div_ceil(most * BLOCK_SIDE),
        };
        Some(Self {
            parts,
            units_left: across(frame.width, first.horizontal, horizontal)
                * across(frame.height, first.vertical, vertical),
            restart_interval,
            until_restart: restart_interval,
            awaits_restart: false,
            part: 0,
            block: 0,
            coefficient: 0,
            code: 0,
            code_bits: 0,
            value_bits: 0,
        })
    }

    fn is_complete(&self) -> bool {
        self.units_left == 0
    }

    fn bit(&mut self, bit: u8, tables: &[[Option<Box<Table>>; 4]; 2]) -> Result<(), Missing> {
        if self.value_bits > 0 {
            self.value_bits -= 1;
        } else {
            self.code = self.code << 1 | u32::from(bit);
            self.code_bits += 1;
            let class = usize::from(self.coefficient > 0);
            let place = self.parts[self.part].tables[class];
            let table = tables[class].get(place).and_then(Option::as_deref);
            match table.ok_or(Missing)?.symbol(self.code, self.code_bits) {
                Some(symbol) => self.symbol(symbol),
                None if self.code_bits >= 16 => return Err(Missing),
                None => return Ok(()),
            }
        }
        if self.value_bits == 0 && self.coefficient >= COEFFICIENTS {
            self.end_block();
        }
        Ok(())
    }

    /// A symbol says how many zeros precede a coefficient and how many bits its value has (T.81, F.1.2).
    fn symbol(&mut self, symbol: u8) {
        (self.code, self.code_bits) = (0, 0);
        let (zeros, bits) = (symbol >> 4, symbol & 0x0F);
        if self.coefficient == 0 {
            (self.coefficient, self.value_bits) = (1, bits);
            return;
        }
        self.value_bits = bits;
        self.coefficient = match (zeros, bits) {
            (0..15, 0) => COEFFICIENTS,
            _ => self.coefficient + zeros + 1,
        };
    }

    fn end_block(&mut self) {
        self.coefficient = 0;
        self.block += 1;
        if self.block < self.parts[self.part].blocks {
            return;
        }
        (self.block, self.part) = (0, self.part + 1);
        if self.part < self.parts.len() {
            return;
        }
        self.part = 0;
        self.units_left -= 1;
        if self.restart_interval > 0 {
            self.until_restart -= 1;
            if self.until_restart == 0 {
                self.until_restart = self.restart_interval;
                self.awaits_restart = self.units_left > 0;
            }
        }
    }
}

/// A Huffman table, decoded as T.81, F.2.2.3 does.
struct Table {
    /// For each length: the first code, the number of codes, and where their symbols begin.
    lengths: [(u32, u32, usize); 16],
    symbols: Vec<u8>,
}

impl Table {
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut lengths = [(0, 0, 0); 16];
        let (mut code, mut at) = (0_u32, 0);
        for (bits, (length, count)) in (1_u32..).zip(lengths.iter_mut().zip(counts)) {
            *length = (code, u32::from(*count), at);
            code += u32::from(*count);
            at += usize::from(*count);
            if code > 1 << bits {
                return None;
            }
            code <<= 1;
        }
        Some(Self {
            lengths,
            symbols: symbols.to_vec(),
        })
    }

    fn symbol(&self, code: u32, bits: u8) -> Option<u8> {
        let (first, count, at) = *self.lengths.get(usize::from(bits).checked_sub(1)?)?;
        let nth = code.checked_sub(first).filter(|nth| *nth < count)?;
        self.symbols.get(at + usize::try_from(nth).ok()?).copied()
    }
}
