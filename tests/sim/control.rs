//! The pretended control thread: it founds, changes and ends services as the publisher does.

use crate::world::{Event, Place, World};
use std::cmp::Reverse;
use std::sync::Arc;
use waiter::base::ids::ServiceId;
use waiter::base::time::Date;
use waiter::core::service::testing::queueing;
use waiter::core::slots::{Instance, Roster, ServiceSlots};
use waiter::core::world::{Member, Service};

/// What the control thread knows of a service.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// None while the service does not exist.
    pub(crate) slots: Option<Arc<ServiceSlots>>,
    members: Vec<Member>,
    /// Instances no longer listed, which may return while somebody holds them.
    left: Vec<Arc<Instance>>,
    /// Limits that home is to set.
    limits: Vec<(Arc<Instance>, u16)>,
    /// Versions that home has not adopted yet.
    under_way: usize,
}

impl Control {
    /// Whether home will hear of a new version.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// Home has adopted a version.
    pub(crate) fn adopted_at_home(&mut self) {
        self.under_way -= 1;
    }

    /// The instances that are listed.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    fn roster(&self, description: &waiter::core::service::Description) -> Roster {
        let listed = |expired: bool| {
            let it = self.members.iter().filter(move |it| it.healthy && it.expired == expired);
            it.map(|it| it.instance.clone()).collect::<Vec<_>>()
        };
        let (mut live, mut old) = (listed(false), listed(true));
        live.sort_by_key(|it| it.started_at);
        old.sort_by_key(|it| Reverse(it.started_at));
        let count = live.len();
        live.extend(old);
        Roster::new(live, count, description.parameters.load_balancing)
    }
}

impl World {
    /// The services that exist from the beginning, known to all.
    pub(crate) fn found_services(&mut self) {
        for service in 0..self.options.services {
            let name = format!("s{service}-{}", self.chance.below(1000));
            let id = ServiceId::new(&name);
            let description = queueing(&name, self.options.balancing, self.options.queue_max);
            self.places.push(Place {
                home: usize::from(id.home(self.options.shards).0),
                id,
                description: Arc::new(description),
                reserver: None,
                awaited: false,
                views: vec![None; self.options.shards],
                control: Control { slots: Some(Arc::default()), ..Control::default() },
            });
            for _ in 0..self.options.instances {
                self.add_instance(service);
            }
            let version = self.version(service);
            self.places[service].views.fill(version);
        }
    }

    fn add_instance(&mut self, service: usize) {
        let number = self.watch.instances.len();
        let address = "127.0.0.1:1".parse().expect("an address");
        let limit = self.options.limit;
        let date = Date(number as u64);
        let instance = Arc::new(Instance::new(&number.to_string(), address, date, limit));
        self.watch.instances.push(instance.clone());
        self.places[service].control.members.push(member(instance));
    }

    fn version(&mut self, service: usize) -> Option<Arc<Service>> {
        let place = &self.places[service];
        let slots = place.control.slots.clone()?;
        slots.publish(Arc::new(place.control.roster(&place.description)));
        Some(Arc::new(Service {
            description: place.description.clone(),
            slots,
            members: place.control.members.clone().into(),
            deployment_error: None,
        }))
    }

    /// Publishes the roster now; shards learn of the version one after the other.
    fn publish(&mut self, service: usize) {
        let version = self.version(service);
        self.places[service].control.under_way += 1;
        for shard in 0..self.options.shards {
            let delay = self.hop(self.options.shards, shard);
            self.at(delay, Event::Adopt(shard, service, version.clone()));
        }
    }

    /// Something happens to a service.
    pub(crate) fn churn(&mut self) {
        let service = self.chance.below(self.places.len());
        if self.places[service].control.slots.is_none() {
            self.create(service, None);
        } else {
            self.change(service);
        }
        let churn = self.options.churn.expect("it churns");
        if self.arrived < self.options.requests {
            let gap = self.chance.exponential(churn.as_nanos() as f64);
            self.at(gap, Event::Churn);
        }
    }

    fn change(&mut self, service: usize) {
        let act = self.chance.below(12);
        let any = self.chance.number() as usize;
        let limit = 1 + self.chance.below(4) as u16;
        let control = &mut self.places[service].control;
        let count = control.members.len();
        match act {
            0..=3 => return self.at_home(service, Event::Lock),
            4 => {
                self.add_instance(service);
            }
            5 if !control.left.is_empty() => {
                let instance = control.left.swap_remove(any % control.left.len());
                control.members.push(member(instance));
            }
            6 if any.is_multiple_of(2) => return self.remove_service(service),
            _ if count == 0 => self.add_instance(service),
            7 => {
                let it = control.members.swap_remove(any % count);
                control.left.push(it.instance);
            }
            8 => control.members[any % count].healthy ^= true,
            9 => control.members[any % count].expired ^= true,
            10 => control.members[any % count].starting ^= true,
            _ => control.limits.push((control.members[any % count].instance.clone(), limit)),
        }
        self.publish(service);
    }

    fn at_home(&mut self, service: usize, event: fn(usize) -> Event) {
        let delay = self.hop(self.options.shards, self.places[service].home);
        self.at(delay, event(service));
    }

    fn remove_service(&mut self, service: usize) {
        let control = &mut self.places[service].control;
        if let Some(slots) = control.slots.take() {
            let none = Roster::new(Vec::new(), 0, self.options.balancing);
            slots.publish(Arc::new(none));
        }
        control.members.clear();
        control.left.clear();
        control.limits.clear();
        self.publish(service);
    }

    /// Creates a service anew, with the queue that waits for it.
    pub(crate) fn create(&mut self, service: usize, waited: Option<Arc<ServiceSlots>>) {
        if self.places[service].control.slots.is_some() {
            return;
        }
        self.places[service].control.slots = Some(waited.unwrap_or_default());
        self.publish(service);
        for _ in 0..self.options.instances {
            self.add_instance(service);
        }
        self.publish(service);
    }

    /// The scheduler has killed an instance, or has not.
    pub(crate) fn kill_ends(&mut self, service: usize, instance: Arc<Instance>, gone: bool) {
        let control = &mut self.places[service].control;
        if gone {
            assert_eq!(instance.word.used(), 0, "a request was killed with its instance");
            control.members.retain(|it| !Arc::ptr_eq(&it.instance, &instance));
            self.publish(service);
        }
        let delay = self.hop(self.options.shards, self.places[service].home);
        self.at(delay, Event::Unlock(service, instance, gone));
    }

    /// Home sets the limits it was told of, before it adopts the version.
    pub(crate) fn set_limits(&mut self, service: usize) {
        let control = &mut self.places[service].control;
        for (instance, limit) in control.limits.drain(..) {
            instance.word.set_limit(limit);
            self.watch.limit_changed(&instance);
            if let Some(slots) = &control.slots {
                slots.hint(&instance);
            }
        }
    }
}

fn member(instance: Arc<Instance>) -> Member {
    Member { instance, healthy: true, expired: false, starting: false }
}
