//! Services on their way into the world: asked for, not listed yet; and those that a scheduler does
//! not take.
//!
//! Must hold: whoever waits for a service waits for something. Either the order to create it is
//! under way, or its app has just been made and is about to be listed, or whoever asks is told why
//! there is none.

use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::control::plane::Plane;
use crate::core::aggregator::DeploymentError;
use crate::core::fact::{Order, Runner, Undone};
use crate::core::service::Description;
use crate::core::slots::ServiceSlots;
use std::collections::HashMap;
use std::sync::Arc;

/// A service that was created is gone if it is missing from so many answers in a row that are
/// believed. The first of them may have been asked for before, and a second chance costs little.
const ANSWERS: u32 = 3;
/// A service that was refused is not asked for again within this time, which doubles with each
/// refusal up to the longest.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Refusals are forgotten after so long without another one.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);

/// How far the creation of a service has come that is not listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Creating {
    /// It was ordered.
    Ordered,
    /// It was carried out; so many answers that are believed have lacked it since.
    CarriedOut(u32),
}

/// A service that a scheduler did not take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusal {
    /// How often in a row.
    count: u32,
    /// It is not asked for before.
    until: Instant,
}

impl Refusal {
    /// One more.
    fn again(&mut self, now: Instant) {
        self.count += 1;
        let (first, longest) = REST;
        self.until = now + (first * 2_u32.pow(self.count.min(8) - 1)).min(longest);
    }

    /// It was declined, and counts for nothing. Whoever waits must hear why before it is asked for
    /// again.
    fn once(&mut self, now: Instant) {
        self.until = self.until.max(now + REST.0);
    }
}

impl Plane {
    /// A request waits for a service that is not known.
    pub(super) fn create(
        &mut self,
        description: &Arc<Description>,
        slots: &Arc<ServiceSlots>,
        now: Instant,
    ) {
        let id = &description.id;
        if self.ending.is_some() {
            return; // home refuses whoever waits for a service that will not come
        }
        if self.refusals.get(id).is_some_and(|it| now < it.until) {
            return; // the world says why there is none
        }
        if self.shares(description) {
            slots.share();
        }
        self.publisher.await_service(description, slots);
        self.aggregator.described(description.clone());
        self.shelf.described(description, slots);
        self.share_description(description);
        self.idle.collected(id); // clocks of a former life do not count
        self.broken.collected(id);
        if !self.creating.contains_key(id) {
            self.creating.insert(id.clone(), Creating::Ordered);
            tracing::info!(service = %id, "starting a service");
            let count = description.parameters.min_instances.max(1);
            self.order(id, Order::Create(description.clone(), count));
        }
    }

    /// The order to create a service was carried out, or was not.
    pub(super) fn created(
        &mut self,
        description: &Arc<Description>,
        result: Result<(), Undone>,
        now: Instant,
    ) {
        let id = &description.id;
        let Err(why) = result else {
            self.refusals.remove(id);
            if let Some(it) = self.creating.get_mut(id) {
                *it = Creating::CarriedOut(0);
            }
            return;
        };
        let wanted = self.creating.remove(id).is_some();
        if self.aggregator.state(id).is_some() {
            return; // it is listed meanwhile, whoever made it
        }
        let is_answered = wanted && self.runner(id) == Some(Runner::Marathon);
        let Some((why, rest)) = said_no(why).filter(|_| is_answered) else {
            // Nobody has said no: whoever waits for it asks again, as long as he waits.
            return self.publisher.remove(id);
        };
        rest(self.refusals.entry(id.clone()).or_default(), now);
        let error = DeploymentError::Refused(why.into());
        self.shelf.refused(description, &error);
        self.publisher.refuse(description, error);
    }

    /// This scheduler has answered, and is believed: what it was told to create is among what it
    /// lists by now, or never came to be. Whoever waits for that asks again.
    pub(super) fn answered_again(&mut self, runner: Runner) {
        let mut creating = std::mem::take(&mut self.creating);
        let lost = missed(&mut creating, |id| self.runner(id) == Some(runner));
        self.creating = creating;
        for id in lost {
            tracing::warn!(service = %id, "a service was created and is not there");
            self.publisher.remove(&id);
        }
    }

    /// Descriptions of what does not run need not all be kept. What is about to be listed, or began
    /// since a scheduler was last heard that does not answer now, may run.
    pub(super) fn trim_shelf(&mut self) {
        let Some(known) = self.runners.known_until() else { return };
        let (creating, misplaced) = (&self.creating, &self.misplaced);
        self.shelf.trim(|id, last_request| {
            creating.contains_key(id)
                || misplaced.contains_key(id)
                || last_request.is_some_and(|it| it >= known)
        });
    }

    /// What was refused may be asked for again when its time has come.
    pub(super) fn forgive(&mut self, now: Instant) {
        let (publisher, creating) = (&mut self.publisher, &self.creating);
        let aggregator = &self.aggregator;
        self.refusals.retain(|id, it| {
            let is_there = creating.contains_key(id) || aggregator.state(id).is_some();
            if now >= it.until && !is_there {
                publisher.remove(id);
            }
            now < it.until + FORGOTTEN
        });
    }
}

/// How a service is left alone that a scheduler did not take.
type Rest = fn(&mut Refusal, Instant);

/// What a scheduler has said, where it said no, and how it is left alone then: what it declined for
/// long may well do now.
fn said_no(why: Undone) -> Option<(String, Rest)> {
    match why {
        Undone::Refused(why) => Some((why, Refusal::again)),
        Undone::Declined(why) => Some((why, Refusal::once)),
        Undone::NotNow(_) => None,
    }
}

/// One more answer lacks these; returns those that have been missing for long enough, which are no
/// longer being created.
fn missed(
    creating: &mut HashMap<ServiceId, Creating>,
    is_asked: impl Fn(&ServiceId) -> bool,
) -> Vec<ServiceId> {
    let mut lost = Vec::new();
    creating.retain(|id, it| {
        let Creating::CarriedOut(missed) = it else { return true };
        if !is_asked(id) {
            return true;
        }
        *missed += 1;
        if *missed >= ANSWERS {
            lost.push(id.clone());
        }
        *missed < ANSWERS
    });
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_created_and_is_missing_again_and_again_is_lost() {
        let [ordered, made, elsewhere] = ["ordered", "made", "elsewhere"].map(ServiceId::new);
        let mut creating = HashMap::from([
            (ordered.clone(), Creating::Ordered),
            (made.clone(), Creating::CarriedOut(0)),
            (elsewhere.clone(), Creating::CarriedOut(0)),
        ]);
        let mut answer = || missed(&mut creating, |id| *id != elsewhere);
        assert_eq!([answer(), answer()], [vec![], vec![]]);
        assert_eq!(answer(), [made]);
        assert_eq!(answer(), []);
        assert_eq!(creating[&ordered], Creating::Ordered);
        assert_eq!(creating[&elsewhere], Creating::CarriedOut(0));
        assert_eq!(creating.len(), 2);
    }

    #[test]
    fn who_is_refused_again_and_again_is_asked_less_and_less_often() {
        let now = Instant(0) + Duration::from_secs(100);
        let mut refusal = Refusal::default();
        let rests = (0..40).map(|_| {
            refusal.again(now);
            (refusal.until - now).as_secs()
        });
        let rests: Vec<u64> = rests.collect();
        assert_eq!(rests[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert!(rests[7..].iter().all(|it| *it == 30));
    }

    #[test]
    fn what_a_scheduler_says_is_told_and_its_silence_is_not() {
        let now = Instant(0) + Duration::from_secs(100);
        let told = |why: Undone, times: usize| {
            let (why, rest) = said_no(why)?;
            let mut refusal = Refusal::default();
            (0..times).for_each(|_| rest(&mut refusal, now));
            Some((why, (refusal.until - now).as_secs()))
        };
        assert_eq!(told(Undone::Refused("r".into()), 3), Some(("r".into(), 4)));
        assert_eq!(told(Undone::Declined("d".into()), 3), Some(("d".into(), 1)), "no less often");
        assert_eq!(told(Undone::NotNow("n".into()), 3), None);
    }
}
