//! Accepting clients: a task per listener, which ends without losing anybody.
//!
//! The task waits until its listener is readable and accepts by accept(2) until nobody is left.
//! glommio's own accept is not used: it takes connections inside the ring, and one that is
//! cancelled may have taken one, which is then lost. (It also leaks a waker each time it is polled
//! again.)
//!
//! Must hold: when a listener closes, whoever the kernel had connected to it has been accepted. So
//! first it takes nobody new, then its queue is emptied, then it closes, and until then the driver
//! is not quiet.

use crate::base::address::SocketAddr;
use crate::base::ids::ShardId;
use crate::base::socket::Socket;
use crate::base::time::Duration;
use crate::mesh::clock;
use crate::shard::engine::Happening;
use crate::shard::engine::closing::take_nobody_new;
use crate::shard::engine::shortage::Complaint;
use crate::shard::engine::streams::{Shared, Wish, connected, serve};
use futures_lite::AsyncRead;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;

/// Clients accepted in one go before others have their turn.
const BURST: usize = 64;
/// Pause after the kernel refused another descriptor.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener that is being accepted from.
pub struct Listening {
    listener: Rc<TcpListener>,
    name: Name,
    owner: Shared,
    task: glommio::Task<()>,
}

/// A listener, as log lines name it.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// Whose it is.
    pub shard: ShardId,
    /// Which of that shard's.
    pub listener: usize,
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listening").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Listening {
    /// Begins to accept from a listener that does not block.
    pub fn begin(listener: TcpListener, name: Name, owner: Shared) -> Self {
        let listener = Rc::new(listener);
        owner.borrow_mut().streams().listening += 1;
        let task = glommio::spawn_local(accept(listener.clone(), name, owner.clone()));
        Self { listener, name, owner, task }
    }

    /// Accepts whoever has connected, and closes.
    pub async fn close(self) {
        self.task.cancel().await;
        take_nobody_new(&self.listener);
        let Name { shard, listener } = self.name;
        let mut last = 0;
        loop {
            match take(&self.listener, &self.owner) {
                Ok(BURST) => last += BURST,
                Ok(some) => break last += some,
                Err(error) => {
                    tracing::warn!(shard = shard.0, listener, %error, "clients are left out");
                    break;
                }
            }
            futures_lite::future::yield_now().await;
        }
        drop(self.listener);
        self.owner.borrow_mut().streams().listening -= 1;
        tracing::debug!(shard = shard.0, listener, last, "a listener has closed");
    }
}

/// Accepts for ever.
async fn accept(listener: Rc<TcpListener>, name: Name, owner: Shared) {
    let Name { shard, listener: number } = name;
    let mut complaint = Complaint::default();
    loop {
        let taken = match readable(&listener).await {
            Ok(()) => take(&listener, &owner),
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            if complaint.is_due(clock::now()) {
                let shard = shard.0;
                tracing::warn!(shard, listener = number, %error, "cannot accept; pausing");
            }
            glommio::timer::sleep(PAUSE).await;
        }
    }
}

/// Waits until somebody has connected. glommio waits for streams only, so the listener is shown to
/// it as one; reading from it fails, and takes nothing.
async fn readable(listener: &TcpListener) -> io::Result<()> {
    let copy = listener.as_fd().try_clone_to_owned()?;
    let mut shown = connected(Socket::new(copy));
    poll_fn(|cx| Pin::new(&mut shown).poll_read(cx, &mut [0]).map(|_| ())).await;
    Ok(())
}

/// Accepts whoever has connected, a burst at most; how many that were.
fn take(listener: &TcpListener, owner: &Shared) -> io::Result<usize> {
    for taken in 0..BURST {
        match listener.accept() {
            Ok((stream, peer)) => accepted(Socket::new(stream.into()), peer, owner),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
            // Whoever it was has gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(BURST)
}

fn accepted(socket: Socket, peer: SocketAddr, owner: &Shared) {
    if !owner.borrow().accepts() {
        return;
    }
    let link = owner.borrow_mut().streams().links.insert(Wish::on(&socket));
    owner.borrow_mut().on(Happening::Accepted(link, peer));
    // The shard may have handed it on at once.
    if owner.borrow_mut().streams().links.contains_key(link) {
        glommio::spawn_local(serve(connected(socket), link, owner.clone())).detach();
    }
}
