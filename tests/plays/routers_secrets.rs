//! Routers that know different secrets: one of them serves, whenever they begin.

use crate::stage::{
    Ensemble, Instance, PATIENCE, Request, Router, SESSION, Told, fronted, now, pause_until, until,
};
use std::sync::mpsc::SyncSender;
use waiter::control::cluster::Ask;
use waiter::control::cluster::zookeeper::Client;
use waiter::control::cluster::zookeeper::client::Verbs;
use waiter::core::peers::Member;

const SECRET: &str = "the secret of the cluster";
const OTHER: &str = "another secret, as long";

#[test]
fn of_two_that_register_at_the_same_moment_the_first_stays() {
    let ensemble = Ensemble::start(1);
    let mut both = [("a", SECRET), ("b", OTHER)]
        .map(|(id, secret)| Told::begin(&ensemble, id, secret, SESSION));
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
    both.into_iter().for_each(Told::end);
}

#[test]
fn who_was_refused_takes_the_place_of_the_other_only_when_that_one_has_left_for_good() {
    let ensemble = Ensemble::start(1);
    let mut client = Client::new(vec![ensemble.places()], SESSION);
    let mut a = Told::begin(&ensemble, "a", SECRET, SESSION);
    a.joins();
    let [mut b, mut c] = ["b", "c"].map(|id| Told::begin(&ensemble, id, OTHER, SESSION));
    let refused = |it: &mut Told, word: &str| {
        until(word, PATIENCE, || {
            assert!(it.hear().is_none(), "it registers");
            it.lost.as_ref().is_some_and(|why| why.contains(word)).then_some(())
        });
    };
    refused(&mut b, "registered in");
    refused(&mut c, "registered in");

    // One that was refused and is to end leaves nothing, and has seen nothing.
    c.session.asks.send(Ask::Leave).expect("it runs");
    until("it has left", PATIENCE, || {
        assert!(c.hear().is_none(), "it registers");
        c.has_left.then_some(())
    });
    pause_until(now() + SESSION / 2);
    assert!(c.hear().is_none() && c.seen.is_none());
    assert_eq!(client.children("/waiter/roster/c"), Ok(vec!["a".to_owned()]));
    c.end();

    // The other's node is gone for a while, as when its session has expired.
    client.delete("/waiter/discovery-v2-v2/c/a", None).expect("it was there");
    let may = a.registers();
    refused(&mut b, "delete /waiter/roster/c/a");
    pause_until(now() + SESSION);
    assert!(b.hear().is_none(), "the other comes back");
    a.seen = None;
    may.send(()).expect("it waits");
    until("it is back, on another session", PATIENCE, || {
        if let Some(may) = a.hear() {
            may.send(()).expect("it waits");
        }
        a.seen.is_some().then_some(())
    });
    refused(&mut b, "registered in");
    assert!(b.granted.is_empty(), "nobody was told of a session that is of no use");

    // It ends, and may be begun anew.
    let ended = now();
    a.end();
    let may = b.registers();
    assert!(now() - ended >= SESSION * 2);
    may.send(()).expect("it waits");
    b.sees();
    assert_eq!(b.granted, [SESSION], "said once");
    b.end();
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
