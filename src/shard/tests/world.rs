//! A world of clients and instances around shards whose sockets are memory, all in one thread.
//!
//! A remote is the other end of a link. Bytes move only in [`World::settle`], until nothing moves
//! any more; what each remote got is kept. At every step it is checked that no instance is asked
//! more than it has slots for, and at rest that it has no more connections than slots, and counts
//! those it has. A connection that goes from one shard to another is followed.

use super::whole::whole;
use super::wires::give;
use crate::base::address::SocketAddr;
use crate::base::ids::{ServiceId, ShardId};
use crate::base::limits::Limits;
use crate::base::time::{Date, Duration, Instant};
use crate::core::letter::{Command, Notice};
use crate::core::route::Hosts;
use crate::core::service::{Defaults, Description, Origin, parse_static};
use crate::core::slots::{Instance, Roster, ServiceSlots};
use crate::core::world::{Member, Service, World as Services};
use crate::mesh::{ControlPost, join};
use crate::shard::access::AccessLog;
use crate::shard::engine::memory::{Memory, Traveller};
use crate::shard::engine::{Happening, Link, Shut};
use crate::shard::settings::{Accept, Clients, HalfClose, Queues, Settings};
use crate::shard::state::{Joins, Shard};
use crate::wire::call::{Answer, Call};
use crate::wire::codec::{Cause, Codec};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

/// What an instance does by itself.
#[derive(Clone, Copy)]
pub(super) enum Habit {
    /// It accepts; the test answers.
    Manual,
    /// It accepts, and answers each whole request with these bytes.
    Answers(&'static str),
    /// It answers each whole request with its own body, of the same length.
    Echoes,
    /// It refuses connections.
    Refuses,
    /// It neither accepts nor refuses.
    Silent,
}

/// Names a remote.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Id(usize);

/// The other end of a link.
pub(super) struct Remote {
    pub(super) shard: usize,
    pub(super) link: Link,
    /// Of an instance: where it listens.
    pub(super) address: Option<SocketAddr>,
    /// Bytes that came from the shard.
    pub(super) got: Vec<u8>,
    /// Bytes on their way to the shard.
    pub(super) send: Vec<u8>,
    pub(super) fin: bool,
    pub(super) shut: Option<Shut>,
    /// Bytes of requests that were answered.
    answered: usize,
    /// It takes what is sent to it.
    pub(super) reads: bool,
    pub(super) opened: bool,
    /// No driver has it: it is in a letter.
    away: Option<Traveller>,
    broken: bool,
}

pub(super) struct World {
    pub(super) shards: Vec<Shard<Memory>>,
    pub(super) now: Instant,
    pub(super) control: ControlPost,
    pub(super) calls: Receiver<Call>,
    pub(super) answers: Vec<Sender<Answer>>,
    pub(super) notices: Receiver<Notice>,
    pub(super) remotes: BTreeMap<usize, Remote>,
    pub(super) instances: Vec<Arc<Instance>>,
    pub(super) habits: HashMap<SocketAddr, Habit>,
    /// Bytes taken or given in one step.
    pub(super) sip: usize,
    /// Longest output queue seen, in bytes.
    pub(super) queued_most: usize,
    /// How often a connection was adopted by another shard.
    pub(super) travelled: usize,
    worlds: Arc<ArcSwap<Services>>,
}

pub(super) const START: Instant = Instant(1_000_000_000);

/// What one play needs to be different from the usual.
pub(super) struct Setup {
    pub(super) shards: usize,
    pub(super) limits: Limits,
    pub(super) half_close: HalfClose,
    /// As given to `--static`.
    pub(super) service: &'static str,
    pub(super) habit: Habit,
    pub(super) accept: Accept,
    /// The service is where other routers are handed over.
    pub(super) is_of_peers: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            shards: 1,
            limits: Limits::PRODUCTION,
            half_close: HalfClose::Gone,
            service: "bench=10.0.0.1:80;concurrency-level=8",
            habit: Habit::Manual,
            accept: Accept::Plain,
            is_of_peers: false,
        }
    }
}

impl World {
    pub(super) fn usual(habit: Habit) -> Self {
        Self::new(Setup { habit, ..Setup::default() })
    }

    pub(super) fn new(setup: Setup) -> Self {
        let (told, notices) = sync_channel(1024);
        let (posts, control) = join(setup.shards, || {
            let told = told.clone();
            Box::new(move |notice| {
                let _ = told.try_send(notice); // a play that wants them reads them in time
                Ok(())
            })
        });
        let description = parse_static(setup.service, &Defaults::default()).expect("a service");
        let (services, instances) = services_of(description);
        let worlds = Arc::new(ArcSwap::from_pointee(services));
        let (to_api, calls) = sync_channel(64);
        let settings = Arc::new(settings(&setup));
        let mut answers = Vec::new();
        let shards = posts.into_iter().map(|post| {
            let (sender, receiver) = channel();
            answers.push(sender);
            let joins = Joins {
                post,
                worlds: worlds.clone(),
                calls: to_api.clone(),
                answers: receiver,
                settings: settings.clone(),
                access: AccessLog::default(),
            };
            Shard::new(Memory::default(), joins, 1, START)
        });
        let shards = shards.collect();
        let habits = instances.iter().map(|it| (it.address, setup.habit)).collect();
        Self {
            shards,
            now: START,
            control,
            calls,
            answers,
            notices,
            remotes: BTreeMap::new(),
            instances,
            habits,
            sip: usize::MAX,
            queued_most: 0,
            travelled: 0,
            worlds,
        }
    }

    /// A client connects to a shard.
    pub(super) fn client(&mut self, shard: usize) -> Id {
        self.client_from(shard, "10.9.9.9:999")
    }

    /// A client on this machine connects to a shard.
    pub(super) fn local_client(&mut self, shard: usize) -> Id {
        self.client_from(shard, "127.0.0.1:999")
    }

    fn client_from(&mut self, shard: usize, peer: &str) -> Id {
        let link = self.shards[shard].engine.client();
        let peer = peer.parse().expect("address");
        let id = self.remember(shard, link, None);
        self.shards[shard].happened(Happening::Accepted(link, peer), self.now);
        self.follow();
        id
    }

    /// A client connects that speaks another protocol.
    pub(super) fn client_with(&mut self, shard: usize, codec: Box<dyn Codec>) -> Id {
        let link = self.shards[shard].engine.client();
        let peer = "10.9.9.9:999".parse().expect("address");
        self.shards[shard].accepted(link, peer, codec);
        self.remember(shard, link, None)
    }

    /// A remote sends.
    pub(super) fn send(&mut self, id: Id, bytes: impl AsRef<[u8]>) {
        self.remote(id).send.extend_from_slice(bytes.as_ref());
        self.settle();
    }

    /// A remote closes its sending side.
    pub(super) fn end(&mut self, id: Id) {
        self.remote(id).fin = true;
        self.settle();
    }

    /// A remote breaks the connection.
    pub(super) fn reset(&mut self, id: Id) {
        self.remote(id).broken = true;
        let (shard, link) = (self.remote(id).shard, self.remote(id).link);
        // While it is away nobody hears of it.
        if self.remote(id).away.is_none() {
            self.shards[shard].happened(Happening::Broken(link), self.now);
        }
        self.settle();
    }

    /// An instance answers the request it has got.
    pub(super) fn answer(&mut self, id: Id, bytes: impl AsRef<[u8]>) {
        let remote = self.remote(id);
        remote.answered = remote.got.len();
        self.send(id, bytes);
    }

    /// An instance answers one request of this shard, and only this shard reads it.
    pub(super) fn answer_at(&mut self, shard: usize, answer: &str) {
        let [id] = self.asked()[..] else { panic!("one request at a time") };
        let remote = self.remote(id);
        assert_eq!(remote.shard, shard, "it is asked by another");
        remote.got.clear();
        let (link, mut bytes) = (remote.link, answer.as_bytes().to_vec());
        self.shards[shard].happened(Happening::Received(link, &mut bytes), self.now);
        self.follow();
    }

    pub(super) fn remote(&mut self, id: Id) -> &mut Remote {
        self.remotes.get_mut(&id.0).expect("a remote")
    }

    /// What a remote got since the last time.
    pub(super) fn take(&mut self, id: Id) -> String {
        let remote = self.remote(id);
        remote.answered = 0;
        String::from_utf8_lossy(&std::mem::take(&mut remote.got)).into_owned()
    }

    /// What a remote got so far.
    pub(super) fn got(&mut self, id: Id) -> String {
        String::from_utf8_lossy(&self.remote(id).got).into_owned()
    }

    pub(super) fn is_closed(&mut self, id: Id) -> bool {
        self.remote(id).shut.is_some()
    }

    /// Connections to instances that are open, oldest first.
    pub(super) fn upstream(&self) -> Vec<Id> {
        let open = |it: &Remote| it.address.is_some() && it.shut.is_none();
        self.remotes.iter().filter(|(_, it)| open(it)).map(|(at, _)| Id(*at)).collect()
    }

    /// Instances that have a request they have not answered, oldest connection first.
    pub(super) fn asked(&self) -> Vec<Id> {
        let asked = |it: &Remote| it.is_asked();
        self.remotes.iter().filter(|(_, it)| asked(it)).map(|(at, _)| Id(*at)).collect()
    }

    /// Time passes, in steps of a tick; of ten, if it is long.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let step = Duration::from_millis(if time.as_secs() > 20 { 200 } else { 20 });
        while self.now < until {
            self.now += step;
            for at in 0..self.shards.len() {
                self.shards[at].tick(self.now);
            }
            self.settle();
        }
    }

    pub(super) fn command(&mut self, shard: u8, command: Command) {
        self.control.send(ShardId(shard), command);
        self.settle();
    }

    /// Publishes another version of the world.
    pub(super) fn publish(&mut self, change: impl FnOnce(&mut Services)) {
        let mut next = (**self.worlds.load()).clone();
        change(&mut next);
        next.version += 1;
        self.worlds.store(Arc::new(next));
        self.settle();
    }

    pub(super) fn service(&self) -> Arc<Service> {
        self.worlds.load().services().next().expect("there is one").clone()
    }

    /// At the end of a play: every slot is home, no exchange is left, and each instance counts the
    /// connections that drivers have.
    pub(super) fn end_of_play(&mut self) {
        for instance in &self.instances {
            assert_eq!(instance.word.used(), 0, "a slot of {} was lost", instance.suffix());
            let links = self.shards.iter().flat_map(|it| it.engine.links());
            let here = links.filter(|(_, it)| it.connects_to == Some(instance.address));
            let open = here.filter(|(_, it)| it.shut.is_none()).count();
            assert_eq!(instance.connections() as usize, open, "of {}", instance.suffix());
        }
        for shard in &self.shards {
            assert_eq!(shard.load().1, 0, "an exchange was left: {shard:?}");
            assert_eq!(shard.over_limit, 0, "a seat was above its limit: {shard:?}");
            let clients = shard.settings.clients.of(shard.id());
            assert_eq!(shard.load().0 as usize, clients, "clients are counted twice: {shard:?}");
        }
        assert_eq!(self.service().slots.waiting.count(), 0, "somebody waits");
    }

    /// Moves bytes and letters until nothing moves any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if !self.settle_once() {
                self.check_connections();
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Moves at most a sip on each link and one round of letters; whether anything moved.
    pub(super) fn settle_once(&mut self) -> bool {
        let mut moved = false;
        for shard in 0..self.shards.len() {
            moved |= self.shards[shard].post().has_mail();
            self.shards[shard].mail(self.now);
            self.follow();
            moved |= self.discover(shard);
        }
        let ids: Vec<_> = self.remotes.keys().copied().map(Id).collect();
        for id in ids {
            moved |= self.move_bytes(id);
            self.play(id);
        }
        self.check_use();
        moved
    }

    /// New connections to instances.
    fn discover(&mut self, shard: usize) -> bool {
        let known = |link| self.remotes.values().any(|it| it.shard == shard && it.link == link);
        let new: Vec<_> = self.shards[shard]
            .engine
            .links()
            .filter(|(link, _)| !known(*link))
            .filter_map(|(link, wire)| wire.connects_to.map(|address| (link, address)))
            .collect();
        for (link, address) in &new {
            self.remember(shard, *link, Some(*address));
            match self.habits[address] {
                Habit::Silent => continue,
                Habit::Refuses => {
                    let failed = Happening::OpenFailed(*link, Cause::Broken);
                    self.shards[shard].happened(failed, self.now);
                }
                _ => self.shards[shard].happened(Happening::Opened(*link), self.now),
            }
            let remote = self.remotes.values_mut().next_back().expect("just remembered");
            remote.opened = true;
        }
        !new.is_empty()
    }

    fn remember(&mut self, shard: usize, link: Link, address: Option<SocketAddr>) -> Id {
        let at = self.remotes.keys().next_back().map_or(0, |it| it + 1);
        let remote = Remote {
            shard,
            link,
            address,
            got: Vec::new(),
            send: Vec::new(),
            fin: false,
            shut: None,
            answered: 0,
            reads: true,
            opened: address.is_none(),
            away: None,
            broken: false,
        };
        self.remotes.insert(at, remote);
        Id(at)
    }

    /// Follows connections from one shard's driver to another's.
    fn follow(&mut self) {
        for shard in 0..self.shards.len() {
            for (link, traveller) in std::mem::take(&mut self.shards[shard].engine.left) {
                let mut all = self.remotes.values_mut();
                let found = all.find(|it| it.shard == shard && it.link == link);
                found.expect("it was known").away = Some(traveller);
            }
        }
        for shard in 0..self.shards.len() {
            for (link, number) in std::mem::take(&mut self.shards[shard].engine.joined) {
                let mut all = self.remotes.values_mut();
                let is_it =
                    |it: &&mut Remote| it.away.as_ref().is_some_and(|it| it.number == number);
                let remote = all.find(is_it).expect("it was away");
                self.shards[shard].engine.wire(link).connects_to = remote.address;
                (remote.shard, remote.link, remote.away) = (shard, link, None);
                self.travelled += 1;
                if remote.broken {
                    self.shards[shard].happened(Happening::Broken(link), self.now);
                }
            }
        }
        for remote in self.remotes.values_mut() {
            if remote.away.as_mut().is_some_and(Traveller::is_closed) {
                (remote.shut, remote.away) = (Some(Shut::Now), None);
            }
        }
    }

    /// Moves one sip in each direction.
    fn move_bytes(&mut self, id: Id) -> bool {
        self.follow();
        let (sip, now) = (self.sip, self.now);
        let remote = self.remotes.get_mut(&id.0).expect("a remote");
        if remote.shut.is_some() || remote.away.is_some() {
            return false;
        }
        let (shard, link) = (&mut self.shards[remote.shard], remote.link);
        let wire = shard.engine.wire(link);
        self.queued_most = self.queued_most.max(wire.output.len());
        let taken = if remote.reads { wire.output.len().min(sip) } else { 0 };
        remote.got.extend(wire.output.drain(..taken));
        if wire.shut.is_some() && (wire.output.is_empty() || wire.shut == Some(Shut::Now)) {
            remote.shut = wire.shut;
            shard.engine.forget(link);
            return true;
        }
        if taken > 0 && wire.shut.is_none() {
            shard.happened(Happening::Sent(link, taken), now);
        }
        taken > 0 || give(shard, remote, sip, now)
    }

    /// Lets an instance do what it does by itself.
    fn play(&mut self, id: Id) {
        let remote = self.remotes.get_mut(&id.0).expect("a remote");
        let Some(address) = remote.address.filter(|_| remote.shut.is_none()) else { return };
        let fresh = &remote.got[remote.answered..];
        match self.habits[&address] {
            Habit::Manual | Habit::Refuses | Habit::Silent => {}
            Habit::Answers(text) => {
                if let Some((used, _)) = whole(fresh) {
                    remote.answered += used;
                    remote.send.extend_from_slice(text.as_bytes());
                }
            }
            Habit::Echoes => {
                if let Some((used, body)) = whole(fresh) {
                    remote.answered += used;
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                    remote.send.extend_from_slice(head.as_bytes());
                    remote.send.extend_from_slice(&body);
                }
            }
        }
    }

    /// No instance is asked more than it has slots for.
    fn check_use(&self) {
        for instance in &self.instances {
            let here = |it: &&Remote| it.address == Some(instance.address) && it.is_asked();
            let asked = self.remotes.values().filter(here).count();
            assert!(
                asked <= usize::from(instance.word.limit()),
                "{} is overrun",
                instance.suffix()
            );
        }
    }

    /// No instance has more connections than slots once every letter has been read, nor others
    /// than it counts.
    fn check_connections(&self) {
        for instance in &self.instances {
            let here = |it: &&Remote| it.address == Some(instance.address) && it.shut.is_none();
            let open = self.remotes.values().filter(here).count();
            assert!(open <= usize::from(instance.word.limit()), "{} is crowded", instance.suffix());
            assert_eq!(instance.connections() as usize, open, "of {}", instance.suffix());
        }
    }
}

impl Remote {
    /// Sends, before anybody looks.
    pub(super) fn say(&mut self, bytes: &str) {
        self.send.extend_from_slice(bytes.as_bytes());
    }

    fn is_asked(&self) -> bool {
        self.address.is_some() && self.shut.is_none() && self.got.len() > self.answered
    }
}

pub(super) fn settings(setup: &Setup) -> Settings {
    let peers = parse_static(setup.service, &Defaults::default()).expect("a service");
    Settings {
        peers: setup.is_of_peers.then(|| Arc::new(peers)),
        queues: Queues::new(&setup.limits),
        clients: Clients::new(setup.shards, setup.accept),
        limits: setup.limits.clone(),
        hosts: Hosts::new([], []),
        user: "alice".into(),
        defaults: Defaults::default(),
        launch_from: Vec::new(),
        trust_forwarded: Vec::new(),
        launches: true,
        half_close: setup.half_close,
    }
}

fn services_of(description: Description) -> (Services, Vec<Arc<Instance>>) {
    let Origin::Static { name, addresses, .. } = description.origin.clone() else {
        unreachable!("a static one")
    };
    let limit = description.parameters.concurrency_level;
    let instances: Vec<_> = addresses
        .iter()
        .enumerate()
        .map(|(at, it)| Arc::new(Instance::new(&at.to_string(), *it, Date(at as u64), limit)))
        .collect();
    let slots = Arc::new(ServiceSlots::default());
    let balancing = description.parameters.load_balancing;
    slots.publish(Arc::new(Roster::new(instances.clone(), instances.len(), balancing)));
    let id = description.id.clone();
    let member = |it: &Arc<Instance>| Member {
        instance: it.clone(),
        healthy: true,
        expired: false,
        starting: false,
    };
    let mut services = Services::default();
    services.insert(Arc::new(Service {
        members: instances.iter().map(member).collect(),
        description: Arc::new(description),
        slots,
        deployment_error: None,
    }));
    services.names = Arc::new(HashMap::from_iter([(name.into(), id)]));
    (services, instances)
}

/// The home shard of the service.
pub(super) fn home(id: &ServiceId, shards: usize) -> usize {
    usize::from(id.home(shards).0)
}
