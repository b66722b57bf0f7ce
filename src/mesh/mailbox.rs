//! Mailboxes between shards, and between each shard and the control thread.
//!
//! One bounded single-producer ring per ordered pair. A sender never blocks and never drops: what
//! does not fit waits in its own outbox and is tried again each turn. The bell is rung only when
//! the receiver has said that it sleeps, so a busy receiver costs its senders one load.
//!
//! Must hold: a letter that was sent before the receiver fell asleep is seen by it or rings the
//! bell (the sender pushes, fences, reads `asleep`; the receiver writes `asleep`, fences, looks
//! again).

use crate::base::ids::ShardId;
use crate::base::time::Instant;
use crate::core::letter::{Command, Letter, Notice};
use atomic_waker::AtomicWaker;
use crossbeam_utils::CachePadded;
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

/// Letters that fit in one lane before the sender's outbox is used.
const LANE: usize = 512;

/// Wakes one receiver from any thread.
#[derive(Debug)]
pub struct Bell {
    asleep: AtomicBool,
    /// Whom to wake once.
    waker: AtomicWaker,
    /// Whom to wake each time, if it was said so.
    hung: OnceLock<Waker>,
    /// Descriptor of the ring by which another ring can wake the receiver; below 0: none.
    ring: AtomicI32,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            asleep: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            hung: OnceLock::new(),
            ring: AtomicI32::new(-1),
        }
    }
}

impl Bell {
    /// Wakes the receiver if it sleeps.
    pub fn ring(&self) {
        if self.must_ring() {
            self.wake();
        }
    }

    /// Wakes the receiver.
    pub fn wake(&self) {
        match self.hung.get() {
            Some(waker) => waker.wake_by_ref(),
            None => self.waker.wake(),
        }
    }

    /// Whether the receiver sleeps, and whoever asks is the one who wakes it.
    fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }

    /// How the receiver is woken from now on, each time it dozes: by its ring, or by `waker`. It is
    /// said once.
    ///
    /// # Panics
    /// If it is said again.
    pub fn hang(&self, ring: i32, waker: &Waker) {
        assert!(self.hung.set(waker.clone()).is_ok(), "a bell is hung once");
        self.ring.store(ring, Ordering::Release);
    }

    /// The receiver is about to sleep, and will be woken as was said to `hang`; it must look into
    /// its lanes once more after this.
    pub fn dozes(&self) {
        self.asleep.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The receiver is about to sleep; it must look into its lanes once more after this.
    pub fn falls_asleep(&self, waker: &Waker) {
        self.waker.register(waker);
        self.dozes();
    }

    /// The receiver is awake.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

/// An instant that one thread puts and others read: until then something may be done.
#[derive(Clone, Debug)]
pub struct Fence(Arc<CachePadded<AtomicU64>>);

impl Default for Fence {
    fn default() -> Self {
        Self(Arc::new(CachePadded::new(AtomicU64::new(u64::MAX))))
    }
}

impl Fence {
    /// It may be done until then.
    pub fn put(&self, until: Instant) {
        self.0.store(until.0, Ordering::Release);
    }

    /// Until when it may.
    pub fn get(&self) -> Instant {
        Instant(self.0.load(Ordering::Acquire))
    }
}

/// The sending end of one pair.
#[derive(Debug)]
pub struct Lane<T> {
    ring: Producer<T>,
    outbox: VecDeque<T>,
    bell: Arc<Bell>,
}

impl<T> Lane<T> {
    /// Sends; keeps what does not fit.
    pub fn send(&mut self, letter: T) {
        self.put(letter);
        self.bell.ring();
    }

    fn put(&mut self, letter: T) {
        if !self.outbox.is_empty() {
            self.outbox.push_back(letter);
        } else if let Err(rtrb::PushError::Full(letter)) = self.ring.push(letter) {
            self.outbox.push_back(letter);
        }
    }

    /// Tries again to send what was kept; whether nothing is left.
    pub fn flush(&mut self) -> bool {
        if self.outbox.is_empty() {
            return true;
        }
        while let Some(letter) = self.outbox.pop_front() {
            if let Err(rtrb::PushError::Full(letter)) = self.ring.push(letter) {
                self.outbox.push_front(letter);
                break;
            }
        }
        // The receiver may have read all that fitted before, and fallen asleep.
        self.bell.ring();
        self.outbox.is_empty()
    }
}

/// Tells the control thread; gives the notice back if it cannot take it now.
pub type Notices = Box<dyn FnMut(Notice) -> Result<(), Notice> + Send>;

/// A shard's end of all its mailboxes.
pub struct ShardPost {
    /// Which shard this is.
    pub me: ShardId,
    /// How many shards there are.
    pub shards: usize,
    /// Letters sent to other shards so far.
    pub sent: u64,
    to: Vec<Option<Lane<Letter>>>,
    own: VecDeque<Letter>,
    from: Vec<Consumer<Letter>>,
    commands: Consumer<Command>,
    notices: Notices,
    unsent: VecDeque<Notice>,
    bell: Arc<Bell>,
    seen: Arc<CachePadded<AtomicU64>>,
    fence: Fence,
    /// Shards to be woken through their rings, one bit each; if this shard has a ring.
    knocks: Option<u64>,
}

impl std::fmt::Debug for ShardPost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardPost").field("me", &self.me).finish_non_exhaustive()
    }
}

impl ShardPost {
    /// Sends a letter to a shard, perhaps this one.
    pub fn send(&mut self, to: ShardId, letter: Letter) {
        match &mut self.to[usize::from(to.0)] {
            Some(lane) => {
                self.sent += 1;
                match &mut self.knocks {
                    None => lane.send(letter),
                    Some(knocks) => {
                        lane.put(letter);
                        *knocks |= u64::from(lane.bell.must_ring()) << to.0;
                    }
                }
            }
            None => self.own.push_back(letter),
        }
    }

    /// From now on other shards are not woken at once: see [`Self::knock`].
    pub fn knocks(&mut self) {
        self.knocks = Some(0);
    }

    /// A shard that must be woken, and its ring, if it has one.
    pub fn knock(&mut self) -> Option<(usize, i32)> {
        let knocks = self.knocks.as_mut().filter(|it| **it != 0)?;
        let shard = knocks.trailing_zeros() as usize;
        *knocks &= *knocks - 1;
        Some((shard, self.bell_of(shard)?.ring.load(Ordering::Acquire)))
    }

    /// Wakes another shard, however it may be done.
    pub fn wake(&self, shard: usize) {
        if let Some(bell) = self.bell_of(shard) {
            bell.wake();
        }
    }

    fn bell_of(&self, shard: usize) -> Option<&Bell> {
        self.to.get(shard)?.as_ref().map(|it| &*it.bell)
    }

    /// Tells the control thread.
    pub fn tell(&mut self, notice: Notice) {
        self.unsent.push_back(notice);
        self.flush_notices();
    }

    /// Says that this shard uses the world of this version and none older.
    pub fn acknowledge(&self, version: u64) {
        self.seen.store(version, Ordering::Release);
    }

    /// Until when this shard may start what it has a right to.
    pub fn fence(&self) -> Instant {
        self.fence.get()
    }

    /// The next letter, own ones first.
    pub fn letter(&mut self) -> Option<Letter> {
        self.own.pop_front().or_else(|| self.from.iter_mut().find_map(|it| it.pop().ok()))
    }

    /// The next letter this shard has sent to itself.
    pub fn own_letter(&mut self) -> Option<Letter> {
        self.own.pop_front()
    }

    /// The next command of the control thread.
    pub fn command(&mut self) -> Option<Command> {
        self.commands.pop().ok()
    }

    /// Tries again to send what did not fit; whether nothing is left.
    pub fn flush(&mut self) -> bool {
        let mut all = self.flush_notices();
        for lane in self.to.iter_mut().flatten() {
            all &= lane.flush();
        }
        all
    }

    /// Whether something is here to be read.
    pub fn has_mail(&self) -> bool {
        !self.own.is_empty()
            || !self.commands.is_empty()
            || self.from.iter().any(|it| !it.is_empty())
    }

    /// The bell that wakes this shard.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    fn flush_notices(&mut self) -> bool {
        while let Some(notice) = self.unsent.pop_front() {
            if let Err(notice) = (self.notices)(notice) {
                self.unsent.push_front(notice);
                return false;
            }
        }
        true
    }
}

/// The control thread's end of all its mailboxes.
#[derive(Debug)]
pub struct ControlPost {
    lanes: Vec<Lane<Command>>,
    seen: Vec<Arc<CachePadded<AtomicU64>>>,
    fence: Fence,
}

impl ControlPost {
    /// Sends a command to one shard.
    pub fn send(&mut self, to: ShardId, command: Command) {
        self.lanes[usize::from(to.0)].send(command);
    }

    /// Sends a command to every shard.
    pub fn send_all(&mut self, command: impl Fn() -> Command) {
        for lane in &mut self.lanes {
            lane.send(command());
        }
    }

    /// Tries again to send what did not fit.
    pub fn flush(&mut self) {
        for lane in &mut self.lanes {
            lane.flush();
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.lanes.len()
    }

    /// Until then shards may start what they have a right to.
    pub fn put_fence(&self, until: Instant) {
        self.fence.put(until);
    }

    /// The oldest world any shard may still use.
    pub fn oldest_world(&self) -> u64 {
        self.seen.iter().map(|it| it.load(Ordering::Acquire)).min().unwrap_or(0)
    }
}

/// Makes the mailboxes of so many shards and of the control thread; `notices` makes each shard's
/// way to tell the latter.
pub fn join(shards: usize, notices: impl Fn() -> Notices) -> (Vec<ShardPost>, ControlPost) {
    let bells: Vec<Arc<Bell>> = (0..shards).map(|_| Arc::default()).collect();
    let mut to: Vec<Vec<Option<Lane<Letter>>>> = (0..shards).map(|_| Vec::new()).collect();
    let mut from: Vec<Vec<Consumer<Letter>>> = (0..shards).map(|_| Vec::new()).collect();
    for (sender, lanes) in to.iter_mut().enumerate() {
        for receiver in 0..shards {
            lanes.push((sender != receiver).then(|| {
                let (lane, end) = lane(&bells[receiver]);
                from[receiver].push(end);
                lane
            }));
        }
    }
    let mut control = ControlPost { lanes: Vec::new(), seen: Vec::new(), fence: Fence::default() };
    let posts = to
        .into_iter()
        .zip(from)
        .zip(&bells)
        .enumerate()
        .map(|(at, ((to, from), bell))| {
            let (lane, commands) = lane(bell);
            let seen = Arc::<CachePadded<AtomicU64>>::default();
            control.lanes.push(lane);
            control.seen.push(seen.clone());
            ShardPost {
                me: ShardId(u8::try_from(at).expect("at most 64 shards")),
                shards,
                sent: 0,
                to,
                own: VecDeque::new(),
                from,
                commands,
                notices: notices(),
                unsent: VecDeque::new(),
                bell: bell.clone(),
                seen,
                fence: control.fence.clone(),
                knocks: None,
            }
        })
        .collect();
    (posts, control)
}

/// Makes one lane to the one who sleeps by this bell.
pub fn lane<T>(bell: &Arc<Bell>) -> (Lane<T>, Consumer<T>) {
    let (ring, end) = RingBuffer::new(LANE);
    (Lane { ring, outbox: VecDeque::new(), bell: bell.clone() }, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ServiceId;

    struct Count(AtomicU64);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn look(n: usize) -> Letter {
        Letter::LookAgain(ServiceId::new(&n.to_string()))
    }

    #[test]
    fn letters_arrive_in_order_also_when_the_ring_is_full() {
        let (mut posts, _control) = join(2, || Box::new(|_| Ok(())));
        let mut second = posts.pop().expect("two");
        let mut first = posts.pop().expect("two");
        for n in 0..LANE * 2 {
            first.send(ShardId(1), look(n));
        }
        let mut got = Vec::new();
        while got.len() < LANE * 2 {
            while let Some(Letter::LookAgain(id)) = second.letter() {
                got.push(id.to_string());
            }
            first.flush();
        }
        assert_eq!(got, (0..LANE * 2).map(|it| it.to_string()).collect::<Vec<_>>());
        assert!(first.flush() && !second.has_mail());
    }

    #[test]
    fn letters_that_did_not_fit_wake_a_receiver_that_fell_asleep_meanwhile() {
        let (mut posts, _control) = join(2, || Box::new(|_| Ok(())));
        let mut second = posts.pop().expect("two");
        let mut first = posts.pop().expect("two");
        for n in 0..LANE + 100 {
            first.send(ShardId(1), look(n));
        }
        while second.letter().is_some() {}
        let count = Arc::new(Count(AtomicU64::new(0)));
        second.bell().falls_asleep(&count.clone().into());
        assert!(!second.has_mail());
        first.flush();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(second.has_mail());
    }

    #[test]
    fn a_waker_that_was_hung_wakes_each_time() {
        let bell = Bell::default();
        let count = Arc::new(Count(AtomicU64::new(0)));
        bell.hang(-1, &count.clone().into());
        for times in 1..4 {
            bell.dozes();
            bell.ring();
            bell.ring();
            assert_eq!(count.0.load(Ordering::SeqCst), times);
        }
    }

    #[test]
    fn the_bell_rings_only_for_one_who_sleeps() {
        let (mut posts, mut control) = join(1, || Box::new(|_| Ok(())));
        let post = posts.pop().expect("one");
        let count = Arc::new(Count(AtomicU64::new(0)));
        control.send(ShardId(0), Command::Drain);
        post.bell().falls_asleep(&count.clone().into());
        assert!(post.has_mail(), "sent before it fell asleep: it looks again");
        control.send(ShardId(0), Command::Drain);
        control.send(ShardId(0), Command::Drain);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
}
