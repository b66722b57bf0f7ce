//! How tasks end: asked to, by themselves, by their health, by their memory, or out of sight.

use std::collections::BTreeMap;

use super::health::Verdict;
use super::spec::HealthCheck;
use super::task::{Archived, Kill, KillReason, Task, TaskState};
use super::{Failure, World};
use crate::clock::Ms;
use crate::options::Generation;
use crate::outside::{Exit, Order, Outside, Signal};

impl World {
    /// Asks a task to end: SIGTERM now, SIGKILL after its grace.
    pub(crate) fn kill(&mut self, id: &str, reason: KillReason, outside: &Outside, now: Ms) {
        let Some(task) = self.tasks.get(id) else { return };
        let grace_s = self.apps.get(&task.app_id).map(|it| it.spec.kill_grace_s());
        let Some(task) = self.tasks.get_mut(id) else { return };
        // One that is told again, because its app goes away, is not replaced any more.
        if let Some(kill) = &mut task.kill {
            kill.reason =
                if kill.reason == KillReason::Asked { reason } else { kill.reason.clone() };
            return;
        }
        let hard_at = now + grace_s.unwrap_or(task.kill_grace_s) * 1000;
        task.kill = Some(Kill { reason, hard_at, hard: false });
        task.state = TaskState::Killing;
        match task.pid {
            Some(pid) => outside.signal(pid, Signal::TERM),
            None => return self.on_exit(id, Exit::Signal(15), now),
        }
        let task = task.clone();
        if self.options.generation == Generation::V1_10 {
            self.tell_status(&task, "TASK_KILLING", "", now);
        }
    }

    pub(crate) fn harden_kills(&mut self, outside: &Outside, now: Ms) {
        for task in self.tasks.values_mut() {
            if let (Some(kill), Some(pid)) = (&mut task.kill, task.pid)
                && !kill.hard
                && now >= kill.hard_at
            {
                kill.hard = true;
                outside.signal(pid, Signal::KILL);
            }
        }
    }

    /// The agent found that a task uses more memory than it may.
    pub(crate) fn on_memory_exceeded(&mut self, id: &str, used_mib: f64, outside: &Outside) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let mem = self.apps.get(&task.app_id).map_or(0.0, |it| it.spec.number("mem"));
        task.memory_exceeded = Some((mem, used_mib));
        if let Some(pid) = task.pid {
            outside.signal(pid, Signal::KILL);
        }
    }

    /// Memory of all process groups was looked at, in MiB.
    pub(crate) fn judge_memory(&mut self, used: &BTreeMap<i32, f64>, outside: &Outside) {
        let over = |it: &Task| {
            let used = *used.get(&it.pid?)?;
            let mem = self.apps.get(&it.app_id)?.spec.number("mem");
            (used > mem && it.memory_exceeded.is_none()).then(|| (it.id.clone(), used))
        };
        for (id, used) in self.tasks.values().filter_map(over).collect::<Vec<_>>() {
            self.on_memory_exceeded(&id, used, outside);
        }
    }

    /// The process of a task ended.
    pub(crate) fn on_exit(&mut self, id: &str, exit: Exit, now: Ms) {
        let Some(task) = self.tasks.get(id) else { return };
        let (state, message) = verdict(task, exit);
        self.end(id, state, &message, now);
    }

    /// The task is over, whatever its process does.
    pub(crate) fn end(&mut self, id: &str, state: &'static str, message: &str, now: Ms) {
        let Some(task) = self.tasks.remove(id) else { return };
        self.archive.push(Archived {
            id: task.id.clone(),
            agent: task.agent,
            sandbox: task.sandbox.clone(),
            framework_id: self.framework_id.clone(),
        });
        self.tell_status(&task, state, message, now);
        let unhealthy = matches!(&task.kill, Some(Kill { reason: KillReason::Unhealthy(_), .. }));
        let failed = !matches!(state, "TASK_KILLED" | "TASK_FINISHED");
        if (failed || unhealthy) && self.apps.contains_key(&task.app_id) {
            let failure = self.failure(&task, state, message, now);
            self.failures.insert(task.app_id.clone(), failure);
        }
        if (failed || state == "TASK_FINISHED")
            && let Some(app) = self.apps.get(&task.app_id)
        {
            self.delays.on_end(&task.app_id, &app.spec, task.configured_at, now);
        }
        let surplus = matches!(&task.kill, Some(Kill { reason: KillReason::Surplus, .. }));
        if !surplus && self.options.generation == Generation::V1_10 {
            let vacant = (task.instance_id.clone(), task.incarnation + 1);
            self.vacancies.entry(task.app_id).or_default().push(vacant);
        }
    }

    /// How a task is called of which the agent is gone for good.
    pub(crate) fn lost_state(&self) -> &'static str {
        match self.options.generation {
            Generation::V1_3 => "TASK_LOST",
            Generation::V1_10 => "TASK_GONE",
        }
    }

    fn failure(&self, task: &Task, state: &'static str, message: &str, now: Ms) -> Failure {
        let agent = &self.agents[task.agent];
        Failure {
            task_id: task.id.clone(),
            host: agent.host.clone(),
            slave_id: agent.slave_id.clone(),
            message: message.to_owned(),
            state,
            at: now,
            version: task.version,
        }
    }

    /// The first check comes after the delay.
    pub(crate) fn schedule_checks(&mut self, id: &str, now: Ms) {
        let checks = self.checks_of(id);
        let scale = self.options.health_scale;
        let Some(task) = self.tasks.get_mut(id) else { return };
        for (health, check) in task.health.iter_mut().zip(checks) {
            health.next_at = Some(now + scaled(check.delay_s, scale));
        }
    }

    pub(crate) fn start_checks(&mut self, outside: &Outside, now: Ms) {
        let due = |it: &&Task| {
            it.state == TaskState::Running
                && it.health.iter().any(|one| one.next_at.is_some_and(|at| at <= now))
        };
        for id in self.tasks.values().filter(due).map(|it| it.id.clone()).collect::<Vec<_>>() {
            let checks = self.checks_of(&id);
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            for (at, check) in checks.into_iter().enumerate() {
                let Some(health) = task.health.get_mut(at) else { continue };
                if health.next_at.is_none_or(|at| at > now) {
                    continue;
                }
                health.next_at = None;
                outside.check(Order {
                    task: id.clone(),
                    at,
                    check,
                    host: self.agents[task.agent].host.clone(),
                    ports: task.ports.clone(),
                    env: task.env.clone(),
                    dir: task.sandbox.clone(),
                    begun_at: now,
                });
            }
        }
    }

    /// A health check came back.
    pub(crate) fn on_check(
        &mut self,
        order: &Order,
        result: Result<(), String>,
        outside: &Outside,
        now: Ms,
    ) {
        let scale = self.options.health_scale;
        let Some(task) = self.tasks.get_mut(&order.task) else { return };
        let Some(started) = task.started_at.filter(|_| task.state == TaskState::Running) else {
            return;
        };
        let Some(health) = task.health.get_mut(order.at) else { return };
        let was_alive = health.alive();
        let cause = result.as_ref().err().cloned().unwrap_or_default();
        let failed = result.is_err();
        let grace_ends = started + scaled(order.check.grace_s, scale);
        let verdict = health.on_result(&order.check, result, grace_ends, now);
        let alive = health.alive();
        // From beginning to beginning: a slow check does not make them fewer, but none overlap.
        health.next_at = Some((order.begun_at + scaled(order.check.interval_s, scale)).max(now));
        let task = task.clone();
        if failed && verdict != Verdict::Ignored {
            let body = serde_json::json!({
                "appId": task.app_id, "taskId": task.id, "instanceId": task.instance_id,
                "healthCheck": self.check_json(&task.app_id, order.at),
            });
            self.tell("failed_health_check_event", body, now);
        }
        if alive != was_alive {
            self.tell_health(&task, alive, now);
        }
        if verdict == Verdict::Kill {
            self.kill_unhealthy(&task, cause, outside, now);
        }
    }

    fn kill_unhealthy(&mut self, task: &Task, cause: String, outside: &Outside, now: Ms) {
        let agent = &self.agents[task.agent];
        let body = serde_json::json!({
            "appId": task.app_id, "taskId": task.id, "instanceId": task.instance_id,
            "version": crate::clock::iso(task.version), "reason": cause,
            "host": agent.host, "slaveId": agent.slave_id,
        });
        let kind = match self.options.generation {
            Generation::V1_3 => "unhealthy_task_kill_event",
            Generation::V1_10 => "unhealthy_instance_kill_event",
        };
        self.tell(kind, body, now);
        self.kill(&task.id, KillReason::Unhealthy(cause), outside, now);
    }

    fn checks_of(&self, id: &str) -> Vec<HealthCheck> {
        let app = self.tasks.get(id).and_then(|it| self.apps.get(&it.app_id));
        app.map(|it| it.spec.health_checks()).unwrap_or_default()
    }

    fn check_json(&self, app: &str, at: usize) -> serde_json::Value {
        let checks = self.apps.get(app).map(|it| it.spec.list("healthChecks"));
        checks.and_then(|it| it.get(at)).cloned().unwrap_or_default()
    }
}

/// State and message of an end, in the words of Mesos' executor.
fn verdict(task: &Task, exit: Exit) -> (&'static str, String) {
    let plain = exit.message();
    if let Some((allowed, used)) = task.memory_exceeded {
        let text = format!(
            "Memory limit exceeded: Requested: {allowed}MB Maximum Used: {used:.0}MB\n\n\
             MEMORY STATISTICS: \nrss {}\n",
            (used * 1024.0 * 1024.0) as u64
        );
        return ("TASK_FAILED", text);
    }
    match (&task.kill, exit) {
        (Some(Kill { reason: KillReason::Unhealthy(cause), .. }), _) => {
            ("TASK_KILLED", format!("Task was killed since health check failed. Reason: {cause}"))
        }
        (Some(_), _) => ("TASK_KILLED", plain),
        (None, Exit::Code(0)) => ("TASK_FINISHED", plain),
        (None, _) => ("TASK_FAILED", plain),
    }
}

fn scaled(seconds: i64, scale: f64) -> Ms {
    (seconds as f64 * 1000.0 * scale) as Ms
}
