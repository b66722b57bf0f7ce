//! Slots: taken and put, chosen among many, waited for.

use super::{Rule, service};
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use waiter::base::address::SocketAddr;
use waiter::base::ids::{ServiceId, ShardId, Ticket};
use waiter::base::limits::Limits;
use waiter::base::time::{Date, Instant};
use waiter::core::letter::{Asker, Claim, Settle};
use waiter::core::outcome::Outcome;
use waiter::core::reserver::{Reply, Reserver};
use waiter::core::slots::{Instance, Seat, Word};

/// A slot is taken and put back.
pub(crate) fn slot() -> Rule {
    slot_of(Arc::new(Word::new(4)))
}

/// As [`slot`], of a word that others may use too.
pub(crate) fn slot_of(word: Arc<Word>) -> Rule {
    Box::new(move || {
        assert!(black_box(&word).take());
        word.release();
    })
}

/// An instance is chosen while 500 of 1000 are full.
pub(crate) fn choice() -> Rule {
    let all = instances(1000);
    let service = service("choice", &all);
    for it in &all[..500] {
        assert!(it.word.take());
    }
    Box::new(move || {
        let it = service.slots.take(ShardId(0), &[], 0).expect("500 are free");
        it.word.release(); // its bit stays set: nobody found it full
    })
}

/// A request begins to wait for one of 1000 instances, and another ends: all slots are in use.
pub(crate) fn claim_and_settle() -> Rule {
    let service = service("queue", &instances(1000));
    let mut queue = Queue {
        id: service.id().clone(),
        reserver: Reserver::new(service.id().clone(), Some(service), ShardId(0)),
        replies: Vec::new(),
        seats: VecDeque::new(),
        number: 0,
    };
    (0..1001).for_each(|_| queue.claim());
    assert_eq!(queue.seats.len(), 1000, "one waits");
    Box::new(move || {
        queue.claim();
        queue.settle();
    })
}

struct Queue {
    id: ServiceId,
    reserver: Reserver,
    replies: Vec<Reply>,
    seats: VecDeque<Seat>,
    number: u64,
}

impl Queue {
    fn claim(&mut self) {
        self.number += 1;
        let ticket = Ticket { shard: ShardId(0), number: self.number };
        let service = self.id.clone();
        let since = Instant(1);
        let asker = Asker::Request;
        let claim = Claim { ticket, service, description: None, not: Vec::new(), since, asker };
        self.reserver.claim(claim, &mut self.replies);
        self.seat_all();
    }

    fn settle(&mut self) {
        let seat = self.seats.pop_front().expect("one is granted for each that is settled");
        let settle = Settle { seat, outcome: Outcome::Success };
        self.reserver.settle(settle, &Limits::PRODUCTION, Instant(1), &mut self.replies);
        self.seat_all();
    }

    fn seat_all(&mut self) {
        self.seats.extend(self.replies.drain(..).filter_map(|reply| match reply {
            Reply::Grant(_, seat) => Some(seat),
            _ => None,
        }));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.seats.drain(..).for_each(Seat::release);
    }
}

fn instances(count: u64) -> Vec<Arc<Instance>> {
    let address: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    (0..count).map(|it| Arc::new(Instance::new(&it.to_string(), address, Date(it), 1))).collect()
}
