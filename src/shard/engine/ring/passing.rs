//! Large bodies that pass from one socket to another through a pipe, without a copy into this
//! process.
//!
//! A passing moves what it can each time its source is arranged: into the pipe, and out of it. It
//! is arranged again when the source has more, when the target takes more, and when it was told
//! of; a pipe is filled once each time, so that others have their turn. What was given to the
//! target to be sent goes first, in one piece with the first bytes where that can be.
//!
//! A splice waits where its sockets would, whatever its flags say, and what the ring is asked on a
//! socket that never waits fails at once. So bytes are taken where some are known to be, and the
//! target does not wait for the length of a call.
//!
//! An urgent byte, which no HTTP has, looks like the end: the response is cut there.
//!
//! Must hold: no call waits; the pipe is empty when it is lent; bytes leave in order, and none
//! beyond those that were asked for are taken; nothing is received on the source meanwhile; of
//! every byte taken and given the shard is told once. Memory: as many pipes as there may be, and
//! their size.

use super::operation::{Op, Tag};
use super::wire::{Phase, Receiving, Tail, Wire};
use super::{Event, Feature, Ring};
use crate::shard::engine::{Link, Passed};
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};
use std::os::fd::{AsFd, OwnedFd};

/// Pipes of a shard; more bodies than that at a time are copied.
pub(super) const PIPES_MOST: usize = 64;
/// Bytes in a pipe, if the kernel allows that, and what it must hold at least.
pub(super) const PIPE_BYTES: usize = 256 << 10;
const LEAST_BYTES: usize = 64 << 10;
/// A shorter body costs less if it is copied.
pub(super) const WORTH: u64 = 32 << 10;

/// Bytes on their way from one connection to another.
#[derive(Debug)]
pub(super) struct Passing {
    /// Where they go; nowhere, if that connection was closed.
    to: Option<Link>,
    /// Bytes still to be taken.
    left: u64,
    /// The kernel says that there is something to be taken, if only an end.
    woken: bool,
    /// Bytes in the pipe.
    pub(super) held: usize,
    pipe: Pipe,
}

#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// Pipes that are used again.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a wire holds one boxed, and nothing is allocated for a body")]
pub(super) struct Pipes {
    pub(super) free: Vec<Box<Passing>>,
    pub(super) made: usize,
}

impl Pipes {
    /// Closes those that nobody uses.
    pub(super) fn rest(&mut self) {
        self.made -= self.free.len();
        self.free.clear();
    }

    /// An empty pipe, unless there are too many, or no descriptors.
    fn lend(&mut self) -> Option<Box<Passing>> {
        if let Some(free) = self.free.pop() {
            return Some(free);
        }
        if self.made == PIPES_MOST {
            return None;
        }
        let pipe = Pipe::new().ok()?;
        self.made += 1;
        Some(Box::new(Passing { to: None, left: 0, woken: false, held: 0, pipe }))
    }

    fn take_back(&mut self, passing: Box<Passing>) {
        if passing.held == 0 {
            self.free.push(passing);
        } else {
            self.made -= 1;
        }
    }
}

impl Pipe {
    fn new() -> rustix::io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Beyond what one user may have without privileges, pipes hold two pages: less than pays.
        if fcntl_setpipe_size(&into, PIPE_BYTES).is_err()
            && fcntl_getpipe_size(&into)? < LEAST_BYTES
        {
            return Err(Errno::PERM);
        }
        Ok(Self { out, into })
    }

    fn fill(&self, from: impl AsFd, most: usize) -> rustix::io::Result<usize> {
        splice(from, None, &self.into, None, most, SpliceFlags::NONBLOCK)
    }

    fn empty(&self, to: impl AsFd, most: usize) -> rustix::io::Result<usize> {
        splice(&self.out, None, to, None, most, SpliceFlags::NONBLOCK)
    }
}

/// Whether bytes can pass from socket to socket here.
pub(super) fn works() -> bool {
    let passes = || {
        let (near, far) = std::os::unix::net::UnixStream::pair().ok()?;
        rustix::io::write(&far, b"x").ok()?;
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let pipe = Pipe { out, into };
        let filled = pipe.fill(&near, 1).ok()?;
        pipe.empty(&near, filled).ok()
    };
    passes() == Some(1)
}

impl Ring {
    pub(super) fn begin_passing(&mut self, from: Link, to: Link, bytes: u64) -> bool {
        let [Some(source), Some(target)] = [from, to].map(|it| self.wires.get(it)) else {
            return false;
        };
        let can = self.features.has(Feature::Splice)
            && source.phase == Phase::Open
            && source.receiving == Receiving::No
            && !source.has_spill()
            && source.tail.is_none()
            && source.is_flushed()
            && !source.sends
            && !source.deaf
            && target.phase == Phase::Open
            && !target.deaf
            && target.fed_by.is_none()
            && !source.polls
            && !target.polls;
        if !can {
            return false;
        }
        let Some(mut passing) = self.pipes.lend() else { return false };
        passing.to = Some(to);
        passing.left = bytes;
        passing.woken = false;
        let source = &mut self.wires[from];
        source.passes = Some(passing);
        source.passed = true;
        self.wires[to].fed_by = Some(from);
        self.touch(from);
        true
    }

    /// Nothing more passes from there: how many bytes are lost with that.
    pub(super) fn end_passing(&mut self, from: Link) -> u64 {
        let Some(passing) = self.wires.get_mut(from).and_then(|it| it.passes.take()) else {
            return 0;
        };
        self.stop_polling(from);
        if let Some(to) = passing.to {
            self.stop_polling(to);
            self.wires[to].fed_by = None;
        }
        let lost = passing.held as u64;
        self.pipes.take_back(passing);
        lost
    }

    /// Where it passed on to takes nothing any more.
    pub(super) fn starve(&mut self, from: Link) {
        if let Some(passing) = self.wires.get_mut(from).and_then(|it| it.passes.as_mut()) {
            passing.to = None;
        }
    }

    fn stop_polling(&mut self, link: Link) {
        if self.wires[link].polls {
            self.queue.cancel(Tag::of_link(Op::Poll, link));
        }
    }

    /// What passes on to a connection comes along with what is to be sent there first.
    pub(super) fn feed(&mut self, link: Link) {
        if let Some(from) = self.wires[link].fed_by
            && self.wires[from].touched
        {
            self.arrange(from);
        }
    }

    /// Moves what can be moved.
    pub(super) fn pass_on(&mut self, from: Link) {
        let Some(mut passing) = self.wires[from].passes.take() else { return };
        let mut passed = Passed::default();
        if self.take_in(from, &mut passing, &mut passed) {
            self.give_out(&mut passing, &mut passed);
        }
        if passing.left == 0 && passing.held > 0 {
            self.queue_rest(&mut passing, &mut passed);
        }
        let over = passing.left == 0 && passing.held == 0;
        if over {
            passed.surplus = self.has_surplus(from);
            if let Some(to) = passing.to {
                self.wires[to].fed_by = None;
            }
            self.pipes.take_back(passing);
        } else {
            self.wires[from].passes = Some(passing);
        }
        if passed != Passed::default() {
            self.ready.push_back((from, Event::Passed(from, passed)));
        }
    }

    /// Fills an empty pipe; whether there is anything in it.
    fn take_in(&mut self, from: Link, passing: &mut Passing, passed: &mut Passed) -> bool {
        let wire = &mut self.wires[from];
        if passing.held > 0 {
            return true;
        }
        if passing.left == 0 || wire.polls || wire.tail.is_some() {
            return false;
        }
        let there = ioctl_fionread(wire.fd()).unwrap_or(0);
        let woken = std::mem::take(&mut passing.woken);
        if there == 0 && !woken {
            self.wait_for(from, libc::POLLIN | libc::POLLRDHUP);
            return false;
        }
        let most = usize::try_from(passing.left).unwrap_or(PIPE_BYTES).min(PIPE_BYTES);
        // Where nothing is, it is an end or an error: most likely.
        let filled = if there > 0 {
            passing.pipe.fill(wire.fd(), most)
        } else {
            self.without_waiting(from, |it| passing.pipe.fill(it.fd(), most))
        };
        let tail = match filled {
            Ok(0) => Tail::Ended,
            Ok(bytes) => {
                passing.held = bytes;
                passing.left -= bytes as u64;
                passed.taken += count(bytes);
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {
                self.wait_for(from, libc::POLLIN | libc::POLLRDHUP);
                return false;
            }
            Err(_) => Tail::Broken,
        };
        self.wires[from].tail = Some(tail);
        self.held.push_back(from);
        false
    }

    /// Empties the pipe, as far as that goes.
    fn give_out(&mut self, passing: &mut Passing, passed: &mut Passed) {
        let Some(to) = passing.to.filter(|it| self.can_take(*it)) else { return };
        let given = self.without_waiting(to, |target| {
            let mut last = Ok(0);
            while passing.held > 0 {
                last = passing.pipe.empty(target.fd(), passing.held);
                let Ok(bytes @ 1..) = last else { break };
                passing.held -= bytes;
                passed.given += count(bytes);
            }
            last
        });
        match given {
            Ok(1..) => {}
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => self.wait_for(to, libc::POLLOUT),
            Err(_) => {
                let target = &mut self.wires[to];
                target.deaf = true;
                target.fed_by = None;
                passing.to = None;
                self.touch(to);
            }
        }
    }

    /// Gives the last bytes to be sent like others, so that nobody waits for a slow reader but the
    /// memory they are in: no more than a pipe holds.
    fn queue_rest(&mut self, passing: &mut Passing, passed: &mut Passed) {
        let Some(to) = passing.to else { return };
        let mut rest = self.outputs.lend();
        rest.reserve(passing.held);
        while passing.held > 0 {
            let most = passing.held;
            match rustix::io::read(&passing.pipe.out, spare_capacity(&mut rest)) {
                Ok(bytes @ 1..) => {
                    passing.held = most.checked_sub(bytes).expect("the pipe held them")
                }
                Err(Errno::INTR) => {}
                other => unreachable!("a pipe that holds {most} bytes gave {other:?}"),
            }
        }
        passed.given += count(rest.len());
        passed.queued = count(rest.len());
        self.wires[to].give(&mut rest);
        self.outputs.take_back(rest);
        self.stop_polling(to);
        self.touch(to);
    }

    /// Whether the peer has said more than it was to say, or will say nothing more.
    fn has_surplus(&self, from: Link) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = rustix::net::recv(self.wires[from].fd(), &mut [0_u8; 1][..], flags);
        !matches!(peeked, Err(Errno::AGAIN))
    }

    /// Does something with a socket whose calls do not wait meanwhile.
    fn without_waiting<T>(&self, link: Link, act: impl FnOnce(&Wire) -> T) -> T {
        const CAN: &str = "every socket can wait, or not";
        let wire = &self.wires[link];
        ioctl_fionbio(wire.fd(), true).expect(CAN);
        let done = act(wire);
        ioctl_fionbio(wire.fd(), false).expect(CAN);
        done
    }

    /// Whether a connection takes bytes now: all that it was given before has left, with a word
    /// that more follows.
    fn can_take(&mut self, to: Link) -> bool {
        let wire = &mut self.wires[to];
        if wire.phase != Phase::Open || wire.sends || wire.deaf || wire.polls {
            return false;
        }
        if wire.is_flushed() {
            return true;
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::MORE;
        if let Ok(bytes) = rustix::net::send(wire.fd(), &wire.output[wire.at..], flags) {
            if let Some(sent) = wire.sent(bytes) {
                self.outputs.take_back(sent);
            }
            self.ready.push_back((to, Event::Sent(to, bytes)));
        }
        let done = self.wires[to].is_flushed();
        if !done {
            self.touch(to);
        }
        done
    }

    fn wait_for(&mut self, link: Link, events: i16) {
        let wire = &mut self.wires[link];
        wire.polls = true;
        self.queue.poll(wire.fd(), events, Tag::of_link(Op::Poll, link));
    }

    /// A connection is ready, or is no longer waited for.
    pub(super) fn polled(&mut self, link: Link) {
        let wire = &mut self.wires[link];
        wire.polls = false;
        if let Some(passing) = &mut wire.passes {
            passing.woken = true;
        }
        let fed_by = wire.fed_by;
        self.touch(link);
        if let Some(from) = fed_by {
            self.touch(from);
        }
    }
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a pipe is small")
}
