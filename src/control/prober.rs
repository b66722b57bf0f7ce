//! The prober: health checks, on an executor of its own.
//!
//! A starting instance is checked after 20 ms, then less and less often up to every 250 ms; a
//! healthy one at its interval. A check of a serving instance takes a slot like any request and is
//! left out when there is none, so it never stands in a request's way: an instance of limit 1 never
//! sees both. Where routers share the instance all slots may be taken and none in use: so control
//! hears of it, and may bring a slot that lay idle with another router.

use crate::base::address::SocketAddr;
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::limits::Limits;
use crate::base::time::{Duration, Instant};
use crate::control::event::Event;
use crate::core::aggregator::{CheckError, Outcome};
use crate::core::slots::{Instance, Seat, ServiceSlots};
use crate::mesh::{Bell, Lane, clock, lane};
use crate::wire::codec::{Codec, Input, Part, Stream};
use crate::wire::head::Head;
use crate::wire::http1::Client;
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use glommio::net::TcpStream;
use glommio::{LocalExecutorBuilder, Placement};
use rtrb::Consumer;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::task::Poll;

/// First pause between checks of a starting instance.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause between checks of an instance that is not healthy.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// A check takes no longer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Checks under way at a time.
const CHECKS_MAX: usize = 64;
/// The prober looks up at least this often.
const NAP_MAX: Duration = Duration::from_secs(1);

/// What the prober is told.
#[derive(Debug)]
pub enum Probe {
    /// Check this instance from now on.
    Watch(Box<Target>),
    /// It is healthy (or not any more): check at its interval (or often).
    Known(InstanceId, Health),
    /// It was left out, and is due at once: here is a slot for it.
    Now(InstanceId, Seat),
    /// It is gone.
    Forget(InstanceId),
}

/// How an instance is believed to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// It serves.
    Serving,
    /// It does not.
    Down,
}

/// An instance to be checked.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its id.
    pub id: InstanceId,
    /// Its service.
    pub service: ServiceId,
    /// Its slots and connections.
    pub instance: Arc<Instance>,
    /// Its service's queue.
    pub slots: Arc<ServiceSlots>,
    /// Where it is checked.
    pub address: SocketAddr,
    /// Path of the check.
    pub path: String,
    /// Time between checks while it serves.
    pub interval: Duration,
    /// How it is now.
    pub health: Health,
}

/// Tells the prober.
#[derive(Debug)]
pub struct Prober {
    lane: Lane<Probe>,
}

impl Prober {
    /// Starts the prober's thread.
    ///
    /// # Errors
    /// The thread or its rings cannot be made.
    pub fn start(events: SyncSender<Event>) -> io::Result<Self> {
        let bell = Arc::<Bell>::default();
        let (lane, told) = lane(&bell);
        LocalExecutorBuilder::new(Placement::Unbound)
            .name("prober")
            .io_memory(64 << 10)
            .ring_depth(128)
            .spawn(move || Round::new(events).run(told, bell))
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { lane })
    }

    /// Tells it something.
    pub fn tell(&mut self, probe: Probe) {
        self.lane.send(probe);
    }

    /// Tries again what did not fit.
    pub fn flush(&mut self) {
        self.lane.flush();
    }
}

/// The prober's state.
#[derive(Debug)]
struct Round {
    watched: HashMap<InstanceId, Watched>,
    running: usize,
    events: SyncSender<Event>,
}

#[derive(Debug)]
struct Watched {
    target: Target,
    next: Instant,
    pause: Duration,
    running: bool,
}

impl Round {
    fn new(events: SyncSender<Event>) -> Self {
        Self { watched: HashMap::new(), running: 0, events }
    }

    async fn run(self, mut told: Consumer<Probe>, bell: Arc<Bell>) {
        let round = Rc::new(RefCell::new(self));
        loop {
            bell.awake();
            while let Ok(probe) = told.pop() {
                match probe {
                    Probe::Now(id, seat) => check_now(&id, seat, &round),
                    other => round.borrow_mut().told(other, clock::now()),
                }
            }
            let nap = launch_due(&round);
            let rung = poll_fn(|cx| {
                bell.falls_asleep(cx.waker());
                if told.is_empty() { Poll::Pending } else { Poll::Ready(()) }
            });
            let slept = async {
                glommio::timer::sleep(nap).await;
            };
            rung.or(slept).await;
        }
    }

    fn told(&mut self, probe: Probe, now: Instant) {
        match probe {
            Probe::Now(..) => unreachable!("its task is begun outside"),
            Probe::Watch(target) => {
                let pause = PAUSE_MIN;
                let next = match target.health {
                    Health::Serving => now + target.interval,
                    Health::Down => now + pause,
                };
                let id = target.id.clone();
                self.watched.entry(id).or_insert(Watched {
                    target: *target,
                    next,
                    pause,
                    running: false,
                });
            }
            Probe::Known(id, health) => {
                if let Some(it) = self.watched.get_mut(&id)
                    && it.target.health != health
                {
                    it.target.health = health;
                    it.pause = PAUSE_MIN;
                    it.schedule(now);
                }
            }
            Probe::Forget(id) => {
                self.watched.remove(&id);
            }
        }
    }

    fn ended(&mut self, target: &Target, outcome: Option<Outcome>, now: Instant) {
        self.running -= 1;
        let id = &target.id;
        if let Some(it) = self.watched.get_mut(id) {
            if !Arc::ptr_eq(&it.target.instance, &target.instance) {
                return; // it has moved since, and says nothing of where it is now
            }
            it.running = false;
            if outcome == Some(Outcome::Healthy) {
                it.target.health = Health::Serving;
            }
            it.schedule(now);
        }
        if let Some(outcome) = outcome {
            // It may block while the control loop is behind; checks can wait for it.
            let _ = self.events.send(Event::Checked(id.clone(), outcome));
        }
    }
}

impl Watched {
    fn schedule(&mut self, now: Instant) {
        match self.target.health {
            Health::Serving => self.next = now + self.target.interval,
            Health::Down => {
                self.next = now + self.pause;
                self.pause = (self.pause * 3 / 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Starts the checks that are due; returns how long nothing else is.
fn launch_due(round: &Rc<RefCell<Round>>) -> Duration {
    let now = clock::now();
    let mut nap = NAP_MAX;
    let mut due = Vec::new();
    let mut it = round.borrow_mut();
    let mut free = CHECKS_MAX - it.running.min(CHECKS_MAX);
    for watched in it.watched.values_mut().filter(|it| !it.running) {
        if watched.next > now {
            nap = nap.min(watched.next - now);
            continue;
        }
        if free == 0 {
            nap = PAUSE_MIN;
            break;
        }
        free -= 1;
        watched.running = true;
        due.push(watched.target.clone());
    }
    it.running += due.len();
    drop(it); // a task begins to run as soon as it is spawned
    for target in due {
        glommio::spawn_local(check_due(target, round.clone())).detach();
    }
    nap.max(Duration::from_millis(1))
}

/// A check that was left out, in the slot that is there for it now.
fn check_now(id: &InstanceId, seat: Seat, round: &Rc<RefCell<Round>>) {
    let mut it = round.borrow_mut();
    let is_due =
        |it: &&mut Watched| Arc::ptr_eq(&it.target.instance, seat.instance()) && !it.running;
    let due = it.watched.get_mut(id).filter(is_due).map(|it| {
        it.running = true;
        it.target.clone()
    });
    let Some(target) = due else {
        give_back(seat, &it.events);
        return;
    };
    it.running += 1;
    drop(it); // as above
    glommio::spawn_local(check(target, Some(seat), round.clone())).detach();
}

/// One check, if there is a slot for it.
async fn check_due(target: Target, round: Rc<RefCell<Round>>) {
    let word = &target.instance.word;
    let seat = match target.health {
        Health::Serving if word.take() => {
            Some(Seat::new(target.service.clone(), target.instance.clone(), target.slots.clone()))
        }
        Health::Down if word.used() < word.limit() => None,
        // All slots are taken. Where they are in use, ordinary requests are its check, and are not
        // to be stood in the way of, also if it served before and is still busy.
        Health::Serving | Health::Down => {
            if target.slots.is_shared() && word.used() >= word.limit() {
                let _ = round.borrow().events.send(Event::Unchecked(target.id.clone()));
            }
            round.borrow_mut().ended(&target, None, clock::now());
            return;
        }
    };
    check(target, seat, round).await;
}

/// A slot that was taken for a check is free again.
fn give_back(seat: Seat, events: &SyncSender<Event>) {
    let (service, slots) = (seat.service().clone(), seat.slots().clone());
    seat.release();
    if slots.waiting.any() {
        let _ = events.send(Event::LookAgain(service));
    }
}

/// One check, to the end of its slot.
async fn check(target: Target, seat: Option<Seat>, round: Rc<RefCell<Round>>) {
    let events = round.borrow().events.clone();
    if target.instance.probe_opened() {
        let _ = events.send(Event::Crowded(target.instance.clone()));
    }
    let late = async {
        glommio::timer::sleep(CHECK_TIMEOUT).await;
        Err(CheckError::Timeout)
    };
    let outcome = match ask(&target).or(late).await {
        Ok(status) => Outcome::answered(status),
        Err(error) => Outcome::failed(error),
    };
    target.instance.probe_closed();
    if let Some(seat) = seat {
        give_back(seat, &events);
    }
    round.borrow_mut().ended(&target, Some(outcome), clock::now());
}

/// Sends the request and reads the head of the answer.
async fn ask(target: &Target) -> Result<u16, CheckError> {
    let connected = TcpStream::connect_timeout(target.address, CHECK_TIMEOUT).await;
    let mut stream = connected.map_err(|_| CheckError::Connect)?;
    let mut codec = Client::new(&Limits::PRODUCTION);
    let mut output = Vec::new();
    let now = clock::now();
    codec.write(Stream(1), Part::Head(&head(target)), now, &mut output);
    codec.write(Stream(1), Part::End(None), now, &mut output);
    stream.write_all(&output).await.map_err(|_| CheckError::Hangup)?;
    let mut buffer = vec![0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.map_err(|_| CheckError::Hangup)?;
        let input = if read == 0 { Input::End } else { Input::Bytes(&buffer[..read]) };
        if let Some(answer) = read_answer(&mut codec, input) {
            return answer;
        }
        if read == 0 {
            return Err(CheckError::Hangup);
        }
    }
}

/// Reads all that came; the answer's status, once it is there.
fn read_answer(codec: &mut Client, input: Input<'_>) -> Option<Result<u16, CheckError>> {
    let mut input = input;
    loop {
        let read = codec.read(input, clock::now(), &mut Vec::new());
        let used = read.used;
        match read.part? {
            (_, Part::Head(head)) if !head.status.is_informational() => {
                return Some(Ok(head.status.as_u16()));
            }
            (_, Part::Cut(_)) => return Some(Err(CheckError::Hangup)),
            _ => {}
        }
        input = match input {
            Input::Bytes(bytes) => Input::Bytes(&bytes[used..]),
            Input::End | Input::Tick => Input::Bytes(&[]),
        };
    }
}

fn head(target: &Target) -> Head {
    let mut head = Head::default();
    head.set_target(target.path.as_bytes());
    head.set_authority(target.address.to_string().as_bytes());
    let agent = concat!("waiter-syncer/", env!("CARGO_PKG_VERSION"));
    head.fields.push(b"user-agent", agent.as_bytes());
    let cid = format!("waiter-health-check-{:x}", clock::date().0);
    head.fields.push(b"x-cid", cid.as_bytes());
    head.fields.push(b"x-waiter-request-type", b"health-check");
    head
}
