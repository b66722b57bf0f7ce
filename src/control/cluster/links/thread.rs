//! The thread: who is to be connected to, who is, and what waits.

use super::Hear;
use super::connection::{Connection, Fault, Own};
use super::status::{Proven, Reached, Refused, Status};
use crate::base::ids::RouterId;
use crate::base::time::{Duration, Instant};
use crate::control::chance;
use crate::control::cluster::Tell;
use crate::core::peers::Member;
use crate::core::peers::document::ROUTERS_MAX;
use crate::mesh::clock;
use crate::wire::peer::{Nonce, Secret};
use arc_swap::ArcSwap;
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

/// TCP is open within this time, and both sides have proved themselves within the other, from then
/// on or from the call.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
const GREET_TIMEOUT: Duration = Duration::from_secs(2);
/// A proven connection that says nothing for so long is closed; something comes every 100 ms.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Pauses between calls to one router: the first, which doubles, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// The router with the higher id waits so long for the other's call.
const PATIENCE: Duration = Duration::from_millis(500);
/// Callers that have not proved themselves.
const STRANGERS_MAX: usize = 64;
/// Time between two looks at everything.
const SWEEP: Duration = Duration::from_millis(50);
/// One complaint about a router in this time.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);
/// What is shown is this old at most.
const SHOW_EVERY: Duration = Duration::from_millis(500);

const BELL: u64 = 0;
const LISTENER: u64 = 1;

/// A router that is to be connected to.
#[derive(Debug)]
struct Wanted {
    address: String,
    /// Its proven connection.
    link: Option<u64>,
    /// When it is called next, and the pause before the call after that.
    next_call: Instant,
    pause: Duration,
    /// It was said that there is a connection, and not yet that it broke.
    is_told: bool,
    /// Why the last connection ended, or none came about.
    last_error: Option<String>,
}

/// All connections.
pub(super) struct Thread {
    me: RouterId,
    secret: Secret,
    hear: Hear,
    listener: TcpListener,
    bell: Arc<OwnedFd>,
    told: Receiver<Tell>,
    epoll: OwnedFd,
    wanted: BTreeMap<RouterId, Wanted>,
    connections: HashMap<u64, Connection>,
    next: u64,
    next_sweep: Instant,
    /// No callers are taken in until the next sweep: there are no descriptors for them.
    rests: bool,
    complained: BTreeMap<String, Instant>,
    refused: Refused,
    shown: Arc<ArcSwap<Status>>,
    next_show: Instant,
}

impl Thread {
    pub(super) fn new(
        me: RouterId,
        secret: Secret,
        hear: Hear,
        listener: TcpListener,
        bell: Arc<OwnedFd>,
        told: Receiver<Tell>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let read = epoll::EventFlags::IN;
        epoll::add(&epoll, &*bell, epoll::EventData::new_u64(BELL), read)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), read)?;
        Ok(Self {
            me,
            secret,
            hear,
            listener,
            bell,
            told,
            epoll,
            wanted: BTreeMap::new(),
            connections: HashMap::new(),
            next: LISTENER + 1,
            next_sweep: Instant(0),
            rests: false,
            complained: BTreeMap::new(),
            refused: Refused::default(),
            shown: Arc::default(),
            next_show: Instant(0),
        })
    }

    /// Where it shows how things are.
    pub(super) fn shown(&self) -> Arc<ArcSwap<Status>> {
        self.shown.clone()
    }

    /// Runs until it is told to end.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(256);
        loop {
            let wait = Timespec { tv_sec: 0, tv_nsec: SWEEP.subsec_nanos().into() };
            events.clear();
            let waited =
                epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait));
            if let Err(error) = waited
                && error != rustix::io::Errno::INTR
            {
                tracing::error!(%error, "the connections to other routers cannot be waited for");
                return;
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    BELL => {
                        let _ = rustix::io::read(&*self.bell, &mut [0_u8; 8]); // it only wakes
                    }
                    LISTENER => self.accept(),
                    id => self.ready(id, event.flags),
                }
            }
            loop {
                match self.told.try_recv() {
                    Ok(Tell::End) | Err(TryRecvError::Disconnected) => return,
                    Ok(tell) => self.obey(tell),
                    Err(TryRecvError::Empty) => break,
                }
            }
            let now = clock::now();
            if now >= self.next_sweep {
                self.next_sweep = now + SWEEP;
                self.sweep(now);
            }
            if now >= self.next_show {
                self.next_show = now + SHOW_EVERY;
                self.show();
            }
        }
    }

    fn obey(&mut self, tell: Tell) {
        match tell {
            Tell::Routers(routers) => self.want(routers),
            Tell::Document(to, document) => {
                self.with_link(&to, |it| it.put_document(document));
            }
            Tell::Counters(to, counters) => {
                self.with_link(&to, |it| it.put_counters(counters));
            }
            Tell::End => {}
        }
    }

    /// These and no others.
    fn want(&mut self, routers: Vec<Member>) {
        let now = clock::now();
        let mut before = std::mem::take(&mut self.wanted);
        let me = self.me.clone();
        for router in routers.into_iter().filter(|it| it.id != me).take(ROUTERS_MAX) {
            let known = before.remove(&router.id);
            let first = if self.me < router.id { now } else { now + PATIENCE };
            let fresh = Wanted {
                address: String::new(),
                link: None,
                next_call: first,
                pause: PAUSE.0,
                is_told: false,
                last_error: None,
            };
            let wanted = self.wanted.entry(router.id).or_insert_with(|| known.unwrap_or(fresh));
            wanted.address = router.address;
        }
        for link in before.into_values().filter_map(|it| it.link) {
            self.connections.remove(&link);
        }
        self.next_sweep = now;
    }

    fn with_link(&mut self, to: &RouterId, act: impl FnOnce(&mut Connection) -> Result<(), Fault>) {
        let Some(id) = self.wanted.get(to).and_then(|it| it.link) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match act(connection) {
            Ok(()) => self.arm(id),
            Err(fault) => self.end(id, &fault),
        }
    }

    fn accept(&mut self) {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Most likely no descriptor is left; the listener would wake at once again.
                    self.complain("callers", &format!("they cannot be taken in: {error}"));
                    return self.listen(epoll::EventFlags::empty());
                }
            };
            self.make_room();
            if socket.set_nonblocking(true).is_ok() {
                self.insert(Connection::called(socket, clock::now()));
            }
        }
    }

    /// Too many callers that have not proved themselves: the one that had most time for it goes.
    /// Routers need a few milliseconds, so they are served however many others call.
    fn make_room(&mut self) {
        let all = self.connections.iter();
        let strangers = all.filter(|(_, it)| !it.calls && !it.is_proven()).map(|(id, _)| *id);
        let (count, oldest) = strangers.fold((0, u64::MAX), |(n, id), it| (n + 1, id.min(it)));
        if count >= STRANGERS_MAX {
            self.connections.remove(&oldest);
            self.refused.crowded += 1;
            self.complain("strangers", "too many callers have not proved themselves");
        }
    }

    /// What the listener wakes for.
    fn listen(&mut self, interest: epoll::EventFlags) {
        self.rests = interest.is_empty();
        let data = epoll::EventData::new_u64(LISTENER);
        let _ = epoll::modify(&self.epoll, &self.listener, data, interest); // it is in there
    }

    fn insert(&mut self, connection: Connection) -> u64 {
        let _ = connection.socket.set_nodelay(true); // it only costs time without
        let id = self.next;
        self.next += 1;
        let data = epoll::EventData::new_u64(id);
        let added = epoll::add(&self.epoll, &connection.socket, data, interest(&connection));
        if let Err(error) = added {
            tracing::error!(%error, "a connection to a router cannot be waited for");
        } else {
            self.connections.insert(id, connection);
        }
        id
    }

    /// What a connection waits for may be something else now.
    fn arm(&mut self, id: u64) {
        let Some(it) = self.connections.get(&id) else { return };
        let data = epoll::EventData::new_u64(id);
        let _ = epoll::modify(&self.epoll, &it.socket, data, interest(it)); // sweeps find the dead
    }

    fn ready(&mut self, id: u64, flags: epoll::EventFlags) {
        let (me, secret) = (self.me.clone(), self.secret.clone());
        let own = Own { me: &me, secret: &secret, now: clock::now(), date: clock::date() };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (proven, silent) = (connection.is_proven(), !connection.has_spoken());
        let ends = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let mut done = Ok(());
        if flags.intersects(epoll::EventFlags::OUT | ends) {
            done = connection.writable(&own);
        }
        if done.is_ok() && flags.intersects(epoll::EventFlags::IN | ends) {
            let hear = &self.hear;
            done = connection.readable(&own, nonce, hear).map(drop);
        }
        if let Err(fault) = done {
            return self.end(id, &fault);
        }
        if !proven && self.connections.get(&id).is_some_and(Connection::is_proven) {
            self.proven(id);
        }
        if silent && self.connections.get(&id).is_some_and(Connection::has_spoken) {
            self.spoke(id);
        }
        self.arm(id);
    }

    /// Both sides have proved themselves. Of two connections one stays.
    fn proven(&mut self, id: u64) {
        let fresh = &self.connections[&id];
        let peer = fresh.peer.clone().expect("who has proved himself has a name");
        let Some(wanted) = self.wanted.get_mut(&peer) else {
            // A member that is not known here yet: it will call again.
            self.connections.remove(&id);
            return;
        };
        let Some(old) = wanted.link else {
            wanted.link = Some(id);
            return;
        };
        let by_lower = |it: &Connection| it.calls == (self.me < peer);
        let keeps_old = self
            .connections
            .get(&old)
            .is_some_and(|it| by_lower(it) && !by_lower(&self.connections[&id]));
        let (stays, goes) = if keeps_old { (old, id) } else { (id, old) };
        wanted.link = Some(stays);
        self.connections.remove(&goes);
    }

    /// The first that a router says on a proven connection. Before, it may not know this router
    /// yet and close again; so pauses go on growing until here.
    fn spoke(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let Some(wanted) = connection.peer.as_ref().and_then(|it| self.wanted.get_mut(it)) else {
            return;
        };
        if wanted.link == Some(id) {
            wanted.pause = PAUSE.0;
            if !std::mem::replace(&mut wanted.is_told, true) {
                let router = connection.peer.as_ref().map(RouterId::as_str);
                tracing::info!(router, "connected to a router");
            }
        }
    }

    /// A connection is over.
    fn end(&mut self, id: u64, fault: &Fault) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let now = clock::now();
        let peer = connection.peer.as_ref();
        self.refused.count(fault);
        if let Some(wanted) = peer.and_then(|it| self.wanted.get_mut(it)) {
            wanted.last_error = Some(fault.to_string());
        }
        let mut is_news = false;
        if let Some((peer, wanted)) = peer.and_then(|it| Some((it, self.wanted.get_mut(it)?)))
            && wanted.link == Some(id)
        {
            wanted.link = None;
            let own_turn = if self.me < *peer { Duration::ZERO } else { PATIENCE };
            // One that never spoke is called no sooner than the pause allows.
            wanted.next_call = match connection.has_spoken() {
                true => now + own_turn,
                false => wanted.next_call.max(now + own_turn),
            };
            is_news = std::mem::replace(&mut wanted.is_told, false);
        }
        let who = peer.map_or_else(|| "a caller".to_owned(), ToString::to_string);
        match fault {
            Fault::Broken(error) if is_news => {
                tracing::warn!(router = who, %error, "the connection to a router broke");
            }
            Fault::Broken(_) if peer.is_none() => {}
            _ => self.complain(&who, &fault.to_string()),
        }
    }

    /// Says what is wrong with a router, not too often.
    fn complain(&mut self, who: &str, what: &str) {
        let now = clock::now();
        self.complained.retain(|_, at| now - *at < COMPLAIN_EVERY);
        let key = format!("{who}: {what}");
        if self.complained.len() < STRANGERS_MAX && !self.complained.contains_key(&key) {
            self.complained.insert(key, now);
            tracing::warn!(router = who, what, "a router cannot be talked to");
        }
    }

    fn show(&self) {
        let one = |(id, it): (&RouterId, &Wanted)| Reached {
            id: id.clone(),
            address: it.address.clone(),
            link: it.link.and_then(|it| self.connections.get(&it)).map(Proven::of),
            last_error: it.last_error.clone(),
        };
        let routers = self.wanted.iter().map(one).collect();
        self.shown.store(Arc::new(Status { routers, refused: self.refused }));
    }

    /// Closes what is late, and calls whom there is no connection to.
    fn sweep(&mut self, now: Instant) {
        let late: Vec<(u64, io::ErrorKind)> = {
            let all = self.connections.iter();
            all.filter(|(_, it)| is_late(it, now))
                .map(|(id, _)| (*id, io::ErrorKind::TimedOut))
                .collect()
        };
        for (id, kind) in late {
            self.end(id, &Fault::Broken(kind.into()));
        }
        if self.rests {
            self.listen(epoll::EventFlags::IN);
        }
        let calling: BTreeSet<RouterId> = {
            let all = self.connections.values();
            all.filter(|it| it.calls).filter_map(|it| it.peer.clone()).collect()
        };
        let due = |id: &RouterId, it: &Wanted| {
            let is_missed = it.link.is_none() && it.next_call <= now && !it.address.is_empty();
            is_missed && !calling.contains(id)
        };
        let mut calls = Vec::new();
        for (id, it) in self.wanted.iter_mut().filter(|(id, it)| due(id, it)) {
            it.next_call = now + it.pause / 2 + jitter(it.pause / 2);
            it.pause = (it.pause * 2).min(PAUSE.1);
            calls.push((id.clone(), it.address.clone()));
        }
        for (id, address) in calls {
            match dial(&address) {
                Ok(socket) => {
                    self.insert(Connection::call(socket, id, address, now));
                }
                Err(error) => {
                    let error = format!("{address}: {error}");
                    self.complain(id.as_str(), &error);
                    if let Some(wanted) = self.wanted.get_mut(&id) {
                        wanted.last_error = Some(error);
                    }
                }
            }
        }
    }
}

fn interest(it: &Connection) -> epoll::EventFlags {
    let write =
        if it.wants_to_write() { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
    epoll::EventFlags::IN | write
}

fn is_late(it: &Connection, now: Instant) -> bool {
    use super::connection::Stage;
    match it.stage {
        Stage::Opening => now - it.since > OPEN_TIMEOUT,
        Stage::Proven(_) => now - it.heard > SILENCE_MAX,
        _ => now - it.begun > GREET_TIMEOUT,
    }
}

/// Begins to open a connection.
fn dial(address: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().map_err(|_| {
        io::Error::other("no address: another router's --advertise names none that can be called")
    })?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// A part of a pause, so that routers that lost each other at one time do not all call at one time.
fn jitter(most: Duration) -> Duration {
    most * u32::from(nonce()[0]) / u32::from(u8::MAX)
}

fn nonce() -> Nonce {
    let mut bytes = [0; 32];
    // It fails only where the kernel has no such call; then nothing can be proved.
    chance::fill(&mut bytes).expect("the system has chance");
    bytes
}
