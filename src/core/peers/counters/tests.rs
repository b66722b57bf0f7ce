//! What two routers tell each other, whatever is lost on the way.

use super::*;

fn router(name: &str) -> RouterId {
    RouterId::new(name)
}

fn service(number: u64) -> ServiceId {
    ServiceId::new(&format!("s{number}"))
}

fn counts(arrivals: u64, outstanding: u32) -> Tally {
    Tally { arrivals, outstanding, last_request: arrivals, ..Tally::default() }
}

fn pair() -> (Exchange, Exchange) {
    let (mut a, mut b) = (Exchange::default(), Exchange::default());
    a.members(&[router("b")]);
    b.members(&[router("a")]);
    (a, b)
}

/// Two that have told each other what there was when they met.
fn acquainted() -> (Exchange, Exchange) {
    let (mut a, mut b) = pair();
    tell(&mut a, ("a", "b"), &mut b, Instant(0));
    tell(&mut b, ("b", "a"), &mut a, Instant(0));
    (a, b)
}

fn tell(from: &mut Exchange, (name, to): (&str, &str), reader: &mut Exchange, now: Instant) {
    let document = from.document(&router(to)).expect("a member");
    let document = Counters::decode(&document.encode()).expect("it was just written");
    reader.heard(&router(name), document, now);
}

#[test]
fn what_changed_is_told_until_it_is_acknowledged_and_sums_are_of_all() {
    let (mut a, mut b) = acquainted();
    a.state(Fact::Tally(service(1), Some(counts(3, 2))));
    b.state(Fact::Tally(service(1), Some(counts(10, 1))));
    tell(&mut a, ("a", "b"), &mut b, Instant(1));
    assert_eq!(b.sum(&service(1)), Tally { last_request: 10, ..counts(13, 3) });
    let again = a.document(&router("b")).expect("a member");
    assert_eq!(again.facts.len(), 1, "b has not said that it knows");
    tell(&mut b, ("b", "a"), &mut a, Instant(2));
    assert!(a.document(&router("b")).expect("a member").facts.is_empty());
    a.state(Fact::Tally(service(1), Some(counts(3, 2))));
    assert!(a.document(&router("b")).expect("a member").facts.is_empty(), "the same");
    a.state(Fact::Tally(service(1), Some(counts(4, 0))));
    tell(&mut a, ("a", "b"), &mut b, Instant(3));
    b.heard(&router("a"), again, Instant(4)); // it comes late
    assert_eq!(b.sum(&service(1)), Tally { last_request: 10, ..counts(14, 1) });
    b.members(&[]);
    assert_eq!(b.sum(&service(1)), Tally { arrivals: 14, ..counts(10, 1) }, "they did arrive");
}

/// A million requests have arrived at each of two routers, and a hundred a second go on to. By
/// how many a third sees the sum grow, second by second, while `happens` happens in the sixth.
fn growth_seen(happens: impl Fn(&mut Exchange, &mut Exchange)) -> Vec<u64> {
    let (mut a, mut b) = (Exchange::default(), Exchange::default());
    let mut arrivals = 1_000_000;
    a.state(Fact::Tally(service(1), Some(counts(arrivals, 1))));
    b.state(Fact::Tally(service(1), Some(counts(arrivals, 1))));
    a.members(&[router("b")]);
    b.members(&[router("a")]);
    let mut before = b.sum(&service(1)).arrivals;
    let growth = (0..20).map(|second| {
        let now = Instant(second * 1_000_000_000);
        arrivals += 50;
        a.state(Fact::Tally(service(1), Some(counts(arrivals, 1))));
        b.state(Fact::Tally(service(1), Some(counts(arrivals, 1))));
        if second == 6 {
            happens(&mut a, &mut b);
        }
        if second == 12 {
            a.members(&[router("b")]);
            b.members(&[router("a")]);
        }
        if a.document(&router("b")).is_some() {
            tell(&mut a, ("a", "b"), &mut b, now);
            tell(&mut b, ("b", "a"), &mut a, now);
        }
        let sum = b.sum(&service(1)).arrivals;
        sum - std::mem::replace(&mut before, sum)
    });
    growth.collect()
}

#[test]
fn the_sums_of_a_service_do_not_leap_when_routers_come_go_and_return() {
    let both_leave = |a: &mut Exchange, b: &mut Exchange| {
        a.members(&[]);
        b.members(&[]);
    };
    let all = growth_seen(both_leave);
    let wanted = |second| if (1..6).contains(&second) || second > 12 { 100 } else { 50 };
    assert_eq!(all, (0..20).map(wanted).collect::<Vec<u64>>());
    // One of them began anew: what it says was not seen is not taken for a second's.
    let is_replaced = |a: &mut Exchange, b: &mut Exchange| {
        both_leave(a, b);
        *a = Exchange::default();
    };
    assert!(growth_seen(is_replaced).iter().all(|it| *it <= 100));
}

#[test]
fn what_happened_while_a_router_was_not_heard_is_not_taken_for_a_seconds_traffic() {
    let (mut a, mut b) = acquainted();
    let second = |it: u64| Instant(it * 1_000_000_000);
    for (at, arrivals, seen) in [(1, 10, 10), (3, 40, 40), (60, 90_000, 40), (61, 90_020, 60)] {
        a.state(Fact::Tally(service(1), Some(counts(arrivals, 0))));
        tell(&mut a, ("a", "b"), &mut b, second(at));
        assert_eq!(b.sum(&service(1)).arrivals, seen, "{at} s");
    }
}

#[test]
fn no_sum_overflows_whatever_is_said() {
    let (mut a, mut b) = acquainted();
    let most = Tally {
        outstanding: u32::MAX,
        waiting: u32::MAX,
        oldest_ms: u32::MAX,
        outstanding_ms: u64::MAX,
        arrivals: u64::MAX,
        completions: u64::MAX,
        failures: u64::MAX,
        service_ms: u64::MAX,
        last_request: u64::MAX,
    };
    b.state(Fact::Tally(service(1), Some(counts(7, 7))));
    for it in [most, counts(1, 1), Tally { arrivals: u64::MAX, ..counts(1, 1) }, most] {
        a.state(Fact::Tally(service(1), Some(it)));
        tell(&mut a, ("a", "b"), &mut b, Instant(1));
    }
    assert_eq!(b.sum(&service(1)), most);
    a.state(Fact::Tally(service(1), None));
    tell(&mut a, ("a", "b"), &mut b, Instant(2));
    assert_eq!((b.sum(&service(1)).outstanding, b.sum(&service(1)).last_request), (7, 7));
}

#[test]
fn what_is_taken_out_is_forgotten_once_all_have_heard() {
    let (mut a, mut b) = pair();
    let id = InstanceId::new(&service(1), "i");
    a.state(Fact::Health(id.clone(), Some(false)));
    tell(&mut a, ("a", "b"), &mut b, Instant(1));
    assert_eq!(b.health(&router("a"), &id), Some(false));
    a.state(Fact::Health(id.clone(), None));
    tell(&mut a, ("a", "b"), &mut b, Instant(2));
    assert_eq!((b.health(&router("a"), &id), a.facts.len()), (None, 1));
    tell(&mut b, ("b", "a"), &mut a, Instant(3));
    assert_eq!((a.facts.len(), a.order.len()), (0, 0));
}

#[test]
fn more_than_fits_comes_one_after_the_other() {
    let (mut a, mut b) = pair();
    let count = FACTS_MAX as u64 * 2 + 5;
    for it in 0..count {
        a.state(Fact::Tally(service(it), Some(counts(1, 1))));
    }
    for round in 1..=3 {
        tell(&mut a, ("a", "b"), &mut b, Instant(round));
        tell(&mut b, ("b", "a"), &mut a, Instant(round));
    }
    assert_eq!(b.sums.len() as u64, count);
    assert_eq!(b.lag(&router("a"), Instant(5)), Some(Duration::from_nanos(2)));
}

#[test]
fn who_returns_is_told_everything_anew() {
    let (mut a, mut b) = pair();
    a.state(Fact::Tally(service(1), Some(counts(1, 1))));
    a.state(Fact::Tally(service(2), Some(counts(1, 1))));
    tell(&mut a, ("a", "b"), &mut b, Instant(1));
    a.members(&[]);
    a.state(Fact::Tally(service(1), None));
    a.members(&[router("b")]);
    assert!(!a.facts.contains_key(&Key::Service(service(1))), "nobody was there to hear");
    tell(&mut b, ("b", "a"), &mut a, Instant(2)); // an acknowledgement of the former session
    tell(&mut a, ("a", "b"), &mut b, Instant(3));
    assert_eq!((b.sum(&service(1)).outstanding, b.sum(&service(2)).outstanding), (0, 1));
}

#[test]
fn counters_that_are_not_heard_become_stale() {
    let (mut a, mut b) = pair();
    assert_eq!(b.stale(Instant(1)).count(), 1, "never heard");
    tell(&mut a, ("a", "b"), &mut b, Instant(0));
    assert_eq!(b.stale(Instant(0) + STALE_AFTER).count(), 0);
    assert_eq!(b.stale(Instant(1) + STALE_AFTER).count(), 1);
}

/// Whatever is lost, doubled or overtaken: in the end the copy is the original.
#[test]
fn copies_become_what_is_copied() {
    let (mut a, mut b) = pair();
    let mut seed = 7_u64;
    let mut chance = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut under_way = Vec::new();
    for round in 0..2000 {
        let it = chance(9).checked_sub(1).map(|it| counts(round, it as u32));
        a.state(Fact::Tally(service(chance(20)), it));
        under_way.push(a.document(&router("b")).expect("a member"));
        if chance(2) == 0 {
            let at = chance(under_way.len() as u64) as usize;
            let it = under_way[at].clone();
            b.heard(&router("a"), it, Instant(round));
        }
        if chance(3) == 0 {
            tell(&mut b, ("b", "a"), &mut a, Instant(round));
        }
        if under_way.len() > 6 {
            under_way.remove(0);
        }
    }
    tell(&mut b, ("b", "a"), &mut a, Instant(0));
    tell(&mut a, ("a", "b"), &mut b, Instant(0));
    for it in 0..20 {
        let original = a.facts.get(&Key::Service(service(it))).and_then(|(_, it)| tally(it));
        assert_eq!(b.of(&router("a"), &service(it)), original, "{it}");
        let levels = |of: &Exchange| both(of.sum(&service(it)), Tally::default());
        assert_eq!(levels(&a), levels(&b), "{it}");
    }
}

/// More services than one document tells of.
const MANY: u64 = FACTS_MAX as u64 * 3 / 2;

/// In each of these seconds something happens to every one of many services of a.
fn busy_seconds(a: &mut Exchange, b: &mut Exchange, seconds: std::ops::Range<u64>) {
    for second in seconds {
        for it in 0..MANY {
            a.state(Fact::Tally(service(it), Some(counts(second * 10, 1))));
        }
        tell(a, ("a", "b"), b, Instant(second * 1_000_000_000));
        tell(b, ("b", "a"), a, Instant(second * 1_000_000_000));
    }
}

#[test]
fn where_more_changes_than_can_be_told_each_service_has_its_turn_and_is_counted() {
    let (mut a, mut b) = pair();
    busy_seconds(&mut a, &mut b, 1..9);
    let grew = (0..MANY).map(|it| b.sum(&service(it)).arrivals);
    let (least, most) = (grew.clone().min(), grew.max());
    // What was told first had happened before; the last second or two are still to be told.
    assert!(least >= Some(40) && most <= Some(70), "{least:?} {most:?}");
    assert_eq!(b.stale(Instant(9_000_000_000)).count(), 0);
}

#[test]
fn what_a_busy_router_counted_unheard_is_not_taken_for_a_seconds_traffic() {
    let (mut a, mut b) = pair();
    busy_seconds(&mut a, &mut b, 1..4);
    let sums = |of: &Exchange| (0..MANY).map(|it| of.sum(&service(it)).arrivals).collect();
    let before: Vec<u64> = sums(&b);
    busy_seconds(&mut a, &mut b, 1000..1004);
    let after: Vec<u64> = sums(&b);
    let grew = before.iter().zip(&after).map(|(before, after)| after - before);
    assert!(grew.clone().all(|it| it <= 30) && grew.clone().any(|it| it > 0), "{:?}", grew.max());
}
