//! The library: a thread that keeps descriptions where all routers find them, and finds those of
//! others, so that the control loop never waits for ZooKeeper.
//!
//! What cannot be kept now is kept later, the newest value of a key only. What is not found is told
//! as not found; whoever needs it asks again.

use super::{Expect, Keep, Shared, Store};
use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::core::service::Description;
use crate::mesh::clock;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;

/// Pause before what failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Values that wait to be kept; more are dropped, the first first.
const WAITING_MAX: usize = 10_000;

enum Task {
    Keep(Keep),
    Fetch(ServiceId, String),
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
        let keeper = Librarian { store, read, tell, waiting: BTreeMap::new(), failed: false };
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
}

struct Librarian {
    store: Shared,
    read: Read,
    tell: Tell,
    waiting: BTreeMap<String, Option<Vec<u8>>>,
    failed: bool,
}

impl Librarian {
    fn run(mut self, given: &Receiver<Task>) {
        let mut next = Instant(0);
        loop {
            let idle = self.store.tend_every();
            let nap = if self.waiting.is_empty() { idle } else { next - clock::now() };
            match given.recv_timeout(nap.min(idle)) {
                Ok(Task::Keep(keep)) => {
                    while self.waiting.len() >= WAITING_MAX {
                        self.waiting.pop_first();
                    }
                    self.waiting.insert(keep.key, keep.value);
                }
                Ok(Task::Fetch(service, key)) => self.fetch(service, &key),
                Err(RecvTimeoutError::Timeout) => self.store.tend(),
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
