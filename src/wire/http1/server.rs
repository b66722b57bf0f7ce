//! The client-facing side of HTTP/1: reads requests, writes responses.
//!
//! One request is in progress at a time; bytes behind it are kept, within limits, and read when its
//! response has been written.
//!
//! ```text
//!          a whole head          the body is over          the response is over
//!   Head ───────────────► Body ─────────────────► Answer ─────────────────────► Head
//!    │ refused, late       │ ▲ cut, or             │ │ 101       │ the connection may not stay
//!    │                     │ └─ as a tunnel ───────│─┘           │
//!    └─────────────────────┴──────────► Deaf ◄─────┴─────────────┘
//! ```
//! Holds always: a response is written for one stream only, the one whose head was yielded last. A
//! stream yields nothing after its response is over, even if that came before its `End`; a tunnel
//! has two ends, and is over with the second. `Deaf` is never left, and nothing more is received in
//! it; what was refused there may still be answered.

use super::HEAD_BYTES_KEPT;
use super::body::Body;
use super::inlet::{Found, Inlet, Piece};
use super::outlet::{self, Kept, Outlet};
use super::parse::{self, Facts};
use crate::base::fault::{Class, Fault};
use crate::base::limits::Limits;
use crate::base::time::{Duration, Instant};
use crate::wire::codec::{Cause, Close, Codec, Due, Input, Needs, Part, Read, Stream};
use crate::wire::fields::Fields;
use crate::wire::head::{Head, Length};
use http::{Method, StatusCode, Version};

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The machine of one client connection.
#[derive(Debug)]
pub struct Server {
    inlet: Inlet,
    phase: Phase,
    reply: Reply,
    outlet: Outlet,
    head: Head,
    /// Why the last message was cut or refused.
    cause: Option<Box<Cause>>,
    stream: Stream,
    tunnel: Tunnel,
    /// The connection stays after the exchange at hand.
    keep: bool,
    /// The client waits for `100 Continue` and has not got it.
    expects: bool,
    /// Room was given for the body at hand.
    wanted: bool,
    /// Bytes kept behind the last exchange have not been looked at.
    unread: bool,
    retiring: bool,
    close: Close,
    /// Since when there is no exchange.
    idle_since: Instant,
    /// When the first byte of the head at hand came.
    head_since: Option<Instant>,
    header_timeout: Duration,
    keep_alive_timeout: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Head,
    Body,
    Answer,
    Deaf,
}

/// Whether the exchange at hand is more than a request and its response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tunnel {
    No,
    /// The request asks for another protocol.
    Asked,
    Open,
}

/// How far the response at hand is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reply {
    Awaited,
    Begun,
    Over,
}

impl Server {
    /// A machine for a connection accepted at `now`.
    pub fn new(limits: &Limits, now: Instant) -> Self {
        let mut inlet = Inlet::new(limits);
        inlet.allow_blank();
        Self {
            inlet,
            phase: Phase::Head,
            reply: Reply::Over,
            outlet: Outlet::Shut,
            head: Head::default(),
            cause: None,
            stream: Stream(0),
            tunnel: Tunnel::No,
            keep: true,
            expects: false,
            wanted: false,
            unread: false,
            retiring: false,
            close: Close::Open,
            idle_since: now,
            head_since: None,
            header_timeout: limits.header_timeout,
            keep_alive_timeout: limits.keep_alive_timeout,
        }
    }

    /// Bytes of memory it holds beside its own.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.head.memory() + self.inlet.memory()
    }

    fn read_head<'a>(&'a mut self, bytes: &'a [u8], now: Instant) -> Read<'a> {
        self.unread = false;
        if !bytes.is_empty() {
            self.head_since.get_or_insert(now);
        }
        let fields = self.inlet.head_fields();
        let (used, found) = self.inlet.head(bytes);
        let parsed = match found {
            Found::Nothing => {
                self.await_head();
                return Read { used, part: None };
            }
            Found::Wrong(wrong) => {
                parse::outline(self.inlet.kept(), &mut self.head);
                Err(wrong)
            }
            Found::Head(block) => parse::request(block, fields, &mut self.head),
        };
        match parsed {
            Ok(facts) => {
                self.begin(facts);
                Read { used, part: Some((self.stream, Part::Head(&self.head))) }
            }
            Err(wrong) => self.refuse(bytes.len(), Fault::new(wrong.class, wrong.message)),
        }
    }

    /// A head is not whole yet.
    fn await_head(&mut self) {
        if self.inlet.held() == 0 {
            self.head_since = None;
        }
        if self.inlet.ended {
            self.shut(Close::Flush);
        }
    }

    fn begin(&mut self, facts: Facts) {
        self.stream = Stream(self.stream.0.wrapping_add(1));
        self.phase = Phase::Body;
        self.reply = Reply::Awaited;
        self.tunnel = if self.head.switches { Tunnel::Asked } else { Tunnel::No };
        self.keep = facts.keep;
        self.expects = facts.expects;
        self.wanted = false;
        self.head_since = None;
        self.inlet.reset_room();
        self.inlet.begin(facts.body);
    }

    /// What came is no request: it is answered, and then the connection ends.
    fn refuse(&mut self, used: usize, fault: Fault) -> Read<'_> {
        self.begin(Facts { body: Body::Over, keep: false, expects: false });
        self.phase = Phase::Deaf;
        self.cause = Some(Box::new(Cause::Malformed(fault)));
        let Some(Cause::Malformed(fault)) = self.cause.as_deref() else { unreachable!("just set") };
        Read { used, part: Some((self.stream, Part::Refused(&self.head, fault))) }
    }

    fn read_body<'a>(&'a mut self, bytes: &'a [u8]) -> Read<'a> {
        if !bytes.is_empty() {
            self.expects = false;
        }
        let stream = self.stream;
        let (used, piece) = self.inlet.piece(bytes);
        let part = match piece {
            Piece::Nothing => return Read { used, part: None },
            Piece::Body(span) => Part::Body(self.inlet.lend(span, bytes)),
            Piece::End => {
                self.phase = Phase::Answer;
                if self.tunnel == Tunnel::Open && self.reply == Reply::Over {
                    self.shut(Close::Flush);
                }
                Part::End(self.inlet.trailers())
            }
            Piece::Closed => Part::Cut(self.broke_off(Cause::Closed)),
            Piece::Wrong(wrong) => {
                let fault = Fault::new(wrong.class, wrong.message);
                Part::Cut(self.broke_off(Cause::Malformed(fault)))
            }
        };
        Read { used, part: Some((stream, part)) }
    }

    fn broke_off(&mut self, cause: Cause) -> &Cause {
        self.keep = false;
        self.phase = Phase::Deaf;
        self.cause.insert(Box::new(cause))
    }

    fn late(&mut self, now: Instant) -> Read<'_> {
        let nothing = Read { used: 0, part: None };
        if self.phase != Phase::Head || self.close != Close::Open || now < self.deadline() {
            return nothing;
        }
        if self.head_since.is_none() {
            self.shut(Close::Now);
            return nothing;
        }
        parse::outline(self.inlet.kept(), &mut self.head);
        self.refuse(0, Fault::new(Class::ClientTimeout, "The request did not come in time."))
    }

    fn deadline(&self) -> Instant {
        match self.head_since {
            Some(since) => since + self.header_timeout,
            None if self.stream == Stream(0) => self.idle_since + self.header_timeout,
            None => self.idle_since + self.keep_alive_timeout,
        }
    }

    fn write_head(&mut self, head: &Head, out: &mut Vec<u8>) {
        assert!(self.reply == Reply::Awaited, "a stream has one final head");
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(head, out);
        }
        if head.status.is_informational() {
            return self.write_interim(head, out);
        }
        self.expects = false;
        if self.retiring || self.is_unwanted() || self.is_ambiguous() {
            self.keep = false;
        }
        let is_old = self.head.version == Version::HTTP_10;
        let length = self.frame(head, is_old);
        outlet::response(head, out);
        outlet::framing(length, out);
        if !self.keep {
            out.extend_from_slice(b"connection: close\r\n");
        } else if is_old {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        self.reply = Reply::Begun;
    }

    /// The connection becomes a tunnel. What came behind the request are its first bytes.
    fn switch(&mut self, head: &Head, out: &mut Vec<u8>) {
        let is_asked = self.tunnel == Tunnel::Asked && self.phase == Phase::Answer;
        assert!(is_asked, "a protocol is switched behind a whole request that asks for it");
        outlet::response(head, out);
        out.extend_from_slice(b"\r\n");
        self.tunnel = Tunnel::Open;
        self.keep = false;
        self.wanted = true;
        self.phase = Phase::Body;
        self.reply = Reply::Begun;
        self.outlet = Outlet::UntilClose;
        self.inlet.reset_room();
        self.inlet.begin(Body::UntilClose);
    }

    /// Bytes behind a request for another protocol that is not given: the next request to one, the
    /// first bytes of the tunnel to another.
    fn is_ambiguous(&self) -> bool {
        self.tunnel == Tunnel::Asked && self.inlet.held() > 0
    }

    /// HTTP/1.0 knows no interim responses (RFC 9110 §15.2).
    fn write_interim(&mut self, head: &Head, out: &mut Vec<u8>) {
        if head.status == StatusCode::CONTINUE {
            self.expects = false;
        }
        if self.head.version == Version::HTTP_11 {
            outlet::response(head, out);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The answer comes before anyone asked for the body: it will not be read, and the connection
    /// cannot stay.
    fn is_unwanted(&self) -> bool {
        self.phase == Phase::Body && !self.wanted && self.inlet.held_rest().is_none()
    }

    /// Chooses how the response's body is framed, and gives the length to declare (RFC 9112 §6,
    /// RFC 9110 §8.6).
    fn frame(&mut self, head: &Head, is_old: bool) -> Length {
        let is_head = self.head.method == Method::HEAD;
        self.outlet = match head.length {
            _ if is_head => Outlet::Mute,
            _ if is_bodyless(head.status) => Outlet::Mute,
            Length::Absent => Outlet::Exact(0),
            Length::Exact(length) => Outlet::Exact(length),
            Length::Unknown if is_old => Outlet::UntilClose,
            Length::Unknown => Outlet::Chunked,
        };
        if self.outlet == Outlet::UntilClose {
            self.keep = false;
        }
        match (self.outlet, head.length) {
            (Outlet::Exact(length), _) => Length::Exact(length),
            (Outlet::Chunked, _) => Length::Unknown,
            (Outlet::Mute, Length::Exact(_)) if head.status != StatusCode::NO_CONTENT => {
                head.length
            }
            (Outlet::Mute, Length::Unknown) if is_head && !is_old && !is_bodyless(head.status) => {
                Length::Unknown
            }
            _ => Length::Absent,
        }
    }

    fn write_end(&mut self, trailers: Option<&Fields>, now: Instant, out: &mut Vec<u8>) {
        assert!(self.reply == Reply::Begun, "an end follows a head");
        if self.outlet.end(trailers, out) == Kept::No {
            return self.shut(Close::Now);
        }
        self.reply = Reply::Over;
        let is_read = match self.phase {
            Phase::Head | Phase::Deaf => false,
            // The client may still say something in a tunnel.
            Phase::Body if self.tunnel == Tunnel::Open => return,
            Phase::Body => self.inlet.skip_rest(),
            Phase::Answer => !self.is_ambiguous(),
        };
        if self.keep && is_read { self.next(now) } else { self.shut(Close::Flush) }
    }

    /// The exchange at hand is over, and another may begin.
    fn next(&mut self, now: Instant) {
        self.phase = Phase::Head;
        self.idle_since = now;
        self.inlet.allow_blank();
        self.inlet.rest();
        self.head.rest(HEAD_BYTES_KEPT);
        self.cause = None;
        self.unread = self.inlet.held() > 0;
        self.head_since = self.unread.then_some(now);
        if !self.unread && (self.inlet.ended || self.retiring) {
            self.shut(Close::Flush);
        }
    }

    fn shut(&mut self, close: Close) {
        self.phase = Phase::Deaf;
        self.reply = Reply::Over;
        self.close = close;
    }
}

impl Codec for Server {
    fn read<'a>(&'a mut self, input: Input<'a>, now: Instant, _out: &mut Vec<u8>) -> Read<'a> {
        let bytes = match input {
            Input::Bytes(bytes) => bytes,
            Input::End => {
                self.inlet.ended = true;
                &[]
            }
            Input::Tick => return self.late(now),
        };
        match self.phase {
            Phase::Head => self.read_head(bytes, now),
            Phase::Body => self.read_body(bytes),
            Phase::Answer => {
                self.inlet.keep(bytes);
                Read { used: bytes.len(), part: None }
            }
            Phase::Deaf => Read { used: bytes.len(), part: None },
        }
    }

    fn write(&mut self, stream: Stream, part: Part<'_>, now: Instant, out: &mut Vec<u8>) {
        if stream != self.stream || self.reply == Reply::Over {
            return;
        }
        match part {
            Part::Head(head) => self.write_head(head, out),
            Part::Body(bytes) => {
                if self.outlet.body(bytes, out) == Kept::No {
                    self.shut(Close::Now);
                }
            }
            Part::End(trailers) => self.write_end(trailers, now, out),
            Part::Cut(_) | Part::Refused(..) => self.shut(Close::Now),
        }
    }

    fn room(&mut self, stream: Stream, bytes: u32, out: &mut Vec<u8>) {
        if stream != self.stream || self.phase != Phase::Body || bytes == 0 {
            return;
        }
        self.inlet.give(bytes);
        self.wanted = true;
        let waits = std::mem::take(&mut self.expects);
        if waits && self.inlet.held() == 0 {
            out.extend_from_slice(CONTINUE);
        }
    }

    fn needs(&self) -> Needs {
        let is_open = self.close == Close::Open;
        let intake = match self.phase {
            _ if self.inlet.ended => 0,
            Phase::Head => self.inlet.head_intake(),
            // While its request waits, a client is listened to: it may go away.
            Phase::Body if !self.wanted => self.inlet.ahead_intake(),
            Phase::Body => self.inlet.body_intake(),
            Phase::Answer => self.inlet.ahead_intake(),
            Phase::Deaf => 0,
        };
        Needs {
            intake,
            due: if self.phase == Phase::Body && self.wanted { Due::More } else { Due::Message },
            ready: match self.phase {
                Phase::Head => self.unread,
                Phase::Body => self.inlet.is_ready(),
                Phase::Answer | Phase::Deaf => false,
            },
            plain: 0, // requests are read: few have bodies for which the other way would pay
            idle: self.phase == Phase::Head && is_open,
            wakeup: (self.phase == Phase::Head && is_open).then(|| self.deadline()),
            peer_ended: self.inlet.ended,
            own_ended: self.tunnel == Tunnel::Open && self.reply == Reply::Over && is_open,
            close: self.close,
        }
    }

    fn plain_room(&self, stream: Stream) -> u64 {
        match self.outlet {
            Outlet::Exact(left) if stream == self.stream && self.reply == Reply::Begun => left,
            _ => 0,
        }
    }

    fn wrote_past(&mut self, stream: Stream, bytes: u64) {
        let left = self.plain_room(stream).checked_sub(bytes);
        self.outlet = Outlet::Exact(left.expect("no more passes than there is room for"));
    }

    fn retire(&mut self) {
        self.retiring = true;
        if self.phase == Phase::Head && self.inlet.held() == 0 {
            self.shut(Close::Flush);
        }
    }
}

/// Statuses whose responses never have a body (RFC 9112 §6.3).
fn is_bodyless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
