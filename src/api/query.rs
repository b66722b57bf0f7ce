//! Query parameters and path segments, decoded.

/// The parameters of a query, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c`. A parameter without `=` has the empty value.
    pub(super) fn parse(query: Option<&[u8]>) -> Self {
        let parts = query.unwrap_or_default().split(|it| *it == b'&');
        let pair = |part: &[u8]| {
            let at = memchr::memchr(b'=', part).unwrap_or(part.len());
            let value = part.get(at + 1..).unwrap_or_default();
            (form_decoded(&part[..at]), form_decoded(value))
        };
        Self(parts.filter(|it| !it.is_empty()).map(pair).collect())
    }

    /// The last value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.iter().filter(|(it, _)| *it == name).last().map(|(_, value)| value)
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(it, _)| *it == name).map(|(_, value)| value)
    }

    /// All parameters.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether the parameter is `true`, in any case (api §0.3).
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|it| it.eq_ignore_ascii_case("true"))
    }

    /// Whether `include=what` was said.
    pub(super) fn includes(&self, what: &str) -> bool {
        self.all("include").any(|it| it == what)
    }
}

/// A path segment with its percent escapes resolved; what is no escape stays as it is.
pub(super) fn decoded(text: &[u8]) -> String {
    String::from_utf8_lossy(&unescaped(text)).into_owned()
}

/// As [`decoded`]; a plus is a space (forms write it so).
fn form_decoded(text: &[u8]) -> String {
    let spaced: Vec<u8> = text.iter().map(|it| if *it == b'+' { b' ' } else { *it }).collect();
    decoded(&spaced)
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|it| char::from(*it).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits"));
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_forms_write_them() {
        let query = Query::parse(Some(b"a=1&a=2&b&c=x%3d+y%zz&&include=p&Include=q&t=TRUE&%41=%"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(
            (query.get("a"), query.get("b"), query.get("none")),
            (Some("2"), Some(""), None)
        );
        assert_eq!((query.get("c"), query.get("A")), (Some("x= y%zz"), Some("%")));
        assert!(query.includes("p") && !query.includes("q"));
        assert!(query.is_true("t") && !query.is_true("a"));
        assert_eq!(Query::parse(None).iter().count(), 0);
    }

    #[test]
    fn segments_are_decoded_and_a_plus_is_a_plus() {
        for (text, expected) in [
            ("waiter-service-x", "waiter-service-x"),
            ("a%2Fb+c", "a/b+c"),
            ("%c3%a4", "ä"),
            ("%ff", "\u{fffd}"),
            ("50%", "50%"),
            ("%4", "%4"),
            ("%+1", "%+1"),
        ] {
            assert_eq!(decoded(text.as_bytes()), expected);
        }
    }
}
