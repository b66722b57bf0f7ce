//! A connection on its way from one shard to another.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// An open connection that nothing is under way on. Whoever holds it owns it; dropped, it closes.
///
/// The one thing of the outside world that a pure room may hold. It does nothing with it.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Wraps a connected socket.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// Its number, for as long as it is not given away.
    pub fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Gives the descriptor to a driver.
    pub fn into_inner(self) -> OwnedFd {
        self.0
    }
}
