//! Small rules of RFC 9110 and 9112 about single values: a length, a target, an authority.
//!
//! Each takes borrowed bytes and says what they are, or `None` if they are nothing.

use http::Method;

/// A Content-Length: digits alone, within 64 bits (RFC 9110 §8.6). A list of equal lengths, which
/// RFC 9112 §6.3 lets a recipient repair, is refused.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// A request target taken apart.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Target<'a> {
    /// From an absolute-form target.
    pub(super) authority: Option<&'a [u8]>,
    /// Path and query as they were written; of an absolute-form target possibly without a path.
    pub(super) rest: &'a [u8],
}

/// Origin-form, absolute-form of `http` or `https`, or `*` for OPTIONS (RFC 9112 §3.2).
pub(super) fn target<'a>(method: &Method, bytes: &'a [u8]) -> Option<Target<'a>> {
    if !bytes.iter().copied().all(is_target_byte) {
        return None;
    }
    if bytes.first() == Some(&b'/') || bytes == b"*" && *method == Method::OPTIONS {
        return Some(Target { authority: None, rest: bytes });
    }
    let rest = strip_scheme(bytes, b"http://").or_else(|| strip_scheme(bytes, b"https://"))?;
    let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    is_authority(authority).then_some(Target { authority: Some(authority), rest })
}

fn strip_scheme<'a>(bytes: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    begins_with(bytes, scheme).then(|| &bytes[scheme.len()..])
}

/// Whether it begins like this, in whatever case.
pub(super) fn begins_with(bytes: &[u8], start: &[u8]) -> bool {
    bytes.get(..start.len()).is_some_and(|it| it.eq_ignore_ascii_case(start))
}

/// RFC 3986 would also exclude `^ { | } [ ]` and the back-tick; browsers send them in queries. A
/// fragment is never sent, and `\` is a `/` to some.
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\')
}

/// `host[:port]` without user information. Of the marks RFC 3986 allows in a name, those that no
/// host name has (`, ; ! $ & ' ( ) * + =` and `%`) are refused: they serve only to confuse.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    let (host, rest) = match bytes.first() {
        Some(b'[') => match memchr::memchr(b']', bytes) {
            Some(end) if is_v6(&bytes[1..end]) => bytes.split_at(end + 1),
            _ => return false,
        },
        _ => bytes.split_at(memchr::memchr(b':', bytes).unwrap_or(bytes.len())),
    };
    let is_host = host.first() == Some(&b'[')
        || !host.is_empty()
            && host.iter().all(|it| it.is_ascii_alphanumeric() || b"-._~".contains(it));
    is_host && is_port(rest)
}

fn is_v6(bytes: &[u8]) -> bool {
    bytes.contains(&b':') && bytes.iter().all(|it| it.is_ascii_hexdigit() || b":.".contains(it))
}

/// Nothing, or a colon and at most five digits within 16 bits.
fn is_port(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        [b':', digits @ ..] if digits.len() <= 5 => {
            digits.is_empty() || content_length(digits).is_some_and(|it| it <= 65_535)
        }
        _ => false,
    }
}

/// Whether every protocol that one Upgrade lists stands in the other (RFC 9110 §7.8; names are
/// compared without case, as many servers do).
pub(super) fn are_among<'a>(some: impl Iterator<Item = &'a [u8]>, list: &[u8]) -> bool {
    let mut some = some.flat_map(elements);
    some.all(|it| elements(list).any(|asked| asked.eq_ignore_ascii_case(it)))
}

/// The elements of a comma-separated list, without outer white space.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|it| *it == b',').map(<[u8]>::trim_ascii).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_digits_within_64_bits() {
        let cases: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999999999999999", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1,1", None),
            ("0x1", None),
            ("1.0", None),
        ];
        for (value, expected) in cases {
            assert_eq!(content_length(value.as_bytes()), *expected, "{value:?}");
        }
    }

    #[test]
    fn authorities_are_host_and_port() {
        let good = ["a", "a:80", "a:", "a.b-c_d~:65535", "[::1]", "[::ffff:1.2.3.4]:80", "1.2.3.4"];
        let bad = [
            "", ":80", "a:65536", "a:000080", "a:x", "a:80:80", "u@a", "a b", "a,b", "[a]", "[::1",
            "[::1]x", "::1", "a/b", "a%41", "[]", "a?b",
        ];
        for it in good {
            assert!(is_authority(it.as_bytes()), "{it:?}");
        }
        for it in bad {
            assert!(!is_authority(it.as_bytes()), "{it:?}");
        }
    }

    #[test]
    fn targets_are_taken_apart() {
        type Expected = Option<(Option<&'static str>, &'static str)>;
        let cases: &[(&str, Expected)] = &[
            ("/", Some((None, "/"))),
            ("/a?b=c|d", Some((None, "/a?b=c|d"))),
            ("//a", Some((None, "//a"))),
            ("http://a/b", Some((Some("a"), "/b"))),
            ("HTTPS://a:1?x", Some((Some("a:1"), "?x"))),
            ("http://a", Some((Some("a"), ""))),
            ("http://u@a/", None),
            ("http:///a", None),
            ("ftp://a/", None),
            ("*", None),
            ("a", None),
            ("", None),
            ("/a#b", None),
            ("/a\\b", None),
            ("/\u{fc}", None),
        ];
        for (bytes, expected) in cases {
            let found = target(&Method::GET, bytes.as_bytes());
            let expected = expected.map(|(authority, rest)| Target {
                authority: authority.map(str::as_bytes),
                rest: rest.as_bytes(),
            });
            assert_eq!(found, expected, "{bytes:?}");
        }
        assert!(target(&Method::OPTIONS, b"*").is_some());
    }
}
