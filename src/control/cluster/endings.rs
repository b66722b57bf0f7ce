//! Kills and deletions of what routers share: only with the consent of those who may use it.
//!
//! Must hold: no kill is ordered before the owner has locked the instance, nor after the lease has
//! ended; no deletion before every member has closed the service. Whatever was asked for is ended
//! again: by its outcome, or because it took too long.

use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::control::cluster::Cluster;
use crate::control::mutations::Mutation;
use crate::control::plane::Plane;
use crate::core::catalogue::Done;
use crate::core::fact::Order;
use crate::core::letter::Command;
use crate::mesh::clock;
use std::sync::mpsc::Sender;

/// An order to kill takes no longer, nor than a sixth of a session, for it must end within the
/// lease; the owner keeps its lock until it hears of the end.
const KILL_TIME: Duration = Duration::from_secs(2);
/// Instances of a service whose owners are asked, one after the other, before the next cycle.
const CHOICES: usize = 8;
/// A service that is not unused everywhere after so long is not deleted.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// A home that could not close a service is asked again after this.
const CLOSE_AGAIN: Duration = Duration::from_millis(100);

impl Cluster {
    fn kill_time(&self) -> Duration {
        self.session.map_or(KILL_TIME, |it| KILL_TIME.min(it / 6))
    }
}

impl Plane {
    /// An instance of a shared service is to be killed: home names one, then its owner is asked.
    pub(in crate::control) fn choose_shared(&mut self, service: &ServiceId) {
        self.mutations.insert(service.clone(), Mutation::Asking(Vec::new()));
        self.home(service, Command::Choose(service.clone(), Vec::new()));
    }

    /// Home has named an instance, or knows of none.
    pub(in crate::control) fn chosen(&mut self, service: &ServiceId, chosen: Option<InstanceId>) {
        let Some(Mutation::Asking(asked)) = self.mutations.get_mut(service) else { return };
        let Some((instance, cluster)) = chosen.zip(self.cluster.as_mut()) else {
            self.mutations.remove(service);
            return;
        };
        asked.push(instance.clone());
        let order = cluster.peers.ask_kill(&instance, cluster.kill_time(), clock::now());
        cluster.kills.insert(instance, order);
    }

    /// The owner of an instance consents to its kill, or does not.
    pub(super) fn consented(&mut self, order: u64, instance: &InstanceId, given: bool) {
        let service = ServiceId::new(instance.service());
        let Some(cluster) = &mut self.cluster else { return };
        let known = cluster.kills.get(instance) == Some(&order);
        let asked = match self.mutations.get(&service) {
            Some(Mutation::Asking(asked)) if known => asked.clone(),
            _ => {
                if known {
                    cluster.kills.remove(instance); // something else became of the service
                }
                cluster.peers.kill_over(order);
                return;
            }
        };
        let now = clock::now();
        let may = cluster.lease.order(cluster.kill_time(), cluster.size(), now).is_some();
        if given && may {
            self.mutations.insert(service.clone(), Mutation::Killing(instance.clone()));
            self.order(&service, Order::Kill(instance.clone()));
            return;
        }
        cluster.kills.remove(instance);
        cluster.peers.kill_over(order);
        if may && asked.len() < CHOICES {
            self.home(&service, Command::Choose(service.clone(), asked));
        } else {
            self.mutations.remove(&service);
        }
    }

    /// What became of a kill is proved. Whether it was one that an owner had consented to.
    pub(in crate::control) fn shared_kill_over(&mut self, instance: &InstanceId) -> bool {
        let Some(cluster) = &mut self.cluster else { return false };
        let Some(order) = cluster.kills.remove(instance) else { return false };
        cluster.peers.kill_over(order);
        true
    }

    /// A shared service is to be deleted, as soon as no router uses it any more.
    pub(in crate::control) fn close(
        &mut self,
        service: &ServiceId,
        replies: Vec<Sender<Done>>,
        now: Instant,
    ) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.peers.delete(service);
        self.mutations.insert(service.clone(), Mutation::Closing(now + CLOSE_PATIENCE, replies));
    }

    /// Deletes what all have closed; asks homes whether what is to be closed is unused.
    pub(super) fn close_services(&mut self, now: Instant) {
        let Some(cluster) = &mut self.cluster else { return };
        let mut ask = Vec::new();
        for (service, at) in &mut cluster.closing {
            if *at <= now {
                *at = now + CLOSE_AGAIN;
                ask.push(service.clone());
            }
        }
        let closing = self.mutations.iter().filter_map(|(id, it)| match it {
            Mutation::Closing(until, _) => Some((id, *until)),
            _ => None,
        });
        let (mut closed, mut late) = (Vec::new(), Vec::new());
        for (id, until) in closing {
            if cluster.peers.may_delete(id, now) {
                closed.push(id.clone());
            } else if until <= now {
                late.push(id.clone());
            }
        }
        for service in ask {
            self.home(&service, Command::LockAll(service.clone()));
        }
        for service in closed {
            let asked = self.is_wanted_gone(&service);
            let may = asked || self.decides(&service, now) && self.may_end_astray(&service, now);
            if let Some(Mutation::Closing(_, replies)) = self.mutations.remove(&service)
                && may
            {
                self.delete(&service, replies);
            } else {
                self.delete_over(&service);
            }
        }
        for service in late {
            self.delete_over(&service);
            if let Some(Mutation::Closing(_, replies)) = self.mutations.remove(&service) {
                let why = "Requests of this service are in flight on some router, or not every \
                           router answers; try again when they have ended";
                replies.iter().for_each(|it| {
                    let _ = it.send(Done::Failed(why.to_owned())); // who asked may have gone
                });
            }
        }
    }

    /// Whether somebody asked for this deletion, not the collectors of the leader.
    fn is_wanted_gone(&self, service: &ServiceId) -> bool {
        matches!(self.mutations.get(service), Some(Mutation::Closing(_, it)) if !it.is_empty())
    }

    /// A deletion is over, or will not be.
    pub(in crate::control) fn delete_over(&mut self, service: &ServiceId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.peers.delete_over(service);
        }
    }

    /// Home has locked all instances of a service that some router wants to delete, or could not.
    /// Whether it was asked for that.
    pub(in crate::control) fn closed(&mut self, service: &ServiceId, locked: bool) -> bool {
        let Some(cluster) = &mut self.cluster else { return false };
        if !cluster.closing.contains_key(service) {
            return false;
        }
        if locked {
            cluster.peers.closed(service);
        }
        true
    }
}
