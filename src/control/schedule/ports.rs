//! Which ports the next instance gets.
//!
//! The range is gone through in turn, so a port that was just released comes last; and for a grace
//! it is not given at all, since a client may still believe the old instance there. Whether anybody
//! else listens on a port is asked of the caller.

use crate::base::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// A released port is left alone for so long.
const GRACE: Duration = Duration::from_secs(5);

/// The ports of one router.
#[derive(Debug)]
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    /// Where the next search begins.
    next: u16,
    /// Ports that are not to be given: in use (none), or until when.
    kept: BTreeMap<u16, Option<Instant>>,
}

impl Ports {
    /// All ports of the range are free. The first search begins `offset` ports into it; routers
    /// that share a range should not share that.
    pub(super) fn new(range: RangeInclusive<u16>, offset: u16) -> Self {
        assert!(!range.is_empty(), "a port range that holds no port");
        let count = u32::from(range.end() - range.start()) + 1;
        let next = u32::from(*range.start()) + u32::from(offset) % count;
        let next = u16::try_from(next).expect("within the range");
        Self { range, next, kept: BTreeMap::new() }
    }

    /// Takes so many ports on which `unbound` holds; none if there are not enough.
    pub(super) fn take(
        &mut self,
        count: usize,
        unbound: impl Fn(u16) -> bool,
        now: Instant,
    ) -> Option<Vec<u16>> {
        self.kept.retain(|_, until| until.is_none_or(|it| now < it));
        let mut taken = Vec::with_capacity(count);
        let mut next = self.next;
        for _ in self.range.clone() {
            if taken.len() == count {
                break;
            }
            let port = next;
            next = if port == *self.range.end() { *self.range.start() } else { port + 1 };
            if !self.kept.contains_key(&port) && unbound(port) {
                taken.push(port);
            }
        }
        if taken.len() < count {
            return None;
        }
        self.next = next;
        self.kept.extend(taken.iter().map(|port| (*port, None)));
        Some(taken)
    }

    /// Nothing of ours listens on these any more.
    pub(super) fn release(&mut self, ports: &[u16], now: Instant) {
        for port in ports {
            let kept = self.kept.insert(*port, Some(now + GRACE));
            assert_eq!(kept, Some(None), "port {port} was released but not in use");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_given_in_turn_and_rest_before_they_are_given_again() {
        let mut ports = Ports::new(10..=14, 8);
        let at = |secs| Instant(0) + Duration::from_secs(secs);
        assert_eq!(ports.take(2, |_| true, at(0)), Some(vec![13, 14]));
        assert_eq!(ports.take(2, |it| it != 10, at(0)), Some(vec![11, 12]));
        assert_eq!(ports.take(2, |_| true, at(0)), None);
        ports.release(&[13, 11], at(1));
        assert_eq!(ports.take(2, |_| true, at(5)), None);
        assert_eq!(ports.take(3, |_| true, at(6)), Some(vec![13, 10, 11]));
        assert_eq!(ports.take(1, |_| true, at(100)), None);
    }

    #[test]
    fn the_last_port_there_is_is_a_port() {
        let mut ports = Ports::new(65_535..=65_535, 7);
        assert_eq!(ports.take(1, |_| true, Instant(0)), Some(vec![65_535]));
    }
}
