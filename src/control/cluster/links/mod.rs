//! Connections to the other routers: one thread, one proven connection to each.
//!
//! ```text
//!   calls                                            is called (through a shard's tunnel)
//!   Opening ─► Asked ─► Greeted ──┐                  Called ─► Answered ─► Welcomed ──┐
//!     TCP      GET, 101   hello,  ├─► Proven ◄───────  GET, 101   hello     proof     ┘
//!                         welcome ┘
//! ```
//! The router with the lower id calls; the other calls too if it has heard nothing for a while, for
//! the first may not know where it is. Of two proven connections that of the lower id stays, and of
//! two by one caller the newer: both sides choose alike, so that neither closes what the other
//! keeps. Pauses between calls grow until the other has said something: who has only proved himself
//! may not know this router yet, and close again.
//!
//! Must hold: what arrives is handed on only in the name that was proved. A document that cannot be
//! written when the next comes is replaced by it. Everything that is kept for a connection has a
//! bound, and so has the number of those that have not proved themselves.

mod connection;
mod status;
mod thread;

pub use status::{Proven, Reached, Refused, Status};

use crate::base::ids::RouterId;
use crate::control::cluster::{Heard, Tell};
use crate::wire::peer::Secret;
use arc_swap::ArcSwap;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, JoinHandle};
use thread::Thread;

/// What arrives goes there.
pub type Hear = Box<dyn Fn(Heard) + Send>;

/// The thread, and the way to it.
#[derive(Debug)]
pub struct Links {
    tells: Sender<Tell>,
    bell: Arc<OwnedFd>,
    address: SocketAddr,
    shown: Arc<ArcSwap<Status>>,
    thread: Option<JoinHandle<()>>,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct Way {
    tells: Sender<Tell>,
    bell: Arc<OwnedFd>,
}

impl Links {
    /// Starts the thread.
    ///
    /// # Errors
    /// A socket or the thread cannot be made.
    pub fn start(me: RouterId, secret: Secret, hear: Hear) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (tells, told) = channel();
        let thread = Thread::new(me, secret, hear, listener, bell.clone(), told)?;
        let shown = thread.shown();
        let thread = Builder::new().name("peers".into()).spawn(move || thread.run())?;
        Ok(Self { tells, bell, address, shown, thread: Some(thread) })
    }

    /// Where shards hand over who comes to [`PATH`](crate::wire::peer::PATH).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How things are, or were half a second ago.
    pub fn shown(&self) -> Arc<ArcSwap<Status>> {
        self.shown.clone()
    }

    /// A way to tell it something.
    pub fn way(&self) -> Way {
        Way { tells: self.tells.clone(), bell: self.bell.clone() }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.way().tell(Tell::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been told
        }
    }
}

impl Way {
    /// Tells it something.
    pub fn tell(&self, tell: Tell) {
        let _ = self.tells.send(tell); // a thread that has ended sends nothing
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes()); // full: it wakes anyway
    }
}

#[cfg(test)]
mod tests;
