//! What is known of every service, for those who ask: the API reads it, the control thread writes
//! it.
//!
//! A catalogue is whole and dated, like a world; but it holds what the data path never needs.

use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Date, Duration};
use crate::core::aggregator::State;
use crate::core::fact::{Runner, View};
use crate::core::histogram::Latency;
use crate::core::peers::Member;
use crate::core::peers::status::{Ownership, PeerStatus};
use crate::core::pulse::{Beat, Load};
use crate::core::service::Runners;
use crate::core::slots::ServiceSlots;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All services, by id.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Counts publications.
    pub iteration: u64,
    /// When it was written.
    pub time: Date,
    /// This router's id.
    pub router_id: Arc<str>,
    /// Every service that is known: running, or described and stored.
    pub services: BTreeMap<ServiceId, Arc<Entry>>,
    /// When the scheduler was last heard, if ever.
    pub scheduler_heard: Option<Date>,
    /// How far those schedulers are believed that can be in doubt.
    pub views: BTreeMap<Runner, View>,
    /// All shards together.
    pub load: Load,
    /// Clients of each shard.
    pub clients: Vec<u32>,
    /// What became of instances.
    pub launches: Launches,
    /// Whether the router takes no new requests.
    pub draining: bool,
    /// The cluster of routers, if this is one of several.
    pub cluster: Option<Arc<Cluster>>,
}

/// The cluster of routers, as this one sees it.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: Arc<str>,
    /// This router.
    pub router: RouterId,
    /// The number of the membership by which slots are divided now.
    pub epoch: u64,
    /// Those members.
    pub members: Vec<Member>,
    /// Who is registered, and is not proved to be a router of this cluster: no slots for them.
    pub strangers: Vec<Member>,
    /// Connections that were closed for what the other said: a cause, and how many.
    pub refused: Vec<(&'static str, u64)>,
    /// What runs services here, by which it is known which of them routers share.
    pub runners: Runners,
    /// Who leads, or is the first to.
    pub leader: Option<RouterId>,
    /// Whether this router does.
    pub leads: bool,
    /// Since when it does.
    pub leads_since: Option<Date>,
    /// How long its lease lasts.
    pub lease_left: Option<Duration>,
    /// Nobody leads with fewer routers.
    pub min_routers: usize,
    /// The session that ZooKeeper granted; none: there is no session now.
    pub session: Option<Duration>,
    /// The server of ZooKeeper that answered last.
    pub server: String,
    /// When the last round trip to it began that succeeded.
    pub seen: Option<Date>,
    /// Since when there is no session, and why.
    pub lost: Option<(Date, String)>,
    /// Members whose counters are stale: nothing is shrunk.
    pub stale: Vec<RouterId>,
    /// Whether nothing starts because this router was stopped for a while.
    pub away: bool,
    /// How often a member was taken to owe nothing because it was silent for two sessions.
    pub unproven: u64,
    /// The other routers, members or not.
    pub peers: Vec<Peer>,
    /// Slots lent to others.
    pub lent: usize,
    /// Slots borrowed of others.
    pub borrowed: usize,
    /// Whether slots are also lent ahead of demand.
    pub balanced: bool,
    /// Whether this router gives nothing out when it is alone.
    pub stops_alone: bool,
}

impl Cluster {
    /// Whether this router leads now, if this was written then: a lease runs out while nobody
    /// writes.
    pub fn leads_still(&self, written: Date, now: Date) -> bool {
        self.leads && self.lease_left.is_some_and(|it| now.since(written) < it)
    }
}

/// Another router.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its documents, loans and debts.
    pub status: PeerStatus,
    /// How long ago its counters were heard; none: never.
    pub lag: Option<Duration>,
    /// Since when there is a proven connection, and bytes that came and left by it.
    pub connected: Option<Date>,
    /// See [`connected`](Self::connected).
    pub bytes: (u64, u64),
    /// Why the last connection ended, or none came about.
    pub last_error: Option<String>,
}

/// Who gives a service's slots out, and what the policy says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Distribution {
    /// Each instance.
    pub instances: Vec<Ownership>,
    /// What the scheme gives each router of each instance: a policy, by which slots are lent.
    pub shares: Vec<(RouterId, Vec<(InstanceId, u32)>)>,
}

/// What became of instances that the router launched, and of its orders, since it began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Launches {
    /// Instances that the scheduler began to list.
    pub launched: u64,
    /// Instances that ended without being asked to, or never became healthy.
    pub failed: u64,
    /// Instances that were ended one by one: to shrink, or to be replaced.
    pub killed: u64,
    /// Orders that the scheduler did not carry out.
    pub orders_failed: u64,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its instances and how they are.
    pub state: Arc<State>,
    /// Whether the scheduler (or the operator) has it now; else it is only described.
    pub exists: bool,
    /// What was asked of it.
    pub traffic: Traffic,
    /// How long requests took that were served; none before the first.
    pub latency: Option<Arc<Latency<u64>>>,
    /// When the last request came.
    pub last_request: Option<Date>,
    /// What the autoscaler last said.
    pub scaling: Scaling,
    /// Who waits and which instances serve, as the shards see it now. Read only.
    pub slots: Arc<ServiceSlots>,
    /// Instances that rest after failures: id, failures in a row.
    pub ejected: Vec<(InstanceId, u32)>,
    /// Since when nothing has been asked of it; none while requests are at hand.
    pub idle_since: Option<Date>,
    /// Since when its instances fail without one being healthy, if they do.
    pub broken_since: Option<Date>,
}

/// What was asked of a service: levels now, over all shards; sums since the router began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Requests that wait or are served now.
    pub outstanding: u32,
    /// Requests that wait for a slot now.
    pub waiting: u32,
    /// Age of the request that waits longest.
    pub oldest_waiting: Duration,
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that ended after they had been served.
    pub completions: u64,
    /// Requests that ended in any other way.
    pub failures: u64,
    /// Σ time from slot to end of the completed ones.
    pub service_time: Duration,
}

/// What the autoscaler last said of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scaling {
    /// Instances wanted, smoothed.
    pub target: f64,
    /// Instances wanted.
    pub scale_to: u32,
    /// How many more (fewer, if negative) than there are.
    pub amount: i64,
    /// Why, in words, for people; of the last decision that changed something.
    pub reason: Arc<str>,
    /// When that decision was made.
    pub decided: Option<Date>,
}

/// What the API asks of the control thread.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Demand {
    /// End all instances of a service; its description stays.
    Delete(ServiceId),
    /// Say who gives its slots out.
    Distribution(ServiceId),
}

/// What the control thread answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Done {
    /// It has been done.
    Deleted,
    /// Who gives the slots of a service out.
    Distribution(Box<Distribution>),
    /// The scheduler does not have such a service.
    NoSuchService,
    /// It could not be done; why.
    Failed(String),
}

/// How long the API waits for the control thread.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl Entry {
    /// A service of which nothing is known but its state.
    pub fn new(state: Arc<State>, exists: bool, slots: Arc<ServiceSlots>) -> Self {
        Self {
            state,
            exists,
            traffic: Traffic::default(),
            latency: None,
            last_request: None,
            scaling: Scaling::default(),
            slots,
            ejected: Vec::new(),
            idle_since: None,
            broken_since: None,
        }
    }
}

impl Traffic {
    /// Adds the sums of a beat. Its levels are the business of whoever knows the other shards'.
    pub fn count(&mut self, beat: &Beat) {
        self.requests += u64::from(beat.arrivals);
        self.completions += u64::from(beat.completions);
        self.failures += u64::from(beat.failures);
        self.service_time = self.service_time.saturating_add(beat.service_time);
    }
}

impl Scaling {
    /// `stable`, `scale-up` or `scale-down`.
    pub fn state(&self) -> &'static str {
        match self.amount {
            0 => "stable",
            it if it > 0 => "scale-up",
            _ => "scale-down",
        }
    }
}
