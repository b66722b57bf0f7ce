//! Apps whose count does not fit their tasks although nothing is under way (control-plane §12.5).

use super::mapping;
use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::wire::marathon::App;
use std::collections::HashMap;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(15);
/// It must have been so for longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Apps that do not fit, and since when.
#[derive(Debug, Default)]
pub(super) struct Drift {
    since: HashMap<ServiceId, (u32, u32, Instant)>,
    looked: Option<Instant>,
}

impl Drift {
    /// Looks at all apps, every fifteen seconds; those that have not fitted for a minute, with the
    /// number of their tasks. They are forgotten with that. Apps without any task are left to
    /// Marathon, which is about to launch them or delays it.
    pub(super) fn look(
        &mut self,
        apps: &[App],
        prefix: &str,
        now: Instant,
    ) -> Vec<(ServiceId, u32)> {
        if self.looked.is_some_and(|at| now - at < INTERVAL) {
            return Vec::new();
        }
        self.looked = Some(now);
        let mut before = std::mem::take(&mut self.since);
        let mut due = Vec::new();
        for app in apps {
            let tasks = mapping::live_count(app);
            let fits = app.instances == tasks || tasks == 0 || app.tasks.is_none();
            if fits || !app.deployments.is_empty() {
                continue;
            }
            let Some(service) = mapping::service_of(&app.id, prefix) else { continue };
            let since = match before.remove(&service) {
                Some((wanted, had, since)) if (wanted, had) == (app.instances, tasks) => since,
                _ => now,
            };
            if now - since > PATIENCE {
                due.push((service, tasks));
            } else {
                self.since.insert(service, (app.instances, tasks, since));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::marathon::Apps;

    #[test]
    fn a_minute_without_change_makes_it_due() {
        let apps = |wanted: u32, deployments: &str| {
            let text = format!(
                r#"{{"apps":[{{"id":"/ws-a","instances":{wanted},"deployments":{deployments},
                   "tasks":[{{"id":"ws-a.1"}}]}},{{"id":"/ws-b","instances":5,"tasks":[]}},
                   {{"id":"/other","instances":5,"tasks":[{{"id":"other.1"}}]}}]}}"#
            );
            Apps::read(text.as_bytes()).expect("a list").apps
        };
        let mut drift = Drift::default();
        let mut at = |seconds: u64, apps: &[App]| {
            drift.look(apps, "ws-", Instant(0) + Duration::from_secs(seconds))
        };
        let (odd, busy) = (apps(3, "[]"), apps(3, r#"[{"id":"d"}]"#));
        assert_eq!(at(0, &odd), []);
        assert_eq!(at(60, &odd), [], "not yet");
        assert_eq!(at(74, &odd), [], "not looked at");
        assert_eq!(at(75, &odd), [(ServiceId::new("ws-a"), 1)]);
        assert_eq!(at(90, &odd), [], "forgotten");
        assert_eq!(at(150, &apps(4, "[]")), [], "changed");
        assert_eq!(at(180, &busy), []);
        assert_eq!(at(225, &apps(4, "[]")), [], "begins anew");
        assert_eq!(at(300, &apps(1, "[]")), [], "it fits");
    }
}
