//! The driver on glommio's own streams: one task per connection, none per request.
//!
//! A link's task owns its stream. Whenever it is woken it sends what there is, receives what it
//! may, and tells the shard. It borrows the shard only to tell it something or to look at the
//! link's state, never across a wait; so the shard's cell is never borrowed twice. The receive
//! buffer is one per shard: it is lent and free again when the call returns.
//!
//! A connection leaves as a second descriptor of the same socket; the link's task ends as soon as
//! it sees that its link has gone, and closes the first. glommio only ever waits for readiness in
//! the ring, so no byte is taken from a connection that has left.

mod listening;

use crate::base::address::SocketAddr;
use crate::base::limits::Limits;
use crate::base::socket::Socket;
use crate::base::time::Duration;
use crate::shard::engine::outputs::Outputs;
use crate::shard::engine::shortage::is_shortage;
use crate::shard::engine::{Engine, Happening, Link, Shut};
use crate::wire::codec::{Cause, Due};
use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use glommio::timer::Timer;
pub use listening::{Listening, Name};
use slotmap::SlotMap;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// One receive at most.
const RECEIVE_BYTES: usize = 64 * 1024;
/// Sends and receives a link may do in one go before others have their turn.
const ROUNDS: usize = 16;
/// Bytes read from a peer after the last one was sent to it, and thrown away.
const LINGER_BYTES: usize = 256 * 1024;
/// Memory for output that an idle link keeps.
const KEPT_BYTES: usize = 32 * 1024;

/// Who the driver tells, and who owns it.
pub trait Owner {
    /// Something happened.
    fn on(&mut self, happening: Happening<'_>);
    /// The driver.
    fn streams(&mut self) -> &mut Streams;
    /// Whether another client may be accepted.
    fn accepts(&self) -> bool;
}

/// A shared owner. The cell is borrowed for single calls only: everything runs on one thread, and
/// no borrow lives across a wait.
pub type Shared = Rc<RefCell<dyn Owner>>;

/// The driver's state: what the links' tasks are to do.
#[derive(Debug)]
pub struct Streams {
    links: SlotMap<Link, Wish>,
    owner: Option<Weak<RefCell<dyn Owner>>>,
    buffer: Rc<RefCell<Box<[u8]>>>,
    connect_timeout: Duration,
    flush_timeout: Duration,
    linger: Duration,
    /// Listeners that are not closed yet.
    listening: usize,
    outputs: Outputs,
}

/// What the shard wants of a link, and what is known of it.
#[derive(Debug, Default)]
struct Wish {
    /// Its socket, once it is open.
    descriptor: Option<RawFd>,
    /// Bytes given and not sent.
    unsent: usize,
    /// The peer has closed its sending side.
    ended: bool,
    output: Vec<u8>,
    room: usize,
    finish: bool,
    shut: Option<Shut>,
    waker: Option<Waker>,
    running: bool,
}

impl Wish {
    /// Of a link that is open.
    fn on(socket: &Socket) -> Self {
        Self { descriptor: Some(socket.as_raw_fd()), ..Self::default() }
    }
}

impl Streams {
    /// A driver; `adopt` must be called before it is used.
    pub fn new(limits: &Limits) -> Self {
        Self {
            links: SlotMap::with_key(),
            owner: None,
            buffer: Rc::new(RefCell::new(vec![0; RECEIVE_BYTES].into())),
            connect_timeout: limits.connect_timeout,
            flush_timeout: limits.body_idle_timeout,
            linger: limits.linger_timeout,
            listening: 0,
            outputs: Outputs::default(),
        }
    }

    /// Tells the driver whom to tell.
    pub fn adopt(&mut self, owner: &Shared) {
        self.owner = Some(Rc::downgrade(owner));
    }

    fn owner(&self) -> Shared {
        self.owner.as_ref().and_then(Weak::upgrade).expect("the owner outlives its driver")
    }

    /// Writes down what is known of a link.
    fn know(&mut self, link: Link, change: impl FnOnce(&mut Wish)) {
        if let Some(wish) = self.links.get_mut(link) {
            change(wish);
        }
    }

    /// Writes down what is wanted of a link, and wakes its task.
    fn wish(&mut self, link: Link, change: impl FnOnce(&mut Wish)) {
        if let Some(wish) = self.links.get_mut(link) {
            change(wish);
            if !wish.running
                && let Some(waker) = wish.waker.take()
            {
                waker.wake();
            }
        }
    }
}

impl Engine for Streams {
    fn outputs(&mut self) -> &mut Outputs {
        &mut self.outputs
    }

    fn connect(&mut self, address: SocketAddr) -> Link {
        let link = self.links.insert(Wish::default());
        let (owner, timeout) = (self.owner(), self.connect_timeout);
        glommio::spawn_local(async move {
            // A task begins to run as soon as it is spawned, and the owner is borrowed now.
            futures_lite::future::yield_now().await;
            match TcpStream::connect_timeout(address, timeout).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true); // what is accepted has it from its listener
                    let descriptor = Some(stream.as_raw_fd());
                    owner.borrow_mut().streams().know(link, |it| it.descriptor = descriptor);
                    owner.borrow_mut().on(Happening::Opened(link));
                    serve(stream, link, owner).await;
                }
                Err(error) => {
                    let mut owner = owner.borrow_mut();
                    owner.streams().links.remove(link);
                    owner.on(Happening::OpenFailed(link, cause(&error.into())));
                }
            }
        })
        .detach();
        link
    }

    fn send(&mut self, link: Link, output: &mut Vec<u8>) {
        self.wish(link, |it| {
            it.unsent += output.len();
            if it.output.is_empty() {
                std::mem::swap(&mut it.output, output);
            } else {
                it.output.append(output);
            }
        });
        output.clear();
    }

    fn receive(&mut self, link: Link, bytes: usize, _due: Due) {
        if self.links.get(link).is_some_and(|it| it.room != bytes) {
            self.wish(link, |it| it.room = bytes);
        }
    }

    fn finish(&mut self, link: Link) {
        if self.links.get(link).is_some_and(|it| !it.finish) {
            self.wish(link, |it| it.finish = true);
        }
    }

    fn close(&mut self, link: Link, how: Shut) {
        self.wish(link, |it| it.shut = Some(how));
    }

    fn detach(&mut self, link: Link) -> Option<Socket> {
        let wish = self.links.get(link)?;
        if wish.unsent > 0 || wish.ended || wish.shut.is_some() {
            return None;
        }
        let socket = duplicate(wish.descriptor?).ok()?;
        let wish = self.links.remove(link)?;
        if let Some(waker) = wish.waker {
            waker.wake();
        }
        Some(socket)
    }

    fn adopt(&mut self, socket: Socket) -> Link {
        let link = self.links.insert(Wish::on(&socket));
        let owner = self.owner();
        let stream = connected(socket);
        glommio::spawn_local(async move {
            futures_lite::future::yield_now().await;
            serve(stream, link, owner).await;
        })
        .detach();
        link
    }

    fn is_quiet(&self) -> bool {
        self.links.is_empty() && self.listening == 0
    }
}

#[expect(unsafe_code, reason = "glommio's stream cannot be made from a safe one")]
fn connected(socket: Socket) -> TcpStream {
    // SAFETY: the descriptor is a connected socket, owned by nobody else from here on.
    unsafe { TcpStream::from_raw_fd(socket.into_inner().into_raw_fd()) }
}

/// Another descriptor of the same connection.
#[expect(unsafe_code, reason = "the driver knows a descriptor by its number")]
fn duplicate(descriptor: RawFd) -> io::Result<Socket> {
    // SAFETY: a link forgets its descriptor before the stream that owns it is dropped.
    let open = unsafe { BorrowedFd::borrow_raw(descriptor) };
    open.try_clone_to_owned().map(Socket::new)
}

/// The life of a connection.
async fn serve(mut stream: TcpStream, link: Link, owner: Shared) {
    let buffer = owner.borrow_mut().streams().buffer.clone();
    let patience = owner.borrow_mut().streams().flush_timeout;
    let mut run = Run {
        sending: Vec::new(),
        at: 0,
        own: Own::Open,
        ended: false,
        deaf: false,
        patience,
        late: None,
    };
    let how = poll_fn(|cx| run.poll(&mut stream, link, &owner, &buffer, cx)).await;
    let linger = {
        let mut owner = owner.borrow_mut();
        owner.streams().links.remove(link);
        owner.streams().linger
    };
    if how == Shut::Flush && !run.ended {
        linger_on(stream, linger).await;
    }
}

/// What one connection is in the middle of.
struct Run {
    sending: Vec<u8>,
    at: usize,
    own: Own,
    /// The peer has closed its sending side.
    ended: bool,
    /// The peer takes nothing any more, though it may have said something before.
    deaf: bool,
    /// How long the last bytes may take.
    patience: Duration,
    late: Option<Timer>,
}

/// This side's end of what is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Own {
    Open,
    /// What is being sent is the last.
    Last,
    /// The peer was told that nothing more follows.
    Ended,
}

enum Step {
    Moved,
    Waits,
    Over(Shut),
}

impl Run {
    fn poll(
        &mut self,
        stream: &mut TcpStream,
        link: Link,
        owner: &Shared,
        buffer: &RefCell<Box<[u8]>>,
        cx: &mut Context<'_>,
    ) -> Poll<Shut> {
        for _ in 0..ROUNDS {
            let Some((room, shut)) = self.wishes(link, owner) else {
                return Poll::Ready(Shut::Now);
            };
            if shut == Some(Shut::Now) {
                return Poll::Ready(Shut::Now);
            }
            let sent = self.send(stream, link, owner, cx);
            let received = match shut {
                Some(_) => Step::Waits,
                None => self.receive(stream, (link, room), owner, buffer, cx),
            };
            match (sent, received) {
                (Step::Over(how), _) | (_, Step::Over(how)) => return Poll::Ready(how),
                (Step::Moved, _) | (_, Step::Moved) => {}
                (Step::Waits, Step::Waits) => {
                    if self.deaf {
                        owner.borrow_mut().on(Happening::Broken(link));
                        return Poll::Ready(Shut::Now);
                    }
                    if shut == Some(Shut::Flush) && self.sending.is_empty() {
                        return Poll::Ready(Shut::Flush);
                    }
                    if shut == Some(Shut::Flush) && self.is_late(cx) {
                        return Poll::Ready(Shut::Now);
                    }
                    return self.rest(link, owner, cx);
                }
            }
        }
        cx.waker().wake_by_ref();
        self.rest(link, owner, cx)
    }

    /// What the shard wants now; takes output over if nothing is being sent.
    fn wishes(&mut self, link: Link, owner: &Shared) -> Option<(usize, Option<Shut>)> {
        let mut owner = owner.borrow_mut();
        let wish = owner.streams().links.get_mut(link)?;
        wish.running = true;
        if self.deaf {
            wish.output.clear();
        }
        if self.sending.is_empty() && !wish.output.is_empty() {
            std::mem::swap(&mut self.sending, &mut wish.output);
            self.at = 0;
        } else if wish.output.is_empty() && wish.output.capacity() > KEPT_BYTES {
            wish.output = Vec::new();
        }
        if self.own == Own::Open && wish.finish && wish.output.is_empty() {
            self.own = Own::Last;
        }
        Some((wish.room, wish.shut))
    }

    /// Whether a peer that is to read the last bytes has had its time.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let late = self.late.get_or_insert_with(|| Timer::new(self.patience));
        Pin::new(late).poll(cx).is_ready()
    }

    fn rest(&self, link: Link, owner: &Shared, cx: &Context<'_>) -> Poll<Shut> {
        let mut owner = owner.borrow_mut();
        if let Some(wish) = owner.streams().links.get_mut(link) {
            wish.running = false;
            match &mut wish.waker {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                slot => *slot = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }

    fn send(
        &mut self,
        stream: &mut TcpStream,
        link: Link,
        owner: &Shared,
        cx: &mut Context<'_>,
    ) -> Step {
        if self.sending.is_empty() {
            if self.own == Own::Last {
                self.own = Own::Ended;
                let _ = Pin::new(stream).poll_close(cx); // if it is broken, receiving tells
            }
            return Step::Waits;
        }
        match Pin::new(stream).poll_write(cx, &self.sending[self.at..]) {
            Poll::Pending => Step::Waits,
            Poll::Ready(Ok(sent)) => {
                self.at += sent;
                if self.at == self.sending.len() {
                    self.sending.clear();
                    self.sending.shrink_to(KEPT_BYTES);
                }
                let mut owner = owner.borrow_mut();
                owner.streams().know(link, |it| it.unsent -= sent);
                owner.on(Happening::Sent(link, sent));
                Step::Moved
            }
            // What it said before it closed is still read: it may be the answer.
            Poll::Ready(Err(_)) => {
                self.sending.clear();
                self.deaf = true;
                Step::Waits
            }
        }
    }

    fn receive(
        &mut self,
        stream: &mut TcpStream,
        (link, room): (Link, usize),
        owner: &Shared,
        buffer: &RefCell<Box<[u8]>>,
        cx: &mut Context<'_>,
    ) -> Step {
        if room == 0 || self.ended {
            return Step::Waits;
        }
        let mut buffer = buffer.borrow_mut();
        let room = room.min(buffer.len());
        match Pin::new(stream).poll_read(cx, &mut buffer[..room]) {
            Poll::Pending => Step::Waits,
            Poll::Ready(Ok(0)) => {
                self.ended = true;
                let mut owner = owner.borrow_mut();
                owner.streams().know(link, |it| it.ended = true);
                owner.on(Happening::Ended(link));
                Step::Moved
            }
            Poll::Ready(Ok(received)) => {
                owner.borrow_mut().on(Happening::Received(link, &mut buffer[..received]));
                Step::Moved
            }
            Poll::Ready(Err(_)) => {
                owner.borrow_mut().on(Happening::Broken(link));
                Step::Over(Shut::Now)
            }
        }
    }
}

/// Reads on for a moment after the last byte was sent: closing with unread input would make the
/// kernel send a reset, which can overtake the answer.
async fn linger_on(mut stream: TcpStream, patience: Duration) {
    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    let drain = async {
        let _ = stream.close().await;
        let mut scratch = [0; 2048];
        let mut left = LINGER_BYTES;
        while let Ok(read) = stream.read(&mut scratch).await {
            if read == 0 || left < read {
                break;
            }
            left -= read;
        }
    };
    let patience = async {
        glommio::timer::sleep(patience).await;
    };
    futures_lite::future::or(drain, patience).await;
}

fn cause(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::TimedOut => Cause::Idle,
        _ if error.raw_os_error().is_some_and(is_shortage) => Cause::Exhausted,
        _ => Cause::Broken,
    }
}
