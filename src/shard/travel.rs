//! Connections that change shards: an idle one goes to where its slot goes, and a client that has
//! just connected to the shard that has the fewest.
//!
//! Must hold: only a connection on which nothing is under way travels, and its driver has forgotten
//! it before anybody else is told of it. An idle connection leaves a shard only with a seat that
//! leaves too, to somebody who waits; it is idle again where the seat is used, or closes with the
//! seat. A client is handed on once at most, before anything was read from it, and counts for the
//! shard that gets it from the moment it is sent; that one refuses nobody.

use crate::base::address::SocketAddr;
use crate::base::ids::ShardId;
use crate::base::socket::Socket;
use crate::core::letter::{Letter, Notice};
use crate::core::slots::{Carried, Seat};
use crate::shard::engine::{Engine, Link, Shut};
use crate::shard::state::{Draining, Role, Shard, State};
use crate::wire::http1;

impl<E: Engine> Shard<E> {
    /// Posts what the reservers here have granted. A seat for another shard takes an idle
    /// connection of this one along, unless it has brought one.
    pub(super) fn hand_out(&mut self) {
        while let Some((ticket, mut seat)) = self.desk.granted() {
            if ticket.shard == ShardId::CONTROL {
                self.lend(ticket.number, seat);
                continue;
            }
            if ticket.shard != self.post.me {
                self.send_along(&mut seat);
            }
            self.post.send(ticket.shard, Letter::Grant(ticket, seat));
        }
    }

    /// A seat goes to another router, and so a connection less to its instance is kept here.
    fn lend(&mut self, number: u64, mut seat: Seat) {
        if seat.take_carried().is_none() {
            let instance = seat.instance().clone();
            match self.pool.newest(&instance) {
                Some(link) => self.drop_link(link, Shut::Now),
                None => instance.shards().for_each(|shard| {
                    self.post.send(shard, Letter::CloseIdle(instance.clone()));
                }),
            }
        }
        self.post.tell(Notice::Granted(number, seat));
    }

    /// Lets the idle connection that was used last go with a seat that leaves this shard.
    pub(super) fn send_along(&mut self, seat: &mut Seat) {
        if seat.carries() {
            return;
        }
        let instance = seat.instance().clone();
        let Some(link) = self.pool.newest(&instance) else { return };
        let connection = &self.connections[link];
        if connection.unsent > 0 || !connection.output.is_empty() {
            return;
        }
        let Some(socket) = self.engine.detach(link) else { return };
        self.forget(link);
        self.pool.left(link, &instance);
        seat.carry(Carried::new(socket, instance));
    }

    /// A seat was granted to a request here: what came with it is this shard's idle connection now,
    /// and the newest, so the request will use it.
    pub(super) fn take_in(&mut self, seat: &mut Seat) {
        let Some(carried) = seat.take_carried() else { return };
        let instance = carried.instance().clone();
        let link = self.engine.adopt(carried.into_socket());
        let codec = Box::new(http1::Client::new(&self.settings.limits));
        let state = State::Idle { since: self.now };
        self.insert(link, Role::Instance(instance.clone()), codec, state);
        self.pool.joined(link, &instance);
        self.touch(link);
    }

    /// A client connected: it is served here, or by the shard that has the fewest.
    pub(super) fn arrived(&mut self, link: Link, peer: SocketAddr) {
        let (me, settings) = (self.post.me, self.settings.clone());
        settings.clients.arrived(me);
        if self.draining == Draining::No
            && let Some(to) = settings.clients.better_for(me)
            && let Some(socket) = self.engine.detach(link)
        {
            settings.clients.moved(me, to);
            self.post.send(to, Letter::Client(socket, peer));
            return;
        }
        self.welcome(link, peer, self.greet());
    }

    /// A client came from another shard, which has counted it for this one.
    pub(super) fn handed(&mut self, socket: Socket, peer: SocketAddr) {
        let link = self.engine.adopt(socket);
        self.welcome(link, peer, self.greet());
    }
}
