//! Recorded answers of both generations, odd ones, and garbage.

use super::*;
use proptest::prelude::*;

/// As Marathon 1.3 writes it: nulls, and health results by task.
pub(crate) const OLD: &str = r#"{"apps":[{"id":"/waiter-service-a","cmd":"true","args":null,
  "user":null,
 "env":{},"instances":2,"cpus":0.1,"mem":32,"disk":0,"executor":"","constraints":[],"uris":[],
 "fetch":[],"storeUrls":[],"backoffSeconds":1,"backoffFactor":1.15,"maxLaunchDelaySeconds":3600,
 "container":null,"healthChecks":[],"readinessChecks":[],"dependencies":[],
 "upgradeStrategy":{"minimumHealthCapacity":1,"maximumOverCapacity":1},"labels":{},
 "acceptedResourceRoles":null,"ipAddress":null,"version":"2016-11-01T10:00:00.000Z",
 "residency":null,"ports":[10000],"portDefinitions":[{"port":10000,"protocol":"tcp"}],
 "requirePorts":false,"tasksStaged":0,"tasksRunning":2,"tasksHealthy":1,"tasksUnhealthy":0,
 "deployments":[],"lastTaskFailure":null,"tasks":[
 {"id":"waiter-service-a.0aa-1","slaveId":"S0","host":"h1","state":"TASK_RUNNING",
  "startedAt":"2016-11-01T10:00:01.000Z","stagedAt":"2016-11-01T10:00:00.500Z",
  "ports":[31000,31001],
  "version":"2016-11-01T10:00:00.000Z","ipAddresses":null,"appId":"/waiter-service-a",
  "healthCheckResults":[{"taskId":"waiter-service-a.0aa-1","firstSuccess":null,"lastSuccess":null,
   "lastFailure":null,"lastFailureCause":null,"consecutiveFailures":0,"alive":true}]},
 {"id":"waiter-service-a.0bb-2","slaveId":"S0","host":"h1","state":"TASK_RUNNING","ports":null,
  "startedAt":null,"stagedAt":null,"version":null,"healthCheckResults":null,
  "appId":"/waiter-service-a"}]}]}"#;

/// As Marathon 1.10 writes it: absent keys, health results by instance.
pub(crate) const NEW: &str = r#"{"apps":[{"id":"/waiter-service-b","cmd":"true","instances":1,
  "cpus":0.1,
 "mem":32,"disk":0,"gpus":0,"networks":[{"mode":"host"}],"role":"*",
  "killSelection":"YOUNGEST_FIRST",
 "unreachableStrategy":{"inactiveAfterSeconds":0,"expungeAfterSeconds":0},
 "versionInfo":{"lastScalingAt":"2021-05-01T10:00:00.000Z"},"tasksStaged":0,"tasksRunning":1,
 "tasksHealthy":0,"tasksUnhealthy":1,"deployments":[{"id":"d-1"}],
 "lastTaskFailure":{"appId":"/waiter-service-b","host":"h2",
  "message":"Command exited with status 3",
  "state":"TASK_FAILED","taskId":"waiter-service-b.instance-9._app.1",
  "timestamp":"2021-05-01T10:00:05.000Z","version":"x","slaveId":"S1"},
 "tasks":[{"appId":"/waiter-service-b","id":"waiter-service-b.instance-9._app.2","host":"h2",
  "ports":[31005],"servicePorts":[10001],"ipAddresses":[{"ipAddress":"10.0.0.1","protocol":"IPv4"}],
  "slaveId":"S1","state":"TASK_RUNNING","stagedAt":"2021-05-01T10:00:06.000Z",
  "startedAt":"2021-05-01T10:00:07.000Z","version":"v","role":"*","localVolumes":[],
  "healthCheckResults":[{"alive":false,"consecutiveFailures":2,
  "instanceId":"waiter-service-b.instance-9"}]}]}]}"#;

fn read(text: &str) -> Apps {
    Apps::read(text.as_bytes()).expect("a list of apps")
}

#[test]
fn the_old_generation_is_read() {
    let apps = read(OLD);
    assert_eq!(apps.unreadable, [""; 0]);
    let app = &apps.apps[0];
    assert_eq!(
        (app.id.as_str(), app.instances, app.tasks_running),
        ("/waiter-service-a", 2, Some(2))
    );
    let tasks = app.tasks.as_ref().expect("told");
    assert_eq!(tasks[0].ports, [31000, 31001]);
    assert_eq!(tasks[0].started_at.map(Date::iso).as_deref(), Some("2016-11-01T10:00:01.000Z"));
    assert_eq!((tasks[0].is_healthy(), tasks[1].is_healthy()), (Some(true), None));
    assert_eq!((tasks[1].ports.len(), tasks[1].started_at), (0, None));
}

#[test]
fn the_new_generation_is_read() {
    let app = &read(NEW).apps[0];
    assert_eq!(app.deployments, [Id { id: "d-1".into() }]);
    let failure = app.last_task_failure.as_ref().expect("told");
    assert_eq!(failure.message, "Command exited with status 3");
    let task = &app.tasks.as_ref().expect("told")[0];
    assert_eq!((task.state, task.is_healthy()), (TaskState::Running, Some(false)));
}

#[test]
fn what_is_no_list_is_no_empty_list() {
    for text in
        ["", "{}", "[]", "null", r#"{"apps":null}"#, r#"{"apps":{}}"#, r#"{"apps":[{"id":"/a""#]
    {
        assert!(Apps::read(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(read(r#"{"apps":[]}"#), Apps::default());
}

#[test]
fn an_app_that_cannot_be_read_leaves_the_others() {
    let apps = read(
        r#"{"apps":[{"id":"/a","instances":1},{"id":"/b","instances":"two"},{"id":7,"instances":1},
            {"id":"/c","instances":1,"tasks":[{"host":"no id"}]},{"id":"/d","instances":-1}]}"#,
    );
    assert_eq!(apps.apps.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["/a"]);
    assert_eq!(apps.unreadable, ["/b", "", "/c", "/d"]);
    assert_eq!(apps.apps[0].tasks, None, "not told is not none");
}

#[test]
fn odd_tasks() {
    let text = r#"{"app":{"id":"/a","instances":9,"tasks":[
        {"id":"1","state":"TASK_KILLING"},{"id":"2","state":"TASK_UNREACHABLE"},
        {"id":"3","state":null,"ports":[0,70000,-1,"x",5,5]},{"id":"4","state":"TASK_PURPLE"},
        {"id":"5","startedAt":"yesterday","stagedAt":"2021-05-01T10:00:06.000Z"},
        {"id":"6","healthCheckResults":[]},{"id":"7","healthCheckResults":[null]},
        {"id":"8","healthCheckResults":[{"alive":true,"consecutiveFailures":1}]},
        {"id":"9","healthCheckResults":[{"alive":true},{"alive":null}]}]}}"#;
    let app = App::read(text.as_bytes()).expect("an app");
    let tasks = app.tasks.expect("told");
    let states: Vec<TaskState> = tasks.iter().take(4).map(|it| it.state).collect();
    use TaskState::{Ending, Unreachable, Untold};
    assert_eq!(states, [Ending, Unreachable, Untold, Untold]);
    assert_eq!(tasks[2].ports, [0, 0, 0, 0, 5, 5]);
    assert_eq!((tasks[4].started_at, tasks[4].staged_at.is_some()), (None, true));
    let healthy: Vec<_> = tasks[5..].iter().map(Task::is_healthy).collect();
    assert_eq!(healthy, [None, None, Some(false), None]);
}

proptest! {
    /// Cut anywhere, an answer is refused; and never does reading panic.
    #[test]
    fn a_truncated_answer_is_refused(cut in 0..NEW.len()) {
        prop_assert!(Apps::read(&NEW.as_bytes()[..cut]).is_err());
        prop_assert!(Apps::read(&OLD.as_bytes()[..cut.min(OLD.len() - 1)]).is_err());
    }

    /// A byte that is changed changes what is told or refuses it; it invents no app and no task.
    #[test]
    fn a_changed_byte_invents_nothing(at in 0..NEW.len(), byte: u8) {
        let mut bytes = NEW.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(apps) = Apps::read(&bytes) {
            prop_assert!(apps.apps.len() + apps.unreadable.len() <= 1);
            let tasks = apps.apps.iter().flat_map(|it| it.tasks.iter().flatten()).count();
            prop_assert!(tasks <= 1);
        }
    }

    #[test]
    fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Apps::read(&bytes).is_err());
        let _ = App::read(&bytes);
        let _ = crate::wire::marathon::Trouble::read(&bytes);
        let _ = crate::wire::marathon::Deployment::read_all(&bytes);
        let _ = crate::wire::marathon::events::Events::default().read(&bytes);
    }

    /// Any value in the place of any key: the app is read, or it alone is unreadable.
    #[test]
    fn odd_values_stay_where_they_are(key in 0..8usize, value in 0..9usize) {
        let keys = ["instances", "tasks", "tasksRunning", "tasksStaged", "deployments",
            "lastTaskFailure", "id", "other"];
        let values = ["null", "-1", "1.5", "true", "\"x\"", "[]", "{}", "[[]]", "1e99"];
        let (key, value) = (keys[key], values[value]);
        let odd = format!(r#"{{"id":"/odd","instances":1,"tasks":[],"{key}":{value}}}"#);
        let text = format!(r#"{{"apps":[{odd},{{"id":"/fine","instances":1,"tasks":[]}}]}}"#);
        let apps = Apps::read(text.as_bytes()).expect("the list is one");
        prop_assert!(apps.apps.iter().any(|it| it.id == "/fine"));
        prop_assert_eq!(apps.apps.len() + apps.unreadable.len(), 2);
    }
}
