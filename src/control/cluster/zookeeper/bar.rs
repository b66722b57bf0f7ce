//! For whose sake a router that was refused stays out.
//!
//! A router that serves may lose its session for a moment: then its node is gone, and its entry in
//! the roster is not. It comes back without a look. So whoever was refused for it must not take
//! its place meanwhile: both would give out the same slots, for ever.
//!
//! Must hold: who was refused registers only when none of those who were in its way stands in the
//! roster, and each look over the time of patience has found nobody. For one that ends and is begun
//! again is another router, which nobody knows.

use crate::base::ids::RouterId;
use crate::base::time::{Duration, Instant};
use crate::core::peers::document::ROUTERS_MAX;
use std::collections::BTreeSet;

/// What keeps a router out that was refused once.
#[derive(Debug, Default)]
pub(super) struct Bar {
    /// Those that were in its way, as far as they are not known to have left.
    by: BTreeSet<RouterId>,
    /// Since when each look has found nobody.
    free_since: Option<Instant>,
}

/// Why it still stays out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Stay {
    /// This one stands in the roster.
    For(RouterId),
    /// Nobody does, and it must stay so for a while.
    Alone,
}

impl Bar {
    /// It was refused for the sake of these.
    pub(super) fn refused(&mut self, by: Vec<RouterId>) {
        let room = ROUTERS_MAX.saturating_sub(self.by.len());
        let new = by.into_iter().filter(|it| !self.by.contains(it)).take(room);
        let new: Vec<RouterId> = new.collect();
        self.by.extend(new);
        self.free_since = None;
    }

    /// A look has failed: nobody knows who was there.
    pub(super) fn missed(&mut self) {
        self.free_since = None;
    }

    /// A look has found none of them registered, and these names in the roster; none: nothing is
    /// in the way any more.
    pub(super) fn looked(
        &mut self,
        roster: &[String],
        patience: Duration,
        now: Instant,
    ) -> Option<Stay> {
        self.by.retain(|it| roster.iter().any(|name| name == it.as_str()));
        if let Some(router) = self.by.first() {
            self.free_since = None;
            return Some(Stay::For(router.clone()));
        }
        let since = *self.free_since.get_or_insert(now);
        (now - since < patience).then_some(Stay::Alone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_refused_waits_until_the_others_have_left_for_good() {
        let at = |secs: u64| Instant(0) + Duration::from_secs(secs);
        let patience = Duration::from_secs(20);
        let ids = |names: &[&str]| names.iter().map(|it| RouterId::new(it)).collect::<Vec<_>>();
        let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let mut bar = Bar::default();
        let stands = |id: &str| Some(Stay::For(RouterId::new(id)));
        bar.refused(ids(&["a", "b"]));
        assert_eq!(bar.looked(&names(&["a", "b", "z"]), patience, at(100)), stands("a"));
        assert_eq!(bar.looked(&names(&["b", "z"]), patience, at(500)), stands("b"));
        // Who has left has left: the same name would be another's.
        assert_eq!(bar.looked(&names(&["a"]), patience, at(501)), Some(Stay::Alone));
        assert_eq!(bar.looked(&[], patience, at(520)), Some(Stay::Alone));
        // It is refused again, by one that was begun anew.
        bar.refused(ids(&["c"]));
        assert_eq!(bar.looked(&[], patience, at(522)), Some(Stay::Alone), "from then on");
        assert_eq!(bar.looked(&[], patience, at(541)), Some(Stay::Alone));
        bar.missed();
        assert_eq!(bar.looked(&[], patience, at(542)), Some(Stay::Alone), "it did not see");
        assert_eq!(bar.looked(&[], patience, at(561)), Some(Stay::Alone));
        assert_eq!(bar.looked(&[], patience, at(562)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut bar = Bar::default();
        for n in 0..3 * ROUTERS_MAX {
            bar.refused(vec![RouterId::new(&format!("r{n}"))]);
        }
        assert_eq!(bar.by.len(), ROUTERS_MAX);
    }
}
