//! Worlds of several routers: the rules are the product's own (`core::peers`, reservers, slot
//! words, leases), ZooKeeper, the network, the scheduler and the shells are pretended.
//!
//! A world draws its size, load and troubles from a seed. Looked at all the while: no instance has
//! more requests than its limit; at most one router may decide; no kill and no deletion takes a
//! request; after all is healed nobody waits beside an idle slot for long, what nobody uses is
//! checked, every lent slot comes home, what was closed is open, and nothing is held any more for
//! orders that cannot come. What is excused is what the design excuses: requests that a router had
//! in flight, or started, while it was out of ZooKeeper and cut from another router, or stopped by
//! the kernel.
//!
//! Of each kind some worlds are always run, those that once failed (`seeds.txt`), and fresh ones,
//! whose seeds are printed. `WAITER_SEED=… WAITER_KIND=… cargo test --test sim -- clusters` replays
//! one world, and says what befalls whom; `WAITER_WORLDS=n` runs so many of each kind.

mod options;
mod orders;
mod router;
mod tests;
mod watch;
mod world;
mod zookeeper;

const MS: u64 = 1_000_000;
