//! Requests that go on and on while something happens.

use super::client::Connection;
use super::request::Request;
use super::wait::now;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Clients that ask again as soon as they are answered, each time on a new connection.
#[derive(Debug)]
pub(crate) struct Flow {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Told>>,
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
        let (stop, served) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = |at: usize| {
            let (stop, served) = (stop.clone(), served.clone());
            let (addresses, request) = (addresses.to_vec(), request.clone());
            thread::spawn(move || {
                let (mut turn, mut told) = (at, Told::default());
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let begun = now();
                    let to = addresses[turn % addresses.len()];
                    let answer = Connection::try_open(to).and_then(|mut it| it.try_ask(&request));
                    told.longest = told.longest.max(now() - begun);
                    match answer {
                        Ok(it) if it.status == 200 => {
                            told.served += 1;
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(it) => told.failed.push(format!("{} {}", it.status, it.text())),
                        Err(error) => told.failed.push(error.to_string()),
                    }
                }
                told
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, served, clients }
    }

    /// How many were served so far.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    /// Stops it.
    pub(crate) fn end(self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Told::default();
        for it in self.clients {
            let told = it.join().expect("clients do not panic");
            sum.served += told.served;
            sum.longest = sum.longest.max(told.longest);
            sum.failed.extend(told.failed);
        }
        sum
    }
}
