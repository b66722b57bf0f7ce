//! The instance-facing side of HTTP/1: writes requests, reads responses.
//!
//! ```text
//!          write(Head)          a final head, 101     the response is over, cleanly
//!   Idle ─────────────► Head ───────────────► Body ─────────────────────────────► Idle
//!    │ surplus, closed   │ malformed, closed   │ │ malformed, closed, not reusable
//!    │                   │                     │ └──────────────────────────────► Over
//!    └───────────────────┴────────► Over       └─ a tunnel, instance first ─► Told ─► Over
//! ```
//! Holds always: it is idle only if the last request was written whole, its response was read
//! whole, and not one byte came beyond it: such a byte would be taken for the next response. A
//! connection that became a tunnel is never idle again; it is over when both sides have ended.
//! `Over` is never left. It has no deadlines: the exchange has, and the pool.

use super::HEAD_BYTES_KEPT;
use super::grammar;
use super::inlet::{Found, Inlet, Piece};
use super::outlet::{self, Kept, Outlet};
use super::parse::{self, Wrong};
use crate::base::fault::{Class, Fault};
use crate::base::limits::Limits;
use crate::base::time::Instant;
use crate::wire::codec::{Cause, Close, Codec, Due, Input, Needs, Part, Read, Stream};
use crate::wire::head::{Head, Length};
use http::{Method, StatusCode};

/// Most interim heads before the final one. No room bounds them on their way to the client.
const INTERIM_MOST: u8 = 16;

/// The machine of one connection to an instance.
#[derive(Debug)]
pub struct Client {
    inlet: Inlet,
    phase: Phase,
    outlet: Outlet,
    head: Head,
    /// Why the last response was cut.
    cause: Option<Box<Cause>>,
    stream: Stream,
    /// Method of the request at hand.
    asked: Method,
    /// Protocols the request at hand would switch to, as Upgrade lists them.
    wished: Option<Box<[u8]>>,
    is_tunnel: bool,
    /// Interim heads that came.
    interim: u8,
    /// The response allows another request on this connection.
    keep: bool,
    retiring: bool,
    close: Close,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Idle,
    Head,
    Body,
    /// A tunnel whose instance has ended, and is still told what the client says.
    Told,
    Over,
}

impl Client {
    /// A machine for a new connection.
    pub fn new(limits: &Limits) -> Self {
        Self {
            inlet: Inlet::new(limits),
            phase: Phase::Idle,
            outlet: Outlet::Shut,
            head: Head::default(),
            cause: None,
            stream: Stream(0),
            asked: Method::GET,
            wished: None,
            is_tunnel: false,
            interim: 0,
            keep: true,
            retiring: false,
            close: Close::Open,
        }
    }

    /// Bytes of memory it holds beside its own.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.head.memory() + self.inlet.memory()
    }

    fn read_idle(&mut self, bytes: &[u8]) -> Read<'static> {
        if !bytes.is_empty() || self.inlet.ended {
            self.shut();
        }
        Read { used: bytes.len(), part: None }
    }

    fn read_head<'a>(&'a mut self, bytes: &'a [u8]) -> Read<'a> {
        let fields = self.inlet.head_fields();
        let ended = self.inlet.ended;
        let (used, found) = self.inlet.head(bytes);
        let parsed = match found {
            Found::Nothing if ended => return self.cut(used, Cause::Closed),
            Found::Nothing => return Read { used, part: None },
            Found::Wrong(wrong) => Err(wrong),
            Found::Head(block) => parse::response(block, fields, &self.asked, &mut self.head),
        };
        match parsed {
            Ok(facts) => {
                let is_switch = self.head.status == StatusCode::SWITCHING_PROTOCOLS;
                if is_switch && !self.is_wished() {
                    let wrong = Wrong::bad("The protocol was switched unasked.");
                    return self.cut(bytes.len(), malformed(wrong));
                }
                if is_switch {
                    self.is_tunnel = true;
                    self.outlet = Outlet::UntilClose;
                }
                if self.head.status.is_informational() && !is_switch {
                    self.interim += 1;
                    if self.interim > INTERIM_MOST {
                        let wrong = Wrong::bad("There are too many interim responses.");
                        return self.cut(bytes.len(), malformed(wrong));
                    }
                } else {
                    self.phase = Phase::Body;
                    self.keep = facts.keep;
                    self.inlet.begin(facts.body);
                }
                Read { used, part: Some((self.stream, Part::Head(&self.head))) }
            }
            Err(wrong) => self.cut(bytes.len(), malformed(wrong)),
        }
    }

    /// Whether the request was whole, and asked for the protocol that the response switches to.
    fn is_wished(&self) -> bool {
        let wished = self.wished.as_deref().unwrap_or_default();
        let given = self.head.fields.all(b"upgrade");
        self.outlet == Outlet::Shut && grammar::are_among(given, wished)
    }

    fn read_body<'a>(&'a mut self, bytes: &'a [u8]) -> Read<'a> {
        let (used, piece) = self.inlet.piece(bytes);
        let part = match piece {
            Piece::Nothing => return Read { used, part: None },
            Piece::Body(span) => Part::Body(self.inlet.lend(span, bytes)),
            Piece::End if self.is_tunnel => {
                self.phase = Phase::Told;
                self.end_tunnel();
                Part::End(None)
            }
            Piece::End => {
                self.finish(bytes.len() - used);
                Part::End(self.inlet.trailers())
            }
            Piece::Closed => return self.cut(used, Cause::Closed),
            Piece::Wrong(wrong) => return self.cut(used, malformed(wrong)),
        };
        Read { used, part: Some((self.stream, part)) }
    }

    /// The response is over; `surplus` bytes came behind it.
    fn finish(&mut self, surplus: usize) {
        let is_clean = surplus == 0 && self.inlet.held() == 0 && !self.inlet.ended;
        let is_sent = self.outlet == Outlet::Shut;
        if self.keep && is_sent && is_clean && !self.retiring {
            self.phase = Phase::Idle;
            self.inlet.rest();
            self.head.rest(HEAD_BYTES_KEPT);
            self.wished = None;
        } else {
            self.shut();
        }
    }

    fn cut(&mut self, used: usize, cause: Cause) -> Read<'_> {
        self.shut();
        let cause = self.cause.insert(Box::new(cause));
        Read { used, part: Some((self.stream, Part::Cut(cause))) }
    }

    /// When both sides of a tunnel have ended it is over, once all is sent.
    fn end_tunnel(&mut self) {
        if self.phase == Phase::Told && self.outlet == Outlet::Shut {
            self.phase = Phase::Over;
            self.close = Close::Flush;
        }
    }

    fn shut(&mut self) {
        self.phase = Phase::Over;
        self.close = Close::Now;
    }

    fn write_head(&mut self, stream: Stream, head: &Head, out: &mut Vec<u8>) {
        assert!(self.phase == Phase::Idle, "a request begins on an idle connection");
        let length = match head.length {
            Length::Absent if has_content(&head.method) => Length::Exact(0),
            length => length,
        };
        self.outlet = match length {
            Length::Absent => Outlet::Exact(0),
            Length::Exact(length) => Outlet::Exact(length),
            Length::Unknown => Outlet::Chunked,
        };
        self.stream = stream;
        self.asked.clone_from(&head.method);
        self.wished = head.switches.then(|| {
            let lists: Vec<&[u8]> = head.fields.all(b"upgrade").collect();
            lists.join(&b',').into()
        });
        self.phase = Phase::Head;
        self.interim = 0;
        self.inlet.reset_room();
        outlet::request(head, out);
        outlet::framing(length, out);
        out.extend_from_slice(b"\r\n");
    }
}

impl Codec for Client {
    fn read<'a>(&'a mut self, input: Input<'a>, _now: Instant, _out: &mut Vec<u8>) -> Read<'a> {
        let bytes = match input {
            Input::Bytes(bytes) => bytes,
            Input::End => {
                self.inlet.ended = true;
                &[]
            }
            Input::Tick => return Read { used: 0, part: None },
        };
        match self.phase {
            Phase::Idle => self.read_idle(bytes),
            Phase::Head => self.read_head(bytes),
            Phase::Body => self.read_body(bytes),
            Phase::Told | Phase::Over => Read { used: bytes.len(), part: None },
        }
    }

    /// Begins a stream with a head, which may be written only while the connection
    /// [is idle](Needs::idle).
    fn write(&mut self, stream: Stream, part: Part<'_>, _now: Instant, out: &mut Vec<u8>) {
        if let Part::Head(head) = part {
            return self.write_head(stream, head, out);
        }
        let may_write = matches!(self.phase, Phase::Head | Phase::Body | Phase::Told);
        if stream != self.stream || !may_write {
            return;
        }
        let kept = match part {
            Part::Head(_) => return,
            Part::Body(bytes) => self.outlet.body(bytes, out),
            Part::End(trailers) => self.outlet.end(trailers, out),
            Part::Cut(_) | Part::Refused(..) => Kept::No,
        };
        match kept {
            Kept::No => self.shut(),
            Kept::Yes => self.end_tunnel(),
        }
    }

    fn room(&mut self, stream: Stream, bytes: u32, _out: &mut Vec<u8>) {
        if stream == self.stream && matches!(self.phase, Phase::Head | Phase::Body) {
            self.inlet.give(bytes);
        }
    }

    fn needs(&self) -> Needs {
        let intake = match self.phase {
            _ if self.inlet.ended => 0,
            Phase::Idle => 1,
            Phase::Head => self.inlet.head_intake(),
            Phase::Body => self.inlet.body_intake(),
            Phase::Told | Phase::Over => 0,
        };
        Needs {
            intake,
            due: if self.phase == Phase::Idle { Due::Nothing } else { Due::More },
            ready: self.phase == Phase::Body && (self.inlet.is_ready() || self.inlet.has_passed()),
            plain: if self.phase == Phase::Body { self.inlet.plain() } else { 0 },
            idle: self.phase == Phase::Idle && !self.retiring,
            wakeup: None,
            peer_ended: self.inlet.ended,
            own_ended: self.is_tunnel && self.outlet == Outlet::Shut,
            close: self.close,
        }
    }

    fn read_past(&mut self, bytes: u64) {
        assert!(self.phase == Phase::Body, "a body passes where one is due");
        self.inlet.pass(bytes);
    }

    fn retire(&mut self) {
        self.retiring = true;
        if self.phase == Phase::Idle {
            self.shut();
        }
    }
}

/// Methods whose requests say that they have no content (RFC 9110 §8.6).
fn has_content(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn malformed(wrong: Wrong) -> Cause {
    Cause::Malformed(Fault::new(Class::InstanceError, wrong.message))
}
