//! Sleeping and waking up.
//!
//! A busy shard sleeps in its ring, for a few milliseconds at most. One that has been idle for a
//! while sleeps in glommio: the ring's completions then ring an eventfd, which glommio waits for.
//! Whoever has no ring (the control thread, the API) wakes a shard through a pair of sockets, one
//! of which the ring reads.
//!
//! They are sockets because an eventfd that is written cannot ring another at once: the kernel puts
//! that off, and newer ones (6.18) forget it from the second time on. The completion would be
//! there, glommio would know nothing of it, and none that follows would ring either. A pipe would
//! do too, but before Linux 6.4 a ring needs a thread to read one.

use super::Ring;
use crate::base::time::Duration;
use crate::mesh::clock;
use glommio::io::BufferedFile;
use io_uring::Submitter;
use rustix::event::{EventfdFlags, eventfd};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// Longest sleep in glommio: what has a deadline is looked at afterwards.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

/// What others pull and the ring hears, and an eventfd that the kernel rings.
#[derive(Debug)]
pub(super) struct Bell {
    rope: UnixStream,
    others: UnixStream,
    kernel: OwnedFd,
}

impl Bell {
    pub(super) fn new(ring: &Submitter<'_>) -> io::Result<Self> {
        let (rope, others) = UnixStream::pair()?;
        // This end alone: the ring does not wait for bytes where reading does not block.
        rope.set_nonblocking(true)?;
        let kernel = eventfd(0, EventfdFlags::CLOEXEC)?;
        ring.register_eventfd(kernel.as_raw_fd())?;
        Ok(Self { rope, others, kernel })
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // It fails only if there is no room; then the ring is about to read.
        let _ = (&self.rope).write(&[1]);
    }
}

/// glommio's end of the kernel's eventfd.
#[derive(Debug)]
pub struct Pillow(BufferedFile);

impl Ring {
    /// What wakes this driver from any thread.
    pub fn waker(&self) -> Waker {
        self.bell.clone().into()
    }

    #[expect(unsafe_code, reason = "a read refers to memory")]
    pub(super) fn listen_to_bell(&mut self) {
        let word = std::ptr::from_mut(self.bell_word);
        // SAFETY: the word is there for good, and nobody reads or writes it but the kernel.
        unsafe { self.queue.read_bell(self.bell.others.as_fd(), word) }
    }

    /// What glommio sleeps on.
    ///
    /// # Errors
    /// No descriptor is left.
    #[expect(unsafe_code, reason = "glommio's files cannot be made from safe ones")]
    pub fn pillow(&self) -> io::Result<Pillow> {
        let kernel = self.bell.kernel.try_clone()?;
        // SAFETY: the descriptor is open and owned by nobody else from here on.
        Ok(Pillow(unsafe { BufferedFile::from_raw_fd(kernel.into_raw_fd()) }))
    }

    /// Lets completions ring the kernel's eventfd; one rings after a while in any case. Whether
    /// the shard may sleep in glommio now.
    #[expect(unsafe_code, reason = "a timeout refers to memory")]
    pub fn lies_down(&mut self) -> bool {
        self.queue.rings_eventfd(true);
        if !std::mem::replace(&mut self.ticks, true) {
            // SAFETY: the time is there for good.
            unsafe { self.queue.tick(self.park_timeout) };
        }
        self.turn(Duration::ZERO);
        if self.was_idle() {
            self.pipes.rest();
            return true;
        }
        self.rises();
        false
    }

    /// Completions ring no more.
    pub fn rises(&mut self) {
        self.queue.rings_eventfd(false);
        self.now = clock::now();
    }
}

impl Pillow {
    /// Sleeps until a completion rings.
    pub async fn sleep(&self) {
        if let Err(error) = self.0.read_at(0, size_of::<u64>()).await {
            tracing::error!(%error, "cannot wait in glommio");
        }
    }
}
