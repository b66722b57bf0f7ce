//! From Marathon's words to facts (control-plane §12.3).

use crate::base::address::{IpAddr, Ipv4Addr};
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::Date;
use crate::core::fact::{Flags, InstanceFact, Placement};
use crate::wire::marathon::{App, Failure, Task, TaskState, shortened};
use std::sync::Arc;

/// What facts are made with.
#[expect(missing_debug_implementations, reason = "it borrows a function")]
pub struct Means<'a> {
    /// What the ids of our apps begin with.
    pub prefix: &'a str,
    /// Where sandboxes are, as far as that is known.
    pub sandboxes: &'a Sandboxes,
    /// The address of a host, if it is known.
    pub address: &'a dyn Fn(&str) -> Option<IpAddr>,
    /// The date of the answer.
    pub date: Date,
    /// The date of the answer before it, if that was believed: what is new began later.
    pub before: Option<Date>,
}

/// Where sandboxes are: `<agent's folder>/…/frameworks/<framework>/…`.
#[derive(Clone, Debug, Default)]
pub struct Sandboxes {
    /// The folder of each agent.
    pub agent_dir: Option<String>,
    /// Marathon's framework.
    pub framework: Option<String>,
}

impl Sandboxes {
    fn of(&self, agent: &str, task: &str) -> String {
        match (&self.agent_dir, &self.framework) {
            (Some(dir), Some(framework)) if !agent.is_empty() => format!(
                "{}/{agent}/frameworks/{framework}/executors/{task}/runs/latest",
                dir.trim_end_matches('/')
            ),
            _ => String::new(),
        }
    }
}

/// The service that an app is, if it is one of ours.
pub(super) fn service_of(app: &str, prefix: &str) -> Option<ServiceId> {
    is_ours(app, prefix).then(|| ServiceId::new(app.trim_start_matches('/')))
}

/// Whether an app is a service of ours: ids of services hold neither slash nor dot.
pub(super) fn is_ours(app: &str, prefix: &str) -> bool {
    let id = app.trim_start_matches('/');
    id.starts_with(prefix) && id.len() > prefix.len() && !id.contains(['/', '.'])
}

/// The instance that a task is. Task ids begin with the id of their app; one that does not is
/// still named below its service.
pub(super) fn instance_of(service: &ServiceId, task: &str) -> InstanceId {
    let suffix = task.strip_prefix(service.as_str()).and_then(|it| it.strip_prefix('.'));
    InstanceId::new(service, suffix.filter(|it| !it.is_empty()).unwrap_or(task))
}

/// Tasks that run, start, or may run: all but those that have ended or been told to.
pub(super) fn live(app: &App) -> impl Iterator<Item = &Task> {
    let tasks = app.tasks.iter().flatten();
    tasks.filter(|it| it.state != TaskState::Ending && !it.id.is_empty())
}

/// How many tasks of an app are live and within reach: of any other nobody knows whether it still
/// counts.
pub(super) fn sure_count(app: &App) -> u32 {
    let sure = live(app).filter(|it| it.state != TaskState::Unreachable);
    u32::try_from(sure.count()).unwrap_or(u32::MAX)
}

/// Whether a task of an app is out of reach.
pub(super) fn any_unreachable(app: &App) -> bool {
    live(app).any(|it| it.state == TaskState::Unreachable)
}

/// Whether Marathon's own checks pass on a task of an app.
pub(super) fn any_healthy(app: &App) -> bool {
    live(app).any(|it| it.is_healthy() == Some(true))
}

/// Whether an app's last failure is no older than some minutes, seen from the launch of its
/// youngest task: both are dates of the cluster, so no clock of ours is asked. An app that failed
/// once keeps that failure for ever, and may well boot slowly years later. One that failed and has
/// no task at all is between two launches: the next one tells more, and more of them wait for the
/// same offers.
pub(super) fn failed_lately(app: &App) -> bool {
    const LATELY_MS: u64 = 10 * 60 * 1000;
    let Some(failure) = &app.last_task_failure else { return false };
    let Some(youngest) = live(app).map(|it| it.staged_at.or(it.started_at)).max() else {
        return app.instances > 0;
    };
    failure.timestamp.zip(youngest).is_some_and(|(failed, it)| failed.0 + LATELY_MS > it.0)
}

/// Whether Marathon's own counts agree with the tasks it lists.
pub(super) fn counts_agree(app: &App) -> bool {
    let counted = app.tasks_running.zip(app.tasks_staged).map(|(a, b)| u64::from(a) + u64::from(b));
    // Those out of reach are listed and not counted.
    counted.is_none_or(|it| it <= app.tasks.iter().flatten().count() as u64)
}

/// An instance that a task is. `known`: as it was before.
pub(super) fn instance(
    service: &ServiceId,
    task: &Task,
    known: Option<&InstanceFact>,
    means: &Means<'_>,
) -> InstanceFact {
    let address = (means.address)(&task.host);
    let ports = match address {
        // A port that is none ends the list: what comes behind it could not be told by its place.
        Some(_) => task.ports.iter().copied().take_while(|it| *it != 0).collect(),
        None => Vec::new(),
    };
    let told = task.started_at.or(task.staged_at);
    let started_at = started_at(told, known, means);
    let runs = matches!(task.state, TaskState::Running | TaskState::Untold);
    let id = instance_of(service, &task.id);
    let host = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    InstanceFact {
        healthy: task.is_healthy().filter(|healthy| runs || !healthy),
        placement: Some(placement(&task.host, &task.slave_id)),
        log_directory: means.sandboxes.of(&task.slave_id, &task.id),
        ..InstanceFact::new(id, host, ports, started_at)
    }
}

/// When a task began. A clock that is ahead makes no instance that starts in the future, and one
/// that is behind none that is old when it comes.
fn started_at(told: Option<Date>, known: Option<&InstanceFact>, means: &Means<'_>) -> Date {
    match (told.filter(|it| *it <= means.date), known, told) {
        (Some(told), Some(known), _) => told.max(known.started_at),
        (Some(told), None, _) => told.max(means.before.unwrap_or(told)),
        (None, Some(known), _) => known.started_at,
        (None, None, Some(_)) => means.date,
        (None, None, None) => Date(0),
    }
}

/// The instance that failed last.
pub(super) fn failed(service: &ServiceId, failure: &Failure, means: &Means<'_>) -> InstanceFact {
    let id = instance_of(service, &failure.task_id);
    let host = (means.address)(&failure.host).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let at = failure.timestamp.unwrap_or(means.date);
    InstanceFact {
        flags: flags_of(&failure.message),
        exit_code: exit_code_of(&failure.message),
        message: shortened(&failure.message).to_owned(),
        placement: Some(placement(&failure.host, &failure.slave_id)),
        log_directory: means.sandboxes.of(&failure.slave_id, &failure.task_id),
        ..InstanceFact::new(id, host, Vec::new(), at)
    }
}

fn placement(host: &str, agent: &str) -> Arc<Placement> {
    Arc::new(Placement { host: host.to_owned(), agent: agent.to_owned() })
}

fn flags_of(message: &str) -> Flags {
    if message.contains("Task was killed since health check failed") {
        Flags::NEVER_PASSED_HEALTH_CHECKS
    } else if message.contains("Memory limit exceeded:") {
        Flags::MEMORY_LIMIT_EXCEEDED
    } else {
        Flags::default()
    }
}

fn exit_code_of(message: &str) -> Option<i32> {
    let says = message.contains("Command exited with status");
    says.then(|| message.split_whitespace().next_back()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_of_ours() {
        for (app, expected) in [
            ("/waiter-service-a", Some("waiter-service-a")),
            ("waiter-service-a", Some("waiter-service-a")),
            ("/waiter-service-", None),
            ("/waiter-service-a/b", None),
            ("/waiter-service-a.b", None),
            ("/group/waiter-service-a", None),
            ("/other", None),
            ("", None),
        ] {
            let found = service_of(app, "waiter-service-");
            assert_eq!(found.as_ref().map(ServiceId::as_str), expected, "{app}");
        }
    }

    #[test]
    fn tasks_of_all_generations_are_instances() {
        let service = ServiceId::new("ws-a");
        for (task, expected) in [
            ("ws-a.0aa-1", "ws-a.0aa-1"),
            ("ws-a.marathon-0aa", "ws-a.marathon-0aa"),
            ("ws-a.instance-0aa._app.3", "ws-a.instance-0aa._app.3"),
            ("other-0aa", "ws-a.other-0aa"),
            ("ws-a.", "ws-a.ws-a."),
        ] {
            assert_eq!(instance_of(&service, task).as_str(), expected);
        }
    }

    #[test]
    fn an_instance_is_as_old_as_it_can_be() {
        let address = |_: &str| None;
        let sandboxes = Sandboxes::default();
        let check = |before: Option<u64>, known: Option<u64>, told: Option<u64>, expected: u64| {
            let (date, before) = (Date(1000), before.map(Date));
            let means =
                Means { prefix: "", sandboxes: &sandboxes, address: &address, date, before };
            let id = InstanceId::new(&ServiceId::new("s"), "1");
            let fact = |at| InstanceFact::new(id, [127, 0, 0, 1].into(), Vec::new(), Date(at));
            let known = known.map(fact);
            let found = started_at(told.map(Date), known.as_ref(), &means);
            assert_eq!(found, Date(expected), "{before:?} {known:?} {told:?}");
        };
        check(None, None, Some(500), 500);
        check(Some(900), None, Some(950), 950);
        check(Some(900), None, Some(500), 900); // a clock that is behind
        check(Some(900), Some(900), Some(510), 900); // and stays so
        check(Some(900), Some(500), Some(510), 510); // it was staged before
        check(Some(900), None, Some(2000), 1000); // a clock that is ahead
        check(Some(900), Some(800), Some(2000), 800);
        check(Some(900), Some(800), None, 800);
        check(Some(900), None, None, 0); // not told: it never grows old
    }

    #[test]
    fn messages_are_understood() {
        let check = |message: &str, flags: u16, code: Option<i32>| {
            assert_eq!(
                (flags_of(message), exit_code_of(message)),
                (Flags(flags), code),
                "{message}"
            );
        };
        check("Command exited with status 3", 0, Some(3));
        check("Command exited with status 0", 0, Some(0));
        check("Command exited with status three", 0, None);
        check("exited 3", 0, None);
        check("Memory limit exceeded: Requested: 32MB Maximum Used: 33MB", 16, None);
        check(
            "Task was killed since health check failed. Reason: 500 Internal Server Error",
            8,
            None,
        );
        check("Abnormal executor termination: unknown container", 0, None);
    }
}
