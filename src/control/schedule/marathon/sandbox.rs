//! Sandboxes of tasks, as the Mesos agents show them (control-plane §12.4).

use crate::base::time::Duration;
use crate::core::sandbox::{Item, Kind, Wanted};
use crate::wire::escape::query_value;
use crate::wire::marathon::agent::{self, AgentState};
use ureq::Agent;

/// The state of an agent with many tasks has megabytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How the agents are asked.
#[derive(Clone, Debug)]
pub struct Agents {
    agent: Agent,
    port: u16,
}

impl Agents {
    /// They answer at this port, within this time.
    pub fn new(port: u16, timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(timeout))
            .timeout_global(Some(timeout))
            .max_idle_connections(0)
            .proxy(None) // agents are reached as Marathon is
            .build();
        Self { agent: config.into(), port }
    }

    /// What is in the sandbox of a task, or in a folder of it.
    ///
    /// # Errors
    /// Why that cannot be told, in words. `None`: there is no such folder.
    pub fn list(&self, wanted: &Wanted) -> Result<Option<Vec<Item>>, String> {
        let root = match wanted.root.as_str() {
            "" => match self.root(wanted)? {
                Some(root) => root,
                None => return Ok(None),
            },
            root => root.to_owned(),
        };
        // A folder that is asked for lies within the sandbox.
        if wanted.folder.split('/').any(|it| it == "..") {
            return Ok(None);
        }
        let folder = match wanted.folder.trim_matches('/') {
            "" => root,
            below => format!("{}/{below}", root.trim_end_matches('/')),
        };
        let target = format!("/files/browse?path={}", query_value(&folder));
        let Some(body) = self.get(&wanted.host, &target)? else { return Ok(None) };
        let items = agent::Item::read_all(&body)?;
        Ok(Some(items.iter().map(|it| self.item(it, wanted)).collect()))
    }

    fn root(&self, wanted: &Wanted) -> Result<Option<String>, String> {
        let Some(body) = self.get(&wanted.host, "/state.json")? else {
            return Err("the Mesos agent does not tell its state".into());
        };
        Ok(AgentState::read(&body)?.sandbox(&wanted.instance).map(str::to_owned))
    }

    fn item(&self, item: &agent::Item, wanted: &Wanted) -> Item {
        let name = item.name().to_owned();
        let kind = if item.is_folder() {
            let above = wanted.folder.trim_matches('/');
            Kind::Folder(if above.is_empty() { name.clone() } else { format!("{above}/{name}") })
        } else {
            let (host, path) = (self.authority(&wanted.host), query_value(&item.path));
            Kind::File(format!("http://{host}/files/download?path={path}"))
        };
        Item { name, size: item.size, kind }
    }

    /// The body of the answer; none where there is no such thing.
    fn get(&self, host: &str, target: &str) -> Result<Option<Vec<u8>>, String> {
        let url = format!("http://{}{target}", self.authority(host));
        match self.agent.get(&url).call() {
            Ok(mut response) => {
                let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
                body.map(Some).map_err(|error| format!("{url}: {error}"))
            }
            Err(ureq::Error::StatusCode(404)) => Ok(None),
            Err(error) => Err(format!("{url}: {error}")),
        }
    }

    fn authority(&self, host: &str) -> String {
        let port = self.port;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}
