//! This router in its cluster, as the control loop keeps it: the machine of peers, the lease, the
//! counters of all, and the ways to the two threads.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Date, Duration, Instant, millis};
use crate::control::cluster::descriptions::Stranger;
use crate::control::cluster::links::Status;
use crate::control::cluster::{Ask, Seen, Tell};
use crate::control::store::Library;
use crate::core::catalogue;
use crate::core::peers::counters::Exchange;
use crate::core::peers::{Effect, Isolated, Lease, Member, Peers, Settings};
use crate::core::service::Runners;
use crate::mesh::Fence;
use arc_swap::ArcSwap;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// What the cluster is to this router.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its name.
    pub name: Arc<str>,
    /// This router.
    pub me: RouterId,
    /// Nobody leads with fewer routers.
    pub min_routers: usize,
    /// What it does alone.
    pub isolated: Isolated,
    /// Whether slots are also lent ahead of demand.
    pub balanced: bool,
    /// What runs services here: those of the local scheduler are of this host alone.
    pub runners: Runners,
    /// The session that is asked for.
    pub session: Duration,
}

/// The ways to the threads of the cluster.
pub struct Ways {
    /// To the one that keeps the session with ZooKeeper.
    pub ask: Sender<Ask>,
    /// To the one that keeps the connections to the other routers.
    pub tell: Box<dyn Fn(Tell) + Send>,
    /// How those connections are.
    pub status: Arc<ArcSwap<Status>>,
    /// To the descriptions that routers share.
    pub library: Library,
    /// Until when the schedulers may be given orders.
    pub right: Fence,
    /// Until when they may be told to delete what all have closed.
    pub membership: Fence,
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways").field("right", &self.right).finish_non_exhaustive()
    }
}

/// This router in its cluster.
#[derive(Debug)]
pub struct Cluster {
    pub(in crate::control) terms: Terms,
    pub(super) ways: Ways,
    pub(super) peers: Peers,
    pub(super) lease: Lease,
    pub(super) counters: Exchange,
    /// Kept for its room.
    pub(super) effects: Vec<Effect>,
    /// Instances about to be killed, by the number under which their owners consented.
    pub(super) kills: HashMap<InstanceId, u64>,
    /// Services that some router wants to delete; when home is next asked whether they are unused.
    pub(super) closing: HashMap<ServiceId, Instant>,
    /// Instances of which this router states the health.
    pub(super) stated: HashSet<InstanceId>,
    /// Services whose counters are stated, and whether a request pressed then.
    pub(super) tallied: HashMap<ServiceId, bool>,
    /// Services that are listed here and were described elsewhere.
    pub(super) strangers: HashMap<ServiceId, Stranger>,
    /// When it was last said that there are too many of those; none: none was left out.
    pub(super) said_crowd: Option<Instant>,
    pub(super) next_telling: Instant,
    /// When something is told that cannot wait for it.
    pub(super) next_word: Instant,
    pub(super) last_word: Instant,
    /// When the library is next told what is listed.
    pub(super) next_listing: Instant,
    /// The epoch in which the connections were last said.
    pub(super) connected: u64,
    pub(super) session: Option<Duration>,
    pub(super) seen: Option<Box<Seen>>,
    /// Since when there is no session, and why.
    pub(super) lost: Option<(Date, String)>,
    /// The other routers of which the counters are stale, as was last said.
    pub(super) stale: Vec<RouterId>,
    pub(super) led: bool,
    /// It is to end: it gives up the lead, and does not take it again.
    pub(super) is_leaving: bool,
    /// When the wait for others ends, at the end.
    pub(super) leaves_by: Option<Instant>,
    pub(super) has_left: bool,
}

impl Cluster {
    /// A router that knows nobody yet.
    pub fn new(terms: Terms, ways: Ways, (now, date): (Instant, Date)) -> Self {
        let settings = Settings { isolated: terms.isolated, ..Settings::new(terms.session) };
        ways.right.put(Instant(0));
        ways.membership.put(Instant(0));
        Self {
            peers: Peers::new(terms.me.clone(), settings, now),
            lease: Lease::new(terms.min_routers),
            counters: Exchange::default(),
            effects: Vec::new(),
            kills: HashMap::new(),
            closing: HashMap::new(),
            stated: HashSet::new(),
            tallied: HashMap::new(),
            strangers: HashMap::new(),
            said_crowd: None,
            next_telling: now,
            next_word: Instant(u64::MAX),
            last_word: now,
            next_listing: now,
            connected: 0,
            session: None,
            seen: None,
            lost: Some((date, "ZooKeeper has not been reached yet".to_owned())),
            stale: Vec::new(),
            led: false,
            is_leaving: false,
            leaves_by: None,
            has_left: false,
            terms,
            ways,
        }
    }

    /// Whether this router may decide now for services that routers share.
    pub(in crate::control) fn leads(&self, now: Instant) -> bool {
        !self.is_leaving && self.lease.leads(self.size(), now)
    }

    /// A round trip that began then has proved whether this router is the first candidate.
    pub(super) fn proves(&mut self, is_first: bool, began: Instant) {
        self.lease.round_trip(began, is_first && !self.is_leaving);
    }

    /// It is about to register, perhaps anew on the same session: its candidacy, by which it may
    /// lead, is then replaced by one behind all others.
    pub(super) fn registers(&mut self, now: Instant) {
        self.peers.registering(now);
        self.lease.round_trip(now, false);
        self.put_right(now);
    }

    /// Nothing is proved any more: at once, not at the end of the turn.
    pub(super) fn steps_down(&mut self, now: Instant) {
        self.lease.lost();
        self.put_right(now);
    }

    /// There is no session, for this reason, which may be another one than before.
    pub(super) fn misses(&mut self, why: String, date: Date) {
        let is_told = self.lost.as_ref().is_some_and(|(_, told)| *told == why);
        if !is_told {
            tracing::warn!(
                why,
                "ZooKeeper is lost; requests are served on with what is known, nothing is scaled \
                 that routers share"
            );
        }
        let since = self.lost.as_ref().map_or(date, |(since, _)| *since);
        self.lost = Some((since, why));
    }

    /// It steps down before its candidacy is given up.
    pub(super) fn leaves(&mut self, now: Instant) {
        self.is_leaving = true;
        self.steps_down(now);
        let _ = self.ways.ask.send(Ask::Leave); // a thread that has ended left long ago
    }

    /// Members, with this router.
    pub(super) fn size(&self) -> usize {
        self.peers.members().1.count()
    }

    /// Whether all members have told their counters lately: else nothing is shrunk or collected.
    pub(in crate::control) fn is_current(&self, now: Instant) -> bool {
        self.counters.stale(now).next().is_none()
    }

    /// The schedulers may be given orders until the lease ends.
    pub(super) fn put_right(&mut self, now: Instant) {
        let until = self.lease.until().filter(|_| self.leads(now));
        self.ways.right.put(until.unwrap_or(Instant(0)));
        let until = self.lease.member_until().filter(|_| !self.is_leaving);
        self.ways.membership.put(until.unwrap_or(Instant(0)));
    }

    /// As people see it.
    pub(in crate::control) fn page(&self, now: Instant, date: Date) -> catalogue::Cluster {
        let (epoch, members) = self.peers.members();
        let members: Vec<Member> = members.cloned().collect();
        let ago = |at: Instant| Date(date.0.saturating_sub(millis(now - at)));
        let leads = self.leads(now);
        let first = self.seen.as_ref().and_then(|it| it.first.clone());
        let links = self.ways.status.load();
        let peers = self.peers.peers(now).into_iter().map(|status| {
            let lag = self.counters.lag(&status.router, now);
            let reached = links.routers.iter().find(|it| it.id == status.router);
            let link = reached.and_then(|it| it.link);
            catalogue::Peer {
                lag,
                last_error: reached.and_then(|it| it.last_error.clone()),
                connected: link.map(|it| ago(it.since)),
                bytes: link.map_or((0, 0), |it| it.bytes),
                status,
            }
        });
        let (lent, borrowed) = self.peers.loans();
        catalogue::Cluster {
            name: self.terms.name.clone(),
            router: self.terms.me.clone(),
            epoch,
            leader: if leads { Some(self.terms.me.clone()) } else { first },
            leads,
            leads_since: self.lease.since().filter(|_| leads).map(ago),
            lease_left: self.lease.until().filter(|_| leads).map(|it| it - now),
            min_routers: self.terms.min_routers,
            session: self.session,
            server: self.seen.as_ref().map(|it| it.server.clone()).unwrap_or_default(),
            seen: self.seen.as_ref().map(|it| ago(it.began)),
            lost: self.lost.clone(),
            stale: self.counters.stale(now).cloned().collect(),
            away: self.peers.is_away(),
            unproven: self.peers.unproven(),
            members,
            strangers: self.seen.as_ref().map(|it| it.strangers.clone()).unwrap_or_default(),
            refused: links.refused.named(),
            runners: self.terms.runners.clone(),
            peers: peers.collect(),
            lent,
            borrowed,
            balanced: self.terms.balanced,
            stops_alone: self.terms.isolated == Isolated::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::store::{Keys, Shared};
    use std::sync::mpsc::{Receiver, channel};

    const SESSION: Duration = Duration::from_secs(6);

    fn at(millis: u64) -> Instant {
        Instant(millis * 1_000_000)
    }

    /// A router that has been the first candidate since 1 s, and what it has asked of its session.
    fn leader() -> (Cluster, Fence, Receiver<Ask>) {
        let (ask, asked) = channel();
        let store = Shared::new(Vec::new(), SESSION, "/w", Keys::default());
        let read = Box::new(|_: &[u8]| Err("nothing is read".to_owned()));
        let library = Library::start(store, read, Box::new(|_, _| {})).expect("a thread");
        let right = Fence::default();
        let ways = Ways {
            ask,
            tell: Box::new(|_| {}),
            status: Arc::default(),
            library,
            right: right.clone(),
            membership: Fence::default(),
        };
        let terms = Terms {
            name: "c".into(),
            me: RouterId::new("r"),
            min_routers: 0,
            isolated: Isolated::Serve,
            balanced: true,
            runners: Runners::default(),
            session: SESSION,
        };
        let mut it = Cluster::new(terms, ways, (at(0), Date(0)));
        it.lease.granted(SESSION);
        it.proves(true, at(1000));
        it.put_right(at(1000));
        assert!(it.leads(at(4999)) && right.get() == at(5000));
        (it, right, asked)
    }

    #[test]
    fn it_has_stepped_down_before_it_gives_up_its_candidacy() {
        let (mut it, right, asked) = leader();
        it.leaves(at(1001));
        assert!(matches!(asked.try_recv(), Ok(Ask::Leave)));
        assert!(!it.leads(at(1001)) && right.get() == Instant(0));
        // What a round trip proves that was under way does not bring it back, nor a new session.
        it.proves(true, at(1002));
        it.lease.granted(SESSION);
        it.proves(true, at(1003));
        it.put_right(at(1003));
        assert!(!it.leads(at(1003)) && right.get() == Instant(0));
        assert_eq!(it.lease.order(Duration::ZERO, 1, at(1003)), None);
    }

    #[test]
    fn it_has_stepped_down_before_its_session_is_ended() {
        let (mut it, right, _asked) = leader();
        it.steps_down(at(1001));
        assert!(!it.leads(at(1001)) && right.get() == Instant(0));
        assert_eq!(it.ways.membership.get(), Instant(0), "nor does it delete anything");
        it.proves(true, at(1002));
        assert!(!it.leads(at(1002)), "of which session?");
    }

    #[test]
    fn who_registers_anew_on_the_same_session_leads_only_when_it_is_first_again() {
        let (mut it, right, _asked) = leader();
        assert_eq!(it.ways.membership.get(), at(5000));
        it.registers(at(1001));
        assert!(!it.leads(at(1001)) && right.get() == Instant(0));
        it.proves(true, at(1500));
        assert!(it.leads(at(1501)));
    }
}
