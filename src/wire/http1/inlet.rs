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

/// Memory for bytes kept that a connection has between two messages, at most.
const IDLE_BYTES: usize = 1024;

/// What the inlet needs to know of [`Limits`]. There are many idle connections: it is kept small.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    head_bytes: u32,
    head_fields: u32,
    trailer_bytes: u32,
    ahead_bytes: u32,
}

/// What only a chunked body needs.
#[derive(Debug, Default)]
struct Tail {
    section: Section,
    trailers: Fields,
}

#[derive(Debug)]
pub(super) struct Inlet {
    bounds: Bounds,
    /// The peer has closed its sending side.
    pub(super) ended: bool,
    /// One empty line before the next head is read over (RFC 9112 §2.2).
    blank_allowed: bool,
    stash: Stash,
    lines: Lines,
    body: Body,
    room: usize,
    tail: Option<Box<Tail>>,
}

/// What was found where a head is due.
#[derive(Debug)]
pub(super) enum Found<'a> {
    Nothing,
    /// A whole head, with the empty line.
    Head(&'a [u8]),
    /// No head; what came instead: see [`Inlet::kept`].
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
                head_bytes: bound(limits.head_bytes),
                head_fields: bound(limits.head_fields),
                trailer_bytes: bound(limits.trailer_bytes),
                ahead_bytes: bound(limits.ahead_bytes),
            },
            ended: false,
            blank_allowed: false,
            stash: Stash::default(),
            lines: Lines::default(),
            body: Body::Over,
            room: 0,
            tail: None,
        }
    }

    /// Most fields of a head.
    pub(super) fn head_fields(&self) -> usize {
        self.bounds.head_fields as usize
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
        let most = self.bounds.head_bytes as usize;
        let mut start = 0;
        let mut found = self.lines.scan(up_to(source, most));
        if found == Ok(Some(2)) && self.blank_allowed {
            self.blank_allowed = false;
            self.lines = Lines::default();
            start = 2;
            found = self.lines.scan(up_to(&source[start..], most));
        }
        match found {
            Err(wrong) => {
                self.keep_from(start, bytes);
                (bytes.len(), Found::Wrong(wrong))
            }
            Ok(None) if source.len() - start >= most => {
                let wrong = Wrong { class: Class::HeadTooLarge, message: "The head is too long." };
                self.keep_from(start, bytes);
                (bytes.len(), Found::Wrong(wrong))
            }
            Ok(None) => {
                self.keep_from(start, bytes);
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

    /// No head was found in `bytes`, which have been kept already if some were kept before.
    fn keep_from(&mut self, start: usize, bytes: &[u8]) {
        if self.stash.is_empty() {
            self.stash.fill(&bytes[start..]);
        } else {
            self.stash.take(start);
        }
    }

    /// A new message: no room was given for its body yet.
    pub(super) fn reset_room(&mut self) {
        self.room = 0;
    }

    /// A body framed like this begins.
    pub(super) fn begin(&mut self, body: Body) {
        self.body = body;
        if let Some(tail) = &mut self.tail {
            tail.section.clear();
            tail.trailers.clear();
        }
        if matches!(self.body, Body::Chunked(_)) {
            self.tail.get_or_insert_default();
        }
    }

    /// Looks for the next piece of the body: how many bytes were used, and what was found.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> (usize, Piece) {
        let held = !self.stash.is_empty();
        if held {
            self.stash.fill(bytes);
        }
        let source = if held { self.stash.rest() } else { bytes };
        let most = self.bounds.trailer_bytes as usize;
        let section = self.tail.as_deref_mut().map(|it| &mut it.section);
        let step = match self.body.step(source, self.room, section, most) {
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
        let most = self.head_fields();
        // Without trailers the section is the empty line alone.
        if let Some(tail) = self.tail.as_deref_mut()
            && tail.section.bytes.len() > 2
            && let Err(wrong) = parse::trailers(&tail.section.bytes, most, &mut tail.trailers)
        {
            return Piece::Wrong(wrong);
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
        self.tail.as_deref().map(|it| &it.trailers).filter(|it| !it.is_empty())
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

    /// Between two messages: gives memory back that only a rare one needs. Trailers may be lent.
    pub(super) fn rest(&mut self) {
        self.stash.shrink(IDLE_BYTES);
        if let Some(tail) = &mut self.tail {
            tail.section.rest();
        }
    }

    /// Bytes kept where a head is due, as many as it may have.
    pub(super) fn kept(&self) -> &[u8] {
        up_to(self.stash.rest(), self.bounds.head_bytes as usize)
    }

    /// Lets so many more bytes of the body through.
    pub(super) fn give(&mut self, bytes: u32) {
        self.room = self.room.saturating_add(bytes as usize);
    }

    /// Bytes that may come now while a head is due, with what may follow it.
    pub(super) fn head_intake(&self) -> usize {
        (self.bounds.head_bytes as usize + self.bounds.ahead_bytes as usize)
            .saturating_sub(self.held())
    }

    /// Bytes that may come now while a body is due: no more than there is room for, so that what
    /// comes can be handed on.
    pub(super) fn body_intake(&self) -> usize {
        let most = match self.body {
            Body::Over => return self.ahead_intake(),
            Body::Exact(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Body::Chunked(_) | Body::UntilClose => usize::MAX,
        };
        let most = most.saturating_add(self.bounds.ahead_bytes as usize);
        self.room.min(most).saturating_sub(self.held())
    }

    /// Bytes that may come now while a message before them is not answered yet.
    pub(super) fn ahead_intake(&self) -> usize {
        (self.bounds.ahead_bytes as usize).saturating_sub(self.held())
    }

    /// Whether kept bytes of a body can be handed on, or its end, where the peer had closed its
    /// side before the body began.
    pub(super) fn is_ready(&self) -> bool {
        match self.held() {
            0 => self.ended,
            _ => self.room > 0,
        }
    }

    /// How many bytes of the body come next as they are, if none is kept.
    pub(super) fn plain(&self) -> u64 {
        match self.body {
            Body::Exact(left) if self.stash.is_empty() && !self.ended => left,
            _ => 0,
        }
    }

    /// So many bytes of the body came, and were not seen here.
    pub(super) fn pass(&mut self, bytes: u64) {
        let Body::Exact(left) = self.body else { unreachable!("only such a body is plain") };
        self.body = Body::exact(left.checked_sub(bytes).expect("no more passes than is due"));
    }

    /// Whether all of the body has come, of which the end was not read: it was not seen here.
    pub(super) fn has_passed(&self) -> bool {
        self.body.is_over()
    }

    /// Bytes of memory it holds beside its own.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let tail = self.tail.as_deref();
        let tail = tail.map_or(0, |it| size_of::<Tail>() + it.section.bytes.capacity());
        self.stash.memory() + tail
    }

    /// Bytes kept.
    pub(super) fn held(&self) -> usize {
        self.stash.len()
    }
}

fn bound(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

fn up_to(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}
