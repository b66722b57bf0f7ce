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

use super::client::{Error, Granted};
use crate::base::time::{Duration, Instant};
use crate::control::chance;
use crate::mesh::clock;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::thread::Builder;

/// A server accepts within this time.
const CONNECT: Duration = Duration::from_millis(500);
/// A client without a server is kept so long.
const HOLD: Duration = Duration::from_millis(300);
/// How often it is looked whether an answer is owed.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes at the beginning of what a server says: length, version, time, session.
const GRANT: usize = 20;
/// Where the time stands in it, and in what a client says first, which has so many bytes before.
const GRANT_TIME: std::ops::Range<usize> = 8..12;
const WISH_TIME: std::ops::Range<usize> = 16..20;
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
    session: AtomicI64,
    length_ms: AtomicU64,
    /// The client is sent away, and no server is asked any more.
    dismissed: AtomicBool,
    ended: AtomicBool,
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
            session: AtomicI64::new(0),
            length_ms: AtomicU64::new(0),
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
        let accepts = shared.clone();
        let accept = move || accepts.accept(&listener);
        Builder::new().name("zk-forward".into()).spawn(accept).map_err(trouble)?;
        Ok(Self { shared, address })
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

    /// The session that was granted last; number 0: none was yet.
    pub(super) fn granted(&self) -> Granted {
        let length = Duration::from_millis(self.shared.length_ms.load(Ordering::Acquire));
        Granted { id: self.shared.session.load(Ordering::Acquire), length }
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
        let _ = TcpStream::connect_timeout(&self.address, CONNECT); // so that it looks up
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((client, from)) = listener.accept() {
            if self.ended.load(Ordering::Acquire) {
                return;
            }
            if !from.ip().is_loopback() {
                continue;
            }
            let it = self.clone();
            let carry = move || it.carry(client);
            if let Err(error) = Builder::new().name("zk-carry".into()).spawn(carry) {
                tracing::error!(%error, "no thread to carry bytes to ZooKeeper");
            }
        }
    }

    /// A server that accepts, the next first.
    fn reach(&self) -> Option<TcpStream> {
        for _ in 0..self.servers.len() {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.servers.len();
            let addresses = self.servers[at].to_socket_addrs();
            for address in addresses.into_iter().flatten() {
                if let Ok(server) = TcpStream::connect_timeout(&address, CONNECT) {
                    self.at.store(at, Ordering::Relaxed);
                    return Some(server);
                }
            }
        }
        None
    }

    fn carry(self: &Arc<Self>, client: TcpStream) {
        if self.dismissed.load(Ordering::Acquire) {
            let _ = self.send_away(client); // it calls again as long as it lives
            std::thread::sleep(HOLD); // one that is too young calls again at once
            return;
        }
        let Some(server) = self.reach() else {
            std::thread::sleep(HOLD);
            return;
        };
        let both = [&client, &server];
        let ready = both.iter().all(|it| it.set_nodelay(true).is_ok());
        let (Ok(up_from), Ok(up_to), true) = (client.try_clone(), server.try_clone(), ready) else {
            return;
        };
        // When the client asked, if nothing came since; 0: nothing is owed.
        let owed = Arc::new(AtomicU64::new(0));
        let owes = owed.clone();
        let wish = self.wish_ms;
        let up = move || {
            copy(up_from, &up_to, wish, || {
                let now = clock::now().0;
                let _ = owes.compare_exchange(0, now, Ordering::AcqRel, Ordering::Relaxed);
            });
            let _ = up_to.shutdown(Shutdown::Both); // it may be closed already
        };
        if Builder::new().name("zk-carry".into()).spawn(up).is_ok() {
            self.down(&server, &client, &owed);
        }
        for it in [&client, &server] {
            let _ = it.shutdown(Shutdown::Both); // the other thread ends by it
        }
        if !self.ended.load(Ordering::Acquire) {
            std::thread::sleep(LOOK); // a client that is cut off again and again is slowed down
        }
    }

    /// Answers the client as no server would.
    fn send_away(&self, mut client: TcpStream) -> std::io::Result<()> {
        client.set_read_timeout(Some(CONNECT))?;
        let mut length = [0; 4];
        client.read_exact(&mut length)?;
        let mut wish = vec![0; WISH_MAX.min(u32::from_be_bytes(length) as usize)];
        client.read_exact(&mut wish)?;
        let mut said = vec![0; GRANT_WHOLE];
        said[..4].copy_from_slice(&(GRANT_WHOLE as u32 - 4).to_be_bytes());
        said[GRANT_TIME].copy_from_slice(&FAREWELL_MS.to_be_bytes());
        said[GRANT_TIME.end..GRANT].copy_from_slice(&1_i64.to_be_bytes()); // any session
        said[GRANT..GRANT + 4].copy_from_slice(&16_i32.to_be_bytes()); // then 16 bytes, unread
        client.write_all(&said)
    }

    /// What the server says; returns when the way is over.
    fn down(&self, server: &TcpStream, client: &TcpStream, owed: &AtomicU64) {
        let mut first = Some(Vec::with_capacity(GRANT));
        let mut buffer = vec![0; 64 << 10];
        if server.set_read_timeout(Some(LOOK)).is_err() {
            return;
        }
        let (mut server, mut client) = (server, client);
        loop {
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
        let Some((granted, id)) = grant(said) else { return };
        said[GRANT_TIME].copy_from_slice(&TOLD_MS.to_be_bytes());
        self.length_ms.store(granted, Ordering::Release);
        self.session.store(id, Ordering::Release);
    }
}

/// Length and number of a session, from the first bytes a server says.
fn grant(said: &[u8]) -> Option<(u64, i64)> {
    let (_, rest) = said.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let id = rest.first_chunk::<8>()?;
    // Nothing granted reads as a length of 0 or less: the session has expired.
    let length = u64::try_from(i32::from_be_bytes(*length)).ok().filter(|it| *it > 0)?;
    Some((length, i64::from_be_bytes(*id)))
}

/// What the client says; its first words with the time that is really wished for.
fn copy(mut from: TcpStream, to: &TcpStream, wish_ms: i32, passes: impl Fn()) {
    let mut buffer = vec![0; 64 << 10];
    let mut to = to;
    let (mut held, mut is_first) = (0, true);
    loop {
        match from.read(&mut buffer[held..]) {
            Ok(0) => return,
            Ok(count) => {
                let count = held + count;
                if is_first && count < WISH_TIME.end {
                    held = count;
                    continue;
                }
                if std::mem::take(&mut is_first) {
                    buffer[WISH_TIME].copy_from_slice(&wish_ms.to_be_bytes());
                }
                held = 0;
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

    #[test]
    fn a_grant_is_read_from_the_first_bytes() {
        let mut said = vec![0, 0, 0, 37, 0, 0, 0, 0, 0, 0, 0x0f, 0xa0];
        said.extend(0x1234_5678_9abc_i64.to_be_bytes());
        for end in 0..said.len() {
            assert_eq!(grant(&said[..end]), None);
        }
        assert_eq!(grant(&said), Some((4000, 0x1234_5678_9abc)));
        said[8..12].fill(0);
        assert_eq!(grant(&said), None, "an expired session");
    }
}
