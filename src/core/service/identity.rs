//! Service-ids (api §2.8): a hash of the explicit parameters, the same in every run and on every
//! router. Defaults never enter it.

use crate::base::ids::ServiceId;
use md5::{Digest, Md5};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Letters and digits of a name that the id shows: it is the name of a directory too. The hash
/// holds all of them.
const NAME_SHOWN: usize = 63;

/// `<prefix>[<name>-]<md5>`: the name in lower case, letters and digits only, cut where it is long.
pub(super) fn launched(prefix: &str, core: &BTreeMap<String, Value>) -> ServiceId {
    let mut text = String::with_capacity(prefix.len() + 64);
    text.push_str(prefix);
    if let Some(name) = core.get("name").and_then(Value::as_str) {
        let lower = name.chars().flat_map(char::to_lowercase);
        let plain = lower.filter(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
        text.extend(plain.take(NAME_SHOWN));
        text.push('-');
    }
    push_hash(&mut text, core);
    ServiceId::new(&text)
}

/// `<prefix><name>-<md5>`: the name as it is, without the dots that would end a service-id.
pub(super) fn named(prefix: &str, name: &str, core: &BTreeMap<String, Value>) -> ServiceId {
    let mut text = format!("{prefix}{}-", name.replace('.', "-"));
    push_hash(&mut text, core);
    ServiceId::new(&text)
}

/// MD5 over each name and its value as canonical JSON, in order of the names; in hexadecimal.
fn push_hash(text: &mut String, core: &BTreeMap<String, Value>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = Vec::with_capacity(512);
    for (name, value) in core {
        bytes.extend_from_slice(name.as_bytes());
        write_canonical(&mut bytes, value);
    }
    for byte in Md5::digest(&bytes) {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// JSON without white space, keys sorted at every depth, whatever order the map type keeps.
fn write_canonical(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Object(map) => write_object(out, map),
        Value::Array(list) => {
            out.push(b'[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_canonical(out, value);
            }
            out.push(b']');
        }
        scalar => serde_json::to_writer(out, scalar).expect("a vector takes every byte"),
    }
}

fn write_object(out: &mut Vec<u8>, map: &Map<String, Value>) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    out.push(b'{');
    for (at, (key, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        serde_json::to_writer(&mut *out, key).expect("a vector takes every byte");
        out.push(b':');
        write_canonical(out, value);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_and_still_tells_services_apart() {
        let id = |name: String| launched("p-", &BTreeMap::from([("name".into(), name.into())]));
        let one = id("a".repeat(200));
        assert_eq!(one.as_str().len(), "p-".len() + NAME_SHOWN + 1 + 32);
        assert!(one.as_str().starts_with(&format!("p-{}-", "a".repeat(NAME_SHOWN))), "{one}");
        assert_ne!(one, id("a".repeat(201)));
    }
}
