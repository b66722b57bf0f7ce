//! What is seen of the connections: copies that the thread makes, and others read.

use super::connection::{Connection, Fault};
use crate::base::ids::RouterId;
use crate::base::time::Instant;
use crate::wire::peer::Mistrust;

/// All routers that are to be connected to, in the order of their ids, and what was refused.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// One for each.
    pub routers: Vec<Reached>,
    /// Connections that were closed for what the other said.
    pub refused: Refused,
}

/// One router, as far as it is reached.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Which.
    pub id: RouterId,
    /// Where it is called.
    pub address: String,
    /// Its proven connection.
    pub link: Option<Proven>,
    /// Why the last connection ended, or none came about.
    pub last_error: Option<String>,
}

/// A proven connection, and what has passed over it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Proven {
    /// When both sides had proved themselves.
    pub since: Instant,
    /// Whole frames that came, and that were begun.
    pub frames: (u64, u64),
    /// Bytes that came, and that left.
    pub bytes: (u64, u64),
}

/// How many connections were closed, by cause.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refused {
    /// The secret or the name of the cluster is another, or bytes were changed.
    pub forged: u64,
    /// The clocks are too far apart.
    pub skewed: u64,
    /// It was meant for another router.
    pub misdirected: u64,
    /// Frames were repeated, left out or too long, or are none.
    pub malformed: u64,
    /// It is no router, or one of another version.
    pub foreign: u64,
    /// There were too many that had not proved themselves.
    pub crowded: u64,
}

impl Refused {
    /// Each with the word for its cause.
    pub fn named(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("forged", self.forged),
            ("skewed", self.skewed),
            ("misdirected", self.misdirected),
            ("malformed", self.malformed),
            ("foreign", self.foreign),
            ("crowded", self.crowded),
        ]
    }

    /// A connection was closed for this.
    pub(super) fn count(&mut self, fault: &Fault) {
        let counter = match fault {
            Fault::Broken(_) => return,
            Fault::NoRouter(_) | Fault::Unreadable => &mut self.foreign,
            Fault::Mistrusted(Mistrust::Forged | Mistrust::SecretTooShort) => &mut self.forged,
            Fault::Mistrusted(Mistrust::Skewed) => &mut self.skewed,
            Fault::Mistrusted(Mistrust::OtherRouter) => &mut self.misdirected,
            Fault::Mistrusted(Mistrust::Malformed | Mistrust::OutOfOrder | Mistrust::TooLong) => {
                &mut self.malformed
            }
        };
        *counter += 1;
    }
}

impl Proven {
    pub(super) fn of(it: &Connection) -> Self {
        Self { since: it.since, frames: it.frames, bytes: it.bytes }
    }
}
