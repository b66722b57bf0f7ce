//! Who leads. Told the time.
//!
//! ```text
//!  leads(n) ── leave ──► leaves(at) ── time ──► nobody(until, next) ── time ──► leads(next)
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Ms;

/// Between `DELETE /v2/leader` and the end of the leader.
pub(crate) const ABDICATION_MS: Ms = 500;

#[derive(Debug, Default)]
pub(crate) struct Throne {
    /// Asked by every request, changed by the fault port and by the clockwork.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Addresses of the Marathons of this process.
    nodes: Vec<String>,
    seat: Seat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    Leads(usize),
    Leaves { leader: usize, at: Ms, absent_ms: Ms, next: usize },
    Nobody { until: Ms, next: usize },
}

impl Default for Seat {
    fn default() -> Self {
        Self::Leads(0)
    }
}

impl Throne {
    pub(crate) fn add(&self, address: String) {
        self.state().nodes.push(address);
    }

    /// The leader ends at `at`; after `absent_ms` the next one leads (the same, if there is no
    /// other or that is what is asked).
    pub(crate) fn leave(&self, at: Ms, absent_ms: Ms, next: Option<usize>) {
        let mut state = self.state();
        let nodes = state.nodes.len().max(1);
        let (Seat::Leads(leader) | Seat::Leaves { leader, .. } | Seat::Nobody { next: leader, .. }) =
            state.seat;
        let next = next.unwrap_or(leader + 1) % nodes;
        state.seat = Seat::Leaves { leader, at, absent_ms, next };
    }

    /// True when a leader has just ended.
    pub(crate) fn tick(&self, now: Ms) -> bool {
        let mut state = self.state();
        match state.seat {
            Seat::Leaves { at, absent_ms, next, .. } if now >= at => {
                state.seat = Seat::Nobody { until: now + absent_ms, next };
                true
            }
            Seat::Nobody { until, next } if now >= until => {
                state.seat = Seat::Leads(next);
                false
            }
            _ => false,
        }
    }

    /// Number and address of the leader.
    pub(crate) fn leader(&self) -> Option<(usize, String)> {
        let state = self.state();
        match state.seat {
            Seat::Leads(it) | Seat::Leaves { leader: it, .. } => {
                state.nodes.get(it).map(|address| (it, address.clone()))
            }
            Seat::Nobody { .. } => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leadership_passes_on_after_a_time_without() {
        let throne = Throne::default();
        ["a", "b"].into_iter().for_each(|it| throne.add(it.to_owned()));
        let who = |it: &Throne| it.leader().map(|(_, name)| name);
        throne.leave(10, 5, None);
        assert!(!throne.tick(9) && who(&throne).as_deref() == Some("a"));
        assert!(throne.tick(10) && who(&throne).is_none());
        assert!(!throne.tick(15) && who(&throne).as_deref() == Some("b"));
        throne.leave(20, 0, Some(1));
        throne.tick(20);
        throne.tick(20);
        assert_eq!(who(&throne).as_deref(), Some("b"));
    }
}
