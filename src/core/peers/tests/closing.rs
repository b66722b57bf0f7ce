//! Services that somebody wants to delete, and marks of those who vanished.

use super::*;

#[test]
fn a_service_is_deleted_when_all_have_closed_it() {
    let mut a = One::new("a", 1, 1);
    a.view(1, &["a", "b"], at(0));
    a.hear("b", document(1, 1), at(1));
    a.tick(at(2));
    a.peers.delete(&service());
    let effects = a.tick(at(3));
    assert!(effects.iter().any(|it| matches!(it, Effect::Close(_))));
    a.peers.closed(&service());
    assert!(!a.peers.may_delete(&service(), at(3)), "b has not closed it");
    let effects = a.tick(at(5));
    let sent = sent_to("b", &effects).expect("it changed");
    assert_eq!((&sent.deleting, &sent.closing), (&vec![service()], &vec![service()]));
    let ack = sent.seq;
    a.hear("b", Document { ack, closing: vec![service()], ..document(2, 1) }, at(6));
    assert!(a.peers.may_delete(&service(), at(6)));
    a.peers.delete_over(&service());
    let effects = a.tick(at(7));
    assert!(effects.iter().any(|it| matches!(it, Effect::Reopen(_))));
}

#[test]
fn a_deletion_is_not_answered_by_what_was_said_to_a_former_one() {
    let mut a = One::new("a", 1, 1);
    a.view(1, &["a", "b"], at(0));
    a.hear("b", document(1, 1), at(1));
    a.peers.delete(&service());
    let seq = sent_to("b", &a.tick(at(2))).expect("it changed").seq;
    a.peers.closed(&service());
    let stated = |number, ack| Document { ack, closing: vec![service()], ..document(number, 1) };
    a.hear("b", stated(2, seq), at(3));
    assert!(a.peers.may_delete(&service(), at(3)));
    a.peers.delete_over(&service());
    a.peers.delete(&service());
    assert!(!a.peers.may_delete(&service(), at(3)), "b may hear that it was given up, and open");
    let seq = sent_to("b", &a.tick(at(5))).expect("it changed").seq;
    a.hear("b", stated(3, seq - 1), at(6));
    assert!(!a.peers.may_delete(&service(), at(6)));
    a.hear("b", stated(4, seq), at(7));
    assert!(a.peers.may_delete(&service(), at(7)));
}

#[test]
fn nothing_starts_of_a_service_that_is_stated_to_be_closed() {
    let mut a = One::new("a", 3, 2);
    a.list(0..2, at(0));
    a.view(1, &["a"], at(1));
    a.tick(at(2));
    a.peers.delete(&service());
    a.tick(at(3));
    // One is listed that home had not seen when it closed the others: it is in use.
    assert!(a.instances[1].word.take());
    a.peers.closed(&service());
    assert!(!a.peers.may_delete(&service(), at(3)) && a.limits() == 4);
    a.instances[1].word.release();
    a.peers.closed(&service());
    assert!(a.peers.may_delete(&service(), at(3)) && a.limits() == 0);
    // Another is listed later, and all are won anew: all stay shut until nobody wants it.
    a.list(0..3, at(10));
    a.view(2, &["a", "b"], at(20));
    a.hear("b", document(1, 2), at(21));
    a.view(3, &["a"], at(30));
    a.ticks(100..3000);
    assert_eq!(a.limits(), 0);
    a.peers.delete_over(&service());
    a.ticks(3000..3100);
    assert_eq!(a.limits(), 6);
}

#[test]
fn documents_are_read_as_they_were_written_and_bounded() {
    let mut it = document(1, 2);
    it.members = Some(vec![member("a"), member("b")]);
    it.debts = Debts::Of(vec![(InstanceId::new(&service(), "i"), 3)]);
    it.holds = vec![1, 2, 3];
    let bytes = it.encode();
    assert_eq!(Document::decode(&bytes), Ok(it.clone()));
    for end in 0..bytes.len() {
        assert_eq!(Document::decode(&bytes[..end]), Err(Unreadable::Malformed));
    }
    it.holds = vec![0; document::LOANS_MAX + 1];
    assert_eq!(Document::decode(&it.encode()), Err(Unreadable::TooLong("holds")));
    let debts = Debts::Of(Vec::new());
    assert_eq!(document(1, 1).debts, debts);
}

#[test]
fn who_wants_to_delete_is_heeded_as_long_as_it_is_heard() {
    let mut a = One::new("a", 1, 1);
    a.view(1, &["a", "b"], at(0));
    a.hear("b", Document { deleting: vec![service()], ..document(1, 1) }, at(1));
    a.tick(at(2));
    a.peers.closed(&service());
    assert_eq!(a.limits(), 0);
    // It stays a member, and is silent: it has long given up.
    let long = Settings::new(Duration::from_secs(3));
    let heeded = (long.session + long.lock_hold).as_millis() as u64;
    a.ticks(100..heeded);
    assert!(a.peers.closing.is_closed(&service()));
    let effects = a.tick(at(heeded + 2));
    assert!(effects.iter().any(|it| matches!(it, Effect::Reopen(_))));
}

/// What `a` gives out after these milliseconds, when `b` has vanished, which wanted to delete the
/// service.
fn limits_after_a_deleter(rules: Rules, looks: &[u64]) -> Vec<u16> {
    let mut a = One::with(rules, "a", 1, 2);
    a.view(1, &["a", "b"], at(0));
    a.hear("b", Document { deleting: vec![service()], ..document(1, 1) }, at(1));
    a.tick(at(2));
    a.peers.closed(&service());
    a.view(2, &["a"], at(10));
    let mut before = 10;
    let look = |until: &u64| {
        a.ticks(before..*until);
        before = *until;
        a.limits()
    };
    looks.iter().map(look).collect()
}

#[test]
fn what_a_router_wanted_to_delete_when_it_vanished_stays_closed_for_the_hold() {
    // It is written off after the grace, and its order cannot come later than the hold.
    let looks = [1000, 8000, 20_900, 21_500];
    assert_eq!(limits_after_a_deleter(Rules::ALL, &looks), [0, 0, 0, 2]);
    let open = limits_after_a_deleter(Rules::without(Rule::LateDeletions), &looks[1..]);
    assert_eq!(open, [2, 2, 2]);
}

#[test]
fn what_is_in_use_when_its_deleter_vanishes_was_not_deleted() {
    let mut a = One::new("a", 1, 2);
    a.view(1, &["a"], at(0));
    a.tick(at(1));
    assert!(a.instances[0].word.take());
    a.view(2, &["a", "b"], at(2));
    a.hear("b", Document { deleting: vec![service()], ..document(1, 2) }, at(3));
    a.tick(at(4));
    a.view(3, &["a"], at(10));
    let effects = a.tick(at(11));
    assert!(effects.iter().any(|it| matches!(it, Effect::Reopen(_))), "{effects:?}");
    a.instances[0].word.release();
}

#[test]
fn a_deletion_ends_when_its_router_says_so_though_it_has_vanished() {
    let mut a = One::new("a", 1, 2);
    a.view(1, &["a", "b"], at(0));
    a.hear("b", Document { deleting: vec![service()], ..document(1, 1) }, at(1));
    a.tick(at(2));
    a.peers.closed(&service());
    a.view(2, &["a"], at(10));
    a.tick(at(11));
    assert_eq!((a.limits(), a.peers.marks()), (0, (0, 1)));
    a.hear("b", document(2, 2), at(20));
    let effects = a.tick(at(21));
    assert!(effects.iter().any(|it| matches!(it, Effect::Reopen(_))), "{effects:?}");
    assert_eq!(a.peers.marks(), (0, 0));
}

#[test]
fn a_newcomer_gives_nothing_out_of_what_others_state_to_be_closed() {
    let closing = || vec![service()];
    let mut c = One::new("c", 8, 1);
    c.view(1, &["a", "c"], at(0)); // who wanted to delete it is gone already
    c.hear("a", Document { closing: closing(), ..document(1, 1) }, at(1));
    c.ticks(100..1000);
    assert_eq!(c.limits(), 0);
    // Now the one that knew has ended too.
    c.view(2, &["c"], at(1000));
    c.ticks(1000..20_000);
    assert_eq!(c.limits(), 0);
    c.ticks(20_000..24_000);
    assert_eq!(c.limits(), 8);
    // Had it opened the service before, it would have been given out at once.
    let mut c = One::new("c", 8, 1);
    c.view(1, &["a", "c"], at(0));
    c.hear("a", Document { closing: closing(), ..document(1, 1) }, at(1));
    c.ticks(100..1000);
    c.hear("a", document(2, 1), at(1000));
    c.tick(at(1001));
    assert_eq!(usize::from(c.limits()), c.owned_by("c").len());
}

#[test]
fn two_who_vanished_and_still_talk_keep_no_mark_alive() {
    let mut a = One::new("a", 1, 1);
    a.view(1, &["a", "b", "c"], at(0));
    for other in ["b", "c"] {
        a.hear(other, document(1, 1), at(1));
    }
    a.tick(at(2));
    a.view(2, &["c"], at(10));
    let instance = InstanceId::new(&service(), "i0");
    // b tells on what it has from this router, which has it from b.
    let told = || Document { doomed: vec![instance.clone()], ..document(2, 2) };
    a.hear("b", told(), at(20));
    let effects = a.tick(at(30));
    assert!(!a.peers.doomed.has(&instance), "no mark of its own");
    assert!(sent_to("c", &effects).is_none_or(|it| it.doomed.is_empty()));
}
