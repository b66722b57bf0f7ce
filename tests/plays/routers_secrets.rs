//! Routers that know different secrets and begin at the same time: one of them serves.

use crate::stage::{
    Ensemble, Instance, PATIENCE, Request, Router, SESSION, fronted, now, pause_until, until,
};
use std::sync::mpsc::{Receiver, SyncSender, channel};
use waiter::base::ids::RouterId;
use waiter::control::cluster::zookeeper::client::Verbs;
use waiter::control::cluster::zookeeper::{Client, Session, Settings};
use waiter::control::cluster::{Ask, Said, Seen};
use waiter::core::peers::Member;
use waiter::wire::peer::Secret;

const OTHER: &str = "another secret, as long";

/// What the session of one router has said so far; it may register when the test says so.
struct Told {
    session: Session,
    said: Receiver<Said>,
    seen: Option<Box<Seen>>,
    lost: Option<String>,
}

impl Told {
    fn begin(ensemble: &Ensemble, id: &str, secret: &str) -> Self {
        let settings = Settings {
            servers: ensemble.places().split(',').map(str::to_owned).collect(),
            session: SESSION,
            base: "/waiter".to_owned(),
            cluster: "c".to_owned(),
            secret: Secret::new(secret.as_bytes()).expect("long enough"),
        };
        let me = Member { id: RouterId::new(id), address: "127.0.0.1:1".into(), since: 1 };
        let (say, said) = channel();
        let say = Box::new(move |it| drop(say.send(it)));
        let session = Session::start(settings, me, say).expect("a thread");
        Self { session, said, seen: None, lost: None }
    }

    /// Hears what it says until it is about to register: the way to let it.
    fn registers(&mut self) -> SyncSender<()> {
        until("it is about to register", PATIENCE, || self.hear())
    }

    fn hear(&mut self) -> Option<SyncSender<()>> {
        for said in self.said.try_iter() {
            match said {
                Said::Registering(may) => return Some(may),
                Said::Seen(seen) => self.seen = Some(seen),
                Said::Lost(why, heard) => {
                    let _ = heard.send(()); // it may have given up waiting
                    self.lost = Some(why);
                }
                Said::Granted(_) | Said::Left => {}
            }
        }
        None
    }
}

#[test]
fn of_two_that_register_at_the_same_moment_the_first_stays() {
    let ensemble = Ensemble::start(1);
    let mut both = [("a", "the secret of the cluster"), ("b", OTHER)]
        .map(|(id, secret)| Told::begin(&ensemble, id, secret));
    // Each has looked, and seen nobody, before any is registered.
    let may: Vec<SyncSender<()>> = both.iter_mut().map(Told::registers).collect();
    for it in may {
        it.send(()).expect("it waits");
    }
    until("each knows", PATIENCE, || {
        let known = |it: &mut Told| {
            assert!(it.hear().is_none(), "nobody tries it again");
            it.seen.is_some() || it.lost.is_some()
        };
        both.each_mut().map(known).into_iter().all(|it| it).then_some(())
    });
    pause_until(now() + SESSION * 2);
    both.iter_mut().for_each(|it| assert!(it.hear().is_none(), "nobody tries it again"));
    let stay: Vec<&Told> = both.iter().filter(|it| it.seen.is_some()).collect();
    let [one] = stay[..] else { panic!("{} have stayed", stay.len()) };
    assert_eq!(one.lost, None);
    let seen = one.seen.as_ref().expect("it has stayed");
    let ids = |all: &[Member]| all.iter().map(|it| it.id.clone()).collect::<Vec<_>>();
    let me = seen.first.clone().expect("it is the first candidate");
    assert_eq!(ids(&seen.view.members), std::slice::from_ref(&me));
    assert_eq!(ids(&seen.view.roster), std::slice::from_ref(&me));
    let other = both.iter().find(|it| it.seen.is_none()).expect("one of two");
    let why = other.lost.as_deref().expect("it was told");
    assert!(why.contains("another secret") && why.contains("--cluster-secret-file"), "{why}");
    // The other has left nothing behind.
    let servers = ensemble.places().split(',').map(str::to_owned).collect();
    let mut client = Client::new(servers, SESSION);
    for place in ["discovery-v2-v2/c", "roster/c", "leader-latch"] {
        let path = format!("/waiter/{place}");
        let names = client.children(&path).expect("listed");
        assert_eq!(names.len(), 1, "{path}: {names:?}");
    }
    for it in both {
        it.session.asks.send(Ask::Leave).expect("it runs");
        it.session.asks.send(Ask::End).expect("it runs");
        it.session.thread.join().expect("it ends");
    }
}

#[test]
fn of_two_routers_with_different_secrets_exactly_one_serves() {
    let ensemble = Ensemble::start(1);
    let instances = [Instance::start(&[])];
    let bench = fronted("bench", &instances, "concurrency-level=1");
    let other = ensemble.folder().join("other");
    std::fs::copy(ensemble.secret(), &other).expect("copied");
    std::fs::write(&other, OTHER).expect("written");
    let other = other.display().to_string();
    let joining = ensemble.flags();
    for cluster in ["one", "two", "three"] {
        let more = ["--scheduler", "none", "--static", &bench, "--cluster", cluster];
        let right: Vec<&str> = joining.iter().map(String::as_str).chain(more).collect();
        let mut wrong = right.clone();
        let at = wrong.iter().position(|it| *it == "--cluster-secret-file").expect("there");
        wrong[at + 1] = &other;
        // Both wait for the same server, and find nobody.
        ensemble.signal(0, "STOP");
        let both = [Router::start(&right), Router::start(&wrong)];
        ensemble.signal(0, "CONT");
        let pages = || both.each_ref().map(|it| it.page("/state/cluster"));
        let members = |it: &serde_json::Value| it["members"].as_array().map_or(0, Vec::len);
        until("one serves, and the other says why not", PATIENCE * 2, || {
            let pages = pages();
            let serve = pages.iter().filter(|it| members(it) == 1).count();
            let told = pages
                .iter()
                .filter(|it| it["session"]["lost-why"].to_string().contains("another secret"));
            (serve == 1 && told.count() == 1).then_some(())
        });
        let before = pages().map(|it| members(&it));
        pause_until(now() + SESSION);
        assert_eq!(pages().map(|it| members(&it)), before, "so it stays");
        let serves = usize::from(before[1] == 1);
        both[serves].ask(&Request::get("/").with("host", "bench")).expect(200);
        let said = both[1 - serves].process.said();
        assert!(said.contains("stop all routers first"), "{said}");
    }
}
