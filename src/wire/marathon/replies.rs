//! Everything else Marathon answers: what came of a request, deployments, the queue, the framework.

use super::apps::{Id, or_default};
use serde::Deserialize;
use serde_json::Value;

/// What is told of a request that was not carried out. Bodies of refusals can be JSON, HTML or
/// empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trouble {
    /// In words; empty where nothing is told that can be read.
    pub message: String,
    /// Deployments that stand in the way.
    pub deployments: Vec<String>,
}

impl Trouble {
    /// Reads the body of a refusal.
    pub fn read(bytes: &[u8]) -> Self {
        let Ok(Value::Object(told)) = serde_json::from_slice(bytes) else {
            return Self { message: words_of(bytes), deployments: Vec::new() };
        };
        let mut message = told.get("message").and_then(Value::as_str).unwrap_or("").to_owned();
        for detail in told.get("details").and_then(Value::as_array).into_iter().flatten() {
            let path = detail.get("path").and_then(Value::as_str).unwrap_or("");
            let errors = detail.get("errors").and_then(Value::as_array).into_iter().flatten();
            let errors: Vec<&str> = errors.filter_map(Value::as_str).collect();
            if !errors.is_empty() {
                message.push_str(&format!("; {path}: {}", errors.join(", ")));
            }
        }
        let listed = told.get("deployments").and_then(Value::as_array).into_iter().flatten();
        let mut deployments: Vec<String> = listed
            .filter_map(|it| it.get("id").and_then(Value::as_str).or_else(|| it.as_str()))
            .map(str::to_owned)
            .collect();
        if deployments.is_empty() {
            deployments.extend(named_in(&message));
        }
        message.truncate(super::shortened(&message).len());
        Self { message, deployments }
    }

    /// Whether it says that an app of this id is there already.
    pub fn says_it_exists(&self) -> bool {
        self.deployments.is_empty() && self.message.contains("already exists")
    }
}

/// The deployment that a message points to: `'/v2/deployments/<id>'`.
fn named_in(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("/v2/deployments/")?;
    let id: String = rest.chars().take_while(|it| it.is_alphanumeric() || *it == '-').collect();
    (!id.is_empty()).then_some(id)
}

/// The first words of what is no JSON, without its tags.
fn words_of(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    let mut words = String::new();
    let mut in_tag = false;
    for it in text.chars() {
        match it {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                words.push(' ');
            }
            _ if in_tag => {}
            _ if it.is_control() => words.push(' '),
            _ => words.push(it),
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
}

/// The id of the deployment that a request began.
pub fn deployment_id(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Begun {
        #[serde(default)]
        deployment_id: Option<String>,
        #[serde(default, deserialize_with = "or_default")]
        deployments: Vec<Id>,
    }
    let begun: Begun = serde_json::from_slice(bytes).ok()?;
    begun.deployment_id.or_else(|| begun.deployments.into_iter().next().map(|it| it.id))
}

/// One deployment under way.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// When it began, as text.
    #[serde(default, deserialize_with = "or_default")]
    pub version: String,
    /// Apps it touches.
    #[serde(default, deserialize_with = "or_default")]
    pub affected_apps: Vec<String>,
    /// What it does, in steps.
    #[serde(default, deserialize_with = "or_default")]
    steps: Vec<Step>,
    /// What it does now.
    #[serde(default, deserialize_with = "or_default")]
    current_actions: Vec<Action>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Step {
    #[serde(default, deserialize_with = "or_default")]
    actions: Vec<Action>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Action {
    #[serde(default, deserialize_with = "or_default", alias = "type")]
    action: String,
    #[serde(default, deserialize_with = "or_default")]
    app: String,
}

impl Deployment {
    /// Reads the answer to `GET /v2/deployments`.
    ///
    /// # Errors
    /// It is no list of deployments.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, String> {
        serde_json::from_slice(bytes).map_err(|it| it.to_string())
    }

    /// Whether it stops this app for good.
    pub fn stops(&self, app: &str) -> bool {
        let stops = |it: &Action| it.action == "StopApplication" && is_same(&it.app, app);
        self.steps.iter().flat_map(|it| &it.actions).chain(&self.current_actions).any(stops)
    }

    /// Whether it does nothing but what routers order: to start, scale and stop apps.
    pub fn does_what_routers_do(&self) -> bool {
        let ours = |it: &Action| {
            matches!(
                it.action.as_str(),
                "StartApplication" | "ScaleApplication" | "StopApplication"
            )
        };
        let mut all = self.steps.iter().flat_map(|it| &it.actions).chain(&self.current_actions);
        let first = all.next();
        first.is_some_and(ours) && all.all(ours)
    }

    /// Whether it touches this app and nothing else.
    pub fn is_only_of(&self, app: &str) -> bool {
        !self.affected_apps.is_empty() && self.affected_apps.iter().all(|it| is_same(it, app))
    }
}

/// Whether two ids name the same app, with or without the slash before it.
pub fn is_same(one: &str, other: &str) -> bool {
    one.trim_start_matches('/') == other.trim_start_matches('/')
}

/// Apps whose next launch is delayed, from the answer to `GET /v2/queue`.
///
/// # Errors
/// It is no queue.
pub fn delayed(bytes: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Queue {
        queue: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        delay: Option<Delay>,
        app: Id,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Delay {
        #[serde(default)]
        overdue: Option<bool>,
        #[serde(default)]
        time_left_seconds: Option<f64>,
    }
    let queue: Queue = serde_json::from_slice(bytes).map_err(|it| it.to_string())?;
    let waits = |it: &Item| {
        let delay = it.delay.as_ref();
        delay.is_some_and(|it| {
            it.overdue == Some(false) || it.time_left_seconds.is_some_and(|left| left > 0.0)
        })
    };
    Ok(queue.queue.into_iter().filter(waits).map(|it| it.app.id).collect())
}

/// The id of the framework, from the answer to `GET /v2/info`.
pub fn framework_id(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        #[serde(default)]
        framework_id: Option<String>,
    }
    serde_json::from_slice::<Info>(bytes).ok()?.framework_id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_why_and_who_is_in_the_way() {
        let check = |text: &str, message: &str, deployments: &[&str]| {
            let trouble = Trouble::read(text.as_bytes());
            assert_eq!(
                (trouble.message.as_str(), trouble.deployments.as_slice()),
                (
                    message,
                    deployments.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>().as_slice(),
                )
            );
        };
        check(r#"{"message":"m","deployments":[{"id":"d1"},{"id":"d2"}]}"#, "m", &["d1", "d2"]);
        let pointed = "View details at '/v2/deployments/ab-1'.";
        check(&format!(r#"{{"message":"{pointed}"}}"#), pointed, &["ab-1"]);
        check(
            r#"{"message":"Object is not valid","details":[
                {"path":"/id","errors":["bad","worse"]}]}"#,
            "Object is not valid; /id: bad, worse",
            &[],
        );
        check("<html><h1>502 Bad\nGateway</h1></html>", "502 Bad Gateway", &[]);
        check("", "", &[]);
        check("[1]", "[1]", &[]);
        check(r#"{"message":7,"details":7,"deployments":7}"#, "", &[]);
        let exists = br#"{"message":"An app with id [/x] already exists."}"#;
        assert!(Trouble::read(exists).says_it_exists());
    }

    #[test]
    fn a_deployment_is_named_in_either_form() {
        assert_eq!(deployment_id(br#"{"version":"v","deploymentId":"d"}"#), Some("d".into()));
        assert_eq!(deployment_id(br#"{"id":"/x","deployments":[{"id":"d"}]}"#), Some("d".into()));
        assert_eq!(deployment_id(br#"{"deploymentId":null}"#), None);
        assert_eq!(deployment_id(b"<html>"), None);
    }

    #[test]
    fn deployments_tell_what_they_do() {
        let text = br#"[{"id":"d","version":"v","affectedApps":["/x"],"affectedPods":[],"extra":1,
            "steps":[{"actions":[{"action":"StopApplication","app":"/x"}]}],
            "currentActions":[{"action":"ScaleApplication","app":"/y"}]},
            {"id":"e","steps":null,"currentActions":null,"affectedApps":null}]"#;
        let all = Deployment::read_all(text).expect("a list");
        assert!(all[0].stops("x") && !all[0].stops("y") && all[0].is_only_of("x"));
        assert!(!all[1].stops("x") && !all[1].is_only_of("x"));
        assert!(all[0].does_what_routers_do() && !all[1].does_what_routers_do());
        let restarts = br#"[{"id":"d","steps":[{"actions":[{"action":"ScaleApplication"}]},
            {"actions":[{"action":"RestartApplication","app":"/x"}]}]}]"#;
        let all = Deployment::read_all(restarts).expect("a list");
        assert!(!all[0].does_what_routers_do());
        assert!(Deployment::read_all(b"{}").is_err());
    }

    #[test]
    fn the_queue_tells_whose_launch_is_delayed() {
        let text = br#"{"queue":[
            {"count":1,"delay":{"timeLeftSeconds":9,"overdue":false},"app":{"id":"/a"}},
            {"count":1,"delay":{"timeLeftSeconds":0,"overdue":true},"app":{"id":"/b"}},
            {"count":1,"delay":null,"app":{"id":"/c","x":[]}}]}"#;
        assert_eq!(delayed(text), Ok(vec!["/a".to_owned()]));
        assert!(delayed(b"[]").is_err());
        assert_eq!(framework_id(br#"{"frameworkId":"f","x":{}}"#), Some("f".into()));
        assert_eq!(framework_id(br#"{"frameworkId":null}"#), None);
    }
}
