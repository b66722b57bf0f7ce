//! One life of the crate's client: from its connection to the first trouble.
//!
//! Must hold: nobody waits for the crate longer than a deadline; a life that is given up is closed
//! by a thread of its own, which tells a server so if one can be reached, and then waits until the
//! crate has ended: else a client that nobody owns would keep a session, or a core, for itself.

use super::client::{Error, Granted, Mode, Stat};
use super::forwarder::Forwarder;
use crate::base::time::Duration;
use crate::mesh::clock;
use crate::mesh::panics::guarded;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::Builder;
use zookeeper::{Acl, CreateMode, WatchedEvent, ZkError, ZkState, ZooKeeper};

/// For so long the reaper tries to end the session; else it ends by itself.
const REAP_FOR: Duration = Duration::from_secs(5);
/// A client that is sent away closes itself within this time.
const DISMISS_FOR: Duration = Duration::from_secs(30);
/// Pause between its tries.
const REAP_EVERY: Duration = Duration::from_millis(200);
/// A deadline is never shorter.
const DEADLINE_MIN: Duration = Duration::from_millis(500);

type Work = Box<dyn FnOnce(&ZooKeeper) + Send>;

/// One life.
pub(super) struct Generation {
    work: Sender<Work>,
    alive: Alive,
    granted: Granted,
    deadline: Duration,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("granted", &self.granted).finish_non_exhaustive()
    }
}

impl Generation {
    /// Connects, and waits until a server has granted a session.
    ///
    /// # Errors
    /// No server did, in time.
    pub(super) fn begin(servers: &[String], session: Duration) -> Result<Self, Error> {
        let forwarder = Forwarder::start(servers, session)?;
        let (made, make) = sync_channel(1);
        // One that comes too late for whoever wanted it is reaped there.
        thread("zk-connect", move || drop(made.send(Alive::connect(forwarder, session))))?;
        let deadline = (session / 3).max(DEADLINE_MIN);
        let alive = make
            .recv_timeout(deadline)
            .map_err(|_| Error::Trouble("no client could be made in time".to_owned()))??;
        let (work, works) = channel();
        let worker = alive.zookeeper.clone();
        thread("zk-worker", move || run(&worker, &works))?;
        let granted = alive.way().granted();
        let mut it = Self { work, alive, granted, deadline };
        // The first answer comes after the session was granted.
        it.ask(|it| it.exists("/", false).map(drop))?;
        it.granted = it.alive.way().granted();
        if it.granted.id == 0 {
            return Err(Error::Trouble("no session was granted".to_owned()));
        }
        it.deadline = (it.granted.length / 3).max(DEADLINE_MIN);
        Ok(it)
    }

    /// The session, and its length as it was granted last: another server may grant it another.
    pub(super) fn granted(&self) -> Granted {
        let now = self.alive.way().granted();
        if now.id == self.granted.id { now } else { self.granted }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline.min((self.granted().length / 3).max(DEADLINE_MIN))
    }

    pub(super) fn server(&self) -> String {
        self.alive.way().server()
    }

    /// Whether it is still the session that was granted at its beginning. The crate goes on with
    /// another one without a word.
    pub(super) fn is_whole(&self) -> bool {
        self.alive.way().granted().id == self.granted.id
    }

    pub(super) fn create(&mut self, path: &str, value: &[u8], mode: Mode) -> Result<String, Error> {
        let (path, value) = (path.to_owned(), value.to_vec());
        let mode = match mode {
            Mode::Persistent => CreateMode::Persistent,
            Mode::Ephemeral => CreateMode::Ephemeral,
            Mode::Sequential => CreateMode::EphemeralSequential,
        };
        self.ask(move |it| it.create(&path, value, Acl::open_unsafe().clone(), mode))
    }

    pub(super) fn set(
        &mut self,
        path: &str,
        value: &[u8],
        version: Option<i32>,
    ) -> Result<Stat, Error> {
        let (path, value) = (path.to_owned(), value.to_vec());
        self.ask(move |it| it.set_data(&path, value, version)).map(|it| stat(&it))
    }

    pub(super) fn delete(&mut self, path: &str, version: Option<i32>) -> Result<(), Error> {
        let path = path.to_owned();
        self.ask(move |it| it.delete(&path, version))
    }

    pub(super) fn get(&mut self, path: &str) -> Result<(Vec<u8>, Stat), Error> {
        let path = path.to_owned();
        self.ask(move |it| it.get_data(&path, false)).map(|(value, it)| (value, stat(&it)))
    }

    pub(super) fn children(&mut self, path: &str) -> Result<Vec<String>, Error> {
        let path = path.to_owned();
        self.ask(move |it| it.get_children(&path, false))
    }

    /// Ends the session now, if that can be said in time.
    pub(super) fn close(mut self) {
        let _ = self.ask(ZooKeeper::close); // the reaper goes on with it
    }

    /// Lets the worker ask, and waits as long as the deadline says.
    fn ask<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&ZooKeeper) -> Result<T, ZkError> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, is_done): (SyncSender<Result<T, ZkError>>, _) = sync_channel(1);
        let work: Work = Box::new(move |it| {
            let _ = done.send(act(it)); // whoever asked may have given up
        });
        let gone = || Error::Trouble("the client has ended by itself".to_owned());
        self.work.send(work).map_err(|_| gone())?;
        let deadline = self.deadline();
        match is_done.recv_timeout(deadline) {
            Ok(result) => result.map_err(of),
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                Err(Error::Trouble(format!("no answer within {} ms", deadline.as_millis())))
            }
        }
    }
}

/// The crate's client and the way by which it talks. Only a reaper ends it, and the way after it.
struct Alive {
    zookeeper: Arc<ZooKeeper>,
    /// The crate has closed it by itself: it will never do anything again.
    closed: Arc<AtomicBool>,
    forwarder: Option<Forwarder>,
}

impl Alive {
    /// Makes the crate connect. It panics where there are no descriptors left.
    fn connect(forwarder: Forwarder, session: Duration) -> Result<Self, Error> {
        let place = forwarder.address().to_string();
        let made = guarded(|| ZooKeeper::connect(&place, session, |_: WatchedEvent| {}));
        let zookeeper = match made {
            Ok(Ok(it)) => Arc::new(it),
            Ok(Err(error)) => return Err(Error::Trouble(format!("cannot connect: {error}"))),
            Err(_) => return Err(Error::Trouble("no client could be made".to_owned())),
        };
        let closed = Arc::new(AtomicBool::new(false));
        let tell = closed.clone();
        zookeeper.add_listener(move |state| {
            if state == ZkState::Closed {
                tell.store(true, Ordering::Release);
            }
        });
        Ok(Self { zookeeper, closed, forwarder: Some(forwarder) })
    }

    fn way(&self) -> &Forwarder {
        self.forwarder.as_ref().expect("it goes with the client")
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        let (zookeeper, closed) = (self.zookeeper.clone(), self.closed.clone());
        let Some(forwarder) = self.forwarder.take().map(Arc::new) else { return };
        let way = forwarder.clone();
        if let Err(error) = thread("zk-reaper", move || reap(&zookeeper, &closed, &way)) {
            tracing::error!(%error, "a client of ZooKeeper cannot be closed");
            // The way stays, so that the client does not spin; and answers it with its end.
            forwarder.dismiss();
            std::mem::forget((forwarder, self.zookeeper.clone()));
        }
    }
}

/// Ends the session, if that can be said to a server, and waits until the client has ended.
fn reap(zookeeper: &ZooKeeper, closed: &AtomicBool, way: &Forwarder) {
    let is_closed = || closed.load(Ordering::Acquire);
    let end = clock::now() + REAP_FOR;
    let fails = || guarded(|| zookeeper.close()).is_ok_and(|it| it.is_err());
    while fails() && !is_closed() && clock::now() < end {
        std::thread::sleep(REAP_EVERY);
    }
    // While no server can be reached it would live on, and spin without the forwarder.
    way.dismiss();
    let end = clock::now() + DISMISS_FOR;
    while !is_closed() && clock::now() < end {
        std::thread::sleep(REAP_EVERY);
    }
}

/// Carries out what is asked, one after the other, until nobody can ask any more.
fn run(zookeeper: &Arc<ZooKeeper>, works: &Receiver<Work>) {
    while let Ok(work) = works.recv() {
        if guarded(|| work(zookeeper)).is_err() {
            return;
        }
    }
}

fn thread(name: &str, act: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let begun = Builder::new().name(name.to_owned()).spawn(act);
    begun.map(drop).map_err(|error| Error::Trouble(format!("no thread: {error}")))
}

fn of(error: ZkError) -> Error {
    match error {
        ZkError::NoNode => Error::NoNode,
        ZkError::NodeExists => Error::NodeExists,
        ZkError::BadVersion => Error::BadVersion,
        ZkError::NotEmpty => Error::NotEmpty,
        ZkError::NoAuth | ZkError::InvalidACL | ZkError::BadArguments | ZkError::NotReadOnly => {
            Error::Refused(error.to_string())
        }
        other => Error::Trouble(other.to_string()),
    }
}

fn stat(it: &zookeeper::Stat) -> Stat {
    let (created, pzxid, owner) = (it.czxid, it.pzxid, it.ephemeral_owner);
    Stat { version: it.version, created, pzxid, owner }
}
