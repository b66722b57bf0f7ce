//! Back-off: an app whose tasks fail or exit is launched later and later. Told the time.

use std::collections::BTreeMap;

use super::spec::Spec;
use crate::clock::Ms;

/// A task that lived so long proves its app; the delay is forgotten. Scaled like the delays.
const VIABLE_MS: f64 = 60_000.0;

/// Delays per app. They belong to a version of its configuration: a new one begins anew.
#[derive(Debug, Clone)]
pub(crate) struct Delays {
    scale: f64,
    of: BTreeMap<String, Delay>,
}

#[derive(Debug, Clone)]
struct Delay {
    config: Ms,
    length_s: f64,
    until: Ms,
}

impl Delays {
    pub(crate) fn new(scale: f64) -> Self {
        Self { scale, of: BTreeMap::new() }
    }

    /// A task failed, or ended by itself.
    pub(crate) fn on_end(&mut self, app: &str, spec: &Spec, config: Ms, now: Ms) {
        let before = self.of.get(app).filter(|it| it.config == config);
        let first = spec.number("backoffSeconds");
        let longest = spec.number("maxLaunchDelaySeconds");
        let length_s = before.map_or(first, |it| it.length_s * spec.number("backoffFactor"));
        let length_s = length_s.min(longest);
        let until = now + (length_s * 1000.0 * self.scale) as Ms;
        self.of.insert(app.to_owned(), Delay { config, length_s, until });
    }

    /// A task of the app has run for so long.
    pub(crate) fn on_age(&mut self, app: &str, age: Ms) {
        if age as f64 >= VIABLE_MS * self.scale {
            self.of.remove(app);
        }
    }

    pub(crate) fn reset(&mut self, app: &str) {
        self.of.remove(app);
    }

    /// When the app may be launched; now, if nothing holds it back.
    pub(crate) fn until(&self, app: &str, config: Ms, now: Ms) -> Ms {
        self.of.get(app).filter(|it| it.config == config).map_or(now, |it| it.until.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn delays_grow_to_the_longest_and_end_with_the_version() {
        let spec = json!({ "backoffSeconds": 1, "backoffFactor": 2.0, "maxLaunchDelaySeconds": 5 });
        let spec = Spec(spec.as_object().unwrap().clone());
        let mut delays = Delays::new(1.0);
        let mut check = |expected: Ms| {
            delays.on_end("/x", &spec, 1, 0);
            assert_eq!(delays.until("/x", 1, 0), expected);
        };
        [1_000, 2_000, 4_000, 5_000].into_iter().for_each(&mut check);
        assert_eq!(delays.until("/x", 2, 0), 0);
        delays.on_age("/x", 59_000);
        assert_eq!(delays.until("/x", 1, 0), 5_000);
        delays.on_age("/x", 60_000);
        assert_eq!(delays.until("/x", 1, 0), 0);
    }
}
