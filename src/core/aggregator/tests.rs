//! Stories of services, told to an aggregator.

use super::{
    Aggregator, CheckError, DeploymentRules, Instability, Instance, Outcome, State, Status,
};
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Duration};
use crate::core::autoscaler::Standing;
use crate::core::fact::{Flags, InstanceFact, Order, Runner, ServiceFact};
use crate::core::fixture;
use crate::core::service::{Description, Origin, Parameters};
use std::sync::Arc;

const RULES: DeploymentRules = DeploymentRules { min_failed: 2, min_hosts: 1 };
/// When all instances were started.
const START: u64 = 10_000_000;

/// An aggregator with one described service, `s`.
struct World {
    aggregator: Aggregator,
    active: Vec<InstanceFact>,
    failed: Vec<InstanceFact>,
    requested: u32,
    orders: Vec<Order>,
}

impl World {
    fn new(parameters: Parameters) -> Self {
        let mut aggregator = Aggregator::new(RULES);
        aggregator.described(fixture::description("s", parameters));
        Self { aggregator, active: vec![], failed: vec![], requested: 1, orders: vec![] }
    }

    /// With so many active instances, named 0, 1, …
    fn with(count: usize) -> Self {
        let mut world = Self::new(fixture::parameters());
        world.active = (0..count).map(|n| fact(n, None)).collect();
        world.requested = count as u32;
        world.list();
        world
    }

    fn list(&mut self) {
        let id = ServiceId::new("s");
        let (active, failed) = (self.active.clone(), self.failed.clone());
        let fact =
            ServiceFact { id, requested: self.requested, active, failed, doubt: String::new() };
        self.aggregator.listed(Runner::Local, vec![fact], Date(START));
    }

    fn check(&mut self, n: usize, outcome: Outcome) {
        self.aggregator.checked(&id(n), outcome, Date(START + 3_000));
    }

    /// The instance ends by itself, and the scheduler says so.
    fn fail(&mut self, n: usize, exit_code: i32) {
        self.active.retain(|it| it.id != id(n));
        self.failed.push(fact(n, Some(exit_code)));
        self.list();
    }

    fn tick(&mut self, seconds: u64) -> Vec<String> {
        self.aggregator.tick(&mut self.orders, Date(START + seconds * 1000));
        self.orders.drain(..).map(|order| format!("{order:?}")).collect()
    }

    fn state(&mut self) -> Arc<State> {
        self.aggregator.changes();
        Arc::clone(self.aggregator.state(&ServiceId::new("s")).expect("listed"))
    }

    fn changes(&mut self) -> usize {
        self.aggregator.changes().len()
    }
}

fn id(n: usize) -> InstanceId {
    InstanceId::new(&ServiceId::new("s"), &format!("{n:02}"))
}

fn fact(n: usize, exit_code: Option<i32>) -> InstanceFact {
    InstanceFact {
        exit_code,
        ..InstanceFact::new(id(n), [127, 0, 0, 1].into(), vec![8000 + n as u16], Date(START))
    }
}

fn names(list: &[Arc<Instance>]) -> String {
    list.iter().map(|it| it.fact.id.suffix()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_service_starts_and_runs() {
    let mut world = World::with(2);
    let state = world.state();
    assert_eq!((names(&state.starting), names(&state.unhealthy)), ("00 01".into(), "00 01".into()));
    assert_eq!(state.status(), Status::Starting);
    world.check(1, Outcome::Healthy);
    let state = world.state();
    assert_eq!((names(&state.healthy), names(&state.starting)), ("01".into(), "00".into()));
    assert_eq!(state.counts.healthy, 1);
    assert_eq!(state.status(), Status::Running);
    assert_eq!(state.boot_time, Some(Duration::from_secs(3)));
}

#[test]
fn only_news_are_changes() {
    let mut world = World::with(2);
    assert_eq!((world.changes(), world.changes()), (1, 0));
    world.list();
    assert_eq!(world.changes(), 0, "the same listing");
    world.check(0, Outcome::Healthy);
    assert_eq!(world.changes(), 1, "healthy");
    world.check(0, Outcome::Healthy);
    assert_eq!(world.changes(), 0, "healthy again");
    world.requested = 3;
    world.list();
    assert_eq!(world.changes(), 1, "requested");
    world.check(1, Outcome::answered(500));
    world.check(1, Outcome::answered(500));
    assert_eq!(world.changes(), 1, "both together");
    world.check(7, Outcome::Healthy);
    assert_eq!(world.changes(), 0, "an unknown instance");
    world.aggregator.listed(Runner::Local, vec![], Date(START));
    let changes = world.aggregator.changes();
    assert!(matches!(changes.as_slice(), [(_, None)]), "{changes:?}");
}

#[test]
fn an_instance_that_has_moved_is_another_one() {
    let mut aggregator = Aggregator::new(RULES);
    let description = fixture::description("s", fixture::parameters());
    let id = description.id.clone();
    aggregator.described(description);
    let tell = |aggregator: &mut Aggregator, ports: Vec<u16>, doubt: &str, at| {
        let instance = InstanceId::new(&id, "1");
        let fact = InstanceFact::new(instance.clone(), [127, 0, 0, 1].into(), ports, Date(START));
        let (active, failed) = (vec![fact], vec![]);
        let service =
            ServiceFact { id: id.clone(), requested: 1, active, failed, doubt: doubt.into() };
        aggregator.changed(Runner::Marathon, vec![service], &[], Date(at));
        aggregator.changes();
        let state = aggregator.state(&id).expect("it is known").clone();
        (instance, state.counts.healthy, state.doubted_since)
    };
    let (instance, healthy, _) = tell(&mut aggregator, vec![1], "", START);
    assert_eq!(healthy, 0);
    aggregator.checked(&instance, Outcome::Healthy, Date(START));
    assert_eq!(tell(&mut aggregator, vec![1, 2], "", START).1, 1);
    assert_eq!(tell(&mut aggregator, vec![], "", START).1, 1, "not told where it is");
    assert_eq!(tell(&mut aggregator, vec![1], "", START).1, 1, "where it was");
    assert_eq!(tell(&mut aggregator, vec![], "", START).1, 1);
    assert_eq!(tell(&mut aggregator, vec![3], "", START).1, 0, "elsewhere");
    // And since when a service is doubted.
    assert_eq!(tell(&mut aggregator, vec![3], "one is missing", 7).2, Some(Date(7)));
    assert_eq!(tell(&mut aggregator, vec![3], "two are missing", 8).2, Some(Date(7)));
    assert_eq!(tell(&mut aggregator, vec![3], "", 9).2, None);
}

#[test]
fn what_is_not_described_is_left_out() {
    let mut aggregator = Aggregator::new(RULES);
    let id = ServiceId::new("unknown");
    aggregator.listed(
        Runner::Local,
        vec![ServiceFact {
            id,
            requested: 1,
            active: vec![],
            failed: vec![],
            doubt: String::new(),
        }],
        Date(START),
    );
    assert!(aggregator.changes().is_empty());
}

#[test]
fn health_is_lost_after_failures_in_a_row() {
    let mut world = World::with(1);
    world.check(0, Outcome::Healthy);
    for _ in 0..4 {
        world.check(0, Outcome::answered(500));
    }
    world.check(0, Outcome::Healthy);
    for _ in 0..4 {
        world.check(0, Outcome::answered(500));
    }
    assert_eq!(names(&world.state().healthy), "00");
    world.check(0, Outcome::answered(503));
    let state = world.state();
    assert_eq!((names(&state.unhealthy), names(&state.starting)), ("00".into(), String::new()));
    assert_eq!(state.unhealthy[0].health_check_status, Some(503));
    world.check(0, Outcome::Healthy);
    assert_eq!(world.state().healthy[0].health_check_status, None);
}

#[test]
fn an_instance_past_its_grace_is_given_up() {
    let mut world = World::with(2);
    world.check(1, Outcome::Healthy);
    world.check(0, Outcome::answered(404));
    assert!(world.tick(30).is_empty());
    let expected = "Fail(InstanceId(\"s.00\"), Flags(14), \
                    \"not healthy within its grace of 30 s; last check: status 404\")";
    assert_eq!(world.tick(31), [expected]);
    assert_eq!(names(&world.state().starting), "");
    assert!(world.tick(32).is_empty(), "asked once");
    assert_eq!(world.tick(41).len(), 1, "and again if nothing happens");
    world.failed.push(InstanceFact { flags: Flags(8), ..fact(0, Some(-15)) });
    world.active.remove(0);
    world.list();
    assert_eq!(world.state().failed[0].fact.flags, Flags(14));
    assert!(world.tick(60).is_empty());
}

#[test]
fn a_router_that_has_just_begun_gives_nobody_up() {
    let mut world = World::new(fixture::parameters());
    world.active = vec![InstanceFact { started_at: Date(START - 3_600_000), ..fact(0, None) }];
    world.active.push(fact(1, None));
    world.list();
    world.check(0, Outcome::answered(500));
    assert!(world.tick(30).is_empty());
    assert_eq!(world.tick(31).len(), 1, "only the one that was checked");
    assert_eq!(names(&world.state().starting), "");
    world.check(0, Outcome::Healthy);
    assert_eq!(world.state().boot_time, None, "its boot was not watched");
}

#[test]
fn without_a_grace_none_is_given_up() {
    let mut world =
        World::new(Parameters { grace_period: Duration::ZERO, ..fixture::parameters() });
    world.active.push(fact(0, None));
    world.list();
    assert!(world.tick(1_000_000).is_empty());
    assert_eq!(names(&world.state().starting), "00");
}

#[test]
fn flags_of_checks_join_the_scheduler_s() {
    let mut world = World::with(1);
    world.check(0, Outcome::failed(CheckError::Hangup));
    world.fail(0, 3);
    let failed = &world.state().failed[0];
    assert_eq!(
        failed.fact.flags.names().collect::<Vec<_>>(),
        ["has-connected", "hangup-exception"]
    );
    assert_eq!(failed.health_check_error, Some(CheckError::Hangup));
}

#[test]
fn never_passed_needs_five_failed_checks() {
    for (checks, healthy, reported, expected) in [
        (4, false, true, Some(Flags(0))),
        (5, false, true, Some(Flags::NEVER_PASSED_HEALTH_CHECKS)),
        (5, false, false, Some(Flags::NEVER_PASSED_HEALTH_CHECKS)),
        (4, false, false, None),
        (9, true, false, None),
        (9, true, true, Some(Flags(6))),
    ] {
        let mut world = World::with(1);
        if healthy {
            world.check(0, Outcome::Healthy);
        }
        for _ in 0..checks {
            world.check(0, Outcome::failed(CheckError::Connect));
        }
        world.active.clear();
        if reported {
            world.failed.push(fact(0, Some(1)));
        }
        world.list();
        let failed = world.state().failed.first().map(|it| it.fact.flags);
        assert_eq!(failed, expected, "{checks} {healthy} {reported}");
    }
}

#[test]
fn deployment_errors_last_while_none_is_healthy() {
    let mut world = World::with(3);
    world.fail(0, 1);
    assert_eq!(world.state().deployment_error, None);
    world.fail(1, 1);
    let state = world.state();
    let error = state.deployment_error.clone().expect("two failed alike");
    assert_eq!((error.key(), error.message()), ("bad-startup-command", "Invalid startup command"));
    assert_eq!(state.status(), Status::Failing);
    world.check(2, Outcome::Healthy);
    let state = world.state();
    assert_eq!((state.deployment_error.clone(), state.status()), (None, Status::Running));
}

#[test]
fn an_instance_that_asks_for_authentication() {
    let mut world = World::with(1);
    world.check(0, Outcome::answered(401));
    let error = world.state().deployment_error.clone().expect("401");
    assert_eq!(error.key(), "health-check-requires-authentication");
}

#[test]
fn memory_makes_a_service_unstable() {
    let mut world = World::with(1);
    world.failed.push(InstanceFact { flags: Flags::MEMORY_LIMIT_EXCEEDED, ..fact(5, Some(-9)) });
    world.list();
    assert_eq!(world.state().instability, Some(Instability::NotEnoughMemory));
}

#[test]
fn the_newest_ten_failed_are_kept_and_all_are_judged() {
    let mut world = World::with(0);
    world.failed = (0..14).map(|n| fact(n, Some(i32::from(n == 0)))).collect();
    world.list();
    let state = world.state();
    assert_eq!(names(&state.failed), "04 05 06 07 08 09 10 11 12 13");
    let error = state.deployment_error.clone().expect("none connected");
    assert_eq!(error.key(), "cannot-connect", "the exit code of the first differs");
}

#[test]
fn killed_ones_are_remembered_in_a_ring_and_are_not_failed() {
    let mut world = World::with(14);
    for n in 0..14 {
        world.check(n, Outcome::Healthy);
        world.aggregator.killed(&id(n));
        world.aggregator.killed(&id(n));
    }
    let state = world.state();
    assert_eq!(names(&state.killed), "02 03 04 05 06 07 08 09 10 11 12 13");
    assert_eq!((names(&state.healthy), state.counts.scheduled), (String::new(), 0));
    world.fail(13, -15);
    assert_eq!(names(&world.state().failed), "");
}

#[test]
fn a_kill_notice_may_come_after_the_end() {
    let mut world = World::with(1);
    for _ in 0..5 {
        world.check(0, Outcome::answered(500));
    }
    world.active.clear();
    world.list();
    assert_eq!(names(&world.state().failed), "00");
    world.aggregator.killed(&id(0));
    let state = world.state();
    assert_eq!((names(&state.failed), names(&state.killed)), (String::new(), "00".into()));
}

#[test]
fn old_instances_and_marked_ones_expire() {
    let expiry = Some(Duration::from_secs(60));
    let mut world = World::new(Parameters { instance_expiry: expiry, ..fixture::parameters() });
    world.active = vec![fact(0, None), InstanceFact { started_at: Date(0), ..fact(1, None) }];
    world.active.push(InstanceFact { started_at: Date(START + 9_000), ..fact(2, None) });
    world.list();
    world.check(0, Outcome::Healthy);
    world.aggregator.expire(&id(1));
    assert_eq!((world.tick(60).len(), names(&world.state().expired)), (0, "01".into()));
    world.tick(61);
    let state = world.state();
    assert_eq!(names(&state.expired), "00 01");
    let standing = Standing::of(&state, 7);
    assert_eq!((standing.expired_healthy, standing.expired_unhealthy), (1, 1));
    assert_eq!((standing.task_count, standing.healthy, standing.outstanding), (3, 1, 7));
    assert_eq!(names(&state.healthy), "00", "an expired instance still takes requests");
    world.list();
    assert_eq!(world.changes(), 0, "a listing does not take the flag away");
    world.tick(70);
    assert_eq!(world.state().expired.len(), 3);
}

fn servers(checked: bool, ports: &[u16]) -> Arc<Description> {
    let mut description = Description::clone(&fixture::description("s", fixture::parameters()));
    description.origin = Origin::Static {
        name: "web".into(),
        addresses: ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect(),
        checked,
    };
    Arc::new(description)
}

#[test]
fn static_servers_are_there_from_their_description_on() {
    let mut aggregator = Aggregator::new(RULES);
    aggregator.described(servers(false, &[8080, 8081]));
    let state = aggregator.changes()[0].1.clone().expect("known");
    assert_eq!(names(&state.healthy), "127-0-0-1-8080 127-0-0-1-8081");
    assert_eq!(state.status(), Status::Running);
    aggregator.listed(Runner::Local, vec![], Date(START));
    aggregator.tick(&mut vec![], Date(u64::MAX / 2));
    let refused = Outcome::failed(CheckError::Connect);
    aggregator.checked(&state.healthy[0].fact.id, refused, Date(5));
    assert!(aggregator.changes().is_empty());
    aggregator.described(servers(false, &[8081]));
    let state = aggregator.changes()[0].1.clone().expect("known");
    assert_eq!(names(&state.healthy), "127-0-0-1-8081");
    aggregator.undescribed(&ServiceId::new("s"));
    assert!(matches!(aggregator.changes().as_slice(), [(_, None)]));
}

#[test]
fn checked_servers_must_pass_first() {
    let mut aggregator = Aggregator::new(RULES);
    aggregator.described(servers(true, &[8080]));
    let state = aggregator.changes()[0].1.clone().expect("known");
    assert_eq!((state.status(), state.unhealthy.len()), (Status::Starting, 1));
    let mut orders = Vec::new();
    aggregator.tick(&mut orders, Date(u64::MAX / 2));
    assert!(orders.is_empty(), "nobody ends a server of the operator");
    aggregator.checked(&state.unhealthy[0].fact.id, Outcome::Healthy, Date(5));
    let state = aggregator.changes()[0].1.clone().expect("known");
    assert_eq!((state.status(), state.boot_time), (Status::Running, None));
}
