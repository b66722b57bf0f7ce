//! One thread: its connections, and which of them carries which request.
//!
//! A connection carries one request at a time. Requests that are due while every connection is
//! busy stay in the schedule, which remembers when each was due.

use super::answer::{Answer, Progress};
use super::plan::Plan;
use super::schedule::{Schedule, Share};
use super::tally::{Failure, Tally};
use crate::base::time::{Duration, Instant};
use crate::mesh::clock;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;

/// Bytes read at once.
const BUFFER: usize = 128 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Requests that are too old and connections to be made anew are looked for this often.
const SWEEP: Duration = Duration::from_millis(10);
/// The first connections are made within this time.
const CONNECT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Link {
    stream: TcpStream,
    state: State,
    answer: Answer,
    /// It has carried a request to its end.
    proven: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// No connection; one is to be made at this time.
    Absent(Instant),
    Connecting,
    Idle,
    /// A request is under way: when it was due, when it was sent, and how much of it is written.
    Busy {
        due: Instant,
        sent: Instant,
        written: usize,
    },
}

/// What an event says is to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expected {
    Bytes,
    /// The end of the connection, behind whatever bytes there are.
    End,
}

/// One thread's share of the load.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    plan: &'a Plan,
    share: Share,
    epoll: OwnedFd,
    links: Vec<Link>,
    /// Idle ones, the longest idle first.
    idle: VecDeque<usize>,
    busy: usize,
    tally: Tally,
}

impl<'a> Worker<'a> {
    /// Makes the connections of thread `at`.
    ///
    /// # Errors
    /// Why one could not be made.
    pub(super) fn connect(plan: &'a Plan, at: usize) -> io::Result<Self> {
        let share = Share { at, of: plan.threads };
        let count = (at..plan.connections).step_by(plan.threads).count();
        let mut it = Self {
            plan,
            share,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            links: Vec::with_capacity(count),
            idle: VecDeque::with_capacity(count),
            busy: 0,
            tally: Tally::default(),
        };
        for at in 0..count {
            let stream = it.dial(at)?;
            let answer = Answer::default();
            it.links.push(Link { stream, state: State::Connecting, answer, proven: false });
        }
        let give_up = clock::now() + CONNECT;
        let mut events = Vec::with_capacity(EVENTS);
        while it.idle.len() < count {
            if clock::now() > give_up {
                return Err(io::ErrorKind::TimedOut.into());
            }
            wait(&it.epoll, &mut events, SWEEP)?;
            for event in events.drain(..) {
                it.established(place(&event))?;
            }
        }
        Ok(it)
    }

    /// Carries out the schedule that begins at `began`; returns what came of it, and when the last
    /// answer came or was given up.
    ///
    /// # Errors
    /// Those of the kernel's epoll; sockets' errors are counted.
    pub(super) fn run(mut self, began: Instant) -> io::Result<(Tally, Instant)> {
        // A wait ends when it is due, not up to 50 µs later.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let plan = self.plan;
        let mut schedule = Schedule::new(plan.rate, plan.duration, self.share, began);
        let give_up = schedule.end() + plan.timeout;
        let mut events = Vec::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER];
        let mut swept = began;
        loop {
            self.dispatch(&mut schedule);
            let now = clock::now();
            if now >= give_up || self.busy == 0 && schedule.is_over(now) {
                break;
            }
            if now - swept >= SWEEP {
                swept = now;
                self.sweep(now);
            }
            wait(&self.epoll, &mut events, self.patience(&schedule, now))?;
            for event in events.drain(..) {
                self.ready(&event, &mut buffer);
            }
        }
        let now = clock::now();
        self.abandon(schedule, now);
        Ok((self.tally, now))
    }

    /// Sends what is due on connections that are free.
    fn dispatch(&mut self, schedule: &mut Schedule) {
        while let Some(at) = self.idle.front().copied() {
            let now = clock::now();
            let Some(due) = schedule.take(now) else { return };
            self.idle.pop_front();
            self.busy += 1;
            self.tally.sent(now - due);
            let link = &mut self.links[at];
            link.answer.reset();
            link.state = State::Busy { due, sent: now, written: 0 };
            self.write(at);
        }
    }

    /// How long nothing has to be done but what sockets ask for.
    fn patience(&self, schedule: &Schedule, now: Instant) -> Duration {
        match schedule.wakeup() {
            Some(due) if !self.idle.is_empty() && !schedule.is_over(now) => (due - now).min(SWEEP),
            _ => SWEEP,
        }
    }

    fn ready(&mut self, event: &epoll::Event, buffer: &mut [u8]) {
        let at = place(event);
        if self.links[at].state == State::Connecting && self.established(at).is_err() {
            self.tally.failed(Failure::Connect);
            self.part(at, SWEEP);
            return;
        }
        let flags = event.flags;
        let ends = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let expected = if flags.intersects(ends) { Expected::End } else { Expected::Bytes };
        // An answer may come before the request is written: reading is first.
        self.read(at, expected, buffer);
        if flags.contains(epoll::EventFlags::OUT) {
            self.write(at);
        }
    }

    /// A connection that was being made is there, or failed.
    fn established(&mut self, at: usize) -> io::Result<()> {
        let link = &mut self.links[at];
        if link.state != State::Connecting {
            return Ok(());
        }
        if let Some(error) = link.stream.take_error()? {
            return Err(error);
        }
        match link.stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
            Err(error) => return Err(error),
        }
        link.state = State::Idle;
        self.idle.push_back(at);
        Ok(())
    }

    /// Writes what is left of the request.
    fn write(&mut self, at: usize) {
        let link = &mut self.links[at];
        let State::Busy { due, sent, mut written } = link.state else { return };
        while written < self.plan.request.len() {
            match link.stream.write(&self.plan.request[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.fail(at, Failure::Reset),
            }
        }
        link.state = State::Busy { due, sent, written };
    }

    /// Reads what is there. Events are told once, so all of it must be read; a read that does not
    /// fill the buffer has read all but the end.
    fn read(&mut self, at: usize, expected: Expected, buffer: &mut [u8]) {
        loop {
            let link = &mut self.links[at];
            if !matches!(link.state, State::Idle | State::Busy { .. }) {
                return;
            }
            let count = match link.stream.read(buffer) {
                Ok(0) => return self.ended(at),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.broke(at),
            };
            self.tally.received(count);
            match link.answer.feed(&buffer[..count]) {
                Ok(progress) if link.is_busy() => self.progress(at, progress),
                // Bytes that nobody asked for.
                _ => self.fail(at, Failure::Malformed),
            }
            if count < buffer.len() && expected == Expected::Bytes {
                return;
            }
        }
    }

    fn progress(&mut self, at: usize, progress: Progress) {
        let Progress::Done { status, keeps } = progress else { return };
        let link = &mut self.links[at];
        let State::Busy { due, written, .. } = link.state else { return };
        self.tally.answered(status, clock::now() - due);
        self.busy -= 1;
        link.proven = true;
        link.state = State::Idle;
        // An answer before the whole request leaves a rest that would be taken for the next one.
        if keeps && written == self.plan.request.len() {
            self.idle.push_back(at);
        } else {
            self.part(at, Duration::ZERO);
        }
    }

    /// The other side closed.
    fn ended(&mut self, at: usize) {
        match self.links[at].answer.end() {
            Some(progress) if self.links[at].is_busy() => self.progress(at, progress),
            _ => self.broke(at),
        }
    }

    /// The connection is of no more use. Between two requests that is no failure.
    fn broke(&mut self, at: usize) {
        if self.links[at].is_busy() {
            return self.fail(at, Failure::Reset);
        }
        self.idle.retain(|it| *it != at);
        // Whoever closes at once, whatever comes, is not asked all the time.
        let pause = if self.links[at].proven { Duration::ZERO } else { SWEEP };
        self.part(at, pause);
    }

    /// The request under way failed, and its connection with it.
    fn fail(&mut self, at: usize, failure: Failure) {
        match self.links[at].state {
            State::Busy { due, .. } => {
                self.busy -= 1;
                match failure {
                    Failure::Timeout => self.tally.given_up(failure, clock::now() - due),
                    _ => self.tally.failed(failure),
                }
            }
            _ => {
                self.tally.failed(failure);
                self.idle.retain(|it| *it != at);
            }
        }
        self.part(at, Duration::ZERO);
    }

    /// Leaves a connection, and makes another after a pause.
    fn part(&mut self, at: usize, pause: Duration) {
        self.links[at].state = State::Absent(clock::now() + pause);
        self.links[at].proven = false;
        // The other side learns it now; the descriptor is closed when another takes its place.
        let _ = self.links[at].stream.shutdown(std::net::Shutdown::Both);
        if pause.is_zero() {
            self.redial(at);
        }
    }

    fn redial(&mut self, at: usize) {
        self.tally.reconnected();
        match self.dial(at) {
            Ok(stream) => {
                self.links[at].stream = stream;
                self.links[at].state = State::Connecting;
            }
            Err(_) => {
                self.tally.failed(Failure::Connect);
                self.links[at].state = State::Absent(clock::now() + SWEEP);
            }
        }
    }

    /// Begins to connect.
    fn dial(&self, at: usize) -> io::Result<TcpStream> {
        let address = self.plan.address;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let stream = TcpStream::from(socket);
        let both = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP;
        let data = epoll::EventData::new_u64(at as u64);
        epoll::add(&self.epoll, &stream, data, both | epoll::EventFlags::ET)?;
        Ok(stream)
    }

    /// Gives up what is too old, and makes connections that are due to be made.
    fn sweep(&mut self, now: Instant) {
        for at in 0..self.links.len() {
            match self.links[at].state {
                State::Busy { sent, .. } if now - sent >= self.plan.timeout => {
                    self.fail(at, Failure::Timeout);
                }
                State::Absent(when) if when <= now => self.redial(at),
                _ => {}
            }
        }
    }

    /// The end: what has no answer by now never gets one.
    fn abandon(&mut self, mut schedule: Schedule, now: Instant) {
        for link in &self.links {
            if let State::Busy { due, .. } = link.state {
                self.tally.given_up(Failure::Unanswered, now - due);
            }
        }
        while let Some(due) = schedule.take(now) {
            self.tally.given_up(Failure::Unanswered, now - due);
        }
    }
}

impl Link {
    fn is_busy(&self) -> bool {
        matches!(self.state, State::Busy { .. })
    }
}

/// Whose event it is.
fn place(event: &epoll::Event) -> usize {
    let data = event.data;
    usize::try_from(data.u64()).expect("a place in a list")
}

fn wait(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, patience: Duration) -> io::Result<()> {
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    match epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&patience)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(rustix::io::Errno::NOSYS) => {
            Err(io::Error::other("this kernel has no epoll_pwait2; Linux 5.11 is needed"))
        }
        Err(error) => Err(error.into()),
    }
}
