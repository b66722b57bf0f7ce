//! The app that a service becomes (control-plane §12.2).

use crate::base::time::Duration;
use crate::control::schedule::environment::{Place, environment};
use crate::core::service::{Description, Proto};
use serde_json::{Map, Value, json};

/// Time a health check of Marathon's may take.
const CHECK_TIMEOUT_SECS: u64 = 20;
/// As long as nothing else is said, an instance that never becomes healthy is given up after twice
/// this.
const EXPIRY: Duration = Duration::from_secs(7200 * 60);

/// What all apps have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// Name of the cluster.
    pub(super) cluster: String,
    /// The user of services that name none.
    pub(super) user: String,
    /// From which the passwords of services follow.
    pub(super) secret: String,
    /// The user tasks run as; none: Marathon's own choice.
    pub(super) task_user: Option<String>,
    /// What the command is an argument of; empty: a shell runs it.
    pub(super) init: Vec<String>,
}

/// The body of `POST /v2/apps`.
pub(super) fn app(description: &Description, instances: u32, common: &Common) -> Value {
    let parameters = &description.parameters;
    let mut app = json!({
        "id": description.id.as_str(),
        "instances": instances,
        "cpus": parameters.cpus,
        "mem": parameters.mem,
        "ports": vec![0; usize::from(parameters.ports)],
        "env": variables(description, common),
        "labels": {"source": "waiter", "user": parameters.run_as_user},
        "backoffFactor": parameters.restart_backoff_factor,
        "healthChecks": [health_check(description)],
    });
    let cmd = parameters.cmd.as_str();
    if common.init.is_empty() {
        app["cmd"] = cmd.into();
    } else {
        app["args"] = common.init.iter().map(String::as_str).chain([cmd]).collect();
    }
    if let Some(user) = &common.task_user {
        app["user"] = user.as_str().into();
    }
    let grace = parameters.termination_grace_period.as_secs();
    if grace > 0 {
        app["taskKillGracePeriodSeconds"] = grace.into();
    }
    app
}

/// Ports are Marathon's to give, so they and the sandbox are not among them.
fn variables(description: &Description, common: &Common) -> Value {
    let place = Place {
        cluster: &common.cluster,
        user: &common.user,
        secret: &common.secret,
        directory: "",
        ports: &[],
    };
    let mut variables = environment(description, &place, |_| None);
    for name in ["MESOS_SANDBOX", "WAITER_SANDBOX"] {
        variables.remove(name);
    }
    let user = common.task_user.as_ref().or_else(|| variables.get("USER"));
    let user = user.cloned().unwrap_or_default();
    variables.insert("HOME".to_owned(), format!("/home/{user}"));
    variables.insert("LOGNAME".to_owned(), user.clone());
    variables.insert("USER".to_owned(), user);
    let variables: Map<String, Value> =
        variables.into_iter().map(|(name, value)| (name, value.into())).collect();
    Value::Object(variables)
}

fn health_check(description: &Description) -> Value {
    let parameters = &description.parameters;
    let forever = 2 * parameters.instance_expiry.unwrap_or(EXPIRY);
    let grace = match parameters.grace_period {
        Duration::ZERO => forever,
        grace => grace,
    };
    let protocol = match parameters.health_check_proto.unwrap_or(parameters.backend_proto) {
        Proto::Http | Proto::H2c => "HTTP",
        Proto::Https | Proto::H2 => "HTTPS",
    };
    json!({
        "protocol": protocol,
        "path": parameters.health_check_url,
        "portIndex": parameters.health_check_port_index,
        "gracePeriodSeconds": grace.as_secs(),
        "intervalSeconds": parameters.health_check_interval.as_secs(),
        "timeoutSeconds": CHECK_TIMEOUT_SECS,
        "maxConsecutiveFailures": parameters.health_check_max_consecutive_failures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::service::testing::description;

    fn common() -> Common {
        Common {
            cluster: "c".into(),
            user: "router".into(),
            secret: "s".into(),
            task_user: None,
            init: Vec::new(),
        }
    }

    #[test]
    fn an_app_says_what_the_description_does() {
        let mut description = description("x");
        description.parameters.cmd = "./serve -p $PORT0".into();
        description.parameters.ports = 2;
        description.parameters.env = [("A".to_owned(), "b".to_owned())].into();
        let made = app(&description, 3, &common());
        assert_eq!(made["id"], description.id.as_str());
        assert_eq!((&made["cmd"], &made["args"]), (&json!("./serve -p $PORT0"), &json!(null)));
        assert_eq!((&made["instances"], &made["ports"]), (&json!(3), &json!([0, 0])));
        assert_eq!(made["user"], json!(null));
        assert_eq!(made["labels"]["source"], "waiter");
        assert_eq!(made["taskKillGracePeriodSeconds"], json!(null));
        let check = &made["healthChecks"][0];
        assert_eq!((&check["protocol"], &check["path"]), (&json!("HTTP"), &json!("/status")));
        assert_eq!(
            (&check["gracePeriodSeconds"], &check["timeoutSeconds"]),
            (&json!(30), &json!(20))
        );
        assert_eq!(made["env"]["A"], "b");
        assert_eq!(made["env"]["WAITER_SERVICE_ID"], description.id.as_str());
        for name in ["PORT0", "MESOS_SANDBOX", "WAITER_SANDBOX", "PATH"] {
            assert_eq!(made["env"][name], json!(null), "{name}");
        }
    }

    #[test]
    fn the_original_s_form_is_had_by_options() {
        let mut description = description("x");
        description.parameters.cmd = "run".into();
        description.parameters.grace_period = Duration::ZERO;
        description.parameters.termination_grace_period = Duration::from_secs(7);
        description.parameters.health_check_proto = Some(Proto::Https);
        let task_user = Some("bob".to_owned());
        let init = vec!["waiter-mesos-init".to_owned(), "-v".to_owned()];
        let made = app(&description, 1, &Common { task_user, init, ..common() });
        assert_eq!(made["args"], json!(["waiter-mesos-init", "-v", "run"]));
        assert_eq!((&made["cmd"], &made["user"]), (&json!(null), &json!("bob")));
        assert_eq!(made["healthChecks"][0]["gracePeriodSeconds"], json!(2 * 7200 * 60));
        assert_eq!(made["taskKillGracePeriodSeconds"], json!(7));
        assert_eq!(made["healthChecks"][0]["protocol"], "HTTPS");
    }
}
