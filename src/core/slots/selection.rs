//! Which instance is killed when a service shrinks (control-plane §5.4).

use crate::base::time::Date;
use std::cmp::Reverse;

/// What the choice looks at.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Id; the last tie-breaker.
    pub id: &'a str,
    /// When it was started.
    pub started_at: Date,
    /// Slots in use.
    pub used: u32,
    /// Whether every use of it is older than the lingering threshold.
    pub lingering: bool,
    /// It passed its last health checks.
    pub healthy: bool,
    /// It failed its last health checks, or none has been passed yet.
    pub unhealthy: bool,
    /// It is to be replaced.
    pub expired: bool,
    /// It is young and not yet healthy.
    pub starting: bool,
    /// It failed requests, and rests.
    pub ejected: bool,
    /// A kill of it is under way or done.
    pub locked: bool,
}

/// What is known of the whole service.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// Some instance of the service is expired.
    pub any_expired: bool,
    /// Some instance of the service is starting.
    pub any_starting: bool,
    /// The youngest serve first, so the oldest are killed first.
    pub youngest_serve: bool,
}

impl Candidate<'_> {
    /// Whether it may be killed at all.
    pub fn is_killable(&self, seen: Circumstances) -> bool {
        !self.locked
            && (self.used == 0 || (self.expired && self.lingering))
            && (!seen.any_expired || !self.healthy || self.ejected || self.expired)
            && (!(seen.any_expired && seen.any_starting) || (self.unhealthy && !self.starting))
    }

    /// Larger is killed first: idle, expired, unhealthy, ejected, then by age.
    fn rank(&self, seen: Circumstances) -> impl Ord + '_ {
        let start = i128::from(self.started_at.0);
        let age = if self.expired || seen.youngest_serve { -start } else { start };
        let idle = self.used == 0;
        (idle, self.expired, self.unhealthy, self.ejected, age, self.started_at, self.id)
    }
}

/// The candidate to kill, if any may be killed.
pub fn choose_for_kill<'a, 'b>(
    candidates: &'b [Candidate<'a>],
    seen: Circumstances,
) -> Option<&'b Candidate<'a>> {
    candidates.iter().filter(|it| it.is_killable(seen)).min_by_key(|it| Reverse(it.rank(seen)))
}
