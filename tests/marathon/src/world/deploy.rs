//! Deployments: every write is one. The target shows at once, the tasks follow; two that touch one
//! app exclude each other.

use serde_json::{Value, json};
use uuid::Uuid;

use super::spec::Spec;
use super::{App, Version, World};
use crate::clock::Ms;

#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) version: Ms,
    pub(crate) steps: Vec<Vec<Action>>,
    /// Counted from 1; 0 before the first has begun.
    pub(crate) current: usize,
    pub(crate) step_since: Ms,
    /// What was, to go back to.
    pub(crate) before: Vec<(String, Option<App>)>,
    /// Tasks that somebody named, to be killed first.
    pub(crate) named: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) kind: ActionKind,
    pub(crate) app: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ActionKind {
    Start,
    Stop,
    Scale,
    Restart,
}

/// What a write wants of one app.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Create it, or make it so.
    Set(String, Spec),
    /// Restart it as it is.
    Restart(String),
    Delete(String),
}

/// Why a write was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Others are at work on the app: the ids of their deployments.
    Locked(Vec<String>),
    /// So many are at work already.
    TooMany(usize),
}

/// A write that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) id: String,
    pub(crate) version: Ms,
}

/// Whether a write may push others aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Force {
    Yes,
    No,
}

impl Force {
    pub(crate) fn of(flag: bool) -> Self {
        if flag { Self::Yes } else { Self::No }
    }
}

impl ActionKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "StartApplication",
            Self::Stop => "StopApplication",
            Self::Scale => "ScaleApplication",
            Self::Restart => "RestartApplication",
        }
    }
}

impl Change {
    pub(crate) fn app(&self) -> &str {
        match self {
            Self::Set(id, _) | Self::Restart(id) | Self::Delete(id) => id,
        }
    }
}

impl Deployment {
    pub(crate) fn touches(&self, app: &str) -> bool {
        self.steps.iter().flatten().any(|it| it.app == app)
    }

    pub(crate) fn apps(&self) -> Vec<&str> {
        let mut apps: Vec<&str> = self.steps.iter().flatten().map(|it| it.app.as_str()).collect();
        apps.sort_unstable();
        apps.dedup();
        apps
    }

    /// The actions under way; those of the first step before it begins.
    pub(crate) fn current_actions(&self) -> &[Action] {
        self.steps.get(self.current.max(1) - 1).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn steps_json(&self) -> Value {
        let action = |it: &Action| json!({ "action": it.kind.name(), "app": it.app });
        let step =
            |it: &Vec<Action>| json!({ "actions": it.iter().map(action).collect::<Vec<_>>() });
        json!(self.steps.iter().map(step).collect::<Vec<_>>())
    }

    pub(crate) fn current_json(&self) -> Value {
        let action = |it: &Action| {
            let (action, app) = (it.kind.name(), &it.app);
            json!({ "action": action, "app": app, "readinessCheckResults": [] })
        };
        json!(self.current_actions().iter().map(action).collect::<Vec<_>>())
    }
}

impl World {
    /// Takes a write, or says who is in the way. A change that changes nothing is taken, makes no
    /// deployment and is in nobody's way. `named` are tasks to be killed first.
    pub(crate) fn deploy(
        &mut self,
        changes: Vec<Change>,
        named: Vec<String>,
        force: Force,
        now: Ms,
    ) -> Result<Taken, Refused> {
        let plan: Vec<(Change, Action)> = changes
            .into_iter()
            .filter_map(|it| self.action(&it, !named.is_empty()).map(|action| (it, action)))
            .collect();
        let affected: Vec<&str> = plan.iter().map(|(it, _)| it.app()).collect();
        let in_the_way = self.locks(&affected);
        if force == Force::No && !in_the_way.is_empty() {
            return Err(Refused::Locked(in_the_way));
        }
        let most = self.options.max_running_deployments;
        if !plan.is_empty() && self.deployments.len() - in_the_way.len() >= most {
            return Err(Refused::TooMany(most));
        }
        for id in &in_the_way {
            self.cancel(id, now);
        }
        let version = self.next_version(now);
        let id = Uuid::new_v4().to_string();
        if plan.is_empty() {
            return Ok(Taken { id, version });
        }
        let before = plan.iter().map(|(it, _)| self.before(it.app())).collect();
        let steps = steps(plan.iter().map(|(_, action)| action));
        for (change, _) in plan {
            self.set_target(change, version);
        }
        let made = Deployment {
            id: id.clone(),
            version,
            steps,
            current: 0,
            step_since: now,
            before,
            named,
        };
        self.tell(
            "group_change_success",
            json!({ "groupId": "/", "version": crate::clock::iso(version) }),
            now,
        );
        self.tell_deployment("deployment_info", &made, now);
        self.deployments.push(made);
        Ok(Taken { id, version })
    }

    /// Ends a deployment where it is, without going back.
    pub(crate) fn cancel(&mut self, id: &str, now: Ms) -> Option<Deployment> {
        let at = self.deployments.iter().position(|it| it.id == id)?;
        let it = self.deployments.remove(at);
        self.tell_deployment("deployment_failed", &it, now);
        Some(it)
    }

    /// Ends a deployment by another that goes back to what was.
    pub(crate) fn revert(&mut self, id: &str, now: Ms) -> Option<Taken> {
        let it = self.deployments.iter().find(|it| it.id == id)?.clone();
        let back = |(id, before): (String, Option<App>)| match before {
            Some(app) => Change::Set(id, app.spec),
            None => Change::Delete(id),
        };
        let changes = it.before.into_iter().map(back).collect();
        self.cancel(id, now);
        self.deploy(changes, Vec::new(), Force::Yes, now).ok()
    }

    /// Ids of the deployments that are at work on any of these apps.
    pub(crate) fn locks(&self, apps: &[&str]) -> Vec<String> {
        let touches = |it: &&Deployment| apps.iter().any(|app| it.touches(app));
        self.deployments.iter().filter(touches).map(|it| it.id.clone()).collect()
    }

    fn before(&self, app: &str) -> (String, Option<App>) {
        (app.to_owned(), self.apps.get(app).cloned())
    }

    /// What has to be done; nothing, if all is as it should be.
    fn action(&self, change: &Change, has_named: bool) -> Option<Action> {
        let kind = match (change, self.apps.get(change.app())) {
            (Change::Set(..), None) => ActionKind::Start,
            (Change::Set(_, to), Some(from)) if *to == from.spec => {
                return has_named
                    .then(|| Action { kind: ActionKind::Scale, app: change.app().into() });
            }
            (Change::Set(_, to), Some(from)) if to.differs_in_count_only(&from.spec) => {
                ActionKind::Scale
            }
            (Change::Set(..) | Change::Restart(_), Some(_)) => ActionKind::Restart,
            (Change::Delete(_), Some(_)) => ActionKind::Stop,
            (Change::Restart(_) | Change::Delete(_), None) => return None,
        };
        Some(Action { kind, app: change.app().to_owned() })
    }

    fn set_target(&mut self, change: Change, version: Ms) {
        let (id, spec) = match change {
            Change::Delete(id) => {
                self.apps.remove(&id);
                self.failures.remove(&id);
                self.versions.remove(&id);
                return;
            }
            Change::Restart(id) => {
                let Some(app) = self.apps.get(&id) else { return };
                let spec = app.spec.clone();
                (id, spec)
            }
            Change::Set(id, spec) => (id, spec),
        };
        let old = self.apps.get(&id);
        let counts_only =
            old.is_some_and(|it| it.spec != spec && it.spec.differs_in_count_only(&spec));
        let app = App {
            version,
            scaled_at: version,
            configured_at: old.filter(|_| counts_only).map_or(version, |it| it.configured_at),
            queued_since: old.and_then(|it| it.queued_since),
            spec,
        };
        let row: Version = app.as_version();
        self.versions.entry(id.clone()).or_default().push(row);
        self.apps.insert(id, app);
    }
}

/// Stops come first, then starts; a started app is scaled in the step after, with the others.
fn steps<'a>(actions: impl Iterator<Item = &'a Action>) -> Vec<Vec<Action>> {
    let (mut stops, mut starts, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for it in actions {
        match it.kind {
            ActionKind::Stop => stops.push(it.clone()),
            ActionKind::Start => {
                starts.push(it.clone());
                rest.push(Action { kind: ActionKind::Scale, app: it.app.clone() });
            }
            ActionKind::Scale | ActionKind::Restart => rest.push(it.clone()),
        }
    }
    [stops, starts, rest].into_iter().filter(|it| !it.is_empty()).collect()
}
