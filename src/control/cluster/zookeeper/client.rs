//! The seam to ZooKeeper: what is asked of it, whoever asks for it.

use super::generation::Generation;
use crate::base::time::{Duration, Instant};
use crate::mesh::clock;
use std::fmt;

/// Largest value; the server's own bound is a little above, with the request around it.
pub const VALUE_BYTES_MAX: usize = 1_000_000;

/// Pauses before another client is tried: the first, which doubles, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// Pause between two tries of what only reads, or writes the same again.
const AGAIN: Duration = Duration::from_millis(50);

/// How a node is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// It stays.
    Persistent,
    /// It goes with the session.
    Ephemeral,
    /// It goes with the session, and a number is added to its name.
    Sequential,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stat {
    /// Writes of its value.
    pub version: i32,
    /// The transaction that made it.
    pub created: i64,
    /// The transaction that last added or removed a child.
    pub pzxid: i64,
    /// The session it goes with; 0: none.
    pub owner: i64,
}

/// Why something was not done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error {
    /// There is no such node.
    NoNode,
    /// There is one already.
    NodeExists,
    /// It has another version.
    BadVersion,
    /// It has children.
    NotEmpty,
    /// The value is larger than [`VALUE_BYTES_MAX`].
    TooLarge(usize),
    /// The server refuses it, and would again.
    Refused(String),
    /// Those who are registered are no routers of this one's cluster.
    Strangers(String),
    /// Nobody knows what came of it; the client has been given up.
    Trouble(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNode => f.write_str("there is no such node"),
            Self::NodeExists => f.write_str("there is such a node already"),
            Self::BadVersion => f.write_str("it has another version"),
            Self::NotEmpty => f.write_str("it has children"),
            Self::TooLarge(bytes) => {
                write!(f, "{bytes} bytes are too many for ZooKeeper, which takes {VALUE_BYTES_MAX}")
            }
            Self::Refused(why) => write!(f, "ZooKeeper refuses it: {why}"),
            Self::Strangers(why) | Self::Trouble(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

/// A session that was granted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Granted {
    /// Its number.
    pub id: i64,
    /// How long it lives without a word.
    pub length: Duration,
}

/// What is asked of a server, on one session. An error but [`Error::Trouble`] says something of the
/// nodes; after that one nothing is asked again.
pub trait Verbs {
    /// Makes a node; returns its path.
    ///
    /// # Errors
    /// See [`Error`].
    fn create(&mut self, path: &str, value: &[u8], mode: Mode) -> Result<String, Error>;

    /// Writes a value, if it has this version.
    ///
    /// # Errors
    /// See [`Error`].
    fn set(&mut self, path: &str, value: &[u8], version: Option<i32>) -> Result<Stat, Error>;

    /// Removes a node, if it has this version.
    ///
    /// # Errors
    /// See [`Error`].
    fn delete(&mut self, path: &str, version: Option<i32>) -> Result<(), Error>;

    /// A value.
    ///
    /// # Errors
    /// See [`Error`].
    fn get(&mut self, path: &str) -> Result<(Vec<u8>, Stat), Error>;

    /// Names of children, with the state of their parent before and after as one.
    ///
    /// # Errors
    /// See [`Error`].
    fn children(&mut self, path: &str) -> Result<Vec<String>, Error>;
}

/// A client that begins a new life after each trouble.
///
/// A life that is given up is let go only when the next one is wanted, for its session is ended
/// then, and whoever leads by it must have heard before that it is lost.
#[derive(Debug)]
pub struct Client {
    servers: Vec<String>,
    session: Duration,
    life: Option<Generation>,
    /// The life before, which was given up.
    spent: Option<Generation>,
    /// When another life may begin, and the pause before the one after that.
    next: Instant,
    pause: Duration,
}

impl Client {
    /// A client of these servers (`host:port`) that asks for sessions of this length. Nothing is
    /// connected yet.
    pub fn new(servers: Vec<String>, session: Duration) -> Self {
        Self { servers, session, life: None, spent: None, next: Instant(0), pause: PAUSE.0 }
    }

    /// The session at hand; another than before after each trouble, and when it has expired. The
    /// same one may have another length, where another server has granted it that.
    ///
    /// # Errors
    /// No server can be reached, or none grants a session; or it is too early to try again.
    pub fn session(&mut self) -> Result<Granted, Error> {
        if self.life.as_ref().is_some_and(|it| !it.is_whole()) {
            self.give_up(); // it expired while nobody asked
        }
        if let Some(life) = &self.life {
            return Ok(life.granted());
        }
        self.spent = None;
        let now = clock::now();
        if now < self.next {
            return Err(Error::Trouble("it is not tried again yet".to_owned()));
        }
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE.1);
        let life = Generation::begin(&self.servers, self.session)?;
        let granted = life.granted();
        self.life = Some(life);
        Ok(granted)
    }

    /// The session at hand as it is granted now, if there is one that goes on.
    pub fn granted(&self) -> Option<Granted> {
        self.life.as_ref().filter(|it| it.is_whole()).map(Generation::granted)
    }

    /// The server that is talked to.
    pub fn server(&self) -> String {
        self.life.as_ref().map(Generation::server).unwrap_or_default()
    }

    /// How long the caller may wait before a session can be had.
    pub fn nap(&self) -> Duration {
        self.next - clock::now()
    }

    /// It has worked: after the next trouble another life begins soon.
    pub fn works(&mut self) {
        self.pause = PAUSE.0;
        self.next = Instant(0);
    }

    /// Keeps the session at hand alive, if there is one.
    pub fn tend(&mut self) {
        self.spent = None;
        if self.life.is_some() {
            let _ = self.get("/"); // without a session another is begun when it is needed
        }
    }

    /// How often [`tend`](Self::tend) must be called where nothing else is asked.
    pub fn tend_every(&self) -> Duration {
        self.life.as_ref().map_or(self.session, |it| it.granted().length) / 3
    }

    /// Ends the session, so that what goes with it is gone at once.
    pub fn close(mut self) {
        if let Some(life) = self.life.take() {
            life.close();
        }
    }

    /// Gives the life at hand up. Its session is ended when the next is wanted.
    pub fn give_up(&mut self) {
        if self.life.is_some() {
            self.spent = self.life.take();
        }
    }

    /// Lets the life at hand do something; gives it up at trouble.
    fn with<T>(
        &mut self,
        repeats: bool,
        act: impl Fn(&mut Generation) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.session()?;
        let life = self.life.as_mut().expect("there is a session");
        let end = clock::now() + life.deadline();
        let mut done = act(life);
        // The connection may have gone to another server, with the same session.
        while repeats && matches!(done, Err(Error::Trouble(_))) && life.is_whole() {
            if clock::now() + AGAIN > end {
                break;
            }
            std::thread::sleep(AGAIN);
            done = act(life);
        }
        if !life.is_whole() && done.is_ok() {
            done = Err(Error::Trouble("the session is another one".to_owned()));
        }
        if matches!(done, Err(Error::Trouble(_))) {
            self.give_up();
        }
        done
    }
}

impl Verbs for Client {
    fn create(&mut self, path: &str, value: &[u8], mode: Mode) -> Result<String, Error> {
        check(value)?;
        self.with(false, |it| it.create(path, value, mode))
    }

    fn set(&mut self, path: &str, value: &[u8], version: Option<i32>) -> Result<Stat, Error> {
        check(value)?;
        // To write the same again does no harm where the version does not matter.
        self.with(version.is_none(), |it| it.set(path, value, version))
    }

    fn delete(&mut self, path: &str, version: Option<i32>) -> Result<(), Error> {
        self.with(false, |it| it.delete(path, version))
    }

    fn get(&mut self, path: &str) -> Result<(Vec<u8>, Stat), Error> {
        self.with(true, |it| it.get(path))
    }

    fn children(&mut self, path: &str) -> Result<Vec<String>, Error> {
        self.with(true, |it| it.children(path))
    }
}

/// Makes a node and those above it, where they are not there.
///
/// # Errors
/// See [`Error`].
pub fn make_way(client: &mut impl Verbs, path: &str) -> Result<(), Error> {
    let ends = path.char_indices().skip(1).filter(|(_, it)| *it == '/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        match client.get(&path[..end]) {
            Ok(_) => {}
            Err(Error::NoNode) => match client.create(&path[..end], b"", Mode::Persistent) {
                Ok(_) | Err(Error::NodeExists) => {}
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn check(value: &[u8]) -> Result<(), Error> {
    if value.len() > VALUE_BYTES_MAX { Err(Error::TooLarge(value.len())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, channel};

    /// What the server answers on a connection: the session it grants, its length in milliseconds
    /// (0: it has expired), and how many answers it gives before it is gone.
    type Grant = (i64, i32, usize);

    /// A server that grants these, one on each connection, the last again and again; and which
    /// sessions it was asked for, each with the connection.
    fn server(grants: &'static [Grant]) -> (String, Receiver<(i64, TcpStream)>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let place = listener.local_addr().expect("bound").to_string();
        let (wishes, asked) = channel();
        let count = Arc::new(AtomicUsize::new(0));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (wishes, count) = (wishes.clone(), count.clone());
                std::thread::spawn(move || {
                    // One that only looks whether it is there says nothing.
                    let Ok(wish) = frame(&socket) else { return };
                    let id = wish[16..24].try_into().map(i64::from_be_bytes).expect("eight");
                    let end = socket.try_clone().expect("a descriptor");
                    let _ = wishes.send((id, end)); // the test may be over
                    let at = count.fetch_add(1, Ordering::AcqRel).min(grants.len() - 1);
                    let _ = serve(&socket, grants[at]); // until it is closed
                    let _ = socket.shutdown(Shutdown::Both); // it may be so already
                });
            }
        });
        (place, asked)
    }

    fn frame(mut socket: &TcpStream) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let mut said = vec![0; u32::from_be_bytes(length) as usize];
        socket.read_exact(&mut said)?;
        Ok(said)
    }

    fn serve(mut socket: &TcpStream, (id, length_ms, answers): Grant) -> std::io::Result<()> {
        let mut said = vec![0, 0, 0, 37, 0, 0, 0, 0];
        said.extend(length_ms.to_be_bytes());
        said.extend(id.to_be_bytes());
        said.extend(16_i32.to_be_bytes());
        said.extend([7; 17]);
        socket.write_all(&said)?;
        for _ in 0..answers {
            let asked = frame(socket)?;
            // Its number, a transaction, no error; of a value, none; and a node's state.
            let number = &asked[..4];
            let (exists, get) = (3, 4);
            let rest = match asked.get(4..8).map_or(0, |it| it[3]) {
                it if it == exists => 68,
                it if it == get => 4 + 68,
                _ => 0,
            };
            let mut said = (16 + rest as u32).to_be_bytes().to_vec();
            said.extend(number);
            said.extend([0; 12]);
            said.extend(vec![0; rest]);
            socket.write_all(&said)?;
        }
        Ok(())
    }

    /// Looks until something is so.
    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let end = clock::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(clock::now() < end, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(4)); // between two looks
        }
    }

    #[test]
    fn the_same_session_with_another_length_is_kept() {
        let (place, asked) = server(&[(7, 4000, 99), (7, 3000, 99), (7, 5000, 99)]);
        let mut client = Client::new(vec![place], Duration::from_secs(4));
        let granted = |id, millis| Granted { id, length: Duration::from_millis(millis) };
        assert_eq!(client.session(), Ok(granted(7, 4000)));
        let (mut lengths, mut ids) = (Vec::new(), Vec::new());
        for millis in [4000, 3000, 5000] {
            until("this server grants it", || {
                client.get("/").expect("it goes on with the session, wherever that is");
                let it = client.session().expect("the same");
                assert_eq!(it.id, 7);
                lengths.push(it.length.as_millis());
                it.length.as_millis() == millis
            });
            let (id, server) = asked.try_recv().expect("it was asked for");
            ids.push(id);
            if millis < 5000 {
                server.shutdown(Shutdown::Both).expect("it is open");
            }
        }
        lengths.dedup();
        assert_eq!(lengths, [4000, 3000, 5000]);
        ids.extend(asked.try_iter().map(|(id, _)| id));
        assert_eq!(ids, [0, 7, 7], "no other was begun");
    }

    #[test]
    fn a_session_that_has_expired_is_replaced() {
        let (place, asked) = server(&[(7, 4000, 2), (0, 0, 0), (8, 4000, 99)]);
        let mut client = Client::new(vec![place], Duration::from_secs(4));
        assert_eq!(client.session().map(|it| it.id), Ok(7));
        client.works();
        until("it is another", || {
            client.get("/").is_ok() && client.session().is_ok_and(|it| it.id != 7)
        });
        assert_eq!(client.session().map(|it| it.id), Ok(8));
        let asked: Vec<i64> = asked.try_iter().take(3).map(|(id, _)| id).collect();
        assert_eq!(asked, [0, 7, 0], "it was asked for until it was gone");
    }
}
