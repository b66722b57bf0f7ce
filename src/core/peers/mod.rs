//! draft
mod closing;
mod compose;
pub mod document;
mod hear;
mod kills;
mod lease;
mod lending;
mod link;
mod machine;
mod membership;
mod rights;
mod rules;
pub mod status;
mod table;

pub use document::{Document, Member};
pub use lease::Lease;
pub use machine::{Division, Effect, Isolated, Peers, Settings};
pub use membership::View;
pub use rules::{Rule, Rules};
