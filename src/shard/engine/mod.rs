//! The engine: sockets, behind a face that every driver has.
//!
//! A driver is told to connect, send, receive and close, and calls back with what happened. It
//! never calls back from within one of these calls. A link is named by a key with a generation;
//! after `close` the shard has forgotten it, and what still happens to it is the driver's own
//! affair.
//!
//! Must hold: received bytes are lent for the call; no more is received than was asked for; bytes
//! are sent in the order in which they were given.

mod closing;
pub mod coop;
pub mod memory;
pub mod outputs;
pub mod ring;
mod shortage;
pub mod streams;

use crate::base::address::SocketAddr;
use crate::base::socket::Socket;
use crate::shard::engine::outputs::Outputs;
use crate::wire::codec::{Cause, Due};

slotmap::new_key_type! {
    /// A connection, in either direction.
    pub struct Link;
}

/// What happened to a link.
#[derive(Debug)]
pub enum Happening<'a> {
    /// A client connected.
    Accepted(Link, SocketAddr),
    /// A connection that was asked for is open.
    Opened(Link),
    /// A connection that was asked for cannot be opened.
    OpenFailed(Link, Cause),
    /// Bytes came. They are lent for the call.
    Received(Link, &'a mut [u8]),
    /// The peer closed its sending side.
    Ended(Link),
    /// So many bytes have left.
    Sent(Link, usize),
    /// Of what passes from this link to another (see [`Engine::pass`]).
    Passed(Link, Passed),
    /// The connection broke.
    Broken(Link),
}

/// How much more has passed from one link to another.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Passed {
    /// Bytes that came.
    pub taken: u32,
    /// Bytes that left, or are the last ones and were given to be sent: their `Sent` follows.
    pub given: u32,
    /// Of these: to be sent.
    pub queued: u32,
    /// All has passed, and the peer has said something beyond it, or will say no more.
    pub surplus: bool,
}

/// How a link is closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shut {
    /// After everything given to `send` has left; then the peer has a moment to read it.
    Flush,
    /// At once.
    Now,
}

/// How a driver's receive buffers are, if it has such.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Intake {
    /// Filled and not free again.
    pub buffers_taken: u32,
    /// Receives that found none free, since the start.
    pub starved: u64,
}

/// What a driver can be told.
pub trait Engine {
    /// Connects. Ends in `Opened` or `OpenFailed`.
    fn connect(&mut self, address: SocketAddr) -> Link;

    /// Takes all of `output` and sends it; each part that left is reported by `Sent`.
    fn send(&mut self, link: Link, output: &mut Vec<u8>);

    /// Sets how many bytes may be received from now on, and what they are likely to be; 0 stops.
    fn receive(&mut self, link: Link, bytes: usize, due: Due);

    /// Tells the peer that nothing more follows, once everything given to `send` has left;
    /// receiving goes on. Said again it means nothing.
    fn finish(&mut self, link: Link);

    /// How long a body must be at least to be [passed](Engine::pass) at less cost than read.
    fn worth_passing(&self) -> u64 {
        u64::MAX
    }

    /// Lets the next bytes that come on a link, so many of them, pass on to another as they are,
    /// after what was given to `send` there. Whether it can be done now; then `Passed` tells of it,
    /// and nothing is received on `from` meanwhile.
    fn pass(&mut self, _from: Link, _to: Link, _bytes: u64) -> bool {
        false
    }

    /// No more passes from a link. Bytes that came and have not left are lost: their number.
    fn stop_passing(&mut self, _from: Link) -> u64 {
        0
    }

    /// Closes, and forgets the link.
    fn close(&mut self, link: Link, how: Shut);

    /// Takes a connection out of the driver, if nothing is under way on it; the link is forgotten.
    fn detach(&mut self, link: Link) -> Option<Socket>;

    /// Takes over a connection that was detached, here or from another driver.
    fn adopt(&mut self, socket: Socket) -> Link;

    /// Whether nothing is left to be sent, also on links that were closed, and no listener is open.
    fn is_quiet(&self) -> bool;

    /// Memory for output that is used again.
    fn outputs(&mut self) -> &mut Outputs;

    /// How its receive buffers are.
    fn intake(&self) -> Intake {
        Intake::default()
    }
}
