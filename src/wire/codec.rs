//! The face of every protocol: what a codec yields and takes.
//!
//! One codec serves one connection. It is told bytes and yields parts of messages, each with the
//! stream it belongs to; it is told parts and appends bytes to the connection's output. It never
//! waits: what is not complete yet is kept, and `needs` says what must happen next.
//!
//! Must hold for every codec: a stream yields `Head` (responses: interim heads first), then any
//! number of `Body`, then one `End` or one `Cut`; nothing after that, and nothing of a request
//! whose response has ended. A request that is refused as it is read yields `Refused` alone, and is
//! answered like any other. Body bytes of a stream never exceed the room given to it. The same
//! input, however it is cut into pieces, yields the same parts (bodies joined).
//!
//! After a response head of status 101 the stream is a *tunnel*: each side begins anew, with any
//! number of `Body` and one `End`, and the stream is over when both sides have ended or one is cut.
//! Such a head is yielded only where the request asked for it and has ended; room that the request
//! had and did not use is void.

use crate::base::fault::Fault;
use crate::base::time::Instant;
use crate::wire::fields::Fields;
use crate::wire::head::Head;
use std::fmt::Debug;

/// One message exchange on a connection; unique there for the life of the connection.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Stream(pub u32);

/// A piece of a message, in either direction.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// The head; a response may have interim (1xx) heads before its own.
    Head(&'a Head),
    /// Bytes of the body, never empty.
    Body(&'a [u8]),
    /// The end of the message, with trailers if there were any.
    End(Option<&'a Fields>),
    /// The message ends here, incomplete.
    Cut(&'a Cause),
    /// A request that is none, for this reason; the head holds what could be read of it.
    Refused(&'a Head, &'a Fault),
}

/// Why a message was cut, or a connection could not be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cause {
    /// The peer closed its side in the middle of a message.
    Closed,
    /// The transport failed: reset, unreachable, refused.
    Broken,
    /// Nothing moved for too long.
    Idle,
    /// This side has no descriptor, port or memory left for another connection.
    Exhausted,
    /// The peer broke the protocol; the fault says how.
    Malformed(Fault),
    /// This side no longer wants it.
    Abandoned,
}

/// What a codec is told by `read`.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Bytes of the peer; may be empty, to go on with what was kept.
    Bytes(&'a [u8]),
    /// The peer has closed its sending side.
    End,
    /// Time has passed.
    Tick,
}

/// What one `read` gave.
#[derive(Debug)]
pub struct Read<'a> {
    /// Bytes of the input that are done with; the rest must be given again by the next call.
    pub used: usize,
    /// A part, if one was complete. Without one, all bytes have been used.
    pub part: Option<(Stream, Part<'a>)>,
}

/// What a connection needs next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// Bytes it may be given now; 0: do not receive.
    pub intake: usize,
    /// What those bytes are likely to be.
    pub due: Due,
    /// Kept bytes can be read on: call `read` with no bytes.
    pub ready: bool,
    /// So many bytes come next that are body of the stream at hand as they are, and none of them
    /// is kept. A driver may carry them past this codec (see [`Codec::read_past`]).
    pub plain: u64,
    /// No stream is open, and a new one may begin on this connection.
    pub idle: bool,
    /// When to call `read` with [`Input::Tick`], at the latest.
    pub wakeup: Option<Instant>,
    /// The peer has closed its sending side: no further byte will come, though it may still take
    /// some.
    pub peer_ended: bool,
    /// This side has said its last byte on the connection, and the peer may still say something:
    /// the peer is to be told when all output has been sent.
    pub own_ended: bool,
    /// Whether the connection must go.
    pub close: Close,
}

/// What may come next on a connection: so that whoever receives can prepare for it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Due {
    /// A message at any time: a head, and perhaps a small body with it.
    #[default]
    Message,
    /// More of what is being read, at once.
    More,
    /// Nothing but the peer's end.
    Nothing,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Close {
    /// It stays.
    #[default]
    Open,
    /// When its output has been sent.
    Flush,
    /// At once.
    Now,
}

/// The machine of one protocol on one connection.
pub trait Codec: Debug {
    /// Reads on. Called again while it yields a part; answers of the protocol itself (of those that
    /// have frames for it) are appended to `out`.
    fn read<'a>(&'a mut self, input: Input<'a>, now: Instant, out: &mut Vec<u8>) -> Read<'a>;

    /// Writes a part of a message to `out`. On the client's side of a protocol a head begins a
    /// stream.
    fn write(&mut self, stream: Stream, part: Part<'_>, now: Instant, out: &mut Vec<u8>);

    /// Lets the peer send so many more body bytes on this stream.
    fn room(&mut self, stream: Stream, bytes: u32, out: &mut Vec<u8>);

    /// What the connection needs now.
    fn needs(&self) -> Needs;

    /// So many bytes of the body at hand, of those that are [plain](Needs::plain), were received
    /// without it. What follows must be read.
    fn read_past(&mut self, _bytes: u64) {}

    /// How many body bytes this stream could send as they are; 0: it must write them.
    fn plain_room(&self, _stream: Stream) -> u64 {
        0
    }

    /// So many body bytes of this stream, at most its [room](Codec::plain_room), were sent without
    /// it.
    fn wrote_past(&mut self, _stream: Stream, _bytes: u64) {}

    /// No new stream: close once those at hand have ended.
    fn retire(&mut self);
}
