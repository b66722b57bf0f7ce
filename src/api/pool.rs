//! The threads that answer calls.
//!
//! One thread, `api`, takes calls from the shards and gives each to the worker with the fewest at
//! hand (`api-0`, `api-1`); workers answer what can be answered at once. An errand gets a thread of
//! its own, `api-errand`, of which there is a bounded number. All end when the shards have gone.

use super::about::{About, View};
use super::errand::{self, Errand, Tools};
use super::logs::Look;
use super::pages::{self, Step};
use super::reply::Reply;
use crate::base::fault::{Class, Fault};
use crate::core::catalogue::{Catalogue, Demand, Done};
use crate::mesh::{Bell, clock};
use crate::wire::call::{Answer, Call};
use arc_swap::ArcSwap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

/// Workers.
const WORKERS: usize = 2;

/// Errands under way at a time; one more is refused.
pub(super) const ERRANDS_MAX: usize = 32;

/// How the API asks the control thread: it hands over a demand and where the answer goes. Whoever
/// drops the sender unused has answered too: the call fails.
pub type Ask = Arc<dyn Fn(Demand, Sender<Done>) + Send + Sync>;

/// What joins the API to the other rooms.
pub struct Joins {
    /// Calls from all shards.
    pub calls: Receiver<Call>,
    /// Answers to each shard, and what wakes it; by shard number.
    pub answers: Vec<(Sender<Answer>, Arc<Bell>)>,
    /// What is known of every service.
    pub catalogue: Arc<ArcSwap<Catalogue>>,
    /// How to ask the control thread.
    pub ask: Ask,
    /// How to look into the folders of instances.
    pub look: Look,
    /// What never changes.
    pub about: About,
}

impl fmt::Debug for Joins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joins").field("shards", &self.answers.len()).finish_non_exhaustive()
    }
}

/// Starts the API. The thread ends after all senders of calls are gone.
///
/// # Errors
/// A thread could not be started.
pub fn start(joins: Joins) -> io::Result<JoinHandle<()>> {
    let Joins { calls, answers, catalogue, ask, look, about } = joins;
    let desk = Desk { answers, catalogue, ask, look, about, errands: Arc::default() };
    let desk = Arc::new(desk);
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        workers.push(Worker::start(number, Arc::clone(&desk))?);
    }
    Builder::new().name("api".into()).spawn(move || {
        for call in calls {
            let idlest = workers.iter().min_by_key(|it| it.at_hand.load(Ordering::Relaxed));
            idlest.expect("there are workers").give(call);
        }
    })
}

struct Worker {
    calls: Sender<Call>,
    /// Calls given and not yet answered.
    at_hand: Arc<AtomicUsize>,
}

impl Worker {
    fn start(number: usize, desk: Arc<Desk>) -> io::Result<Self> {
        let (calls, given) = channel();
        let at_hand = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&at_hand);
        Builder::new().name(format!("api-{number}")).spawn(move || {
            for call in given {
                desk.take(call);
                count.fetch_sub(1, Ordering::Relaxed);
            }
        })?;
        Ok(Self { calls, at_hand })
    }

    fn give(&self, call: Call) {
        self.at_hand.fetch_add(1, Ordering::Relaxed);
        self.calls.send(call).expect("a worker ends after its calls");
    }
}

/// What all threads of the API share. None of it is written but the count of errands.
struct Desk {
    answers: Vec<(Sender<Answer>, Arc<Bell>)>,
    catalogue: Arc<ArcSwap<Catalogue>>,
    ask: Ask,
    look: Look,
    about: About,
    /// As many references as errands are under way, and one.
    errands: Arc<()>,
}

impl Desk {
    fn take(self: &Arc<Self>, call: Call) {
        let catalogue = self.catalogue.load_full();
        let view = View::new(&catalogue, &self.about, &call, clock::date());
        match pages::answer(&call, &view) {
            Step::Reply(reply) => self.answer(&call, reply),
            Step::Errand(errand) => self.send_out(errand, call),
        }
    }

    fn send_out(self: &Arc<Self>, errand: Errand, call: Call) {
        let one = Arc::clone(&self.errands);
        if Arc::strong_count(&one) > ERRANDS_MAX + 1 {
            let text = "Too many deletions and pings are under way on this router";
            let fault = Fault::new(Class::ReserveBackPressure, text);
            return self.answer(&call, Reply::fault(&fault, &call, clock::date()));
        }
        let desk = Arc::clone(self);
        let thread = Builder::new().name("api-errand".into()).spawn(move || {
            let tools = Tools {
                about: &desk.about,
                catalogue: &desk.catalogue,
                ask: &desk.ask,
                look: &desk.look,
            };
            let reply = errand::carry_out(errand, &call, &tools);
            desk.answer(&call, reply);
            drop(one);
        });
        if let Err(error) = thread {
            // The call went with the thread; its shard answers when its time is over.
            tracing::error!(%error, "no thread for an errand of the API");
        }
    }

    fn answer(&self, call: &Call, reply: Reply) {
        let (answers, bell) = &self.answers[usize::from(call.ticket.shard.0)];
        // A shard that is gone needs no answer: the router is ending.
        if answers.send(reply.into_answer(call)).is_ok() {
            bell.ring();
        }
    }
}
