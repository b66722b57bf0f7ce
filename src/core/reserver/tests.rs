//! The reserver, event by event.

use super::*;
use crate::base::time::Date;
use crate::core::aggregator::DeploymentError;
use crate::core::service::LoadBalancing;
use crate::core::service::testing::queueing;
use crate::core::slots::{Put, Roster};
use crate::core::world::Member;

/// A service at home on shard 0, its reserver, and the seats and answers that came of it.
struct Home {
    reserver: Reserver,
    slots: Arc<ServiceSlots>,
    now: Instant,
    seats: HashMap<u64, Seat>,
}

impl Home {
    fn new(instances: &[Arc<Instance>]) -> Self {
        let slots = Arc::<ServiceSlots>::default();
        let service = version(&slots, instances, None);
        let reserver = Reserver::new(ServiceId::new("s"), Some(service), ShardId(0));
        Self { reserver, slots, now: Instant(0), seats: HashMap::new() }
    }

    /// Lets the reserver hear of something, and writes its replies down.
    fn hear(&mut self, act: impl FnOnce(&mut Reserver, &mut Vec<Reply>)) -> String {
        let mut replies = Vec::new();
        act(&mut self.reserver, &mut replies);
        let told: Vec<_> = replies.into_iter().map(|it| self.tell(it)).collect();
        assert_eq!(self.reserver.waiting(), self.reserver.slots().waiting.count() as usize);
        told.join(", ")
    }

    fn tell(&mut self, reply: Reply) -> String {
        match reply {
            Reply::Grant(ticket, seat) => {
                let told = format!("{} gets {}", ticket.number, seat.instance().suffix());
                assert!(self.seats.insert(ticket.number, seat).is_none(), "one answer");
                told
            }
            Reply::Refuse(ticket, why) => format!("{} refused: {why:?}", ticket.number),
            Reply::Create => "create".into(),
            Reply::Urgent => "urgent".into(),
            Reply::Failures(instance, count) => format!("{} failed {count}", instance.suffix()),
        }
    }

    fn claim(&mut self, number: u64, not: &[&Arc<Instance>]) -> String {
        let claim = Claim {
            ticket: ticket(number),
            service: ServiceId::new("s"),
            description: None,
            not: not.iter().map(|it| (*it).clone()).collect(),
            since: Instant(number),
            asker: Asker::Request,
        };
        self.hear(|it, replies| it.claim(claim, replies))
    }

    /// Another router has waited since then.
    fn claim_for_router(&mut self, number: u64, since: u64) -> String {
        let claim = Claim {
            ticket: ticket(number),
            service: ServiceId::new("s"),
            description: None,
            not: Vec::new(),
            since: Instant(since),
            asker: Asker::Router,
        };
        self.hear(|it, replies| it.claim(claim, replies))
    }

    fn settle(&mut self, number: u64, outcome: Outcome) -> String {
        let seat = self.seats.remove(&number).expect("it has a seat");
        let now = self.now;
        let settle = Settle { seat, outcome };
        self.hear(|it, replies| it.settle(settle, &Limits::PRODUCTION, now, replies))
    }

    fn adopt(&mut self, instances: &[Arc<Instance>]) -> String {
        let service = version(&self.slots, instances, None);
        self.hear(|it, replies| it.adopt(Some(&service), replies))
    }

    fn tick(&mut self, seconds: u64) -> String {
        self.now = Instant(0) + Duration::from_secs(seconds);
        let now = self.now;
        self.hear(|it, replies| it.tick(now, replies))
    }

    fn unlock(&mut self, suffix: &str, gone: bool) -> String {
        self.hear(|it, replies| it.unlock(suffix, gone, replies))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for seat in std::mem::take(&mut self.seats).into_values() {
            seat.release();
        }
    }
}

fn ticket(number: u64) -> Ticket {
    Ticket { shard: ShardId(0), number }
}

fn instance(suffix: &str, started_at: u64, limit: u16) -> Arc<Instance> {
    let address = "127.0.0.1:1".parse().expect("an address");
    Arc::new(Instance::new(suffix, address, Date(started_at), limit))
}

fn pair() -> [Arc<Instance>; 2] {
    [instance("a", 1, 1), instance("b", 2, 1)]
}

/// Publishes a roster of these healthy instances and returns the version of the service with it.
fn version(
    slots: &Arc<ServiceSlots>,
    instances: &[Arc<Instance>],
    deployment_error: Option<DeploymentError>,
) -> Arc<Service> {
    let member = |it: &Arc<Instance>| Member {
        instance: it.clone(),
        healthy: true,
        expired: false,
        starting: false,
    };
    let roster = Roster::new(instances.to_vec(), instances.len(), LoadBalancing::Oldest);
    slots.publish(Arc::new(roster));
    Arc::new(Service {
        description: Arc::new(queueing("s", LoadBalancing::Oldest, 3)),
        slots: slots.clone(),
        members: instances.iter().map(member).collect(),
        deployment_error,
    })
}

#[test]
fn who_came_first_is_served_first() {
    let mut home = Home::new(&[instance("a", 1, 1)]);
    assert_eq!(home.claim(1, &[]), "1 gets a");
    assert_eq!(home.claim(2, &[]), "urgent");
    assert_eq!(home.claim(3, &[]), "");
    assert_eq!(home.claim(4, &[]), "");
    assert_eq!(home.claim(5, &[]), "5 refused: QueueFull(3)");
    home.reserver.withdraw(ticket(3));
    home.reserver.withdraw(ticket(3)); // it is gone already
    assert_eq!(home.settle(1, Outcome::Success), "2 gets a");
    assert_eq!(home.settle(2, Outcome::ClientGone), "4 gets a");
    assert_eq!(home.settle(4, Outcome::Unused), "");
    assert!(!home.slots.waiting.any());
    assert_eq!(home.slots.roster().instances()[0].word.used(), 0);
}

#[test]
fn another_router_is_served_by_the_age_of_its_oldest_and_gets_nothing_borrowed() {
    let [a, b] = pair();
    b.word.close(Gate::Foreign);
    let mut home = Home::new(&[a, b]);
    assert_eq!(home.claim(10, &[]), "10 gets a");
    assert_eq!(home.claim_for_router(90, 15), "urgent", "b is free, but borrowed");
    assert_eq!(home.claim(11, &[]), "11 gets b");
    assert_eq!((home.claim(12, &[]), home.claim(13, &[])), (String::new(), String::new()));
    assert_eq!(home.claim_for_router(91, 12), "");
    assert_eq!(home.reserver.demand(), (2, Some(Instant(12))));
    assert_eq!(home.settle(11, Outcome::Success), "12 gets b");
    assert_eq!(home.settle(10, Outcome::Success), "91 gets a", "before 13 and 90");
    assert_eq!(home.settle(12, Outcome::Success), "13 gets b", "90 may not have it");
    assert_eq!(home.settle(91, Outcome::Unused), "90 gets a");
    assert_eq!(home.reserver.demand(), (0, None));
}

#[test]
fn one_instance_is_locked_by_name() {
    let [a, b] = pair();
    let mut home = Home::new(&[a, b]);
    assert_eq!(home.claim(1, &[]), "1 gets a");
    assert!(!home.reserver.lock("a") && !home.reserver.lock("c"));
    assert!(home.reserver.lock("b") && !home.reserver.lock("b"));
    assert_eq!(home.unlock("b", false), "");
    assert_eq!(home.settle(1, Outcome::Success), "");
}

#[test]
fn an_avoided_instance_goes_to_the_next_unless_it_alone_serves() {
    let [a, b] = pair();
    let mut home = Home::new(&[a.clone(), b]);
    assert_eq!(home.claim(1, &[&a]), "1 gets b");
    assert_eq!(home.claim(2, &[&a]), "urgent", "a is free, but avoided");
    assert_eq!(home.claim(3, &[]), "3 gets a", "it may overtake");
    assert_eq!(home.claim(4, &[]), "");
    assert_eq!(home.settle(3, Outcome::Success), "4 gets a");
    assert_eq!(home.settle(1, Outcome::InstanceError), "b failed 1", "b rests");
    assert_eq!(home.settle(4, Outcome::Success), "2 gets a", "nothing else serves");
}

#[test]
fn an_unknown_service_is_asked_for_once_until_nobody_waits() {
    let mut home = Home::new(&[]);
    home.reserver = Reserver::new(ServiceId::new("s"), None, ShardId(0));
    assert_eq!(home.claim(1, &[]), "create");
    assert_eq!(home.claim(2, &[]), "");
    home.reserver.withdraw(ticket(1));
    home.reserver.withdraw(ticket(2));
    assert_eq!(home.claim(3, &[]), "create", "the first order may have been lost");
    home.slots = home.reserver.slots().clone();
    assert_eq!(home.adopt(&[instance("a", 1, 1)]), "3 gets a");
    assert_eq!(home.claim(4, &[]), "urgent");
    assert_eq!(home.hear(|it, replies| it.adopt(None, replies)), "4 refused: Gone");
    assert!(home.reserver.is_idle());
}

#[test]
fn waiters_move_to_the_slots_of_the_service_that_came() {
    let mut home = Home::new(&[]);
    let first = home.slots.clone();
    assert_eq!(home.claim(1, &[]), "urgent");
    home.slots = Arc::default();
    assert_eq!(home.adopt(&[]), "");
    assert!(!first.waiting.any() && home.slots.waiting.any());
    assert_eq!(home.adopt(&[instance("a", 1, 1)]), "1 gets a");
}

#[test]
fn a_deployment_error_refuses_all() {
    let mut home = Home::new(&[]);
    assert_eq!(home.claim(1, &[]), "urgent");
    let broken = version(&home.slots, &[], Some(DeploymentError::NotEnoughMemory));
    let told = home.hear(|it, replies| it.adopt(Some(&broken), replies));
    assert!(told.starts_with("1 refused: Deployment("), "{told}");
    assert!(home.claim(2, &[]).starts_with("2 refused: Deployment("));
}

#[test]
fn a_failing_instance_rests_longer_each_time() {
    let [a, b] = pair();
    let mut home = Home::new(&[a.clone(), b]);
    let mut now = 0;
    for (failures, rest) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 160)] {
        assert_eq!(home.claim(failures, &[]), format!("{failures} gets a"));
        assert_eq!(home.settle(failures, Outcome::InstanceBusy), format!("a failed {failures}"));
        assert!(!a.word.is_open());
        assert_eq!(home.reserver.ejected(home.now).count(), 1);
        assert_eq!(home.tick(now + rest - 1), "");
        assert!(!a.word.is_open() && home.reserver.wakeup().is_some());
        now += rest;
        assert_eq!(home.tick(now), "");
        assert!(a.word.is_open() && home.reserver.wakeup().is_none());
    }
    assert_eq!(home.claim(7, &[]), "7 gets a");
    assert_eq!(home.settle(7, Outcome::ClientError), "", "that says nothing of the instance (Q6)");
    assert_eq!(home.claim(8, &[]), "8 gets a");
    let seat = home.seats.remove(&8).expect("it has a seat");
    let Put::PassOn(seat) = seat.put() else { panic!("home wants to hear of it") };
    home.seats.insert(8, seat);
    assert_eq!(home.settle(8, Outcome::Success), "a failed 0");
    assert!(!a.word.is(Gate::Failing));
}

#[test]
fn the_end_of_a_rest_serves_who_waits() {
    let mut home = Home::new(&pair());
    assert_eq!((home.claim(1, &[]), home.claim(2, &[])), ("1 gets a".into(), "2 gets b".into()));
    assert_eq!(home.claim(3, &[]), "urgent");
    assert_eq!(home.settle(1, Outcome::InstanceError), "a failed 1");
    assert_eq!(home.tick(10), "3 gets a");
}

#[test]
fn the_last_serveable_instance_is_never_ejected() {
    let [a, b] = pair();
    let mut home = Home::new(&[a.clone(), b.clone()]);
    assert_eq!((home.claim(1, &[]), home.claim(2, &[])), ("1 gets a".into(), "2 gets b".into()));
    // Both shards have closed the gate already.
    a.word.close(Gate::Ejected);
    b.word.close(Gate::Ejected);
    assert_eq!(home.settle(1, Outcome::InstanceError), "a failed 1", "it is counted all the same");
    assert!(a.word.is_open() && a.word.is(Gate::Failing));
    assert_eq!(home.settle(2, Outcome::InstanceError), "b failed 1");
    assert!(!b.word.is_open());
    assert_eq!(home.claim(3, &[]), "3 gets a");
    assert_eq!(home.settle(3, Outcome::InstanceBusy), "a failed 2");
    assert!(a.word.is_open());
}

#[test]
fn a_kill_locks_the_youngest_idle_one_and_gives_it_back() {
    let [a, b] = pair();
    let mut home = Home::new(&[a, b.clone()]);
    assert_eq!(home.claim(1, &[]), "1 gets a");
    let locked = home.reserver.lock_for_kill().expect("b is idle");
    assert!(Arc::ptr_eq(&locked, &b));
    assert!(home.reserver.lock_for_kill().is_none(), "a is in use");
    assert_eq!(home.claim(2, &[]), "urgent");
    assert_eq!(home.unlock("b", false), "2 gets b");
    assert_eq!(home.settle(2, Outcome::Success), "");
    assert!(home.reserver.lock_for_kill().is_some());
    assert_eq!(home.unlock("b", true), "");
    assert!(b.word.is(Gate::Retired) && !b.word.is(Gate::Locked));
    assert_eq!(home.claim(3, &[]), "urgent", "b is gone");
}

#[test]
fn an_instance_that_left_serves_again_when_it_returns() {
    let [a, b] = pair();
    let mut home = Home::new(&[a.clone(), b.clone()]);
    assert_eq!((home.claim(1, &[]), home.claim(2, &[])), ("1 gets a".into(), "2 gets b".into()));
    assert_eq!(home.settle(1, Outcome::InstanceError), "a failed 1");
    assert_eq!(home.adopt(std::slice::from_ref(&b)), "");
    assert!(a.word.is(Gate::Retired) && !a.word.is(Gate::Failing) && !a.word.is(Gate::Ejected));
    assert_eq!(home.claim(3, &[]), "urgent");
    assert_eq!(home.adopt(&[a.clone(), b]), "3 gets a");
    assert!(a.word.is_open());
    assert_eq!(home.adopt(&[]), "");
    a.word.close(Gate::Ejected); // the shard of 3 closes it, then tells home
    assert_eq!(home.settle(3, Outcome::InstanceError), "", "not ours to judge any more");
    assert!(!a.word.is(Gate::Ejected) && a.word.used() == 0);
}

#[test]
fn a_slot_of_an_instance_that_serves_no_longer_is_not_passed_on() {
    let [a, b] = pair();
    let mut home = Home::new(&[a, b.clone()]);
    assert_eq!((home.claim(1, &[]), home.claim(2, &[])), ("1 gets a".into(), "2 gets b".into()));
    assert_eq!(home.claim(3, &[]), "urgent");
    // Unhealthy: still a member, but not in the roster.
    home.slots.publish(Arc::new(Roster::new(vec![b], 1, LoadBalancing::Oldest)));
    assert_eq!(home.settle(1, Outcome::Success), "");
    assert_eq!(home.settle(2, Outcome::Success), "3 gets b");
}
