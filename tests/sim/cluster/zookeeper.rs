//! ZooKeeper, as far as routers see it: sessions, ephemeral members with an epoch, the roster.

use super::MS;
use std::collections::BTreeMap;
use waiter::base::ids::RouterId;
use waiter::core::peers::{Member, View};

#[derive(Debug)]
struct Session {
    heard: u64,
    since: u64,
}

/// What a router asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ask {
    /// Am I still there, and who else is?
    Poll,
    /// Register me, in a new session.
    Register,
    /// Remove me.
    Leave,
}

/// What it is told.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Who is there, and whether the asker is the first candidate.
    Seen(View, bool),
    /// There is no such session.
    Expired,
}

/// The servers.
#[derive(Debug, Default)]
pub(super) struct ZooKeeper {
    pub(super) is_down: bool,
    epoch: u64,
    sessions: BTreeMap<RouterId, Session>,
    roster: BTreeMap<RouterId, Member>,
}

impl ZooKeeper {
    /// Ends sessions that were silent for too long.
    pub(super) fn tick(&mut self, session: u64, now: u64) {
        if self.is_down {
            return;
        }
        let before = self.sessions.len();
        self.sessions.retain(|_, it| now - it.heard <= session * MS);
        self.epoch += (before - self.sessions.len()) as u64;
    }

    /// The servers are back: sessions live on.
    pub(super) fn up(&mut self, now: u64) {
        self.is_down = false;
        self.sessions.values_mut().for_each(|it| it.heard = now);
    }

    /// A router's request.
    pub(super) fn ask(&mut self, who: &RouterId, ask: Ask, now: u64) -> Answer {
        match ask {
            Ask::Poll => {
                let Some(it) = self.sessions.get_mut(who) else { return Answer::Expired };
                it.heard = now;
            }
            Ask::Register => {
                self.roster.insert(who.clone(), member(who));
                let since = self.epoch + 1;
                let it = self.sessions.entry(who.clone()).or_insert_with(|| {
                    self.epoch += 1;
                    Session { heard: now, since }
                });
                it.heard = now;
            }
            Ask::Leave => {
                if self.sessions.remove(who).is_some() {
                    self.epoch += 1;
                }
            }
        }
        let first = self.sessions.iter().min_by_key(|(_, it)| it.since).map(|(id, _)| id);
        Answer::Seen(self.view(), first == Some(who))
    }

    /// Removes a router from the roster, unless it is a member.
    pub(super) fn bury(&mut self, who: &RouterId) {
        if !self.sessions.contains_key(who) {
            self.roster.remove(who);
        }
    }

    pub(super) fn is_member(&self, who: &RouterId) -> bool {
        self.sessions.contains_key(who)
    }

    fn view(&self) -> View {
        View {
            epoch: self.epoch,
            members: self.sessions.keys().map(member).collect(),
            roster: self.roster.values().cloned().collect(),
        }
    }
}

fn member(id: &RouterId) -> Member {
    Member { id: id.clone(), address: "10.0.0.1:9091".into(), since: 0 }
}
