//! Accepting clients.
//!
//! A listener that cannot accept (descriptors or memory are exhausted) rests for a moment and tries
//! again. One that ends takes over all that the kernel has completed for it first, so that nobody
//! who has connected is reset.

use super::operation::{Op, Tag};
use super::{Event, Ring};
use crate::base::address::SocketAddr;
use crate::base::socket::Socket;
use crate::base::time::{Duration, Instant};
use crate::shard::engine::closing::take_nobody_new;
use crate::shard::engine::ring::features::Feature;
use crate::shard::engine::shortage::Complaint;
use io_uring::cqueue;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// Pause after the kernel refused another descriptor.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Acceptor {
    /// Taken when it ends.
    listener: Option<TcpListener>,
    armed: bool,
    ends: bool,
    paused_until: Option<Instant>,
    complaint: Complaint,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        // The ring waits by itself; of a descriptor that must not block it would return at once.
        listener.set_nonblocking(false)?;
        Ok(Self {
            listener: Some(listener),
            armed: false,
            ends: false,
            paused_until: None,
            complaint: Complaint::default(),
        })
    }
}

impl Ring {
    pub(super) fn arm_acceptor(&mut self, number: usize) {
        let acceptor = &mut self.acceptors[number];
        let Some(listener) = &acceptor.listener else { return };
        if acceptor.armed || acceptor.ends {
            return;
        }
        acceptor.armed = true;
        acceptor.paused_until = None;
        let many = self.features.has(Feature::MultishotAccept);
        self.queue.accept(listener.as_fd(), many, Tag::numbered(Op::Accept, number));
    }

    /// Accepts on where a pause is over.
    pub(super) fn end_pauses(&mut self) {
        for number in 0..self.acceptors.len() {
            if self.acceptors[number].paused_until.is_some_and(|it| it <= self.now) {
                self.arm_acceptor(number);
            }
        }
    }

    /// Whether a pause is to end.
    pub(super) fn pauses(&self) -> bool {
        self.acceptors.iter().any(|it| it.paused_until.is_some())
    }

    /// Accepts nobody any more. Whoever has connected by now is still told of.
    pub fn stop_accepting(&mut self) {
        for number in 0..self.acceptors.len() {
            let acceptor = &mut self.acceptors[number];
            acceptor.ends = true;
            acceptor.paused_until = None;
            if acceptor.armed {
                self.queue.cancel(Tag::numbered(Op::Accept, number));
            }
        }
    }

    /// Clients that had connected when accepting ended; closes the listeners.
    pub fn last_clients(&mut self) -> Vec<(Socket, SocketAddr)> {
        let mut last = Vec::new();
        for (number, acceptor) in self.acceptors.iter_mut().enumerate() {
            if acceptor.armed || !acceptor.ends {
                continue;
            }
            let Some(listener) = acceptor.listener.take() else { continue };
            take_nobody_new(&listener);
            if let Err(error) = listener.set_nonblocking(true) {
                tracing::warn!(%error, listener = number, "cannot drain a listener");
                continue;
            }
            // What it accepts may block, as the ring wants it.
            while let Ok((stream, peer)) = listener.accept() {
                last.push((Socket::new(stream.into()), peer));
            }
        }
        last
    }

    /// Whether a listener is not closed yet.
    pub(super) fn listens(&self) -> bool {
        self.acceptors.iter().any(|it| it.listener.is_some())
    }

    pub(super) fn accepted(&mut self, number: usize, result: i32, flags: u32) -> Option<Event> {
        let armed = cqueue::more(flags);
        self.acceptors[number].armed = armed;
        if result < 0 {
            self.cannot_accept(number, -result);
            return None;
        }
        if !armed {
            self.arm_acceptor(number);
        }
        #[expect(unsafe_code, reason = "a completion names a descriptor by number")]
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        // Whoever has left already is of no interest.
        let peer = socket2::SockRef::from(&socket).peer_addr().ok()?.as_socket()?;
        Some(Event::Arrived(Socket::new(socket), peer))
    }

    fn cannot_accept(&mut self, number: usize, error: i32) {
        // Those say nothing of the next client; any other that descriptors or memory are exhausted.
        let passing = [libc::ECANCELED, libc::EINTR, libc::EAGAIN, libc::ECONNABORTED];
        if passing.contains(&error) {
            return self.arm_acceptor(number);
        }
        let acceptor = &mut self.acceptors[number];
        acceptor.paused_until = Some(self.now + PAUSE);
        if acceptor.complaint.is_due(self.now) {
            let error = io::Error::from_raw_os_error(error);
            tracing::warn!(%error, listener = number, "cannot accept; pausing");
        }
    }
}
