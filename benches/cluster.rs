//! How the cost of a cluster grows: `cargo bench --bench cluster`.
//!
//! One router of 32, with 10 000 services and 100 000 instances that all routers share; its peers
//! are what it knows of them. Printed: what a change of membership costs, and how many bytes a
//! second it sends, at rest and under load. Times are of one run on a machine that may be shared.

#![expect(clippy::print_stdout, reason = "measures are printed")]

use std::sync::Arc;
use waiter::base::ids::{InstanceId, RouterId, ServiceId};
use waiter::base::time::{Date, Duration, Instant};
use waiter::core::peers::counters::{Counters, Exchange, Fact, Tally};
use waiter::core::peers::document::Want;
use waiter::core::peers::{Division, Document, Effect, Member, Peers, Settings, View};
use waiter::core::slots::{Instance, Seat, ServiceSlots};
use waiter::mesh::clock;

const ROUTERS: usize = 32;
const SERVICES: usize = 10_000;
const INSTANCES: usize = 10;
/// Services in which every router needs slots of others.
const IN_NEED: usize = 300;
/// Length of a frame beside its payload.
const FRAME: usize = 44;

fn service(number: usize) -> ServiceId {
    ServiceId::new(&format!("waiter-service-{number:05}-0123456789abcdef0123456789abcdef"))
}

fn view(routers: std::ops::Range<usize>, epoch: u64) -> View {
    let member = |it: usize| Member {
        id: router(it),
        address: format!("10.0.0.{it}:9091"),
        since: 1_700_000_000_000,
    };
    View { epoch, members: routers.map(member).collect(), roster: Vec::new() }
}

fn router(number: usize) -> RouterId {
    RouterId::new(&format!("router-{number}-0123456789ab"))
}

/// One router, and the queue and instances of each service.
struct One {
    peers: Peers,
    slots: Vec<Arc<ServiceSlots>>,
    instances: Vec<Vec<Arc<Instance>>>,
    now: Instant,
    seq: u64,
    effects: Vec<Effect>,
}

impl One {
    fn new() -> Self {
        let now = Instant(1_000_000);
        let peers = Peers::new(router(0), Settings::new(Duration::from_secs(10)), now);
        let effects = Vec::new();
        let mut it = Self { peers, slots: vec![], instances: vec![], now, seq: 0, effects };
        it.peers.registering(now);
        for number in 0..SERVICES {
            it.share(number);
        }
        it
    }

    fn share(&mut self, number: usize) {
        let address = "10.0.0.1:80".parse().expect("an address");
        let one = |it: usize| {
            let suffix = format!("0123456789abcdef-{it}");
            Arc::new(Instance::new(&suffix, address, Date(it as u64), 0))
        };
        let instances: Vec<_> = (0..INSTANCES).map(one).collect();
        let slots: Arc<ServiceSlots> = Arc::default();
        let division = Division {
            slots: slots.clone(),
            concurrency: 2,
            balanced: true,
            instances: instances.clone(),
        };
        self.peers.service(&service(number), &division, self.now);
        self.slots.push(slots);
        self.instances.push(instances);
    }

    fn view(&mut self, routers: std::ops::Range<usize>, epoch: u64) {
        self.peers.zookeeper(&view(routers, epoch), self.now, self.now);
    }

    /// Every peer says what `say` makes of an empty document.
    fn hear_all(&mut self, epoch: u64, say: impl Fn(usize, Document) -> Document) {
        self.seq += 1;
        for it in 1..ROUTERS {
            let document = say(it, empty(self.seq, epoch));
            self.peers.heard(&router(it), document, self.now, &mut self.effects);
        }
    }

    fn tick(&mut self) {
        self.peers.tick(self.now, &mut self.effects);
    }

    /// Bytes of all documents that were to be sent, and how many there were.
    fn sent(&mut self) -> (usize, usize) {
        let (mut bytes, mut count) = (0, 0);
        for effect in self.effects.drain(..) {
            if let Effect::Send(_, document) = effect {
                bytes += document.encode().len() + FRAME;
                count += 1;
            }
        }
        (bytes, count)
    }

    /// Lends whatever is claimed, as a home with room would.
    fn grant(&mut self) {
        let effects = std::mem::take(&mut self.effects);
        for effect in effects {
            let Effect::Claim(ticket, service, _) = effect else {
                self.effects.push(effect);
                continue;
            };
            let number = service.as_str()[15..20].parse::<usize>().expect("as it was named");
            let mut free = self.instances[number].iter().filter(|it| it.word.take_own());
            if let Some(instance) = free.next() {
                let seat = Seat::new(service, instance.clone(), self.slots[number].clone());
                self.peers.granted(ticket, seat, self.now, &mut self.effects);
            }
        }
    }
}

fn empty(seq: u64, epoch: u64) -> Document {
    Document { seq, ack: seq.saturating_sub(2), epoch, ..Document::default() }
}

fn timed(what: &str, act: impl FnOnce()) {
    let began = clock::now();
    act();
    println!("{what:<64} {:?}", clock::now() - began);
}

fn membership(it: &mut One) {
    timed("the first membership, of 31 routers", || it.view(0..ROUTERS - 1, 1));
    it.hear_all(1, |_, document| document);
    timed("settled: own instances are taken over", || it.tick());
    timed("a router joins", || it.view(0..ROUTERS, 2));
    it.hear_all(2, |_, document| document);
    timed("  and all have shown the epoch", || it.tick());
    timed("a router leaves", || it.view(0..ROUTERS - 1, 3));
    it.hear_all(3, |_, document| document);
    timed("  and all have shown the epoch", || it.tick());
    it.view(0..ROUTERS, 4);
    it.hear_all(4, |_, document| document);
    it.tick();
    it.sent();
}

/// One second, in turns of 10 ms; peers speak every 100 ms.
fn second(it: &mut One, say: impl Fn(usize, Document) -> Document) -> Duration {
    let mut spent = Duration::ZERO;
    for turn in 0..100 {
        it.now += Duration::from_millis(10);
        let began = clock::now();
        if turn % 10 == 0 {
            it.hear_all(4, &say);
        }
        it.tick();
        it.grant();
        it.tick();
        spent += clock::now() - began;
    }
    spent
}

fn documents(it: &mut One) {
    second(it, |_, document| document);
    it.sent();
    for (name, need) in [("at rest", 0), ("every router in need of 300 services", IN_NEED)] {
        let say = |peer: usize, document: Document| {
            let want = |at: usize| Want {
                service: service((peer * IN_NEED + at) % SERVICES),
                count: 1,
                age_ms: 20,
            };
            Document { wants: (0..need).map(want).collect(), ..document }
        };
        let spent = second(it, say);
        let (bytes, count) = it.sent();
        let lent = it.peers.loans().0;
        println!(
            "slots, {name}: {} kB/s to all 31 in {count} documents, {lent} slots lent, \
             {} ms of a core",
            bytes / 1000,
            spent.as_millis()
        );
    }
}

fn counters() {
    let mut it = Exchange::default();
    let others: Vec<RouterId> = (1..ROUTERS).map(router).collect();
    it.members(&others);
    let tally = |round: u64| Tally {
        outstanding: 3,
        waiting: 1,
        oldest_ms: 120,
        outstanding_ms: 1_000_000 + round,
        arrivals: 200_000 + round,
        completions: 200_000,
        failures: 17,
        service_ms: 2_000_000,
        last_request: 1_700_000_000_000 + round,
    };
    for number in 0..SERVICES {
        it.state(Fact::Tally(service(number), Some(tally(0))));
        for at in 0..INSTANCES / 3 {
            let id = InstanceId::new(&service(number), &format!("0123456789abcdef-{at}"));
            it.state(Fact::Health(id, Some(true)));
        }
    }
    println!("counters, to a newcomer: {} kB in all", whole(&mut it) / 1000);
    for changed in [0, 100, 1_000, SERVICES] {
        let began = clock::now();
        for number in 0..changed {
            it.state(Fact::Tally(service(number), Some(tally(1 + changed as u64))));
        }
        let mut bytes = 0;
        for peer in &others {
            let document = it.document(peer).expect("a member");
            bytes += document.encode().len() + FRAME;
        }
        let spent = clock::now() - began;
        acknowledge(&mut it);
        println!(
            "counters, {changed} services changed in a second: {} kB/s to all 31, {:?} of a core",
            bytes / 1000,
            spent
        );
    }
}

/// Bytes until a newcomer knows everything; then all do.
fn whole(it: &mut Exchange) -> usize {
    let mut bytes = 0;
    loop {
        let document = it.document(&router(1)).expect("a member");
        if document.facts.is_empty() {
            return bytes;
        }
        bytes += document.encode().len() + FRAME;
        acknowledge(it);
    }
}

/// Every peer has seen the newest document.
fn acknowledge(it: &mut Exchange) {
    for number in 1..ROUTERS {
        let document = it.document(&router(number)).expect("a member");
        let ack = (document.session, document.number);
        let reply = Counters { session: 1, number: 1, after: 0, ack, facts: Vec::new() };
        it.heard(&router(number), reply, Instant(1));
    }
}

fn main() {
    let mut it = One::new();
    println!("{ROUTERS} routers, {SERVICES} services, {} instances", SERVICES * INSTANCES);
    membership(&mut it);
    documents(&mut it);
    it.peers.into_seats().for_each(Seat::release);
    counters();
}
