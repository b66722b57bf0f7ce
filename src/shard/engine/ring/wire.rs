//! One connection, as the ring driver sees it.

use super::passing::Passing;
use crate::base::time::Instant;
use crate::shard::engine::Link;
use crate::wire::codec::Due;
use socket2::SockAddr;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How far a connection is.
///
/// ```text
///   Opening ──► Open ──► Flushing ──► Lingering ──► Closing ──► forgotten
///      └─────────┴───────────┴─────────────┘ at once ▲
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Opening,
    Open,
    /// The shard has forgotten it; what was given is still sent.
    Flushing,
    /// All has been sent, and the peer has a moment to read it.
    Lingering,
    /// It goes as soon as nothing is under way on it.
    Closing,
}

/// Which receive is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Receiving {
    No,
    Once,
    Many,
}

/// What is to be said of a connection after all it has received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tail {
    Ended,
    Broken,
}

#[derive(Debug)]
pub(super) struct Wire {
    /// Absent only if none could be made.
    pub(super) socket: Option<OwnedFd>,
    pub(super) phase: Phase,
    pub(super) receiving: Receiving,
    /// The receive under way has been told to end.
    pub(super) stopping: bool,
    /// Everything under way has been told to end.
    pub(super) ending: bool,
    /// A send is under way; `output` must not change.
    pub(super) sends: bool,
    /// Being sent, up to `at` sent.
    pub(super) output: Vec<u8>,
    pub(super) at: usize,
    /// To be sent after it.
    pub(super) next: Vec<u8>,
    pub(super) room: usize,
    pub(super) due: Due,
    /// Received beyond the room there was, piece by piece: at most what all small buffers hold, for
    /// a receive for good ends when they are used up. One buffer of all would be copied again and
    /// again while it grows and as it is told.
    pub(super) spill: VecDeque<Vec<u8>>,
    pub(super) tail: Option<Tail>,
    /// The tail has been told.
    pub(super) told: bool,
    /// Nothing more follows what was given.
    pub(super) finishes: bool,
    /// The peer has been told so.
    pub(super) finished: bool,
    /// It takes nothing any more, though it may have said something before.
    pub(super) deaf: bool,
    /// Its receives fill their buffers: larger ones pay.
    pub(super) large: bool,
    /// Its last body passed: of the next message the head is to be read, and little more.
    pub(super) passed: bool,
    /// The receive under way was asked for with one.
    pub(super) asked_large: bool,
    /// In the list of those to be looked at.
    pub(super) touched: bool,
    /// In the list of those whose end is watched after a while.
    pub(super) waits: bool,
    /// Nothing is due since then.
    pub(super) quiet_since: Instant,
    /// Bytes still read while lingering.
    pub(super) lingers: usize,
    /// Where it connects to, while it does.
    pub(super) address: Option<Box<SockAddr>>,
    /// What comes passes on to another connection.
    pub(super) passes: Option<Box<Passing>>,
    /// From which connection bytes pass on to this one.
    pub(super) fed_by: Option<Link>,
    /// Its readiness is waited for.
    pub(super) polls: bool,
}

impl Wire {
    pub(super) fn new(socket: Option<OwnedFd>, phase: Phase) -> Self {
        Self {
            socket,
            phase,
            receiving: Receiving::No,
            stopping: false,
            ending: false,
            sends: false,
            output: Vec::new(),
            at: 0,
            next: Vec::new(),
            room: 0,
            due: Due::Message,
            spill: VecDeque::new(),
            tail: None,
            told: false,
            finishes: false,
            finished: false,
            deaf: false,
            large: false,
            passed: false,
            asked_large: false,
            touched: false,
            waits: false,
            quiet_since: Instant(0),
            lingers: 0,
            address: None,
            passes: None,
            fed_by: None,
            polls: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("operations are begun on sockets").as_fd()
    }

    /// Whether the kernel still has something of it.
    pub(super) fn is_busy(&self) -> bool {
        self.sends || self.polls || self.receiving != Receiving::No || self.address.is_some()
    }

    /// Whether all that was given has been sent.
    pub(super) fn is_flushed(&self) -> bool {
        self.at == self.output.len() && self.next.is_empty()
    }

    /// Whether a receive is under way that serves the room and the due there are now.
    pub(super) fn receives_on(&self) -> bool {
        let is_plain = self.phase == Phase::Open && !self.stopping && self.tail.is_none();
        let wants = self.room > 0 && self.due == Due::Message && !self.has_spill();
        is_plain && wants && self.receiving == Receiving::Many
    }

    /// Whether bytes are kept that were not told.
    pub(super) fn has_spill(&self) -> bool {
        !self.spill.is_empty()
    }

    /// Keeps what there is no room for.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.spill.push_back(bytes.to_vec());
    }

    /// The first of what is kept, as far as there is room.
    pub(super) fn kept(&mut self) -> Option<Vec<u8>> {
        let mut first = self.spill.pop_front_if(|_| self.room > 0)?;
        if first.len() > self.room {
            let rest = first.split_off(self.room);
            self.spill.push_front(rest);
        }
        Some(first)
    }

    /// Takes output over, after what is there.
    pub(super) fn give(&mut self, output: &mut Vec<u8>) {
        if self.deaf {
            return output.clear();
        }
        let queue = if self.sends { &mut self.next } else { &mut self.output };
        if queue.is_empty() {
            std::mem::swap(queue, output);
        } else {
            queue.append(output);
        }
    }

    /// So many bytes have left. Gives the memory of what has wholly been sent.
    pub(super) fn sent(&mut self, bytes: usize) -> Option<Vec<u8>> {
        self.sends = false;
        self.at += bytes;
        if self.at < self.output.len() {
            return None;
        }
        self.at = 0;
        Some(std::mem::replace(&mut self.output, std::mem::take(&mut self.next)))
    }

    /// What is left to be sent will not be.
    pub(super) fn drop_output(&mut self) {
        self.next = Vec::new();
        if !self.sends {
            self.output = Vec::new();
            self.at = 0;
        }
    }
}
