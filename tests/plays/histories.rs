//! Histories recorded while servers die and routers freeze, checked for linearizability: who leads,
//! and what the shared store did.

use crate::stage::{
    Connection, Ensemble, Instance, PATIENCE, Request, Router, SESSION, fronted, metric_at, now,
    pause_until, until, until_members,
};
use porcupine_rs::{CheckResult, Model, Operation, check_operations_timeout};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use waiter::control::store::{Expect, Keys, Shared, Store, StoreError};

/// The checker gives up after this time.
const CHECKED_WITHIN: Duration = Duration::from_secs(30);
/// What never ended, ended after everything.
const NEVER: i64 = i64::MAX;

/// Whether the operations can have happened one after the other.
///
/// # Panics
/// The checker did not decide in time. That says nothing of the product.
fn is_linear<M: Model>(history: &[Operation<M>]) -> bool {
    match check_operations_timeout(history, CHECKED_WITHIN) {
        CheckResult::Ok => true,
        CheckResult::Illegal => false,
        CheckResult::Unknown => panic!(
            "not decided within {CHECKED_WITHIN:?}: a history of {} operations is neither shown to \
             be right nor wrong; run it again, with fewer of which nothing is known",
            history.len()
        ),
    }
}

fn operation<M: Model>(client: usize, (call, end): (i64, i64), op: M::Op) -> Operation<M> {
    let client_id = u32::try_from(client).ok();
    Operation { client_id, call_time: call, return_time: end, op, metadata: None }
}

fn nanos(since: Instant) -> i64 {
    i64::try_from((now() - since).as_nanos()).expect("less than centuries")
}

/// Leadership is a lock: it is taken when nobody has it, and given up by who has it.
#[derive(Clone, Debug)]
struct Lead;

#[derive(Clone, Debug)]
enum Turn {
    Begins(usize),
    Ends(usize),
}

impl Model for Lead {
    type State = Option<usize>;
    type Op = Turn;
    type Metadata = ();

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, op: &Turn) -> (bool, Self::State) {
        match op {
            Turn::Begins(router) => (state.is_none(), Some(*router)),
            Turn::Ends(router) => (*state == Some(*router), None),
        }
    }
}

/// Asks a router over and over whether it leads. Between the last answer that said one thing and the
/// first that says the other, its turn has begun or ended.
fn watch(at: usize, router: SocketAddr, begun: Instant, ends: &AtomicBool) -> Vec<Operation<Lead>> {
    let (mut history, mut led, mut asked_last) = (Vec::new(), false, 0);
    while !ends.load(Ordering::Relaxed) {
        let asked = nanos(begun);
        let leads = metric_at(router, "waiter_cluster_leads") == 1.0;
        if leads != led {
            let turn = if leads { Turn::Begins(at) } else { Turn::Ends(at) };
            history.push(operation(at, (asked_last, nanos(begun)), turn));
        }
        (led, asked_last) = (leads, asked);
        pause_until(now() + Duration::from_millis(2));
    }
    history
}

#[test]
fn leadership_is_one_lock_whoever_dies_or_freezes() {
    let mut ensemble = Ensemble::start(3);
    let routers = ensemble.routers(3, &["--scheduler", "none"]);
    let all: Vec<&Router> = routers.iter().collect();
    let (begun, ends) = (now(), AtomicBool::new(false));
    let history = thread::scope(|scope| {
        let watches: Vec<_> = routers
            .iter()
            .enumerate()
            .map(|(at, it)| {
                let (address, ends) = (it.address, &ends);
                scope.spawn(move || watch(at, address, begun, ends))
            })
            .collect();
        for _ in 0..2 {
            // A router that leads freezes for longer than its session.
            let leader = leading(&all, None);
            all[leader].process.signal("STOP");
            leading(&all, Some(leader));
            all[leader].process.signal("CONT");
            // The server that leads is killed, and then the one that the leading router talks to.
            let server = ensemble.leader();
            ensemble.kill(server);
            let leader = leading(&all, None);
            ensemble.begin(server);
            ensemble.until_serving(server);
            let page = all[leader].page("/state/cluster");
            let place = page["session"]["server"].as_str().unwrap_or_default().to_owned();
            if !place.is_empty() {
                let server = ensemble.at(&place);
                ensemble.signal(server, "STOP");
                pause_until(now() + SESSION);
                ensemble.signal(server, "CONT");
            }
        }
        until_members(&all);
        ends.store(true, Ordering::Relaxed);
        let all = watches.into_iter().flat_map(|it| it.join().expect("they do not panic"));
        all.collect::<Vec<_>>()
    });
    println!("{} turns began or ended: {history:?}", history.len());
    assert!(history.len() >= 5, "two leaders froze: {history:?}");
    assert!(is_linear(&history), "{history:?}");
    // The check would have seen a second leader.
    let mut two = history;
    let first = two[0].clone();
    two.push(operation(7, (first.return_time, first.return_time + 1), Turn::Begins(7)));
    assert!(!is_linear(&two), "{two:?}");
}

/// When a router first wrote this into its log: the time, as text that compares as times do.
fn logged(router: &Router, what: &str) -> Option<String> {
    let said = router.process.said();
    let line = said.lines().find(|it| it.contains(what))?;
    line.split_whitespace().next().map(str::to_owned)
}

#[test]
fn a_leader_that_leaves_has_stepped_down_before_another_leads() {
    let ensemble = Ensemble::start(1);
    let instance = [Instance::start(&[])];
    let bench = fronted("bench", &instance, "concurrency-level=2");
    let mut routers = ensemble.routers(3, &["--scheduler", "none", "--static", &bench]);
    let request = |target: &str| Request::get(target).with("host", "bench");
    for turn in 0..2 {
        let all: Vec<&Router> = routers.iter().collect();
        let leader = leading(&all, None);
        let mut leaver = routers.remove(leader);
        // It has to wait for a request, for longer than its lease lasts.
        let (to, slow) = (leaver.address, request("/?delay-ms=3500"));
        let waits = thread::spawn(move || Connection::open(to).ask(&slow).status);
        until("it is in flight", PATIENCE, || (instance[0].count("in_flight") > 0).then_some(()));
        leaver.terminate();
        let others: Vec<&Router> = routers.iter().collect();
        let heir = others[leading(&others, None)];
        let begins = logged(heir, "this router leads").expect("it said so");
        assert!(leaver.process.status().is_none(), "it is still ending, in turn {turn}");
        let ends = logged(&leaver, "this router does not lead").expect("it said so before");
        println!("the lead ended at {ends}, and began at {begins}");
        assert!(ends < begins, "{ends} is not before {begins}");
        assert_eq!(waits.join().expect("an answer"), 200, "it was not cut");
        assert_eq!(leaver.wait(PATIENCE), Some(0));
    }
}

/// Waits until a router leads, other than this one, which is frozen.
fn leading(routers: &[&Router], except: Option<usize>) -> usize {
    let leads =
        |at: &usize| Some(*at) != except && routers[*at].metric("waiter_cluster_leads") == 1.0;
    until("somebody leads", PATIENCE * 2, || (0..routers.len()).find(leads))
}

/// One value of the store, with its version. A removed one begins anew.
#[derive(Clone, Debug)]
struct Register;

/// A write, and what the writer was told: done, refused, or nothing.
#[derive(Clone, Debug)]
struct Write {
    expect: u64,
    /// None: it is removed.
    value: Option<u64>,
    told: Option<bool>,
}

impl Model for Register {
    type State = Option<(u64, u64)>;
    type Op = Write;
    type Metadata = ();

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, op: &Write) -> (bool, Self::State) {
        let version = state.map_or(0, |it| it.0);
        let fits = version == op.expect;
        let right = op.told.is_none_or(|it| it == fits);
        let after = if fits { op.value.map(|it| (version + 1, it)) } else { *state };
        (right, after)
    }
}

/// A value that was read: by whom, its version, and what it was.
type Read = (i64, u64, u64);

/// Writes by versions that were read before, over and over.
fn write(
    client: usize,
    servers: Vec<String>,
    (begun, ends): (Instant, &AtomicBool),
    numbers: &AtomicU64,
) -> (Vec<Operation<Register>>, Vec<Read>) {
    let store = Shared::new(servers, SESSION, "/histories", Keys::default());
    let (mut history, mut reads) = (Vec::new(), Vec::new());
    while !ends.load(Ordering::Relaxed) {
        pause_until(now() + Duration::from_millis(3));
        let Ok(there) = store.get("k") else { continue };
        let version = there.as_ref().map_or(0, |it| it.version);
        if let Some(it) = &there {
            let text = std::str::from_utf8(&it.value).expect("digits");
            reads.push((nanos(begun), version, text.parse().expect("a number")));
        }
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let value = (!number.is_multiple_of(8) || version == 0).then_some(number);
        let call = nanos(begun);
        let done = match value {
            Some(it) => {
                store.put("k", it.to_string().as_bytes(), Expect::Version(version)).map(drop)
            }
            None => store.delete("k", Expect::Version(version)),
        };
        let told = match done {
            Ok(()) => Some(true),
            Err(StoreError::Conflict(_)) => Some(false),
            Err(_) => None,
        };
        let end = if told.is_some() { nanos(begun) } else { NEVER };
        history.push(operation(client, (call, end), Write { expect: version, value, told }));
    }
    (history, reads)
}

/// The history with less to guess, which the checker decides soon: where it is in order, so is the
/// whole. A value is written once, so who read it knows that it was written by then. Of a write of
/// which nothing is known and which nobody has read it may be that it came last.
fn settled(history: &[Operation<Register>], reads: &[Read]) -> Vec<Operation<Register>> {
    let mut settled = Vec::new();
    for it in history {
        let mut it = it.clone();
        if let (None, Some(value)) = (it.op.told, it.op.value) {
            let read = reads.iter().filter(|(_, _, read)| *read == value).map(|(at, ..)| *at).min();
            let Some(read) = read else { continue };
            (it.op.told, it.return_time) = (Some(true), read);
        }
        settled.push(it);
    }
    settled
}

#[test]
fn writes_to_the_store_are_compared_and_set_whichever_server_dies() {
    let mut ensemble = Ensemble::start(3);
    let (begun, ends, numbers) = (now(), AtomicBool::new(false), AtomicU64::new(1));
    let (history, reads) = thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                // Each begins with another server; two share one.
                let places = ensemble.places();
                let mut servers: Vec<String> = places.split(',').map(str::to_owned).collect();
                servers.rotate_left(client % 3);
                let (ends, numbers) = (&ends, &numbers);
                scope.spawn(move || write(client, servers, (begun, ends), numbers))
            })
            .collect();
        let more = |by: u64| {
            let before = numbers.load(Ordering::Relaxed);
            until("more is written", PATIENCE * 2, || {
                (numbers.load(Ordering::Relaxed) >= before + by).then_some(())
            });
        };
        more(200);
        for _ in 0..2 {
            let leader = ensemble.leader();
            ensemble.kill(leader);
            more(100);
            ensemble.begin(leader);
            ensemble.until_serving(leader);
            let leader = ensemble.leader();
            ensemble.signal(leader, "STOP");
            more(100);
            ensemble.signal(leader, "CONT");
            ensemble.until_serving(leader);
            more(100);
        }
        ends.store(true, Ordering::Relaxed);
        let (mut history, mut reads) = (Vec::new(), Vec::new());
        for it in clients {
            let (written, read) = it.join().expect("they do not panic");
            history.extend(written);
            reads.extend(read);
        }
        (history, reads)
    });
    let count = |told| history.iter().filter(|it| it.op.told == told).count();
    let (done, refused, unknown) = (count(Some(true)), count(Some(false)), count(None));
    println!("{done} done, {refused} refused, {unknown} unknown, {} reads", reads.len());
    assert!(done > 100 && refused > 10, "they have met");
    let linear = is_linear(&settled(&history, &reads)) || is_linear(&history);
    assert!(linear, "of {} writes", history.len());
    // What was read had been written, by a write that had begun.
    for (at, version, value) in &reads {
        let wrote = |it: &&Operation<Register>| it.op.value == Some(*value);
        let write = history.iter().find(wrote).expect("somebody wrote it");
        assert!(write.call_time < *at && write.op.expect + 1 == *version, "{value}");
        assert_ne!(write.op.told, Some(false), "{value} was refused, and is there");
    }
    // The check would have seen a write that was lost: two that both found nothing there. (To look
    // for that after all the others, each of the unknown ones at any time, takes too long.)
    let write = |at| -> Operation<Register> {
        let write = Write { expect: 0, value: Some(0), told: Some(true) };
        operation(7, (at, at + 1), write)
    };
    assert!(is_linear(&[write(1)]));
    assert!(!is_linear(&[write(1), write(3)]));
}
