//! Why a service is scaled, as a short sentence for operators. A value until it is read: nothing is
//! allocated for a decision nobody looks at.

use super::desired::{Config, Decision, State};
use super::prompt::{Backlog, Envelope};
use std::fmt;

/// Why a service is scaled. Its text is the sentence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Requests wait; the floor was raised.
    Waiting {
        /// Who waits.
        backlog: Backlog,
        /// The floor, in instances.
        floor: u32,
    },
    /// Requests waited a while ago; the floor is held.
    Held {
        /// The floor, in instances.
        floor: u32,
    },
    /// Fewer are requested than the description's minimum.
    Minimum {
        /// Instances requested.
        total: u32,
        /// The minimum.
        min: u32,
    },
    /// The average of the demand moved away from what is requested.
    Average {
        /// Requests that run or wait.
        outstanding: u32,
        /// The average, in instances.
        target: f64,
        /// Instances requested.
        total: u32,
    },
    /// The last minute did not need what is requested.
    Cap {
        /// The cap, in instances.
        cap: f64,
        /// Instances requested.
        total: u32,
    },
    /// Expired instances are replaced, or their replacements are healthy.
    Expired {
        /// Instances that expired.
        expired: u32,
        /// Instances that are healthy.
        healthy: u32,
    },
}

impl Reason {
    /// Why this decision was taken; its amount is not 0.
    pub fn of(config: &Config, state: &State, decision: &Decision, envelope: &Envelope) -> Self {
        let (target, total) = (decision.target, state.total);
        let floor = decision.demanded;
        let moved = (target - f64::from(total)).abs() >= config.jitter;
        if state.expired > 0 && (!moved || (target > f64::from(total)) != (decision.amount > 0)) {
            return Self::Expired { expired: state.expired, healthy: state.healthy };
        }
        if decision.amount < 0 {
            if target >= envelope.cap {
                return Self::Cap { cap: envelope.cap, total };
            }
        } else if floor > 0 && target <= envelope.floor {
            return match envelope.backlog {
                Some(backlog) => Self::Waiting { backlog, floor },
                None => Self::Held { floor },
            };
        } else if total < config.min && target <= f64::from(config.min) {
            return Self::Minimum { total, min: config.min };
        }
        Self::Average { outstanding: state.outstanding, target, total }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { backlog, floor } => write!(
                f,
                "{} waiting, oldest {:.1} s; arrival {:.0}/s × {:.1} s: floor {floor}",
                backlog.waiting, backlog.oldest, backlog.rate, backlog.service_time
            ),
            Self::Held { floor } => write!(f, "requests waited lately: floor {floor}"),
            Self::Minimum { total, min } => write!(f, "{total} requested, minimum {min}"),
            Self::Average { outstanding, target, total } => {
                write!(f, "{outstanding} outstanding, average {target:.1} of {total} requested")
            }
            Self::Cap { cap, total } => {
                write!(f, "the last minute needed at most {cap:.1} of {total} requested")
            }
            Self::Expired { expired, healthy } => {
                write!(f, "{expired} expired to be replaced, {healthy} healthy")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences() {
        let backlog = Backlog { waiting: 12, oldest: 0.41, rate: 40.2, service_time: 1.02 };
        let average = Reason::Average { outstanding: 3, target: 5.94, total: 7 };
        for (reason, text) in [
            (
                Reason::Waiting { backlog, floor: 24 },
                "12 waiting, oldest 0.4 s; arrival 40/s × 1.0 s: floor 24",
            ),
            (Reason::Held { floor: 7 }, "requests waited lately: floor 7"),
            (Reason::Minimum { total: 1, min: 3 }, "1 requested, minimum 3"),
            (average, "3 outstanding, average 5.9 of 7 requested"),
            (
                Reason::Cap { cap: 12.43, total: 20 },
                "the last minute needed at most 12.4 of 20 requested",
            ),
            (Reason::Expired { expired: 2, healthy: 4 }, "2 expired to be replaced, 4 healthy"),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
