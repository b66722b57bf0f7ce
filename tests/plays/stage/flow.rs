//! Requests that go on and on while something happens.

use super::client::Connection;
use super::request::Request;
use super::wait::now;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Clients that ask again as soon as they are answered, each time on a new connection.
#[derive(Debug)]
pub(crate) struct Flow {
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<Told>>,
    clients: Vec<JoinHandle<()>>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Answers with 200.
    pub(crate) served: usize,
    /// Everything else.
    pub(crate) failed: Vec<String>,
    /// The longest time to an answer.
    pub(crate) longest: Duration,
}

impl Flow {
    /// So many clients, which ask these addresses in turn.
    pub(crate) fn begin(clients: usize, addresses: &[SocketAddr], request: &Request) -> Self {
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Told>>::default());
        let client = |at: usize| {
            let (stop, told) = (stop.clone(), told.clone());
            let (addresses, request) = (addresses.to_vec(), request.clone());
            thread::spawn(move || {
                let mut turn = at;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let begun = now();
                    let to = addresses[turn % addresses.len()];
                    let answer = Connection::try_open(to).and_then(|mut it| it.try_ask(&request));
                    let mut told = told.lock().expect("nobody panics with it");
                    told.longest = told.longest.max(now() - begun);
                    match answer {
                        Ok(it) if it.status == 200 => told.served += 1,
                        Ok(it) => told.failed.push(format!("{} {}", it.status, it.text())),
                        Err(error) => told.failed.push(error.to_string()),
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, told, clients }
    }

    /// How many were served so far.
    pub(crate) fn served(&self) -> usize {
        self.told.lock().expect("nobody panics with it").served
    }

    /// Stops it.
    pub(crate) fn end(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        for it in self.clients {
            it.join().expect("clients do not panic");
        }
        self.told.lock().expect("nobody panics with it").clone()
    }
}
