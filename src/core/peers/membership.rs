//! Who belongs to the cluster, as far as this router knows.
//!
//! An *epoch* is the number of a membership; the newest is adopted from wherever it is heard. A
//! router that was a member, or stands in the roster, and is none now has *vanished*: it may still
//! run what it was given, until it has been silent for the grace and is written off.

use crate::base::ids::RouterId;
use crate::base::time::{Duration, Instant};
use crate::core::peers::document::{Ghost, Member};
use std::collections::BTreeMap;

/// Who was written off is known for so long: by then nobody speaks of him any more. Should the
/// roster still list him, he is written off once more.
const BURIED_KEPT: Duration = Duration::from_secs(600);

/// What ZooKeeper says: the members of an epoch, and all routers that have not been written off.
/// The roster has been read after the members.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// `pzxid` of the discovery node, the same before and after its children were read.
    pub epoch: u64,
    /// Who is registered.
    pub members: Vec<Member>,
    /// Who once was, and was not written off.
    pub roster: Vec<Member>,
}

/// A router that is missed.
#[derive(Clone, Debug)]
pub(super) struct Vanished {
    pub(super) router: Member,
    pub(super) since: Instant,
    pub(super) epoch: u64,
}

/// The newest epoch and who was lost on the way.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) epoch: u64,
    pub(super) members: BTreeMap<RouterId, Member>,
    pub(super) vanished: BTreeMap<RouterId, Vanished>,
    /// When the epoch was adopted.
    pub(super) learned: Instant,
    /// Who was written off, and when.
    pub(super) buried: BTreeMap<RouterId, Instant>,
}

impl Membership {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: 0,
            members: BTreeMap::new(),
            vanished: BTreeMap::new(),
            learned: now,
            buried: BTreeMap::new(),
        }
    }

    /// Adopts a newer epoch; returns whether it was one.
    pub(super) fn adopt(
        &mut self,
        me: &RouterId,
        epoch: u64,
        members: &[Member],
        now: Instant,
    ) -> bool {
        if epoch <= self.epoch {
            return false;
        }
        let new = members.iter().map(|it| (it.id.clone(), it.clone())).collect();
        let old = std::mem::replace(&mut self.members, new);
        self.epoch = epoch;
        self.learned = now;
        for (id, router) in old {
            if id != *me {
                self.miss(router, epoch, now);
            }
        }
        let Self { members, vanished, buried, .. } = self;
        vanished.retain(|id, _| !members.contains_key(id));
        buried.retain(|id, _| !members.contains_key(id));
        true
    }

    /// A router that is no member stands in the roster, or is known to another member.
    pub(super) fn told_of(&mut self, me: &RouterId, router: &Member, epoch: u64, now: Instant) {
        if router.id != *me && !self.buried.contains_key(&router.id) {
            // Nobody is missed in an epoch that is not known yet, whatever is said.
            self.miss(router.clone(), epoch.min(self.epoch), now);
        }
    }

    /// A router that is no member speaks.
    pub(super) fn spoke(&mut self, id: &RouterId, now: Instant) {
        let router = Member { id: id.clone(), address: String::new(), since: 0 };
        self.buried.remove(id);
        self.miss(router, self.epoch, now);
    }

    fn miss(&mut self, router: Member, epoch: u64, now: Instant) {
        if self.members.contains_key(&router.id) {
            return;
        }
        match self.vanished.get_mut(&router.id) {
            // It spoke before anybody said where it is.
            Some(known) if known.router.address.is_empty() => known.router = router,
            Some(_) => {}
            None => {
                self.vanished.insert(router.id.clone(), Vanished { router, since: now, epoch });
            }
        }
    }

    /// A vanished router is taken to have ended.
    pub(super) fn bury(&mut self, id: &RouterId, now: Instant) {
        self.vanished.remove(id);
        self.buried.insert(id.clone(), now);
        self.buried.retain(|_, at| now - *at < BURIED_KEPT);
    }

    pub(super) fn is_member(&self, id: &RouterId) -> bool {
        self.members.contains_key(id)
    }

    /// Everybody a document may go to.
    pub(super) fn others(&self, me: &RouterId) -> Vec<RouterId> {
        self.members.keys().chain(self.vanished.keys()).filter(|it| *it != me).cloned().collect()
    }

    /// The vanished, for a document.
    pub(super) fn ghosts(&self, is_heard: impl Fn(&RouterId) -> bool) -> Vec<Ghost> {
        let ghost = |it: &Vanished| Ghost {
            router: it.router.clone(),
            epoch: it.epoch,
            heard: is_heard(&it.router.id),
        };
        self.vanished.values().map(ghost).collect()
    }
}
