//! Descriptions given on the fly: the `x-waiter-*` headers of a request (api §2.6, §2.7).
//!
//! Names come in lower case. What is no parameter is dropped silently, as the original does.

use super::description::{Defaults, Description, launched};
use super::table::{self, Form, PARAMETERS};
use crate::base::fault::{Class, Fault};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Core = BTreeMap<String, Value>;

/// What all headers meant for the router begin with.
pub const PREFIX: &[u8] = b"x-waiter-";

/// What a header has to do with descriptions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind<'a> {
    /// It gives this row of the table.
    Parameter(usize),
    /// One entry of `env`.
    Env(&'a [u8]),
    /// One entry of `metadata`.
    Metadata(&'a [u8]),
    /// One entry of `env`, where `allowed-params` allows it.
    Param(&'a [u8]),
    /// It names tokens.
    Token,
    /// It is refused.
    Unsupported,
}

fn kind(name: &[u8]) -> Option<Kind<'_>> {
    let rest = name.strip_prefix(PREFIX)?;
    if let Some(at) = str::from_utf8(rest).ok().and_then(table::place) {
        return Some(Kind::Parameter(at));
    }
    match rest {
        b"token" => return Some(Kind::Token),
        b"maintenance" => return Some(Kind::Unsupported),
        _ => {}
    }
    let entry = |prefix: &[u8]| rest.strip_prefix(prefix);
    entry(b"env-")
        .map(Kind::Env)
        .or_else(|| entry(b"metadata-").map(Kind::Metadata))
        .or_else(|| entry(b"param-").map(Kind::Param))
}

/// Appends to `out` the bytes of all headers that take part in the description: requests with the
/// same bytes have the same description. Allocates only where `out` must grow.
///
/// Returns whether there was any such header.
pub fn fingerprint<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    for (name, value) in fields {
        if kind(name).is_none() {
            continue;
        }
        // Lengths first, so that no two lists of headers have the same bytes.
        for part in [name, value] {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(part);
        }
    }
    out.len() > start
}

/// The description that the headers of a request give, for a requester without a say in who runs
/// the service: `run-as-user` and `permitted-user` are the requester where they are not given.
///
/// # Errors
/// 400 where the headers give no or a wrong description, 403 where they name another user, 404
/// where they name a token: there are none.
pub fn from_headers<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    requester: &str,
    defaults: &Defaults,
) -> Result<Description, Fault> {
    let mut given = Given::default();
    for (name, value) in fields {
        if let Some(kind) = kind(name) {
            given.take(kind, name, value)?;
        }
    }
    let mut core = given.into_core()?;
    set_users(&mut core, requester)?;
    launched(core, requester, defaults)
}

/// What the headers said so far.
#[derive(Default)]
struct Given<'a> {
    core: Core,
    env: Map<String, Value>,
    metadata: Map<String, Value>,
    params: Map<String, Value>,
    token: Option<&'a [u8]>,
    unsupported: Option<&'a [u8]>,
}

impl<'a> Given<'a> {
    fn take(&mut self, kind: Kind<'a>, name: &'a [u8], value: &'a [u8]) -> Result<(), Fault> {
        match kind {
            Kind::Parameter(at) => self.take_parameter(at, value),
            Kind::Env(key) => put(&mut self.env, name, upper(key)?, value),
            Kind::Param(key) => put(&mut self.params, name, upper(key)?, value),
            Kind::Metadata(key) => put(&mut self.metadata, name, text(name, key)?.into(), value),
            Kind::Token => {
                self.token =
                    self.token.or_else(|| (!value.trim_ascii().is_empty()).then_some(value));
                Ok(())
            }
            Kind::Unsupported => {
                self.unsupported = Some(name);
                Ok(())
            }
        }
    }

    fn take_parameter(&mut self, at: usize, value: &[u8]) -> Result<(), Fault> {
        let row = &PARAMETERS[at];
        let value = parse(row.form, text(row.name.as_bytes(), value)?);
        if row.name == "idle-timeout-mins" && value == 0 {
            return Err(misconfigured(
                "idle-timeout-mins on-the-fly header configured to a value of zero is not \
                 supported",
            ));
        }
        match self.core.insert(row.name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(twice(&format!("x-waiter-{}", row.name))),
        }
    }

    /// The explicit parameters, users not yet settled.
    fn into_core(mut self) -> Result<Core, Fault> {
        if let Some(name) = self.unsupported {
            return Err(misconfigured("Unsupported waiter headers found")
                .with("unsupported-headers", String::from_utf8_lossy(name)));
        }
        if let Some(token) = self.token {
            let token = String::from_utf8_lossy(token);
            return Err(Fault::new(Class::TokenUnknown, format!("Token not found: {token}"))
                .with("token", token));
        }
        if self.core.contains_key("authentication") {
            return Err(Fault::new(
                Class::UnsupportedAuth,
                "An authentication parameter is not supported for on-the-fly headers",
            ));
        }
        let entries = [&self.env, &self.metadata, &self.params];
        if self.core.is_empty() && entries.into_iter().all(Map::is_empty) {
            return Err(unidentified());
        }
        self.check_params()?;
        self.env.append(&mut self.params);
        merge(&mut self.core, "env", self.env);
        merge(&mut self.core, "metadata", self.metadata);
        Ok(self.core)
    }

    fn check_params(&self) -> Result<(), Fault> {
        let allowed = self.core.get("allowed-params").and_then(Value::as_array);
        let allows = |name: &str| allowed.is_some_and(|list| list.iter().any(|it| it == name));
        let refused: Vec<_> =
            self.params.keys().filter(|it| !allows(it)).map(String::as_str).collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(misconfigured("Some params cannot be configured").with("params", refused.join(", ")))
    }
}

/// The fault of a request in which nothing names a service.
pub fn unidentified() -> Fault {
    Fault::new(Class::ServiceUnknown, "Unable to identify service using waiter headers/token")
}

fn misconfigured(message: impl Into<String>) -> Fault {
    Fault::new(Class::ServiceMisconfigured, message)
}

/// Two values for one parameter: whichever were taken, some reader would have meant the other.
fn twice(name: &str) -> Fault {
    misconfigured(format!("The header {name} is given more than once."))
}

fn text<'a>(name: &[u8], value: &'a [u8]) -> Result<&'a str, Fault> {
    str::from_utf8(value).map_err(|_| {
        let name = String::from_utf8_lossy(name);
        misconfigured(format!("The value of the header {name} is not UTF-8."))
    })
}

fn upper(key: &[u8]) -> Result<String, Fault> {
    text(key, key).map(str::to_ascii_uppercase)
}

/// Reads a value of this form.
pub(super) fn parse(form: Form, text: &str) -> Value {
    match form {
        Form::Text => Value::from(text),
        Form::Json => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        Form::Names => names(text),
    }
}

/// A set, written sorted: the order in which names are given makes no other service.
fn names(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Array(Vec::new());
    }
    let mut names: Vec<_> = text.split(',').map(str::trim).collect();
    names.sort_unstable();
    names.dedup();
    Value::from(names)
}

fn put(
    map: &mut Map<String, Value>,
    header: &[u8],
    key: String,
    value: &[u8],
) -> Result<(), Fault> {
    let value = Value::from(text(header, value)?);
    match map.insert(key, value) {
        None => Ok(()),
        Some(_) => Err(twice(&String::from_utf8_lossy(header))),
    }
}

/// Single entries go on top of a whole map. What is given as a whole and is no map stays as it is;
/// its check refuses it.
fn merge(core: &mut Core, name: &str, mut entries: Map<String, Value>) {
    if entries.is_empty() {
        return;
    }
    match core.get_mut(name) {
        None => {
            core.insert(name.to_owned(), Value::Object(entries));
        }
        Some(Value::Object(map)) => map.append(&mut entries),
        Some(_) => {}
    }
}

/// Settles who runs and who may use the service (api §2.7).
fn set_users(core: &mut Core, requester: &str) -> Result<(), Fault> {
    let star = |core: &Core, name: &str| core.get(name).is_some_and(|it| it == "*");
    if star(core, "run-as-user") {
        if core.contains_key("namespace") && !star(core, "namespace") {
            return Err(misconfigured("Cannot use run-as-requester with a specific namespace"));
        }
        core.remove("run-as-user");
    }
    if star(core, "namespace") {
        core.insert("namespace".into(), requester.into());
    }
    for name in ["run-as-user", "permitted-user"] {
        if !core.contains_key(name) {
            core.insert(name.to_owned(), requester.into());
        }
    }
    Ok(())
}
