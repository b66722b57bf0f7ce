//! Percent escapes (RFC 3986 §2.1).

/// A text as a value of a query; slashes stay as they are.
pub fn query_value(text: &str) -> String {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-._~/".contains(&it);
    let one = |it: u8| match plain(it) {
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
}
