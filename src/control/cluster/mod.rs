//! A cluster of routers: what the control loop and the threads that talk to the others say.
//!
//! Two threads stand between the loop and the network, and decide nothing: one keeps this router's
//! session with ZooKeeper, one keeps the connections to the other routers. The rules are in
//! [`core::peers`](crate::core::peers), and run on the control loop.

mod descriptions;
mod endings;
pub mod links;
mod member;
mod telling;
mod turn;
pub mod zookeeper;

pub use member::{Cluster, Terms, Ways};
pub(in crate::control) use telling::Asked;

use crate::base::ids::RouterId;
use crate::base::time::{Duration, Instant};
use crate::core::peers::counters::Counters;
use crate::core::peers::{Document, Member, View};
use std::sync::mpsc::SyncSender;

/// What the thread that keeps the session with ZooKeeper says.
#[derive(Debug)]
pub enum Said {
    /// The node of this router is about to be created, for the first time or again. The thread
    /// sends that request only when this is answered.
    Registering(SyncSender<()>),
    /// There is a session, of this length: the server granted it. It is another one than before, or
    /// the same one with another length.
    Granted(Duration),
    /// A round trip on that session succeeded.
    Seen(Box<Seen>),
    /// There is no session; why. Another is being sought. What is left of the session is ended only
    /// when this is answered, so that nobody else leads before this router does not.
    Lost(String, SyncSender<()>),
    /// The node of this router is removed, as was asked for.
    Left,
}

/// What a round trip to ZooKeeper has shown: a write on the session, then the members, the roster
/// and the candidates.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The members and the roster.
    pub view: View,
    /// Who is registered, and is not proved to be a router of this cluster.
    pub strangers: Vec<Member>,
    /// When the round trip began.
    pub began: Instant,
    /// The router whose candidacy is the oldest, if there is any.
    pub first: Option<RouterId>,
    /// The server that answered.
    pub server: String,
}

/// What the thread that keeps the session is told.
#[derive(Debug)]
pub enum Ask {
    /// Remove this router from the roster, unless it is a member.
    Bury(RouterId),
    /// Give up the candidacy and remove the node of this router: it is to end.
    Leave,
    /// It owes nothing any more: remove it from the roster, close the session and end.
    End,
}

/// What another router said, proved to be its own words.
#[derive(Debug)]
pub enum Heard {
    /// Its state.
    Document(RouterId, Box<Document>),
    /// What changed in its counters.
    Counters(RouterId, Box<Counters>),
}

/// What the thread that keeps the connections to other routers is told.
#[derive(Debug)]
pub enum Tell {
    /// Keep connections to these, and to no others.
    Routers(Vec<Member>),
    /// Send this; it replaces one that has not been sent.
    Document(RouterId, Box<Document>),
    /// Send this; it replaces one that has not been sent.
    Counters(RouterId, Box<Counters>),
    /// Close all and end.
    End,
}
