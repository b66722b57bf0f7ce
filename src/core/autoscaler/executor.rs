//! From a decision to one order: the scaling executor's table (control-plane §10.5).

use super::desired::{Decision, Quanta, quanta};
use crate::base::time::{Duration, Instant};

/// A timer may come early by this much without costing a kill its turn.
const EARLY: Duration = Duration::from_millis(50);

/// What is done for one service in one cycle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// There is nothing to do.
    Nothing,
    /// An earlier order is still taking effect.
    Ignore,
    /// Ask the scheduler for so many instances.
    ScaleTo {
        /// Instances to ask for.
        n: u32,
        /// Whether pending operations of the scheduler are overridden.
        force: bool,
    },
    /// End one instance; tell [`Autoscaler::killed`](super::Autoscaler::killed) when it is done.
    KillOne,
}

/// What the scheduler has of a service, and what was last done.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Instances that exist.
    pub task_count: u32,
    /// Instances requested.
    pub total: u32,
    /// Cores of one instance.
    pub cpus: f64,
    /// Memory of one instance in MiB.
    pub mem: f64,
    /// When it was decided to end the instance that was last ended to scale down.
    pub last_scale_down: Option<Instant>,
}

/// Limits of what the executor does.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What one order may launch.
    pub quanta: Quanta,
    /// Shortest time between two kills in one service.
    pub inter_kill: Duration,
}

impl Rules {
    /// The original's defaults.
    pub const DEFAULT: Self = Self { quanta: Quanta::DEFAULT, inter_kill: Duration::from_secs(1) };
}

/// What is done about a decision: the first matching line of control-plane §10.5.
///
/// One line is ours: growth is not ignored for tasks that are still to come when the floor demands
/// more than what was requested.
pub fn act(decision: &Decision, task: &Task, rules: &Rules, now: Instant) -> Action {
    let tasks = i64::from(task.task_count);
    if decision.amount > 0 {
        if task.task_count < task.total && decision.demanded <= task.total {
            return Action::Ignore;
        }
        let amount = quanta(decision.amount, task.cpus, task.mem, rules.quanta);
        let n = decision.scale_to + (amount - decision.amount);
        return Action::ScaleTo { n: count(n), force: false };
    }
    if decision.amount == 0 || tasks == decision.scale_to {
        return Action::Nothing;
    }
    if tasks < decision.scale_to {
        return Action::ScaleTo { n: count(decision.scale_to), force: true };
    }
    match task.last_scale_down {
        Some(last) if now + EARLY < last + rules.inter_kill => Action::Ignore,
        Some(_) | None => Action::KillOne,
    }
}

fn count(n: i64) -> u32 {
    u32::try_from(n.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(amount: i64, scale_to: i64, tasks: u32, demanded: u32, expected: Action) {
        let decision = Decision { target: 0.0, scale_to, amount, demanded };
        let total = count(scale_to - amount);
        let task =
            Task { task_count: tasks, total, cpus: 10.0, mem: 1024.0, last_scale_down: None };
        let done = act(&decision, &task, &Rules::DEFAULT, Instant(0));
        assert_eq!(done, expected, "{decision:?} {task:?}");
    }

    #[test]
    fn the_table() {
        check(0, 5, 5, 0, Action::Nothing);
        check(2, 7, 5, 0, Action::ScaleTo { n: 7, force: false });
        check(10, 15, 5, 0, Action::ScaleTo { n: 11, force: false });
        check(2, 7, 4, 0, Action::Ignore);
        check(2, 7, 4, 5, Action::Ignore);
        check(2, 7, 4, 6, Action::ScaleTo { n: 7, force: false });
        check(-1, 4, 5, 0, Action::KillOne);
        check(-1, 4, 4, 0, Action::Nothing);
        check(-1, 4, 3, 0, Action::ScaleTo { n: 4, force: true });
        check(-7, -2, 5, 0, Action::KillOne);
    }

    #[test]
    fn kills_keep_their_distance() {
        let decision = Decision { target: 1.0, scale_to: 4, amount: -1, demanded: 0 };
        let second = Duration::from_secs(1);
        let at = |now| {
            let last_scale_down = Some(Instant(0));
            let task = Task { task_count: 5, total: 5, cpus: 1.0, mem: 1.0, last_scale_down };
            act(&decision, &task, &Rules::DEFAULT, now)
        };
        assert_eq!(at(Instant(0) + second / 2), Action::Ignore);
        assert_eq!(at(Instant(0) + second), Action::KillOne);
    }
}
