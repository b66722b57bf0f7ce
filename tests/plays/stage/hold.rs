//! A way to a server that can be held: nothing passes, and nobody is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(10);

/// The way. Its threads end with the connections.
#[derive(Debug)]
pub(crate) struct Hold {
    address: SocketAddr,
    held: Arc<AtomicBool>,
}

impl Hold {
    /// A way to this server.
    pub(crate) fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let held = Arc::new(AtomicBool::new(false));
        let (to, holds) = (to.to_owned(), held.clone());
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&to) else { continue };
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let from = from.try_clone().expect("a descriptor");
                    let into = into.try_clone().expect("a descriptor");
                    let holds = holds.clone();
                    thread::spawn(move || pass(from, into, &holds));
                }
            }
        });
        Self { address, held }
    }

    /// Where it begins.
    pub(crate) fn place(&self) -> String {
        self.address.to_string()
    }

    /// Nothing passes from now on.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// What waits passes, and all that follows.
    pub(crate) fn go_on(&self) {
        self.held.store(false, Ordering::Release);
    }
}

fn pass(mut from: TcpStream, mut into: TcpStream, held: &AtomicBool) {
    let mut piece = vec![0; 64 << 10];
    let _ = from.set_read_timeout(Some(LOOK)); // a longer wait would only be slower
    loop {
        let count = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        while held.load(Ordering::Acquire) {
            thread::sleep(LOOK);
        }
        if into.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = into.shutdown(std::net::Shutdown::Both); // the other direction ends by it
}
