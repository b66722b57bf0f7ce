//! The data plane: one shard per core.

pub mod access;
pub mod admission;
pub mod desk;
mod effects;
pub mod engine;
mod host;
mod links;
mod passing;
pub mod pool;
pub mod run;
pub mod settings;
pub mod state;
mod tallies;
#[cfg(test)]
mod tests;
mod travel;
mod turn;
pub mod wheel;

pub use run::{Io, Start, start};
pub use settings::{Accept, HalfClose, Settings};
pub use state::{Joins, Shard};
