//! Why a service cannot be started, concluded from its failed instances (control-plane §11.3).

use super::state::Instance;
use crate::core::fact::{Flags, Runner};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why a service cannot be started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeploymentError {
    /// Its instances use more memory than described.
    NotEnoughMemory,
    /// Its command ends at once, the same way each time.
    BadStartupCommand,
    /// TLS fails with its instances.
    TlsError,
    /// Its instances do not listen.
    CannotConnect,
    /// Its instances do not answer health checks in time.
    HealthCheckTimedOut,
    /// Its instances close connections without an answer.
    BadSocket,
    /// Its instances answer health checks with something else than success.
    InvalidHealthCheckResponse,
    /// Its instances answer health checks with 401.
    HealthCheckRequiresAuthentication,
    /// Its scheduler does not take it: why, in words. No instance shows it.
    Refused(Arc<str>),
}

impl DeploymentError {
    /// As the API names it.
    pub fn key(&self) -> &'static str {
        self.row().0
    }

    /// In words (api §4.0). What clients read is preceded by `Deployment error: `.
    pub fn message(&self) -> &str {
        self.row().1
    }

    fn row(&self) -> (&'static str, &str) {
        match self {
            Self::NotEnoughMemory => ("not-enough-memory", "Not enough memory allocated"),
            Self::BadStartupCommand => ("bad-startup-command", "Invalid startup command"),
            Self::TlsError => (
                "tls-error",
                "Unable to complete TLS handshake with backend \
                 (ensure backend-proto is correctly configured)",
            ),
            Self::CannotConnect => ("cannot-connect", "Unable to connect to run health checks"),
            Self::HealthCheckTimedOut => ("health-check-timed-out", "Health check timed out"),
            Self::BadSocket => (
                "bad-socket",
                "Backend is closing socket without responding \
                 (ensure backend-proto is correctly configured)",
            ),
            Self::InvalidHealthCheckResponse => {
                ("invalid-health-check-response", "Health check returned an invalid response")
            }
            Self::HealthCheckRequiresAuthentication => {
                ("health-check-requires-authentication", "Health check requires authentication")
            }
            Self::Refused(why) => ("refused-by-scheduler", why),
        }
    }
}

/// How much must have failed before a conclusion is drawn.
#[derive(Clone, Copy, Debug)]
pub struct DeploymentRules {
    /// Fewest failed instances.
    pub min_failed: usize,
    /// Fewest hosts they were on, where a scheduler has more than one.
    pub min_hosts: usize,
}

impl DeploymentRules {
    /// The rules for services of this scheduler. One that has one host only needs no second one to
    /// confirm anything.
    #[must_use]
    pub fn of(self, runner: Option<Runner>) -> Self {
        match runner {
            Some(Runner::Marathon) => self,
            Some(Runner::Local) | None => Self { min_hosts: 1, ..self },
        }
    }
}

/// Why a service without a healthy instance cannot be started: the first line that holds.
/// `failed` is whole, not only the part that is shown.
pub fn deployment_error(
    failed: &[Arc<Instance>],
    unhealthy: &[Arc<Instance>],
    rules: &DeploymentRules,
) -> Option<DeploymentError> {
    let hosts: BTreeSet<_> = failed.iter().map(|it| it.fact.host).collect();
    if !failed.is_empty() && failed.len() >= rules.min_failed && hosts.len() >= rules.min_hosts {
        let all = |flag| failed.iter().all(|it| it.fact.flags.has(flag));
        let none = |flag| !failed.iter().any(|it| it.fact.flags.has(flag));
        let exit_code = failed[0].fact.exit_code;
        let same_exit = failed.iter().all(|it| it.fact.exit_code == exit_code);
        let lines = [
            (all(Flags::MEMORY_LIMIT_EXCEEDED), DeploymentError::NotEnoughMemory),
            (exit_code.is_some() && same_exit, DeploymentError::BadStartupCommand),
            (all(Flags::SSL_EXCEPTION), DeploymentError::TlsError),
            (none(Flags::HAS_CONNECTED), DeploymentError::CannotConnect),
            (
                none(Flags::HAS_RESPONDED) && all(Flags::TIMEOUT_EXCEPTION),
                DeploymentError::HealthCheckTimedOut,
            ),
            (none(Flags::HAS_RESPONDED), DeploymentError::BadSocket),
            (all(Flags::NEVER_PASSED_HEALTH_CHECKS), DeploymentError::InvalidHealthCheckResponse),
        ];
        if let Some((_, error)) = lines.into_iter().find(|(holds, _)| *holds) {
            return Some(error);
        }
    }
    let refused = unhealthy.first().is_some_and(|it| it.health_check_status == Some(401));
    refused.then_some(DeploymentError::HealthCheckRequiresAuthentication)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{InstanceId, ServiceId};
    use crate::base::time::Date;
    use crate::core::fact::InstanceFact;

    /// A failed instance on this host, with this exit code and these flags.
    fn failed(host: u8, exit_code: Option<i32>, flags: u16) -> Arc<Instance> {
        let fact = InstanceFact {
            exit_code,
            flags: Flags(flags),
            ..InstanceFact::new(
                InstanceId::new(&ServiceId::new("s"), "i"),
                [127, 0, 0, host].into(),
                vec![1],
                Date(1),
            )
        };
        let health_check_error = None;
        Arc::new(Instance { fact, healthy: false, health_check_status: None, health_check_error })
    }

    fn key(failed: &[Arc<Instance>], hosts: usize) -> Option<&'static str> {
        let rules = DeploymentRules { min_failed: 2, min_hosts: hosts };
        deployment_error(failed, &[], &rules).map(|it| it.key())
    }

    /// Two failed instances with these exit codes and flags.
    fn check(exit_codes: [Option<i32>; 2], flags: [u16; 2], expected: Option<&str>) {
        let list = [failed(1, exit_codes[0], flags[0]), failed(2, exit_codes[1], flags[1])];
        assert_eq!(key(&list, 2), expected, "{exit_codes:?} {flags:?}");
    }

    #[test]
    fn the_table_in_order() {
        const CONNECTED: u16 = 2;
        const RESPONDED: u16 = 4 | CONNECTED;
        const NEVER: u16 = 8;
        const MEMORY: u16 = 16;
        const TIMEOUT: u16 = 32 | CONNECTED;
        const HANGUP: u16 = 64 | CONNECTED;
        const TLS: u16 = 128;
        check([Some(137); 2], [MEMORY; 2], Some("not-enough-memory"));
        check([Some(137); 2], [MEMORY, 0], Some("bad-startup-command"));
        check([Some(0); 2], [RESPONDED | NEVER; 2], Some("bad-startup-command"));
        check([Some(1), Some(2)], [TLS; 2], Some("tls-error"));
        check([Some(1), None], [0; 2], Some("cannot-connect"));
        check([None; 2], [0, NEVER], Some("cannot-connect"));
        check([None; 2], [TIMEOUT; 2], Some("health-check-timed-out"));
        check([None; 2], [TIMEOUT, HANGUP], Some("bad-socket"));
        check([None; 2], [HANGUP; 2], Some("bad-socket"));
        check([None; 2], [RESPONDED | NEVER; 2], Some("invalid-health-check-response"));
        check([None; 2], [RESPONDED | NEVER, RESPONDED], None);
    }

    #[test]
    fn a_conclusion_needs_enough() {
        let one = failed(1, Some(1), 0);
        assert_eq!(key(std::slice::from_ref(&one), 1), None);
        assert_eq!(key(&[one.clone(), one.clone()], 2), None);
        assert_eq!(key(&[one.clone(), one], 1), Some("bad-startup-command"));
    }

    #[test]
    fn the_first_unhealthy_instance_may_ask_for_authentication() {
        let rules = DeploymentRules { min_failed: 2, min_hosts: 1 };
        let with = |status| {
            let mut it = Instance::clone(&failed(1, None, 0));
            it.health_check_status = status;
            Arc::new(it)
        };
        let asks = DeploymentError::HealthCheckRequiresAuthentication;
        for (unhealthy, expected) in [
            ([with(Some(401)), with(None)], Some(asks)),
            ([with(Some(500)), with(Some(401))], None),
        ] {
            assert_eq!(deployment_error(&[], &unhealthy, &rules), expected);
        }
    }
}
