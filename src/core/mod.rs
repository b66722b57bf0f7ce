//! The rules, as plain state machines and functions.
//!
//! Nothing here reads a clock, awaits, logs, or touches a socket: every method takes what happened
//! and the time, and returns or pushes what should be done. The shells carry it out; the simulator
//! does too.

pub mod aggregator;
pub mod autoscaler;
pub mod catalogue;
pub mod distribution;
pub mod fact;
pub mod gc;
pub mod histogram;
pub mod launch;
pub mod letter;
pub mod outcome;
pub mod peers;
pub mod pulse;
pub mod reserver;
pub mod route;
pub mod sandbox;
pub mod service;
pub mod slots;
pub mod world;

#[cfg(test)]
pub(crate) mod fixture;
