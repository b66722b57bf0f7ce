//! Apps whose count does not fit their tasks although nothing is under way (control-plane §12.5).

use super::mapping;
use crate::base::ids::ServiceId;
use crate::base::time::{Duration, Instant};
use crate::wire::marathon::App;
use std::collections::HashMap;

/// Apps that do not fit, and since when.
#[derive(Debug)]
pub(super) struct Drift {
    /// It must have been so for longer; a quarter of this lies between two looks.
    patience: Duration,
    since: HashMap<ServiceId, (u32, u32, Instant)>,
    looked: Option<Instant>,
}

impl Drift {
    /// A count must not have fitted for twice the time for which a service must be missing.
    pub(super) fn new(doubt: Duration) -> Self {
        Self { patience: 2 * doubt, since: HashMap::new(), looked: None }
    }

    /// Somebody else looks after all this.
    pub(super) fn forget(&mut self) {
        self.since.clear();
    }

    /// Looks at all apps; those that have not fitted for long enough, with the number of their
    /// tasks. They are forgotten with that. Apps without any task are left to Marathon, which is
    /// about to launch them or delays it; and of those that have one out of reach nobody knows how
    /// many they have.
    pub(super) fn look(
        &mut self,
        apps: &[App],
        prefix: &str,
        now: Instant,
    ) -> Vec<(ServiceId, u32)> {
        if self.looked.is_some_and(|at| now - at < self.patience / 4) {
            return Vec::new();
        }
        self.looked = Some(now);
        let mut before = std::mem::take(&mut self.since);
        let mut due = Vec::new();
        for app in apps {
            let tasks = mapping::sure_count(app);
            let fits = app.instances == tasks || tasks == 0 || app.tasks.is_none();
            if fits || !app.deployments.is_empty() || mapping::any_unreachable(app) {
                continue;
            }
            let Some(service) = mapping::service_of(&app.id, prefix) else { continue };
            let since = match before.remove(&service) {
                Some((wanted, had, since)) if (wanted, had) == (app.instances, tasks) => since,
                _ => now,
            };
            if now - since > self.patience {
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
        let mut drift = Drift::new(Duration::from_secs(30));
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

    #[test]
    fn who_does_not_lead_begins_anew_and_what_is_out_of_reach_is_left_alone() {
        let apps = |state: &str| {
            let text = format!(
                r#"{{"apps":[{{"id":"/ws-a","instances":3,"deployments":[],"tasks":[
                    {{"id":"ws-a.1"}},{{"id":"ws-a.2","state":"{state}"}}]}}]}}"#
            );
            Apps::read(text.as_bytes()).expect("a list").apps
        };
        let (odd, torn) = (apps("TASK_RUNNING"), apps("TASK_UNREACHABLE"));
        let mut drift = Drift::new(Duration::from_secs(30));
        let at = |drift: &mut Drift, seconds: u64, apps: &[App]| {
            drift.look(apps, "ws-", Instant(0) + Duration::from_secs(seconds))
        };
        assert_eq!(at(&mut drift, 0, &odd), []);
        drift.forget();
        assert_eq!(at(&mut drift, 75, &odd), [], "it does not lead for longer");
        assert_eq!(at(&mut drift, 100, &torn), []);
        assert_eq!(at(&mut drift, 180, &torn), []);
        assert_eq!(at(&mut drift, 200, &odd), [], "begins anew");
        assert_eq!(at(&mut drift, 261, &odd), [(ServiceId::new("ws-a"), 2)]);
    }
}
