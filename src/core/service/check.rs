//! Which values of a parameter are right (api §2.2), and what is said of wrong maps and lists
//! (§2.4).

use serde_json::{Map, Value};

/// Which values of a parameter are right.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// A string that is not blank.
    Text,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// Null, or one of these strings.
    NullOr(&'static [&'static str]),
    /// An integer from the first to the second.
    Whole(u64, u64),
    /// A number for which this holds.
    Number(fn(f64) -> bool),
    /// A list of names of environment variables.
    Names,
    /// A map from names of environment variables to strings.
    Environment,
    /// A map from labels to strings.
    Metadata,
    /// The name of a metric group.
    MetricGroup,
}

/// Names that users may not set, beside those with a reserved beginning.
const RESERVED: [&str; 3] = ["HOME", "LOGNAME", "USER"];
/// A map holds fewer entries than this.
const ENTRIES: usize = 100;
const ENV_CHARS: usize = 512;
const METADATA_CHARS: usize = 999;

impl Check {
    /// Whether the value is right.
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::Text => value.as_str().is_some_and(is_text),
            Self::OneOf(names) => value.as_str().is_some_and(|it| names.contains(&it)),
            Self::NullOr(names) => {
                value.is_null() || value.as_str().is_some_and(|it| names.contains(&it))
            }
            Self::Whole(least, most) => {
                value.as_u64().is_some_and(|it| (least..=most).contains(&it))
            }
            Self::Number(right) => value.as_f64().is_some_and(right),
            Self::MetricGroup => value.as_str().is_some_and(is_metric_group),
            Self::Names | Self::Environment | Self::Metadata => self.complaint(value).is_empty(),
        }
    }

    /// What is wrong with a list or map; empty when nothing is. Scalars have their text in the
    /// table.
    pub fn complaint(self, value: &Value) -> String {
        let sentences = match self {
            Self::Names => of_names(value),
            Self::Environment => of_map(value, of_environment_size, of_environment),
            Self::Metadata => of_map(value, of_metadata_size, of_metadata),
            _ => Vec::new(),
        };
        sentences.join(" ")
    }
}

/// A NUL would end an argument or a variable of the process early, so no text holds one.
fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains('\0')
}

fn is_metric_group(text: &str) -> bool {
    let mut separated = true;
    for byte in text.bytes() {
        let separator = matches!(byte, b'_' | b'-');
        let plain = byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !(plain || separator) || (separator && separated) {
            return false;
        }
        separated = separator;
    }
    (2..=32).contains(&text.len()) && !separated && text.as_bytes()[0].is_ascii_lowercase()
}

fn of_names(value: &Value) -> Vec<String> {
    const LEAD: &str = "allowed-params is invalid.";
    let Some(list) = value.as_array() else {
        return vec![format!("{LEAD} It must be a list of names.")];
    };
    let names = || list.iter().map(|it| it.as_str().unwrap_or("0"));
    let mut sentences = vec![LEAD.to_owned()];
    if names().any(|it| it.is_empty() || it.chars().count() > ENV_CHARS) {
        sentences.push("Individual params may not be empty.".into());
    }
    if names().any(|it| !it.is_empty() && !is_variable(it)) {
        sentences.push(
            "Individual params must be made up of letters, numbers, and underscores and must \
             start with a letter."
                .into(),
        );
    }
    if names().any(is_reserved) {
        sentences.push(format!("Individual params {}", reserved_rule()));
    }
    if sentences.len() == 1 { Vec::new() } else { sentences }
}

fn of_map(
    value: &Value,
    size: fn(Option<usize>) -> String,
    entries: fn(&Map<String, Value>) -> Vec<String>,
) -> Vec<String> {
    match value.as_object() {
        None => vec![size(None)],
        Some(map) if map.len() >= ENTRIES => vec![size(Some(map.len()))],
        Some(map) => entries(map),
    }
}

fn of_environment_size(given: Option<usize>) -> String {
    given.map_or_else(
        || "Environment variables must be a map from string to string.".into(),
        |it| format!("Environment variables can only contain 100 keys. You provided {it}."),
    )
}

fn of_metadata_size(given: Option<usize>) -> String {
    given.map_or_else(
        || "Metadata must be a map from string to string.".into(),
        |it| format!("Metadata can only contain 100 keys. You provided {it}."),
    )
}

fn of_environment(map: &Map<String, Value>) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(keys) = keys_where(map, |key| !is_variable(key)) {
        sentences.push(format!(
            "The following environment variable keys are invalid: {keys}. Keys must be made up of \
             letters, underscores, and numbers and must start with a letter. Keys cannot be longer \
             than 512 characters."
        ));
    }
    if let Some(keys) = keys_where(map, is_reserved) {
        sentences.push(format!(
            "The following environment variable keys are reserved: {keys}. Environment variables \
             {}",
            reserved_rule()
        ));
    }
    if let Some(entries) = entries_not_text(map, ENV_CHARS) {
        sentences.push(format!(
            "The following environment variable keys did not have string values: {entries}. \
             Environment variable values must be strings no longer than 512 characters."
        ));
    }
    sentences
}

fn of_metadata(map: &Map<String, Value>) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(keys) = keys_where(map, |key| !is_label(key)) {
        sentences.push(format!(
            "The following metadata keys are invalid: {keys}. Keys must be made up of lower-case \
             letters, numbers, and hyphens and must start with a letter."
        ));
    }
    if let Some(entries) = entries_not_text(map, METADATA_CHARS) {
        sentences.push(format!(
            "The following metadata keys did not have string values: {entries}. Metadata values \
             must be strings."
        ));
    }
    sentences
}

fn keys_where(map: &Map<String, Value>, wrong: fn(&str) -> bool) -> Option<String> {
    listed(map.keys().filter(|key| wrong(key)).cloned().collect())
}

fn entries_not_text(map: &Map<String, Value>, chars: usize) -> Option<String> {
    let right = |value: &Value| {
        value
            .as_str()
            .is_some_and(|it| (1..=chars).contains(&it.chars().count()) && !it.contains('\0'))
    };
    let entry = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!("{key}: {text}"),
        other => format!("{key}: {other}"),
    };
    listed(map.iter().filter(|(_, value)| !right(value)).map(entry).collect())
}

fn listed(mut words: Vec<String>) -> Option<String> {
    words.sort_unstable();
    (!words.is_empty()).then(|| words.join(", "))
}

/// `^[A-Za-z][A-Za-z0-9_]*$`, 1 to 512 characters.
fn is_variable(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|it| it.is_ascii_alphabetic());
    first
        && name.len() <= ENV_CHARS
        && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_')
}

/// `^[a-z][a-z0-9\\-]*$`, 1 to 999 characters; the backslash is the original's.
fn is_label(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|it| it.is_ascii_lowercase());
    let plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    first
        && name.len() <= METADATA_CHARS
        && name.bytes().all(|it| plain(it) || matches!(it, b'-' | b'\\'))
}

fn is_reserved(name: &str) -> bool {
    let port = name.strip_prefix("PORT").is_some_and(|it| it.bytes().all(|c| c.is_ascii_digit()));
    RESERVED.contains(&name)
        || port
        || name.starts_with("MARATHON_")
        || name.starts_with("MESOS_")
        || (name.starts_with("WAITER_") && !name.starts_with("WAITER_CONFIG_"))
}

fn reserved_rule() -> String {
    format!(
        "cannot start with MESOS_, MARATHON_, PORT, or WAITER_ and cannot be {}.",
        RESERVED.join(", ")
    )
}
