//! What a world of routers is like.

use crate::options::Chance;
use waiter::core::peers::{Isolated, Rule};

/// How late an order may come after its deadline, in milliseconds, and what routers take for that.
pub(super) const LATE: u64 = 6000;

/// What may go wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Trouble {
    /// A router ends without a word; mostly another comes.
    Crash,
    /// A router comes.
    Join,
    /// A router goes in order.
    Leave,
    /// ZooKeeper is down for all.
    ZooKeeperDown,
    /// One router cannot reach ZooKeeper.
    ZooKeeperCut,
    /// Two routers cannot talk.
    LinkCut,
    /// One router can talk to nobody.
    Isolated,
    /// A router is stopped by the kernel, and goes on later.
    Stopped,
    /// A router that has lost ZooKeeper is alone with a newcomer who does not know it.
    Forgotten,
    /// Several routers cannot reach ZooKeeper, for as long as each other, among them one that wants
    /// to kill.
    SeveralCut,
}

/// Worlds of one kind have these troubles.
pub(super) const KINDS: &[(&str, &[Trouble])] = &[
    ("calm", &[]),
    ("crash", &[Trouble::Crash]),
    ("join, leave", &[Trouble::Join, Trouble::Leave]),
    ("ZooKeeper down", &[Trouble::ZooKeeperDown]),
    ("cut from ZooKeeper", &[Trouble::ZooKeeperCut]),
    ("links cut", &[Trouble::LinkCut, Trouble::Join]),
    (
        "all that ZooKeeper sees",
        &[
            Trouble::Crash,
            Trouble::Join,
            Trouble::Leave,
            Trouble::ZooKeeperDown,
            Trouble::ZooKeeperCut,
        ],
    ),
    (
        "all",
        &[
            Trouble::Crash,
            Trouble::Join,
            Trouble::Leave,
            Trouble::ZooKeeperDown,
            Trouble::ZooKeeperCut,
            Trouble::LinkCut,
        ],
    ),
    ("isolated", &[Trouble::Isolated, Trouble::Join]),
    ("stopped", &[Trouble::Stopped, Trouble::Join, Trouble::Crash]),
    ("forgotten", &[Trouble::Forgotten]),
    ("several cut", &[Trouble::SeveralCut, Trouble::Join]),
    ("deletions", &[Trouble::Crash, Trouble::Join, Trouble::Stopped, Trouble::LinkCut]),
    ("checks", &[Trouble::Join, Trouble::LinkCut]),
];

/// A world's size, load and troubles. Times in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) kind: usize,
    pub(super) routers: usize,
    pub(super) services: usize,
    pub(super) instances: usize,
    pub(super) limit: u16,
    pub(super) balanced: bool,
    pub(super) isolated: Isolated,
    pub(super) session: u64,
    /// Of all slots, as a share.
    pub(super) load: f64,
    /// Troubles begin in this time; then all is healed, and looked at.
    pub(super) troubled: u64,
    /// Deletions may be late, and instances are checked. (Older kinds are left as they were, so that
    /// their seeds mean what they meant.)
    pub(super) is_fuller: bool,
    pub(super) without: Option<Rule>,
}

impl Options {
    /// Whatever the seed says.
    pub(super) fn drawn(kind: usize, without: Option<Rule>, chance: &mut Chance) -> Self {
        Self {
            kind,
            routers: if kind == 10 { 2 } else { 2 + chance.below(3) },
            services: 1 + chance.below(2),
            instances: 2 + chance.below(4),
            limit: 1 + chance.below(2) as u16,
            balanced: chance.is(0.7),
            isolated: if chance.is(0.5) { Isolated::Serve } else { Isolated::Stop },
            session: 2000,
            // What is always in use is not deleted, nor ever idle.
            load: if kind > 11 { 0.1 } else { 0.3 } + chance.share(),
            troubled: 24_000,
            is_fuller: kind > 10,
            without,
        }
    }

    /// Mean time between two requests, in milliseconds.
    pub(super) fn gap(&self) -> f64 {
        let slots = self.services * self.instances * usize::from(self.limit);
        430.0 / (slots as f64 * self.load)
    }
}

/// How long a request takes, in milliseconds: 430 in the mean.
pub(super) fn work(chance: &mut Chance) -> u64 {
    match chance.below(20) {
        0 => 3500,
        1 => 1500,
        2..=5 => 300,
        6..=9 => 200,
        _ => 150,
    }
}
