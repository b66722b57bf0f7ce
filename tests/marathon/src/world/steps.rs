//! Drives deployments through their steps.

use super::World;
use super::deploy::{Action, ActionKind, Deployment};
use super::task::{KillReason, Task};
use crate::clock::Ms;
use crate::outside::Outside;

impl World {
    pub(crate) fn drive_deployments(&mut self, outside: &Outside, now: Ms) {
        for id in self.deployments.iter().map(|it| it.id.clone()).collect::<Vec<_>>() {
            // One that ended may have been in another's list: it is looked up again.
            let Some(at) = self.deployments.iter().position(|it| it.id == id) else { continue };
            if self.deployments[at].apps().iter().any(|app| self.is_held(app)) {
                continue;
            }
            let it = self.deployments[at].clone();
            if it.current == 0 {
                self.begin_step(at, now);
                continue;
            }
            // All of them are driven, also behind one that is not done.
            let mut done = true;
            for action in it.current_actions() {
                done &= self.drive(&it, action, outside, now);
            }
            if done && now - it.step_since >= self.options.deployment_step_ms {
                self.end_step(at, now);
            }
        }
    }

    /// Whether a fault keeps deployments of this app from moving.
    pub(crate) fn is_held(&self, app: &str) -> bool {
        self.held.iter().any(|it| it == "*" || it == app)
    }

    fn begin_step(&mut self, at: usize, now: Ms) {
        let it = &mut self.deployments[at];
        it.current += 1;
        it.step_since = now;
        if it.current > 1 {
            let it = it.clone();
            self.tell_deployment("deployment_info", &it, now);
        }
    }

    fn end_step(&mut self, at: usize, now: Ms) {
        let it = self.deployments[at].clone();
        self.tell_deployment("deployment_step_success", &it, now);
        for action in it.current_actions().iter().filter(|it| it.kind == ActionKind::Stop) {
            let body = serde_json::json!({ "appId": action.app });
            self.tell("app_terminated_event", body, now);
        }
        if it.current < it.steps.len() {
            return self.begin_step(at, now);
        }
        self.deployments.remove(at);
        self.tell_deployment("deployment_success", &it, now);
    }

    /// Does what can be done now; true when nothing is left.
    fn drive(&mut self, of: &Deployment, action: &Action, outside: &Outside, now: Ms) -> bool {
        let app = &action.app;
        match action.kind {
            ActionKind::Start => true,
            ActionKind::Stop => {
                let all = self.tasks_of(app).iter().map(|it| it.id.clone()).collect();
                self.kill_surplus(all, outside, now);
                self.tasks_of(app).is_empty()
            }
            ActionKind::Scale => self.drive_scale(of, app, outside, now),
            ActionKind::Restart => self.drive_restart(app, outside, now),
        }
    }

    fn drive_scale(&mut self, of: &Deployment, app: &str, outside: &Outside, now: Ms) -> bool {
        let wanted = self.apps.get(app).map_or(0, |it| it.spec.instances());
        let named: Vec<String> = of
            .named
            .iter()
            .filter(|id| self.tasks.get(*id).is_some_and(|it| it.app_id == app))
            .cloned()
            .collect();
        self.kill_surplus(named, outside, now);
        let mut live: Vec<&Task> =
            self.tasks_of(app).into_iter().filter(|it| it.counts()).collect();
        // The youngest go first, of them those that do not serve.
        live.sort_by_key(|it| (it.is_ready(), std::cmp::Reverse(it.number)));
        if self.kills_oldest(app) {
            live.sort_by_key(|it| (it.is_ready(), it.number));
        }
        let surplus = live.len().saturating_sub(wanted);
        let surplus = live.iter().take(surplus).map(|it| it.id.clone()).collect();
        self.kill_surplus(surplus, outside, now);
        let tasks = self.tasks_of(app);
        let ready = tasks.iter().filter(|it| it.is_ready()).count();
        ready >= wanted && tasks.iter().all(|it| it.kill.is_none())
    }

    fn kills_oldest(&self, app: &str) -> bool {
        let selection = self.apps.get(app).and_then(|it| it.spec.text("killSelection"));
        selection == Some("OLDEST_FIRST")
    }

    /// Tasks of older versions go as far as the capacity that must stay allows it. New ones are
    /// launched by [`World::room_to_launch`].
    fn drive_restart(&mut self, app: &str, outside: &Outside, now: Ms) -> bool {
        let Some(it) = self.apps.get(app) else { return true };
        let (wanted, configured) = (it.spec.instances(), it.configured_at);
        let keep = (self.strategy(app, "minimumHealthCapacity") * wanted as f64).ceil() as usize;
        let tasks = self.tasks_of(app);
        let is_new = |it: &&Task| it.configured_at >= configured;
        let new_ready = tasks.iter().filter(|it| is_new(it) && it.is_ready()).count();
        let old: Vec<&Task> =
            tasks.iter().copied().filter(|it| !is_new(it) && it.counts()).collect();
        let old_ready = old.iter().filter(|it| it.is_ready()).count();
        let may_go = if new_ready >= wanted {
            old_ready
        } else {
            (old_ready + new_ready).saturating_sub(keep)
        };
        let broken = old.iter().filter(|it| !it.is_ready()).map(|it| it.id.clone());
        let serving = old.iter().filter(|it| it.is_ready()).take(may_go).map(|it| it.id.clone());
        let going: Vec<String> = broken.chain(serving).collect();
        let new_live = tasks.iter().filter(|it| is_new(it) && it.counts()).count();
        let mut extra: Vec<&Task> =
            tasks.iter().copied().filter(|it| is_new(it) && it.counts()).collect();
        extra.sort_by_key(|it| std::cmp::Reverse(it.number));
        let extra = extra.iter().take(new_live.saturating_sub(wanted)).map(|it| it.id.clone());
        let going = going.into_iter().chain(extra).collect();
        self.kill_surplus(going, outside, now);
        let tasks = self.tasks_of(app);
        let all_new = tasks.iter().all(|it| it.configured_at >= configured && it.kill.is_none());
        all_new && tasks.iter().filter(|it| it.is_ready()).count() >= wanted
    }

    fn strategy(&self, app: &str, key: &str) -> f64 {
        let value =
            self.apps.get(app).and_then(|it| it.spec.0.get("upgradeStrategy")?.get(key)?.as_f64());
        value.unwrap_or(1.0)
    }

    /// How many tasks may be launched for an app now. A deployment of it that has not come to its
    /// launches yet, or that stops it, allows none.
    pub(crate) fn room_to_launch(&self, app: &str) -> usize {
        let Some(it) = self.apps.get(app) else { return 0 };
        let wanted = it.spec.instances();
        let live = self.tasks_of(app).into_iter().filter(|it| it.counts());
        let of = self.deployments.iter().find(|it| it.touches(app));
        let kind = of.map(|of| {
            let action = of.current_actions().iter().find(|it| it.app == app);
            action.filter(|_| of.current > 0).map(|it| it.kind)
        });
        match kind {
            None | Some(Some(ActionKind::Scale)) => wanted.saturating_sub(live.count()),
            Some(Some(ActionKind::Restart)) => {
                let (configured, mut new, mut all) = (it.configured_at, 0, 0);
                for task in live {
                    all += 1;
                    new += usize::from(task.configured_at >= configured);
                }
                let over =
                    (self.strategy(app, "maximumOverCapacity") * wanted as f64).floor() as usize;
                // Where nothing may be missing and nothing come on top, one comes on top.
                let stuck = over == 0 && self.strategy(app, "minimumHealthCapacity") >= 1.0;
                let most = wanted + over.max(usize::from(stuck));
                wanted.saturating_sub(new).min(most.saturating_sub(all))
            }
            Some(_) => 0,
        }
    }

    fn kill_surplus(&mut self, ids: Vec<String>, outside: &Outside, now: Ms) {
        for id in ids {
            self.kill(&id, KillReason::Surplus, outside, now);
        }
    }
}
