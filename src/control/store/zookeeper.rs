//! The shared store: values in ZooKeeper, seen by all routers of a cluster.
//!
//! ```text
//!   <base>/tokens/<first 4 hex digits of the key's MD5>/<key>
//! ```
//! Nothing is remembered: what is read is read anew, and the control loop keeps it. With keys at
//! hand values are encrypted by the first of them, each bound to the name it is stored under; all
//! of them decrypt, so that keys can be changed one router after another.

use super::sealed::Keys;
use super::{Expect, Store, StoreError, Stored};
use crate::base::time::Duration;
use crate::control::cluster::zookeeper::client::{VALUE_BYTES_MAX, Verbs, make_way};
use crate::control::cluster::zookeeper::{Client, Error, Mode};
use md5::{Digest, Md5};
use std::cell::RefCell;

/// Longest key: a name of a node.
const KEY_BYTES_MAX: usize = 512;

/// A store in ZooKeeper, on a session of its own.
#[derive(Debug)]
pub struct Shared {
    client: RefCell<Client>,
    session: Duration,
    root: String,
    keys: Keys,
}

impl Shared {
    /// A store below this node of these servers. Nothing is connected before it is used.
    pub fn new(servers: Vec<String>, session: Duration, base: &str, keys: Keys) -> Self {
        Self {
            client: RefCell::new(Client::new(servers, session)),
            session,
            root: format!("{base}/tokens"),
            keys,
        }
    }

    fn path(&self, key: &str) -> Result<String, StoreError> {
        let right = !key.is_empty()
            && key.len() <= KEY_BYTES_MAX
            && !key.starts_with('.')
            && !key.contains('/')
            && !key.contains(char::is_control);
        if !right {
            let why = format!(
                "the key {key:?} is none: it must not be empty or longer than {KEY_BYTES_MAX} \
                 bytes, begin with a dot, or hold a slash or a control character"
            );
            return Err(StoreError::Refused(why));
        }
        Ok(format!("{}/{}/{key}", self.root, bucket(key)))
    }

    fn opened(&self, key: &str, value: &[u8], version: i32) -> Result<Stored, StoreError> {
        let value = self.keys.open(key, value).map_err(StoreError::Failed)?;
        Ok(Stored { value, version: version_of(version) })
    }

    /// The session that is asked for.
    pub fn session(&self) -> Duration {
        self.session
    }

    /// Where keys are, part by part.
    ///
    /// # Errors
    /// The store failed.
    pub fn buckets(&self) -> Result<Vec<String>, StoreError> {
        self.children(&self.root)
    }

    /// Those of the keys of one part that are looked for, with their versions, whether a key opens
    /// their values or not. Only those are read.
    ///
    /// # Errors
    /// The store failed.
    pub fn versions_in(
        &self,
        bucket: &str,
        is_looked_for: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        let mut found = Vec::new();
        for key in self.children(&format!("{}/{bucket}", self.root))? {
            if !is_looked_for(&key) {
                continue;
            }
            let version = self.version_at(&format!("{}/{bucket}/{key}", self.root))?;
            found.extend(version.map(|it| (key, version_of(it))));
        }
        Ok(found)
    }

    fn children(&self, path: &str) -> Result<Vec<String>, StoreError> {
        let listed = self.client.borrow_mut().children(path);
        match listed {
            Ok(names) => Ok(names),
            Err(Error::NoNode) => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps the session alive, if there is one.
    pub fn tend(&self) {
        self.client.borrow_mut().tend();
    }

    /// How often [`tend`](Self::tend) must be called where nothing else is asked.
    pub fn tend_every(&self) -> Duration {
        self.client.borrow().tend_every()
    }

    /// The version of a node, whatever its value is; none if there is no such node.
    fn version_at(&self, path: &str) -> Result<Option<i32>, StoreError> {
        let got = self.client.borrow_mut().get(path);
        match got {
            Ok((_, stat)) => Ok(Some(stat.version)),
            Err(Error::NoNode) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn create(&self, key: &str, path: &str, value: &[u8]) -> Result<(), Error> {
        let mut client = self.client.borrow_mut();
        let made = client.create(path, value, Mode::Persistent);
        if made != Err(Error::NoNode) {
            return made.map(drop);
        }
        make_way(&mut *client, &format!("{}/{}", self.root, bucket(key)))?;
        client.create(path, value, Mode::Persistent).map(drop)
    }

    /// What is there, for whoever came too late.
    fn conflict(&self, path: &str) -> StoreError {
        match self.version_at(path) {
            Ok(there) => StoreError::Conflict(there.map_or(0, version_of)),
            Err(error) => error,
        }
    }
}

impl Store for Shared {
    fn get(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let path = self.path(key)?;
        let got = self.client.borrow_mut().get(&path);
        let stored = match got {
            Ok((value, stat)) => Some(self.opened(key, &value, stat.version)?),
            Err(Error::NoNode) => None,
            Err(error) => return Err(failed(error)),
        };
        self.client.borrow_mut().works();
        Ok(stored)
    }

    fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<u64, StoreError> {
        let path = self.path(key)?;
        let sealed = self.keys.seal(key, value).map_err(StoreError::Failed)?;
        if sealed.len() > VALUE_BYTES_MAX {
            return Err(StoreError::TooLarge(value.len()));
        }
        let version = match expect {
            Expect::Absent | Expect::Version(0) => None,
            Expect::Version(version) => Some(node_version(version)),
            // One that no key opens can be replaced.
            Expect::Anything => self.version_at(&path)?,
        };
        let done = match version {
            None => self.create(key, &path, &sealed).map(|()| 0),
            Some(version) => {
                let set = self.client.borrow_mut().set(&path, &sealed, Some(version));
                set.map(|it| it.version)
            }
        };
        match done {
            Ok(version) => {
                let version = version_of(version);
                self.client.borrow_mut().works();
                Ok(version)
            }
            Err(Error::NodeExists | Error::BadVersion | Error::NoNode) => Err(self.conflict(&path)),
            Err(error) => Err(failed(error)),
        }
    }

    fn delete(&self, key: &str, expect: Expect) -> Result<(), StoreError> {
        let path = self.path(key)?;
        let version = match expect {
            Expect::Anything => None,
            Expect::Absent | Expect::Version(0) => {
                return match self.version_at(&path)? {
                    None => Ok(()),
                    Some(there) => Err(StoreError::Conflict(version_of(there))),
                };
            }
            Expect::Version(version) => Some(node_version(version)),
        };
        let done = self.client.borrow_mut().delete(&path, version);
        match done {
            Ok(()) => Ok(()),
            Err(Error::NoNode) if expect == Expect::Anything => Ok(()),
            Err(Error::NoNode | Error::BadVersion) => Err(self.conflict(&path)),
            Err(error) => Err(failed(error)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Stored)>, StoreError> {
        let mut found = Vec::new();
        for bucket in self.buckets()? {
            for key in self.children(&format!("{}/{bucket}", self.root))? {
                if key.starts_with(prefix)
                    && let Some(stored) = self.get(&key)?
                {
                    found.push((key, stored));
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }
}

fn bucket(key: &str) -> String {
    let hash = Md5::digest(key.as_bytes());
    format!("{:02x}{:02x}", hash[0], hash[1])
}

/// A node's first version is 0, and that of a value 1.
fn version_of(version: i32) -> u64 {
    u64::try_from(i64::from(version) + 1).unwrap_or(0)
}

/// That of a node; 0, which is none, has no such: -1 would mean any.
fn node_version(version: u64) -> i32 {
    assert!(version > 0, "nothing has version 0");
    // One that no node has is refused by the server as any other wrong one.
    i32::try_from(version).map_or(i32::MAX, |it| it - 1)
}

fn failed(error: Error) -> StoreError {
    match error {
        Error::TooLarge(bytes) => StoreError::TooLarge(bytes),
        error => StoreError::Failed(format!("ZooKeeper: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_place_and_some_are_none() {
        let servers = vec!["127.0.0.1:1".to_owned()];
        let store = Shared::new(servers, Duration::from_secs(4), "/w", Keys::default());
        let path = store.path("^SERVICE-ID#waiter-x").expect("right");
        assert!(path.starts_with("/w/tokens/") && path.ends_with("/^SERVICE-ID#waiter-x"));
        assert_eq!(path.len(), "/w/tokens/".len() + 4 + "/^SERVICE-ID#waiter-x".len());
        for wrong in ["", ".hidden", "a/b", "a\nb", &"x".repeat(600)] {
            assert!(matches!(store.path(wrong), Err(StoreError::Refused(_))), "{wrong}");
        }
        let large = store.put("k", &vec![0; VALUE_BYTES_MAX + 1], Expect::Absent);
        assert!(matches!(large, Err(StoreError::TooLarge(_))), "said before anything is sent");
        assert_eq!((version_of(0), node_version(1), node_version(u64::MAX)), (1, 0, i32::MAX));
    }
}
