//! What happens to the control loop of a router in a cluster.
//!
//! Must hold: a turn begins with the machine's tick and ends with the fence; what the machine wants
//! of a home goes there in the order in which it was wanted.

use crate::base::ids::{InstanceId, RouterId, ServiceId, ShardId, Ticket};
use crate::base::time::{Date, Duration, Instant};
use crate::control::cluster::{Ask, Heard, Said, Tell};
use crate::control::plane::Plane;
use crate::control::prober::Probe;
use crate::control::publisher::Publisher;
use crate::core::fact::Runner;
use crate::core::letter::{Asker, Claim, Command, Notice};
use crate::core::peers::{Division, Effect, Peers};
use crate::core::service::Description;
use crate::core::slots::Instance;
use crate::mesh::clock;
use std::sync::Arc;

/// At the end, others have so long to take over what this router gave them.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

impl Plane {
    /// Before anything else of a turn.
    pub(in crate::control) fn begin_turn(&mut self, now: Instant) {
        self.with_peers(|peers, effects| peers.tick(now, effects));
        self.say_routers();
    }

    /// After everything else of a turn.
    pub(in crate::control) fn end_turn(&mut self, now: Instant, date: Date) {
        self.close_services(now);
        if self.cluster.as_ref().is_some_and(|it| now >= it.next_telling) {
            self.tell_others(now, date);
        } else if self.cluster.as_ref().is_some_and(|it| now >= it.next_word) {
            self.tell_at_once(now);
        }
        let Some(cluster) = &mut self.cluster else { return };
        cluster.put_right(now);
        self.post.put_fence(cluster.peers.fence());
        let leads = cluster.leads(now);
        if leads != cluster.led {
            cluster.led = leads;
            tracing::info!(
                leads,
                "this router {} the cluster",
                if leads { "leads" } else { "does not lead" }
            );
        }
    }

    /// How long the next turn can wait.
    pub(in crate::control) fn cluster_nap(&self, now: Instant) -> Duration {
        let Some(cluster) = &self.cluster else { return Duration::MAX };
        cluster.peers.wakeup().min(cluster.next_telling).min(cluster.next_word) - now
    }

    /// Whether routers share the instances of a service that is described so.
    pub(in crate::control) fn shares(&self, description: &Description) -> bool {
        let runner = || self.runners.of(&description.parameters);
        self.cluster.is_some() && (description.is_static() || runner() == Some(Runner::Marathon))
    }

    /// The same, of a service by its id.
    pub(in crate::control) fn shares_service(&self, service: &ServiceId) -> bool {
        let known = self.aggregator.description(service).or_else(|| self.shelf.get(service));
        known.is_some_and(|it| self.shares(it))
    }

    /// Whether this router decides for a service now.
    pub(in crate::control) fn decides(&self, service: &ServiceId, now: Instant) -> bool {
        !self.shares_service(service) || self.cluster.as_ref().is_some_and(|it| it.leads(now))
    }

    /// A service has these instances now.
    pub(in crate::control) fn divide(&mut self, service: &ServiceId, now: Instant) {
        self.divide_into(service, |it| it.instances(service), now);
    }

    /// A service is gone.
    pub(in crate::control) fn undivide(&mut self, service: &ServiceId) {
        self.divide_into(service, |_| Vec::new(), clock::now());
    }

    fn divide_into(
        &mut self,
        service: &ServiceId,
        instances: impl FnOnce(&Publisher) -> Vec<Arc<Instance>>,
        now: Instant,
    ) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(slots) = self.publisher.slots(service).filter(|it| it.is_shared()) else { return };
        let described = self.aggregator.description(service);
        let division = Division {
            slots: slots.clone(),
            concurrency: described.map_or(1, |it| it.parameters.concurrency_level),
            balanced: cluster.terms.balanced,
            instances: instances(&self.publisher),
        };
        cluster.peers.service(service, &division, now);
    }

    /// The session's thread says something.
    pub(in crate::control) fn said(&mut self, said: Said, now: Instant, date: Date) {
        let Some(cluster) = &mut self.cluster else { return };
        match said {
            Said::Registering(may) => {
                cluster.registers(now);
                let _ = may.send(()); // who asked waits, or has given up
            }
            Said::Granted(session) => {
                tracing::info!(?session, "ZooKeeper granted a session");
                cluster.peers.session(session);
                cluster.lease.granted(session);
                cluster.session = Some(session);
            }
            Said::Seen(seen) => {
                let me = &cluster.terms.me;
                let is_member = seen.view.members.iter().any(|it| it.id == *me);
                let is_first = is_member && seen.first.as_ref() == Some(me);
                cluster.proves(is_first, seen.began);
                cluster.peers.zookeeper(&seen.view, seen.began, now);
                if let Some((since, _)) = cluster.lost.take() {
                    let lasted = date.since(since);
                    tracing::info!(?lasted, server = seen.server, "ZooKeeper is there");
                }
                cluster.seen = Some(seen);
                cluster.connected = 0;
            }
            Said::Lost(why, heard) => {
                cluster.session = None;
                cluster.steps_down(now);
                let _ = heard.send(()); // who asked waits, or has given up
                cluster.misses(why, date);
            }
            Said::Left => cluster.has_left = true,
        }
        self.shelf.touch();
    }

    /// Another router says something.
    pub(in crate::control) fn heard(&mut self, heard: Heard, now: Instant) {
        match heard {
            Heard::Document(from, document) => {
                self.with_peers(|peers, effects| peers.heard(&from, *document, now, effects));
            }
            Heard::Counters(from, counters) => self.heard_counters(&from, *counters, now),
        }
    }

    /// A check of an instance was left out, for all its slots are taken.
    pub(in crate::control) fn unchecked(&mut self, instance: &InstanceId) {
        self.with_peers(|peers, _| peers.unchecked(instance));
    }

    /// Home answers what the machine asked of it.
    pub(in crate::control) fn answered(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Granted(ticket, seat) => {
                self.with_peers(|peers, effects| peers.granted(ticket, seat, now, effects));
            }
            Notice::Denied(ticket) => self.with_peers(|peers, _| peers.refused(ticket)),
            Notice::LockedThis(instance, locked) => {
                self.with_peers(|peers, effects| peers.locked(&instance, locked, effects));
            }
            Notice::Demand(service, count, oldest) => {
                self.with_peers(|peers, _| peers.demand(&service, (count, oldest), now));
            }
            other => unreachable!("the loop answers {other:?} itself"),
        }
    }

    /// Lets the machine act, and does what it wants.
    pub(super) fn with_peers(&mut self, act: impl FnOnce(&mut Peers, &mut Vec<Effect>)) {
        let Some(cluster) = &mut self.cluster else { return };
        let mut effects = std::mem::take(&mut cluster.effects);
        act(&mut cluster.peers, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.effects = effects;
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let Some(cluster) = &mut self.cluster else { return };
        match effect {
            Effect::Send(to, document) => (cluster.ways.tell)(Tell::Document(to, document)),
            Effect::Bury(router) => {
                let _ = cluster.ways.ask.send(Ask::Bury(router)); // it ends with the router
            }
            Effect::Claim(number, service, since) => {
                let claim = Claim {
                    ticket: ticket(number),
                    service: service.clone(),
                    description: None,
                    not: Vec::new(),
                    since,
                    asker: Asker::Router,
                };
                self.home(&service, Command::Claim(claim));
            }
            Effect::Withdraw(number, service) => {
                self.home(&service, Command::Withdraw(service.clone(), ticket(number)));
            }
            Effect::Settle(seat) => {
                let service = seat.service().clone();
                self.home(&service, Command::Settle(seat));
            }
            Effect::Check(seat) => {
                let id = seat.instance().id(seat.service());
                self.prober.tell(Probe::Now(id, seat));
            }
            Effect::LookAgain(service) => {
                if let Some(slots) = self.publisher.slots(&service) {
                    slots.hint_all();
                }
                self.home(&service, Command::LookAgain(service.clone()));
            }
            Effect::Spare(instance) => {
                for shard in instance.shards() {
                    self.post.send(shard, Command::CloseIdle(instance.clone()));
                }
            }
            Effect::Lock(service, instance) => {
                self.home(&service, Command::LockThis(service.clone(), instance));
            }
            Effect::Unlock(service, instance, gone) => {
                self.home(&service, Command::Unlock(service.clone(), instance, gone));
            }
            Effect::Close(service) => {
                cluster.closing.insert(service, Instant(0));
            }
            Effect::Reopen(service) => {
                cluster.closing.remove(&service);
                self.home(&service, Command::UnlockAll(service.clone()));
            }
            Effect::Consent(order, instance, given) => self.consented(order, &instance, given),
        }
    }

    /// To whom connections are kept follows the members.
    fn say_routers(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let epoch = cluster.peers.members().0;
        if cluster.connected == epoch && epoch > 0 {
            return;
        }
        cluster.connected = epoch;
        let routers = cluster.peers.addressed().cloned().collect();
        (cluster.ways.tell)(Tell::Routers(routers));
        let me = &cluster.terms.me;
        let others: Vec<RouterId> =
            cluster.peers.members().1.map(|it| it.id.clone()).filter(|it| it != me).collect();
        cluster.counters.members(&others);
        self.shelf.touch();
    }

    /// The router is to end: it gives up what it owns, and borrows nothing more.
    pub(in crate::control) fn leave(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.peers.leave();
        cluster.leaves(clock::now());
    }

    /// Whether the cluster lets this router go: nothing it gave or took is left, or nobody answers.
    pub(in crate::control) fn has_left(&mut self, now: Instant) -> bool {
        let Some(cluster) = &mut self.cluster else { return true };
        let until = *cluster.leaves_by.get_or_insert(now + LEAVE_PATIENCE);
        let is_free = cluster.peers.owes_nothing() && (cluster.has_left || cluster.lost.is_some());
        if !is_free && now < until {
            return false;
        }
        if !is_free {
            tracing::warn!("other routers have not given back what they borrowed; leaving anyway");
        }
        true
    }

    /// The end of the two threads, and of all loans.
    pub(in crate::control) fn part(&mut self) {
        let Some(cluster) = self.cluster.take() else { return };
        if cluster.peers.owes_nothing() {
            let _ = cluster.ways.ask.send(Ask::End); // it may have ended by itself
        }
        (cluster.ways.tell)(Tell::End);
        cluster.peers.into_seats().for_each(crate::core::slots::Seat::release);
    }
}

fn ticket(number: u64) -> Ticket {
    Ticket { shard: ShardId::CONTROL, number }
}
