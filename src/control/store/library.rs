//! The library: a thread that keeps descriptions where all routers find them, and finds those of
//! others, so that the control loop never waits for ZooKeeper.
//!
//! What cannot be kept now is kept later, the newest value of a key only. What is not found is told
//! as not found; whoever needs it asks again.
//!
//! On the router that leads it also forgets: a description whose service has been listed nowhere
//! for 360 sessions (an hour, by default), and that nobody has written meanwhile, is removed, by
//! its version. Whoever starts such a service again writes its description again, so a removal that
//! comes too late fails. While it is not known what is listed nothing is forgotten, and that time
//! does not count.

use super::{Expect, Keep, Shared, Store};
use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::core::service::Description;
use crate::mesh::clock;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;

/// Pause before what failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Values that wait to be kept; more are dropped, the first first.
const WAITING_MAX: usize = 10_000;
/// Buckets that are looked through at a time, while nobody asks for anything.
const BUCKETS: usize = 16;
/// Sessions between two looks at all descriptions, and those for which one must be unlisted.
const LOOK_SESSIONS: u32 = 5;
const FORGET_SESSIONS: u32 = 360;

enum Task {
    Keep(Keep),
    Fetch(ServiceId, String),
    Listed(Option<Listing>),
    Unsure,
}

/// The keys that are needed, of all that begin so.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// How keys begin that may be forgotten.
    pub kind: String,
    /// Those that may not.
    pub keys: HashSet<String>,
}

/// Reads a description from what is stored.
pub(crate) type Read = Box<dyn Fn(&[u8]) -> Result<Description, String> + Send>;
/// What was found for a service, or that nothing was.
pub(crate) type Tell = Box<dyn Fn(ServiceId, Option<Arc<Description>>) + Send>;

/// The way to the thread; it ends when this is dropped.
pub struct Library(Sender<Task>);

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Library")
    }
}

impl Library {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(store: Shared, read: Read, tell: Tell) -> io::Result<Self> {
        let (tasks, given) = channel();
        let sweep = Sweep::new(store.session());
        let waiting = BTreeMap::new();
        let keeper = Librarian { store, read, tell, waiting, failed: false, listed: None, sweep };
        Builder::new().name("library".into()).spawn(move || keeper.run(&given))?;
        Ok(Self(tasks))
    }

    /// Keeps a value, soon.
    pub fn keep(&self, keep: Keep) {
        let _ = self.0.send(Task::Keep(keep)); // a thread that has ended has said why
    }

    /// Looks for the description of a service under this key.
    pub fn fetch(&self, service: ServiceId, key: String) {
        let _ = self.0.send(Task::Fetch(service, key)); // as above
    }

    /// What is stored under other keys is forgotten in time; none: not by this router.
    pub fn listed(&self, listing: Option<Listing>) {
        let _ = self.0.send(Task::Listed(listing)); // as above
    }

    /// It is not known what is listed, until it is told again.
    pub fn unsure(&self) {
        let _ = self.0.send(Task::Unsure); // as above
    }
}

struct Librarian {
    store: Shared,
    read: Read,
    tell: Tell,
    waiting: BTreeMap<String, Option<Vec<u8>>>,
    failed: bool,
    listed: Option<Listing>,
    sweep: Sweep,
}

/// What was seen of descriptions that are not listed.
#[derive(Debug)]
struct Sweep {
    session: Duration,
    /// Buckets that are still to be looked through, and when the next look at all begins.
    left: Vec<String>,
    next: Instant,
    /// The version at which a key was first seen unlisted, and when: later by all the time since
    /// for which it was not known what is listed.
    unlisted: HashMap<String, (u64, Instant)>,
    /// Since when it is not known what is listed.
    unsure: Option<Instant>,
}

impl Sweep {
    fn new(session: Duration) -> Self {
        let (left, unlisted) = (Vec::new(), HashMap::new());
        Self { session, left, next: Instant(0), unlisted, unsure: None }
    }

    /// It is not known what is listed.
    fn unsure(&mut self, now: Instant) {
        self.unsure.get_or_insert(now);
    }

    /// What is listed is known.
    fn sure(&mut self, listed: &HashSet<String>, now: Instant) {
        self.unlisted.retain(|key, _| !listed.contains(key));
        if let Some(since) = self.unsure.take() {
            for (_, first) in self.unlisted.values_mut() {
                *first += now - since;
            }
        }
    }

    /// How long nothing is to be looked at.
    fn nap(&self, now: Instant) -> Duration {
        if self.left.is_empty() { self.next - now } else { Duration::ZERO }
    }

    /// A key that is not listed has this version. Whether it is to be forgotten.
    fn saw(&mut self, key: &str, version: u64, now: Instant) -> bool {
        match self.unlisted.get(key) {
            Some((known, since)) if *known == version => {
                now - *since >= self.session * FORGET_SESSIONS
            }
            // New, or written meanwhile: somebody has begun it.
            _ => {
                self.unlisted.insert(key.to_owned(), (version, now));
                false
            }
        }
    }
}

impl Librarian {
    fn run(mut self, given: &Receiver<Task>) {
        let mut next = Instant(0);
        loop {
            let idle = match &self.listed {
                Some(_) => self.store.tend_every().min(self.sweep.nap(clock::now())),
                None => self.store.tend_every(),
            };
            let nap = if self.waiting.is_empty() { idle } else { next - clock::now() };
            match given.recv_timeout(nap.min(idle)) {
                Ok(Task::Keep(keep)) => {
                    while self.waiting.len() >= WAITING_MAX {
                        self.waiting.pop_first();
                    }
                    self.waiting.insert(keep.key, keep.value);
                }
                Ok(Task::Fetch(service, key)) => self.fetch(service, &key),
                Ok(Task::Listed(listing)) => self.heard_listed(listing),
                Ok(Task::Unsure) => {
                    self.listed = None;
                    self.sweep.unsure(clock::now());
                }
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if clock::now() >= next && !self.keep_all() {
                next = clock::now() + PAUSE;
            }
        }
    }

    /// Keeps what waits; whether all of it could be.
    fn keep_all(&mut self) -> bool {
        while let Some((key, value)) = self.waiting.first_key_value() {
            let done = match value {
                Some(value) => self.store.put(key, value, Expect::Anything).map(drop),
                None => self.store.delete(key, Expect::Anything),
            };
            match done {
                Ok(()) => {
                    self.waiting.pop_first();
                    self.said(None);
                }
                Err(super::StoreError::Failed(why)) => {
                    self.said(Some(&why));
                    return false;
                }
                // Another try would come to the same, or another router was quicker.
                Err(error) => {
                    tracing::warn!(key, %error, "a description is not shared");
                    self.waiting.pop_first();
                }
            }
        }
        true
    }

    fn heard_listed(&mut self, listing: Option<Listing>) {
        match &listing {
            Some(it) => self.sweep.sure(&it.keys, clock::now()),
            None => self.sweep = Sweep::new(self.store.session()),
        }
        self.listed = listing;
    }

    /// Nobody asks for anything.
    fn idle(&mut self) {
        self.store.tend();
        let now = clock::now();
        if self.listed.is_none() || self.sweep.nap(now) > Duration::ZERO {
            return;
        }
        if let Err(error) = self.look_through(now) {
            self.said(Some(&error.to_string()));
            self.sweep.left.clear();
        }
    }

    /// Some buckets more, or the next look at all of them begins.
    fn look_through(&mut self, now: Instant) -> Result<(), super::StoreError> {
        let Some(listed) = &self.listed else { return Ok(()) };
        if self.sweep.left.is_empty() {
            self.sweep.next = now + self.sweep.session * LOOK_SESSIONS;
            self.sweep.left = self.store.buckets()?;
        }
        for bucket in self.sweep.left.split_off(self.sweep.left.len().saturating_sub(BUCKETS)) {
            let may_go = |key: &str| key.starts_with(&listed.kind) && !listed.keys.contains(key);
            for (key, version) in self.store.versions_in(&bucket, may_go)? {
                if !self.sweep.saw(&key, version, now) {
                    continue;
                }
                match self.store.delete(&key, Expect::Version(version)) {
                    Ok(()) => tracing::info!(key, "a description is forgotten: nothing lists it"),
                    Err(super::StoreError::Conflict(_)) => {} // somebody has just begun it
                    Err(error) => return Err(error),
                }
                self.sweep.unlisted.remove(&key);
            }
        }
        Ok(())
    }

    fn fetch(&mut self, service: ServiceId, key: &str) {
        let found = match self.store.get(key) {
            Ok(Some(stored)) => match (self.read)(&stored.value) {
                Ok(description) if description.id == service => Some(Arc::new(description)),
                Ok(description) => {
                    let other = &description.id;
                    tracing::warn!(key, %other, "another service is described under this key");
                    None
                }
                Err(error) => {
                    tracing::warn!(key, error, "a shared description is left out");
                    None
                }
            },
            Ok(None) => None,
            Err(error) => {
                self.said(Some(&error.to_string()));
                None
            }
        };
        (self.tell)(service, found);
    }

    /// Says in the log that the store fails, or works again; once.
    fn said(&mut self, why: Option<&str>) {
        match (why, self.failed) {
            (Some(why), false) => {
                tracing::warn!(why, "the shared store cannot be used; it is tried again")
            }
            (None, true) => tracing::info!("the shared store can be used again"),
            _ => {}
        }
        self.failed = why.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unlisted_and_unwritten_for_long_is_forgotten() {
        let mut sweep = Sweep::new(Duration::from_secs(10));
        let at = |secs: u64| Instant(secs * 1_000_000_000);
        assert!(!sweep.saw("a", 1, at(0)) && !sweep.saw("b", 4, at(0)));
        assert!(!sweep.saw("a", 1, at(3599)), "not yet");
        assert!(!sweep.saw("b", 5, at(3599)), "somebody wrote it");
        assert!(sweep.saw("a", 1, at(3600)) && !sweep.saw("b", 5, at(3600)));
        assert!(sweep.saw("b", 5, at(7199)));
    }

    #[test]
    fn time_for_which_it_is_not_known_what_is_listed_does_not_count() {
        let mut sweep = Sweep::new(Duration::from_secs(10));
        let at = |secs: u64| Instant(secs * 1_000_000_000);
        let nothing = HashSet::new();
        assert!(!sweep.saw("a", 1, at(0)) && !sweep.saw("b", 1, at(0)));
        sweep.sure(&nothing, at(3000));
        assert!(!sweep.saw("a", 1, at(3599)));
        sweep.unsure(at(3599));
        sweep.unsure(at(5000)); // said again and again
        sweep.sure(&["b".to_owned()].into(), at(9599));
        assert!(!sweep.saw("a", 1, at(9599)), "6000 seconds are nothing");
        assert!(sweep.saw("a", 1, at(9600)), "and it has not begun anew");
        assert!(!sweep.saw("b", 1, at(9600)), "it is listed, and begins anew");
    }
}
