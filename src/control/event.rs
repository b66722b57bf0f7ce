//! Everything that can happen to the control loop.

use crate::base::ids::{InstanceId, ServiceId};
use crate::control::cluster::{Heard, Said};
use crate::core::aggregator::Outcome;
use crate::core::catalogue::{Demand, Done};
use crate::core::fact::{Report, Runner};
use crate::core::letter::Notice;
use crate::core::service::Description;
use crate::core::slots::Instance;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// A shard told something.
    Shard(Notice),
    /// The scheduler reported.
    Scheduler(Report),
    /// A health check came to this.
    Checked(InstanceId, Outcome),
    /// A health check was left out, for all slots of a shared instance are taken.
    Unchecked(InstanceId),
    /// A health check gave its slot back while somebody waited.
    LookAgain(ServiceId),
    /// A health check opened one connection too many to an instance.
    Crowded(Arc<Instance>),
    /// The thread that keeps the session with ZooKeeper says something.
    ZooKeeper(Said),
    /// Another router says something.
    Peer(Heard),
    /// A description of this service was found among those that routers share, or none was.
    Described(ServiceId, Option<Arc<Description>>),
    /// The API wants something done.
    Demand(Demand, Sender<Done>),
    /// Somebody asked the router to end.
    End,
    /// This scheduler's thread has ended; those instances that end with it are gone.
    SchedulerEnded(Runner),
}
