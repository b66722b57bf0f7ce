//! Every interleaving of the slots' hand-shake between cores.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --manifest-path tests/loom/Cargo.toml`
//!
//! The product's own files are compiled twice: with loom's atomics, and with the same atomics less
//! their fences. The second must be caught, else the model proves nothing.
#![cfg(loom)]

/// The product.
#[path = "../../src/core/slots"]
mod sound {
    use loom::sync::atomic;

    pub mod room;
    pub mod word;
}

/// The product, with a planted defect: fences that do nothing.
#[path = "../../src/core/slots"]
mod unfenced {
    mod atomic {
        pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

        pub fn fence(_: Ordering) {}
    }

    pub mod room;
    pub mod word;
}

macro_rules! plays {
    ($slots:ident, $name:ident) => {
        mod $name {
            use super::$slots::room::Room;
            use super::$slots::word::{After, Waiting, Word};
            use loom::sync::atomic::{AtomicU32, Ordering};
            use loom::sync::{Arc, Mutex};
            use loom::thread;

            pub struct World {
                pub word: Word,
                pub room: Room,
                pub waiting: Waiting,
                letters: Mutex<Vec<After>>,
                serving: AtomicU32,
            }

            impl World {
                /// One slot, in use.
                pub fn new() -> Arc<Self> {
                    let world = Self {
                        word: Word::new(1),
                        room: Room::new(1),
                        waiting: Waiting::default(),
                        letters: Mutex::new(Vec::new()),
                        serving: AtomicU32::new(0),
                    };
                    assert!(world.room.take(0, &world.word));
                    world.begin();
                    Arc::new(world)
                }

                /// As a shard or home takes: where a hint is.
                fn take(&self) -> bool {
                    self.room.up(0..1).any(|at| self.room.take(at, &self.word))
                }

                fn begin(&self) {
                    let before = self.serving.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(before, 0, "two at an instance of limit 1");
                }

                fn end(&self, put: fn(&Self) -> After) {
                    self.serving.fetch_sub(1, Ordering::SeqCst);
                    match put(self) {
                        After::Free => {}
                        letter => self.letters.lock().expect("no panic holds it").push(letter),
                    }
                }

                /// Letters reach home, which still looks for a slot unless it has granted one.
                fn read_letters(&self, mut granted: bool) -> bool {
                    for letter in self.letters.lock().expect("no panic holds it").drain(..) {
                        match letter {
                            After::PassOn if granted => self.word.release(),
                            After::PassOn => granted = true,
                            After::LookAgain => granted = granted || self.take(),
                            After::Free => {}
                        }
                    }
                    granted
                }
            }

            pub fn put(world: &World) -> After {
                world.word.put(&world.waiting, || world.room.hint(0))
            }

            /// The slot's user ends; `newcomers` try on other shards; a claim reaches home. Home
            /// must serve the claim, and the instance must never serve two.
            pub fn a_claim_is_served(newcomers: usize, put: fn(&World) -> After) {
                let world = World::new();
                let user = thread::spawn({
                    let world = world.clone();
                    move || world.end(put)
                });
                let newcomers: Vec<_> = (0..newcomers)
                    .map(|_| {
                        let world = world.clone();
                        thread::spawn(move || {
                            if !world.waiting.any() && world.take() {
                                world.begin();
                                world.end(put);
                            }
                        })
                    })
                    .collect();

                // Home: a claim arrives; announce, then look.
                world.waiting.announce(1);
                let granted = world.take();
                if granted {
                    world.waiting.announce(0);
                    world.begin();
                }
                user.join().expect("the user ends");
                for newcomer in newcomers {
                    newcomer.join().expect("the newcomer ends");
                }
                assert!(world.read_letters(granted), "a request waits beside a free slot");
                assert_eq!(world.word.used(), 1);
            }
        }
    };
}

plays!(sound, real);
plays!(unfenced, planted);

#[cfg(test)]
mod tests {
    use super::sound::word::{After, Gate, Word};
    use super::{planted, real};
    use loom::thread;
    use std::sync::Arc;

    /// Walks every interleaving with at most this many switches where none is needed.
    fn walk(preemptions: usize, play: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(play);
    }

    #[test]
    fn a_claim_is_served_and_the_limit_holds() {
        loom::model(|| real::a_claim_is_served(0, real::put));
        walk(4, || real::a_claim_is_served(1, real::put));
    }

    #[test]
    #[should_panic(expected = "a request waits beside a free slot")]
    fn without_fences_a_waiter_is_forgotten() {
        loom::model(|| planted::a_claim_is_served(0, planted::put));
    }

    /// As the first version of the product did it.
    #[test]
    #[should_panic(expected = "a request waits beside a free slot")]
    fn with_the_hint_after_the_look_a_waiter_is_forgotten() {
        fn put(world: &real::World) -> After {
            let after = world.word.put(&world.waiting, || false);
            if after != After::PassOn {
                world.room.hint(0);
            }
            after
        }
        // The bit is clear at first: somebody has looked while the slot was in use.
        walk(4, || real::a_claim_is_served(1, put));
    }

    #[test]
    fn a_slot_is_taken_or_locked_never_both() {
        loom::model(|| {
            let word = loom::sync::Arc::new(Word::new(1));
            let taker = thread::spawn({
                let word = word.clone();
                move || word.take()
            });
            let locked = word.lock_idle();
            let taken = taker.join().expect("it takes or not");
            assert!(locked != taken, "one of the two");
            assert!(!word.take(), "neither locked nor full lets anybody in");
        });
    }

    #[test]
    fn no_take_succeeds_once_a_gate_is_closed() {
        loom::model(|| {
            let word = loom::sync::Arc::new(Word::new(2));
            let (seen, mark) = (Arc::new(loom::sync::atomic::AtomicU32::new(0)), 1);
            let closer = thread::spawn({
                let (word, seen) = (word.clone(), seen.clone());
                move || {
                    word.close(Gate::Ejected);
                    seen.store(mark, loom::sync::atomic::Ordering::Release);
                }
            });
            let closed = seen.load(loom::sync::atomic::Ordering::Acquire) == mark;
            assert!(!(closed && word.take()), "taken after the gate was closed");
            closer.join().expect("it closes");
            assert!(!word.take());
        });
    }
}
