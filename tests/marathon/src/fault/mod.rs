//! Faults: what is to go wrong with which requests. Each matches by port, method and path, for a
//! number of requests or a time, and all that match a request act on it together.

pub(crate) mod rest;
mod warp;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{Ms, now};
use crate::http::deliver::Reply;
use crate::http::{Request, Response};
use crate::world::World;

#[derive(Debug, Default)]
pub(crate) struct Faults {
    next: AtomicU64,
    /// Set by the fault port, used up by requests.
    list: Mutex<Vec<Fault>>,
    /// Something was taken away.
    removed: Condvar,
}

#[derive(Debug, Clone)]
struct Fault {
    id: u64,
    /// As it was written.
    text: Value,
    /// `api` or `agent`.
    to: String,
    method: Option<String>,
    /// With `*` for any run of characters.
    path: Option<String>,
    times: Option<u64>,
    until: Option<Ms>,
    /// The request is carried out before its answer is replaced.
    carried_out: bool,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Latency(Ms),
    /// No end: until the fault is taken away.
    Hang,
    Drip(u32),
    Replace(Response),
    Locked(Option<String>),
    /// So much of the body is sent, 0 to 1.
    Truncate(f64),
    EmptyList,
    HalfApps,
    HalfTasks,
    /// The world as it was.
    Stale(Box<World>),
    /// Sets keys of every object in the lists of this name; null takes a key away.
    Edit {
        list: String,
        set: Value,
    },
    Reset,
}

/// What the faults that match one request want.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    active: Vec<Fault>,
}

impl Faults {
    fn add(&self, mut fault: Fault) -> u64 {
        fault.id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let id = fault.id;
        self.list().push(fault);
        id
    }

    fn remove(&self, id: Option<u64>) {
        self.list().retain(|it| id.is_some_and(|id| it.id != id));
        self.removed.notify_all();
    }

    fn json(&self) -> Value {
        let row = |it: &Fault| json!({ "id": it.id, "fault": it.text, "left": it.times });
        json!({ "faults": self.list().iter().map(row).collect::<Vec<_>>() })
    }

    /// Takes one use of every fault that matches.
    pub(crate) fn meet(&self, to: &str, request: &Request, at: Ms) -> Trouble {
        let mut list = self.list();
        list.retain(|it| it.until.is_none_or(|until| at < until));
        let mut active = Vec::new();
        for it in list.iter_mut().filter(|it| it.matches(to, request)) {
            it.times = it.times.map(|left| left - 1);
            active.push(it.clone());
        }
        // A hang ends when it is taken away; one for a single request stays to be found.
        list.retain(|it| it.times != Some(0) || matches!(it.kind, Kind::Hang));
        Trouble { active }
    }

    /// Waits until a fault has been taken away or its time is over.
    fn outlast(&self, id: u64) {
        let mut list = self.list();
        while let Some(it) = list.iter().find(|it| it.id == id) {
            let left = match it.until {
                Some(until) => until - now(),
                None => Ms::MAX,
            };
            if left <= 0 {
                return;
            }
            let left = Duration::from_millis(left.unsigned_abs());
            let woken = self.removed.wait_timeout(list, left);
            list = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    fn matches(&self, to: &str, request: &Request) -> bool {
        self.to == to
            && self.times != Some(0)
            && self.method.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(&request.method))
            && self.path.as_ref().is_none_or(|it| fits(it, &request.path))
    }
}

impl Trouble {
    /// The moments before anything is answered.
    pub(crate) fn delay(&self, faults: &Faults) {
        for it in &self.active {
            match it.kind {
                Kind::Latency(ms) => thread::sleep(Duration::from_millis(ms.unsigned_abs())),
                Kind::Hang => faults.outlast(it.id),
                _ => {}
            }
        }
    }

    /// An answer instead of the right one, and whether the request is carried out before.
    pub(crate) fn instead(&self) -> Option<(Reply, bool)> {
        self.active.iter().find_map(|it| {
            let reply = match &it.kind {
                Kind::Replace(answer) => Reply::Whole(answer.clone()),
                Kind::Locked(id) => Reply::Whole(warp::locked(id.as_deref())),
                Kind::Reset => Reply::Reset,
                _ => return None,
            };
            Some((reply, it.carried_out))
        })
    }

    /// The world to answer from, if it is not the present one.
    pub(crate) fn stale(&self) -> Option<World> {
        self.active.iter().find_map(|it| match &it.kind {
            Kind::Stale(world) => Some((**world).clone()),
            _ => None,
        })
    }

    /// Bends the right answer.
    pub(crate) fn bend(&self, answer: Response) -> Reply {
        let answer = self.active.iter().fold(answer, |answer, it| warp::bend(answer, &it.kind));
        for it in &self.active {
            match it.kind {
                Kind::Truncate(share) => {
                    let bytes = (answer.body.len() as f64 * share) as usize;
                    return Reply::Cut(answer, bytes);
                }
                Kind::Drip(per_second) => return Reply::Drip(answer, per_second),
                _ => {}
            }
        }
        Reply::Whole(answer)
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(first) else { return false };
    let starts = (0..=text.len()).filter(|at| text.is_char_boundary(*at));
    starts.into_iter().any(|at| fits(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit() {
        for (pattern, text, expected) in [
            ("/v2/apps", "/v2/apps", true),
            ("/v2/apps", "/v2/apps/x", false),
            ("/v2/apps*", "/v2/apps/x", true),
            ("/v2/apps/*/tasks*", "/v2/apps/a/b/tasks/t", true),
            ("*/tasks", "/v2/apps/x", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
