//! The thread that keeps a router's session with ZooKeeper, without a router around it.

use super::ensemble::Ensemble;
use super::wait::{PATIENCE, until};
use std::sync::mpsc::{Receiver, SyncSender, channel};
use std::time::Duration;
use waiter::base::ids::RouterId;
use waiter::control::cluster::zookeeper::{Session, Settings};
use waiter::control::cluster::{Ask, Said, Seen};
use waiter::core::peers::Member;
use waiter::wire::peer::Secret;

/// What the session of one router has said so far; it may register when the test says so.
pub(crate) struct Told {
    pub(crate) session: Session,
    said: Receiver<Said>,
    pub(crate) seen: Option<Box<Seen>>,
    pub(crate) lost: Option<String>,
    /// How long its sessions are.
    pub(crate) granted: Vec<Duration>,
    pub(crate) has_left: bool,
}

impl Told {
    /// A router of the cluster `c` that asks for such a session.
    pub(crate) fn begin(ensemble: &Ensemble, id: &str, secret: &str, session: Duration) -> Self {
        let settings = Settings {
            servers: ensemble.places().split(',').map(str::to_owned).collect(),
            session,
            base: "/waiter".to_owned(),
            cluster: "c".to_owned(),
            secret: Secret::new(secret.as_bytes()).expect("long enough"),
        };
        let me = Member { id: RouterId::new(id), address: "127.0.0.1:1".into(), since: 1 };
        let (say, said) = channel();
        let say = Box::new(move |it| drop(say.send(it)));
        let session = Session::start(settings, me, say).expect("a thread");
        Self { session, said, seen: None, lost: None, granted: Vec::new(), has_left: false }
    }

    /// Hears what it says until it is about to register: the way to let it.
    pub(crate) fn registers(&mut self) -> SyncSender<()> {
        until("it is about to register", PATIENCE, || self.hear())
    }

    /// Lets it register, and waits until it has seen who is there.
    pub(crate) fn joins(&mut self) {
        self.registers().send(()).expect("it waits");
        self.sees();
    }

    /// Waits until it has seen who is there.
    pub(crate) fn sees(&mut self) {
        until("it has looked around", PATIENCE, || {
            assert!(self.hear().is_none(), "it registers again");
            self.seen.is_some().then_some(())
        });
    }

    /// Hears what it says, until it is about to register.
    pub(crate) fn hear(&mut self) -> Option<SyncSender<()>> {
        for said in self.said.try_iter() {
            match said {
                Said::Registering(may) => return Some(may),
                Said::Seen(seen) => self.seen = Some(seen),
                Said::Lost(why, heard) => {
                    let _ = heard.send(()); // it may have given up waiting
                    self.lost = Some(why);
                }
                Said::Granted(length) => self.granted.push(length),
                Said::Left => self.has_left = true,
            }
        }
        None
    }

    /// It leaves and ends.
    pub(crate) fn end(self) {
        let _ = self.session.asks.send(Ask::Leave); // it may have been told before
        let _ = self.session.asks.send(Ask::End);
        self.session.thread.join().expect("it ends");
    }
}
