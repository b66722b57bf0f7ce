//! Time as plain numbers. Only `mesh::clock` reads a clock; everyone else is told what time it is.

use std::io::Write;
use std::ops::{Add, AddAssign, Sub};
pub use std::time::Duration;

/// Nanoseconds since the process (or the simulated world) began.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Instant(pub u64);

impl Instant {
    /// Milliseconds since the beginning.
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, delta: Duration) -> Self {
        Self(self.0.saturating_add(nanos(delta)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, delta: Duration) {
        *self = *self + delta;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A time in milliseconds; the most there is, if it is longer.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A date: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Date(pub u64);

impl Date {
    /// ISO-8601 in UTC with milliseconds: `2024-01-02T03:04:05.678Z`.
    pub fn iso(self) -> String {
        let mut out = Vec::with_capacity(24);
        self.write_iso(&mut out).expect("memory takes every byte");
        String::from_utf8(out).expect("digits and signs")
    }

    /// Writes what [`iso`](Self::iso) returns.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_iso(self, out: &mut impl Write) -> std::io::Result<()> {
        let nanos = i128::from(self.0) * 1_000_000;
        let date = time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let (hour, minute, second, milli) = date.to_hms_milli();
        let (year, month, day) = date.to_calendar_date();
        write!(
            out,
            "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z",
            month as u8
        )
    }

    /// Reads an ISO-8601 date with a time zone; none if it is no such date, or before 1970.
    pub fn parse(text: &str) -> Option<Self> {
        let format = &time::format_description::well_known::Rfc3339;
        let date = time::OffsetDateTime::parse(text, format).ok()?;
        u64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok().map(Self)
    }

    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(delta: Duration) -> u64 {
    u64::try_from(delta.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_iso_with_millis() {
        assert_eq!(Date(1_704_164_645_678).iso(), "2024-01-02T03:04:05.678Z");
        assert_eq!(Date(0).iso(), "1970-01-01T00:00:00.000Z");
        for text in ["2024-01-02T03:04:05.678Z", "2024-01-02T04:04:05.678+01:00"] {
            assert_eq!(Date::parse(text), Some(Date(1_704_164_645_678)));
        }
        for text in ["", "now", "1969-01-01T00:00:00Z", "2024-13-02T03:04:05Z"] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
