//! Schedulers: who runs the instances.

mod backoff;
mod census;
mod environment;
mod folder;
mod ledger;
mod local;
pub mod marathon;
mod output;
mod ports;
mod process;
mod records;

pub use folder::list as list_folder;
pub use local::{LocalScheduler, Settings};
