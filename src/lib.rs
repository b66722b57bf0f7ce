//! Waiter.
pub mod base;
pub mod cmd;
pub mod control;
pub mod core;
pub mod mesh;
pub mod wire;
