//! The configuration file: TOML, one key for each flag.
//!
//! Keys are taken one by one, so that every mistake in a file is found in one run.

use super::mistakes::shown;
use super::written::Written;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use toml::{Table, Value};

/// What a configuration file says.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// The file, as it was named.
    pub(super) path: String,
    /// What is right in it.
    pub(super) written: Written,
    /// Its keys.
    pub(super) keys: BTreeSet<String>,
    /// What is wrong with it, one line each.
    pub(super) mistakes: Vec<String>,
}

impl File {
    /// Reads a file; what is wrong with it is told when the settings are resolved.
    pub fn read(path: &Path) -> Self {
        let name = shown(&path.to_string_lossy());
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(name, &text),
            Err(error) => {
                let mistakes = vec![format!("--config {name}: {}", unreadable(&error))];
                Self { path: name, mistakes, ..Self::default() }
            }
        }
    }

    /// Understands the text of a file of this name.
    pub(super) fn parse(path: String, text: &str) -> Self {
        let mut file = Self { path, ..Self::default() };
        match toml::from_str::<Table>(text) {
            Ok(table) => {
                for (key, value) in table {
                    file.take(&key, value);
                }
            }
            Err(error) => {
                let before = error.span().and_then(|it| text.get(..it.start)).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let what = error.message().replace('\n', ", ");
                file.mistakes.push(format!("{}: line {line}: {what}", file.path));
            }
        }
        file
    }

    fn take(&mut self, key: &str, value: Value) {
        let keys = Written::keys();
        if !keys.iter().any(|it| it == key) {
            let cure = match nearest(key, &keys) {
                Some(it) => format!("did you mean {it}?"),
                None => "waiter serve --print-config shows all there are".to_owned(),
            };
            let key = shown(key);
            return self.mistakes.push(format!("{}: {key}: no such key; {cure}", self.path));
        }
        match forms(value.clone()).find_map(|it| alone(key, it)) {
            Some(one) => {
                self.written = one.over(std::mem::take(&mut self.written));
                self.keys.insert(key.to_owned());
            }
            None => {
                let (given, form) = (shown(&value.to_string()), form(key));
                self.mistakes.push(format!("{}: {key} = {given}: expected {form}", self.path));
            }
        }
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory; name a TOML file".to_owned(),
        io::ErrorKind::InvalidData => "it is not text in UTF-8".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// Settings with this key alone, if it takes this value.
fn alone(key: &str, value: Value) -> Option<Written> {
    Table::from_iter([(key.to_owned(), value)]).try_into().ok()
}

/// The forms in which a value is tried: a number is as good as its digits in a string, and a string
/// as good as a list of it.
fn forms(value: Value) -> impl Iterator<Item = Value> {
    let others = match &value {
        Value::Integer(number) => vec![Value::String(number.to_string())],
        Value::String(text) => {
            let number = text.trim().parse().map(Value::Integer).ok();
            number.into_iter().chain([Value::Array(vec![value.clone()])]).collect()
        }
        _ => Vec::new(),
    };
    std::iter::once(value).chain(others)
}

/// What a key takes, in words.
fn form(key: &str) -> &'static str {
    if alone(key, Value::Integer(1)).is_some() {
        "a whole number"
    } else if alone(key, Value::Array(Vec::new())).is_some() {
        "a list of strings"
    } else {
        "a string"
    }
}

/// The key that was probably meant: at most a third of it is to be changed.
fn nearest<'a>(given: &str, keys: &'a [String]) -> Option<&'a str> {
    let given = given.to_lowercase().replace('_', "-");
    let given = given.trim_start_matches('-');
    let near = keys.iter().map(|key| (distance(given, key), key.as_str())).min()?;
    (near.0 <= given.chars().count() / 3).then_some(near.1)
}

/// Characters to add, remove or replace to make one text of the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (at, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, b) in other.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn parse(text: &str) -> File {
        File::parse("a.toml".into(), text)
    }

    #[test]
    fn all_mistakes_of_a_file_and_of_the_line_are_told_in_one_run() {
        let file = parse(
            "cores = [2]\nqueue_timeout_ms = 5\nspeed = 9\nscheduler = 'k8s'\ndrain-secs = 'soon'\n\
             max-clients = 0\nport = '1-2'\nlisten = ['nowhere']\nqueue-timeout-ms = -1\n\
             ports = '9-1'\nlaunch-from = [7]\n[limits]\nx = 1\n",
        );
        let line = Written { ports: Some("8-1".into()), ..Written::default() };
        let mut mistakes = line.resolve_over(file, &[0]).expect_err("mistakes");
        mistakes.sort_unstable();
        assert_eq!(
            mistakes,
            [
                "--ports 8-1: expected FROM-TO, as 10000-10999",
                "a.toml: cores = [2]: expected a string",
                "a.toml: drain-secs = \"soon\": expected a whole number",
                "a.toml: launch-from = [7]: expected a list of strings",
                "a.toml: limits: no such key; waiter serve --print-config shows all there are",
                "a.toml: listen = nowhere: expected ADDR:PORT, as 127.0.0.1:9091",
                "a.toml: max-clients = 0: expected 1 to 10000000",
                "a.toml: port: no such key; did you mean ports?",
                "a.toml: queue-timeout-ms = -1: expected a whole number",
                "a.toml: queue_timeout_ms: no such key; did you mean queue-timeout-ms?",
                "a.toml: scheduler = k8s: expected local, marathon or none",
                "a.toml: speed: no such key; waiter serve --print-config shows all there are",
            ]
        );
    }

    #[test]
    fn numbers_strings_and_lone_values_are_taken_in_either_form() {
        let text = "cores = 2\ndrain-secs = '7'\nlisten = '127.0.0.1:1'\ncluster = 5\n";
        let config = Written::default().resolve_over(parse(text), &[0, 1]).expect("right");
        assert_eq!(config.cores, [0, 1]);
        assert_eq!(config.drain, Duration::from_secs(7));
        assert_eq!(config.listen, ["127.0.0.1:1".parse().expect("an address")]);
        assert_eq!(config.cluster, "5");
    }

    #[test]
    fn a_file_that_is_no_toml_or_no_file_is_told_in_one_line() {
        let check = |file: &File, expected: &str| assert_eq!(file.mistakes, [expected]);
        let file = parse("cores = 2\nlisten = [\n");
        assert_eq!(file.mistakes.len(), 1, "{file:?}");
        assert!(file.mistakes[0].starts_with("a.toml: line "), "{file:?}");
        assert!(!file.mistakes[0].contains('\n'), "{file:?}");
        check(&parse("cores = 1\ncores = 2\n"), "a.toml: line 2: duplicate key");
        check(&File::read(Path::new("/no/x.toml")), "--config /no/x.toml: there is no such file");
        check(&File::read(Path::new("/")), "--config /: it is a directory; name a TOML file");
    }

    #[test]
    fn the_key_that_was_meant_is_found() {
        let keys = Written::keys();
        for (given, meant) in [
            ("listens", Some("listen")),
            ("queue-timeout", Some("queue-timeout-ms")),
            ("--Data_Dir", Some("data-dir")),
            ("statics", Some("static")),
            ("fox", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, &keys), meant, "{given}");
        }
    }
}
