//! Whose an instance is, and which share of it another router would have had.
//!
//! A pure function of names: every router that sees the same members computes the same. Only
//! [`owner`] decides who gives slots out; [`balanced`] says what is lent ahead of demand, and is
//! shown to people.

mod rank;
mod share;

pub use rank::{Rank, Ranked, owner, rank, rank_of};
pub use share::{Shares, allocate, balanced, simple};
