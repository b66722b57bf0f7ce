//! Single steps of the machine; whole worlds are `tests/sim/cluster`.

mod checks;
mod closing;

use super::document::{Debts, Unreadable};
use super::*;
use crate::base::ids::{InstanceId, RouterId, ServiceId};
use crate::base::time::{Date, Duration, Instant};
use crate::core::slots::{Gate, Instance, Seat, ServiceSlots};
use std::sync::Arc;

fn at(millis: u64) -> Instant {
    Instant(millis * 1_000_000)
}

fn router(name: &str) -> RouterId {
    RouterId::new(name)
}

fn member(name: &str) -> Member {
    Member { id: router(name), address: format!("{name}:9091"), since: 1 }
}

fn service() -> ServiceId {
    ServiceId::new("s")
}

/// A router of a cluster with one service, whose instances have so many slots.
struct One {
    peers: Peers,
    slots: Arc<ServiceSlots>,
    instances: Vec<Arc<Instance>>,
}

/// A document as it would come from elsewhere.
fn document(seq: u64, epoch: u64) -> Document {
    Document { seq, epoch, ..Document::default() }
}

impl One {
    fn new(name: &str, instances: u64, slots: u16) -> Self {
        Self::with(Rules::ALL, name, instances, slots)
    }

    fn with(rules: Rules, name: &str, instances: u64, slots: u16) -> Self {
        let settings = Settings::new(Duration::from_secs(3));
        let mut peers = Peers::with_rules(router(name), settings, rules, at(0));
        let one = |it: u64| {
            let address = "10.0.0.1:80".parse().expect("an address");
            Arc::new(Instance::new(&format!("i{it}"), address, Date(it), slots))
        };
        let instances: Vec<_> = (0..instances).map(one).collect();
        let all: Arc<ServiceSlots> = Arc::default();
        let division = Division {
            slots: all.clone(),
            concurrency: slots,
            balanced: false,
            instances: instances.clone(),
        };
        peers.registering(at(0));
        peers.service(&service(), &division, at(0));
        Self { peers, slots: all, instances }
    }

    /// The scheduler lists these of its instances.
    fn list(&mut self, which: std::ops::Range<usize>, now: Instant) {
        let division = Division {
            slots: self.slots.clone(),
            concurrency: 2,
            balanced: false,
            instances: self.instances[which].to_vec(),
        };
        self.peers.service(&service(), &division, now);
    }

    fn view(&mut self, epoch: u64, names: &[&str], now: Instant) {
        let members = names.iter().map(|it| member(it)).collect();
        self.peers.zookeeper(&View { epoch, members, roster: Vec::new() }, now, now);
    }

    fn tick(&mut self, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.peers.tick(now, &mut effects);
        effects
    }

    /// Time goes by, a tick every tenth of a second.
    fn ticks(&mut self, millis: std::ops::Range<u64>) {
        millis.step_by(100).for_each(|it| drop(self.tick(at(it))));
    }

    fn hear(&mut self, from: &str, document: Document, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.peers.heard(&router(from), document, now, &mut effects);
        effects
    }

    fn limits(&self) -> u16 {
        self.instances.iter().map(|it| it.word.limit()).sum()
    }

    fn owned_by(&self, name: &str) -> Vec<InstanceId> {
        let ids = self.peers.ownership(&service()).into_iter();
        ids.filter(|it| it.owner == Some(router(name))).map(|it| it.instance).collect()
    }
}

fn sent_to<'a>(name: &str, effects: &'a [Effect]) -> Option<&'a Document> {
    effects.iter().rev().find_map(|it| match it {
        Effect::Send(to, document) if *to == router(name) => Some(&**document),
        _ => None,
    })
}

#[test]
fn alone_a_router_owns_everything_once_it_is_registered() {
    let mut a = One::new("a", 3, 2);
    assert_eq!(a.limits(), 0, "what is published is closed");
    a.tick(at(10));
    assert_eq!(a.limits(), 0);
    a.view(7, &["a"], at(20));
    let effects = a.tick(at(21));
    assert_eq!(a.limits(), 6);
    assert!(matches!(effects[..], [Effect::LookAgain(_)]), "{effects:?}");
    a.peers.registering(at(22));
    assert_eq!(a.limits(), 0, "registered anew it owns nothing");
    a.tick(at(30));
    assert_eq!(a.limits(), 0);
    a.view(9, &["a"], at(40));
    a.tick(at(41));
    assert_eq!(a.limits(), 6);
}

#[test]
fn what_is_won_is_given_out_when_the_other_has_shown_the_epoch_and_less_what_it_owes() {
    let mut a = One::new("a", 8, 2);
    a.view(1, &["a", "b"], at(0));
    a.tick(at(1));
    assert_eq!(a.limits(), 0, "b may still run something");
    let own = a.owned_by("a");
    assert!((1..8).contains(&own.len()));
    let debts = Debts::Of(vec![(own[0].clone(), 1)]);
    a.hear("b", Document { debts, ..document(1, 1) }, at(2));
    a.tick(at(3));
    assert_eq!(usize::from(a.limits()), own.len() * 2 - 1);
    a.hear("b", document(3, 1), at(4));
    assert_eq!(usize::from(a.limits()), own.len() * 2);
    a.hear("b", Document { debts: Debts::Everything, ..document(2, 1) }, at(5));
    assert_eq!(usize::from(a.limits()), own.len() * 2, "an older document is nothing");
    a.hear("b", Document { debts: Debts::Everything, ..document(4, 1) }, at(5));
    a.tick(at(6));
    assert_eq!(a.limits(), 0);
}

#[test]
fn a_loan_is_held_used_and_returned_and_stays_dead() {
    let mut b = One::new("b", 8, 1);
    b.view(1, &["a", "b"], at(0));
    b.hear("a", document(1, 1), at(1));
    b.tick(at(2));
    let theirs = b.owned_by("a")[0].clone();
    let word = |it: &One| {
        let found = it.instances.iter().find(|it| it.suffix() == theirs.suffix());
        found.expect("it exists").clone()
    };
    let lends = vec![document::Lend { loan: 5, instance: theirs.clone(), open: true }];
    let lending = |seq, ack| Document { ack, lends: lends.clone(), ..document(seq, 1) };
    b.hear("a", lending(2, 1), at(3));
    assert_eq!((word(&b).word.limit(), b.peers.loans()), (1, (0, 1)));
    assert!(word(&b).word.is(Gate::Foreign) && word(&b).word.take());
    let effects = b.tick(at(4));
    assert_eq!(sent_to("a", &effects).expect("it is due").holds, [5]);
    // The lender's word grows old: nothing more starts.
    b.tick(at(900));
    assert_eq!(word(&b).word.limit(), 0);
    b.hear("a", lending(3, 2), at(901));
    // It acknowledges a document of 4 ms: that is no proof of youth.
    assert_eq!(word(&b).word.limit(), 0);
    let effects = b.tick(at(902));
    let seq = sent_to("a", &effects).map_or(3, |it| it.seq);
    b.hear("a", lending(4, seq), at(903));
    assert_eq!(word(&b).word.limit(), 1);
    // It closes: what runs goes on, then it goes back.
    let closing = vec![document::Lend { open: false, ..lends[0].clone() }];
    b.hear("a", Document { ack: seq, lends: closing, ..document(5, 1) }, at(904));
    assert_eq!((word(&b).word.limit(), b.peers.loans()), (0, (0, 1)));
    word(&b).word.release();
    b.tick(at(960));
    assert_eq!(b.peers.loans(), (0, 0));
    b.hear("a", lending(6, seq), at(970));
    assert_eq!(b.peers.loans(), (0, 0), "it stays dead");
}

#[test]
fn what_is_lent_comes_back_when_the_borrower_has_seen_it_and_does_not_hold_it() {
    let mut a = One::new("a", 8, 1);
    a.view(1, &["a", "b"], at(0));
    a.hear("b", document(1, 1), at(1));
    a.tick(at(2));
    let wants = vec![document::Want { service: service(), count: 1, age_ms: 30 }];
    a.hear("b", Document { wants, ..document(2, 1) }, at(40));
    let effects = a.tick(at(41));
    let claim = effects.iter().find_map(|it| match it {
        Effect::Claim(ticket, _, since) => Some((*ticket, *since)),
        _ => None,
    });
    let (ticket, since) = claim.expect("b is in need");
    assert_eq!(since, at(10), "by its age");
    let own = a.owned_by("a")[0].clone();
    let instance = a.instances.iter().find(|it| it.suffix() == own.suffix()).expect("there");
    assert!(instance.word.take_own());
    let seat = Seat::new(service(), instance.clone(), a.slots.clone());
    let mut effects = Vec::new();
    a.peers.granted(ticket, seat, at(42), &mut effects);
    assert!(effects.is_empty() && a.peers.loans() == (1, 0));
    let effects = a.tick(at(44));
    let sent = sent_to("b", &effects).expect("it changed");
    let (seq, loan) = (sent.seq, sent.lends[0].loan);
    assert!(sent.lends[0].open && sent.lends[0].instance == own);
    let reply =
        |ack, holds: &[u64], number| Document { ack, holds: holds.to_vec(), ..document(number, 1) };
    for (ack, holds, number) in [(seq - 1, &[][..], 3), (seq, &[loan][..], 4)] {
        assert!(a.hear("b", reply(ack, holds, number), at(50)).is_empty());
    }
    let mut effects = a.hear("b", reply(seq, &[], 5), at(60));
    let Some(Effect::Settle(seat)) = effects.pop() else { panic!("{effects:?}") };
    seat.release();
    assert_eq!(a.peers.loans(), (0, 0));
}

#[test]
fn after_a_long_stop_nothing_starts_until_zookeeper_was_asked_and_answered() {
    let mut a = One::new("a", 2, 1);
    a.view(1, &["a"], at(0));
    a.tick(at(1));
    assert_eq!((a.limits(), a.peers.fence()), (2, at(1001)));
    a.tick(at(1002));
    assert!(a.limits() == 0 && a.peers.is_away());
    let members = vec![member("a")];
    let view = View { epoch: 1, members, roster: Vec::new() };
    a.peers.zookeeper(&view, at(1000), at(1003));
    assert_eq!(a.limits(), 0, "it was asked before");
    a.peers.zookeeper(&view, at(1003), at(1004));
    assert_eq!(a.limits(), 2);
    a.tick(at(3000));
    assert_eq!(a.limits(), 0);
    for it in (0..32).map(|it| 3000 + it * 100) {
        a.tick(at(it));
    }
    assert_eq!(a.limits(), 2, "a session has passed without ZooKeeper");
}

/// What `a` gives out of its first instance, on which `v` owed a slot that it had lent to `b`, when
/// `v` has vanished: before `b` has shown that it knows, and after.
fn limits_after_a_loss(rules: Rules) -> (u16, u16) {
    let mut a = One::with(rules, "a", 8, 2);
    a.view(1, &["a", "b", "v"], at(0));
    a.hear("b", document(1, 1), at(1));
    let owned = a.owned_by("a")[0].clone();
    let debts = || Debts::Of(vec![(owned.clone(), 1)]);
    a.hear("v", Document { debts: debts(), ..document(1, 1) }, at(1));
    a.tick(at(2));
    a.view(2, &["a", "b"], at(10));
    a.ticks(10..2000);
    let word = |it: &One| {
        let all = it.instances.iter();
        all.clone().find(|it| it.suffix() == owned.suffix()).expect("there").word.limit()
    };
    let before = word(&a);
    a.hear("b", Document { debts: debts(), ..document(2, 2) }, at(2000));
    a.ticks(2000..4000);
    (before, word(&a))
}

#[test]
fn what_the_vanished_owe_is_written_off_when_all_know_of_it() {
    assert_eq!(limits_after_a_loss(Rules::ALL), (1, 1));
    assert_eq!(limits_after_a_loss(Rules::without(Rule::OthersShown)), (2, 1), "one too many");
}

#[test]
fn nothing_starts_on_what_a_router_was_about_to_kill_when_it_vanished() {
    for (rules, after) in [(Rules::ALL, 0), (Rules::without(Rule::LateOrders), 2)] {
        let mut a = One::with(rules, "a", 1, 2);
        a.view(1, &["a", "b"], at(0));
        let dying = vec![InstanceId::new(&service(), "i0")];
        a.hear("b", Document { dying, ..document(1, 1) }, at(1));
        a.view(2, &["a"], at(10));
        a.ticks(10..8000);
        assert_eq!(a.limits(), after);
        a.ticks(8000..25_000);
        assert_eq!(a.limits(), 2, "the order cannot come so late");
    }
}

#[test]
fn what_others_owe_is_summed_whatever_they_say() {
    let mut a = One::new("a", 4, 2);
    a.view(1, &["a", "b"], at(0));
    let ids: Vec<_> = (0..4).map(|it| InstanceId::new(&service(), &format!("i{it}"))).collect();
    let debts = Debts::Of(vec![(ids[2].clone(), 1), (ids[0].clone(), u32::MAX)]);
    let strange = InstanceId::new(&ServiceId::new("strange"), "i");
    let dying = vec![ids[0].clone(), ids[1].clone(), strange];
    a.hear("b", Document { debts, dying, ..document(1, 1) }, at(1));
    a.tick(at(2));
    let owes = |it: &One| it.peers.peers(at(3))[0].owes;
    assert_eq!(owes(&a), 2 + 2 + 1, "two as a whole, and a slot");
    a.hear("b", Document { debts: Debts::Everything, ..document(2, 1) }, at(4));
    let own = a.peers.ownership(&service()).iter().filter(|it| it.own).count() as u64;
    assert_eq!(owes(&a), own * 2);
    a.hear("b", document(3, 1), at(5));
    assert_eq!((owes(&a), u64::from(a.limits())), (0, own * 2));
}

/// The document that goes to `c`, a newcomer who never heard of `b`, which was about to kill `i0`.
fn told_to_a_newcomer(a: &mut One) -> Document {
    a.view(1, &["a", "b"], at(0));
    let dying = vec![InstanceId::new(&service(), "i0")];
    a.hear("b", Document { dying, ..document(1, 1) }, at(1));
    a.view(2, &["a", "c"], at(10));
    let effects = a.tick(at(11));
    sent_to("c", &effects).expect("it is a member").clone()
}

#[test]
fn orders_of_a_router_are_told_from_the_moment_in_which_it_is_missed() {
    let mut a = One::new("a", 1, 2);
    let doomed = InstanceId::new(&service(), "i0");
    assert_eq!(told_to_a_newcomer(&mut a).doomed, std::slice::from_ref(&doomed));
    // It speaks, though it has vanished: the kill is over.
    let effects = a.hear("b", document(2, 2), at(500));
    assert!(effects.is_empty());
    let effects = a.tick(at(510));
    assert!(sent_to("c", &effects).expect("it changed").doomed.is_empty());
    // It asks for another, and is a member again, which speaks for itself: that is told on.
    a.hear("b", Document { dying: vec![doomed.clone()], ..document(3, 2) }, at(520));
    a.view(3, &["a", "b", "c"], at(530));
    assert!(!a.peers.doomed.has(&doomed));
    let effects = a.tick(at(531));
    assert!(sent_to("b", &effects).expect("it changed").doomed.is_empty());
    assert_eq!(sent_to("c", &effects).expect("it changed").doomed, std::slice::from_ref(&doomed));
    // It is missed for good, and written off: for the hold all hear of it.
    a.view(4, &["a", "c"], at(540));
    a.hear("c", document(1, 4), at(541));
    a.ticks(600..15_000);
    assert!(!a.peers.addressed().any(|it| it.id == router("b")), "it is written off");
    let last =
        |it: &mut One, now| sent_to("c", &it.tick(at(now))).expect("it is due").doomed.clone();
    assert_eq!(last(&mut a, 15_200), [doomed]);
    a.ticks(15_200..25_000);
    assert!(last(&mut a, 25_200).is_empty());
}

#[test]
fn who_was_told_of_an_order_counts_it_when_all_who_knew_of_it_have_ended() {
    let mut c = One::new("c", 1, 2);
    c.view(1, &["a", "b", "c"], at(0));
    let doomed = vec![InstanceId::new(&service(), "i0")];
    c.hear("a", Document { doomed, ..document(1, 1) }, at(1)); // b is gone already
    c.view(2, &["c"], at(10));
    c.ticks(10..15_000);
    assert_eq!(c.limits(), 0);
    c.ticks(15_000..25_000);
    assert_eq!(c.limits(), 2);
}

#[test]
fn what_is_doomed_stays_so_though_it_is_listed_late_or_not_for_a_while() {
    for listed_at_first in [0..1, 0..0] {
        let mut a = One::new("a", 1, 2);
        a.list(listed_at_first, at(0));
        told_to_a_newcomer(&mut a);
        a.hear("c", document(1, 2), at(12));
        a.ticks(100..3000);
        for listed in [0..1, 0..0, 0..1] {
            a.list(listed, at(3000));
            a.ticks(3000..3500);
        }
        a.view(3, &["a"], at(3500)); // now it is a's, whoever owned it before
        a.ticks(3500..8000);
        assert_eq!(a.limits(), 0);
        a.ticks(8000..25_000);
        assert_eq!(a.limits(), 2, "the order cannot come so late");
    }
}

#[test]
fn of_who_was_written_off_nothing_is_kept_and_should_it_return_it_hears_what_is_newer() {
    let mut a = One::new("a", 2, 1);
    a.view(1, &["a", "b"], at(0));
    a.hear("b", document(1, 1), at(1));
    a.ticks(0..1000);
    let seq = sent_to("b", &a.tick(at(1100))).expect("it is due").seq;
    assert!(seq > 5);
    a.view(2, &["a"], at(1200));
    a.ticks(1200..5000);
    assert!(a.peers.links.is_empty() && a.peers.membership.buried.len() == 1);
    a.view(3, &["a", "b"], at(5000));
    let effects = a.tick(at(5001));
    assert!(sent_to("b", &effects).expect("it is a member").seq > seq);
    a.view(4, &["a", "c"], at(5100));
    a.hear("c", document(1, 4), at(5101));
    a.ticks(5100..8000);
    a.view(5, &["a"], at(610_000));
    a.ticks(610_000..615_000);
    let buried: Vec<_> = a.peers.membership.buried.keys().cloned().collect();
    assert_eq!(buried, [router("c")], "of b nobody speaks any more");
}

#[test]
fn debts_that_fit_no_frame_are_said_in_one_word() {
    let long = ServiceId::new(&"s".repeat(200));
    let mut b = One::new("b", 0, 1);
    let one = |it: u64| {
        let address = "10.0.0.1:80".parse().expect("an address");
        Arc::new(Instance::new(&format!("i{it:050}"), address, Date(it), 1))
    };
    let instances: Vec<_> = (0..40_000).map(one).collect();
    let division = Division {
        slots: Arc::default(),
        concurrency: 1,
        balanced: false,
        instances: instances.clone(),
    };
    b.peers.service(&long, &division, at(0));
    b.view(1, &["b"], at(0));
    b.tick(at(1));
    instances.iter().for_each(|it| assert!(it.word.take()));
    b.view(2, &["a"], at(2));
    let debts = |effects: &[Effect]| sent_to("a", effects).expect("it is a member").debts.clone();
    assert_eq!(debts(&b.tick(at(3))), Debts::Everything, "10 MB of ids");
    instances[..10_000].iter().for_each(|it| it.word.release());
    b.ticks(100..300);
    let Debts::Of(list) = debts(&b.tick(at(400))) else { panic!("they fit now") };
    assert_eq!(list.len(), 30_000);
}

/// `a`, with `b` as a member, and one of its instances that `c` would win.
fn before_a_loss(rules: Rules) -> (One, InstanceId) {
    let mut a = One::with(rules, "a", 16, 2);
    a.view(1, &["a", "b", "c"], at(0));
    let lost = a.owned_by("c");
    let mut a = One::with(rules, "a", 16, 2);
    a.view(1, &["a", "b"], at(0));
    a.hear("b", document(1, 1), at(1));
    a.tick(at(2));
    let own = a.owned_by("a").into_iter().find(|it| lost.contains(it));
    (a, own.expect("one of sixteen"))
}

/// What `a` owes `c`, which wins an instance that `a` has locked for a kill by `b`.
fn owed_of_a_lock(rules: Rules) -> Debts {
    let (mut a, id) = before_a_loss(rules);
    let kills = vec![document::Kill { order: 1, instance: id.clone(), left_ms: 1000 }];
    a.hear("b", Document { kills: kills.clone(), ..document(2, 1) }, at(10));
    let mut effects = Vec::new();
    a.peers.locked(&id, true, &mut effects);
    let said = a.tick(at(12));
    assert!(sent_to("b", &said).expect("it changed").consents.iter().all(|it| it.given));
    a.view(2, &["a", "b", "c"], at(20));
    a.hear("b", Document { kills, ..document(3, 2) }, at(21));
    sent_to("c", &a.tick(at(22))).expect("it is a member").debts.clone()
}

#[test]
fn who_wins_a_locked_instance_hears_that_it_is_in_use() {
    let Debts::Of(list) = owed_of_a_lock(Rules::ALL) else { panic!("it can be listed") };
    assert!(matches!(list[..], [(_, 2)]), "{list:?}");
    assert_eq!(owed_of_a_lock(Rules::without(Rule::LockIsDebt)), Debts::Of(Vec::new()));
}

/// Whether a loan to `b` is open after `c` has won the instance.
fn is_open_after_a_loss(rules: Rules) -> bool {
    let (mut a, id) = before_a_loss(rules);
    let wants = vec![document::Want { service: service(), count: 1, age_ms: 30 }];
    a.hear("b", Document { wants, ..document(2, 1) }, at(40));
    let effects = a.tick(at(41));
    let claimed = |it: &Effect| match it {
        Effect::Claim(ticket, ..) => Some(*ticket),
        _ => None,
    };
    let ticket = effects.iter().find_map(claimed).expect("b is in need");
    let instance = a.instances.iter().find(|it| it.suffix() == id.suffix()).expect("there");
    assert!(instance.word.take_own());
    let seat = Seat::new(service(), instance.clone(), a.slots.clone());
    a.peers.granted(ticket, seat, at(42), &mut Vec::new());
    let is_open = |it: &[Effect]| sent_to("b", it).expect("it changed").lends[0].open;
    assert!(is_open(&a.tick(at(44))));
    a.view(2, &["a", "b", "c"], at(50));
    let open = is_open(&a.tick(at(52)));
    a.peers.into_seats().for_each(Seat::release);
    open
}

#[test]
fn a_loan_is_listed_as_closing_once_its_instance_is_lost() {
    assert!(!is_open_after_a_loss(Rules::ALL));
    assert!(is_open_after_a_loss(Rules::without(Rule::ListClosing)));
}
