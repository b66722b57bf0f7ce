//! A small port of Knative's pod autoscaler, to compare with: 60 s stable window, 6 s panic window,
//! 70 % utilisation, panic above twice what is ready, at most halving at a time.

use std::collections::VecDeque;

/// What Knative's autoscaler remembers of one service that takes one request at a time.
#[derive(Debug, Default)]
pub(super) struct Kpa {
    window: VecDeque<f64>,
    panic_until: f64,
    panic_most: f64,
}

impl Kpa {
    /// Instances wanted, `concurrency` having been the mean of the second before `now`.
    pub(super) fn wanted(&mut self, concurrency: f64, ready: u32, now: f64) -> u32 {
        self.window.push_back(concurrency);
        if self.window.len() > 60 {
            self.window.pop_front();
        }
        let ready = f64::from(ready);
        let stable = (self.mean(60) / 0.7).ceil();
        let panic = (self.mean(6) / 0.7).ceil();
        if panic >= 2.0 * ready.max(1.0) {
            self.panic_until = now + 60.0;
        }
        let wanted = if now < self.panic_until {
            self.panic_most = self.panic_most.max(panic);
            self.panic_most
        } else {
            self.panic_most = 0.0;
            stable.max((ready / 2.0).floor())
        };
        wanted.clamp(1.0, 500.0) as u32
    }

    fn mean(&self, seconds: usize) -> f64 {
        let count = self.window.len().min(seconds);
        self.window.iter().rev().take(count).sum::<f64>() / count.max(1) as f64
    }
}
