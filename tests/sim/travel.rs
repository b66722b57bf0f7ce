//! Connections of the pretended shards: the product's own pools, on drivers that hold nothing.

use crate::options::Planted;
use crate::shard::shard_id;
use crate::world::{Phase, World};
use slotmap::SlotMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use waiter::base::socket::Socket;
use waiter::core::letter::Letter;
use waiter::core::slots::{Carried, Instance, Seat};
use waiter::shard::engine::Link;
use waiter::shard::pool::Pool;

/// A shard's connections to instances.
#[derive(Debug)]
pub(crate) struct Connections {
    pool: Pool,
    links: SlotMap<Link, Arc<Instance>>,
}

impl Connections {
    /// None, on this shard.
    pub(crate) fn new(shard: usize) -> Self {
        Self { pool: Pool::new(shard_id(shard)), links: SlotMap::with_key() }
    }

    fn close(&mut self, link: Link) {
        let instance = self.links.remove(link).expect("it is open");
        self.pool.closed(link, &instance);
    }
}

/// What `shard::effects` and `shard::travel` do.
impl World {
    /// A request that has a seat gets a connection: what came with the seat, an idle one, or a new
    /// one.
    pub(crate) fn open(&mut self, shard: usize, seat: &mut Seat) -> Link {
        let instance = seat.instance().clone();
        let it = &mut self.connections[shard];
        if let Some(carried) = seat.take_carried() {
            drop(carried.into_socket());
            let link = it.links.insert(instance.clone());
            it.pool.joined(link, &instance);
            self.figures.travelled += 1;
        }
        if let Some(link) = it.pool.take(&instance) {
            return link;
        }
        let crowded = it.pool.opening(&instance);
        let link = it.links.insert(instance.clone());
        if crowded {
            self.make_room_at(shard, &instance);
        }
        link
    }

    fn make_room_at(&mut self, shard: usize, instance: &Arc<Instance>) {
        if let Some(link) = self.connections[shard].pool.surplus(instance) {
            return self.connections[shard].close(link);
        }
        for other in instance.shards().map(|it| usize::from(it.0)) {
            if other != shard {
                self.send(shard, other, Letter::CloseIdle(instance.clone()));
            }
        }
    }

    /// A request is done with its connection.
    pub(crate) fn keep_or_close(&mut self, shard: usize, link: Link, reusable: bool) {
        let it = &mut self.connections[shard];
        let instance = it.links[link].clone();
        if !reusable || !it.pool.keep(link, &instance) {
            it.close(link);
        }
    }

    /// Too many connections: an idle one goes.
    pub(crate) fn close_idle(&mut self, shard: usize, instance: &Arc<Instance>) {
        if let Some(link) = self.connections[shard].pool.surplus(instance) {
            self.connections[shard].close(link);
        }
    }

    /// Idle connections to what has left are closed.
    pub(crate) fn close_orphans(&mut self, shard: usize) {
        let orphans: Vec<Link> = self.connections[shard].pool.orphans().collect();
        for link in orphans {
            self.connections[shard].close(link);
        }
    }

    /// Lets an idle connection go with a seat that leaves this shard.
    pub(crate) fn send_along(&mut self, shard: usize, seat: &mut Seat) {
        if seat.carries() {
            return;
        }
        let instance = seat.instance().clone();
        let it = &mut self.connections[shard];
        let Some(link) = it.pool.newest(&instance) else { return };
        if self.options.planted != Some(Planted::LeftBehind) {
            it.links.remove(link);
        }
        it.pool.left(link, &instance);
        let null = std::fs::File::open("/dev/null").expect("it is always there");
        seat.carry(Carried::new(Socket::new(null.into()), instance));
    }

    /// Each instance counts the connections that shards have, and those in letters.
    pub(crate) fn check_connections(&self) {
        let mut open: BTreeMap<*const Instance, u32> = BTreeMap::new();
        for instance in self.connections.iter().flat_map(|it| it.links.values()) {
            *open.entry(Arc::as_ptr(instance)).or_default() += 1;
        }
        let seats = self.flights.values().filter_map(|it| match &it.letter {
            Letter::Grant(_, seat) => Some(seat),
            Letter::Settle(settle) => Some(&settle.seat),
            _ => None,
        });
        for seat in seats.filter(|it| it.carries()) {
            *open.entry(Arc::as_ptr(seat.instance())).or_default() += 1;
        }
        for instance in &self.watch.instances {
            let open = open.get(&Arc::as_ptr(instance)).copied().unwrap_or(0);
            let counted = instance.connections();
            assert_eq!(counted, open, "{} counts other connections", instance.suffix());
        }
        let held = |it: &Phase| matches!(it, Phase::Running(seat, _) if seat.carries());
        assert!(!self.requests.values().any(|it| held(&it.state)), "a seat that runs carries one");
    }

    /// Once every letter has been read, no instance has more connections than slots.
    pub(crate) fn check_crowds(&self) {
        self.check_connections();
        if self.options.churn.is_none() {
            for it in &self.watch.instances {
                assert!(!it.is_crowded(), "{} is crowded for ever", it.suffix());
            }
        }
    }
}
