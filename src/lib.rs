//! Waiter.
pub mod base;
pub mod core;
pub mod exchange;
pub mod mesh;
pub mod shard;
pub mod wire;
