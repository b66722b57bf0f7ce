//! When nothing is left for another connection: how it is known, and how rarely it is said.

use crate::base::time::{Duration, Instant};

/// Time between two lines in the log.
const EVERY: Duration = Duration::from_secs(10);

/// Whether this error of the kernel means that descriptors, memory or local ports are used up.
pub(super) fn is_shortage(error: i32) -> bool {
    let all = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
    all.contains(&error)
}

/// When something was last complained of.
#[derive(Debug, Default)]
pub(super) struct Complaint(Option<Instant>);

impl Complaint {
    /// Whether it may be said now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|it| it + EVERY <= now);
        if due {
            self.0 = Some(now);
        }
        due
    }
}
