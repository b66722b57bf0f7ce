//! The schedulers there are: which one runs a service, how orders reach it, and how far it is
//! believed.

use crate::base::time::{Date, Instant};
use crate::core::aggregator::State;
use crate::core::fact::{Order, Runner, Sight, View};
use crate::core::service::{Parameters, Runners as Names};
use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

/// The schedulers there are; the first is that of services that name none.
#[derive(Debug, Default)]
pub struct Runners {
    names: Names,
    ways: BTreeMap<Runner, Sender<Order>>,
    views: BTreeMap<Runner, Heard>,
}

/// What is known from a scheduler, and when an answer came last that is believed.
#[derive(Debug, Default)]
struct Heard {
    view: View,
    believed: Instant,
}

impl Runners {
    /// No scheduler: nothing can be launched.
    pub fn none() -> Self {
        Self::default()
    }

    /// One more scheduler, which takes its orders here.
    pub fn add(&mut self, runner: Runner, orders: Sender<Order>) {
        self.names.add(runner);
        self.ways.insert(runner, orders);
    }

    /// What is known from a scheduler is now in this state; returns the state before, if it differs
    /// in how far it is believed.
    pub fn seen(&mut self, runner: Runner, view: View, now: Instant) -> Option<View> {
        let heard = self.views.entry(runner).or_default();
        if view.sight == Sight::Fresh {
            heard.believed = now;
        }
        let sight = view.sight;
        let before = std::mem::replace(&mut heard.view, view);
        (before.sight != sight).then_some(before)
    }

    /// Schedulers that are believed on an answer which is too old for that by now, and what is to
    /// be said of them instead: an answer that is waited for says nothing by itself.
    pub fn outdated(&self, now: Instant, date: Date) -> Vec<(Runner, View)> {
        let is_old = |(_, it): &(&Runner, &Heard)| {
            it.view.sight == Sight::Fresh && now - it.believed > it.view.good_for
        };
        let stale = |(runner, it): (&Runner, &Heard)| {
            let age = now - it.believed;
            let why = format!("its last answer came {} ms ago", age.as_millis());
            (*runner, View { sight: Sight::Stale, since: date, why, ..it.view.clone() })
        };
        self.views.iter().filter(is_old).map(stale).collect()
    }

    /// Sends an order. Returns whether there is somebody to carry it out.
    pub fn order(&self, runner: Runner, order: Order) -> bool {
        self.ways.get(&runner).is_some_and(|it| it.send(order).is_ok())
    }

    /// Sends an order to all.
    pub fn order_all(&self, order: &Order) {
        for way in self.ways.values() {
            let _ = way.send(order.clone()); // who has ended needs no order to end
        }
    }

    /// Which scheduler runs a service with these parameters.
    pub fn of(&self, parameters: &Parameters) -> Option<Runner> {
        self.names.of(parameters.scheduler.as_deref())
    }

    /// Whether what this scheduler said is good enough to decide on.
    pub fn is_sure(&self, runner: Runner) -> bool {
        match runner {
            Runner::Local => true,
            Runner::Marathon => {
                self.views.get(&runner).is_some_and(|it| it.view.sight == Sight::Fresh)
            }
        }
    }

    /// Whether what is known of a service is good enough to decide on.
    pub fn is_sure_of(&self, state: &State) -> bool {
        state.doubt.is_empty() && state.runner.is_none_or(|it| self.is_sure(it))
    }

    /// Until when all is known of what they run, as far as they have told it: what was begun later
    /// may run untold. None: one has not been believed yet.
    pub fn known_until(&self) -> Option<Date> {
        let known = |it: &Runner| match it {
            Runner::Local => Some(Date(u64::MAX)),
            Runner::Marathon => {
                let view = &self.views.get(it)?.view;
                let answers = matches!(view.sight, Sight::Fresh | Sight::Doubted);
                view.heard.map(|it| if answers { Date(u64::MAX) } else { it })
            }
        };
        self.ways.keys().map(known).min().unwrap_or(Some(Date(u64::MAX)))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ways.len()
    }

    /// Whether this scheduler is among them.
    pub fn have(&self, runner: Runner) -> bool {
        self.ways.contains_key(&runner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Duration;
    use crate::core::service::testing::description;
    use std::sync::Arc;

    fn view(sight: Sight) -> View {
        View { sight, good_for: Duration::from_secs(7), ..View::default() }
    }

    fn at(seconds: u64) -> Instant {
        Instant(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_decided_only_on_what_is_believed() {
        use Runner::{Local, Marathon};
        let doubted = "it is missing";
        for (sight, runner, doubt, expected) in [
            (None, None, "", true),
            (None, Some(Local), "", true),
            (None, Some(Marathon), "", false),
            (Some(Sight::Unseen), Some(Marathon), "", false),
            (Some(Sight::Fresh), Some(Marathon), "", true),
            (Some(Sight::Stale), Some(Marathon), "", false),
            (Some(Sight::Doubted), Some(Marathon), "", false),
            (Some(Sight::Fresh), Some(Marathon), doubted, false),
            (Some(Sight::Stale), Some(Local), "", true),
            (Some(Sight::Fresh), Some(Local), doubted, false),
            (Some(Sight::Fresh), None, doubted, false),
        ] {
            let mut runners = Runners::none();
            if let Some(sight) = sight {
                runners.seen(Marathon, view(sight), at(0));
            }
            let absent = State::absent(Arc::new(description("s")));
            let state = State { runner, doubt: doubt.into(), ..absent };
            let told = format!("{sight:?} {runner:?} {doubt:?}");
            assert_eq!(runners.is_sure_of(&state), expected, "{told}");
            if let (Some(runner), "") = (runner, doubt) {
                assert_eq!(runners.is_sure(runner), expected, "{told}");
            }
        }
    }

    #[test]
    fn of_a_scheduler_that_does_not_answer_it_is_known_what_it_ran() {
        let (orders, _ordered) = std::sync::mpsc::channel();
        let mut runners = Runners::none();
        let all = Some(Date(u64::MAX));
        assert_eq!(runners.known_until(), all, "there is none");
        runners.add(Runner::Local, orders.clone());
        assert_eq!(runners.known_until(), all);
        runners.add(Runner::Marathon, orders);
        assert_eq!(runners.known_until(), None, "unseen");
        let heard = Some(Date(7));
        for (sight, heard, expected) in [
            (Sight::Stale, None, None),
            (Sight::Doubted, None, None),
            (Sight::Fresh, heard, all),
            (Sight::Stale, heard, heard),
            (Sight::Doubted, heard, all),
        ] {
            runners.seen(Runner::Marathon, View { heard, ..view(sight) }, at(0));
            assert_eq!(runners.known_until(), expected, "{sight:?}");
        }
    }

    #[test]
    fn an_answer_is_believed_until_the_next_one_is_overdue() {
        let mut runners = Runners::none();
        let mut hear = |sight, second| {
            let before = runners.seen(Runner::Marathon, view(sight), at(second));
            before.map(|it| it.sight)
        };
        assert_eq!(hear(Sight::Fresh, 1), Some(Sight::Unseen));
        assert_eq!(hear(Sight::Fresh, 3), None);
        assert!(runners.outdated(at(10), Date(5)).is_empty(), "not yet");
        let outdated = runners.outdated(at(11), Date(5));
        let [(runner, stale)] = &outdated[..] else { panic!("{outdated:?}") };
        assert_eq!((*runner, stale.sight, stale.since), (Runner::Marathon, Sight::Stale, Date(5)));
        assert!(stale.why.contains("8000 ms"), "{}", stale.why);
        runners.seen(*runner, stale.clone(), at(11));
        assert!(!runners.is_sure(Runner::Marathon));
        assert!(runners.outdated(at(99), Date(9)).is_empty(), "that is known");
        runners.seen(Runner::Marathon, view(Sight::Fresh), at(99));
        assert!(runners.is_sure(Runner::Marathon));
    }
}
