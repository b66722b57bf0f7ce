//! Random worlds: shards, instances that fail, clients that leave. Every response goes to the one
//! who asked for it, every slot comes home, and connections are counted wherever they travel. A
//! failure prints its seed.

use super::whole::whole;
use super::world::{Habit, Id, Setup, World};
use crate::base::time::Duration;
use crate::shard::settings::Accept;
use std::collections::BTreeMap;

const SEEDS: u64 = 150;
const STEPS: usize = 80;
const SERVICES: [&str; 5] = [
    "bench=10.0.0.1:80",
    "bench=10.0.0.1:80,10.0.0.2:80",
    "bench=10.0.0.1:80,10.0.0.2:80,10.0.0.3:80;load-balancing=random",
    "bench=10.0.0.1:80;concurrency-level=3;client-abort=finish",
    "bench=10.0.0.1:80,10.0.0.2:80;concurrency-level=2;max-queue-length=2",
];

struct Play {
    world: World,
    state: u64,
    clients: Vec<Id>,
    /// Names of the requests of each client, in order.
    asked: BTreeMap<Id, Vec<String>>,
    count: u32,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut state = seed;
        let shards = 1 + below(&mut state, 4) as usize;
        let service = SERVICES[below(&mut state, 5) as usize];
        let accept = [Accept::Balanced, Accept::Plain][below(&mut state, 2) as usize];
        let mut world = World::new(Setup { shards, service, accept, ..Setup::default() });
        let passes_from = [None, Some(1), Some(3)][below(&mut state, 3) as usize];
        for shard in &mut world.shards {
            shard.engine.passes_from = passes_from;
        }
        world.sip = [1, 3, 50, usize::MAX][below(&mut state, 4) as usize];
        Self { world, state, clients: Vec::new(), asked: BTreeMap::new(), count: 0 }
    }

    fn below(&mut self, end: usize) -> usize {
        below(&mut self.state, end as u64) as usize
    }

    fn step(&mut self) {
        match self.below(13) {
            0 | 1 => {
                let shard = self.below(self.world.shards.len());
                let client = self.world.client(shard);
                self.clients.push(client);
            }
            2..=4 => self.ask(),
            5 => self.leave(),
            6..=8 => self.answer(),
            9 => self.fail_idle(),
            10 => {
                let at = self.below(self.world.instances.len());
                let habit = if self.below(3) == 0 { Habit::Refuses } else { Habit::Manual };
                self.world.habits.insert(self.world.instances[at].address, habit);
            }
            11 => {
                let at = self.below(self.world.shards.len());
                self.world.shards[at].engine.clings = self.below(3) == 0;
            }
            _ => {
                let millis = self.below(6000) as u64;
                self.world.pass(Duration::from_millis(millis));
            }
        }
    }

    /// An open client, if there is one.
    fn open_client(&mut self) -> Option<Id> {
        let open: Vec<_> =
            self.clients.iter().copied().filter(|it| !self.world.is_closed(*it)).collect();
        (!open.is_empty()).then(|| open[self.below(open.len())])
    }

    fn ask(&mut self) {
        let Some(client) = self.open_client() else { return };
        for _ in 0..=self.below(2) {
            self.count += 1;
            let name = format!("/{}", self.count);
            let text = match self.below(3) {
                0 => format!("GET {name} HTTP/1.1\r\nhost: bench\r\n\r\n"),
                1 => format!("PUT {name} HTTP/1.1\r\nhost: bench\r\ncontent-length: 3\r\n\r\nabc"),
                _ => format!(
                    "POST {name} HTTP/1.1\r\nhost: bench\r\ntransfer-encoding: chunked\r\n\r\n\
                     3\r\nabc\r\n0\r\n\r\n"
                ),
            };
            self.asked.entry(client).or_default().push(name);
            self.world.send(client, text);
        }
    }

    fn leave(&mut self) {
        let Some(client) = self.open_client() else { return };
        if self.below(2) == 0 { self.world.end(client) } else { self.world.reset(client) }
    }

    /// An instance answers a whole request by its name, or fails.
    fn answer(&mut self) {
        let asked = self.world.asked();
        if asked.is_empty() {
            return;
        }
        let instance = asked[self.below(asked.len())];
        let got = self.world.got(instance);
        if whole(got.as_bytes()).is_none() {
            return;
        }
        let name = got.split(' ').nth(1).expect("a target").to_owned();
        let length = name.len();
        self.world.take(instance);
        match self.below(12) {
            0 => {
                self.world.send(instance, format!("HTTP/1.1 200 OK\r\n\r\n{name}"));
                self.world.end(instance);
            }
            1 => {
                let busy = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
                self.world.send(instance, busy);
            }
            2 => {
                let part = format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{name}");
                self.world.send(instance, part);
                self.world.reset(instance);
            }
            3 => self.world.reset(instance),
            4 => self.world.end(instance),
            5 => self.world.send(instance, "nonsense\r\n\r\n"),
            _ => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                self.world.send(instance, format!("{head}{name}"));
            }
        }
    }

    /// A connection that nothing is asked on is closed by its instance.
    fn fail_idle(&mut self) {
        let asked = self.world.asked();
        let idle: Vec<_> =
            self.world.upstream().into_iter().filter(|it| !asked.contains(it)).collect();
        if !idle.is_empty() {
            let instance = idle[self.below(idle.len())];
            self.world.end(instance);
        }
    }

    /// What clients got is what they asked for, in order, or an error, or broken off. How many were
    /// answered.
    fn check(&mut self) -> usize {
        let mut answered = 0;
        for (client, names) in &self.asked {
            let bytes = std::mem::take(&mut self.world.remote(*client).got);
            let (mut rest, mut names) = (&bytes[..], names.iter());
            while let Some((used, body)) = whole(rest) {
                let name = names.next().expect("no more responses than requests");
                if rest.starts_with(b"HTTP/1.1 200 ") {
                    assert_eq!(body, name.as_bytes(), "an answer to another");
                    answered += 1;
                }
                rest = &rest[used..];
            }
        }
        answered
    }

    /// All instances are well again and answer; then everybody leaves.
    fn finish(&mut self) -> usize {
        for instance in &self.world.instances {
            self.world.habits.insert(instance.address, Habit::Manual);
        }
        for _ in 0..1000 {
            if self.world.asked().is_empty() {
                break;
            }
            self.answer();
        }
        self.world.pass(Duration::from_secs(400));
        while let Some(client) = self.open_client() {
            self.world.reset(client);
        }
        let answered = self.check();
        self.world.end_of_play();
        assert!(self.world.upstream().is_empty(), "idle connections have expired");
        answered
    }
}

fn below(state: &mut u64, end: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut it = *state;
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (it ^ (it >> 31)) % end
}

#[test]
fn random_worlds_lose_nothing() {
    let (mut answered, mut travelled, mut passed) = (0, 0, 0);
    for seed in 0..SEEDS {
        let played = std::panic::catch_unwind(|| {
            let mut play = Play::new(seed);
            for _ in 0..STEPS {
                play.step();
            }
            let passed = play.world.shards.iter().map(|it| it.engine.passings).sum::<usize>();
            (play.finish(), play.world.travelled, passed)
        });
        let played = played.unwrap_or_else(|_| panic!("replay with seed {seed}"));
        answered += played.0;
        travelled += played.1;
        passed += played.2;
    }
    println!("{answered} requests were answered, {travelled} connections changed shards");
    assert!(answered > 5 * SEEDS as usize, "too few: {answered}");
    assert!(travelled > SEEDS as usize, "too few: {travelled}");
    assert!(passed > SEEDS as usize, "too few bodies passed by: {passed}");
}
