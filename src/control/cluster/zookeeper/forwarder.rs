//! Between the crate's client and the servers: a way through loopback.
//!
//! It chooses servers at random, one after the other; cuts the way when a server owes an answer for
//! a quarter of a session; and waits a little before it cuts off a client that no server can be
//! found for, which would else try without a pause.
//!
//! Of what passes it reads one thing: the session that a server grants. And it changes one: the
//! client is told of a far longer session than was granted, and what it asks for is set right again
//! on the way up. For a client that is never idle believes itself expired as soon as a server is
//! lost, and ends; so it would lose its session where another server takes it over in
//! milliseconds. How long the session really lives is the business of whoever owns this.
//!
//! Anybody on this host can connect here. So one connection is carried at a time, and once a
//! session is granted only one that names it, with its password: the client's next. Who comes
//! before that can keep the client from getting a session, and then has gained nothing; he cannot
//! give it his.

use super::client::{Error, Granted};
use super::names;
use crate::base::time::{Duration, Instant};
use crate::control::chance;
use crate::mesh::clock;
use arc_swap::ArcSwapOption;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Builder;

/// A server accepts within this time, and a client says what it wishes.
const CONNECT: Duration = Duration::from_millis(500);
/// A client without a server is kept so long.
const HOLD: Duration = Duration::from_millis(300);
/// How often it is looked whether an answer is owed; and the pause after anything that failed.
const LOOK: Duration = Duration::from_millis(100);
/// Connections that are looked at or carried; each has a thread.
const CONNECTIONS_MAX: usize = 16;
/// Bytes at the beginning of what a server says: length, version, time, session, password.
const GRANT: usize = 40;
/// Where things stand in it.
const GRANT_TIME: std::ops::Range<usize> = 8..12;
const GRANT_PASS: std::ops::Range<usize> = 12..40;
/// And in what a client says first, its wish: session and password stand there as in a grant.
const WISH_TIME: std::ops::Range<usize> = 16..20;
const WISH_PASS: std::ops::Range<usize> = 20..48;
/// What the client is told: the longest that can be, 24 days. As it is never idle it counts from
/// its own beginning, so a shorter time would end it at the first loss of a server after that time.
const TOLD_MS: i32 = i32::MAX;
/// What it is told to make it close itself, which it does when the way ends and it is a second old.
const FAREWELL_MS: i32 = 1;
/// Bytes of a whole grant, and longest wish.
const GRANT_WHOLE: usize = 41;
const WISH_MAX: usize = 1024;

/// A way to the servers, as long as this lives.
#[derive(Debug)]
pub(super) struct Forwarder {
    shared: Arc<Shared>,
    listener: Arc<TcpListener>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    servers: Vec<String>,
    /// Which server is next.
    next: AtomicUsize,
    /// Which server was reached last.
    at: AtomicUsize,
    owed_max: Duration,
    /// What is asked of servers, in milliseconds.
    wish_ms: i32,
    /// The session that was granted last; none: none was yet, or it has expired.
    pass: ArcSwapOption<Pass>,
    /// The connection that is carried, by number; 0: none.
    live: AtomicU64,
    connections: AtomicU64,
    threads: AtomicUsize,
    /// The client is sent away, and no server is asked any more.
    dismissed: AtomicBool,
    ended: AtomicBool,
}

/// A session, and the words by which its client proves that it is its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Pass {
    length_ms: u64,
    id: i64,
    words: [u8; 28],
}

impl Forwarder {
    /// Begins, if any server can be reached.
    ///
    /// # Errors
    /// None can, or there is no socket.
    pub(super) fn start(servers: &[String], session: Duration) -> Result<Self, Error> {
        let mut servers = servers.to_vec();
        shuffle(&mut servers);
        let shared = Arc::new(Shared {
            next: AtomicUsize::new(0),
            at: AtomicUsize::new(0),
            owed_max: (session / 4).max(LOOK * 2),
            wish_ms: i32::try_from(session.as_millis()).unwrap_or(i32::MAX),
            pass: ArcSwapOption::empty(),
            live: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            threads: AtomicUsize::new(0),
            dismissed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            servers,
        });
        if shared.reach().is_none() {
            let names = shared.servers.join(", ");
            return Err(Error::Trouble(format!("no server can be reached: {names}")));
        }
        let trouble = |error: std::io::Error| Error::Trouble(format!("no way to it: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(trouble)?;
        let address = listener.local_addr().map_err(trouble)?;
        let listener = Arc::new(listener);
        let (accepts, listens) = (shared.clone(), listener.clone());
        let accept = move || accepts.accept(&listens);
        Builder::new().name("zk-forward".into()).spawn(accept).map_err(trouble)?;
        Ok(Self { shared, listener, address })
    }

    /// Where the client connects.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the client close itself, whether there are servers or not. It must not outlive the
    /// way: it would call for ever, as fast as it can.
    pub(super) fn dismiss(&self) {
        self.shared.dismissed.store(true, Ordering::Release);
    }

    /// The session that was granted last; number 0: none was yet, or it has expired.
    pub(super) fn granted(&self) -> Granted {
        let pass = self.shared.pass.load();
        let (id, length_ms) = pass.as_ref().map_or((0, 0), |it| (it.id, it.length_ms));
        Granted { id, length: Duration::from_millis(length_ms) }
    }

    /// The server that was reached last.
    pub(super) fn server(&self) -> String {
        let at = self.shared.at.load(Ordering::Relaxed);
        self.shared.servers.get(at).cloned().unwrap_or_default()
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // So that it looks up, whether there is a descriptor left or not.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.ended.load(Ordering::Acquire) {
            // Most likely there is no descriptor left: one will come free.
            let Ok((client, from)) = listener.accept() else {
                std::thread::sleep(LOOK);
                continue;
            };
            let is_crowded = self.threads.load(Ordering::Acquire) >= CONNECTIONS_MAX;
            if is_crowded || !from.ip().is_loopback() {
                std::thread::sleep(LOOK);
                continue;
            }
            self.threads.fetch_add(1, Ordering::AcqRel);
            let it = self.clone();
            let meet = move || {
                it.meet(&client);
                drop(client);
                if !it.ended.load(Ordering::Acquire) {
                    std::thread::sleep(LOOK); // who is cut off again and again is slowed down
                }
                it.threads.fetch_sub(1, Ordering::AcqRel);
            };
            if let Err(error) = Builder::new().name("zk-carry".into()).spawn(meet) {
                tracing::error!(%error, "no thread to carry bytes to ZooKeeper");
                self.threads.fetch_sub(1, Ordering::AcqRel);
                std::thread::sleep(LOOK);
            }
        }
    }

    /// A server that accepts, the next first.
    fn reach(&self) -> Option<TcpStream> {
        for _ in 0..self.servers.len() {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.servers.len();
            for address in names::addresses(&self.servers[at], CONNECT) {
                if let Ok(server) = TcpStream::connect_timeout(&address, CONNECT) {
                    self.at.store(at, Ordering::Relaxed);
                    return Some(server);
                }
            }
        }
        None
    }

    /// Somebody has connected.
    fn meet(&self, client: &TcpStream) {
        let Ok(wish) = wish(client) else { return };
        if self.dismissed.load(Ordering::Acquire) {
            let _ = send_away(client); // it calls again as long as it lives
            // At once: while it is connected it asks without a pause, and never grows old.
            let _ = client.shutdown(Shutdown::Both);
            std::thread::sleep(HOLD); // one that is too young calls again at once
            return;
        }
        let number = self.connections.fetch_add(1, Ordering::AcqRel) + 1;
        if !self.admits(&wish, number) {
            tracing::warn!("somebody else called where only a client of ZooKeeper may");
            return;
        }
        if let Some(server) = self.reach() {
            self.carry(client, server, wish, number);
        } else {
            std::thread::sleep(HOLD);
        }
        let _ = self.live.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed);
        let _ = client.shutdown(Shutdown::Both); // it may be closed already
    }

    /// Whether this is the client. It replaces the connection before it, which it has given up.
    fn admits(&self, wish: &[u8], number: u64) -> bool {
        match &*self.pass.load() {
            Some(pass) if wish.get(WISH_PASS) != Some(&pass.words) => false,
            Some(_) => {
                self.live.store(number, Ordering::Release);
                true
            }
            None => {
                let live = &self.live;
                live.compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            }
        }
    }

    /// Carries bytes until one side ends, or owes an answer for too long.
    fn carry(&self, client: &TcpStream, server: TcpStream, mut wish: Vec<u8>, number: u64) {
        let both = [client, &server];
        let ready = both.iter().all(|it| it.set_nodelay(true).is_ok());
        let (Ok(up_from), Ok(up_to), true) = (client.try_clone(), server.try_clone(), ready) else {
            return;
        };
        // When the client asked, if nothing came since; 0: nothing is owed.
        let owed = Arc::new(AtomicU64::new(0));
        let owes = owed.clone();
        wish[WISH_TIME].copy_from_slice(&self.wish_ms.to_be_bytes());
        let up = move || {
            copy(up_from, &up_to, &wish, || {
                let now = clock::now().0;
                let _ = owes.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
            });
            let _ = up_to.shutdown(Shutdown::Both); // it may be closed already
        };
        if Builder::new().name("zk-carry".into()).spawn(up).is_ok() {
            self.down(&server, client, (&owed, number));
        }
        let _ = server.shutdown(Shutdown::Both); // the other thread ends by it
    }

    /// What the server says; returns when the way is over.
    fn down(&self, server: &TcpStream, client: &TcpStream, (owed, number): (&AtomicU64, u64)) {
        let mut first = Some(Vec::with_capacity(GRANT));
        let mut buffer = vec![0; 64 << 10];
        if server.set_read_timeout(Some(LOOK)).is_err() {
            return;
        }
        let (mut server, mut client) = (server, client);
        while self.live.load(Ordering::Acquire) == number {
            match server.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    owed.store(0, Ordering::Release);
                    let passed = match first.take() {
                        None => client.write_all(&buffer[..count]),
                        Some(mut said) => {
                            said.extend_from_slice(&buffer[..count]);
                            if said.len() < GRANT {
                                first = Some(said);
                                continue;
                            }
                            self.read_grant(&mut said);
                            client.write_all(&said)
                        }
                    };
                    if passed.is_err() {
                        return;
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    let since = owed.load(Ordering::Acquire);
                    let late = since > 0 && clock::now() - Instant(since) > self.owed_max;
                    let over = [&self.ended, &self.dismissed];
                    if late || over.iter().any(|it| it.load(Ordering::Acquire)) {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// The session that the server grants; the client is told of a longer one.
    fn read_grant(&self, said: &mut [u8]) {
        let granted = grant(said);
        if granted.is_some() {
            said[GRANT_TIME].copy_from_slice(&TOLD_MS.to_be_bytes());
        }
        self.pass.store(granted.map(Arc::new));
    }
}

/// What a client says first, as far as it is whole.
fn wish(client: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut from = client;
    from.set_read_timeout(Some(CONNECT))?;
    let mut wish = vec![0; 4];
    from.read_exact(&mut wish)?;
    let length = u32::from_be_bytes([wish[0], wish[1], wish[2], wish[3]]) as usize;
    if !(WISH_PASS.end..WISH_MAX).contains(&(4 + length)) {
        return Err(ErrorKind::InvalidData.into());
    }
    wish.resize(4 + length, 0);
    from.read_exact(&mut wish[4..])?;
    from.set_read_timeout(None)?;
    Ok(wish)
}

/// Answers the client as no server would.
fn send_away(mut client: &TcpStream) -> std::io::Result<()> {
    let mut said = vec![0; GRANT_WHOLE];
    said[..4].copy_from_slice(&(GRANT_WHOLE as u32 - 4).to_be_bytes());
    said[GRANT_TIME].copy_from_slice(&FAREWELL_MS.to_be_bytes());
    said[12..20].copy_from_slice(&1_i64.to_be_bytes()); // any session
    said[20..24].copy_from_slice(&16_i32.to_be_bytes()); // then 16 bytes, unread
    client.write_all(&said)
}

/// A session, from the first bytes a server says.
fn grant(said: &[u8]) -> Option<Pass> {
    let length = i32::from_be_bytes(said.get(GRANT_TIME)?.try_into().ok()?);
    // Nothing granted reads as a length of 0 or less: the session has expired.
    let length_ms = u64::try_from(length).ok().filter(|it| *it > 0)?;
    let words: [u8; 28] = said.get(GRANT_PASS)?.try_into().ok()?;
    let id = i64::from_be_bytes(*words.first_chunk()?);
    Some(Pass { length_ms, id, words })
}

/// What the client says: its wish, and all that follows.
fn copy(mut from: TcpStream, mut to: &TcpStream, wish: &[u8], passes: impl Fn()) {
    passes();
    if to.write_all(wish).is_err() {
        return;
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                passes();
                if to.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// In another order each time: else all routers would sit on one server.
fn shuffle(servers: &mut [String]) {
    servers.sort_by_cached_key(|_| {
        let mut key = [0; 8];
        let _ = chance::fill(&mut key); // without chance they stay as they were given
        key
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's first words, which grant this.
    fn granting(length_ms: i32, id: i64, password: u8) -> Vec<u8> {
        let mut said = vec![0, 0, 0, 37, 0, 0, 0, 0];
        said.extend(length_ms.to_be_bytes());
        said.extend(id.to_be_bytes());
        said.extend(16_i32.to_be_bytes());
        said.extend([password; 16]);
        said.push(0);
        said
    }

    /// A client's first words: the session that it had, if it had one.
    fn wishing(id: i64, password: u8) -> Vec<u8> {
        let mut said = vec![0, 0, 0, 45];
        said.extend([0; 4 + 8]);
        said.extend(10_000_i32.to_be_bytes());
        said.extend(id.to_be_bytes());
        said.extend(16_i32.to_be_bytes());
        said.extend([password; 16]);
        said.push(0);
        said
    }

    #[test]
    fn a_grant_is_read_from_the_first_bytes() {
        let mut said = granting(4000, 0x1234_5678_9abc, 7);
        for end in 0..GRANT {
            assert_eq!(grant(&said[..end]), None);
        }
        let pass = grant(&said).expect("whole");
        assert_eq!((pass.length_ms, pass.id), (4000, 0x1234_5678_9abc));
        assert_eq!(wishing(0x1234_5678_9abc, 7)[WISH_PASS], pass.words);
        said[8..12].fill(0);
        assert_eq!(grant(&said), None, "an expired session");
    }

    /// Connects, says this, and returns the first bytes that come back; none: it is closed.
    fn call(to: SocketAddr, wish: &[u8]) -> (TcpStream, Option<Vec<u8>>) {
        let mut socket = TcpStream::connect(to).expect("it listens");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
        socket.write_all(wish).expect("sent");
        let mut said = vec![0; GRANT_WHOLE];
        let whole = socket.read_exact(&mut said).is_ok();
        (socket, whole.then_some(said))
    }

    #[test]
    fn only_the_client_of_the_session_is_carried() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let place = server.local_addr().expect("bound").to_string();
        let serve = move || {
            // The first is the look whether it is there; each of the others is granted a session.
            for socket in server.incoming().flatten().skip(1) {
                let _ = wish(&socket).map(|_| (&socket).write_all(&granting(4000, 7, 7)));
                std::thread::spawn(move || {
                    let _ = (&socket).read(&mut [0; 64]); // until it is closed
                });
            }
        };
        std::thread::spawn(serve);
        let way = Forwarder::start(&[place], Duration::from_secs(4)).expect("it is there");
        let (first, said) = call(way.address(), &wishing(0, 0));
        let said = said.expect("granted");
        assert_eq!(said[GRANT_TIME], TOLD_MS.to_be_bytes());
        assert_eq!(way.granted().id, 7);
        // Others are not: neither with nothing to show, nor with a guess, nor with no wish at all.
        for other in [wishing(0, 0), wishing(7, 8), vec![0, 0, 0, 2, 1, 1], vec![0xff; 64]] {
            assert_eq!(call(way.address(), &other).1, None);
            assert_eq!((way.granted().id, way.granted().length), (7, Duration::from_secs(4)));
        }
        // The client's next connection takes the place of the one before.
        let (_second, said) = call(way.address(), &wishing(7, 7));
        assert!(said.is_some());
        assert_eq!((&first).read(&mut [0; 1]).ok(), Some(0), "the one before is closed");
    }
}
