//! Slots: permission for one request in flight on one instance.
//!
//! A word per instance that every shard takes from and puts to; a roster per service that hints
//! where room may be; a seat as the value that says "this request holds a slot", and may have an
//! idle connection with it.

mod carried;
mod instance;
mod room;
mod roster;
mod seat;
pub mod selection;
mod word;

pub use carried::Carried;
pub use instance::Instance;
pub use room::Room;
pub use roster::{Roster, ServiceSlots};
pub use seat::{Put, Seat};
pub use word::{After, Gate, Waiting, Word};
