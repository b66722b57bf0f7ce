//! Sleeping and waking up.
//!
//! A busy shard sleeps in its ring, for a few milliseconds at most. One that has been idle for a
//! while sleeps in glommio: the ring's completions then ring an eventfd, which glommio waits for.
//! Whoever has no ring (the control thread, the API) wakes a shard by another eventfd, which the
//! ring reads.

use super::Ring;
use crate::base::time::Duration;
use crate::mesh::clock;
use glommio::io::BufferedFile;
use io_uring::Submitter;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::task::{Wake, Waker};

/// Longest sleep in glommio: what has a deadline is looked at afterwards.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

/// Two eventfds: one that others ring, one that the kernel rings.
#[derive(Debug)]
pub(super) struct Bell {
    others: File,
    kernel: OwnedFd,
}

impl Bell {
    pub(super) fn new(ring: &Submitter<'_>) -> io::Result<Self> {
        let (others, kernel) = (eventfd()?, eventfd()?);
        ring.register_eventfd(kernel.as_raw_fd())?;
        Ok(Self { others: others.into(), kernel })
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let one: u64 = 1;
        // It fails only if the count is at its most; then the ring is about to read it.
        let _ = (&self.others).write(&one.to_ne_bytes());
    }
}

#[expect(unsafe_code, reason = "there is no safe way to make an eventfd")]
fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let made = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
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
