//! A driver without sockets, for tests: what the shard wants is written down, and whoever plays the
//! world reads it and says what happened.

use crate::base::address::SocketAddr;
use crate::base::socket::Socket;
use crate::shard::engine::{Engine, Link, Shut};
use crate::wire::codec::Due;
use slotmap::SlotMap;

/// The wishes of a shard.
#[derive(Debug, Default)]
pub struct Memory {
    links: SlotMap<Link, Wire>,
}

/// One connection, as the world sees it.
#[derive(Debug, Default)]
pub struct Wire {
    /// Where it leads, if the shard asked for it.
    pub connects_to: Option<SocketAddr>,
    /// Bytes sent and not yet taken by the world.
    pub output: Vec<u8>,
    /// Bytes the shard will take.
    pub room: usize,
    /// Nothing more will be sent.
    pub finished: bool,
    /// How it was closed.
    pub shut: Option<Shut>,
}

impl Memory {
    /// A client connects.
    pub fn client(&mut self) -> Link {
        self.links.insert(Wire::default())
    }

    /// Looks at, or changes, one connection.
    pub fn wire(&mut self, link: Link) -> &mut Wire {
        &mut self.links[link]
    }

    /// All connections there ever were and that were not forgotten.
    pub fn links(&self) -> impl Iterator<Item = (Link, &Wire)> {
        self.links.iter()
    }

    /// Forgets a connection that was closed.
    pub fn forget(&mut self, link: Link) {
        self.links.remove(link);
    }
}

impl Engine for Memory {
    fn connect(&mut self, address: SocketAddr) -> Link {
        self.links.insert(Wire { connects_to: Some(address), ..Wire::default() })
    }

    fn send(&mut self, link: Link, output: &mut Vec<u8>) {
        self.links[link].output.append(output);
    }

    fn receive(&mut self, link: Link, bytes: usize, _due: Due) {
        self.links[link].room = bytes;
    }

    fn finish(&mut self, link: Link) {
        self.links[link].finished = true;
    }

    fn close(&mut self, link: Link, how: Shut) {
        self.links[link].shut = Some(how);
    }

    fn detach(&mut self, _link: Link) -> Option<Socket> {
        None
    }

    fn adopt(&mut self, _socket: Socket) -> Link {
        self.links.insert(Wire::default())
    }

    fn is_quiet(&self) -> bool {
        self.links.values().all(|it| it.output.is_empty())
    }
}
