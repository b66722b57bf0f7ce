//! The threads that carry orders out. Each order of a service goes to the same thread, so one is
//! carried out after the other; a call may take its time there.

use super::client::Client;
use super::descriptor::Common;
use super::flows::{Call, Deployments, Flow, Outcome, Pending};
use super::{Note, Notes};
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::core::fact::{Order, Report, Undone};
use crate::mesh::clock;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

/// A service that cannot be created is tried again for so long; a stop that takes longer than its
/// bound is cancelled before.
const CREATE_PATIENCE: Duration = Duration::from_secs(6 * 60);
/// Pauses between tries to create: the first, which doubles, and the longest.
const CREATE_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// An order that was not carried out is answered after so long, so that the next try is not at
/// once.
const REST: Duration = Duration::from_secs(1);
/// A kill, or a deletion, of which nothing is known is read back for so long after its deadline.
const HOLD: Duration = Duration::from_secs(20);
/// A count that does not fit is looked after within this time.
const RECONCILE: Duration = Duration::from_secs(30);
/// Tries to delete, and the pause before the second; each is half as long again as the one before.
const DELETE_TRIES: u32 = 5;
const DELETE_PAUSE: Duration = Duration::from_millis(200);

/// What a worker is asked to do.
#[derive(Debug)]
pub(super) enum Task {
    /// Carry out an order.
    Order(Order),
    /// Set the count of a service to that of its tasks, as seen then, if nothing else is under way.
    Reconcile(ServiceId, u32, Instant),
}

/// Something to be done at its time.
#[derive(Debug)]
struct Job {
    order: Order,
    tries: u32,
    begun: Instant,
    /// What remains to be done.
    step: Step,
    /// Deletions that were asked for so far may be carried out yet: until then.
    unsure: Option<(Pending, Instant)>,
    /// Until then this router is sure to have been a member ever since it was ordered.
    member_until: Instant,
}

#[derive(Debug)]
enum Step {
    Carry,
    /// Nobody knows what came of it, which was heard by this deadline or never will be.
    ReadBack(Pending, Instant),
    /// All is said: only the answer waits.
    Answer(Result<(), String>),
}

/// What follows from an outcome.
#[derive(Debug, PartialEq)]
enum Next {
    Answer(Result<(), Undone>),
    AnswerLater(String),
    Again(Duration),
    ReadBack(Pending),
}

/// One worker.
pub(super) struct Worker<R> {
    pub(super) client: Client,
    pub(super) common: Common,
    pub(super) reports: R,
    pub(super) notes: Notes,
    pub(super) deployments: Deployments,
    jobs: BTreeMap<(Instant, u64), Job>,
    number: u64,
}

impl<R: Fn(Report)> Worker<R> {
    pub(super) fn new(client: Client, common: Common, reports: R, notes: Notes) -> Self {
        Self {
            client,
            common,
            reports,
            notes,
            deployments: Deployments::default(),
            jobs: BTreeMap::new(),
            number: 0,
        }
    }

    /// Works until nobody can ask for anything any more.
    pub(super) fn run(mut self, tasks: &Receiver<Task>) {
        loop {
            let due = self.jobs.first_key_value().map(|((at, _), _)| *at);
            let nap = due.map_or(Duration::from_secs(60), |it| it - clock::now());
            match tasks.recv_timeout(nap) {
                Ok(Task::Order(order)) => self.take(order),
                Ok(Task::Reconcile(service, tasks, seen)) => self.reconcile(&service, tasks, seen),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.work();
        }
    }

    fn take(&mut self, order: Order) {
        if let Order::Delete(service) = &order {
            self.withdraw(service);
        }
        let (begun, step) = (clock::now(), Step::Carry);
        let member_until = begun + self.client.member_for();
        let job = Job { order, tries: 0, begun, step, unsure: None, member_until };
        self.put(job, Duration::ZERO);
    }

    /// What is still to be created is not, when it is to be deleted.
    fn withdraw(&mut self, service: &ServiceId) {
        let is_create = |it: &Job| matches!(&it.order, Order::Create(it, _) if it.id == *service);
        let keys: Vec<(Instant, u64)> =
            self.jobs.iter().filter(|(_, it)| is_create(it)).map(|(key, _)| *key).collect();
        // Whoever deletes it waits for that no longer, and an answer could be taken for that to
        // the next order.
        for key in keys {
            self.jobs.remove(&key);
        }
    }

    fn put(&mut self, job: Job, after: Duration) {
        self.number += 1;
        self.jobs.insert((clock::now() + after, self.number), job);
    }

    /// Does what is due.
    fn work(&mut self) {
        while let Some(entry) = self.jobs.first_entry() {
            if entry.key().0 > clock::now() {
                return;
            }
            let job = entry.remove();
            self.step(job);
        }
    }

    fn step(&mut self, mut job: Job) {
        match job.step {
            Step::Answer(Ok(())) => return self.answer(job.order, Ok(())),
            Step::Answer(Err(why)) => {
                return (self.reports)(Report::Done(job.order, Err(Undone::NotNow(why))));
            }
            Step::Carry | Step::ReadBack(..) => {}
        }
        if self.waits_for_a_deletion(&job.order) {
            return self.put(job, DELETE_PAUSE);
        }
        let outcome = match self.may_go_on(&mut job) {
            true => self.carry_out(&job),
            false => Outcome::Refused("this router may have been no member meanwhile".into()),
        };
        job.tries += 1;
        let now = clock::now();
        let deadline = match job.step {
            Step::ReadBack(_, deadline) => deadline,
            Step::Carry | Step::Answer(_) => now + self.client.deadline(),
        };
        let since = if matches!(outcome, Outcome::Pending(_)) { deadline } else { job.begun };
        if let (Outcome::Pending(pending), Order::Delete(_)) = (&outcome, &job.order) {
            job.unsure = Some((pending.clone(), deadline));
        }
        let next = next(&job.order, outcome, job.tries, now - since);
        let unsure = job.unsure.clone().filter(|(_, until)| now <= *until);
        match (next, unsure) {
            // Nothing begins anew, and nothing is given up, as long as one may be carried out.
            (Next::Answer(Ok(())), Some((_, until))) => {
                job.step = Step::Answer(Ok(()));
                self.put(job, until - now);
            }
            (Next::Answer(Err(_)), Some((pending, until))) => {
                job.step = Step::ReadBack(pending, until);
                self.put(job, REST);
            }
            (next, _) => self.follow(job, next, deadline),
        }
    }

    /// What is to be created waits until its deletion is over: one that comes late takes it along.
    fn waits_for_a_deletion(&self, order: &Order) -> bool {
        let Order::Create(description, _) = order else { return false };
        let is_it = |it: &Job| matches!(&it.order, Order::Delete(id) if *id == description.id);
        self.jobs.values().any(is_it)
    }

    /// A deletion is asked for again only if the others cannot have opened the service meanwhile:
    /// it is closed as long as this router is a member, and wants it.
    fn may_go_on(&self, job: &mut Job) -> bool {
        let asks = matches!((&job.order, &job.step), (Order::Delete(_), Step::Carry));
        let now = clock::now();
        if asks && now > job.member_until {
            return false;
        }
        job.member_until = job.member_until.max(now + self.client.member_for());
        true
    }

    fn follow(&mut self, mut job: Job, next: Next, deadline: Instant) {
        match next {
            Next::Answer(result) => self.answer(job.order, result),
            Next::AnswerLater(why) => {
                self.note(Note::Touched(service_of(&job.order)));
                job.step = Step::Answer(Err(why));
                self.put(job, REST);
            }
            Next::Again(after) => self.put(job, after),
            Next::ReadBack(pending) => {
                job.step = Step::ReadBack(pending, deadline);
                self.put(job, REST);
            }
        }
    }

    fn answer(&self, order: Order, result: Result<(), Undone>) {
        let done = clock::now();
        match (&order, &result) {
            (Order::Delete(service), Ok(())) => self.note(Note::Deleted(service.clone(), done)),
            (Order::Kill(instance), Ok(())) => self.note(Note::Ended(instance.clone())),
            _ => {}
        }
        if !matches!(order, Order::Fail(..)) {
            self.note(Note::Touched(service_of(&order)));
        }
        (self.reports)(Report::Done(order, result));
    }

    fn note(&self, note: Note) {
        let _ = self.notes.tell(note); // who collects has ended with the router
    }

    fn carry_out(&mut self, job: &Job) -> Outcome {
        let common = self.common.clone();
        self.flow(|flow| match (&job.order, &job.step) {
            (Order::Create(description, count), _) => flow.create(description, *count, &common),
            (Order::Scale(service, count), _) => flow.scale(service, *count),
            (Order::Kill(instance), Step::ReadBack(pending, deadline)) => {
                flow.read_back(instance, pending.clone(), *deadline)
            }
            (Order::Kill(instance), _) => flow.kill(instance),
            (Order::Delete(service), Step::ReadBack(pending, deadline)) => {
                flow.deleted_after_all(service, pending.why.clone(), *deadline)
            }
            (Order::Delete(service), _) => flow.delete(service),
            // Marathon's own health checks give up what does not become healthy in its grace; its
            // delays between launches hold only for those.
            (Order::Fail(..) | Order::End | Order::EndNow, _) => Outcome::Done,
        })
    }

    fn flow(&mut self, act: impl FnOnce(&mut Flow<'_>) -> Outcome) -> Outcome {
        let client = &mut self.client;
        let mut ask = |call: Call| client.ask(&call);
        let now = clock::now();
        act(&mut Flow { ask: &mut ask, deployments: &mut self.deployments, now })
    }

    /// What was seen too long ago is seen again.
    fn reconcile(&mut self, service: &ServiceId, tasks: u32, seen: Instant) {
        if clock::now() - seen > RECONCILE {
            return;
        }
        let outcome = self.flow(|flow| flow.reconcile(service, tasks));
        match outcome {
            Outcome::Done => {
                tracing::info!(%service, tasks, "the number of instances did not fit");
            }
            Outcome::Needless => {
                tracing::debug!(%service, tasks, "the number of instances is left as it is");
            }
            outcome => tracing::warn!(
                %service, tasks, ?outcome,
                "the number of instances does not fit, and cannot be set right"
            ),
        }
        self.note(Note::Touched(service.clone()));
    }
}

/// The service an order is for.
pub(super) fn service_of(order: &Order) -> ServiceId {
    let of = |instance: &InstanceId| ServiceId::new(instance.service());
    match order {
        Order::Create(description, _) => description.id.clone(),
        Order::Scale(service, _) | Order::Delete(service) => service.clone(),
        Order::Kill(instance) | Order::Fail(instance, ..) => of(instance),
        Order::End | Order::EndNow => ServiceId::new(""),
    }
}

/// What follows from an outcome, after so many tries and so long: since it was ordered, or, of a
/// kill of which nothing is known, since its deadline.
fn next(order: &Order, outcome: Outcome, tries: u32, age: Duration) -> Next {
    use Outcome::{Declined, Done, Locked, Needless, NotNow, Pending, Refused, Unknown};
    let undone = |why| Next::Answer(Err(Undone::NotNow(why)));
    match (order, outcome) {
        (_, Done | Needless) => Next::Answer(Ok(())),
        (_, Refused(why)) => Next::Answer(Err(Undone::Refused(why))),
        (Order::Delete(_), Pending(_)) if tries < DELETE_TRIES => Next::Again(delete_pause(tries)),
        (_, Pending(pending)) if age < HOLD => Next::ReadBack(pending),
        (_, Pending(pending)) => undone(pending.why),
        (Order::Create(..), Locked(_) | Declined(_) | NotNow(_) | Unknown(_))
            if age < CREATE_PATIENCE =>
        {
            let (first, longest) = CREATE_PAUSE;
            Next::Again((first * 2_u32.pow(tries.min(8) - 1)).min(longest))
        }
        (Order::Create(..), Locked(why) | Declined(why)) => {
            Next::Answer(Err(Undone::Declined(why)))
        }
        (Order::Create(..), NotNow(why) | Unknown(why)) => undone(why),
        (Order::Delete(_), Locked(why) | Declined(why) | NotNow(why) | Unknown(why)) => {
            match tries < DELETE_TRIES && age < HOLD {
                true => Next::Again(delete_pause(tries)),
                false => undone(why),
            }
        }
        (Order::Kill(_), Locked(why) | Declined(why) | NotNow(why) | Unknown(why)) => undone(why),
        (_, Locked(why) | Declined(why) | NotNow(why) | Unknown(why)) => Next::AnswerLater(why),
    }
}

fn delete_pause(tries: u32) -> Duration {
    DELETE_PAUSE.mul_f64(1.5_f64.powi(tries.cast_signed() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::service::testing::description;
    use std::sync::Arc;

    #[test]
    fn what_is_tried_again_and_what_is_answered() {
        let second = Duration::from_secs(1);
        let id = ServiceId::new("s");
        let create = Order::Create(Arc::new(description("s")), 1);
        let (scale, delete) = (Order::Scale(id.clone(), 2), Order::Delete(id.clone()));
        let kill = Order::Kill(InstanceId::new(&id, "1"));
        let locked = || Outcome::Locked("l".into());
        let unknown = || Outcome::Unknown("u".into());
        let pending = || Pending { why: "p".into(), wanted: 2 };
        let failed = |why: &str| Next::Answer(Err(Undone::NotNow(why.to_owned())));
        let declined = |why: &str| Next::Answer(Err(Undone::Declined(why.to_owned())));
        let refused = |why: &str| Next::Answer(Err(Undone::Refused(why.to_owned())));
        for (order, outcome, tries, age, expected) in [
            (&create, Outcome::Done, 1, second, Next::Answer(Ok(()))),
            (&create, locked(), 1, second, Next::Again(second / 2)),
            (&create, locked(), 2, second, Next::Again(second)),
            (&create, locked(), 99, second, Next::Again(5 * second)),
            (&create, locked(), 99, 400 * second, declined("l")),
            (&create, Outcome::Declined("d".into()), 1, second, Next::Again(second / 2)),
            (&create, Outcome::Declined("d".into()), 99, 400 * second, declined("d")),
            (&create, Outcome::Refused("r".into()), 1, second, refused("r")),
            (&create, Outcome::NotNow("n".into()), 99, 400 * second, failed("n")),
            (&create, unknown(), 99, 400 * second, failed("u")),
            (&scale, locked(), 1, second, Next::AnswerLater("l".into())),
            (&scale, Outcome::Refused("r".into()), 1, second, refused("r")),
            (&scale, Outcome::Needless, 1, second, Next::Answer(Ok(()))),
            (&scale, Outcome::Declined("d".into()), 1, second, Next::AnswerLater("d".into())),
            (&kill, locked(), 1, second, failed("l")),
            (&kill, Outcome::Declined("d".into()), 1, second, failed("d")),
            (&kill, Outcome::NotNow("n".into()), 1, second, failed("n")),
            (&kill, Outcome::Pending(pending()), 1, second, Next::ReadBack(pending())),
            (&kill, Outcome::Pending(pending()), 9, HOLD, failed("p")),
            (&delete, unknown(), 1, second, Next::Again(second / 5)),
            (&delete, unknown(), 2, second, Next::Again(3 * second / 10)),
            (&delete, unknown(), 5, second, failed("u")),
            (&delete, Outcome::Pending(pending()), 1, second, Next::Again(second / 5)),
            (&delete, Outcome::Pending(pending()), 5, second, Next::ReadBack(pending())),
            (&delete, Outcome::Pending(pending()), 99, HOLD, failed("p")),
        ] {
            let text = format!("{order:?} {outcome:?} {tries} {age:?}");
            assert_eq!(next(order, outcome, tries, age), expected, "{text}");
        }
    }
}
