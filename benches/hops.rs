//! How long a letter takes from one shard to another, and what looking for letters costs.
//!
//! Two threads on two cores, each with a mailbox and a ring, write to each other by turns, as shards
//! do: say that one dozes, look for letters, sleep. Printed is half of a round, so the writer's own
//! wake-up is in it.

#![expect(clippy::print_stdout, reason = "measures are printed")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use waiter::base::ids::ShardId;
use waiter::base::limits::Limits;
use waiter::base::time::Duration;
use waiter::core::letter::{Command, Letter, Notice};
use waiter::core::service::{Defaults, parse_static};
use waiter::mesh::{ShardPost, clock, join};
use waiter::shard::engine::ring::features::{Feature, Features, probe};
use waiter::shard::engine::ring::{Ring, Tuning};

const ROUNDS: usize = 2000;
const LOOKS: u32 = 1_000_000;
/// Longest wait in the ring, as a shard's.
const BOUND: Duration = Duration::from_millis(10);
/// Between two rounds, where the receiver is to have fallen asleep.
const PAUSE: Duration = Duration::from_millis(1);

/// Between letters a shard looks again and again, or sleeps in its ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Between {
    Awake,
    Asleep,
}

/// One shard: nothing but its mail.
struct Party {
    post: ShardPost,
    ring: Ring,
    between: Between,
}

impl Party {
    fn new(mut post: ShardPost, features: Features, between: Between) -> Self {
        let tuning = Tuning {
            features,
            depth: 64,
            small_count: 16,
            small_bytes: 4096,
            large_count: 16,
            large_bytes: 4096,
            spin: Duration::ZERO,
        };
        let ring = Ring::new(tuning, &Limits::PRODUCTION, clock::now()).expect("a ring");
        post.bell().hang(ring.descriptor(), &ring.waker());
        post.knocks();
        Self { post, ring, between }
    }

    /// One turn of its loop; the letter that came.
    fn turn(&mut self) -> Option<Letter> {
        self.post.bell().dozes();
        let letter = self.post.letter();
        self.knock();
        if letter.is_none() {
            let asleep = self.between == Between::Asleep;
            self.ring.turn(if asleep { BOUND } else { Duration::ZERO });
        }
        self.post.bell().awake();
        while self.ring.next_event().is_some() {}
        letter
    }

    fn knock(&mut self) {
        self.post.flush();
        while let Some((shard, ring)) = self.post.knock() {
            if !self.ring.knock(ring, shard) {
                self.post.wake(shard);
            }
        }
    }

    fn send(&mut self, to: u8, letter: Letter) {
        self.post.send(ShardId(to), letter);
        self.knock();
        self.ring.turn(Duration::ZERO);
        // Who does not look at what a turn brought does not hear the bell again.
        while self.ring.next_event().is_some() {}
    }
}

fn posts(shards: usize) -> Vec<ShardPost> {
    let (posts, _control) = join(shards, || Box::new(|_: Notice| Ok(())));
    posts
}

fn letter() -> Letter {
    let description = parse_static("a=10.0.0.1:80", &Defaults::default()).expect("a service");
    Letter::LookAgain(description.id)
}

/// Half of the median round, and of the 99th of a hundred.
fn hop(features: Features, between: Between, pause: Duration) -> (Duration, Duration) {
    let mut posts = posts(2);
    let (other, one) = (posts.pop().expect("two"), posts.pop().expect("two"));
    let ends = Arc::new(AtomicBool::new(false));
    let echo = {
        let ends = ends.clone();
        thread::spawn(move || {
            let mut party = Party::new(other, features, between);
            while !ends.load(Ordering::Relaxed) {
                if let Some(letter) = party.turn() {
                    party.send(0, letter);
                }
            }
        })
    };
    let mut party = Party::new(one, features, between);
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut letter = Some(letter());
    for _ in 0..ROUNDS {
        thread::sleep(pause);
        let began = clock::now();
        party.send(1, letter.take().expect("it came back"));
        while letter.is_none() {
            letter = party.turn();
        }
        rounds.push(clock::now() - began);
    }
    ends.store(true, Ordering::Relaxed);
    echo.join().expect("it does not panic");
    rounds.sort_unstable();
    (rounds[ROUNDS / 2] / 2, rounds[ROUNDS * 99 / 100] / 2)
}

/// What a turn costs a shard that gets no letters, beside so many others.
fn look(shards: usize) -> Duration {
    let mut post = posts(shards).pop().expect("some");
    let began = clock::now();
    for _ in 0..LOOKS {
        post.bell().dozes();
        assert!(black_box(post.letter()).is_none());
        assert!(!matches!(post.command(), Some(Command::Drain)));
        assert!(post.flush() && !post.has_mail());
        post.bell().awake();
    }
    (clock::now() - began) / LOOKS
}

fn main() {
    let all = match probe() {
        Ok(all) => all,
        Err(error) => return println!("no ring here: {error}"),
    };
    let cases = [
        ("both awake", Between::Awake, Duration::ZERO),
        ("asleep in the ring, back to back", Between::Asleep, Duration::ZERO),
        ("asleep in the ring, 1 ms apart", Between::Asleep, PAUSE),
    ];
    for (name, between, pause) in cases {
        for (way, features) in
            [("by the ring's message", all), ("by its socket", all.without(Feature::MessageRing))]
        {
            let (median, most) = hop(features, between, pause);
            println!("{name}, {way}: {median:?} (99 %: {most:?})");
        }
    }
    for shards in [1, 2, 8] {
        println!("looking for letters, {shards} shards, none there: {:?} a turn", look(shards));
    }
}
