//! Health checks of instances whose slots are lent.

use super::*;

/// `a`, which has lent all slots of an instance to `b`; and the document that said so.
fn lender() -> (One, InstanceId, u64) {
    let mut a = One::new("a", 8, 2);
    a.view(1, &["a", "b"], at(0));
    let own = a.owned_by("a")[0].clone();
    a.hear("b", document(1, 1), at(1));
    a.tick(at(2));
    let wants = vec![document::Want { service: service(), count: 2, age_ms: 30 }];
    a.hear("b", Document { wants, ..document(2, 1) }, at(40));
    let effects = a.tick(at(41));
    let claim = |it: &Effect| match it {
        Effect::Claim(ticket, ..) => Some(*ticket),
        _ => None,
    };
    let tickets: Vec<u64> = effects.iter().filter_map(claim).collect();
    assert_eq!(tickets.len(), 2);
    for ticket in tickets {
        let instance = instance(&a, &own);
        assert!(instance.word.take_own());
        let seat = Seat::new(service(), instance, a.slots.clone());
        a.peers.granted(ticket, seat, at(42), &mut Vec::new());
    }
    let seq = sent_to("b", &a.tick(at(44))).expect("it changed").seq;
    (a, own, seq)
}

fn instance(a: &One, id: &InstanceId) -> Arc<Instance> {
    a.instances.iter().find(|it| it.suffix() == id.suffix()).expect("it is there").clone()
}

/// What `a` lends, as it tells `b` now: the numbers of the loans, and which are open.
fn lends(a: &mut One, now: u64) -> (u64, Vec<(u64, bool)>) {
    let effects = a.tick(at(now));
    let sent = sent_to("b", &effects).expect("it changed");
    (sent.seq, sent.lends.iter().map(|it| (it.loan, it.open)).collect())
}

/// `b` holds these, and nobody waits there, or somebody does.
fn holds(number: u64, ack: u64, loans: &[u64], waiting: u32) -> Document {
    let wants = (waiting > 0)
        .then(|| document::Want { service: service(), count: waiting, age_ms: 5 })
        .into_iter()
        .collect();
    Document { ack, holds: loans.to_vec(), wants, ..document(number, 1) }
}

fn end(a: One) {
    a.peers.into_seats().for_each(Seat::release);
}

#[test]
fn a_check_for_which_there_is_no_slot_gets_one_that_lay_idle_elsewhere() {
    let (mut a, own, seq) = lender();
    a.hear("b", holds(3, seq, &[], 0), at(45)).into_iter().for_each(give_up);
    assert_eq!(a.peers.loans().0, 0, "they went back by themselves");
    let (mut a, own_again, _) = lender();
    assert_eq!(own, own_again);
    a.peers.unchecked(&own);
    let (seq, loans) = lends(&mut a, 50);
    let called: Vec<u64> = loans.iter().filter(|it| !it.1).map(|it| it.0).collect();
    assert_eq!((loans.len(), called.len()), (2, 1), "one is called back, the other stays");
    a.peers.unchecked(&own);
    let (_, same) = lends(&mut a, 151);
    assert_eq!(same, loans, "it is on its way");
    let rest: Vec<u64> = loans.iter().map(|it| it.0).filter(|it| !called.contains(it)).collect();
    let mut effects = a.hear("b", holds(3, seq, &rest, 0), at(152));
    let Some(Effect::Check(seat)) = effects.pop() else { panic!("{effects:?}") };
    assert_eq!(seat.instance().id(seat.service()), own);
    assert_eq!((instance(&a, &own).word.used(), a.peers.loans().0), (2, 1), "it is in use");
    seat.release();
    end(a);
}

fn give_up(effect: Effect) {
    match effect {
        Effect::Settle(seat) | Effect::Check(seat) => seat.release(),
        _ => {}
    }
}

#[test]
fn a_check_takes_no_slot_from_who_waits() {
    let (mut a, own, _) = lender();
    a.peers.unchecked(&own);
    let (seq, _) = lends(&mut a, 50);
    let effects = a.hear("b", holds(3, seq, &[], 1), at(60));
    assert!(effects.iter().all(|it| !matches!(it, Effect::Check(_))), "b waits: {effects:?}");
    effects.into_iter().for_each(give_up);
    end(a);
    let (mut a, own, _) = lender();
    a.peers.unchecked(&own);
    let (seq, _) = lends(&mut a, 50);
    a.slots.waiting.announce(1);
    let effects = a.hear("b", holds(3, seq, &[], 0), at(60));
    assert!(effects.iter().all(|it| !matches!(it, Effect::Check(_))), "here: {effects:?}");
    effects.into_iter().for_each(give_up);
    end(a);
}

#[test]
fn nothing_is_called_back_where_requests_are_the_check() {
    let (mut a, own, seq) = lender();
    let loans: Vec<u64> = a.peers.links[&router("b")].lent.keys().copied().collect();
    a.hear("b", holds(3, seq, &loans[..1], 0), at(45)).into_iter().for_each(give_up);
    assert!(instance(&a, &own).word.take(), "it is in use here");
    a.peers.unchecked(&own);
    let (_, open) = lends(&mut a, 50);
    assert!(open.iter().all(|it| it.1), "{open:?}");
    instance(&a, &own).word.release();
    end(a);
}
