//! How a request ended, as far as its instance is concerned (control-plane §5.5).

/// The release status of a seat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A complete response.
    Success,
    /// The client broke off or broke the rules.
    ClientError,
    /// The client went away.
    ClientGone,
    /// The instance could not be reached; a process that was launched is most likely gone.
    Unreachable,
    /// The instance broke off, or was too slow.
    InstanceError,
    /// The instance said 503.
    InstanceBusy,
    /// A defect of the router.
    GenericError,
    /// The seat was not used.
    Unused,
}

impl Outcome {
    /// Whether the instance is to rest for a while.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Unreachable | Self::InstanceError | Self::InstanceBusy)
    }

    /// Whether former failures of the instance are forgotten. Quirk Q6 is decided: only a success
    /// clears them; what a client does says nothing about the instance.
    pub fn clears_failures(self) -> bool {
        matches!(self, Self::Success)
    }

    /// The name used in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ClientError => "client-error",
            Self::ClientGone => "client-eagerly-closed",
            Self::Unreachable | Self::InstanceError => "instance-error",
            Self::InstanceBusy => "instance-busy",
            Self::GenericError => "generic-error",
            Self::Unused => "rejected",
        }
    }
}

/// The rest an instance gets after `failures` in a row, in milliseconds: doubling from `base_ms`,
/// at most `max_ms`, with the exponent bounded as in control-plane §5.5.
pub fn eject_millis(failures: u32, base_ms: u64, max_ms: u64) -> u64 {
    assert!(base_ms > 1 && failures > 0);
    let exponent_max =
        (((max_ms as f64).ln() / (base_ms as f64).ln()).exp() + 1.0).floor().max(1.0);
    let exponent = (failures - 1).min(exponent_max as u32).min(63);
    base_ms.saturating_mul(1 << exponent).min(max_ms)
}
