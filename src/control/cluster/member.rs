//! This router in its cluster, as the control loop keeps it: the machine of peers, the lease, the
//! counters of all, and the ways to the two threads.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Date, Duration, Instant, millis};
use crate::control::cluster::descriptions::Stranger;
use crate::control::cluster::{Ask, Seen, Tell};
use crate::control::store::Library;
use crate::core::catalogue;
use crate::core::peers::counters::Exchange;
use crate::core::peers::{Effect, Isolated, Lease, Member, Peers, Settings};
use crate::mesh::Fence;
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
    /// The session that is asked for.
    pub session: Duration,
}

/// The ways to the threads of the cluster.
pub struct Ways {
    /// To the one that keeps the session with ZooKeeper.
    pub ask: Sender<Ask>,
    /// To the one that keeps the connections to the other routers.
    pub tell: Box<dyn Fn(Tell) + Send>,
    /// To the descriptions that routers share.
    pub library: Library,
    /// Until when the schedulers may be given orders.
    pub right: Fence,
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
    /// Services whose counters are stated.
    pub(super) tallied: HashSet<ServiceId>,
    /// Services that are listed here and were described elsewhere.
    pub(super) strangers: HashMap<ServiceId, Stranger>,
    pub(super) next_telling: Instant,
    /// The epoch in which the connections were last said.
    pub(super) connected: u64,
    pub(super) session: Option<Duration>,
    pub(super) seen: Option<Box<Seen>>,
    /// Since when there is no session, and why.
    pub(super) lost: Option<(Date, String)>,
    /// The other routers of which the counters are stale, as was last said.
    pub(super) stale: Vec<RouterId>,
    pub(super) led: bool,
    /// When the wait for others ends, at the end.
    pub(super) leaves_by: Option<Instant>,
    pub(super) has_left: bool,
}

impl Cluster {
    /// A router that knows nobody yet.
    pub fn new(terms: Terms, ways: Ways, (now, date): (Instant, Date)) -> Self {
        let settings = Settings { isolated: terms.isolated, ..Settings::new(terms.session) };
        ways.right.put(Instant(0));
        Self {
            peers: Peers::new(terms.me.clone(), settings, now),
            lease: Lease::new(terms.min_routers),
            counters: Exchange::default(),
            effects: Vec::new(),
            kills: HashMap::new(),
            closing: HashMap::new(),
            stated: HashSet::new(),
            tallied: HashSet::new(),
            strangers: HashMap::new(),
            next_telling: now,
            connected: 0,
            session: None,
            seen: None,
            lost: Some((date, "ZooKeeper has not been reached yet".to_owned())),
            stale: Vec::new(),
            led: false,
            leaves_by: None,
            has_left: false,
            terms,
            ways,
        }
    }

    /// Whether this router may decide now for services that routers share.
    pub(in crate::control) fn leads(&self, now: Instant) -> bool {
        self.leaves_by.is_none() && self.lease.leads(self.size(), now)
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
    }

    /// As people see it.
    pub(in crate::control) fn page(&self, now: Instant, date: Date) -> catalogue::Cluster {
        let (epoch, members) = self.peers.members();
        let members: Vec<Member> = members.cloned().collect();
        let ago = |at: Instant| Date(date.0.saturating_sub(millis(now - at)));
        let leads = self.leads(now);
        let first = self.seen.as_ref().and_then(|it| it.first.clone());
        let peers = self.peers.peers(now).into_iter().map(|status| {
            let lag = self.counters.lag(&status.router, now);
            catalogue::Peer { status, lag }
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
            peers: peers.collect(),
            lent,
            borrowed,
            balanced: self.terms.balanced,
            stops_alone: self.terms.isolated == Isolated::Stop,
        }
    }
}
