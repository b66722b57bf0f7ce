//! Which scheduler runs a service (control-plane §11.7).

use crate::core::fact::Runner;

/// The schedulers of a router, in the order in which they were named.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Runners(Vec<Runner>);

impl Runners {
    /// These; the first is that of services that name none.
    pub fn new(list: Vec<Runner>) -> Self {
        Self(list)
    }

    /// One more.
    pub fn add(&mut self, runner: Runner) {
        if !self.0.contains(&runner) {
            self.0.push(runner);
        }
    }

    /// All of them.
    pub fn list(&self) -> &[Runner] {
        &self.0
    }

    /// The one that is meant by this value of the parameter `scheduler`; none: there is none of
    /// that name. Where there is one only, it runs everything, whatever is said.
    pub fn of(&self, named: Option<&str>) -> Option<Runner> {
        match (self.0.as_slice(), named) {
            ([], _) => None,
            ([first], _) | ([first, ..], None) => Some(*first),
            (all, Some(name)) => Runner::parse(name).filter(|it| all.contains(it)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_may_choose_where_there_is_a_choice() {
        use Runner::{Local, Marathon};
        for (all, named, expected) in [
            (vec![], Some("local"), None),
            (vec![Local], None, Some(Local)),
            (vec![Local], Some("anything"), Some(Local)),
            (vec![Marathon], Some("local"), Some(Marathon)),
            (vec![Local, Marathon], None, Some(Local)),
            (vec![Marathon, Local], None, Some(Marathon)),
            (vec![Local, Marathon], Some("marathon"), Some(Marathon)),
            (vec![Local, Marathon], Some("k8s"), None),
        ] {
            assert_eq!(Runners::new(all.clone()).of(named), expected, "{all:?} {named:?}");
        }
    }
}
