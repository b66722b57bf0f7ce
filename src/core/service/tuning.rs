//! What one request asks for itself, beside naming its service (control-plane §14.4).

use super::headers::PREFIX;
use crate::base::limits::Limits;
use crate::base::time::Duration;

/// Longest time a request can ask for.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// Times of one request, and whether it wants to know how it was served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tuning {
    /// It waits this long for a slot (`x-waiter-queue-timeout`, ms).
    pub queue_timeout: Duration,
    /// The instance sends the first byte of its response, and each further one, within this time
    /// (`x-waiter-timeout`, ms).
    pub first_byte_timeout: Duration,
    /// The instance takes the next byte of the request's body within this time
    /// (`x-waiter-streaming-timeout`, ms).
    pub streaming_timeout: Duration,
    /// A tunnel in which nothing moves is kept this long.
    pub tunnel_idle_timeout: Duration,
    /// The response tells how it was served (`x-waiter-debug`, whatever its value).
    pub debug: bool,
}

impl Tuning {
    /// What the router does for a request that asks for nothing.
    pub fn new(limits: &Limits) -> Self {
        Self {
            queue_timeout: limits.queue_timeout,
            first_byte_timeout: limits.first_byte_timeout,
            streaming_timeout: limits.streaming_timeout,
            tunnel_idle_timeout: limits.tunnel_idle_timeout,
            debug: false,
        }
    }

    /// What these fields (names in lower case) ask for. A value that is no positive integer leaves
    /// the router's; one above an hour means an hour; of a repeated header the last is taken.
    pub fn from_headers<'a>(
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        limits: &Limits,
    ) -> Self {
        let mut tuning = Self::new(limits);
        for (name, value) in fields {
            match name.strip_prefix(PREFIX) {
                Some(b"queue-timeout") => {
                    tuning.queue_timeout = millis(value, limits.queue_timeout);
                }
                Some(b"timeout") => {
                    tuning.first_byte_timeout = millis(value, limits.first_byte_timeout);
                }
                Some(b"streaming-timeout") => {
                    tuning.streaming_timeout = millis(value, limits.streaming_timeout);
                }
                Some(b"debug") => tuning.debug = true,
                _ => {}
            }
        }
        tuning
    }
}

fn millis(value: &[u8], router: Duration) -> Duration {
    let number = str::from_utf8(value).ok().and_then(|it| it.trim().parse::<i64>().ok());
    match number.and_then(|it| u64::try_from(it).ok()) {
        None | Some(0) => router,
        Some(millis) => Duration::from_millis(millis).min(TIME_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_may_ask_for_other_times() {
        let limits = Limits::PRODUCTION;
        let router = Tuning::new(&limits);
        let ms = Duration::from_millis;
        let of = |name: &str, value: &str| {
            Tuning::from_headers([(name.as_bytes(), value.as_bytes())].into_iter(), &limits)
        };
        for (value, expected) in [
            ("1", Some(1)),
            (" 250 ", Some(250)),
            ("3600000", Some(3_600_000)),
            ("3600001", Some(3_600_000)),
            ("9223372036854775807", Some(3_600_000)),
            ("9223372036854775808", None),
            ("0", None),
            ("-5", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ] {
            let queue = expected.map_or(limits.queue_timeout, ms);
            assert_eq!(of("x-waiter-queue-timeout", value).queue_timeout, queue, "{value}");
            let first = expected.map_or(limits.first_byte_timeout, ms);
            assert_eq!(of("x-waiter-timeout", value).first_byte_timeout, first, "{value}");
            let next = expected.map_or(limits.streaming_timeout, ms);
            assert_eq!(of("x-waiter-streaming-timeout", value).streaming_timeout, next, "{value}");
        }
        assert_eq!(of("x-waiter-debug", ""), Tuning { debug: true, ..router });
        assert_eq!(of("x-waiter-cmd", "5"), router);
    }
}
