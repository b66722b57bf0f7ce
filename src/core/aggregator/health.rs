//! What came of one health check (control-plane §11.3).

use crate::core::fact::Flags;

/// Why a health check got no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckError {
    /// No connection: refused, unreachable.
    Connect,
    /// The connection was closed without an answer.
    Hangup,
    /// No answer in time. The limit of the whole check is one of these times (Q12).
    Timeout,
    /// TLS failed.
    Tls,
    /// The instance has no address that could be checked.
    NoAddress,
}

impl CheckError {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect-exception",
            Self::Hangup => "hangup-exception",
            Self::Timeout => "timeout-exception",
            Self::Tls => "ssl-exception",
            Self::NoAddress => "unknown-authority",
        }
    }

    /// What it says about the instance.
    pub fn flags(self) -> Flags {
        match self {
            Self::Connect | Self::NoAddress => Flags::default(),
            Self::Hangup => Flags::HANGUP_EXCEPTION.with(Flags::HAS_CONNECTED),
            Self::Timeout => Flags::TIMEOUT_EXCEPTION.with(Flags::HAS_CONNECTED),
            Self::Tls => Flags::SSL_EXCEPTION,
        }
    }
}

/// What came of one health check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The instance takes requests.
    Healthy,
    /// It does not.
    Unhealthy {
        /// Status of its answer, if it gave one.
        status: Option<u16>,
        /// What the check says about the instance.
        flags: Flags,
        /// Why there was no answer.
        error: Option<CheckError>,
    },
}

impl Outcome {
    /// The instance answered with this status; 2xx is healthy.
    pub fn answered(status: u16) -> Self {
        match status {
            200..=299 => Self::Healthy,
            _ => Self::Unhealthy {
                status: Some(status),
                flags: Flags::HAS_CONNECTED.with(Flags::HAS_RESPONDED),
                error: None,
            },
        }
    }

    /// There was no answer.
    pub fn failed(error: CheckError) -> Self {
        Self::Unhealthy { status: None, flags: error.flags(), error: Some(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_check_says_of_an_instance() {
        let names = |outcome| match outcome {
            Outcome::Healthy => "healthy".to_owned(),
            Outcome::Unhealthy { flags, .. } => flags.names().collect::<Vec<_>>().join(" "),
        };
        for (outcome, flags) in [
            (Outcome::answered(200), "healthy"),
            (Outcome::answered(204), "healthy"),
            (Outcome::answered(302), "has-connected has-responded"),
            (Outcome::answered(503), "has-connected has-responded"),
            (Outcome::failed(CheckError::Connect), ""),
            (Outcome::failed(CheckError::NoAddress), ""),
            (Outcome::failed(CheckError::Hangup), "has-connected hangup-exception"),
            (Outcome::failed(CheckError::Timeout), "has-connected timeout-exception"),
            (Outcome::failed(CheckError::Tls), "ssl-exception"),
        ] {
            assert_eq!(names(outcome), flags, "{outcome:?}");
        }
    }
}
