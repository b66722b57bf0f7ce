//! A driver without sockets, for tests: what the shard wants is written down, and whoever plays the
//! world reads it and says what happened.
//!
//! A connection that is detached becomes a real descriptor all the same: one end of a pair of
//! sockets, with a number written into it. Whoever adopts it reads the number, so the world can
//! follow it; whoever drops it closes it, which the world sees on the other end.

use crate::base::address::SocketAddr;
use crate::base::socket::Socket;
use crate::shard::engine::outputs::Outputs;
use crate::shard::engine::{Engine, Link, Shut};
use crate::wire::codec::Due;
use slotmap::SlotMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};

/// The wishes of a shard.
#[derive(Debug, Default)]
pub struct Memory {
    links: SlotMap<Link, Wire>,
    /// Connections that were detached; for the world to take.
    pub left: Vec<(Link, Traveller)>,
    /// Connections that were adopted, by their numbers; for the world to take.
    pub joined: Vec<(Link, u64)>,
    /// Bodies that are so long pass on by themselves, if any do.
    pub passes_from: Option<u64>,
    /// How many did.
    pub passings: usize,
    /// Lets no connection go, as a driver may that has something under way.
    pub clings: bool,
    outputs: Outputs,
}

/// A connection that no driver has, as the world sees it.
#[derive(Debug)]
pub struct Traveller {
    /// Its name while it travels.
    pub number: u64,
    far: UnixStream,
}

impl Traveller {
    fn new() -> std::io::Result<(Socket, Self)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (near, mut far) = UnixStream::pair()?;
        far.write_all(&number.to_ne_bytes())?;
        far.set_nonblocking(true)?;
        Ok((Socket::new(near.into()), Self { number, far }))
    }

    /// Whether nobody has it any more. One that was adopted looks the same: ask about that first.
    pub fn is_closed(&mut self) -> bool {
        // Closed before the number was read, the other end breaks instead of ending.
        let read = self.far.read(&mut [0]);
        !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
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
    /// What comes passes on: where to, and how much is still to come.
    pub passes: Option<(Link, u64)>,
    /// Bytes that came to pass on, and have not.
    pub pipe: Vec<u8>,
    /// Nothing more will be sent.
    pub finished: bool,
    /// How it was closed.
    pub shut: Option<Shut>,
    /// The peer has closed its sending side.
    pub ended: bool,
}

impl Memory {
    /// A client connects.
    pub fn client(&mut self) -> Link {
        self.links.insert(Wire::default())
    }

    /// Whether the driver has this connection.
    pub fn has(&self, link: Link) -> bool {
        self.links.contains_key(link)
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
    fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

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

    fn worth_passing(&self) -> u64 {
        self.passes_from.unwrap_or(u64::MAX)
    }

    fn pass(&mut self, from: Link, to: Link, bytes: u64) -> bool {
        assert!(self.links[from].passes.is_none() && self.links[from].pipe.is_empty());
        self.links[from].passes = Some((to, bytes));
        self.passings += 1;
        true
    }

    fn stop_passing(&mut self, from: Link) -> u64 {
        self.links[from].passes = None;
        std::mem::take(&mut self.links[from].pipe).len() as u64
    }

    fn close(&mut self, link: Link, how: Shut) {
        self.links[link].shut = Some(how);
    }

    fn detach(&mut self, link: Link) -> Option<Socket> {
        let wire = self.links.get(link)?;
        if self.clings || !wire.output.is_empty() || wire.shut.is_some() || wire.ended {
            return None;
        }
        let (socket, traveller) = Traveller::new().ok()?;
        self.links.remove(link);
        self.left.push((link, traveller));
        Some(socket)
    }

    fn adopt(&mut self, socket: Socket) -> Link {
        let mut number = [0; 8];
        let mut near = UnixStream::from(socket.into_inner());
        near.read_exact(&mut number).expect("it was detached from a driver in memory");
        let link = self.links.insert(Wire::default());
        self.joined.push((link, u64::from_ne_bytes(number)));
        link
    }

    fn is_quiet(&self) -> bool {
        self.links.values().all(|it| it.output.is_empty())
    }
}
