#![doc = include_str!("../ARCHITECTURE.md")]

pub mod api;
pub mod base;
pub mod cmd;
pub mod config;
pub mod control;
pub mod core;
pub mod exchange;
pub mod mesh;
pub mod shard;
pub mod wire;
