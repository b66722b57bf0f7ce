//! The thread that asks Marathon for everything, again and again: polling is the truth.
//!
//! It asks at its interval, sooner where something was doubted, said or done, and after growing
//! pauses where there is no answer. It reads and compares there; the control loop gets differences.

use super::client::Client;
use super::drift::Drift;
use super::flows::{Answer, Call};
use super::hosts::Hosts;
use super::mapping::{self, Means, Sandboxes};
use super::pace::{Came, Pace};
use super::picture::{self, Picture, Seen};
use super::worker::Task;
use super::{Note, Workers};
use crate::base::ids::ServiceId;
use crate::base::time::{Date, Duration, Instant};
use crate::core::fact::{Report, Runner, Sight, View};
use crate::mesh::clock;
use crate::wire::marathon::{Apps, replies};
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

/// All apps with all that is asked of them.
const APPS: &str = "/v2/apps?embed=apps.tasks&embed=apps.lastTaskFailure&embed=apps.counts\
                    &embed=apps.deployments";
/// The framework is asked for so often.
const FRAMEWORK: Duration = Duration::from_secs(900);

/// What the collector is told at its start.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) prefix: String,
    pub(super) interval: Duration,
    pub(super) patience: Duration,
    pub(super) sandboxes: Sandboxes,
}

/// The collector as its thread has it.
pub(super) struct Collector<R> {
    client: Client,
    terms: Terms,
    picture: Picture,
    hosts: Hosts,
    drift: Drift,
    view: View,
    reports: R,
    workers: Workers,
    framework_at: Option<Instant>,
    /// When the last answer was asked for that was understood, if it was believed.
    asked: Option<Date>,
    pace: Pace,
    /// Since when the answers as a whole are doubted.
    doubted: Option<Instant>,
}

impl<R: Fn(Report)> Collector<R> {
    pub(super) fn new(client: Client, terms: Terms, reports: R, workers: Workers) -> Self {
        let pace = Pace::new(terms.interval);
        let good_for = pace.good_for((client.timeout(), client.deadline()), Duration::ZERO);
        Self {
            picture: Picture::new(terms.patience),
            client,
            hosts: Hosts::default(),
            drift: Drift::new(terms.patience),
            view: View { good_for, ..View::default() },
            reports,
            workers,
            framework_at: None,
            asked: None,
            pace,
            doubted: None,
            terms,
        }
    }

    /// Asks until nobody can tell it anything any more.
    pub(super) fn run(mut self, notes: &Receiver<Note>) {
        loop {
            let (begun, date) = (clock::now(), clock::date());
            let answer = self.client.ask(&Call::get(APPS));
            // What was done meanwhile explains what the answer lacks.
            while let Ok(note) = notes.try_recv() {
                self.note(note);
            }
            let came = self.poll(answer, begun, date);
            let wait = self.pace.next_poll(came);
            let ended = clock::now();
            if self.wait(notes, ended, ended + wait).is_err() {
                return;
            }
        }
    }

    /// Waits for the next poll: until then at most, sooner after a hint.
    fn wait(
        &mut self,
        notes: &Receiver<Note>,
        ended: Instant,
        until: Instant,
    ) -> Result<(), RecvTimeoutError> {
        let mut until = until;
        loop {
            let now = clock::now();
            if now >= until {
                return Ok(());
            }
            match notes.recv_timeout(until - now) {
                Ok(note) => {
                    if self.note(note) {
                        until = Pace::hinted(until, ended, self.view.poll_time, clock::now());
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a note; whether it is a reason to ask soon.
    fn note(&mut self, note: Note) -> bool {
        match note {
            Note::Deleted(service, at) => self.picture.deleted(&service, at),
            Note::Ended(instance) => self.picture.ended(&instance),
            Note::Touched(service) => self.picture.touched(&service),
            Note::Hints(hints) => {
                self.view.hints = hints;
                return false;
            }
            Note::Hint => return self.view.sight == Sight::Fresh,
        }
        true
    }

    /// An answer, or none, has come.
    fn poll(&mut self, answer: Answer, begun: Instant, date: Date) -> Came {
        self.view.polls += 1;
        self.view.place = self.client.place().to_owned();
        let read = match answer {
            Answer::Said(200, body) => {
                Apps::read(&body).map_err(|why| format!("its answer cannot be understood: {why}"))
            }
            Answer::Said(status, body) => {
                let said = replies::Trouble::read(&body).message;
                Err(format!("it answered {status} {said}").trim_end().to_owned())
            }
            Answer::Unheard(why) | Answer::Unknown(why) => Err(why),
        };
        match read {
            Ok(apps) => self.understood(apps, begun, date),
            Err(why) => {
                self.view.polls_failed += 1;
                self.sighted(Sight::Stale, why, date);
                Came::Nothing
            }
        }
    }

    fn understood(&mut self, apps: Apps, begun: Instant, date: Date) -> Came {
        self.ask_framework(begun);
        self.look_up(&apps);
        let due = self.drifting(&apps, begun);
        let hosts = &self.hosts;
        let address = |host: &str| hosts.address(host);
        let means = Means {
            prefix: &self.terms.prefix,
            sandboxes: &self.terms.sandboxes,
            address: &address,
            date,
            before: self.asked,
        };
        let answer = picture::Answer { begun, apps };
        let Seen { changed, gone, doubt, doubted, lately } =
            self.picture.answered(answer, &means, clock::now());
        let is_doubted = !doubt.is_empty();
        self.asked = (!is_doubted).then_some(date);
        if !changed.is_empty() || !gone.is_empty() {
            (self.reports)(Report::Changes(Runner::Marathon, changed, gone));
        }
        self.view.poll_time = clock::now() - begun;
        let times = (self.client.timeout(), self.client.deadline());
        self.view.good_for = self.pace.good_for(times, self.view.poll_time);
        self.view.answers_doubted += u64::from(is_doubted || doubted > 0);
        if is_doubted {
            self.sighted(Sight::Doubted, doubt, date);
        } else {
            self.view.heard = Some(date);
            self.sighted(Sight::Fresh, String::new(), date);
            for (service, tasks) in due {
                // What is doubted of one service is a reason to leave that one alone.
                if !self.picture.doubts(&service) {
                    self.workers.give(&service, Task::Reconcile(service.clone(), tasks, begun));
                }
            }
        }
        // What has been doubted for long is so until somebody sets it right.
        self.doubted = is_doubted.then(|| self.doubted.unwrap_or(begun));
        let young = self.doubted.is_some_and(|since| begun - since < self.terms.patience);
        if young || lately > 0 { Came::Doubted } else { Came::Known }
    }

    /// Services whose count is to be set right. Only the router that leads looks after that.
    fn drifting(&mut self, apps: &Apps, now: Instant) -> Vec<(ServiceId, u32)> {
        if self.client.may_order() {
            return self.drift.look(&apps.apps, &self.terms.prefix, now);
        }
        self.drift.forget();
        Vec::new()
    }

    fn sighted(&mut self, sight: Sight, why: String, date: Date) {
        if self.view.sight != sight {
            self.view.sight = sight;
            self.view.since = date;
        }
        self.view.why = why;
        (self.reports)(Report::View(Runner::Marathon, self.view.clone()));
    }

    fn look_up(&mut self, apps: &Apps) {
        let prefix = self.terms.prefix.as_str();
        let ours = apps.apps.iter().filter(|it| mapping::is_ours(&it.id, prefix));
        let mut named: HashSet<&str> = HashSet::new();
        for app in ours {
            named.extend(app.tasks.iter().flatten().map(|it| it.host.as_str()));
            named.extend(app.last_task_failure.as_ref().map(|it| it.host.as_str()));
        }
        self.hosts.look_up(&named);
    }

    /// Sandboxes lie below the id of the framework.
    fn ask_framework(&mut self, now: Instant) {
        let is_due = self.framework_at.is_none_or(|at| now - at >= FRAMEWORK);
        if self.terms.sandboxes.agent_dir.is_none() || !is_due {
            return;
        }
        self.framework_at = Some(now);
        if let Answer::Said(200, body) = self.client.ask(&Call::get("/v2/info"))
            && let Some(framework) = replies::framework_id(&body)
        {
            self.terms.sandboxes.framework = Some(framework);
        }
    }
}
