//! Whether this router leads: a lease on its ZooKeeper session, as a value.
//!
//! It leads while it is the first candidate as of its last good round trip, and less than two
//! thirds of the session that the server *granted* have passed since that round trip *began*. The
//! server lets a session live for its whole length after it heard of it, so nobody else is first
//! before the lease is over, whatever happened meanwhile. Until the granted session is known it
//! does not lead. All times are those of CLOCK_BOOTTIME: a lease runs out while the machine
//! sleeps.
//!
//! A lease cannot call back an order that was sent. So it is read again immediately before the
//! bytes of each order are written, and the order's deadline lies inside it ([`Lease::order`]).

use crate::base::time::{Duration, Instant};

/// Kept between the end of an order and that of the lease.
pub(super) const MARGIN: Duration = Duration::from_millis(100);

/// The right to decide.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lease {
    session: Option<Duration>,
    first_since: Option<Instant>,
    until: Option<Instant>,
    /// As `until`, whether it is first or not.
    member_until: Option<Instant>,
    min_routers: usize,
}

impl Lease {
    /// Nobody leads with fewer routers than this.
    pub fn new(min_routers: usize) -> Self {
        Self { min_routers, ..Self::default() }
    }

    /// The session that the server granted. It is another session than before, or the same one
    /// anew: what was proved of the former is void.
    pub fn granted(&mut self, session: Duration) {
        *self = Self { session: Some(session), min_routers: self.min_routers, ..Self::default() };
    }

    /// There is no session: nothing is proved any more.
    pub fn lost(&mut self) {
        *self = Self::new(self.min_routers);
    }

    /// A round trip on this session succeeded, made by the very thread it vouches for. It began
    /// then, and said whether this router is the first candidate.
    pub fn round_trip(&mut self, began: Instant, is_first: bool) {
        let Some(session) = self.session else { return };
        let until = began + session * 2 / 3;
        self.member_until = self.member_until.max(Some(until));
        if !is_first {
            (self.first_since, self.until) = (None, None);
        } else if self.until.is_none_or(|it| it < until) {
            self.until = Some(until);
            self.first_since.get_or_insert(began);
        }
    }

    /// Whether this router may decide, with so many members in sight.
    pub fn leads(&self, members: usize, now: Instant) -> bool {
        members >= self.min_routers && self.until.is_some_and(|it| now < it)
    }

    /// Since when this router is first, for people.
    pub fn since(&self) -> Option<Instant> {
        self.first_since
    }

    /// When the lease ends, unless another round trip succeeds.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Until when this router is sure to be a member: until then what others stated to it holds.
    pub fn member_until(&self) -> Option<Instant> {
        self.member_until
    }

    /// The deadline of an order that takes `time` at most; none if it would not be over within the
    /// lease: then it is not begun.
    pub fn order(&self, time: Duration, members: usize, now: Instant) -> Option<Instant> {
        let end = now + time;
        let inside = self.until.is_some_and(|it| end + MARGIN <= it);
        (self.leads(members, now) && inside).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    #[test]
    fn it_runs_from_the_beginning_of_the_round_trip_for_two_thirds_of_what_was_granted() {
        let mut lease = Lease::new(2);
        lease.round_trip(at(0), true);
        assert!(!lease.leads(3, at(1)), "the granted session is not known");
        lease.granted(Duration::from_secs(6));
        assert!(!lease.leads(3, at(1)), "nothing is proved of it");
        lease.round_trip(at(1000), true);
        assert!(lease.leads(2, at(4999)) && !lease.leads(2, at(5000)));
        assert!(!lease.leads(1, at(2000)), "too few routers");
        lease.round_trip(at(500), true);
        assert_eq!(lease.until(), Some(at(5000)), "an older proof takes nothing away");
        lease.round_trip(at(2000), false);
        assert!(!lease.leads(3, at(2001)));
        assert_eq!(lease.member_until(), Some(at(6000)), "it is a member all the same");
        lease.round_trip(at(3000), true);
        assert!(lease.leads(3, at(6999)));
        lease.lost();
        assert!(!lease.leads(3, at(3001)));
        assert_eq!(lease.member_until(), None);
    }

    #[test]
    fn an_order_ends_inside_it_or_is_not_begun() {
        let mut lease = Lease::new(1);
        lease.granted(Duration::from_secs(3));
        lease.round_trip(at(0), true);
        assert_eq!(lease.order(Duration::from_secs(1), 1, at(900)), Some(at(1900)));
        assert_eq!(lease.order(Duration::from_secs(1), 1, at(901)), None);
        assert_eq!(lease.order(Duration::from_secs(1), 0, at(0)), None);
    }
}
