//! The machine: what happened, time passed, when to wake, what is. The module says how to drive it.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::core::peers::closing::Closing;
use crate::core::peers::document::Document;
use crate::core::peers::doom::Doomed;
use crate::core::peers::kills::{Answer, Asked, Orphan};
use crate::core::peers::link::{Held, Link};
use crate::core::peers::membership::{Membership, View};
use crate::core::peers::rules::{Rule, Rules};
use crate::core::peers::table::{LoanId, Table};
use crate::core::slots::{Instance, Seat, ServiceSlots};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What a router does that has lost ZooKeeper and its peers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Isolated {
    /// It serves on with what the last epoch gave it.
    Serve,
    /// Two thirds of a session after the last good round trip it gives nothing of its own out.
    Stop,
}

/// Times and policies.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The session that ZooKeeper granted.
    pub session: Duration,
    /// A vanished router that is silent for so long is taken to have ended.
    pub grace: Duration,
    /// What to do alone.
    pub isolated: Isolated,
    /// A document goes out at least this often.
    pub document_every: Duration,
    /// Changes are gathered for this long.
    pub coalesce: Duration,
    /// Documents to one router take no more than this; larger ones go out less often.
    pub bytes_per_second: u64,
    /// What others wait for is looked at this often,
    pub look_every: Duration,
    /// and everything else this often.
    pub look_idle: Duration,
    /// Slots that nobody needed for so long are given back.
    pub idle_keep: Duration,
    /// Of two that wait, one is the longer waiting only if it has waited so much, and an eighth,
    /// longer.
    pub fair_slack: Duration,
    /// Slots are lent ahead of demand this often, to who asked within the last ten times.
    pub ahead_every: Duration,
    /// An owner keeps an instance locked for so long after the deadline of an order of which it
    /// hears nothing more.
    pub lock_hold: Duration,
    /// And for so long after it hears that an order is over: until then it may list an instance
    /// that has ended.
    pub lock_linger: Duration,
}

impl Settings {
    /// What the product runs with.
    pub fn new(session: Duration) -> Self {
        Self {
            session,
            grace: Duration::from_secs(1),
            isolated: Isolated::Serve,
            document_every: Duration::from_millis(100),
            coalesce: Duration::from_millis(1),
            bytes_per_second: 16 << 20,
            look_every: Duration::from_millis(2),
            look_idle: Duration::from_millis(50),
            idle_keep: Duration::from_secs(5),
            fair_slack: Duration::from_millis(20),
            ahead_every: Duration::from_secs(1),
            lock_hold: Duration::from_secs(20),
            lock_linger: Duration::from_secs(6),
        }
    }
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Effect {
    /// Send a document; drop it if there is no connection, or one is not yet sent.
    Send(RouterId, Box<Document>),
    /// To home: another router waits for a slot of this service ([`Asker::Router`]). The answer is
    /// [`Peers::granted`] or [`Peers::refused`], with the same ticket.
    ///
    /// [`Asker::Router`]: crate::core::letter::Asker::Router
    Claim(u64, ServiceId, Instant),
    /// To home: it waits no longer.
    Withdraw(u64, ServiceId),
    /// To home: a loan is over; settle its seat unused.
    Settle(Seat),
    /// To whoever checks instances: this one is due, in this slot, which is given back like that of
    /// any check. If it is not checked here, settle the seat.
    Check(Seat),
    /// To home: instances have room that had none. Hint all of the service, and look again.
    LookAgain(ServiceId),
    /// Fewer slots of an instance may be used here than before: idle connections that exceed them
    /// close.
    Spare(Arc<Instance>),
    /// To home: lock this instance if nothing is in use on it. The answer is [`Peers::locked`].
    Lock(ServiceId, InstanceId),
    /// To home: the kill is over; `true` if the instance is gone.
    Unlock(ServiceId, InstanceId, bool),
    /// To home: the service is to be deleted. New requests wait; when nothing is in use, say
    /// [`Peers::closed`].
    Close(ServiceId),
    /// To home: it is not.
    Reopen(ServiceId),
    /// The owner's answer to [`Peers::ask_kill`]. If it consents, order the kill within the time
    /// that was asked for, then tell [`Peers::kill_over`].
    Consent(u64, InstanceId, bool),
    /// Remove this router from the roster, unless it is a member: it was written off.
    Bury(RouterId),
}

/// A service that routers share.
#[derive(Clone, Debug)]
pub struct Division {
    /// Its queue and roster here.
    pub slots: Arc<ServiceSlots>,
    /// Slots of each instance.
    pub concurrency: u16,
    /// Whether slots are also lent ahead of demand.
    pub balanced: bool,
    /// The instances that may serve, in order of start and id.
    pub instances: Vec<Arc<Instance>>,
}

/// This router among its peers.
#[derive(Debug)]
pub struct Peers {
    pub(super) me: RouterId,
    pub(super) settings: Settings,
    pub(super) rules: Rules,
    pub(super) membership: Membership,
    pub(super) table: Table,
    pub(super) links: BTreeMap<RouterId, Link>,
    pub(super) held: BTreeMap<LoanId, Held>,
    pub(super) tickets: HashMap<u64, (RouterId, ServiceId)>,
    pub(super) needy: BTreeSet<ServiceId>,
    /// Services with instances that have room which had none.
    pub(super) raised: BTreeSet<ServiceId>,
    /// Instances of which loans went back.
    pub(super) spared: Vec<Arc<Instance>>,
    pub(super) next_number: u64,
    /// The highest number of a document to a router of which nothing is known any more.
    pub(super) last_seq: u64,
    /// Kills asked for here.
    pub(super) asked: BTreeMap<u64, Asked>,
    /// Kills asked of this router.
    pub(super) answers: BTreeMap<(RouterId, u64), Answer>,
    pub(super) orphans: Vec<Orphan>,
    pub(super) doomed: Doomed<InstanceId>,
    pub(super) closing: Closing,
    pub(super) leaving: bool,
    /// Owns nothing until a round trip to ZooKeeper that began later has seen it registered.
    pub(super) anew: Option<Instant>,
    /// Since when nothing starts.
    pub(super) away: Option<Instant>,
    /// Nothing of its own is given out.
    pub(super) shut: bool,
    /// When the last good round trip to ZooKeeper began.
    pub(super) proof: Option<Instant>,
    pub(super) last_tick: Instant,
    pub(super) next_look: Instant,
    pub(super) next_ahead: Instant,
    /// Times a silent member was taken as settled.
    pub(super) unproven: u64,
}

impl Peers {
    /// A router that knows nobody.
    pub fn new(me: RouterId, settings: Settings, now: Instant) -> Self {
        Self::with_rules(me, settings, Rules::ALL, now)
    }

    /// The same with a rule left out: for the simulator alone.
    #[doc(hidden)]
    pub fn with_rules(me: RouterId, settings: Settings, rules: Rules, now: Instant) -> Self {
        Self {
            me,
            settings,
            rules,
            membership: Membership::new(now),
            table: Table::default(),
            links: BTreeMap::new(),
            held: BTreeMap::new(),
            tickets: HashMap::new(),
            needy: BTreeSet::new(),
            raised: BTreeSet::new(),
            spared: Vec::new(),
            next_number: 0,
            last_seq: 0,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
            orphans: Vec::new(),
            doomed: Doomed::default(),
            closing: Closing::default(),
            leaving: false,
            anew: None,
            away: None,
            shut: false,
            proof: None,
            last_tick: now,
            next_look: now,
            next_ahead: now,
            unproven: 0,
        }
    }

    /// The server granted a session of this length.
    pub fn session(&mut self, granted: Duration) {
        self.settings.session = granted;
    }

    /// A node for this router is about to be created in ZooKeeper, for the first time or again.
    /// Said before the request for it is sent: from here on nothing is owned.
    pub fn registering(&mut self, now: Instant) {
        if !self.rules.has(Rule::Anew) {
            return;
        }
        self.anew = Some(now);
        let own: Vec<InstanceId> = {
            let all = self.table.instances.iter();
            all.filter(|(_, it)| it.own).map(|(id, _)| id.clone()).collect()
        };
        for id in own {
            self.table.lose(&id);
            self.table.won.insert(id);
        }
        self.dirty_all();
    }

    /// A round trip to ZooKeeper on the session of this router, with a write or a sync in it, so
    /// that a server which lags behind cannot answer. It began then.
    pub fn zookeeper(&mut self, view: &View, began: Instant, now: Instant) {
        self.adopt(view.epoch, &view.members, now);
        if self.rules.has(Rule::Roster) {
            for router in &view.roster {
                self.membership.told_of(&self.me, router, view.epoch, now);
            }
        }
        if view.members.iter().any(|it| it.id == self.me) {
            self.proof = self.proof.max(Some(began));
            self.anew = self.anew.filter(|since| began < *since);
        }
        if self.away.is_some_and(|since| began >= since) {
            self.away = None;
        }
        self.judge_rights(now);
    }

    /// What a service is divided into now; nothing, if it is gone. The limits of its instances are
    /// written here from now on.
    pub fn service(&mut self, service: &ServiceId, division: &Division, now: Instant) {
        for id in self.table.update(&self.me, service, division, now) {
            if let Some(it) = self.table.instances.get_mut(&id) {
                it.doomed = self.doomed.has(&id);
            }
            self.count_debts(&id);
            self.refresh(&id);
        }
        self.dirty_concerned(service);
    }

    /// So many requests wait for a service at home, the first of them since then.
    pub fn demand(
        &mut self,
        service: &ServiceId,
        (waiting, oldest): (u32, Option<Instant>),
        now: Instant,
    ) {
        let Some(entry) = self.table.services.get_mut(service) else { return };
        if (entry.waiting, entry.oldest) == (waiting, oldest) {
            return;
        }
        (entry.waiting, entry.oldest) = (waiting, oldest);
        if waiting > 0 {
            entry.active = now;
            self.needy.insert(service.clone());
        } else {
            self.needy.remove(service);
        }
        self.dirty_concerned(service);
    }

    /// This router is to leave: it borrows nothing more. Its node has been, or will be, removed.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.dirty_all();
    }

    /// Whether nothing of any shared instance is in use here, lent, or about to be killed: then a
    /// router that has left may remove itself from the roster and end.
    pub fn owes_nothing(&self) -> bool {
        let idle = |link: &Link| link.lent.is_empty();
        let unused = self.table.instances.values().all(|it| it.instance.word.used() == 0);
        unused
            && self.dying().next().is_none()
            && self.held.is_empty()
            && self.links.values().all(idle)
    }

    /// The process ends: the seats of what is lent, to be released.
    pub fn into_seats(self) -> impl Iterator<Item = Seat> {
        self.links.into_values().flat_map(|it| it.lent.into_values()).map(|it| it.seat)
    }

    /// Time passed. To be called at every turn of the loop, before anything else that it does.
    pub fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let third = self.settings.session / 3;
        if now - self.last_tick > third && self.rules.has(Rule::Away) {
            self.away = Some(now);
        }
        if self.away.is_some_and(|since| now - since > self.settings.session) {
            self.away = None;
        }
        self.last_tick = now;
        self.judge_rights(now);
        self.write_off(now, effects);
        self.tick_closing(now, effects);
        self.settle(now);
        if now >= self.next_look {
            self.look(now);
        }
        if now >= self.next_ahead {
            self.next_ahead = now + self.settings.ahead_every;
            self.lend_ahead(now);
            self.drop_links();
        }
        self.tick_kills(now, effects);
        self.reclaim_all(now, effects);
        self.write(now, effects);
        self.flush(effects);
    }

    /// When the next tick is due at the latest.
    pub fn wakeup(&self) -> Instant {
        let links = self.links.iter().filter(|(id, _)| self.is_addressed(id));
        let next = links.map(|(_, it)| self.due(it)).min();
        let pending = !self.table.won.is_empty() || !self.membership.vanished.is_empty();
        let soon = self.last_tick + self.settings.look_every * 5;
        let next = next.map_or(self.next_look, |it| it.min(self.next_look));
        if pending { next.min(soon) } else { next }
    }

    /// Until when what is open now may be used without another turn of this machine. A shard whose
    /// turn begins later starts nothing until the machine has had one.
    pub fn fence(&self) -> Instant {
        let third = self.settings.session / 3;
        let trusted = self.links.values().filter(|it| it.trusted);
        let words = trusted.filter_map(|it| Some(it.heard.as_ref()?.proved + third));
        words.min().map_or(self.last_tick + third, |it| it.min(self.last_tick + third))
    }

    /// What must be done at home before anything else happens there.
    pub(super) fn flush(&mut self, effects: &mut Vec<Effect>) {
        effects.extend(std::mem::take(&mut self.raised).into_iter().map(Effect::LookAgain));
        effects.extend(self.spared.drain(..).map(Effect::Spare));
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn dirty_all(&mut self) {
        self.links.values_mut().for_each(|it| it.dirty = true);
    }

    /// Whoever lends or borrows slots of this service is to hear of it.
    fn dirty_concerned(&mut self, service: &ServiceId) {
        let Some(entry) = self.table.services.get(service) else { return };
        for (id, link) in &mut self.links {
            let lends = entry.owners.contains_key(id);
            link.dirty |= lends || link.lent_of.contains_key(service);
            link.reclaims = true;
        }
    }
}
