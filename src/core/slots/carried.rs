//! An idle connection to an instance on its way from one shard to another, with the slot it serves.
//!
//! Must hold: while it travels no shard has it and the instance still counts it, so that the slot
//! and its connection stay one each; it is adopted by the shard that takes the socket out, or it
//! closes and is counted no longer. There is no third way: dropping it is closing it.

use crate::base::socket::Socket;
use crate::core::slots::Instance;
use std::sync::Arc;

/// A connection that no driver has.
#[derive(Debug)]
pub struct Carried {
    socket: Option<Socket>,
    instance: Arc<Instance>,
}

impl Carried {
    /// A connection that its shard has let go of
    /// ([`connection_left`](Instance::connection_left)).
    pub fn new(socket: Socket, instance: Arc<Instance>) -> Self {
        Self { socket: Some(socket), instance }
    }

    /// Where it leads.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// The connection, for the driver of the shard that counts it from now on
    /// ([`connection_joined`](Instance::connection_joined)).
    pub fn into_socket(mut self) -> Socket {
        self.socket.take().expect("it is taken out once")
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            drop(socket); // closed first: what is not counted must not be open
            self.instance.connection_lost();
        }
    }
}
