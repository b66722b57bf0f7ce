//! Apps and their tasks (`GET /v2/apps`, `GET /v2/apps/{id}`).

use crate::base::time::Date;
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, de};
use serde_json::value::RawValue;
use std::fmt;

/// The answer to `GET /v2/apps`: the apps that could be read, and how many could not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Apps {
    /// Those that could be read.
    pub apps: Vec<App>,
    /// Ids of those that could not; empty where not even that could be read.
    pub unreadable: Vec<String>,
}

/// One app.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Its id, as it came: with or without the slash before it.
    pub id: String,
    /// Instances wanted.
    pub instances: u32,
    /// When it was last written to, by Marathon's clock; it never goes back.
    #[serde(default, deserialize_with = "date")]
    pub version: Option<Date>,
    /// Its tasks; none: the answer does not tell.
    #[serde(default)]
    pub tasks: Option<Vec<Task>>,
    /// Tasks that run, as Marathon counts them.
    #[serde(default)]
    pub tasks_running: Option<u32>,
    /// Tasks that start, as Marathon counts them.
    #[serde(default)]
    pub tasks_staged: Option<u32>,
    /// Deployments under way.
    #[serde(default, deserialize_with = "or_default")]
    pub deployments: Vec<Id>,
    /// The last task that failed.
    #[serde(default)]
    pub last_task_failure: Option<Failure>,
}

/// Something named.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Id {
    /// Its id.
    pub id: String,
}

/// One task.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Name or address of its host.
    #[serde(default, deserialize_with = "or_default")]
    pub host: String,
    /// Its ports; 0 where what was told is no port.
    #[serde(default, deserialize_with = "ports")]
    pub ports: Vec<u16>,
    /// The agent that runs it.
    #[serde(default, deserialize_with = "or_default")]
    pub slave_id: String,
    /// Its state; not always told.
    #[serde(default, deserialize_with = "or_default")]
    pub state: TaskState,
    /// When it was given to an agent.
    #[serde(default, deserialize_with = "date")]
    pub staged_at: Option<Date>,
    /// When it began to run.
    #[serde(default, deserialize_with = "date")]
    pub started_at: Option<Date>,
    /// What Marathon's health checks came to; null entries stand for checks not made yet.
    #[serde(default, deserialize_with = "or_default")]
    pub health_check_results: Vec<Option<HealthResult>>,
}

/// What one health check of a task came to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HealthResult {
    /// Whether its last success is newer than its last failure; none: not told.
    #[serde(default)]
    pub alive: Option<bool>,
    /// Failures since the last success.
    #[serde(default)]
    pub consecutive_failures: Option<u32>,
}

/// How the last task that failed did so.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Its id; empty where it is not told.
    #[serde(default, deserialize_with = "or_default")]
    pub task_id: String,
    /// Its host.
    #[serde(default, deserialize_with = "or_default")]
    pub host: String,
    /// Why it ended, in words.
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
    /// The state it ended in.
    #[serde(default, deserialize_with = "or_default")]
    pub state: String,
    /// When.
    #[serde(default, deserialize_with = "date")]
    pub timestamp: Option<Date>,
    /// The agent that ran it.
    #[serde(default, deserialize_with = "or_default")]
    pub slave_id: String,
}

/// The state of a task.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TaskState {
    /// Not told, or in a word that is not known.
    #[default]
    Untold,
    /// On its way to running.
    Starting,
    /// Running.
    Running,
    /// Nobody knows: its agent is out of reach.
    Unreachable,
    /// Ended, or told to end.
    Ending,
}

impl<'de> Deserialize<'de> for TaskState {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Word;
        impl de::Visitor<'_> for Word {
            type Value = TaskState;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the state of a task")
            }

            fn visit_str<E>(self, word: &str) -> Result<TaskState, E> {
                Ok(TaskState::parse(word))
            }
        }
        from.deserialize_str(Word)
    }
}

impl TaskState {
    fn parse(word: &str) -> Self {
        match word {
            "TASK_STAGING" | "TASK_STARTING" => Self::Starting,
            "TASK_RUNNING" => Self::Running,
            "TASK_UNREACHABLE" | "TASK_UNKNOWN" | "TASK_LOST" => Self::Unreachable,
            "TASK_KILLING"
            | "TASK_KILLED"
            | "TASK_FINISHED"
            | "TASK_FAILED"
            | "TASK_ERROR"
            | "TASK_GONE"
            | "TASK_GONE_BY_OPERATOR"
            | "TASK_DROPPED" => Self::Ending,
            _ => Self::Untold,
        }
    }
}

impl Task {
    /// What Marathon's health checks say: nothing while there are no results (control-plane §12.3).
    pub fn is_healthy(&self) -> Option<bool> {
        if self.health_check_results.is_empty() {
            return None;
        }
        let mut all = Some(true);
        for result in &self.health_check_results {
            match result.and_then(|it| it.alive.zip(Some(it.consecutive_failures.unwrap_or(0)))) {
                Some((true, 0)) => {}
                Some(_) => return Some(false),
                None => all = None,
            }
        }
        all
    }
}

impl Apps {
    /// Reads the answer.
    ///
    /// # Errors
    /// It is no list of apps. An app that cannot be read is none: the others are.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Whole {
            apps: Vec<App>,
        }
        if let Ok(Whole { apps }) = serde_json::from_slice(bytes) {
            return Ok(Self { apps, unreadable: Vec::new() });
        }
        #[derive(Deserialize)]
        struct Pieces<'a> {
            #[serde(borrow)]
            apps: Vec<&'a RawValue>,
        }
        let Pieces { apps } = serde_json::from_slice(bytes).map_err(|it| it.to_string())?;
        let mut read = Self::default();
        for piece in apps {
            match serde_json::from_str::<App>(piece.get()) {
                Ok(app) => read.apps.push(app),
                Err(_) => read.unreadable.push(id_of(piece.get())),
            }
        }
        Ok(read)
    }
}

impl App {
    /// Reads the answer to `GET /v2/apps/{id}`.
    ///
    /// # Errors
    /// It is no app.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Whole {
            app: App,
        }
        serde_json::from_slice::<Whole>(bytes).map(|it| it.app).map_err(|it| it.to_string())
    }
}

/// The id of an app of which nothing else can be read.
fn id_of(piece: &str) -> String {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_str::<Named>(piece).map(|it| it.id).unwrap_or_default()
}

/// A null is as good as an absent key.
pub(super) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// A date that cannot be read is none: nothing but a start time depends on it.
fn date<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Date>, D::Error> {
    struct Text;
    impl<'de> de::Visitor<'de> for Text {
        type Value = Option<Date>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a date")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Date::parse(text))
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            from.deserialize_any(self)
        }
    }
    from.deserialize_option(Text)
}

/// Ports; what is a number and no port is 0.
fn ports<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Port {
        Number(i64),
        Other(IgnoredAny),
    }
    let told = Option::<Vec<Port>>::deserialize(from)?.unwrap_or_default();
    let port = |it: &Port| match it {
        Port::Number(number) => u16::try_from(*number).unwrap_or(0),
        Port::Other(_) => 0,
    };
    Ok(told.iter().map(port).collect())
}

#[cfg(test)]
mod tests;
