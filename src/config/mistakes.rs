//! What is wrong with the settings: one line for each mistake, naming the flag or the key of the
//! file it stands at.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// So much of a value is shown.
const SHOWN_CHARS: usize = 80;

/// Mistakes, one line each.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    lines: Vec<String>,
    /// The file, as it was named.
    file: String,
    /// Keys whose value comes from the file.
    keys: BTreeSet<String>,
}

impl Mistakes {
    /// Those found so far, and where values come from: these keys from this file, all others from
    /// the command line.
    pub(super) fn new(lines: Vec<String>, file: String, keys: BTreeSet<String>) -> Self {
        Self { lines, file, keys }
    }

    /// The value of this key is not what is expected.
    pub(super) fn add(&mut self, key: &str, given: impl Display, expected: impl Display) {
        let given = shown(&given.to_string());
        self.lines.push(match self.keys.contains(key) {
            true => format!("{}: {key} = {given}: {expected}", self.file),
            false => format!("--{key} {given}: {expected}"),
        });
    }

    /// A number that must lie in this range; none if it is not given or does not.
    pub(super) fn within(
        &mut self,
        key: &str,
        given: Option<u64>,
        range: &RangeInclusive<u64>,
    ) -> Option<u64> {
        let given = given?;
        if !range.contains(&given) {
            self.add(key, given, format_args!("expected {} to {}", range.start(), range.end()));
            return None;
        }
        Some(given)
    }

    /// All mistakes; none if there are none.
    pub(super) fn end(self) -> Result<(), Vec<String>> {
        if self.lines.is_empty() { Ok(()) } else { Err(self.lines) }
    }
}

/// A value in one short line, whatever is in it.
pub(super) fn shown(given: &str) -> String {
    let mut line = String::new();
    for (at, it) in given.chars().enumerate() {
        match it {
            _ if at == SHOWN_CHARS => {
                line.push('…');
                break;
            }
            _ if it.is_control() => line.extend(it.escape_default()),
            _ => line.push(it),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line_that_names_where_it_stands() {
        let keys = BTreeSet::from(["ports".to_owned()]);
        let mut mistakes = Mistakes::new(vec!["first".into()], "a.toml".into(), keys);
        mistakes.add("ports", "a\nb", "expected FROM-TO");
        assert_eq!(mistakes.within("drain-secs", Some(9), &(0..=5)), None);
        assert_eq!(mistakes.within("drain-secs", Some(5), &(0..=5)), Some(5));
        mistakes.add("cluster", "x".repeat(100), "too long");
        let long = format!("--cluster {}…: too long", "x".repeat(SHOWN_CHARS));
        assert_eq!(
            mistakes.end().expect_err("mistakes"),
            [
                "first",
                "a.toml: ports = a\\nb: expected FROM-TO",
                "--drain-secs 9: expected 0 to 5",
                long.as_str(),
            ]
        );
    }
}
