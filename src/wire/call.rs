//! A call: a request for the router's own pages, on its way from a shard to the API and back.

use crate::base::address::IpAddr;
use crate::base::ids::Ticket;
use crate::wire::head::Head;

/// A request for the API, whole.
#[derive(Debug)]
pub struct Call {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// The request.
    pub head: Head,
    /// Its body.
    pub body: Vec<u8>,
    /// Who asks.
    pub peer: IpAddr,
    /// Correlation id of the request.
    pub cid: Vec<u8>,
}

/// What the API answers.
#[derive(Debug)]
pub struct Answer {
    /// The request it answers.
    pub ticket: Ticket,
    /// The head of the response.
    pub head: Head,
    /// The body, in pieces.
    pub pieces: Vec<Vec<u8>>,
}
