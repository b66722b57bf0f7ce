//! The two queues shared with the kernel.
//!
//! Must hold: one enter a turn submits and waits; what does not fit into the submission queue is
//! kept, in order; a linked pair stays together; completions the kernel had no room for are
//! fetched by the next enter.

#![expect(unsafe_code, reason = "what the kernel is asked refers to memory")]

use super::features::{self, Feature, Features};
use crate::base::time::Duration;
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, squeue, types};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Completions that fit for each submission that does.
const COMPLETIONS: u32 = 8;

/// What the kernel says of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) tag: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// A ring, for good: a shard lives as long as its process.
pub(super) struct Queue {
    submitter: Submitter<'static>,
    submissions: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    descriptor: RawFd,
    /// Entries that did not fit.
    late: VecDeque<squeue::Entry>,
}

impl Queue {
    /// Sets a ring up for the thread that calls.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(features: Features, depth: u32) -> io::Result<Self> {
        let mut builder = match features.has(Feature::DeferTaskrun) {
            true => features::deferring(),
            false => features::cooperative(),
        };
        let ring = builder.setup_cqsize(depth * COMPLETIONS).build(depth)?;
        let ring: &'static mut IoUring = Box::leak(Box::new(ring));
        let descriptor = ring.as_raw_fd();
        let (mut submitter, submissions, completions) = ring.split();
        // Without it each enter looks the descriptor up; nothing else depends on it.
        let _ = submitter.register_ring_fd();
        Ok(Self { submitter, submissions, completions, descriptor, late: VecDeque::new() })
    }

    pub(super) fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    /// Queues an operation.
    ///
    /// # Safety
    /// What it refers to stays where it is, untouched, until its completion has been seen.
    pub(super) unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the caller's.
        if !self.late.is_empty() || unsafe { self.submissions.push(&entry) }.is_err() {
            self.late.push_back(entry);
        }
    }

    /// Queues an operation and the one that is linked to it.
    ///
    /// # Safety
    /// As `push`, for both.
    pub(super) unsafe fn push_pair(&mut self, pair: [squeue::Entry; 2]) {
        // SAFETY: the caller's.
        if !self.late.is_empty() || unsafe { self.submissions.push_multiple(&pair) }.is_err() {
            self.late.extend(pair);
        }
    }

    /// Moves what was late into the queue, as far as it fits, pairs together.
    fn catch_up(&mut self) {
        while let Some(entry) = self.late.front() {
            let pair = is_linked(entry);
            let room = self.submissions.capacity() - self.submissions.len();
            if room < 1 + usize::from(pair) {
                return;
            }
            for _ in 0..=usize::from(pair) {
                let entry = self.late.pop_front().expect("a pair is whole");
                // SAFETY: whoever pushed it promised what `push` asks for.
                let pushed = unsafe { self.submissions.push(&entry) };
                pushed.expect("there is room");
            }
        }
    }

    /// Submits what is queued, waits for a completion up to `bound` (zero: not at all), and
    /// appends all that are there.
    pub(super) fn turn(&mut self, bound: Duration, done: &mut Vec<Done>) {
        self.catch_up();
        self.submissions.sync();
        self.completions.sync();
        let entered = if bound.is_zero() || !self.completions.is_empty() || !self.late.is_empty() {
            self.enter_at_once()
        } else {
            let bound = types::Timespec::from(bound);
            let args = types::SubmitArgs::new().timespec(&bound);
            self.submitter.submit_with_args(1, &args)
        };
        if let Err(error) = entered {
            // Nothing came in time; a signal; or the kernel wants its completions read first.
            let passing = [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN];
            let passes = error.raw_os_error().is_some_and(|it| passing.contains(&it));
            assert!(passes, "io_uring_enter failed: {error}");
        }
        self.submissions.sync();
        self.completions.sync();
        done.extend((&mut self.completions).map(|it: cqueue::Entry| Done {
            tag: it.user_data(),
            result: it.result(),
            flags: it.flags(),
        }));
        self.completions.sync();
    }

    /// Whether the kernel keeps completions for which there was no room.
    #[cfg(test)]
    pub(super) fn has_overflowed(&mut self) -> bool {
        self.submissions.cq_overflow()
    }

    fn enter_at_once(&mut self) -> io::Result<usize> {
        /// `IORING_ENTER_GETEVENTS`: deferred work is done by an enter with this flag alone.
        const GETEVENTS: u32 = 1;
        let submissions = u32::try_from(self.submissions.len()).expect("at most the depth");
        // SAFETY: no argument is passed, and nothing is waited for.
        unsafe { self.submitter.enter::<libc::sigset_t>(submissions, 0, GETEVENTS, None) }
    }

    /// Whether completions ring the eventfd.
    pub(super) fn rings_eventfd(&self, on: bool) {
        if on {
            self.completions.enable_eventfd();
        } else {
            self.completions.disable_eventfd();
        }
    }
}

/// Bit of `IOSQE_IO_LINK` is not readable from an entry; of all operations used only connects have
/// one linked behind them.
fn is_linked(entry: &squeue::Entry) -> bool {
    entry.get_opcode() == u32::from(io_uring::opcode::Connect::CODE)
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}
