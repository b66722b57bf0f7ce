//! Everything that runs: the world behind its lock, what is outside of it, the faults, the record
//! of requests. And the clockwork that tells the world the time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::clock::{Ms, now};
use crate::fault::Faults;
use crate::outside::{Outside, memory_by_group};
use crate::record::Record;
use crate::throne::Throne;
use crate::world::World;

/// How often the world is told the time.
const TICK: Duration = Duration::from_millis(10);
/// How often memory is looked at.
const MEMORY_TICK_MS: Ms = 100;

#[derive(Debug)]
pub(crate) struct Plant {
    /// One lock for all facts, so that every answer is of one moment; held for short calls only.
    world: Mutex<World>,
    pub(crate) outside: Outside,
    pub(crate) faults: Faults,
    pub(crate) record: Record,
    pub(crate) throne: Throne,
    pub(crate) work_dir: PathBuf,
}

impl Plant {
    pub(crate) fn new(world: World, throne: Throne, work_dir: PathBuf) -> Arc<Self> {
        let plant = Arc::new(Self {
            world: Mutex::new(world),
            outside: Outside::default(),
            faults: Faults::default(),
            record: Record::new(now()),
            throne,
            work_dir,
        });
        plant.outside.belongs_to(Arc::downgrade(&plant));
        plant
    }

    /// Reads or changes the world.
    pub(crate) fn change<T>(&self, what: impl FnOnce(&mut World, &Outside, Ms) -> T) -> T {
        what(&mut self.lock(), &self.outside, now())
    }

    /// The clockwork; never returns.
    pub(crate) fn run(self: Arc<Self>) {
        thread::spawn(move || {
            let mut memory_at = 0;
            loop {
                thread::sleep(TICK);
                self.change(World::tick);
                if self.throne.tick(now()) {
                    self.change(|world, _, _| world.hub.close());
                }
                if now() >= memory_at {
                    memory_at = now() + MEMORY_TICK_MS;
                    self.judge_memory();
                }
            }
        });
    }

    fn judge_memory(&self) {
        if !self.lock().options.enforce_memory {
            return;
        }
        let used = memory_by_group();
        self.change(|world, outside, _| world.judge_memory(&used, outside));
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
