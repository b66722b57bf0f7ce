//! What a shard counts of each service, and what of it is news.
//!
//! A service is *lively* from the moment a request of it arrives until a pulse finds it at rest. A
//! pulse looks at lively services only, so it costs what happens and not what is known. A service
//! at rest is forgotten some minutes after its last request.
//!
//! Must hold: whatever changes a service's counters makes it lively; it stands in each of the
//! two lists once at most.

use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::core::histogram::Latency;
use crate::core::pulse::{Beat, Counters};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

/// How long after its last request a service at rest is forgotten.
const REMEMBERED: Duration = Duration::from_secs(300);
/// Services that one pulse forgets at most.
const FORGOTTEN_MOST: usize = 64;

#[derive(Debug, Default)]
struct Tally {
    counters: Counters,
    lively: bool,
    ageing: bool,
}

#[derive(Debug, Default)]
pub(super) struct Tallies {
    all: HashMap<ServiceId, Tally, foldhash::fast::FixedState>,
    lively: Vec<ServiceId>,
    /// To be forgotten then, unless a request came meanwhile.
    ageing: VecDeque<(Instant, ServiceId)>,
}

impl Tallies {
    /// A service of which something is to be counted that begins.
    pub(super) fn begins(&mut self, service: ServiceId) -> &mut Counters {
        let mut place = match self.all.entry(service) {
            Entry::Occupied(it) => it,
            Entry::Vacant(it) => it.insert_entry(Tally::default()),
        };
        if !std::mem::replace(&mut place.get_mut().lively, true) {
            self.lively.push(place.key().clone());
        }
        &mut place.into_mut().counters
    }

    /// A service of which something ends that had begun.
    pub(super) fn ends(&mut self, service: &ServiceId) -> Option<&mut Counters> {
        self.all.get_mut(service).map(|it| &mut it.counters)
    }

    /// Tells how long requests took and what else is new of each lively service; those at rest are
    /// lively no more.
    pub(super) fn pulse(
        &mut self,
        now: Instant,
        mut tell: impl FnMut(&ServiceId, Option<Latency<u32>>, Option<Beat>),
    ) {
        let (all, ageing) = (&mut self.all, &mut self.ageing);
        self.lively.retain(|id| {
            let tally = all.get_mut(id).expect("lively services are known");
            let latency = tally.counters.take_latency();
            tell(id, latency, tally.counters.take(now));
            tally.lively = !tally.counters.is_at_rest();
            if !tally.lively && !std::mem::replace(&mut tally.ageing, true) {
                ageing.push_back((tally.counters.last_request() + REMEMBERED, id.clone()));
            }
            tally.lively
        });
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        for _ in 0..FORGOTTEN_MOST {
            let Some((_, id)) = self.ageing.pop_front_if(|(at, _)| *at <= now) else { return };
            let tally = &self.all[&id];
            let due = tally.counters.last_request() + REMEMBERED;
            if tally.lively || due > now {
                let again = if tally.lively { now + REMEMBERED } else { due };
                self.ageing.push_back((again, id));
            } else {
                self.all.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ServiceId {
        ServiceId::new(&format!("waiter-service-{number}"))
    }

    /// Who is told of, at this second.
    fn told(tallies: &mut Tallies, second: u64) -> Vec<(ServiceId, u32)> {
        let mut told = Vec::new();
        tallies.pulse(Instant(second * 1_000_000_000), |id, _, beat| {
            told.extend(beat.map(|it| (id.clone(), it.arrivals)));
        });
        told
    }

    #[test]
    fn a_pulse_tells_what_happens_and_forgets_what_rests() {
        let mut tallies = Tallies::default();
        for number in 0..3 {
            tallies.begins(id(number)).arrived(Instant(1));
        }
        assert_eq!(told(&mut tallies, 1).len(), 3);
        for number in 0..2 {
            tallies.ends(&id(number)).expect("known").ended(None, Instant(2_000_000_000));
        }
        assert_eq!(told(&mut tallies, 3).len(), 3, "two ended, one goes on");
        assert_eq!(told(&mut tallies, 4), [(id(2), 0)]);
        tallies.begins(id(0)).arrived(Instant(5_000_000_000));
        tallies.begins(id(0)).ended(None, Instant(6_000_000_000));
        assert_eq!(told(&mut tallies, 6), [(id(2), 0), (id(0), 1)]);
        // Five minutes after the last request of one, and before those of the others.
        told(&mut tallies, 302);
        assert!(tallies.ends(&id(1)).is_none(), "it rests, and is forgotten");
        assert!(tallies.ends(&id(0)).is_some() && tallies.ends(&id(2)).is_some());
        told(&mut tallies, 306);
        assert!(tallies.ends(&id(0)).is_none());
        assert_eq!(told(&mut tallies, 1000), [(id(2), 0)], "what goes on is never forgotten");
        assert_eq!((tallies.all.len(), tallies.lively.len()), (1, 1));
    }
}
