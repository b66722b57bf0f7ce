//! Orders that a scheduler does not carry out, in the log: once, until the reason is another one.

use crate::base::ids::ServiceId;
use crate::core::fact::Order;
use std::collections::HashMap;

/// Reasons remembered; when there are more, all are forgotten.
const REASONS_MAX: usize = 10_000;

/// Why orders were last not carried out, by what was ordered, of which service.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    reasons: HashMap<(&'static str, ServiceId), String>,
}

impl Complaints {
    /// An order was carried out, or was not for this reason. An order that is tried again and again
    /// under a lock that somebody else holds says so once.
    pub(super) fn hear(&mut self, order: &Order, error: Option<&str>) {
        let (what, service, whom) = named(order);
        match error {
            None => {
                self.reasons.remove(&(what, service));
            }
            Some(error) if self.is_new((what, service), error) => {
                tracing::warn!(what, whom, error, "the scheduler did not carry an order out");
            }
            Some(error) => {
                tracing::debug!(what, whom, error, "the scheduler did not carry an order out");
            }
        }
    }

    /// Whether this is another reason than the last.
    fn is_new(&mut self, what: (&'static str, ServiceId), error: &str) -> bool {
        if self.reasons.len() >= REASONS_MAX {
            self.reasons.clear();
        }
        self.reasons.insert(what, error.to_owned()).is_none_or(|it| it != error)
    }
}

/// An order in words that hold no description: a description may hold secrets.
fn named(order: &Order) -> (&'static str, ServiceId, String) {
    match order {
        Order::Create(description, _) => {
            ("create", description.id.clone(), description.id.to_string())
        }
        Order::Scale(service, count) => ("scale", service.clone(), format!("{service} to {count}")),
        Order::Kill(it) => ("kill", ServiceId::new(it.service()), it.to_string()),
        Order::Fail(it, ..) => ("give up", ServiceId::new(it.service()), it.to_string()),
        Order::Delete(service) => ("delete", service.clone(), service.to_string()),
        Order::End | Order::EndNow => ("end", ServiceId::new(""), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_new_once() {
        let mut complaints = Complaints::default();
        let (scale, kill) = (("scale", ServiceId::new("a")), ("kill", ServiceId::new("a")));
        let mut told = |what: &(&'static str, ServiceId), why| complaints.is_new(what.clone(), why);
        assert!(told(&scale, "locked"));
        assert!(!told(&scale, "locked"));
        assert!(told(&kill, "locked"));
        assert!(told(&scale, "unheard"));
        assert!(told(&scale, "locked"));
        let order = Order::Scale(ServiceId::new("a"), 3);
        complaints.hear(&order, None);
        assert!(complaints.is_new(scale, "locked"), "it was carried out meanwhile");
    }
}
