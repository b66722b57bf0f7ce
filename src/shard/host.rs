//! The loop of a shard on its own ring.
//!
//! ```text
//!   letters and the newest world ─► deadlines ─► one enter: submit, wait ─► what has happened ─┐
//!         ▲                                                                                   │
//!         └───────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! The clock is read once per turn. The shard says that it dozes before it reads its letters, so
//! that one sent later wakes the ring. It is glommio's guest: after 50 ms without anything to do it
//! sleeps in glommio until a completion or a letter comes.

use crate::base::address::SocketAddr;
use crate::base::socket::Socket;
use crate::base::time::{Duration, Instant};
use crate::mesh::clock;
use crate::shard::engine::ring::{Event, Pillow, Ring};
use crate::shard::engine::{Engine, Happening};
use crate::shard::state::{Draining, Shard};
use crate::shard::turn::TICK;
use std::io;
use std::net::TcpListener;

/// Longest wait in the ring.
const BOUND: Duration = Duration::from_millis(10);
/// Wait while something could not be handed on.
const RETRY: Duration = Duration::from_millis(1);
/// So long without anything to do before the shard sleeps in glommio.
const IDLE: Duration = Duration::from_millis(50);

/// A shard and what its loop keeps.
struct Host {
    shard: Shard<Ring>,
    pillow: Pillow,
    now: Instant,
    next_tick: Instant,
    ticks: u32,
    /// When there was something to do.
    busy_at: Instant,
    accepts: bool,
}

/// Makes the loop of a shard that accepts from these listeners.
///
/// # Errors
/// The listeners, or the driver's descriptors, cannot be used.
pub(super) fn host(
    mut shard: Shard<Ring>,
    listeners: Vec<TcpListener>,
) -> io::Result<impl Future<Output = ()>> {
    let pillow = shard.engine.pillow()?;
    for listener in listeners {
        shard.engine.accept(listener)?;
    }
    let (ring, waker) = (shard.engine.descriptor(), shard.engine.waker());
    shard.post().bell().hang(ring, &waker);
    shard.post().knocks();
    let now = clock::now();
    let host = Host { shard, pillow, now, next_tick: now, ticks: 0, busy_at: now, accepts: true };
    Ok(host.run())
}

impl Host {
    async fn run(mut self) {
        loop {
            self.shard.post().bell().dozes();
            let more = self.shard.mail(self.now);
            self.tick();
            self.knock();
            if !more && self.now - self.busy_at >= IDLE {
                self.sleep().await;
            } else {
                let bound = self.bound(more);
                self.shard.engine.turn(bound);
            }
            self.shard.post().bell().awake();
            self.now = clock::now();
            self.shard.engine.passes(self.now);
            self.tell_all();
            if self.accepts && self.shard.draining() != Draining::No {
                self.accepts = false;
                self.shard.engine.stop_accepting();
            }
        }
    }

    /// How long the ring may wait.
    fn bound(&mut self, more: bool) -> Duration {
        if self.shard.post().has_mail() {
            self.busy_at = self.now;
            return Duration::ZERO;
        }
        let until_tick = self.next_tick - self.now;
        if more { RETRY } else { BOUND.min(until_tick) }
    }

    fn tick(&mut self) {
        if self.now < self.next_tick {
            return;
        }
        self.next_tick = self.now + TICK;
        self.shard.tick_or_beat(self.ticks, self.now);
        self.ticks = self.ticks.wrapping_add(1);
    }

    /// Wakes the shards that have got letters and sleep.
    fn knock(&mut self) {
        while let Some((shard, ring)) = self.shard.post().knock() {
            if !self.shard.engine.knock(ring, shard) {
                self.shard.post().wake(shard);
            }
        }
    }

    async fn sleep(&mut self) {
        if self.shard.engine.lies_down() {
            self.pillow.sleep().await;
            self.shard.engine.rises();
        }
    }

    /// Tells the shard all that has happened.
    fn tell_all(&mut self) {
        let now = self.now;
        while let Some(event) = self.shard.engine.next_event() {
            self.busy_at = now;
            let happening = match event {
                Event::Received(link, mut lent) => {
                    self.shard.happened(Happening::Received(link, lent.bytes()), now);
                    self.shard.engine.give_back(lent);
                    continue;
                }
                Event::Kept(link, mut bytes) => {
                    self.shard.happened(Happening::Received(link, &mut bytes), now);
                    continue;
                }
                Event::Arrived(socket, peer) => {
                    self.take(socket, peer);
                    continue;
                }
                Event::Opened(link) => Happening::Opened(link),
                Event::OpenFailed(link, cause) => Happening::OpenFailed(link, cause),
                Event::Ended(link) => Happening::Ended(link),
                Event::Sent(link, bytes) => Happening::Sent(link, bytes),
                Event::Passed(link, passed) => Happening::Passed(link, passed),
                Event::Broken(link) => Happening::Broken(link),
            };
            self.shard.happened(happening, now);
        }
        while let Some(shard) = self.shard.engine.refused_knock() {
            self.shard.post().wake(shard);
        }
        self.take_last_clients();
    }

    /// Those who had connected when accepting ended still get an answer, or an orderly end.
    fn take_last_clients(&mut self) {
        if self.accepts {
            return;
        }
        for (socket, peer) in self.shard.engine.last_clients() {
            self.take(socket, peer);
        }
    }

    /// A client has connected.
    fn take(&mut self, socket: Socket, peer: SocketAddr) {
        if self.shard.has_room() {
            let link = self.shard.engine.adopt(socket);
            self.shard.happened(Happening::Accepted(link, peer), self.now);
        }
    }
}
