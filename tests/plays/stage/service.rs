//! Services described by headers, run by `waiter instance`.

use super::request::Request;

/// A description.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    fields: Vec<(String, String)>,
}

impl Service {
    /// A service of this name whose instances have these knobs.
    pub(crate) fn new(name: &str, knobs: &str) -> Self {
        let binary = env!("CARGO_BIN_EXE_waiter");
        Self::run(name, &format!("'{binary}' instance --port $PORT0 {knobs}"))
    }

    /// A service of this name that runs this command.
    pub(crate) fn run(name: &str, command: &str) -> Self {
        Self { fields: Vec::new() }
            .with("name", name)
            .with("cmd", command)
            .with("cpus", "1")
            .with("mem", "256")
            .with("version", "1")
    }

    /// With this parameter, instead of an earlier one of its name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let name = format!("x-waiter-{name}");
        self.fields.retain(|(it, _)| *it != name);
        self.fields.push((name, value.to_owned()));
        self
    }

    /// Without this parameter.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(it, _)| *it != format!("x-waiter-{name}"));
        self
    }

    /// A request to it.
    pub(crate) fn of(&self, request: Request) -> Request {
        self.fields.iter().fold(request, |it, (name, value)| it.with(name, value))
    }

    /// `GET` to it.
    pub(crate) fn get(&self, target: &str) -> Request {
        self.of(Request::get(target))
    }
}
