//! The store: small values by key, each with a version.
//!
//! A write says which version it means to replace; one that comes too late is refused, so two who
//! read the same value cannot both change it. The embedded store is one file; a shared one keeps
//! the same promises.

mod embedded;
mod keeper;
mod library;
mod sealed;
mod zookeeper;

pub use embedded::Embedded;
pub use keeper::{Keep, Keeper};
pub use library::{Library, Listing};
pub use sealed::Keys;
pub use zookeeper::Shared;

use std::fmt;

/// A value and its version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// The value.
    pub value: Vec<u8>,
    /// Counts the writes of this key, from 1.
    pub version: u64,
}

/// What a write means to replace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// Whatever is there.
    Anything,
    /// Nothing: the key is new.
    Absent,
    /// This version.
    Version(u64),
}

/// Why the store did not do it.
#[derive(Debug)]
pub enum StoreError {
    /// Somebody else wrote first; the version that is there (0: none).
    Conflict(u64),
    /// The value is larger than the store takes, in bytes.
    TooLarge(usize),
    /// Such a key cannot be.
    Refused(String),
    /// The file or the service behind it failed.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(0) => write!(f, "the key is not there any more"),
            Self::Conflict(version) => write!(f, "version {version} was written meanwhile"),
            Self::TooLarge(bytes) => {
                write!(f, "a value of {bytes} bytes is too large for the store")
            }
            Self::Refused(why) => f.write_str(why),
            Self::Failed(why) => write!(f, "the store failed: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// A place for small values.
pub trait Store {
    /// The value of a key.
    ///
    /// # Errors
    /// The store failed.
    fn get(&self, key: &str) -> Result<Option<Stored>, StoreError>;

    /// Writes a value; returns its version.
    ///
    /// # Errors
    /// What is there is not what was expected, or the store failed.
    fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<u64, StoreError>;

    /// Removes a key.
    ///
    /// # Errors
    /// What is there is not what was expected, or the store failed.
    fn delete(&self, key: &str, expect: Expect) -> Result<(), StoreError>;

    /// All keys that begin with `prefix`, with their values, in order.
    ///
    /// # Errors
    /// The store failed.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Stored)>, StoreError>;
}

/// Whether a write may replace the version that is there (0: none).
fn check(expect: Expect, there: u64) -> Result<(), StoreError> {
    let fits = match expect {
        Expect::Anything => true,
        Expect::Absent => there == 0,
        Expect::Version(version) => version == there,
    };
    if fits { Ok(()) } else { Err(StoreError::Conflict(there)) }
}
