//! Every instance that routers share: whose it is, and what is known of its slots here.
//!
//! The only writer of the limits in these instances' words. Must hold: `limit` is lowered before
//! anybody is told of it, and use is read after that; so what is told covers whatever runs.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::Instant;
use crate::core::distribution::{Rank, rank_of};
use crate::core::peers::document::Member;
use crate::core::peers::machine::Division;
use crate::core::slots::{Gate, Instance, ServiceSlots};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// A loan that another router gave: the lender and its number there.
pub(super) type LoanId = (RouterId, u64);

/// A shared instance.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) instance: Arc<Instance>,
    pub(super) service: ServiceId,
    /// How many slots it has.
    pub(super) slots: u16,
    /// The router of rank 0.
    pub(super) owner: Option<RouterId>,
    rank: Rank,
    /// Its slots are given out here: it is owned, and the router has settled.
    pub(super) own: bool,
    /// What other routers owe.
    pub(super) owed: u32,
    /// Slots of it that are lent.
    pub(super) lent: u32,
    /// Loans of it that are held.
    pub(super) loans: Vec<LoanId>,
    /// It is locked for a kill that this router consented to.
    pub(super) locked: bool,
    /// Its kill has been consented to, and was ordered or may be.
    pub(super) dying: bool,
    /// A router that vanished was about to kill it, and its order may still be carried out.
    pub(super) doomed: bool,
    /// What is lent of it is called back, and no more is lent.
    pub(super) recalled: bool,
    /// Its check waits for a loan to come home.
    pub(super) unchecked: bool,
    /// The scheduler knows it.
    pub(super) present: bool,
    /// What ran here when it was won, by another right.
    pub(super) inherited: u16,
    /// The debt as it was last looked at.
    pub(super) debt: u32,
}

/// A service whose instances routers share.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) instances: Vec<InstanceId>,
    /// How many instances each router owns.
    pub(super) owners: BTreeMap<RouterId, u32>,
    /// Slots that are given out here.
    pub(super) own_slots: u32,
    /// Requests that wait at home, and since when the first of them does.
    pub(super) waiting: u32,
    pub(super) oldest: Option<Instant>,
    /// When a request last waited, or ran on a borrowed slot.
    pub(super) active: Instant,
    /// Who asked for slots lately, and when.
    pub(super) interest: BTreeMap<RouterId, Instant>,
    pub(super) balanced: bool,
    pub(super) slots: Arc<ServiceSlots>,
    /// The shares as they were last computed, and in which epoch; none, since instances changed.
    pub(super) shares: Option<(u64, Arc<Shares>)>,
}

/// Of each member, instances and how many of their slots.
pub(super) type Shares = Vec<(RouterId, Vec<(InstanceId, u32)>)>;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) instances: Map<InstanceId, Shared>,
    pub(super) services: Map<ServiceId, Entry>,
    /// Owned, but the router has not settled since it won them.
    pub(super) won: BTreeSet<InstanceId>,
    /// Not given out here, and something of them may be in use: looked at again and again.
    pub(super) watched: BTreeSet<InstanceId>,
    members: Vec<RouterId>,
}

impl Table {
    /// The instances a service has now; returns those that are new or gone.
    pub(super) fn update(
        &mut self,
        me: &RouterId,
        service: &ServiceId,
        division: &Division,
        now: Instant,
    ) -> Vec<InstanceId> {
        let instances = &division.instances;
        let ids: Vec<InstanceId> = instances.iter().map(|it| it.id(service)).collect();
        let entry = self.services.entry(service.clone());
        let entry = entry.or_insert_with(|| Entry::new(division.slots.clone(), now));
        entry.balanced = division.balanced;
        entry.slots = division.slots.clone();
        if entry.instances != ids {
            entry.shares = None;
        }
        let old = std::mem::replace(&mut entry.instances, ids.clone());
        let kept: BTreeSet<&InstanceId> = ids.iter().collect();
        let gone: Vec<_> = old.into_iter().filter(|it| !kept.contains(it)).collect();
        let mut changed = Vec::new();
        for id in gone {
            self.depart(&id);
            changed.push(id);
        }
        for (id, instance) in ids.into_iter().zip(instances) {
            let known = self.instances.get(&id);
            if known.is_some_and(|it| it.present && Arc::ptr_eq(&it.instance, instance)) {
                continue;
            }
            self.arrive(me, &id, (service, division.concurrency), instance.clone());
            changed.push(id);
        }
        changed
    }

    fn depart(&mut self, id: &InstanceId) {
        self.lose(id);
        let it = self.instances.get_mut(id).expect("it was listed");
        it.present = false;
        self.watched.insert(id.clone());
        self.won.remove(id);
        let (service, owner) = (it.service.clone(), it.owner.clone());
        self.count(&service, owner.as_ref(), -1);
    }

    fn arrive(
        &mut self,
        me: &RouterId,
        id: &InstanceId,
        (service, slots): (&ServiceId, u16),
        instance: Arc<Instance>,
    ) {
        let (owner, rank) = lowest(&self.members, id);
        instance.word.close(Gate::Foreign);
        instance.word.set_limit(0);
        let fresh = Shared {
            instance,
            service: service.clone(),
            slots,
            owner: owner.clone(),
            rank,
            own: false,
            owed: 0,
            lent: 0,
            loans: Vec::new(),
            locked: false,
            dying: false,
            doomed: false,
            recalled: false,
            unchecked: false,
            present: true,
            inherited: 0,
            debt: 0,
        };
        match self.instances.get_mut(id) {
            // It kept its word while anything of it was in use.
            Some(it) => {
                it.present = true;
                it.owner = owner.clone();
                it.rank = rank;
                it.instance = fresh.instance;
            }
            None => {
                self.instances.insert(id.clone(), fresh);
            }
        }
        if owner.as_ref() == Some(me) {
            self.won.insert(id.clone());
        }
        self.count(service, owner.as_ref(), 1);
    }

    /// Owners are those of this membership; returns whose owner changed.
    pub(super) fn reown(
        &mut self,
        me: &RouterId,
        members: &BTreeMap<RouterId, Member>,
    ) -> Vec<InstanceId> {
        let new: Vec<RouterId> = members.keys().cloned().collect();
        let old = std::mem::replace(&mut self.members, new);
        let joined: Vec<RouterId> = {
            let fresh = self.members.iter().filter(|it| old.binary_search(it).is_err());
            fresh.cloned().collect()
        };
        let mut moved = Vec::new();
        for (id, it) in &mut self.instances {
            let stays = it.owner.as_ref().filter(|owner| members.contains_key(*owner));
            // A newcomer is measured against the owner; only who lost his owner looks at all.
            let (owner, rank) = match stays {
                Some(owner) => {
                    let (best, rank) = lowest(&joined, id);
                    let challenger = best.map(|it| (rank, it));
                    let holder = (it.rank, owner.clone());
                    let (rank, owner) = match challenger {
                        Some(it) => it.min(holder),
                        None => holder,
                    };
                    (Some(owner), rank)
                }
                None => lowest(&self.members, id),
            };
            it.rank = rank;
            if owner != it.owner {
                moved.push((
                    id.clone(),
                    it.service.clone(),
                    std::mem::replace(&mut it.owner, owner),
                ));
            }
        }
        for (id, service, before) in &moved {
            let it = &self.instances[id];
            let after = it.owner.clone();
            if it.present {
                self.count(service, before.as_ref(), -1);
                self.count(service, after.as_ref(), 1);
            }
            if after.as_ref() == Some(me) && self.instances[id].present {
                self.won.insert(id.clone());
            } else if before.as_ref() == Some(me) {
                self.won.remove(id);
                self.lose(id);
            }
        }
        moved.into_iter().map(|(id, ..)| id).collect()
    }

    /// Its slots are given out here from now on.
    pub(super) fn take_over(&mut self, id: &InstanceId) {
        let it = self.instances.get_mut(id).expect("it was won");
        assert!(!it.own && it.present);
        it.own = true;
        it.inherited = it.instance.word.used();
        it.debt = 0;
        let entry = self.services.get_mut(&it.service).expect("it is of a service");
        entry.own_slots += u32::from(it.slots);
    }

    /// Its slots are not given out here any more.
    pub(super) fn lose(&mut self, id: &InstanceId) {
        let it = self.instances.get_mut(id).expect("it exists");
        if it.own {
            it.own = false;
            it.instance.word.close(Gate::Foreign);
            it.instance.word.set_limit(0);
            let entry = self.services.get_mut(&it.service).expect("it is of a service");
            entry.own_slots -= u32::from(it.slots);
        }
        self.watched.insert(id.clone());
    }

    /// Forgets an instance that is gone and of which nothing is in use.
    pub(super) fn forget(&mut self, id: &InstanceId) {
        let Some(it) = self.instances.get(id) else { return };
        let in_use = it.instance.word.used() > 0 || it.lent > 0 || !it.loans.is_empty();
        if it.present || in_use || it.locked || it.dying || it.doomed {
            return;
        }
        let it = self.instances.remove(id).expect("it was just seen");
        if self
            .services
            .get(&it.service)
            .is_some_and(|it| it.instances.is_empty() && it.waiting == 0)
        {
            self.services.remove(&it.service);
        }
    }

    fn count(&mut self, service: &ServiceId, owner: Option<&RouterId>, by: i32) {
        let (Some(owner), Some(entry)) = (owner, self.services.get_mut(service)) else { return };
        let count = entry.owners.entry(owner.clone()).or_default();
        *count = count.checked_add_signed(by).expect("counted before");
        if *count == 0 {
            entry.owners.remove(owner);
        }
    }
}

impl Shared {
    /// Whether nothing but loans keeps it from being locked.
    pub(super) fn is_lent_alone(&self) -> bool {
        let lent = self.own && self.lent > 0 && self.owed == 0 && !self.locked;
        lent && u32::from(self.instance.word.used()) == self.lent
    }
}

impl Entry {
    fn new(slots: Arc<ServiceSlots>, now: Instant) -> Self {
        Self {
            instances: Vec::new(),
            owners: BTreeMap::new(),
            own_slots: 0,
            waiting: 0,
            oldest: None,
            active: now,
            interest: BTreeMap::new(),
            balanced: true,
            slots,
            shares: None,
        }
    }
}

/// The router of the lowest rank, and that rank.
fn lowest(routers: &[RouterId], id: &InstanceId) -> (Option<RouterId>, Rank) {
    let ranks = routers.iter().map(|it| (rank_of(it.as_str(), id.as_str()), it));
    match ranks.min() {
        Some((rank, router)) => (Some(router.clone()), rank),
        None => (None, [0xff; 16]),
    }
}
