//! How long requests took: forty buckets whose bounds grow by the same factor, and a sum.
//!
//! A shard counts in `u32` for the time of a pulse, the control thread adds those up in `u64`. A
//! time is known to within the factor between two bounds, which is what tells 2 ms from 3 ms.

use crate::base::time::Duration;

/// Buckets; the last has no bound.
pub const BUCKETS: usize = 40;

/// Upper bounds of all buckets but the last, in nanoseconds: 20 µs × 1.6^i. The longest is about
/// 19 minutes.
const BOUNDS: [u64; BUCKETS - 1] = {
    let mut bounds = [20_000; BUCKETS - 1];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = bounds[at - 1] * 8 / 5;
        at += 1;
    }
    bounds
};

/// Times, by how long they were.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Histogram<N> {
    counts: [N; BUCKETS],
    sum: Duration,
}

/// How long the requests of one service took that were served to their end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Latency<N> {
    /// From arrival to slot.
    pub queue: Histogram<N>,
    /// From arrival to end.
    pub total: Histogram<N>,
}

impl<N: Copy + Default> Default for Histogram<N> {
    fn default() -> Self {
        Self { counts: [N::default(); BUCKETS], sum: Duration::ZERO }
    }
}

impl<N: Copy + Default> Default for Latency<N> {
    fn default() -> Self {
        Self { queue: Histogram::default(), total: Histogram::default() }
    }
}

impl Histogram<u32> {
    /// Something took this long.
    pub fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[BOUNDS.partition_point(|bound| *bound < nanos)] += 1;
        self.sum = self.sum.saturating_add(time);
    }
}

impl Histogram<u64> {
    /// Adds what somebody else counted.
    pub fn add<N: Copy + Into<u64>>(&mut self, other: &Histogram<N>) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count.into();
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many times there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// For each bound, how many times are not longer. The last bucket is in [`count`](Self::count)
    /// only.
    pub fn up_to(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        BOUNDS.iter().zip(&self.counts).scan(0, |below, (bound, count)| {
            *below += count;
            Some((Duration::from_nanos(*bound), *below))
        })
    }

    /// The time that a share `q` (0 to 1) of all does not exceed, as if those of a bucket lay at
    /// even distances. Above the last bound it is that bound; none if there are no times.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = ((q * self.count() as f64).ceil() as u64).max(1);
        let (mut lower, mut below) = (Duration::ZERO, 0);
        for (bound, up_to) in self.up_to() {
            if up_to >= rank {
                let share = (rank - below) as f64 / (up_to - below) as f64;
                return Some(lower + (bound - lower).mul_f64(share));
            }
            (lower, below) = (bound, up_to);
        }
        (self.count() > 0).then_some(lower)
    }
}

impl Latency<u64> {
    /// Adds what somebody else counted.
    pub fn add<N: Copy + Into<u64>>(&mut self, other: &Latency<N>) {
        self.queue.add(&other.queue);
        self.total.add(&other.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Histogram<u64> {
        let mut counted = Histogram::<u32>::default();
        micros.iter().for_each(|it| counted.record(Duration::from_micros(*it)));
        let mut sum = Histogram::default();
        sum.add(&counted);
        sum
    }

    /// In which bucket a time is counted.
    fn bucket(nanos: u64) -> usize {
        let mut it = Histogram::<u32>::default();
        it.record(Duration::from_nanos(nanos));
        it.counts.iter().position(|count| *count == 1).expect("it is counted")
    }

    #[test]
    fn a_time_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for (nanos, expected) in [
            (0, 0),
            (20_000, 0),
            (20_001, 1),
            (32_000, 1),
            (32_001, 2),
            (51_200, 2),
            (BOUNDS[38], 38),
            (BOUNDS[38] + 1, 39),
            (u64::MAX, 39),
        ] {
            assert_eq!(bucket(nanos), expected, "{nanos} ns");
        }
    }

    #[test]
    fn bounds_grow_by_eight_fifths() {
        for (at, bound) in BOUNDS.iter().enumerate() {
            let exact = 20_000.0 * 1.6_f64.powi(i32::try_from(at).expect("small"));
            assert!((*bound as f64 / exact - 1.0).abs() < 1e-4, "{at}: {bound}, not {exact}");
        }
    }

    #[test]
    fn sums_and_counts_add_up() {
        let mut both = of(&[10, 100]);
        both.add(&of(&[1000]));
        assert_eq!((both.count(), both.sum()), (3, Duration::from_micros(1110)));
        let up_to: Vec<u64> = both.up_to().map(|(_, count)| count).collect();
        assert_eq!((up_to.len(), up_to[0], up_to[4], up_to[38]), (39, 1, 2, 3));
        assert!(up_to.is_sorted());
    }

    #[test]
    fn a_quantile_is_within_a_bucket_of_the_truth() {
        let times: Vec<u64> = (1..=1000).map(|it| it * 10).collect();
        let it = of(&times);
        for (q, exact) in [(0.0, 10.0), (0.5, 5000.0), (0.9, 9000.0), (0.99, 9900.0)] {
            let micros = it.quantile(q).expect("there are times").as_secs_f64() * 1e6;
            assert!(micros > exact / 1.6 && micros < exact * 1.6, "{q}: {micros}, not {exact}");
        }
        assert_eq!(of(&[]).quantile(0.5), None);
        let longest = Duration::from_nanos(BOUNDS[38]);
        assert_eq!(of(&[u64::MAX / 1000]).quantile(0.5), Some(longest));
        assert_eq!(of(&[20; 8]).quantile(1.0), Some(Duration::from_micros(20)));
    }
}
