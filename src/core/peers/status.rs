//! What the machine knows, for pages, metrics and the leader.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::core::peers::document::Member;
use crate::core::peers::machine::Peers;

/// How another router is seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerStatus {
    /// Which.
    pub router: RouterId,
    /// Whether it is a member; else it has vanished.
    pub is_member: bool,
    /// How long it has been silent; none if it never spoke.
    pub silent: Option<Duration>,
    /// The newest epoch it has shown.
    pub epoch: u64,
    /// Slots lent to it.
    pub lent: usize,
    /// Slots borrowed of it.
    pub borrowed: usize,
    /// Slots that it owes of instances known here.
    pub owes: u64,
}

/// Who gives the slots of an instance out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ownership {
    /// The instance.
    pub instance: InstanceId,
    /// Its owner.
    pub owner: Option<RouterId>,
    /// This router gives its slots out.
    pub own: bool,
    /// In use here, with what is lent.
    pub used: u16,
    /// May be used here.
    pub limit: u16,
    /// Lent to others.
    pub lent: u32,
    /// Borrowed.
    pub borrowed: usize,
    /// What others owe of it.
    pub owed: u32,
}

impl Peers {
    /// The epoch and the members by which slots are divided at this moment.
    pub fn members(&self) -> (u64, impl Iterator<Item = &Member>) {
        (self.membership.epoch, self.membership.members.values())
    }

    /// Everybody a connection is kept to: the other members, and who vanished and was not written
    /// off. An address may be empty if it is not known here; then the other connects.
    pub fn addressed(&self) -> impl Iterator<Item = &Member> {
        let members = self.membership.members.values().filter(|it| it.id != self.me);
        members.chain(self.membership.vanished.values().map(|it| &it.router))
    }

    /// Every other router, member or not.
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let one = |id: RouterId| {
            let link = self.links.get(&id);
            let heard = link.and_then(|it| it.heard.as_ref());
            PeerStatus {
                is_member: self.membership.is_member(&id),
                silent: heard.map(|it| now - it.at),
                epoch: heard.map_or(0, |it| it.document.epoch),
                lent: link.map_or(0, |it| it.lent.len()),
                borrowed: self.borrowed_from(&id).len(),
                owes: self.owed_by(&id).iter().map(|it| self.owes(&id, it)).sum(),
                router: id,
            }
        };
        self.membership.others(&self.me).into_iter().map(one).collect()
    }

    /// Slots that a router owes of an instance: no more than it has, whatever is said.
    fn owes(&self, router: &RouterId, instance: &InstanceId) -> u64 {
        let known = self.links.get(router).zip(self.table.instances.get(instance));
        known.map_or(0, |(link, it)| u64::from(link.owes(instance, it.slots)))
    }

    /// Who gives the slots of a service out.
    pub fn ownership(&self, service: &ServiceId) -> Vec<Ownership> {
        let Some(entry) = self.table.services.get(service) else { return Vec::new() };
        let one = |id: &InstanceId| {
            let it = &self.table.instances[id];
            Ownership {
                instance: id.clone(),
                owner: it.owner.clone(),
                own: it.own,
                used: it.instance.word.used(),
                limit: it.instance.word.limit(),
                lent: it.lent,
                borrowed: it.loans.len(),
                owed: it.owed,
            }
        };
        entry.instances.iter().map(one).collect()
    }

    /// The owner of an instance, if it is known. Its word on health is believed.
    pub fn owner(&self, instance: &InstanceId) -> Option<&RouterId> {
        self.table.instances.get(instance)?.owner.as_ref()
    }

    /// Whether this router is the one that checks an instance and states its health: it owns it.
    pub fn checks(&self, instance: &InstanceId) -> bool {
        self.owner(instance) == Some(&self.me)
    }

    /// Slots lent and slots borrowed, of all routers.
    pub fn loans(&self) -> (usize, usize) {
        (self.links.values().map(|it| it.lent.len()).sum(), self.held.len())
    }

    /// Instances and services that orders of routers which vanished may still end.
    pub fn marks(&self) -> (usize, usize) {
        (self.doomed.all().count(), self.closing.late.all().count())
    }

    /// How often a member that was silent for two sessions was taken to owe nothing.
    pub fn unproven(&self) -> u64 {
        self.unproven
    }

    /// Whether nothing starts here, because this router was away.
    pub fn is_away(&self) -> bool {
        self.away.is_some()
    }
}
