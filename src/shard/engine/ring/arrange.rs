//! From what the shard wants to what the kernel is asked, once a turn.

use super::operation::{Op, Tag};
use super::wire::{Phase, Receiving, Tail};
use super::{LARGE, Ring, SMALL, WATCH_AFTER};
use crate::base::time::Instant;
use crate::shard::engine::Link;
use crate::shard::engine::ring::features::Feature;
use crate::wire::codec::Due;
use std::collections::VecDeque;
use std::net::Shutdown;

/// Bytes read from a peer after the last one was sent to it, and thrown away.
const LINGER_BYTES: usize = 256 << 10;

/// Bytes received of a message whose body is likely to pass.
const HEAD_BYTES: usize = 2 << 10;

impl Ring {
    /// Asks the kernel for all that has come to be wanted since the last turn; who came first is
    /// asked about first, for that is the order in which requests are read.
    pub(super) fn flush(&mut self) {
        let mut at = 0;
        while let Some(link) = self.touched.get(at).copied() {
            at += 1;
            if self.wires.get(link).is_some_and(|it| it.touched) {
                self.arrange(link);
            }
        }
        self.touched.clear();
        assert!(
            self.small.lent() + self.large.lent() == 0,
            "buffers are back before the turn ends"
        );
        self.small.publish();
        self.large.publish();
    }

    /// Time has come to be `now`.
    pub fn passes(&mut self, now: Instant) {
        self.now = now;
        self.watch();
        let due = |queue: &mut VecDeque<(Instant, Link)>| {
            queue.pop_front_if(|(at, _)| *at <= now).map(|(_, link)| link)
        };
        while let Some(link) = due(&mut self.flushing) {
            self.give_up(link, Phase::Flushing);
        }
        while let Some(link) = due(&mut self.lingering) {
            self.give_up(link, Phase::Lingering);
        }
        if self.pauses() {
            self.end_pauses();
        }
    }

    /// Watches connections on which nothing has been due for a while.
    fn watch(&mut self) {
        let now = self.now;
        while let Some((_, link)) = self.quiet.pop_front_if(|(at, _)| *at <= now) {
            let Some(wire) = self.wires.get_mut(link) else { continue };
            wire.waits = false;
            if wire.due != Due::Nothing || wire.phase != Phase::Open {
                continue;
            }
            let at = wire.quiet_since + WATCH_AFTER;
            if at > now {
                wire.waits = true;
                self.quiet.push_back((at, link));
            } else if wire.receiving == Receiving::No && wire.tail.is_none() {
                self.receive_once(link, self.small.size());
            }
        }
    }

    fn give_up(&mut self, link: Link, phase: Phase) {
        if let Some(wire) = self.wires.get_mut(link)
            && wire.phase == phase
        {
            wire.phase = Phase::Closing;
            wire.drop_output();
            self.touch(link);
        }
    }

    pub(super) fn arrange(&mut self, link: Link) {
        let Some(wire) = self.wires.get_mut(link) else { return };
        wire.touched = false;
        match wire.phase {
            Phase::Opening => {}
            Phase::Open => {
                self.feed(link);
                self.send_on(link);
                self.finish_on(link);
                self.pass_on(link);
                self.receive_on(link);
            }
            Phase::Flushing => {
                self.send_on(link);
                self.linger_if_flushed(link);
            }
            Phase::Lingering => self.receive_on(link),
            Phase::Closing => self.close_on(link),
        }
    }

    fn send_on(&mut self, link: Link) {
        let wire = &mut self.wires[link];
        if wire.sends || wire.deaf || wire.at == wire.output.len() {
            return;
        }
        wire.sends = true;
        let tag = Tag::of_link(Op::Send, link);
        #[expect(unsafe_code, reason = "a send refers to memory")]
        // SAFETY: while `sends` is set `output` is not touched, and the wire is not forgotten.
        unsafe {
            self.queue.send(wire.fd(), &wire.output[wire.at..], tag);
        }
    }

    /// Tells the peer that nothing more follows, once all has left.
    fn finish_on(&mut self, link: Link) {
        let wire = &mut self.wires[link];
        if wire.finishes && !wire.finished && !wire.sends && wire.is_flushed() {
            wire.finished = true;
            // It fails only if the peer has gone.
            let _ = socket2::SockRef::from(&wire.fd()).shutdown(Shutdown::Write);
        }
    }

    fn receive_on(&mut self, link: Link) {
        let wire = &mut self.wires[link];
        let lingers = wire.phase == Phase::Lingering;
        let wants = if wire.tail.is_some() || !lingers && (wire.room == 0 || wire.has_spill()) {
            Receiving::No
        } else if wire.due == Due::Message && self.features.has(Feature::MultishotReceive) {
            Receiving::Many
        } else if wire.due == Due::Nothing && !lingers {
            wire.receiving // it is watched later
        } else {
            Receiving::Once
        };
        match (wire.receiving, wants) {
            (Receiving::No, Receiving::Many) => {
                wire.receiving = Receiving::Many;
                let tag = Tag::of_link(Op::ReceiveMany, link);
                self.queue.receive_many(wire.fd(), SMALL, tag);
            }
            (Receiving::No, Receiving::Once) => {
                let most = if lingers { LINGER_BYTES } else { wire.room };
                self.receive_once(link, most);
            }
            (Receiving::Many, Receiving::Once | Receiving::No) if !wire.stopping => {
                wire.stopping = true;
                self.queue.cancel(Tag::of_link(Op::ReceiveMany, link));
            }
            _ => {}
        }
        self.break_if_deaf(link);
    }

    fn receive_once(&mut self, link: Link, most: usize) {
        let wire = &mut self.wires[link];
        wire.receiving = Receiving::Once;
        let passed = std::mem::take(&mut wire.passed);
        let large = wire.large && !passed && most > self.small.size();
        wire.asked_large = large;
        let (group, size) =
            if large { (LARGE, self.large.size()) } else { (SMALL, self.small.size()) };
        let size = if passed { size.min(HEAD_BYTES) } else { size };
        let bytes = u32::try_from(most.min(size)).expect("a buffer is small");
        let tag = Tag::of_link(Op::ReceiveOnce, link);
        self.queue.receive_once(wire.fd(), (group, bytes), wire.sends, tag);
    }

    /// A peer that takes nothing and has nothing left to say is told of as broken.
    fn break_if_deaf(&mut self, link: Link) {
        let wire = &mut self.wires[link];
        if wire.deaf && wire.receiving == Receiving::No && wire.tail.is_none() {
            wire.tail = Some(Tail::Broken);
            self.held.push_back(link);
        }
    }

    fn linger_if_flushed(&mut self, link: Link) {
        let wire = &mut self.wires[link];
        if wire.deaf || wire.is_flushed() && wire.tail.is_some() {
            wire.phase = Phase::Closing;
        } else if wire.is_flushed() && !wire.sends {
            wire.phase = Phase::Lingering;
            wire.lingers = LINGER_BYTES;
            wire.due = Due::Message;
            // It fails only if the peer has gone.
            let _ = socket2::SockRef::from(&wire.fd()).shutdown(Shutdown::Write);
            self.lingering.push_back((self.now + self.linger, link));
        } else {
            return;
        }
        self.arrange(link);
    }

    /// Ends what is under way, and forgets the connection when nothing is.
    fn close_on(&mut self, link: Link) {
        let wire = &mut self.wires[link];
        if !wire.is_busy() {
            let wire = self.wires.remove(link).expect("looked at just now");
            if let Some(socket) = wire.socket {
                self.queue.close(socket);
            }
            return;
        }
        if std::mem::replace(&mut wire.ending, true) {
            return;
        }
        let ops = [
            (wire.sends, Op::Send),
            (wire.receiving == Receiving::Once, Op::ReceiveOnce),
            (wire.receiving == Receiving::Many, Op::ReceiveMany),
            (wire.address.is_some(), Op::Connect),
            (wire.polls, Op::Poll),
        ];
        for (_, op) in ops.into_iter().filter(|(is, _)| *is) {
            self.queue.cancel(Tag::of_link(op, link));
        }
    }
}
