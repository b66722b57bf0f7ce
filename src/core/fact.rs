//! Facts a scheduler reports and orders it takes. They cross from the control plane's helper
//! threads to the control loop as they are; nobody interprets them on the way.
//!
//! A scheduler that runs processes of this host knows what there is. One that is asked over a
//! network can be late, silent or wrong: what it says carries how far it is believed ([`Sight`],
//! [`ServiceFact::doubt`]), and nothing is scaled or collected on what is not.

use crate::base::address::IpAddr;
use crate::base::ids::{InstanceId, ServiceId};
use crate::base::time::{Date, Duration};
use crate::core::service::Description;
use std::sync::Arc;

/// Flags of an instance (control-plane §11.3): a set of bits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags(pub u16);

impl Flags {
    /// Its age or its failures say that it should be replaced.
    pub const EXPIRED: Self = Self(1);
    /// A health check reached it.
    pub const HAS_CONNECTED: Self = Self(2);
    /// A health check got an answer.
    pub const HAS_RESPONDED: Self = Self(4);
    /// It ended, or was ended, without ever having been healthy.
    pub const NEVER_PASSED_HEALTH_CHECKS: Self = Self(8);
    /// Its processes used more memory than described, and were killed.
    pub const MEMORY_LIMIT_EXCEEDED: Self = Self(16);
    /// A health check got no answer in time.
    pub const TIMEOUT_EXCEPTION: Self = Self(32);
    /// It closed the connection of a health check without an answer.
    pub const HANGUP_EXCEPTION: Self = Self(64);
    /// TLS failed on a health check.
    pub const SSL_EXCEPTION: Self = Self(128);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::EXPIRED, "expired"),
        (Self::HAS_CONNECTED, "has-connected"),
        (Self::HAS_RESPONDED, "has-responded"),
        (Self::NEVER_PASSED_HEALTH_CHECKS, "never-passed-health-checks"),
        (Self::MEMORY_LIMIT_EXCEEDED, "memory-limit-exceeded"),
        (Self::TIMEOUT_EXCEPTION, "timeout-exception"),
        (Self::HANGUP_EXCEPTION, "hangup-exception"),
        (Self::SSL_EXCEPTION, "ssl-exception"),
    ];

    /// Whether all flags of `other` are set.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of the flags set, as the API shows them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

/// What runs instances.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Runner {
    /// Processes of this host.
    Local,
    /// A Marathon cluster.
    Marathon,
}

impl Runner {
    /// As options and descriptions name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Marathon => "marathon",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Local, Self::Marathon].into_iter().find(|it| it.name() == name)
    }
}

/// How far what a scheduler last said is believed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sight {
    /// It has said nothing yet.
    #[default]
    Unseen,
    /// Its last answer is believed.
    Fresh,
    /// It does not answer, or not in a way that can be understood. What it said before is kept.
    Stale,
    /// It answered, and the answer lacks too much of what was there to be believed at once.
    Doubted,
}

impl Sight {
    /// As pages and numbers name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unseen => "unseen",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Doubted => "doubted",
        }
    }
}

/// The state of what is known from one scheduler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// How far it is believed.
    pub sight: Sight,
    /// Since when that is so.
    pub since: Date,
    /// Why, in words; empty while it is fresh.
    pub why: String,
    /// When the last answer that is believed was asked for, if there was one.
    pub heard: Option<Date>,
    /// For so long an answer is good enough to decide on, if no other one comes.
    pub good_for: Duration,
    /// Where it was last found.
    pub place: String,
    /// Answers asked for, those that were not believed, and hints that something has changed.
    pub polls: u64,
    /// Polls that brought no answer, or none that could be understood.
    pub polls_failed: u64,
    /// Answers of which something was doubted.
    pub answers_doubted: u64,
    /// How long the last poll took, until it was understood.
    pub poll_time: Duration,
    /// Whether hints of changes come in.
    pub hints: Hints,
}

/// Whether a scheduler says by itself that something has changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Hints {
    /// It does not, or not now.
    #[default]
    Absent,
    /// It refuses to.
    Refused,
    /// It does.
    Coming,
}

impl Hints {
    /// As pages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Refused => "refused",
            Self::Coming => "coming",
        }
    }
}

/// Where an instance is on a cluster, in the words of its scheduler.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placement {
    /// Name of the host.
    pub host: String,
    /// Id of the agent that runs it there.
    pub agent: String,
}

/// An instance as its scheduler knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InstanceFact {
    /// Its id.
    pub id: InstanceId,
    /// Where it listens. Without ports where that is not known.
    pub host: IpAddr,
    /// Port 0 first, then the extra ports.
    pub ports: Vec<u16>,
    /// When it was started.
    pub started_at: Date,
    /// Process id, where the scheduler runs processes.
    pub pid: Option<u32>,
    /// Where its output is.
    pub log_directory: String,
    /// Exit code of an instance that ended without being asked to, 0 included; negative: the number
    /// of the signal that ended it.
    pub exit_code: Option<i32>,
    /// What the scheduler knows of it.
    pub flags: Flags,
    /// In words, why it ended.
    pub message: String,
    /// What the scheduler's own health checks say of it; none: nothing (yet).
    pub healthy: Option<bool>,
    /// Where it is on a cluster.
    pub placement: Option<Arc<Placement>>,
}

impl InstanceFact {
    /// An instance that runs, and of which nothing else is known.
    pub fn new(id: InstanceId, host: IpAddr, ports: Vec<u16>, started_at: Date) -> Self {
        Self {
            id,
            host,
            ports,
            started_at,
            pid: None,
            log_directory: String::new(),
            exit_code: None,
            flags: Flags::default(),
            message: String::new(),
            healthy: None,
            placement: None,
        }
    }
}

/// A service as its scheduler knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceFact {
    /// Its id.
    pub id: ServiceId,
    /// Instances wanted (control-plane: `instances`).
    pub requested: u32,
    /// Those that run or start.
    pub active: Vec<InstanceFact>,
    /// Those that failed, oldest first, at most [`FAILED_MAX`]: that could not be launched, were
    /// ended for [`Order::Fail`] or their memory, or ended without being asked to. To end with code
    /// 0 is a failure too (control-plane §11.3, row 2: "0 counts"), unless the instance had lasted
    /// a minute by then.
    pub failed: Vec<InstanceFact>,
    /// Why what is said of it is not believed yet; empty: it is. Instances that are missing from a
    /// doubted answer are still among the active ones.
    pub doubt: String,
}

/// Failed instances a scheduler remembers per service.
pub const FAILED_MAX: usize = 10;

/// What a scheduler tells the control loop.
#[derive(Clone, Debug)]
pub enum Report {
    /// All services and instances of a scheduler that knows them; sent after every change and at
    /// least every 5 s. It is whole: what is not in it does not exist.
    Listing(Runner, Vec<ServiceFact>),
    /// What differs from what this scheduler said before: services that are new or not as they
    /// were, and services that are gone.
    Changes(Runner, Vec<ServiceFact>, Vec<ServiceId>),
    /// The state of what is known from this scheduler; sent after every poll.
    View(Runner, View),
    /// An order has been carried out, or not.
    Done(Order, Result<(), Undone>),
}

/// Why an order was not carried out, in words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Undone {
    /// The scheduler refuses it, and would again.
    Refused(String),
    /// The scheduler has said for long, again and again, why it cannot be carried out now.
    Declined(String),
    /// It could not be carried out this time, or nobody knows whether it was.
    NotNow(String),
}

impl Undone {
    /// The words.
    pub fn why(&self) -> &str {
        match self {
            Self::Refused(why) | Self::Declined(why) | Self::NotNow(why) => why,
        }
    }
}

/// What the control loop orders of a scheduler.
#[derive(Clone, Debug)]
pub enum Order {
    /// Start a service with so many instances, unless it exists.
    Create(Arc<Description>, u32),
    /// Raise the number of instances wanted; never lowers it.
    Scale(ServiceId, u32),
    /// End one instance and lower the number wanted by one.
    Kill(InstanceId),
    /// Ends an instance that never became healthy within its grace; requested count is not lowered;
    /// recorded as failed with these flags.
    Fail(InstanceId, Flags, String),
    /// End all instances and forget the service.
    Delete(ServiceId),
    /// End everything at once, without grace; also after `End`.
    EndNow,
    /// End everything; the scheduler thread returns when all are gone.
    End,
}
