//! A JPEG's pixels (ITU-T T.81). What is not needed for them, such as profiles and previews, is left out before
//! anything is decoded, and so is what lies behind the picture.

use std::ops::Range;

use bytes::Bytes;
use image::RgbImage;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decode::{MAX_PROFILE_BYTES, Sides};
use super::memory::transient;
use super::shrink::Shrinker;
use super::{AnalyzeError, Bound, MAX_SIDE};

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;
const SEQUENTIAL: [u8; 2] = [0xC0, 0xC1];
/// Decoders ask it which colours four components are.
const ADOBE: u8 = 0xEE;

/// More scans than any encoder writes: ten are usual for a progressive picture.
const MAX_SCANS: usize = 64;
/// How many blocks all scans may go through: four times what the largest photo has in ten scans of all its components.
const MAX_BLOCKS: u64 = 100_000_000;
/// More segments than tables, a frame and scans need.
const MAX_SEGMENTS: usize = 4096;

/// What is decoded of a file, and what that takes.
#[derive(Debug)]
pub(super) struct Plan {
    /// The parts of the file that are needed.
    parts: Vec<Range<usize>>,
    frame: Frame,
    /// A picture that comes in several scans lies in memory as coefficients first.
    buffered: bool,
}

#[derive(Debug)]
struct Frame {
    sequential: bool,
    width: u64,
    height: u64,
    /// Sampling factors.
    components: Vec<(u64, u64)>,
}

impl Plan {
    /// Walks a file's segments.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, AnalyzeError> {
        let damaged = || AnalyzeError::Damaged("the JPEG is not one".to_owned());
        let mut parts = Vec::new();
        let (mut frame, mut scans, mut buffered) = (None, 0, false);
        let mut at = 0;
        while let Some((code, start)) = marker(bytes, at) {
            at = start;
            match code {
                END_OF_IMAGE => break,
                START_OF_IMAGE if scans > 0 => break,
                0xC0..=0xCF | 0xDA..=0xFE => {}
                // Behind a scan only a trailer has what is no marker.
                0x01..=0xBF if scans > 0 => break,
                _ => continue,
            }
            let Some(segment) = segment(bytes, start) else {
                break;
            };
            let body = &bytes[start + 2..segment.end];
            at = segment.end;
            match code {
                0xC0..=0xCF if !matches!(code, 0xC4 | 0xC8 | 0xCC) && frame.is_none() => {
                    frame = Some(Frame::read(code, body).ok_or_else(damaged)?);
                }
                START_OF_SCAN => {
                    let components = frame.as_ref().ok_or_else(damaged)?.components.len();
                    buffered |= usize::from(*body.first().ok_or_else(damaged)?) != components;
                    scans += 1;
                    at = scan_end(bytes, at);
                }
                0xE0..=0xEF | 0xFE if code != ADOBE => continue,
                _ => {}
            }
            parts.push(start - 2..at);
            if scans > MAX_SCANS || parts.len() > MAX_SEGMENTS {
                return Err(AnalyzeError::TooLarge(Bound::Work));
            }
        }
        let frame = frame.filter(|_| scans > 0).ok_or_else(damaged)?;
        let buffered = buffered || !frame.sequential;
        if frame.blocks().saturating_mul(scans as u64) > MAX_BLOCKS {
            return Err(AnalyzeError::TooLarge(Bound::Work));
        }
        Ok(Self {
            parts,
            frame,
            buffered,
        })
    }

    pub(super) fn size(&self) -> (u32, u32) {
        let side = |pixels: u64| u32::try_from(pixels).unwrap_or(u32::MAX);
        (side(self.frame.width), side(self.frame.height))
    }

    /// The most bytes that decoding takes: coefficients of two bytes, rows of blocks, and pixels; or before that, what
    /// is needed of the file, which then takes the file's place.
    pub(super) fn decoding_bytes(&self) -> u64 {
        let Frame { width, height, .. } = self.frame;
        let file: u64 = self.parts.iter().map(|part| part.len() as u64).sum();
        let coefficients = match self.buffered {
            true => self.frame.blocks() * 64 * 2,
            false => 0,
        };
        let rows = width * self.frame.components.len() as u64 * 32 * 2 * 4;
        let channels = if self.frame.components.len() == 1 {
            1
        } else {
            3
        };
        file.max(coefficients + rows + width * height * channels)
    }

    pub(super) fn decode(&self, bytes: Bytes, sides: Sides) -> Result<RgbImage, AnalyzeError> {
        let mut plain = transient(bytes.len());
        plain.extend([0xFF, START_OF_IMAGE]);
        for part in &self.parts {
            plain.extend_from_slice(&bytes[part.clone()]);
        }
        plain.extend([0xFF, END_OF_IMAGE]);
        drop(bytes);
        let damaged =
            |error: zune_jpeg::errors::DecodeErrors| AnalyzeError::Damaged(error.to_string());
        let options = DecoderOptions::default()
            .set_strict_mode(false)
            .set_max_width(MAX_SIDE as usize)
            .set_max_height(MAX_SIDE as usize)
            .jpeg_set_max_scans(MAX_SCANS + 1);
        let decoder =
            |options| zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(&plain[..]), options);
        let mut headers = decoder(options);
        headers.decode_headers().map_err(damaged)?;
        let colours = match headers.input_colorspace() {
            Some(ColorSpace::Luma) => ColorSpace::Luma,
            _ => ColorSpace::RGB,
        };
        let mut decoder = decoder(options.jpeg_set_out_colorspace(colours));
        decoder.decode_headers().map_err(damaged)?;
        let (width, height) = decoder.dimensions().unwrap_or_default();
        let channels = colours.num_components();
        let mut pixels = transient(width * height * channels);
        pixels.resize(width * height * channels, 0);
        decoder.decode_into(&mut pixels).map_err(damaged)?;
        let (width, height) = self.size();
        let mut shrinker = Shrinker::new(width, height, sides.averaged);
        for (y, row) in (0..height).zip(pixels.chunks_exact(width as usize * channels)) {
            match channels {
                1 => shrinker.add(y, 0, 1, row.iter().map(|level| [*level; 3])),
                _ => shrinker.add(y, 0, 1, row.as_chunks::<3>().0.iter().copied()),
            }
        }
        // Before the picture is resized: this is the largest there is.
        drop(pixels);
        Ok(shrinker.finish().resized(sides.kept))
    }
}

impl Frame {
    fn read(code: u8, header: &[u8]) -> Option<Self> {
        let &[_precision, h1, h0, w1, w0, count, ref rest @ ..] = header else {
            return None;
        };
        let (components, _) = rest.as_chunks::<3>();
        let components: Vec<_> = components
            .iter()
            .take(usize::from(count))
            .map(|[_, sampling, _]| (u64::from(sampling >> 4), u64::from(sampling & 0x0F)))
            .collect();
        Some(Self {
            sequential: SEQUENTIAL.contains(&code),
            width: u16::from_be_bytes([w1, w0]).into(),
            height: u16::from_be_bytes([h1, h0]).into(),
            components,
        })
    }

    /// Blocks of all components, whole units.
    fn blocks(&self) -> u64 {
        let most = |factor: fn(&(u64, u64)) -> u64| {
            self.components.iter().map(factor).max().unwrap_or(1).max(1)
        };
        let units =
            self.width.div_ceil(most(|c| c.0) * 8) * self.height.div_ceil(most(|c| c.1) * 8);
        let each: u64 = self.components.iter().map(|c| c.0 * c.1).sum();
        units * each
    }
}

/// The colour profile in a file's application segments, in the order of their numbers (ICC.1, annex B.4).
pub(super) fn profile(bytes: &[u8]) -> Option<Vec<u8>> {
    const PROFILE: u8 = 0xE2;
    const NAME: &[u8] = b"ICC_PROFILE\0";
    let mut parts = std::collections::BTreeMap::new();
    let (mut at, mut of) = (0, 0);
    while let Some((code, start)) = marker(bytes, at) {
        at = start;
        match code {
            START_OF_IMAGE | 0x01 => continue,
            START_OF_SCAN | END_OF_IMAGE => break,
            _ => {}
        }
        let segment = segment(bytes, start)?;
        at = segment.end;
        let body = &bytes[start + 2..segment.end];
        if code == PROFILE
            && let Some([number, count, part @ ..]) = body.strip_prefix(NAME)
        {
            of = *count;
            parts.insert(*number, part);
        }
    }
    let whole = of > 0 && (1..=of).eq(parts.keys().copied());
    let length: usize = parts.values().map(|part| part.len()).sum();
    let whole = whole && length <= MAX_PROFILE_BYTES;
    whole.then(|| parts.into_values().flatten().copied().collect())
}

/// The next marker's code, and where what follows it begins. What lies before a marker is passed over.
fn marker(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let mut at = from + memchr::memchr(0xFF, bytes.get(from..)?)? + 1;
    loop {
        let code = *bytes.get(at)?;
        at += 1;
        if code != 0xFF {
            return Some((code, at));
        }
    }
}

/// The place of a segment from its length on; nothing if the file ends before it does.
fn segment(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let length = u16::from_be_bytes(*bytes.get(start..)?.first_chunk()?);
    let end = start + usize::from(length.max(2));
    (length >= 2 && end <= bytes.len()).then_some(start..end)
}

/// Where entropy-coded data ends: before a marker that is no restart.
fn scan_end(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(0xFF, rest)) {
        at += found;
        match bytes.get(at + 1) {
            Some(0x00 | 0xD0..=0xD7) => at += 2,
            Some(0xFF) => at += 1,
            Some(_) => return at,
            None => break,
        }
    }
    bytes.len()
}
