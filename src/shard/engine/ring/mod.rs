//! The driver on a ring of its own: one `io_uring_enter` per turn submits and waits.
//!
//! What the shard wants is written down in the connection's `Wire`, which is touched; `flush`
//! turns all that was touched into operations, once a turn. What the kernel has done is read in
//! batches, and `next_event` tells it one by one.
//!
//! Clients are received from by one receive for good, into buffers that the kernel takes when there
//! are bytes; so an idle connection holds none. While a body streams, and towards instances, each
//! receive is for the room there is, so that back-pressure is not asking. Between two requests
//! nothing is under way towards an instance, and such a connection can leave the driver; after 10
//! ms its end is watched.
//!
//! Must hold: a wire is forgotten when nothing is under way on it, and its key is not used again
//! before; bytes being sent do not move; what comes beyond the room is kept and told later, in
//! order; buffers are back before the turn ends; after `close` nothing is told of a link.

mod accept;
mod arrange;
mod buffers;
mod complete;
pub mod features;
mod operation;
mod park;
mod passing;
mod queue;
#[cfg(test)]
mod tests;
mod wire;

use crate::base::address::SocketAddr;
use crate::base::limits::Limits;
use crate::base::socket::Socket;
use crate::base::time::{Duration, Instant};
use crate::mesh::clock;
use crate::shard::engine::outputs::Outputs;
use crate::shard::engine::shortage::Complaint;
use crate::shard::engine::{Engine, Intake, Link, Passed, Shut};
use crate::wire::codec::{Cause, Due};
use accept::Acceptor;
use buffers::Buffers;
pub use buffers::Lent;
use features::{Feature, Features};
use io_uring::types::Timespec;
use operation::{Op, Tag};
use park::Bell;
pub use park::Pillow;
use passing::Pipes;
use queue::{Done, Queue};
use slotmap::SlotMap;
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::RawFd;
use std::sync::Arc;
use wire::{Phase, Wire};

/// Groups of provided buffers.
const SMALL: u16 = 0;
const LARGE: u16 = 1;
/// A connection on which nothing is due is watched after this long.
const WATCH_AFTER: Duration = Duration::from_millis(10);

/// How a ring is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tuning {
    /// What may be used of what the kernel has.
    pub features: Features,
    /// Operations that can be queued in one turn without a second enter; a power of two.
    pub depth: u32,
    /// Buffers for heads and small bodies; a power of two.
    pub small_count: u16,
    /// Bytes in each.
    pub small_bytes: usize,
    /// Buffers for bodies that stream; a power of two.
    pub large_count: u16,
    /// Bytes in each.
    pub large_bytes: usize,
    /// Look for completions this long before sleeping; zero: sleep at once.
    pub spin: Duration,
}

/// What happened, in the order in which it is to be told.
#[derive(Debug)]
pub enum Event {
    /// A client connected; nobody has taken it over yet.
    Arrived(Socket, SocketAddr),
    /// A connection that was asked for is open.
    Opened(Link),
    /// A connection that was asked for cannot be opened.
    OpenFailed(Link, Cause),
    /// Bytes came, in a buffer that must be given back.
    Received(Link, Lent),
    /// Bytes that had been kept can be told now.
    Kept(Link, Vec<u8>),
    /// The peer closed its sending side.
    Ended(Link),
    /// So many bytes have left.
    Sent(Link, usize),
    /// Of what passes from this link to another.
    Passed(Link, Passed),
    /// The connection broke.
    Broken(Link),
}

/// The driver of one shard.
#[derive(Debug)]
pub struct Ring {
    queue: Queue,
    features: Features,
    small: Buffers,
    large: Buffers,
    outputs: Outputs,
    pipes: Pipes,
    wires: SlotMap<Link, Wire>,
    acceptors: Vec<Acceptor>,
    touched: Vec<Link>,
    /// Have something to tell without a completion.
    held: VecDeque<Link>,
    /// To be told before what the kernel says next.
    ready: VecDeque<(Link, Event)>,
    /// Nothing is due on them; the oldest first.
    quiet: VecDeque<(Instant, Link)>,
    /// Must be gone by then: those that flush, and those that linger.
    flushing: VecDeque<(Instant, Link)>,
    lingering: VecDeque<(Instant, Link)>,
    done: Vec<Done>,
    read: usize,
    now: Instant,
    bell: Arc<Bell>,
    /// Where the bell is read into; for good.
    bell_word: &'static mut u64,
    connect_timeout: &'static Timespec,
    park_timeout: &'static Timespec,
    /// A tick is under way: one at most, or each sleep that something else ends would leave one
    /// more behind, which ends another sleep, and so on.
    ticks: bool,
    flush_timeout: Duration,
    linger: Duration,
    spin: Duration,
    /// Knocks at other shards that their rings refused.
    refused: Vec<usize>,
    starved: u64,
    complaint: Complaint,
}

impl Ring {
    /// Sets a driver up on the thread that will run it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(tuning: Tuning, limits: &Limits, now: Instant) -> io::Result<Self> {
        let queue = Queue::new(tuning.features, tuning.depth)?;
        let ring = queue.submitter();
        let small = Buffers::new(ring, SMALL, tuning.small_count, tuning.small_bytes)?;
        let large = Buffers::new(ring, LARGE, tuning.large_count, tuning.large_bytes)?;
        let bell = Arc::new(Bell::new(ring)?);
        queue.rings_eventfd(false);
        let mut new = Self {
            queue,
            features: tuning.features,
            small,
            large,
            outputs: Outputs::default(),
            pipes: Pipes::default(),
            wires: SlotMap::with_key(),
            acceptors: Vec::new(),
            touched: Vec::new(),
            held: VecDeque::new(),
            ready: VecDeque::new(),
            quiet: VecDeque::new(),
            flushing: VecDeque::new(),
            lingering: VecDeque::new(),
            done: Vec::new(),
            read: 0,
            now,
            bell,
            // The kernel may write there as long as the ring lives, which is for good.
            bell_word: Box::leak(Box::new(0)),
            connect_timeout: Box::leak(Box::new(limits.connect_timeout.into())),
            park_timeout: Box::leak(Box::new(park::PATIENCE.into())),
            ticks: false,
            flush_timeout: limits.body_idle_timeout,
            linger: limits.linger_timeout,
            spin: tuning.spin,
            refused: Vec::new(),
            starved: 0,
            complaint: Complaint::default(),
        };
        new.listen_to_bell();
        Ok(new)
    }

    /// Accepts clients from a listener.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn accept(&mut self, listener: TcpListener) -> io::Result<()> {
        let number = self.acceptors.len();
        self.acceptors.push(Acceptor::new(listener)?);
        self.arm_acceptor(number);
        Ok(())
    }

    /// What to do before the thread may sleep; then submits, and waits for at most `bound`.
    pub fn turn(&mut self, bound: Duration) {
        self.flush();
        let quiet = self.held.is_empty() && self.ready.is_empty();
        let bound = if quiet { bound } else { Duration::ZERO };
        self.done.clear();
        self.read = 0;
        if self.spin.is_zero() || bound.is_zero() {
            self.queue.turn(bound, &mut self.done);
        } else {
            self.spin(bound);
        }
    }

    /// Looks again and again before it waits.
    fn spin(&mut self, bound: Duration) {
        let until = clock::now() + self.spin;
        while self.done.is_empty() && clock::now() < until {
            self.queue.turn(Duration::ZERO, &mut self.done);
        }
        if self.done.is_empty() {
            self.queue.turn(bound, &mut self.done);
        }
    }

    /// Whether the last turn brought anything.
    pub fn was_idle(&self) -> bool {
        self.done.is_empty() && self.ready.is_empty() && self.held.is_empty()
    }

    /// Wakes another shard through its ring; whether that can be done here.
    pub fn knock(&mut self, ring: RawFd, shard: usize) -> bool {
        let can = ring >= 0 && self.features.has(Feature::MessageRing);
        if can {
            self.queue.knock(ring, shard);
        }
        can
    }

    /// A shard that could not be woken through its ring.
    pub fn refused_knock(&mut self) -> Option<usize> {
        self.refused.pop()
    }

    /// The ring's descriptor, by which other shards wake this one.
    pub fn descriptor(&self) -> RawFd {
        self.queue.descriptor()
    }

    /// Gives a buffer back.
    pub fn give_back(&mut self, lent: Lent) {
        let buffers = if lent.group() == SMALL { &mut self.small } else { &mut self.large };
        buffers.give_back(lent);
    }

    fn touch(&mut self, link: Link) {
        if let Some(wire) = self.wires.get_mut(link)
            && !wire.touched
        {
            wire.touched = true;
            self.touched.push(link);
        }
    }

    /// A socket that leads nowhere yet.
    fn socket_to(address: SocketAddr) -> io::Result<socket2::Socket> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_tcp_nodelay(true)?;
        // So that an urgent byte ends what passes, where it would else never go on.
        socket.set_out_of_band_inline(true)?;
        Ok(socket)
    }

    fn begin_connect(&mut self, socket: socket2::Socket, address: SocketAddr) -> Link {
        let mut wire = Wire::new(Some(socket.into()), Phase::Opening);
        wire.address = Some(Box::new(address.into()));
        let link = self.wires.insert(wire);
        let wire = &self.wires[link];
        let tag = Tag::of_link(Op::Connect, link);
        let address = wire.address.as_deref().expect("set above");
        // SAFETY: the address is boxed and stays in the wire until the completion; the time is
        // there for good.
        #[expect(unsafe_code, reason = "a connect refers to memory")]
        unsafe {
            self.queue.connect(wire.fd(), address, self.connect_timeout, tag);
        }
        link
    }
}

impl Drop for Ring {
    /// The kernel may still send from memory of connections that are under way: it stays.
    fn drop(&mut self) {
        for (_, wire) in self.wires.drain().filter(|(_, it)| it.is_busy()) {
            std::mem::forget(wire);
        }
    }
}

impl Engine for Ring {
    fn connect(&mut self, address: SocketAddr) -> Link {
        match Self::socket_to(address) {
            Ok(socket) => self.begin_connect(socket, address),
            Err(error) => {
                if self.complaint.is_due(self.now) {
                    tracing::warn!(%error, "no socket for a connection to an instance");
                }
                self.unconnected()
            }
        }
    }

    fn send(&mut self, link: Link, output: &mut Vec<u8>) {
        if let Some(wire) = self.wires.get_mut(link) {
            wire.give(output);
        }
        output.clear();
        self.touch(link);
    }

    fn receive(&mut self, link: Link, bytes: usize, due: Due) {
        let Some(wire) = self.wires.get_mut(link) else { return };
        wire.room = bytes;
        wire.due = due;
        if due == Due::Nothing {
            wire.quiet_since = self.now;
            if !wire.waits {
                wire.waits = true;
                self.quiet.push_back((self.now + WATCH_AFTER, link));
            }
            return;
        }
        if wire.receives_on() {
            return;
        }
        if bytes > 0 && !wire.spill.is_empty() {
            self.held.push_back(link);
        }
        self.touch(link);
    }

    fn finish(&mut self, link: Link) {
        if let Some(wire) = self.wires.get_mut(link) {
            wire.finishes = true;
        }
        self.touch(link);
    }

    fn worth_passing(&self) -> u64 {
        if self.features.has(Feature::Splice) { passing::WORTH } else { u64::MAX }
    }

    fn pass(&mut self, from: Link, to: Link, bytes: u64) -> bool {
        self.begin_passing(from, to, bytes)
    }

    fn stop_passing(&mut self, from: Link) -> u64 {
        self.end_passing(from)
    }

    fn close(&mut self, link: Link, how: Shut) {
        self.end_passing(link);
        let Some(wire) = self.wires.get_mut(link) else { return };
        if let Some(from) = wire.fed_by.take() {
            self.starve(from);
        }
        let wire = &mut self.wires[link];
        let flushes = how == Shut::Flush && wire.phase == Phase::Open && !wire.deaf;
        wire.spill = VecDeque::new();
        if flushes {
            wire.phase = Phase::Flushing;
            self.flushing.push_back((self.now + self.flush_timeout, link));
        } else {
            wire.phase = Phase::Closing;
            wire.drop_output();
        }
        self.touch(link);
    }

    fn detach(&mut self, link: Link) -> Option<Socket> {
        let wire = self.wires.get(link)?;
        let quiet = wire.phase == Phase::Open
            && !wire.is_busy()
            && wire.is_flushed()
            && wire.spill.is_empty()
            && wire.tail.is_none()
            && !wire.deaf;
        if !quiet {
            return None;
        }
        self.wires.remove(link)?.socket.map(Socket::new)
    }

    fn adopt(&mut self, socket: Socket) -> Link {
        self.wires.insert(Wire::new(Some(socket.into_inner()), Phase::Open))
    }

    fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    fn is_quiet(&self) -> bool {
        self.wires.is_empty() && !self.listens()
    }

    fn intake(&self) -> Intake {
        let ring = self.queue.descriptor();
        let taken = [&self.small, &self.large].map(|it| u32::from(it.taken(ring)));
        Intake { buffers_taken: taken.iter().sum(), starved: self.starved }
    }
}
