//! How an order is carried out: which calls it takes, and what each answer means.
//!
//! | order | calls | never |
//! |---|---|---|
//! | create | read; `POST` if there is none | over one that is there |
//! | scale | read count and tasks; `PUT instances = max(n, tasks)` without force | a lower count |
//! | kill | read; `DELETE` of one named task with `scale=true` | a task that is not listed |
//! | delete | `DELETE` | |
//!
//! 409 means that a deployment is in the way: the order waits for another time. Only a deployment
//! of our own that has been in the way for longer than [`STUCK`] is cancelled, and one that stops
//! an app that is to be created again after [`STOPPING`]. Ours are those that we began, and those
//! that do to this app alone what routers do: an earlier run of the router, or another one, began
//! them. Where it is not known whether a call was heard, the app is read back; nothing is repeated
//! blindly, but a deletion: while it is under way the app stays closed, and it is not given up
//! before it is known that none of its calls will be heard any more.
//!
//! Everything here is told the time and asks through a function, so a test tells it any story.

use super::descriptor::{self, Common};
use super::mapping;
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Duration, Instant};
use crate::core::service::Description;
use crate::wire::escape::path_segment;
use crate::wire::marathon::replies::{self, deployment_id, is_same};
use crate::wire::marathon::{App, Deployment, TaskState, Trouble};
use http::Method;
use serde_json::json;
use std::collections::{HashMap, HashSet};

/// A deployment of our own that is in the way for longer is cancelled.
pub(super) const STUCK: Duration = Duration::from_secs(60);
/// A deployment that stops an app for longer is cancelled when the app is to be created again.
pub(super) const STOPPING: Duration = Duration::from_secs(5 * 60);
/// Where an app is created that is not there.
const CREATE: &str = "/v2/apps";
/// What may still be heard has no deadline yet.
const NEVER: Instant = Instant(u64::MAX);
/// Deployments remembered.
const REMEMBERED_MAX: usize = 10_000;

/// One request to Marathon.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    /// JSON.
    pub(super) body: Option<Vec<u8>>,
    /// Who may ask for it.
    pub(super) right: Right,
}

/// Who may ask something of Marathon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Right {
    /// Every router: to read, to create what is absent.
    Everybody,
    /// A member, for as long as it is sure to be one: to delete what all have closed. Who is none
    /// any more is not waited for: the others open what it wanted closed.
    Member,
    /// The one that leads, for as long as it does.
    Leader,
}

impl Call {
    /// Reads this.
    pub(super) fn get(target: impl Into<String>) -> Self {
        let (method, target) = (Method::GET, target.into());
        Self { method, target, body: None, right: Right::Everybody }
    }
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// Marathon, or something before it, said this.
    Said(u16, Vec<u8>),
    /// Nobody heard it: why.
    Unheard(String),
    /// Nobody knows whether it was heard: why.
    Unknown(String),
}

/// How requests are sent.
pub(super) type Ask<'a> = &'a mut dyn FnMut(Call) -> Answer;

/// What came of an order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// It has been carried out, or there was nothing to do.
    Done,
    /// A count was left as it is.
    Needless,
    /// It never will be.
    Refused(String),
    /// A deployment is in the way.
    Locked(String),
    /// Marathon says why it was not carried out this time.
    Declined(String),
    /// It was not carried out this time.
    NotNow(String),
    /// Nobody knows yet.
    Unknown(String),
    /// Nobody knows what came of a kill, or of a deletion: it may be heard yet.
    Pending(Pending),
}

/// A kill, or a deletion, of which nothing is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pending {
    /// Why.
    pub(super) why: String,
    /// Instances wanted before a kill.
    pub(super) wanted: u32,
}

/// Deployments that are, or were, in the way, and those that we began.
#[derive(Debug, Default)]
pub(super) struct Deployments {
    in_the_way: HashMap<String, Instant>,
    ours: HashSet<String>,
}

impl Deployments {
    fn begun(&mut self, body: &[u8]) -> bool {
        let id = deployment_id(body);
        if self.ours.len() >= REMEMBERED_MAX {
            self.ours.clear();
        }
        let began = id.is_some();
        self.ours.extend(id);
        began
    }

    /// How long a deployment has been in the way, as we have seen it: no other clock is asked.
    fn age(&mut self, id: &str, now: Instant) -> Duration {
        if self.in_the_way.len() >= REMEMBERED_MAX {
            self.in_the_way.clear();
        }
        now - *self.in_the_way.entry(id.to_owned()).or_insert(now)
    }
}

/// One order under way.
pub(super) struct Flow<'a> {
    pub(super) ask: Ask<'a>,
    pub(super) deployments: &'a mut Deployments,
    pub(super) now: Instant,
}

/// What a read of an app came to.
enum Read {
    There(Box<App>),
    Absent,
    Failed(Outcome),
}

impl Flow<'_> {
    /// Creates an app, unless there is one.
    pub(super) fn create(
        &mut self,
        description: &Description,
        instances: u32,
        common: &Common,
    ) -> Outcome {
        let service = &description.id;
        match self.read(service) {
            Read::There(_) => return Outcome::Done,
            Read::Absent => {}
            Read::Failed(outcome) => return outcome,
        }
        let body = descriptor::app(description, instances, common).to_string().into_bytes();
        let (method, target) = (Method::POST, CREATE.to_owned());
        let call = Call { method, target, body: Some(body), right: Right::Everybody };
        let written = match self.write(call.clone(), service) {
            Write::Locked(trouble) if self.clears_stop(service, &trouble) => {
                self.write(call, service)
            }
            written => written,
        };
        match written {
            Write::Done => Outcome::Done,
            Write::Locked(trouble) => locked(&trouble),
            Write::Failed(outcome) => outcome,
            Write::Stumbled(why) => self.created_after_all(service, why, Outcome::Declined),
            Write::Unknown(why) => self.created_after_all(service, why, Outcome::NotNow),
        }
    }

    /// `absent`: what it is if it was not.
    fn created_after_all(
        &mut self,
        service: &ServiceId,
        why: String,
        absent: fn(String) -> Outcome,
    ) -> Outcome {
        match self.read(service) {
            Read::There(_) => Outcome::Done,
            Read::Absent => absent(why),
            Read::Failed(_) => Outcome::Unknown(why),
        }
    }

    /// Raises the number of instances.
    pub(super) fn scale(&mut self, service: &ServiceId, instances: u32) -> Outcome {
        let app = match self.read(service) {
            Read::There(app) => app,
            Read::Absent => return Outcome::Refused("no such app".into()),
            Read::Failed(outcome) => return outcome,
        };
        let wanted = instances.max(mapping::sure_count(&app)).max(app.instances);
        if wanted == app.instances {
            return Outcome::Done;
        }
        // More of what crashes is no help, and the delay of its next launch is that of all.
        if !mapping::any_healthy(&app) && self.fails(&app, service) {
            return Outcome::NotNow("its launches fail, and nothing of it is healthy".into());
        }
        self.put(service, wanted)
    }

    /// Whether a task of an app has failed lately, or ended in another way that delays its next
    /// launch.
    fn fails(&mut self, app: &App, service: &ServiceId) -> bool {
        mapping::failed_lately(app) || self.is_delayed(service) == Some(true)
    }

    /// Whether Marathon delays the next launch of an app; none: it does not say.
    fn is_delayed(&mut self, service: &ServiceId) -> Option<bool> {
        let Answer::Said(200, body) = (self.ask)(Call::get("/v2/queue")) else { return None };
        let delayed = replies::delayed(&body).ok()?;
        Some(delayed.iter().any(|it| is_same(it, service.as_str())))
    }

    /// The number of instances becomes that of the tasks, if it still is another and nothing is
    /// under way (control-plane §12.5). A task that begins in between is the youngest, and nobody
    /// knows it yet: it is the one Marathon would end.
    pub(super) fn reconcile(&mut self, service: &ServiceId, tasks: u32) -> Outcome {
        let app = match self.read(service) {
            Read::There(app) => app,
            Read::Absent => return Outcome::Refused("no such app".into()),
            Read::Failed(outcome) => return outcome,
        };
        let same = app.deployments.is_empty() && mapping::sure_count(&app) == tasks;
        let same = same && mapping::counts_agree(&app) && !mapping::any_unreachable(&app);
        if !same || app.instances == tasks || tasks == 0 {
            return Outcome::Needless;
        }
        // A launch that is delayed is still to come.
        match self.is_delayed(service) {
            Some(false) => self.put(service, tasks),
            Some(true) => Outcome::Needless,
            None => Outcome::NotNow("Marathon does not tell its queue".into()),
        }
    }

    fn put(&mut self, service: &ServiceId, instances: u32) -> Outcome {
        let body = json!({ "instances": instances }).to_string().into_bytes();
        let target = format!("/v2/apps/{service}?force=false");
        let call = Call { method: Method::PUT, target, body: Some(body), right: Right::Leader };
        let written = match self.write(call.clone(), service) {
            Write::Locked(trouble) if self.clears_stuck(service, &trouble) => {
                self.write(call, service)
            }
            written => written,
        };
        match written {
            Write::Done => Outcome::Done,
            Write::Locked(trouble) => locked(&trouble),
            Write::Failed(outcome) => outcome,
            Write::Stumbled(why) | Write::Unknown(why) => match self.read(service) {
                Read::There(app) if app.instances == instances => Outcome::Done,
                Read::There(_) => Outcome::NotNow(why),
                Read::Absent => Outcome::Refused("no such app".into()),
                Read::Failed(_) => Outcome::Unknown(why),
            },
        }
    }

    /// Ends one instance and lowers the number by one.
    pub(super) fn kill(&mut self, instance: &InstanceId) -> Outcome {
        let service = ServiceId::new(instance.service());
        let app = match self.read(&service) {
            Read::There(app) => app,
            Read::Absent => return Outcome::Refused("no such app".into()),
            Read::Failed(outcome) => return outcome,
        };
        // Marathon answers 200 for a task that it does not know.
        let Some(task) = task_of(&app, instance) else {
            return Outcome::Refused("no such task".into());
        };
        let task = path_segment(task);
        let target = format!("/v2/apps/{service}/tasks/{task}?scale=true&force=false");
        let call = Call { method: Method::DELETE, target, body: None, right: Right::Leader };
        let written = match self.write(call.clone(), &service) {
            Write::Locked(trouble) if self.clears_stuck(&service, &trouble) => {
                self.write(call, &service)
            }
            written => written,
        };
        match written {
            Write::Done => Outcome::Done,
            Write::Locked(trouble) => locked(&trouble),
            Write::Failed(outcome) => outcome,
            Write::Stumbled(why) | Write::Unknown(why) => {
                // It may still be heard: that the instance is there says nothing yet.
                self.read_back(instance, Pending { why, wanted: app.instances }, NEVER)
            }
        }
    }

    /// Whether a kill of which nothing is known came through: the instance is gone or ending, or
    /// fewer are wanted than before. That it did not is known when the instance is there after
    /// `deadline`, by when the kill had been heard or never will be.
    pub(super) fn read_back(
        &mut self,
        instance: &InstanceId,
        pending: Pending,
        deadline: Instant,
    ) -> Outcome {
        match self.read(&ServiceId::new(instance.service())) {
            Read::There(app) if task_of(&app, instance).is_none() => Outcome::Done,
            Read::There(app) if app.instances < pending.wanted => Outcome::Done,
            Read::There(_) if self.now > deadline => Outcome::NotNow(pending.why),
            Read::Absent => Outcome::Done,
            Read::There(_) | Read::Failed(_) => Outcome::Pending(pending),
        }
    }

    /// Ends an app.
    pub(super) fn delete(&mut self, service: &ServiceId) -> Outcome {
        let target = format!("/v2/apps/{service}");
        let (method, right) = (Method::DELETE, Right::Member);
        let call = Call { method, target, body: None, right };
        match (self.ask)(call) {
            Answer::Said(404, body) if is_marathon_s(&body) => Outcome::Done,
            Answer::Said(200..=299, body) if self.deployments.begun(&body) => Outcome::Done,
            Answer::Said(200..=299, _) => Outcome::NotNow("no deployment began".into()),
            Answer::Said(status, body) if may_be_done(status) => {
                let why = said(status, &Trouble::read(&body).message);
                self.deleted_after_all(service, why, NEVER)
            }
            Answer::Said(status, body) => refusal(status, &body),
            Answer::Unheard(why) => Outcome::NotNow(why),
            Answer::Unknown(why) => self.deleted_after_all(service, why, NEVER),
        }
    }

    /// Whether a deletion of which nothing is known came through. That it did not is known when the
    /// app is there after `deadline`, as of a kill.
    pub(super) fn deleted_after_all(
        &mut self,
        service: &ServiceId,
        why: String,
        deadline: Instant,
    ) -> Outcome {
        match self.read(service) {
            Read::Absent => Outcome::Done,
            Read::There(_) if self.now > deadline => Outcome::NotNow(why),
            Read::There(_) | Read::Failed(_) => Outcome::Pending(Pending { why, wanted: 0 }),
        }
    }

    fn read(&mut self, service: &ServiceId) -> Read {
        let target = format!("/v2/apps/{service}");
        match (self.ask)(Call::get(target)) {
            Answer::Said(200, body) => match App::read(&body) {
                Ok(app) if is_same(&app.id, service.as_str()) && app.tasks.is_some() => {
                    Read::There(Box::new(app))
                }
                Ok(_) => Read::Failed(Outcome::NotNow("the answer is of something else".into())),
                Err(why) => Read::Failed(Outcome::NotNow(format!("unreadable answer: {why}"))),
            },
            Answer::Said(404, body) if is_marathon_s(&body) => Read::Absent,
            Answer::Said(status, body) => Read::Failed(match refusal(status, &body) {
                Outcome::Refused(why) if status != 401 && status != 403 => Outcome::NotNow(why),
                outcome => outcome,
            }),
            Answer::Unheard(why) | Answer::Unknown(why) => Read::Failed(Outcome::NotNow(why)),
        }
    }

    /// Sends a request that changes something.
    fn write(&mut self, call: Call, service: &ServiceId) -> Write {
        match (self.ask)(call) {
            Answer::Said(200..=299, body) if self.deployments.begun(&body) => Write::Done,
            Answer::Said(201, _) => Write::Done,
            Answer::Said(200..=299, _) => {
                Write::Failed(Outcome::NotNow("no deployment began".into()))
            }
            Answer::Said(409, body) => {
                let trouble = Trouble::read(&body);
                if trouble.says_it_exists() {
                    return Write::Done;
                }
                for id in &trouble.deployments {
                    self.deployments.age(id, self.now);
                }
                tracing::debug!(%service, ?trouble, "a deployment is in the way");
                Write::Locked(trouble)
            }
            Answer::Said(status, body) if may_be_done(status) => {
                let message = Trouble::read(&body).message;
                let why = said(status, &message);
                if declines(status, &body) { Write::Stumbled(why) } else { Write::Unknown(why) }
            }
            Answer::Said(status, body) => Write::Failed(refusal(status, &body)),
            Answer::Unheard(why) => Write::Failed(Outcome::NotNow(why)),
            Answer::Unknown(why) => Write::Unknown(why),
        }
    }

    /// Cancels what stops this app and has done so for too long; whether it did.
    fn clears_stop(&mut self, service: &ServiceId, trouble: &Trouble) -> bool {
        let app = service.as_str();
        self.clears(trouble, STOPPING, |it, _| it.stops(app))
    }

    /// Cancels a deployment of our own that has been in the way for too long; whether it did.
    fn clears_stuck(&mut self, service: &ServiceId, trouble: &Trouble) -> bool {
        let app = service.as_str();
        self.clears(trouble, STUCK, |it, ours| {
            it.is_only_of(app) && (ours.contains(&it.id) || it.does_what_routers_do())
        })
    }

    fn clears(
        &mut self,
        trouble: &Trouble,
        patience: Duration,
        may_go: impl Fn(&Deployment, &HashSet<String>) -> bool,
    ) -> bool {
        let now = self.now;
        let old = |it: &&String| {
            self.deployments.in_the_way.get(*it).is_some_and(|since| now - *since > patience)
        };
        let old: Vec<String> = trouble.deployments.iter().filter(old).cloned().collect();
        if old.is_empty() {
            return false;
        }
        let Answer::Said(200, body) = (self.ask)(Call::get("/v2/deployments")) else {
            return false;
        };
        let Ok(all) = Deployment::read_all(&body) else { return false };
        let mut cleared = false;
        for it in all.iter().filter(|it| old.contains(&it.id)) {
            if !may_go(it, &self.deployments.ours) {
                continue;
            }
            let (deployment, apps) = (&it.id, &it.affected_apps);
            tracing::warn!(deployment, ?apps, "a deployment that is stuck is cancelled");
            let target = format!("/v2/deployments/{}?force=true", it.id);
            let (method, right) = (Method::DELETE, Right::Leader);
            let answer = (self.ask)(Call { method, target, body: None, right });
            cleared |= matches!(answer, Answer::Said(200..=299 | 404, _));
        }
        cleared
    }
}

/// What a request that changes something came to.
enum Write {
    Done,
    Locked(Trouble),
    Failed(Outcome),
    /// Marathon says that it has failed; it may be done all the same.
    Stumbled(String),
    Unknown(String),
}

/// Whether what is answered so may have been carried out all the same: Marathon gave up waiting for
/// itself, or something before it for Marathon.
fn may_be_done(status: u16) -> bool {
    matches!(status, 408 | 500 | 502..=504)
}

/// Whether this body of a failure is Marathon's own, and not that of something before it.
fn is_marathon_s(body: &[u8]) -> bool {
    let told = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    told.get("message").is_some_and(serde_json::Value::is_string)
}

/// The task that an instance is, as long as it lives.
fn task_of<'a>(app: &'a App, instance: &InstanceId) -> Option<&'a str> {
    let service = ServiceId::new(instance.service());
    let is_it = |id: &str| mapping::instance_of(&service, id) == *instance;
    let tasks = app.tasks.iter().flatten().filter(|it| it.state != TaskState::Ending);
    tasks.map(|it| it.id.as_str()).find(|it| is_it(it))
}

fn locked(trouble: &Trouble) -> Outcome {
    Outcome::Locked(match trouble.deployments.as_slice() {
        [] => format!("it is locked: {}", trouble.message),
        ids => format!("it is locked by deployment {}", ids.join(", ")),
    })
}

/// Whether this is Marathon's own word, and not that of something before it: too many deployments,
/// or a plugin or it itself has failed.
fn declines(status: u16, body: &[u8]) -> bool {
    matches!(status, 403 | 500) && is_marathon_s(body)
}

/// What a status other than success means.
fn refusal(status: u16, body: &[u8]) -> Outcome {
    let trouble = Trouble::read(body);
    match status {
        409 => locked(&trouble),
        // Something before Marathon does not know the way to it.
        404 if !is_marathon_s(body) => Outcome::NotNow(said(status, &trouble.message)),
        _ if declines(status, body) => Outcome::Declined(said(status, &trouble.message)),
        // Too many deployments, requests or nobody who leads: another time.
        300..=399 | 403 | 408 | 429 | 500..=599 => Outcome::NotNow(said(status, &trouble.message)),
        _ => Outcome::Refused(said(status, &trouble.message)),
    }
}

fn said(status: u16, message: &str) -> String {
    match message {
        "" => format!("Marathon answered {status}"),
        message => format!("Marathon answered {status}: {message}"),
    }
}

#[cfg(test)]
mod tests;
