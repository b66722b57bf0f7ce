//! Percent escapes (RFC 3986 §2.1).

/// A text as a value of a query; slashes stay as they are.
pub fn query_value(text: &str) -> String {
    escaped(text, b"-._~/")
}

/// A text as one segment of a path.
pub fn path_segment(text: &str) -> String {
    escaped(text, b"-._~")
}

/// Letters, digits and what is in `plain` stay as they are.
fn escaped(text: &str, plain: &[u8]) -> String {
    let one = |it: u8| match it.is_ascii_alphanumeric() || plain.contains(&it) {
        true => char::from(it).to_string(),
        false => format!("%{it:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_a_query_is_escaped() {
        assert_eq!(query_value("/a-b._~/9"), "/a-b._~/9");
        assert_eq!(query_value("a b&c=d%+#ä"), "a%20b%26c%3Dd%25%2B%23%C3%A4");
    }

    #[test]
    fn a_segment_of_a_path_is_one() {
        let usual = "x.instance-0aa._app.3";
        assert_eq!(path_segment(usual), usual);
        assert_eq!(path_segment("a/b?c#d;e %"), "a%2Fb%3Fc%23d%3Be%20%25");
    }
}
