//! A listener, and a thread per connection. A listener can be closed and opened again at the same
//! port: that is how a Marathon that is down looks.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::deliver::{Next, Reply, deliver};
use super::{Request, Response};

type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A door: its address, and whether it is open.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    shut: Mutex<bool>,
    opened: Condvar,
    next: AtomicU64,
    /// Connections that are open, so that shutting the door can end them. The accepting thread
    /// adds, each connection's own thread removes.
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Door {
    /// Listens at the address (port 0 finds a free one) and serves in threads of its own.
    pub(crate) fn open(
        address: SocketAddr,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(address)?;
        let door = Arc::new(Self {
            address: listener.local_addr()?,
            shut: Mutex::new(false),
            opened: Condvar::new(),
            next: AtomicU64::new(0),
            open: Mutex::new(BTreeMap::new()),
        });
        let (of, handler) = (Arc::clone(&door), Arc::new(handler) as Handler);
        thread::spawn(move || of.accept(listener, &handler));
        Ok(door)
    }

    /// Shut: connections end, new ones are refused. Open again: at the same port.
    pub(crate) fn set_shut(&self, shut: bool) {
        *lock(&self.shut) = shut;
        self.opened.notify_all();
        if shut {
            for it in lock(&self.open).values() {
                let _ = it.shutdown(Shutdown::Both);
            }
        }
    }

    fn accept(self: Arc<Self>, listener: TcpListener, handler: &Handler) {
        let mut listener = Some(listener);
        loop {
            let shut = lock(&self.shut);
            if *shut {
                listener = None;
                drop(self.opened.wait_while(shut, |it| *it));
                continue;
            }
            drop(shut);
            let Some(it) = listener.as_ref() else {
                listener = TcpListener::bind(self.address).ok();
                if listener.is_none() {
                    thread::sleep(Duration::from_millis(5)); // somebody else has the port
                }
                continue;
            };
            let tick = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            let ready = poll(&mut [PollFd::new(it, PollFlags::IN)], Some(&tick));
            if ready.is_ok_and(|it| it > 0)
                && let Ok((stream, peer)) = it.accept()
            {
                let (of, handler) = (Arc::clone(&self), Arc::clone(handler));
                thread::spawn(move || of.connection(stream, peer, &handler));
            }
        }
    }

    fn connection(&self, stream: TcpStream, peer: SocketAddr, handler: &Handler) {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        if let Ok(it) = stream.try_clone() {
            lock(&self.open).insert(key, it);
        }
        // How a connection ends is the client's business; there is nobody to tell.
        let _ = talk(&stream, peer, handler);
        // The clone above keeps the socket open until it is gone too.
        lock(&self.open).remove(&key);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn talk(stream: &TcpStream, peer: SocketAddr, handler: &Handler) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut to = stream.try_clone()?;
    let mut from = BufReader::new(stream);
    loop {
        let request = match Request::read(&mut from, &mut to, peer) {
            Ok(Some(it)) => it,
            Ok(None) => return Ok(()),
            Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                let answer = Response::html(400, &why.to_string());
                deliver(Reply::Whole(answer), &mut to, false, false)?;
                return Err(why);
            }
            Err(why) => return Err(why),
        };
        let reply = handler(&request);
        if deliver(reply, &mut to, request.keep, request.method == "HEAD")? == Next::Close {
            return Ok(());
        }
    }
}
