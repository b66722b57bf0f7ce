//! The roster of a service: its serveable instances in order of preference, and where room may be.
//!
//! Written by the control thread, whole; hints of room are set and cleared by all shards.

use crate::base::ids::ShardId;
use crate::core::service::LoadBalancing;
use crate::core::slots::room::Room;
use crate::core::slots::{Instance, Waiting};
use arc_swap::ArcSwap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Candidates looked at for one that this shard already has a connection to.
const NEAR_LOOK: usize = 4;

/// What all versions of a service share: who waits, and the newest roster.
#[derive(Debug)]
pub struct ServiceSlots {
    /// How many requests wait at home.
    pub waiting: Waiting,
    roster: ArcSwap<Roster>,
    shared: AtomicBool,
}

/// The serveable instances of a service: live ones first, oldest to youngest, then expired ones,
/// youngest to oldest.
#[derive(Debug)]
pub struct Roster {
    instances: Box<[Arc<Instance>]>,
    live: usize,
    room: Room,
    balancing: LoadBalancing,
}

impl Default for ServiceSlots {
    fn default() -> Self {
        Self {
            waiting: Waiting::default(),
            roster: ArcSwap::from_pointee(Roster::new(Vec::new(), 0, LoadBalancing::Oldest)),
            shared: AtomicBool::new(false),
        }
    }
}

impl ServiceSlots {
    /// Publishes a new roster. The control thread only.
    pub fn publish(&self, roster: Arc<Roster>) {
        for (at, instance) in roster.instances.iter().enumerate() {
            instance.place.store(u32::try_from(at).expect("bounded"), Ordering::Release);
        }
        self.roster.store(roster);
    }

    /// Routers share the instances of this service. The control thread only, once.
    pub fn share(&self) {
        self.shared.store(true, Ordering::Release);
    }

    /// Whether routers share its instances.
    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Acquire)
    }

    /// The newest roster.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.load_full()
    }

    /// Takes a slot of the instance that comes first, avoiding those in `not` (see
    /// [`accepts`](Self::accepts)). `salt` is any number that varies (for random balancing).
    pub fn take(&self, shard: ShardId, not: &[Arc<Instance>], salt: u64) -> Option<Arc<Instance>> {
        let roster = self.roster.load();
        roster.take(shard, roster.avoided(not), salt).cloned()
    }

    /// Takes a slot for another router, of the first instance that is not itself borrowed.
    pub fn take_own(&self) -> Option<Arc<Instance>> {
        let roster = self.roster.load();
        let mut places = roster.room.up(0..roster.instances.len());
        let found = places.find(|at| roster.instances[*at].word.take_own());
        found.map(|at| roster.instances[at].clone())
    }

    /// Says that an instance has room again, after its slot was put. Returns whether that was news.
    pub fn hint(&self, instance: &Arc<Instance>) -> bool {
        let roster = self.roster.load();
        roster.place_of(instance).is_some_and(|at| roster.room.hint(at))
    }

    /// Says that every instance may have room.
    pub fn hint_all(&self) {
        let roster = self.roster.load();
        (0..roster.instances.len()).for_each(|at| {
            roster.room.hint(at);
        });
    }

    /// Whether the instance serves now, and may serve somebody who avoids those in `not`. Where
    /// nothing else serves, nothing is avoided: a second failure is told sooner than a timeout.
    pub fn accepts(&self, instance: &Arc<Instance>, not: &[Arc<Instance>]) -> bool {
        let roster = self.roster.load();
        roster.place_of(instance).is_some() && !is_among(roster.avoided(not), instance)
    }
}

impl Roster {
    /// A roster of instances in order of preference, of which the first `live` are not expired.
    /// Every instance is taken to have room.
    pub fn new(instances: Vec<Arc<Instance>>, live: usize, balancing: LoadBalancing) -> Self {
        assert!(live <= instances.len());
        let room = Room::new(instances.len());
        Self { instances: instances.into(), live, room, balancing }
    }

    /// The instances, in order of preference.
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }

    fn take(&self, shard: ShardId, not: &[Arc<Instance>], salt: u64) -> Option<&Arc<Instance>> {
        let end = self.instances.len();
        match self.balancing {
            LoadBalancing::Oldest => self.take_up(0..end, shard, not),
            LoadBalancing::Youngest => {
                self.take_down(self.live, not).or_else(|| self.take_up(self.live..end, shard, not))
            }
            LoadBalancing::Random => {
                let start = usize::try_from(salt % (self.live.max(1) as u64)).expect("small");
                self.take_up(start..self.live, shard, not)
                    .or_else(|| self.take_up(0..start, shard, not))
                    .or_else(|| self.take_up(self.live..end, shard, not))
            }
        }
    }

    /// Takes from the first with room; among the first few, one near this shard is preferred, for
    /// it saves a connection.
    fn take_up(
        &self,
        range: Range<usize>,
        shard: ShardId,
        not: &[Arc<Instance>],
    ) -> Option<&Arc<Instance>> {
        let mut first = None;
        for at in self.room.up(range.clone()).take(NEAR_LOOK) {
            if self.instances[at].is_near(shard) && self.try_take(at, not) {
                return Some(&self.instances[at]);
            }
            first = first.or(Some(at));
        }
        let first = first?;
        self.room
            .up(first..range.end)
            .find(|at| self.try_take(*at, not))
            .map(|at| &self.instances[at])
    }

    fn take_down(&self, end: usize, not: &[Arc<Instance>]) -> Option<&Arc<Instance>> {
        self.room.down(end).find(|at| self.try_take(*at, not)).map(|at| &self.instances[at])
    }

    fn try_take(&self, at: usize, not: &[Arc<Instance>]) -> bool {
        let instance = &self.instances[at];
        !is_among(not, instance) && self.room.take(at, &instance.word)
    }

    /// What is really avoided: `not`, as long as anything else serves.
    fn avoided<'a>(&self, not: &'a [Arc<Instance>]) -> &'a [Arc<Instance>] {
        let other = |it: &Arc<Instance>| !is_among(not, it) && it.word.is_open();
        if not.is_empty() || self.instances.iter().any(other) { not } else { &[] }
    }

    fn place_of(&self, instance: &Arc<Instance>) -> Option<usize> {
        let at = instance.place.load(Ordering::Acquire) as usize;
        match self.instances.get(at) {
            Some(found) if Arc::ptr_eq(found, instance) => Some(at),
            // A roster is being replaced: its places are written just before it is.
            _ => self.instances.iter().position(|it| Arc::ptr_eq(it, instance)),
        }
    }
}

fn is_among(list: &[Arc<Instance>], instance: &Arc<Instance>) -> bool {
    list.iter().any(|it| Arc::ptr_eq(it, instance))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Date;
    use crate::core::slots::Gate;

    fn slots(count: u64, live: usize, balancing: LoadBalancing) -> ServiceSlots {
        let instances = (0..count)
            .map(|n| {
                let address = "127.0.0.1:1".parse().expect("address");
                Arc::new(Instance::new(&n.to_string(), address, Date(n), 1))
            })
            .collect();
        let slots = ServiceSlots::default();
        slots.publish(Arc::new(Roster::new(instances, live, balancing)));
        slots
    }

    fn take(slots: &ServiceSlots, salt: u64) -> Option<String> {
        slots.take(ShardId(0), &[], salt).map(|it| it.suffix().to_owned())
    }

    #[test]
    fn the_order_of_preference_is_kept() {
        let oldest = slots(130, 130, LoadBalancing::Oldest);
        let taken: Vec<_> = std::iter::from_fn(|| take(&oldest, 0)).collect();
        assert_eq!(taken, (0..130).map(|it| it.to_string()).collect::<Vec<_>>());

        let youngest = slots(4, 3, LoadBalancing::Youngest);
        let taken: Vec<_> = std::iter::from_fn(|| take(&youngest, 0)).collect();
        assert_eq!(taken, ["2", "1", "0", "3"], "live before expired");

        let random = slots(4, 3, LoadBalancing::Random);
        let taken: Vec<_> = std::iter::from_fn(|| take(&random, 1)).collect();
        assert_eq!(taken, ["1", "2", "0", "3"]);
    }

    #[test]
    fn a_slot_that_was_put_is_found_again_also_in_a_later_roster() {
        let slots = slots(70, 70, LoadBalancing::Oldest);
        let all: Vec<_> = std::iter::from_fn(|| slots.take(ShardId(0), &[], 0)).collect();
        assert_eq!(all.len(), 70);
        assert!(take(&slots, 0).is_none());
        let mut rest = slots.roster().instances().to_vec();
        rest.rotate_left(1);
        slots.publish(Arc::new(Roster::new(rest, 70, LoadBalancing::Oldest)));
        assert!(take(&slots, 0).is_none());
        all[65].word.release();
        slots.hint(&all[65]);
        assert_eq!(take(&slots, 0).as_deref(), Some("65"));
    }

    #[test]
    fn near_is_preferred_and_excluded_is_avoided() {
        let slots = slots(3, 3, LoadBalancing::Oldest);
        let roster = slots.roster();
        let _ = roster.instances()[1].connection_opened(ShardId(0));
        assert_eq!(take(&slots, 0).as_deref(), Some("1"));
        let not = [roster.instances()[0].clone()];
        let got = slots.take(ShardId(0), &not, 0).expect("2 is left");
        assert_eq!(got.suffix(), "2");
        assert!(slots.take(ShardId(0), &not, 0).is_none());
        assert_eq!(take(&slots, 0).as_deref(), Some("0"));
    }

    #[test]
    fn what_alone_serves_is_not_avoided() {
        let slots = slots(2, 2, LoadBalancing::Oldest);
        let all = slots.roster().instances().to_vec();
        let not = [all[0].clone()];
        assert!(!slots.accepts(&all[0], &not) && slots.accepts(&all[1], &not));
        all[1].word.close(Gate::Ejected);
        assert!(slots.accepts(&all[0], &not));
        assert_eq!(slots.take(ShardId(0), &not, 0).expect("it is free").suffix(), "0");
    }
}
