//! The event stream: who listens, and what is told. No ids, no replay; who is slow is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde_json::{Value, json};

use super::{App, Deployment, Task, World};
use crate::clock::{Ms, iso};
use crate::options::Generation;

/// Frames that may wait for one subscriber.
const BACKLOG: usize = 1024;

#[derive(Debug, Clone, Default)]
pub(crate) struct Hub {
    subscribers: Vec<Subscriber>,
    /// Half-open: streams stay, but say nothing, not even heartbeats. Shared with the streams.
    pub(crate) silent: Arc<AtomicBool>,
}

#[derive(Debug, Clone)]
struct Subscriber {
    to: SyncSender<Arc<str>>,
    /// The types it wants; all, if empty.
    types: Vec<String>,
}

impl Hub {
    pub(crate) fn subscribe(&mut self, types: Vec<String>) -> Receiver<Arc<str>> {
        let (to, frames) = sync_channel(BACKLOG);
        self.subscribers.push(Subscriber { to, types });
        frames
    }

    pub(crate) fn close(&mut self) {
        self.subscribers.clear();
    }

    pub(crate) fn subscriber_count(&self) -> usize {
        self.subscribers.len()
    }

    fn publish(&mut self, kind: &str, body: &Value) {
        if self.silent.load(Ordering::Relaxed) {
            return;
        }
        let frame: Arc<str> = format!("event: {kind}\r\ndata: {body}\r\n\r\n").into();
        self.subscribers.retain(|it| {
            let wanted = it.types.is_empty() || it.types.iter().any(|one| one == kind);
            !wanted || it.to.try_send(Arc::clone(&frame)).is_ok()
        });
    }
}

impl World {
    /// Tells subscribers. `eventType` and `timestamp` are put into the body.
    pub(crate) fn tell(&mut self, kind: &str, mut body: Value, now: Ms) {
        // Instances, as something else than tasks, came with 1.4.
        if self.options.generation == Generation::V1_3 && kind.starts_with("instance_") {
            return;
        }
        body["eventType"] = json!(kind);
        body["timestamp"] = json!(iso(now));
        self.hub.publish(kind, &body);
    }

    pub(crate) fn tell_status(&mut self, task: &Task, status: &str, message: &str, now: Ms) {
        let agent = &self.agents[task.agent];
        let body = json!({
            "slaveId": agent.slave_id, "taskId": task.id, "taskStatus": status, "message": message,
            "appId": task.app_id, "host": agent.host, "ports": task.ports,
            "ipAddresses": [{ "ipAddress": agent.host, "protocol": "IPv4" }],
            "version": iso(task.version),
        });
        let host = agent.host.clone();
        let slave_id = agent.slave_id.clone();
        self.tell("status_update_event", body, now);
        let condition = status.trim_start_matches("TASK_");
        let condition = format!("{}{}", &condition[..1], condition[1..].to_lowercase());
        let body = json!({
            "instanceId": task.instance_id, "condition": condition, "runSpecId": task.app_id,
            "agentId": slave_id, "host": host, "runSpecVersion": iso(task.version),
        });
        self.tell("instance_changed_event", body, now);
    }

    pub(crate) fn tell_health(&mut self, task: &Task, alive: bool, now: Ms) {
        let mut body = json!({
            "appId": task.app_id, "version": iso(task.version), "alive": alive,
        });
        body[self.instance_key()] = json!(task.instance_id);
        self.tell("health_status_changed_event", body, now);
        let body = json!({
            "instanceId": task.instance_id, "runSpecId": task.app_id, "healthy": alive,
            "runSpecVersion": iso(task.version),
        });
        self.tell("instance_health_changed_event", body, now);
    }

    /// The key under which health is told.
    pub(crate) fn instance_key(&self) -> &'static str {
        match self.options.generation {
            Generation::V1_3 => "taskId",
            Generation::V1_10 => "instanceId",
        }
    }

    /// `id` is named by the last word of a deployment, `current` by the steps.
    pub(crate) fn tell_deployment(&mut self, kind: &str, of: &Deployment, now: Ms) {
        let mut body = json!({
            "plan": {
                "id": of.id,
                "original": { "id": "/", "apps": [] }, "target": { "id": "/", "apps": [] },
                "steps": of.steps_json(),
                "version": iso(of.version),
            },
        });
        if matches!(kind, "deployment_success" | "deployment_failed") {
            body["id"] = json!(of.id);
        } else {
            body["currentStep"] = json!({ "actions": of.current_json() });
        }
        self.tell(kind, body, now);
    }

    pub(crate) fn tell_api_post(&mut self, peer: &str, uri: &str, app: &App, now: Ms) {
        let body = json!({ "clientIp": peer, "uri": uri, "appDefinition": app.spec.0 });
        self.tell("api_post_event", body, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_read_is_cut_off() {
        let mut hub = Hub::default();
        let (slow, picky) = (hub.subscribe(Vec::new()), hub.subscribe(vec!["b".to_owned()]));
        (0..BACKLOG).for_each(|_| hub.publish("a", &json!({})));
        assert_eq!(hub.subscriber_count(), 2);
        hub.publish("b", &json!({}));
        assert_eq!(hub.subscriber_count(), 1);
        assert_eq!((slow.iter().count(), picky.try_iter().count()), (BACKLOG, 1));
    }
}
