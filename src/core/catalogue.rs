//! What is known of every service, for those who ask: the API reads it, the control thread writes it.
//!
//! A catalogue is whole and dated, like a world; but it holds what the data path never needs.

use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Duration};
use crate::core::aggregator::State;
use crate::core::pulse::Beat;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All services, by id.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Counts publications.
    pub iteration: u64,
    /// When it was written.
    pub time: Date,
    /// This router's id.
    pub router_id: Arc<str>,
    /// Every service that is known: running, or described and stored.
    pub services: BTreeMap<ServiceId, Arc<Entry>>,
    /// When the scheduler was last heard, if ever.
    pub scheduler_heard: Option<Date>,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its instances and how they are.
    pub state: Arc<State>,
    /// Whether the scheduler (or the operator) has it now; else it is only described.
    pub exists: bool,
    /// Levels now, over all shards; sums since the router began.
    pub beat: Beat,
    /// When the last request came.
    pub last_request: Option<Date>,
    /// What the autoscaler last said.
    pub scaling: Scaling,
    /// Instances that rest after failures: id, failures in a row.
    pub ejected: Vec<(InstanceId, u32)>,
    /// When it would be deleted for idleness, if nothing is asked of it.
    pub idle_since: Option<Date>,
}

/// What the autoscaler last said of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scaling {
    /// Instances wanted, smoothed.
    pub target: f64,
    /// Instances wanted.
    pub scale_to: u32,
    /// How many more (fewer, if negative) than there are.
    pub amount: i64,
    /// Why, in words, for people; of the last decision that changed something.
    pub reason: Arc<str>,
    /// When that decision was made.
    pub decided: Option<Date>,
}

/// What the API asks of the control thread.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Demand {
    /// End all instances of a service and forget it.
    Delete(ServiceId),
}

/// What the control thread answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Done {
    /// It has been done.
    Deleted,
    /// The scheduler does not have such a service.
    NoSuchService,
    /// It could not be done; why.
    Failed(String),
}

/// How long the API waits for the control thread.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl Scaling {
    /// `stable`, `scale-up` or `scale-down`.
    pub fn state(&self) -> &'static str {
        match self.amount {
            0 => "stable",
            it if it > 0 => "scale-up",
            _ => "scale-down",
        }
    }
}
