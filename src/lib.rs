//! Waiter.
pub mod base;
pub mod core;
pub mod wire;
