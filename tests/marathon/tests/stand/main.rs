//! The stand-in against what is known of Marathon: schemas, rules, and clients that others wrote.

mod agents;
mod backoff;
mod clients;
mod deploying;
mod ending;
mod events;
mod faults;
mod health;
mod launching;
mod leading;
mod schemas;
mod shapes;
mod stage;
