//! One request and its response.
//!
//! A machine over messages: it knows no byte of a protocol, no connection and no socket. It is told
//! what came from the client and from the instance, and what became of its wishes; it answers with
//! effects, which the shard carries out.
//!
//! ```text
//!            begin                Seated           Opened             101
//!   Fresh ─────────► Waiting ───────────► Opening ────────► Streaming ────► Tunnel ──► Done
//!     │ refuse          │ ▲                  │ OpenFailed ▲    │ client gone, `finish`
//!     │ call            │ └──────────────────┘ (once)     └────┤ a stale connection, once
//!     ├──► Calling ─────┴──────────────────────────────────► Finishing ──► Done
//!     └──────────────────────────────────────────────────────────────────► Done
//! ```
//! In a tunnel both sides are body until their `End`; with the second one it is over.
//! What each event does in each state stands in `tests/table.txt`, and a test holds it.
//!
//! Must hold: `Done` is said once, last; no byte reaches an instance before `Opened`; while the
//! request waits its body has no room; bytes under way in one direction never exceed the window.

mod machine;
mod rewrite;
#[cfg(test)]
mod tests;

pub use machine::Exchange;

use crate::base::address::IpAddr;
use crate::base::fault::Fault;
use crate::base::ids::ServiceId;
use crate::base::time::{Date, Instant};
use crate::core::letter::Why;
use crate::core::outcome::Outcome;
use crate::core::service::tuning::Tuning;
use crate::core::service::{ClientAbort, Description};
use crate::core::slots::Seat;
use crate::wire::codec::{Cause, Part};
use std::ops::Range;
use std::sync::Arc;

/// The two peers of an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Who asks.
    Client,
    /// Who answers: an instance, or the API.
    Instance,
}

impl Side {
    /// The one across.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Instance,
            Self::Instance => Self::Client,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// A part of a message came. A client that went away after its whole request is a cut.
    From(Side, Part<'a>),
    /// A side has taken so many body bytes that had been sent to it.
    Room(Side, u32),
    /// Body bytes of the response go past the codecs.
    Passed {
        /// So many more have come from the instance.
        taken: u32,
        /// So many more have been sent to the client.
        given: u32,
    },
    /// The request has a slot.
    Seated(Seat),
    /// The request gets no slot.
    Refused(Why),
    /// The way to the instance is open; whether it has been used before.
    Opened {
        /// An idle connection was taken up again.
        reused: bool,
    },
    /// There is no way to the instance.
    OpenFailed(Cause),
    /// No instance is left but those that failed this request.
    NoOther,
}

/// What the shard is to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Get a slot (see [`Exchange::plan`]).
    Reserve,
    /// Leave the queue.
    Withdraw,
    /// Open a way to the instance of the seat; `true`: only a new connection will do.
    Open(bool),
    /// Hand the request to the API.
    Call,
    /// Give the slot back, with this outcome; the exchange goes on.
    Release(Outcome),
    /// Send the head that the exchange holds for this side.
    Head(Side),
    /// Send this range of the body bytes of the event at hand to this side.
    Forward(Side, Range<u32>),
    /// Send the text that the exchange holds to the client.
    Text,
    /// End the message to this side, with the trailers of the event at hand if it has any.
    End(Side),
    /// Break the message to this side off.
    Cut(Side),
    /// Let this side send so many more body bytes.
    Room(Side, u32),
    /// It is over; the slot, if one is held, is given back with this outcome.
    Done(Outcome),
}

/// Effects of one event, in order; a buffer of the caller's.
pub type Effects = Vec<Effect>;

/// What the shard knows of a request beyond its head.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The client's address.
    pub peer: IpAddr,
    /// Whether forwarding headers of this peer are believed.
    pub trusted: bool,
    /// A number no other request has, for a correlation id.
    pub unique: u64,
    /// When the request came.
    pub date: Date,
}

/// Where a request goes, and under which terms.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The service.
    pub service: ServiceId,
    /// How to start it, if the request may.
    pub description: Option<Arc<Description>>,
    /// Whether a scheduler launches its instances (or they are named by the operator).
    pub launched: bool,
    /// What happens when the client goes away.
    pub client_abort: ClientAbort,
    /// How long to wait for what.
    pub tuning: Tuning,
}

/// When what happened, for logs and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// The head was read.
    pub began: Instant,
    /// A slot was got.
    pub seated: Option<Instant>,
    /// The way to the instance was open.
    pub opened: Option<Instant>,
    /// The head of the response came.
    pub answered: Option<Instant>,
}

/// The fault of one who gets no slot.
fn plain_fault(why: &Why) -> Fault {
    use crate::base::fault::Class;
    match why {
        Why::QueueFull(max) => Fault::new(Class::QueueLength, "Max queue length exceeded")
            .with("max-queue-length", max.to_string()),
        Why::RouterFull => {
            Fault::new(Class::ReserveBackPressure, "Too many requests wait on this router")
        }
        Why::Gone => Fault::new(Class::RequestTimeout, "The service was deleted meanwhile"),
        Why::Deployment(key, text) => {
            Fault::new(Class::DeploymentError, format!("Deployment error: {text}"))
                .with("deployment-error", *key)
        }
        Why::Draining => Fault::new(Class::Draining, "This router is ending; ask another"),
    }
}
