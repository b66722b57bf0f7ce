//! Timers that wake an executor which sleeps although it has something to do.
//!
//! glommio 0.9 goes to sleep beside tasks that could run if its preemption time is over before it
//! has looked at its first task, which a busy machine makes happen. Then it sleeps until an event
//! comes; and if the task that waits for the next tick is among those that could run, no timer is
//! left to be one. So a few others stand by, each later than the one before, and are put off at
//! every tick: in good times none ever expires.

use crate::base::time::Duration;
use glommio::timer::Timer;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// How many stand by. Each that expires gives the executor one more chance.
const COUNT: u32 = 6;
/// By how much each is later than the one before.
const FACTOR: u32 = 3;

/// Timers ahead of a tick.
#[derive(Debug)]
pub struct Standby {
    timers: Vec<(Duration, Timer)>,
}

impl Standby {
    /// For an executor on which something is done every `tick`.
    pub fn new(tick: Duration) -> Self {
        let patience = (1..=COUNT).map(|n| tick * FACTOR.pow(n));
        Self { timers: patience.map(|it| (it, Timer::new(it))).collect() }
    }

    /// Puts all off; the task that calls is woken if one expires nevertheless.
    pub async fn put_off(&mut self) {
        poll_fn(|cx| {
            for (patience, timer) in &mut self.timers {
                timer.reset(*patience);
                let _ = Pin::new(timer).poll(cx); // it has just been put off
            }
            Poll::Ready(())
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::clock;
    use glommio::{LocalExecutorBuilder, Placement};

    #[test]
    fn one_that_is_not_put_off_wakes_its_task() {
        let begun = clock::now();
        let polls = LocalExecutorBuilder::new(Placement::Unbound)
            .spawn(|| async {
                let tick = Duration::from_millis(1);
                let mut standby = Standby::new(tick);
                for _ in 0..100 {
                    standby.put_off().await;
                }
                let mut polls = 0;
                poll_fn(|_| {
                    polls += 1;
                    if polls > COUNT { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                polls
            })
            .expect("an executor")
            .join()
            .expect("no panic");
        assert_eq!(polls, COUNT + 1, "by each once");
        assert!(clock::now() - begun >= Duration::from_millis(3_u64.pow(COUNT)));
    }
}
