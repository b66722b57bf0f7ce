//! Schedulers: who runs the instances.

mod backoff;
mod census;
mod environment;
mod ledger;
mod local;
pub mod marathon;
mod output;
mod ports;
mod process;
mod records;

pub use local::{LocalScheduler, Settings};
