//! The time, read here only. Milliseconds since 1970, because that is what Marathon prints.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Milliseconds since 1970, UTC.
pub(crate) type Ms = i64;

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

pub(crate) fn now() -> Ms {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ms::try_from(since.as_millis()).unwrap_or(Ms::MAX)
}

/// Always three digits behind the second, and `Z`.
pub(crate) fn iso(at: Ms) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000_000)
        .ok()
        .and_then(|it| it.format(FORMAT).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_three_digits() {
        for (at, text) in
            [(0, "1970-01-01T00:00:00.000Z"), (1_700_000_000_010, "2023-11-14T22:13:20.010Z")]
        {
            assert_eq!(iso(at), text);
        }
    }
}
