//! The control plane: what talks to the world beside requests.

mod chance;
pub mod data_dir;
pub mod schedule;
