//! The control plane: what talks to the world beside requests, and decides.

pub mod access_log;
mod believing;
pub mod books;
pub mod chance;
pub mod cluster;
mod complaints;
mod creating;
pub mod data_dir;
mod ending;
pub mod event;
mod mutations;
pub mod plane;
pub mod prober;
pub mod publisher;
pub mod runners;
pub mod schedule;
pub mod shelf;
pub mod store;
mod watch;

pub use event::Event;
pub use plane::{Ended, Plane, Terms};
pub use runners::Runners;
