//! What a Mesos agent answers: where the sandbox of a task is, and what is in it.

use super::apps::or_default;
use serde::Deserialize;

/// The answer to `GET /state.json`, as far as it is of use.
#[derive(Debug, Deserialize)]
pub struct AgentState {
    #[serde(default, deserialize_with = "or_default")]
    frameworks: Vec<Framework>,
    #[serde(default, deserialize_with = "or_default")]
    completed_frameworks: Vec<Framework>,
}

#[derive(Debug, Deserialize)]
struct Framework {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    role: String,
    #[serde(default, deserialize_with = "or_default")]
    executors: Vec<Executor>,
    #[serde(default, deserialize_with = "or_default")]
    completed_executors: Vec<Executor>,
}

#[derive(Debug, Deserialize)]
struct Executor {
    #[serde(default, deserialize_with = "or_default")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    directory: String,
}

impl AgentState {
    /// Reads it.
    ///
    /// # Errors
    /// It is no state of an agent.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|it| it.to_string())
    }

    /// The sandbox of a task: of a framework that has Marathon in its name or role (control-plane
    /// §12.4), the completed ones first.
    pub fn sandbox(&self, task: &str) -> Option<&str> {
        let is_marathon = |it: &&Framework| {
            let names = [&it.name, &it.role];
            names.into_iter().any(|it| it.to_lowercase().contains("marathon"))
        };
        let frameworks = self.completed_frameworks.iter().chain(&self.frameworks);
        frameworks
            .filter(is_marathon)
            .flat_map(|it| it.completed_executors.iter().chain(&it.executors))
            .find(|it| it.id == task && !it.directory.is_empty())
            .map(|it| it.directory.as_str())
    }
}

/// One thing in a folder, from `GET /files/browse`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Item {
    /// Its whole path.
    pub path: String,
    /// Bytes.
    #[serde(default, deserialize_with = "or_default")]
    pub size: u64,
    #[serde(default, deserialize_with = "or_default")]
    nlink: u64,
    #[serde(default, deserialize_with = "or_default")]
    mode: String,
}

impl Item {
    /// Reads the answer to `GET /files/browse`.
    ///
    /// # Errors
    /// It is no list of files.
    pub fn read_all(bytes: &[u8]) -> Result<Vec<Self>, String> {
        serde_json::from_slice(bytes).map_err(|it| it.to_string())
    }

    /// Whether it is a folder: by its mode, or, where that is not told, by its links.
    pub fn is_folder(&self) -> bool {
        match self.mode.as_bytes().first() {
            Some(first) => *first == b'd',
            None => self.nlink != 1,
        }
    }

    /// Its name in the folder that was listed.
    pub fn name(&self) -> &str {
        self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_found_among_those_of_marathon() {
        let text = br#"{"frameworks":[
            {"name":"other","executors":[{"id":"t","directory":"/wrong"}]},
            {"name":"Marathon","role":"*","x":1,"executors":[{"id":"t","directory":"/now"}],
             "completed_executors":[{"id":"old","directory":"/old"},{"id":"empty"}]}],
            "completed_frameworks":null}"#;
        let state = AgentState::read(text).expect("a state");
        assert_eq!(state.sandbox("t"), Some("/now"));
        assert_eq!(state.sandbox("old"), Some("/old"));
        assert_eq!((state.sandbox("empty"), state.sandbox("none")), (None, None));
        assert!(AgentState::read(b"<html>").is_err());
    }

    #[test]
    fn files_and_folders() {
        let text = br#"[{"path":"/s/stdout","nlink":1,"size":5,"mode":"-rw-r--r--","uid":"u"},
            {"path":"/s/dir","nlink":2,"size":4096},{"path":"/s/linked","nlink":2,"mode":"-rw"}]"#;
        let items = Item::read_all(text).expect("a list");
        let told: Vec<_> = items.iter().map(|it| (it.name(), it.size, it.is_folder())).collect();
        assert_eq!(told, [("stdout", 5, false), ("dir", 4096, true), ("linked", 0, false)]);
    }
}
