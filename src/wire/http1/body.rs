//! Where a body ends: the machine between framed bytes and body bytes.
//!
//! ```text
//! Exact(n) ── n bytes ─► Over        UntilClose ── the peer closes ─► (told by the inlet)
//!
//! Chunked:  Size ─┬─► Extension ─┬─► SizeLf ─┬─► Data ─► DataCr ─► DataLf ─► Size
//!                 └──────────────┘           └─► Trailers ─► Over
//! ```
//! Holds always: it stops only before body bytes for which there is no room, or at the end of what
//! it was given; all framing that can be read has been read. RFC 9112 §7.1 is taken by the letter:
//! no white space around a size, no lone CR or LF anywhere.

use super::lines::Lines;
use super::parse::Wrong;

/// Most hex digits of a chunk's size: what fits 64 bits.
const SIZE_DIGITS: u8 = 16;
/// Memory for a trailer section that is kept between two messages.
const TRAILER_BYTES: usize = 64;
/// Longest extension of one chunk; extensions are read over.
const EXTENSION_BYTES: u16 = 256;

#[derive(Debug)]
pub(super) enum Body {
    Over,
    Exact(u64),
    Chunked(Chunk),
    UntilClose,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Chunk {
    Size { size: u64, digits: u8 },
    Extension { size: u64, bytes: u16 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    Trailers,
}

/// What one step found: `used` bytes, of which the last `data` are body.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Step {
    pub(super) used: usize,
    pub(super) data: usize,
}

/// The trailer section as it comes in; empty without trailers.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) bytes: Vec<u8>,
    lines: Lines,
}

impl Body {
    pub(super) const CHUNKED: Self = Self::Chunked(Chunk::START);

    pub(super) fn exact(length: u64) -> Self {
        match length {
            0 => Self::Over,
            _ => Self::Exact(length),
        }
    }

    /// Reads on, as far as the first piece of body of at most `room` bytes. Trailers of at most
    /// `trailer_bytes` are gathered in `section`, which a chunked body has.
    pub(super) fn step(
        &mut self,
        bytes: &[u8],
        room: usize,
        section: Option<&mut Section>,
        trailer_bytes: usize,
    ) -> Result<Step, Wrong> {
        match self {
            Self::Over => Ok(Step::default()),
            Self::UntilClose => {
                let data = bytes.len().min(room);
                Ok(Step { used: data, data })
            }
            Self::Exact(left) => {
                let data = portion(*left, bytes.len().min(room));
                *self = Self::exact(*left - data as u64);
                Ok(Step { used: data, data })
            }
            Self::Chunked(_) => {
                let section = section.expect("made when the body began");
                self.unchunk(bytes, room, section, trailer_bytes)
            }
        }
    }

    fn unchunk(
        &mut self,
        bytes: &[u8],
        room: usize,
        section: &mut Section,
        trailer_bytes: usize,
    ) -> Result<Step, Wrong> {
        let mut at = 0;
        while let (Self::Chunked(chunk), Some(byte)) = (&mut *self, bytes.get(at)) {
            match chunk {
                Chunk::Data { left } => {
                    let data = portion(*left, (bytes.len() - at).min(room));
                    *chunk = Chunk::data(*left - data as u64);
                    return Ok(Step { used: at + data, data });
                }
                Chunk::Trailers => {
                    let (used, whole) = section.gather(&bytes[at..], trailer_bytes)?;
                    at += used;
                    if whole {
                        *self = Self::Over;
                    }
                }
                _ => {
                    *chunk = chunk.next(*byte)?;
                    at += 1;
                }
            }
        }
        Ok(Step { used: at, data: 0 })
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }
}

impl Chunk {
    const START: Self = Self::Size { size: 0, digits: 0 };

    fn data(left: u64) -> Self {
        match left {
            0 => Self::DataCr,
            _ => Self::Data { left },
        }
    }

    /// The state after one byte of framing.
    fn next(self, byte: u8) -> Result<Self, Wrong> {
        match (self, byte) {
            (Self::Size { size, digits }, b'\r') if digits > 0 => Ok(Self::SizeLf { size }),
            (Self::Size { size, digits }, b';') if digits > 0 => {
                Ok(Self::Extension { size, bytes: 0 })
            }
            (Self::Size { size, digits }, _) => match char::from(byte).to_digit(16) {
                Some(digit) if digits < SIZE_DIGITS => {
                    Ok(Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 })
                }
                _ => Err(Wrong::bad("The size of a chunk is not well-formed.")),
            },
            (Self::Extension { size, .. }, b'\r') => Ok(Self::SizeLf { size }),
            (Self::Extension { size, bytes }, b'\t' | 0x20..=0x7e | 0x80..)
                if bytes < EXTENSION_BYTES =>
            {
                Ok(Self::Extension { size, bytes: bytes + 1 })
            }
            (Self::Extension { .. }, _) => {
                Err(Wrong::bad("The extension of a chunk is not well-formed, or too long."))
            }
            (Self::SizeLf { size: 0 }, b'\n') => Ok(Self::Trailers),
            (Self::SizeLf { size }, b'\n') => Ok(Self::Data { left: size }),
            (Self::DataCr, b'\r') => Ok(Self::DataLf),
            (Self::DataLf, b'\n') => Ok(Self::START),
            (Self::SizeLf { .. } | Self::DataCr | Self::DataLf, _) => {
                Err(Wrong::bad("A chunk does not end with CR LF."))
            }
            (Self::Data { .. } | Self::Trailers, _) => Ok(self),
        }
    }
}

impl Section {
    /// Forgets what it has, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.lines = Lines::default();
    }

    /// Gives memory back that a message without trailers does not need.
    pub(super) fn rest(&mut self) {
        self.clear();
        self.bytes.shrink_to(TRAILER_BYTES);
    }

    /// Takes bytes up to the empty line that ends the section: how many, and whether it was there.
    fn gather(&mut self, bytes: &[u8], trailer_bytes: usize) -> Result<(usize, bool), Wrong> {
        let before = self.bytes.len();
        let space = trailer_bytes.saturating_sub(before);
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(space)]);
        match self.lines.scan(&self.bytes)? {
            Some(end) => {
                self.bytes.truncate(end);
                Ok((end - before, true))
            }
            None if self.bytes.len() >= trailer_bytes => {
                Err(Wrong::bad("The trailer section is too long."))
            }
            None => Ok((self.bytes.len() - before, false)),
        }
    }
}

/// The lesser of the two.
fn portion(left: u64, most: usize) -> usize {
    usize::try_from(left).map_or(most, |left| left.min(most))
}
