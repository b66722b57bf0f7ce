//! Starting a shard on its core, and the few tasks it has beside its connections.

use crate::base::time::Duration;
use crate::mesh::clock;
use crate::shard::engine::Happening;
use crate::shard::engine::ring::{Ring, Tuning};
use crate::shard::engine::streams::{Listening, Name, Owner, Shared, Streams};
use crate::shard::host::host;
use crate::shard::state::{Draining, Joins, Shard};
use crate::shard::turn::TICK;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::task::Poll;

/// Memory glommio registers for direct I/O, which is not used here: the least it takes.
const IO_MEMORY: usize = 64 << 10;
const RING_DEPTH: usize = 1024;
/// glommio 0.9 sleeps beside a task that could run if this time is over before it has looked at
/// its tasks, as it may be on a busy machine; only an event wakes it then. A shard on its own ring
/// needs no preemption, so its time never comes. Streams need it; their timers soon wake glommio.
const PREEMPT_NEVER: Duration = Duration::from_secs(24 * 60 * 60);
const PREEMPT_STREAMS: Duration = Duration::from_millis(10);

/// What drives the sockets of a shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Io {
    /// A ring of its own.
    Ring(Tuning),
    /// glommio's streams.
    Streams,
}

/// What a shard needs to start.
#[derive(Debug)]
pub struct Start {
    /// The core it runs on.
    pub core: usize,
    /// What it is joined to.
    pub joins: Joins,
    /// Its listeners, bound and listening.
    pub listeners: Vec<std::net::TcpListener>,
    /// Where its correlation ids begin.
    pub unique: u64,
    /// What drives its sockets.
    pub io: Io,
    /// Told when it accepts, or why it cannot.
    pub ready: Sender<io::Result<()>>,
}

/// Starts a shard on a thread of its own.
///
/// # Errors
/// The thread or its rings cannot be made.
pub fn start(start: Start) -> io::Result<ExecutorJoinHandle<()>> {
    let name = format!("shard-{}", start.joins.post.me.0);
    let preempt = match start.io {
        Io::Ring(_) => PREEMPT_NEVER,
        Io::Streams => PREEMPT_STREAMS,
    };
    LocalExecutorBuilder::new(Placement::Fixed(start.core))
        .name(&name)
        .io_memory(IO_MEMORY)
        .ring_depth(RING_DEPTH)
        .preempt_timer(preempt)
        .spawn(move || async move {
            match start.io {
                Io::Ring(tuning) => run_ring(start, tuning).await,
                Io::Streams => run_streams(start).await,
            }
        })
        .map_err(|error| io::Error::other(error.to_string()))
}

async fn run_ring(start: Start, tuning: Tuning) {
    let now = clock::now();
    let made = Ring::new(tuning, &start.joins.settings.limits, now).and_then(|ring| {
        let shard = Shard::new(ring, start.joins, start.unique, now);
        host(shard, start.listeners)
    });
    match made {
        Ok(host) => {
            let _ = start.ready.send(Ok(()));
            host.await;
        }
        Err(error) => {
            let _ = start.ready.send(Err(error));
        }
    }
}

async fn run_streams(start: Start) {
    let me = start.joins.post.me;
    let streams = Streams::new(&start.joins.settings.limits);
    let shard = Shard::new(streams, start.joins, start.unique, clock::now());
    let shard = Rc::new(RefCell::new(shard));
    let owner: Shared = shard.clone();
    shard.borrow_mut().engine.adopt(&owner);
    let begin = |(listener, it)| Listening::begin(it, Name { shard: me, listener }, owner.clone());
    let listening: Vec<_> = start.listeners.into_iter().enumerate().map(begin).collect();
    glommio::spawn_local(tick(shard.clone())).detach();
    glommio::spawn_local(mail(shard.clone())).detach();
    let _ = start.ready.send(Ok(()));
    drained(&shard).await;
    for it in listening {
        it.close().await;
    }
    // The process ends when all shards are idle; until then this one stays to answer letters.
    std::future::pending::<()>().await;
}

async fn tick(shard: Rc<RefCell<Shard<Streams>>>) {
    for count in 0_u32.. {
        glommio::timer::sleep(TICK).await;
        shard.borrow_mut().tick_or_beat(count, clock::now());
    }
}

/// Reads the mail whenever the bell rings.
async fn mail(shard: Rc<RefCell<Shard<Streams>>>) {
    let bell = shard.borrow_mut().post().bell().clone();
    poll_fn(|cx| {
        bell.awake();
        if shard.borrow_mut().mail(clock::now()) {
            cx.waker().wake_by_ref();
            return Poll::<()>::Pending;
        }
        bell.falls_asleep(cx.waker());
        // Whatever came before it fell asleep rang no bell: letters, commands, answers of the API.
        if shard.borrow_mut().mail(clock::now()) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
}

/// Returns when no new clients are wanted.
async fn drained(shard: &Rc<RefCell<Shard<Streams>>>) {
    while shard.borrow().draining() == Draining::No {
        glommio::timer::sleep(TICK).await;
    }
}

impl Owner for Shard<Streams> {
    fn on(&mut self, happening: Happening<'_>) {
        self.happened(happening, clock::now());
    }

    fn streams(&mut self) -> &mut Streams {
        &mut self.engine
    }

    fn accepts(&self) -> bool {
        self.has_room()
    }
}
