//! The receiving half of a connection: finds heads and pieces of bodies in the bytes that come.
//!
//! Holds always: bytes are either handed on, kept in the stash, or (framing) read over, in order;
//! no more body is handed on than there is room for; the result does not depend on how the bytes
//! were cut into pieces.

use super::body::{Body, Section};
use super::lines::Lines;
use super::parse::{self, Wrong};
use super::stash::Stash;
use crate::base::fault::Class;
use crate::base::limits::Limits;
use crate::wire::fields::Fields;
use std::ops::Range;

/// What the inlet needs to know of [`Limits`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) head_bytes: usize,
    pub(super) head_fields: usize,
    trailer_bytes: usize,
    ahead_bytes: usize,
}

#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) bounds: Bounds,
    /// The peer has closed its sending side.
    pub(super) ended: bool,
    /// One empty line before the next head is read over (RFC 9112 §2.2).
    blank_allowed: bool,
    stash: Stash,
    lines: Lines,
    body: Body,
    room: usize,
    section: Section,
    trailers: Fields,
}

/// What was found where a head is due.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Nothing,
    /// A whole head, with the empty line.
    Head(&'a [u8]),
    Wrong(Wrong),
}

/// What was found where a body is due.
#[derive(Debug)]
pub(super) enum Piece {
    Nothing,
    /// Bytes of the body: see [`Inlet::lend`].
    Body(Span),
    /// The body is whole: see [`Inlet::trailers`].
    End,
    /// The peer closed before the body was whole.
    Closed,
    Wrong(Wrong),
}

/// Where bytes of a body lie.
#[derive(Debug)]
pub(super) enum Span {
    Kept(Range<usize>),
    Given(Range<usize>),
}

impl Inlet {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            bounds: Bounds {
                head_bytes: limits.head_bytes,
                head_fields: limits.head_fields,
                trailer_bytes: limits.trailer_bytes,
                ahead_bytes: limits.ahead_bytes,
            },
            ended: false,
            blank_allowed: false,
            stash: Stash::default(),
            lines: Lines::default(),
            body: Body::Over,
            room: 0,
            section: Section::default(),
            trailers: Fields::default(),
        }
    }

    /// One empty line may come before the next head.
    pub(super) fn allow_blank(&mut self) {
        self.blank_allowed = true;
    }

    /// Looks for a head: how many bytes were used, and what was found.
    pub(super) fn head<'a>(&'a mut self, bytes: &'a [u8]) -> (usize, Found<'a>) {
        let held = !self.stash.is_empty();
        if held {
            self.stash.fill(bytes);
        }
        let source = if held { self.stash.rest() } else { bytes };
        let most = self.bounds.head_bytes;
        let mut start = 0;
        let mut found = self.lines.scan(up_to(source, most));
        if found == Ok(Some(2)) && self.blank_allowed {
            self.blank_allowed = false;
            self.lines = Lines::default();
            start = 2;
            found = self.lines.scan(up_to(&source[start..], most));
        }
        match found {
            Err(wrong) => (bytes.len(), Found::Wrong(wrong)),
            Ok(None) if source.len() - start >= most => {
                let wrong = Wrong { class: Class::HeadTooLarge, message: "The head is too long." };
                (bytes.len(), Found::Wrong(wrong))
            }
            Ok(None) if held => {
                self.stash.take(start);
                (bytes.len(), Found::Nothing)
            }
            Ok(None) => {
                self.stash.fill(&bytes[start..]);
                (bytes.len(), Found::Nothing)
            }
            Ok(Some(end)) => {
                self.lines = Lines::default();
                if held {
                    self.stash.take(start);
                    let range = self.stash.take(end);
                    (bytes.len(), Found::Head(self.stash.lend(range)))
                } else {
                    (start + end, Found::Head(&bytes[start..start + end]))
                }
            }
        }
    }

    /// A new message: no room was given for its body yet.
    pub(super) fn reset_room(&mut self) {
        self.room = 0;
    }

    /// A body framed like this begins.
    pub(super) fn begin(&mut self, body: Body) {
        self.body = body;
        self.section.clear();
        self.trailers.clear();
    }

    /// Looks for the next piece of the body: how many bytes were used, and what was found.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> (usize, Piece) {
        let held = !self.stash.is_empty();
        if held {
            self.stash.fill(bytes);
        }
        let source = if held { self.stash.rest() } else { bytes };
        let most = self.bounds.trailer_bytes;
        let step = match self.body.step(source, self.room, &mut self.section, most) {
            Ok(step) => step,
            Err(wrong) => return (bytes.len(), Piece::Wrong(wrong)),
        };
        self.room -= step.data;
        let range = if held { self.stash.take(step.used) } else { 0..step.used };
        let used = if held { bytes.len() } else { step.used };
        if step.data > 0 {
            let range = range.end - step.data..range.end;
            let span = if held { Span::Kept(range) } else { Span::Given(range) };
            return (used, Piece::Body(span));
        }
        if self.body.is_over() {
            return (used, self.end());
        }
        if !held {
            self.stash.fill(&bytes[used..]);
        }
        (bytes.len(), self.dry())
    }

    fn end(&mut self) -> Piece {
        // Without trailers the section is the empty line alone.
        if self.section.bytes.len() > 2 {
            let most = self.bounds.head_fields;
            if let Err(wrong) = parse::trailers(&self.section.bytes, most, &mut self.trailers) {
                return Piece::Wrong(wrong);
            }
        }
        Piece::End
    }

    /// What it means that no piece is left.
    fn dry(&self) -> Piece {
        match self.body {
            _ if !self.ended || !self.stash.is_empty() => Piece::Nothing,
            Body::UntilClose => Piece::End,
            _ => Piece::Closed,
        }
    }

    /// The bytes of a piece that was found in `bytes`, or in what was kept before them.
    pub(super) fn lend<'a>(&'a self, span: Span, bytes: &'a [u8]) -> &'a [u8] {
        match span {
            Span::Kept(range) => self.stash.lend(range),
            Span::Given(range) => &bytes[range],
        }
    }

    /// Trailers of the message that ended.
    pub(super) fn trailers(&self) -> Option<&Fields> {
        if self.trailers.is_empty() { None } else { Some(&self.trailers) }
    }

    /// Keeps bytes that nothing looks at yet.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.stash.fill(bytes);
    }

    /// How many kept bytes are the rest of the body, if all of it is at hand. Of a chunked body
    /// that is not known.
    pub(super) fn held_rest(&self) -> Option<usize> {
        let left = match self.body {
            Body::Over => 0,
            Body::Exact(left) => usize::try_from(left).ok()?,
            Body::Chunked(_) | Body::UntilClose => return None,
        };
        (left <= self.stash.len()).then_some(left)
    }

    /// Reads over the rest of the body if all of it is at hand; whether it was.
    pub(super) fn skip_rest(&mut self) -> bool {
        let rest = self.held_rest();
        if let Some(left) = rest {
            self.stash.take(left);
            self.body = Body::Over;
        }
        rest.is_some()
    }

    /// Between two messages: gives memory back that only a rare one needs.
    pub(super) fn rest(&mut self) {
        self.stash.shrink(self.bounds.ahead_bytes);
    }

    /// Lets so many more bytes of the body through.
    pub(super) fn give(&mut self, bytes: u32) {
        self.room = self.room.saturating_add(bytes as usize);
    }

    /// Bytes that may come now while a head is due, with what may follow it.
    pub(super) fn head_intake(&self) -> usize {
        (self.bounds.head_bytes + self.bounds.ahead_bytes).saturating_sub(self.held())
    }

    /// Bytes that may come now while a body is due: no more than there is room for, so that what
    /// comes can be handed on.
    pub(super) fn body_intake(&self) -> usize {
        let most = match self.body {
            Body::Over => return self.ahead_intake(),
            Body::Exact(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Body::Chunked(_) | Body::UntilClose => usize::MAX,
        };
        self.room.min(most.saturating_add(self.bounds.ahead_bytes)).saturating_sub(self.held())
    }

    /// Bytes that may come now while a message before them is not answered yet.
    pub(super) fn ahead_intake(&self) -> usize {
        self.bounds.ahead_bytes.saturating_sub(self.held())
    }

    /// Whether kept bytes of a body can be handed on.
    pub(super) fn is_ready(&self) -> bool {
        self.held() > 0 && self.room > 0
    }

    /// Bytes kept.
    pub(super) fn held(&self) -> usize {
        self.stash.len()
    }
}

fn up_to(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}
