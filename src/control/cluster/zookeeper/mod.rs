//! ZooKeeper: this router's session with it, as a thread.
//!
//! The client crate is unsafe as it comes: it waits for ever on a server that hangs, goes on
//! silently with a new session, and spins while no server is there. So nothing of it is trusted.
//! [`client`] is the seam: five verbs, each with a deadline. `generation` is one life of the
//! crate's client behind it, given up at any trouble; a reaper closes it in its own time.
//! `forwarder` stands between that client and the servers: it chooses them, cuts off one that
//! owes an answer for too long, slows the client down while all are away, and reads from the bytes
//! which session the server granted, and for how long. [`session`] keeps this router registered and
//! looks around, by polling: no watch is used. `lookout` reads what stands there, and says which of
//! it is proved; `bar` says for how long one that was refused stays out.

mod bar;
pub mod client;
mod curator;
mod forwarder;
mod generation;
mod lookout;
mod names;
pub mod session;

pub use client::{Client, Error, Mode, Stat};
pub use session::{Registration, Session, Settings};
