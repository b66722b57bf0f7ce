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
    zookeeper: Arc<ZooKeeper>,
    /// The crate has closed it by itself: it will never do anything again.
    closed: Arc<AtomicBool>,
    forwarder: Option<Forwarder>,
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
        let place = forwarder.address().to_string();
        let (made, make) = sync_channel(1);
        thread("zk-connect", move || {
            let made_one = ZooKeeper::connect(&place, session, |_: WatchedEvent| {});
            let _ = made.send(made_one.map(Arc::new)); // who wanted it has given up
        })?;
        let deadline = (session / 3).max(DEADLINE_MIN);
        let zookeeper = match make.recv_timeout(deadline) {
            Ok(Ok(it)) => it,
            Ok(Err(error)) => return Err(Error::Trouble(format!("cannot connect: {error}"))),
            Err(_) => return Err(Error::Trouble("no client could be made in time".to_owned())),
        };
        let closed = Arc::new(AtomicBool::new(false));
        let tell = closed.clone();
        zookeeper.add_listener(move |state| {
            if state == ZkState::Closed {
                tell.store(true, Ordering::Release);
            }
        });
        let (work, works) = channel();
        let worker = zookeeper.clone();
        thread("zk-worker", move || run(&worker, &works))?;
        let granted = forwarder.granted();
        let forwarder = Some(forwarder);
        let mut it = Self { work, zookeeper, closed, forwarder, granted, deadline };
        // The first answer comes after the session was granted.
        it.ask(|it| it.exists("/", false).map(drop))?;
        it.granted = it.forwarder.as_ref().expect("it was just made").granted();
        if it.granted.id == 0 {
            return Err(Error::Trouble("no session was granted".to_owned()));
        }
        it.deadline = (it.granted.length / 3).max(DEADLINE_MIN);
        Ok(it)
    }

    pub(super) fn granted(&self) -> Granted {
        self.granted
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn server(&self) -> String {
        self.forwarder.as_ref().map(Forwarder::server).unwrap_or_default()
    }

    /// Whether it is still the session that was granted at its beginning. The crate goes on with
    /// another one without a word.
    pub(super) fn is_whole(&self) -> bool {
        self.forwarder.as_ref().is_some_and(|it| it.granted() == self.granted)
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
        match is_done.recv_timeout(self.deadline) {
            Ok(result) => result.map_err(of),
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
            Err(RecvTimeoutError::Timeout) => {
                Err(Error::Trouble(format!("no answer within {} ms", self.deadline.as_millis())))
            }
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let (zookeeper, forwarder) = (self.zookeeper.clone(), self.forwarder.take());
        let closed = self.closed.clone();
        let reap = move || {
            let is_closed = || closed.load(Ordering::Acquire);
            let end = clock::now() + REAP_FOR;
            let fails = || guarded(|| zookeeper.close()).is_ok_and(|it| it.is_err());
            while fails() && !is_closed() && clock::now() < end {
                std::thread::sleep(REAP_EVERY);
            }
            // While no server can be reached it would live on, and spin without the forwarder.
            if let Some(forwarder) = &forwarder {
                forwarder.dismiss();
            }
            let end = clock::now() + DISMISS_FOR;
            while !is_closed() && clock::now() < end {
                std::thread::sleep(REAP_EVERY);
            }
            drop(zookeeper);
            drop(forwarder);
        };
        if let Err(error) = thread("zk-reaper", reap) {
            tracing::error!(%error, "a client of ZooKeeper cannot be closed");
        }
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
    Stat { version: it.version, pzxid: it.pzxid, owner: it.ephemeral_owner }
}
