//! The books, told as stories: what happened, and what was asked for then.

use super::*;
use crate::base::address::{IpAddr, Ipv4Addr};
use crate::base::time::Date;
use crate::control::schedule::local::tests::description;

/// A ledger, its time, and what it asked for.
#[derive(Default)]
struct Story {
    ledger: Ledger,
    now: Instant,
    launches: u32,
}

impl Story {
    fn with(instances: u32) -> Self {
        let mut story = Self::default();
        let order = Order::Create(Arc::new(description("s", "true")), instances);
        assert_eq!(story.order(order), "");
        story
    }

    /// Carries out launches (named 1, 2, 3…) and returns the rest of the effects in short.
    fn carry_out(&mut self, effects: Vec<Effect>) -> String {
        let mut said = Vec::new();
        for effect in effects {
            match effect {
                Effect::Launch(description) => {
                    self.launches += 1;
                    let fact = fact(&description.id, self.launches);
                    said.push(format!("launch {}", self.launches));
                    self.ledger.launched(fact, self.now);
                }
                Effect::Terminate(id) => said.push(format!("terminate {}", id.suffix())),
                Effect::Kill(id) => said.push(format!("kill {}", id.suffix())),
            }
        }
        said.join(", ")
    }

    fn order(&mut self, order: Order) -> String {
        let mut effects = Vec::new();
        match self.ledger.order(&order, self.now, &mut effects) {
            Ok(()) => self.carry_out(effects),
            Err(error) => error,
        }
    }

    fn ended(&mut self, suffix: u32, exit_code: i32) -> String {
        let mut effects = Vec::new();
        self.ledger.ended(&id(suffix), exit_code, self.now, &mut effects);
        self.carry_out(effects)
    }

    fn outlived(&mut self, suffix: u32) -> String {
        let mut effects = Vec::new();
        self.ledger.outlived(&id(suffix), self.now, &mut effects);
        self.carry_out(effects)
    }

    fn after_ms(&mut self, millis: u64) -> String {
        self.now += Duration::from_millis(millis);
        let mut effects = Vec::new();
        self.ledger.tick(self.now, &mut effects);
        self.carry_out(effects)
    }

    /// Requested, suffixes of the active, suffixes of the failed.
    fn listed(&self) -> String {
        let listing = self.ledger.listing();
        let of = |facts: &[InstanceFact]| {
            facts.iter().map(|it| it.id.suffix().to_owned()).collect::<Vec<_>>().join(" ")
        };
        let line = |it: &ServiceFact| {
            format!("{} | {} | {}", it.requested, of(&it.active), of(&it.failed))
        };
        listing.iter().map(line).collect()
    }
}

fn id(suffix: u32) -> InstanceId {
    InstanceId::new(&ServiceId::new("s"), &suffix.to_string())
}

fn fact(service: &ServiceId, suffix: u32) -> InstanceFact {
    InstanceFact::new(
        InstanceId::new(service, &suffix.to_string()),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        vec![1],
        Date(0),
    )
}

#[test]
fn a_service_is_created_once_and_only_grows() {
    let mut story = Story::with(1);
    assert_eq!(story.after_ms(0), "launch 1");
    assert_eq!(story.order(Order::Create(Arc::new(description("s", "true")), 5)), "");
    assert_eq!(story.order(Order::Scale(ServiceId::new("s"), 3)), "");
    assert_eq!(story.order(Order::Scale(ServiceId::new("s"), 2)), "");
    assert_eq!(story.after_ms(0), "launch 2, launch 3");
    assert_eq!(story.after_ms(1_000), "");
    assert_eq!(story.listed(), "3 | 1 2 3 | ");
    assert_eq!(story.order(Order::Scale(ServiceId::new("t"), 2)), "no such service");
    let none = Order::Create(Arc::new(description("t", "")), 1);
    assert_eq!(story.order(none), "nothing to launch: the service has no command");
}

#[test]
fn a_killed_instance_is_not_replaced_and_gets_its_grace() {
    let mut story = Story::with(2);
    story.after_ms(0);
    assert_eq!(story.order(Order::Kill(id(1))), "terminate 1");
    assert_eq!(story.listed(), "1 | 2 | ");
    assert_eq!(story.ledger.wakeup(), Some(Instant(0) + Duration::from_secs(2)));
    assert_eq!(story.after_ms(1_999), "");
    assert_eq!(story.order(Order::Kill(id(1))), "no such instance");
    assert_eq!(story.after_ms(1), "kill 1");
    assert_eq!(story.ended(1, -9), "");
    assert!(story.ledger.is_ending(&id(1)), "the leader alone is not the group");
    story.ledger.gone(&id(1));
    assert_eq!((story.listed().as_str(), story.ledger.wakeup()), ("1 | 2 | ", None));
}

#[test]
fn who_ends_alone_is_replaced_after_a_pause_and_what_it_leaves_behind_is_ended() {
    let mut story = Story::with(1);
    story.after_ms(0);
    assert_eq!(story.after_ms(10), "");
    assert_eq!(story.ended(1, 3), "terminate 1");
    assert_eq!(story.listed(), "1 |  | 1");
    assert_eq!(story.after_ms(199), "");
    assert_eq!(story.after_ms(1), "launch 2");
    let failed = story.ledger.listing()[0].failed[0].clone();
    assert_eq!((failed.exit_code, failed.message.as_str()), (Some(3), "exited with code 3"));
}

#[test]
fn code_zero_is_a_failure_unless_the_instance_had_lasted() {
    let mut story = Story::with(1);
    assert_eq!(story.after_ms(0), "launch 1");
    assert_eq!(story.after_ms(59_999), "");
    assert_eq!(story.ended(1, 0), "terminate 1");
    assert_eq!(story.listed(), "1 |  | 1");
    let failed = story.ledger.listing()[0].failed[0].clone();
    let message = "ended with code 0; the command must stay in the foreground";
    assert_eq!((failed.exit_code, failed.message.as_str()), (Some(0), message));
    assert_eq!(story.after_ms(200), "launch 2");
    story.after_ms(60_000);
    let loss = story.ledger.ended(&id(2), 0, story.now, &mut Vec::new());
    let (lived, message) = (Duration::from_secs(60), "ended with code 0".to_owned());
    assert_eq!(loss, Some(Loss { lived, message }));
    assert_eq!(story.listed(), "1 |  | 1");
    assert_eq!(story.after_ms(199), "");
    assert_eq!(story.after_ms(1), "launch 3");
    story.after_ms(60_000);
    assert_eq!(story.ended(3, 1), "terminate 3");
    assert_eq!(story.listed(), "1 |  | 1 3");
}

#[test]
fn what_left_the_group_gets_a_grace_of_its_own() {
    let mut story = Story::with(2);
    story.after_ms(0);
    assert_eq!(story.order(Order::Kill(id(1))), "terminate 1");
    assert_eq!(story.after_ms(1_500), "");
    assert_eq!(story.outlived(1), "terminate 1");
    assert_eq!(story.after_ms(1_999), "");
    assert_eq!(story.outlived(1), "");
    assert_eq!(story.after_ms(1), "kill 1");
    assert_eq!(story.outlived(1), "kill 1");
    story.ledger.gone(&id(1));
    story.ledger.uses_memory(&id(2), 65.0, story.now, &mut Vec::new());
    assert_eq!(story.outlived(2), "terminate 2");
    assert_eq!(story.after_ms(0), "kill 2", "who is killed for memory has no grace");
}

#[test]
fn failures_are_named_and_the_oldest_forgotten() {
    let mut story = Story::with(12);
    story.after_ms(0);
    for n in 1..=10 {
        story.ended(n, -11);
    }
    let unhealthy = Order::Fail(id(11), Flags::NEVER_PASSED_HEALTH_CHECKS, "why".to_owned());
    assert_eq!(story.order(unhealthy), "terminate 11");
    let mut effects = Vec::new();
    story.ledger.uses_memory(&id(12), 64.0, story.now, &mut effects);
    assert_eq!(effects, []);
    story.ledger.uses_memory(&id(12), 64.5, story.now, &mut effects);
    assert_eq!(story.carry_out(effects), "kill 12");
    assert_eq!(story.listed(), "12 |  | 3 4 5 6 7 8 9 10 11 12");
    let failed = &story.ledger.listing()[0].failed;
    assert_eq!(failed[7].message, "ended by signal 11");
    assert_eq!(failed[8].message, "why");
    assert_eq!(failed[8].flags, Flags::NEVER_PASSED_HEALTH_CHECKS);
    assert_eq!(failed[9].flags, Flags::MEMORY_LIMIT_EXCEEDED);
    assert_eq!(failed[9].message, "used 64 MiB of memory, above its 64");
}

#[test]
fn the_end_ends_all_and_starts_nothing() {
    let mut story = Story::with(1);
    story.after_ms(0);
    assert_eq!(story.order(Order::Delete(ServiceId::new("s"))), "terminate 1");
    assert_eq!(story.order(Order::Delete(ServiceId::new("s"))), "no such service");
    let again = || Order::Create(Arc::new(description("s", "true")), 1);
    assert_eq!(story.order(again()), "");
    assert_eq!(story.after_ms(0), "launch 2");
    assert_eq!(story.order(Order::End), "terminate 2");
    assert_eq!(story.order(again()), "the scheduler is ending");
    story.ended(2, -15);
    story.ledger.gone(&id(1));
    assert!(!story.ledger.is_closed());
    story.ledger.gone(&id(2));
    assert!(story.ledger.is_closed());
}

#[test]
fn the_end_at_once_kills_all_also_what_is_ending() {
    let mut story = Story::with(2);
    story.after_ms(0);
    assert_eq!(story.order(Order::End), "terminate 1, terminate 2");
    assert_eq!(story.ledger.closing_grace(), TERMINATION_GRACE_LEAST);
    assert_eq!(story.order(Order::EndNow), "kill 1, kill 2");
    assert_eq!(story.order(Order::End), "");
    assert_eq!(story.ledger.closing_grace(), Duration::ZERO);
    assert_eq!(story.outlived(1), "terminate 1");
    assert_eq!(story.after_ms(0), "kill 1");
    let mut story = Story::with(1);
    story.after_ms(0);
    assert_eq!(story.order(Order::EndNow), "terminate 1, kill 1");
    story.ledger.gone(&id(1));
    assert!(story.ledger.is_closed());
}
