//! Times of `/metrics`: for each of the busiest services a histogram, for the rest one together.
//!
//! A histogram is many series, so fewer services have their own than have other numbers, and only
//! some of its bounds are told. A service has none before a request of it was served.

use super::{REST, Ranked, head, sample};
use crate::api::reply::Pieces;
use crate::core::histogram::{Histogram, Latency};

/// Services with histograms of their own.
pub(super) const LABELS_MAX: usize = 200;

/// Every so many bounds one is told.
const BOUNDS_STEP: usize = 4;

/// A family of histograms.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) of: fn(&Latency<u64>) -> &Histogram<u64>,
}

/// All histograms of services, which come by rank.
pub(super) fn write(families: &[Family], ranked: &[Ranked<'_>], body: &mut Pieces) {
    let mut rest = Latency::default();
    let mut named: Vec<(&str, &Latency<u64>)> = Vec::new();
    for (at, (id, entry)) in ranked.iter().enumerate() {
        match &entry.latency {
            Some(latency) if at < LABELS_MAX => named.push((id.as_str(), latency)),
            Some(latency) => rest.add(latency),
            None => {}
        }
    }
    if rest.total.count() > 0 {
        named.push((REST, &rest));
    }
    for family in families {
        head(body, family.name, "histogram", family.help);
        for (id, latency) in &named {
            one(family.name, id, (family.of)(latency), body);
        }
    }
}

fn one(name: &str, id: &str, times: &Histogram<u64>, body: &mut Pieces) {
    let bucket = format!("{name}_bucket");
    for (bound, count) in times.up_to().step_by(BOUNDS_STEP) {
        let le = bound.as_secs_f64().to_string();
        sample(body, &bucket, &[("service_id", id), ("le", &le)], count);
    }
    sample(body, &bucket, &[("service_id", id), ("le", "+Inf")], times.count());
    let label = [("service_id", id)];
    sample(body, &format!("{name}_sum"), &label, times.sum().as_secs_f64());
    sample(body, &format!("{name}_count"), &label, times.count());
}
