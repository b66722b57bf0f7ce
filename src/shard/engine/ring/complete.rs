//! From what the kernel has done to what the shard is told.

use super::buffers::Lent;
use super::operation::{Op, Tag};
use super::queue::Done;
use super::wire::{Phase, Receiving, Tail, Wire};
use super::{Event, LARGE, Ring, SMALL};
use crate::shard::engine::Link;
use crate::shard::engine::shortage::is_shortage;
use crate::wire::codec::Cause;
use io_uring::cqueue;

impl Ring {
    /// The next thing to be told.
    pub fn next_event(&mut self) -> Option<Event> {
        // Whoever was sent the last of something may have answered since.
        while let Some((link, event)) = self.ready.pop_front() {
            if self.wires.get(link).is_some_and(|it| it.phase == Phase::Open) {
                self.touch(link);
                return Some(event);
            }
        }
        while let Some(done) = self.done.get(self.read).copied() {
            self.read += 1;
            let event = self.completed(done);
            if event.is_some() {
                return event;
            }
        }
        while let Some(link) = self.held.pop_front() {
            let event = self.kept(link);
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn completed(&mut self, done: Done) -> Option<Event> {
        let tag = Tag(done.tag);
        match tag.op() {
            Op::Ignored => None,
            Op::Accept => self.accepted(tag.number(), done.result, done.flags),
            Op::Connect => self.connected(tag.link(), done.result),
            Op::ReceiveOnce | Op::ReceiveMany => self.received(tag, done),
            Op::Send => self.sent(tag.link(), done.result),
            Op::Poll => {
                self.polled(tag.link());
                None
            }
            Op::Bell => {
                self.listen_to_bell();
                None
            }
            Op::Tick => {
                self.ticks = false;
                None
            }
            Op::Knock => {
                self.refused.push(tag.number());
                None
            }
        }
    }

    fn connected(&mut self, link: Link, result: i32) -> Option<Event> {
        let wire = &mut self.wires[link];
        wire.address = None;
        let event = match (wire.phase, result) {
            (Phase::Opening, 0) => {
                wire.phase = Phase::Open;
                Some(Event::Opened(link))
            }
            (Phase::Opening, error) => {
                wire.phase = Phase::Closing;
                let cause = match -error {
                    libc::ECANCELED | libc::ETIMEDOUT => Cause::Idle, // its deadline cancels it
                    error if is_shortage(error) => Cause::Exhausted,
                    _ => Cause::Broken,
                };
                Some(Event::OpenFailed(link, cause))
            }
            _ => None,
        };
        self.touch(link);
        event
    }

    /// A link that has no socket at all: told of as one that cannot be opened.
    pub(super) fn unconnected(&mut self) -> Link {
        let link = self.wires.insert(Wire::new(None, Phase::Opening));
        self.held.push_back(link);
        link
    }

    fn sent(&mut self, link: Link, result: i32) -> Option<Event> {
        if let Some(from) = self.wires[link].fed_by {
            self.touch(from);
        }
        let wire = &mut self.wires[link];
        let open = wire.phase == Phase::Open;
        match usize::try_from(result) {
            Ok(bytes) => {
                let sent = wire.sent(bytes);
                if !open || wire.finishes || !wire.is_flushed() {
                    self.touch(link);
                }
                if let Some(sent) = sent {
                    self.outputs.take_back(sent);
                }
                open.then_some(Event::Sent(link, bytes))
            }
            Err(_) => {
                wire.sends = false;
                if result != -libc::EINTR && result != -libc::EAGAIN {
                    // What it said before it closed is still read: it may be the answer.
                    wire.deaf = true;
                    wire.drop_output();
                }
                self.touch(link);
                None
            }
        }
    }

    fn received(&mut self, tag: Tag, done: Done) -> Option<Event> {
        let link = tag.link();
        let wire = &mut self.wires[link];
        let once = tag.op() == Op::ReceiveOnce;
        let group = if once && wire.asked_large { LARGE } else { SMALL };
        if !cqueue::more(done.flags) {
            wire.receiving = Receiving::No;
            wire.stopping = false;
            self.touch(link);
        }
        let length = usize::try_from(done.result).unwrap_or(0);
        let lent = cqueue::buffer_select(done.flags).map(|id| self.take(group, id, length));
        match (done.result, lent) {
            (1.., Some(lent)) => {
                if once {
                    let filled = length >= self.small.size();
                    self.wires[link].large = filled;
                }
                return self.came(link, lent);
            }
            (_, Some(lent)) => self.give_back(lent),
            (_, None) => {}
        }
        self.said_nothing(link, done.result)
    }

    fn take(&mut self, group: u16, id: u16, length: usize) -> Lent {
        let buffers = if group == SMALL { &mut self.small } else { &mut self.large };
        buffers.take(id, length)
    }

    /// Bytes came: as many as there is room for are told, the rest is kept.
    fn came(&mut self, link: Link, mut lent: Lent) -> Option<Event> {
        let wire = &mut self.wires[link];
        let bytes = lent.bytes();
        match wire.phase {
            Phase::Open if wire.room == 0 || wire.has_spill() => {
                wire.keep(bytes);
                self.held.push_back(link);
            }
            Phase::Open => {
                if bytes.len() > wire.room {
                    wire.keep(&bytes[wire.room..]);
                    lent.truncate(wire.room);
                    self.held.push_back(link);
                }
                return Some(Event::Received(link, lent));
            }
            Phase::Lingering => {
                wire.lingers = wire.lingers.saturating_sub(bytes.len());
                if wire.lingers == 0 {
                    wire.phase = Phase::Closing;
                    self.touch(link);
                }
            }
            Phase::Opening | Phase::Flushing | Phase::Closing => {}
        }
        self.give_back(lent);
        None
    }

    /// A receive has ended without bytes.
    fn said_nothing(&mut self, link: Link, result: i32) -> Option<Event> {
        let wire = &mut self.wires[link];
        let tail = match -result {
            0 if !wire.deaf => Tail::Ended, // else a send has got the error there was
            libc::ENOBUFS => {
                // All are back when the turn ends.
                wire.large = false;
                self.starved += 1;
                return None;
            }
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => return None,
            _ => Tail::Broken,
        };
        wire.tail.get_or_insert(tail);
        if wire.phase == Phase::Lingering {
            wire.phase = Phase::Closing;
        }
        self.touch(link);
        self.kept(link)
    }

    /// What was kept of a link: bytes for which there is room now, or its tail.
    fn kept(&mut self, link: Link) -> Option<Event> {
        let wire = self.wires.get_mut(link)?;
        if wire.phase == Phase::Opening && wire.socket.is_none() {
            self.wires.remove(link);
            return Some(Event::OpenFailed(link, Cause::Exhausted));
        }
        if wire.phase != Phase::Open {
            return None;
        }
        if wire.has_spill() {
            let bytes = wire.kept()?; // room is told of by `receive`
            self.held.push_back(link);
            self.touch(link);
            return Some(Event::Kept(link, bytes));
        }
        let tail = wire.tail?;
        if std::mem::replace(&mut wire.told, true) {
            return None;
        }
        Some(match tail {
            Tail::Ended => Event::Ended(link),
            Tail::Broken => Event::Broken(link),
        })
    }
}
