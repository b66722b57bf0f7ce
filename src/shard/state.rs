//! A shard: its connections, its exchanges, and what joins them.
//!
//! The driver tells it what happened; it lets the connection's codec read, lets the exchange
//! decide, and carries the effects out. Nothing here waits. Invariants: the table of exchanges has
//! one exit, `Shard::finish`, and it alone gives a seat back at the end; a link that is closed is
//! forgotten at once, in one place, `Shard::drop_link`, and one that travels in `shard::travel`;
//! after each event every link touched has been flushed and its needs are known to the driver.

use crate::base::address::SocketAddr;
use crate::base::ids::{ServiceId, ShardId, Ticket};
use crate::base::limits::Limits;
use crate::base::time::{Date, Instant};
use crate::core::pulse::{Beat, Load, Pulse};
use crate::core::slots::Instance;
use crate::core::world::World;
use crate::exchange::{Effect, Exchange, Side};
use crate::mesh::panics::guarded;
use crate::mesh::{ShardPost, clock};
use crate::shard::access::AccessLog;
use crate::shard::admission::Admissions;
use crate::shard::desk::Desk;
use crate::shard::engine::{Engine, Link, Shut};
use crate::shard::pool::Pool;
use crate::shard::settings::Settings;
use crate::shard::tallies::Tallies;
use crate::shard::wheel::{Node, Wheel};
use crate::wire::call::{Answer, Call};
use crate::wire::codec::{Codec, Due, Stream};
use arc_swap::ArcSwap;
use slotmap::{Key, KeyData, SecondaryMap, SlotMap};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

slotmap::new_key_type! {
    /// An exchange on this shard.
    pub struct ExchangeKey;
}

/// What has a deadline.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    /// A connection.
    Link(Link),
    /// An exchange.
    Exchange(ExchangeKey),
}

/// The ends of everything a shard is joined to.
#[derive(Debug)]
pub struct Joins {
    /// Mailboxes.
    pub post: ShardPost,
    /// The newest world.
    pub worlds: Arc<ArcSwap<World>>,
    /// Calls go there.
    pub calls: SyncSender<Call>,
    /// Their answers come from there.
    pub answers: Receiver<Answer>,
    /// What all shards are told.
    pub settings: Arc<Settings>,
    /// The access log.
    pub access: AccessLog,
}

/// One core's share of the data plane.
pub struct Shard<E> {
    /// The driver.
    pub engine: E,
    pub(super) post: ShardPost,
    pub(super) worlds: Arc<ArcSwap<World>>,
    pub(super) world: Arc<World>,
    pub(super) calls: SyncSender<Call>,
    pub(super) answers: Receiver<Answer>,
    pub(super) settings: Arc<Settings>,
    pub(super) access: AccessLog,
    pub(super) limits: Arc<Limits>,
    pub(super) connections: SecondaryMap<Link, Connection>,
    pub(super) exchanges: SlotMap<ExchangeKey, Served>,
    /// Exchanges that have ended, each with a node of the wheel, which is not armed.
    pub(super) spare: Vec<(Box<Exchange>, Node)>,
    pub(super) pool: Pool,
    pub(super) desk: Desk,
    pub(super) admissions: Admissions,
    pub(super) wheel: Wheel<Subject>,
    pub(super) tallies: Tallies,
    /// Seats that were got above an instance's limit.
    pub(super) over_limit: u64,
    pub(super) effects: Vec<Effect>,
    pub(super) todo: VecDeque<(ExchangeKey, Effect)>,
    pub(super) touched: Vec<Link>,
    pub(super) due: Vec<Subject>,
    pub(super) clients: u32,
    pub(super) unique: u64,
    pub(super) now: Instant,
    /// The date at an instant not long ago.
    pub(super) dated: (Instant, Date),
    pub(super) draining: Draining,
}

/// How far the end of the shard has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Draining {
    /// It serves.
    No,
    /// It finishes what it has.
    Yes,
    /// It has said that nothing is left.
    Told,
}

/// A connection.
pub(super) struct Connection {
    /// Taken out only while it reads.
    pub(super) codec: Option<Box<dyn Codec>>,
    pub(super) role: Role,
    pub(super) streams: Vec<(Stream, ExchangeKey)>,
    /// Exchanges begun on it by this side; their number is the next stream.
    pub(super) begun: u32,
    /// Given by the codec, not yet to the driver.
    pub(super) output: Vec<u8>,
    /// Bytes the driver has not sent yet.
    pub(super) unsent: usize,
    pub(super) node: Node,
    /// When bytes last left, or began to wait.
    pub(super) moved: Instant,
    pub(super) state: State,
    pub(super) intake: (usize, Due),
    /// So many bytes are still to pass on from here without being read.
    pub(super) passes: u64,
    pub(super) touched: bool,
}

/// Whom a connection leads to.
#[derive(Clone, Debug)]
pub(super) enum Role {
    Client(SocketAddr),
    Instance(Arc<Instance>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Opening,
    Open,
    Idle {
        since: Instant,
    },
    /// Its codec panicked while it wrote; it closes before the event at hand is over.
    Broken,
}

impl Connection {
    /// Sees to it that there is memory to write into.
    pub(super) fn furnish(&mut self, engine: &mut impl Engine) {
        if self.output.capacity() == 0 {
            self.output = engine.outputs().lend();
        }
    }

    /// Lets the codec write. If it panics, what it wrote is taken back and the connection closes;
    /// it has touched nothing but its own state and the output.
    pub(super) fn say(&mut self, act: impl FnOnce(&mut dyn Codec, &mut Vec<u8>)) {
        let codec = self.codec.as_deref_mut().expect("nothing of this link reads now");
        let (before, output) = (self.output.len(), &mut self.output);
        if guarded(|| act(codec, output)).is_err() {
            tracing::error!("a codec panicked; its connection is closed");
            self.output.truncate(before);
            self.state = State::Broken;
        }
    }
}

/// An exchange with where its messages go.
pub(super) struct Served {
    /// It is large, and moves with each request.
    pub(super) exchange: Box<Exchange>,
    pub(super) client: Option<(Link, Stream)>,
    pub(super) instance: Option<(Link, Stream)>,
    pub(super) node: Node,
    /// Body bytes sent to client and instance that their connections have not sent on.
    pub(super) owed: [u32; 2],
    pub(super) answer: Option<Box<Pending>>,
    pub(super) counted: bool,
    /// If it is counted as waiting: the memory it is counted with.
    pub(super) waits: Option<usize>,
}

/// The answer to a call, being sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) pieces: VecDeque<Vec<u8>>,
    pub(super) room: u32,
}

impl Served {
    pub(super) fn way(&self, side: Side) -> Option<(Link, Stream)> {
        match side {
            Side::Client => self.client,
            Side::Instance => self.instance,
        }
    }
}

impl<E: Engine> Shard<E> {
    /// A shard without connections.
    pub fn new(engine: E, joins: Joins, unique: u64, now: Instant) -> Self {
        let Joins { post, worlds, calls, answers, settings, access } = joins;
        let world = worlds.load_full();
        post.acknowledge(world.version);
        let (me, shards) = (post.me, post.shards);
        let limits = Arc::new(settings.limits.clone());
        Self {
            engine,
            post,
            worlds,
            world,
            calls,
            answers,
            settings,
            access,
            limits,
            connections: SecondaryMap::new(),
            exchanges: SlotMap::with_key(),
            spare: Vec::new(),
            pool: Pool::new(me),
            desk: Desk::new(me, shards),
            admissions: Admissions::default(),
            wheel: Wheel::new(now),
            tallies: Tallies::default(),
            over_limit: 0,
            effects: Vec::new(),
            todo: VecDeque::new(),
            touched: Vec::new(),
            due: Vec::new(),
            clients: 0,
            unique,
            now,
            dated: (now, clock::date()),
            draining: Draining::No,
        }
    }

    /// Which shard this is.
    pub fn id(&self) -> ShardId {
        self.post.me
    }

    /// How far its end has come.
    pub fn draining(&self) -> Draining {
        self.draining
    }

    /// Whether another client may connect. Those that had connected before the end began still get
    /// their answer.
    pub fn has_room(&self) -> bool {
        let limits = &self.settings.limits;
        (self.clients as usize) < limits.clients_per_shard
            && self.settings.clients.all() < limits.clients_total
    }

    /// The date, as it has gone on since the last tick.
    pub(super) fn date(&self) -> Date {
        let (since, date) = self.dated;
        let passed = u64::try_from((self.now - since).as_millis()).unwrap_or(0);
        Date(date.0.saturating_add(passed))
    }

    /// Its mailboxes.
    pub fn post(&mut self) -> &mut ShardPost {
        &mut self.post
    }

    /// Client connections and exchanges at hand.
    pub fn load(&self) -> (u32, usize) {
        (self.clients, self.exchanges.len())
    }

    /// What changed since the last pulse.
    pub fn pulse(&mut self, now: Instant) -> Pulse {
        let (mut services, mut latencies) = (Vec::new(), Vec::new());
        let mut waiting: HashMap<_, _, foldhash::fast::FixedState> = self.desk.oldest().collect();
        self.tallies.pulse(now, |id, latency, beat| {
            latencies.extend(latency.map(|it| (id.clone(), it)));
            if let Some(mut beat) = beat {
                beat.oldest_waiting =
                    waiting.remove(id).map_or(beat.oldest_waiting, |since| now - since);
                services.push((id.clone(), beat));
            }
        });
        let beat = |since| Beat { oldest_waiting: now - since, ..Beat::default() };
        services.extend(waiting.into_iter().map(|(id, since)| (id.clone(), beat(since))));
        Pulse { services, latencies, load: self.whole() }
    }

    fn whole(&self) -> Load {
        // The queues are one for all shards, so one of them tells.
        let (queued, queued_bytes) = match self.post.me {
            ShardId(0) => self.settings.queues.level(),
            _ => (0, 0),
        };
        let intake = self.engine.intake();
        Load {
            connections: self.clients,
            exchanges: u32::try_from(self.exchanges.len()).unwrap_or(u32::MAX),
            queued,
            queued_bytes,
            over_limit: self.over_limit,
            letters: self.post.sent,
            lines_dropped: self.access.dropped_total(),
            buffers_taken: intake.buffers_taken,
            receives_starved: intake.starved,
        }
    }

    pub(super) fn ticket(&self, key: ExchangeKey) -> Ticket {
        Ticket { shard: self.post.me, number: key.data().as_ffi() }
    }

    pub(super) fn key_of(&self, ticket: Ticket) -> Option<ExchangeKey> {
        assert!(ticket.shard == self.post.me, "a letter came to the wrong shard");
        let key = ExchangeKey::from(KeyData::from_ffi(ticket.number));
        self.exchanges.contains_key(key).then_some(key)
    }

    pub(super) fn home(&self, id: &ServiceId) -> ShardId {
        id.home(self.post.shards)
    }

    /// A number no other request of this router gets.
    pub(super) fn next_unique(&mut self) -> u64 {
        self.unique = self.unique.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.unique;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    pub(super) fn touch(&mut self, link: Link) {
        if let Some(connection) = self.connections.get_mut(link)
            && !connection.touched
        {
            connection.touched = true;
            self.touched.push(link);
        }
    }

    /// Forgets a connection, and tells the driver to close it.
    pub(super) fn drop_link(&mut self, link: Link, how: Shut) {
        let Some(mut connection) = self.forget(link) else { return };
        if !connection.output.is_empty() {
            self.engine.send(link, &mut connection.output);
        }
        match &connection.role {
            Role::Client(_) => {
                self.clients -= 1;
                self.settings.clients.left(self.post.me);
            }
            Role::Instance(instance) => self.pool.closed(link, instance),
        }
        self.engine.close(link, how);
    }

    /// Forgets a connection, and tells nobody.
    pub(super) fn forget(&mut self, link: Link) -> Option<Connection> {
        let connection = self.connections.remove(link)?;
        self.wheel.remove(connection.node);
        Some(connection)
    }
}

impl<E> std::fmt::Debug for Shard<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("id", &self.post.me)
            .field("clients", &self.clients)
            .field("exchanges", &self.exchanges.len())
            .finish_non_exhaustive()
    }
}
