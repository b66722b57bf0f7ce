//! The keeper: a thread that writes to the store, so that the control loop never waits for a disk.
//!
//! What came while it wrote is written together, the newest value of a key only.

use super::Embedded;
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

/// A value to keep; none: forget the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keep {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// Who hands over what is to be kept. When it is dropped the thread ends, after it has written all.
#[derive(Debug)]
pub struct Keeper {
    keeps: Option<Sender<Keep>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(store: Embedded) -> io::Result<Self> {
        let (keeps, kept) = channel();
        let thread = Builder::new().name("store".into()).spawn(move || write_all(&store, &kept))?;
        Ok(Self { keeps: Some(keeps), thread: Some(thread) })
    }

    /// Keeps a value. It is on the disk soon.
    pub fn keep(&self, keep: Keep) {
        if let Some(keeps) = &self.keeps {
            let _ = keeps.send(keep); // a thread that failed has said so
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.keeps = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(store: &Embedded, kept: &Receiver<Keep>) {
    while let Ok(first) = kept.recv() {
        let mut batch = BTreeMap::from([(first.key, first.value)]);
        batch.extend(kept.try_iter().map(|it| (it.key, it.value)));
        let values = batch.iter().map(|(key, value)| (key.as_str(), value.as_deref()));
        if let Err(error) = store.put_all(values) {
            tracing::error!(%error, "what is known of services could not be stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::store::Store;

    #[test]
    fn what_was_handed_over_is_written_before_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("store");
        let keeper = Keeper::start(Embedded::open(&path).expect("a store")).expect("a thread");
        for n in 0..100_u8 {
            keeper.keep(Keep { key: format!("k{}", n % 10), value: Some(vec![n]) });
        }
        drop(keeper);
        let store = Embedded::open(&path).expect("a store");
        assert_eq!(store.get("k3").expect("works").expect("there").value, [93]);
    }
}
