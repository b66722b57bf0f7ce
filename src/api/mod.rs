//! The HTTP surface: the router's own pages.
//!
//! A page is a pure function from a call, the newest catalogue and what the router was told at its
//! start to a `Reply`. What cannot be answered at once (a deletion, a ping) is an
//! `Errand`: a value too, carried out on a thread of its own, so that whoever
//! waits keeps nobody else from being answered. Nothing here runs on a shard or on the control
//! loop.

mod about;
mod app;
mod apps;
mod cluster;
mod errand;
mod instance;
mod logs;
mod metrics;
mod pages;
mod ping;
mod pool;
mod query;
mod reply;
mod resolve;
mod settings;
mod state;
mod status;
mod welcome;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod plays;
#[cfg(test)]
mod tests;

pub use about::About;
pub use logs::Look;
pub use pool::{Ask, Joins, start};
