//! What a world is like: drawn from its seed, or written down for a figure.

use waiter::base::time::Duration;
use waiter::core::service::LoadBalancing;

/// A small generator (SplitMix64): the same numbers for the same seed, for all time.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

/// How long requests take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Work {
    /// All the same.
    Fixed,
    /// Many short ones and a long tail.
    Exponential,
    /// Nine in ten short ones; the others take twenty times as long.
    Mixed,
}

/// A defect built in on purpose, which the watch must find.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Planted {
    /// A slot is put back without a look at who waits.
    PutBlindly,
    /// A slot is taken although somebody waits.
    TakeBlindly,
    /// Gates are looked at before the swap, not in it.
    GateBeforeSwap,
    /// A withdrawal takes out any waiter of that shard.
    WithdrawByShard,
    /// A grant is lost now and then.
    LostGrant,
    /// A settlement is lost now and then.
    LostSettle,
    /// A connection that goes with its slot is kept as well.
    LeftBehind,
}

/// A world's size, load and troubles.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) shards: usize,
    pub(crate) services: usize,
    /// Instances of each service, and slots of each instance.
    pub(crate) instances: usize,
    pub(crate) limit: u16,
    pub(crate) balancing: LoadBalancing,
    pub(crate) queue_max: u32,
    /// Requests in all, and how many slots they would keep busy at once, as a share.
    pub(crate) requests: u64,
    pub(crate) load: f64,
    pub(crate) work: Work,
    pub(crate) work_mean: Duration,
    pub(crate) hop_mean: Duration,
    /// Patience of a request that waits; none: for ever.
    pub(crate) patience: Option<Duration>,
    /// Shares of requests that end so.
    pub(crate) errors: f64,
    pub(crate) busy: f64,
    pub(crate) gone: f64,
    /// Mean time between acts of the control thread; none: it does nothing.
    pub(crate) churn: Option<Duration>,
    /// One client on shard `home + 1` that sends one request after the other.
    pub(crate) lone: bool,
    pub(crate) planted: Option<Planted>,
    /// Whether the invariants are looked at after every event.
    pub(crate) watched: bool,
}

impl Options {
    /// A calm world without troubles: eight shards, work of 1 ms, hops of 60 µs.
    pub(crate) fn calm(instances: usize, load: f64, requests: u64) -> Self {
        Self {
            shards: 8,
            services: 1,
            instances,
            limit: 1,
            balancing: LoadBalancing::Oldest,
            queue_max: 10_000,
            requests,
            load,
            work: Work::Exponential,
            work_mean: Duration::from_millis(1),
            hop_mean: Duration::from_micros(60),
            patience: None,
            errors: 0.0,
            busy: 0.0,
            gone: 0.0,
            churn: None,
            lone: false,
            planted: None,
            watched: false,
        }
    }

    /// Whatever the seed says.
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        let troubled = chance.is(0.7);
        let calm = Self::calm(0, 0.0, 0);
        Self {
            shards: 1 + chance.below(8),
            services: 1 + chance.below(3),
            instances: 1 + chance.below(6),
            limit: if chance.is(0.5) { 1 } else { 1 + chance.below(4) as u16 },
            balancing: [LoadBalancing::Oldest, LoadBalancing::Youngest, LoadBalancing::Random]
                [chance.below(3)],
            queue_max: if chance.is(0.3) { 1 + chance.below(5) as u32 } else { 10_000 },
            requests: 400 + chance.below(800) as u64,
            load: 0.2 + 1.6 * chance.share(),
            work: [Work::Fixed, Work::Exponential, Work::Mixed][chance.below(3)],
            hop_mean: Duration::from_micros(5 + chance.below(200) as u64),
            patience: (troubled || chance.is(0.5))
                .then(|| Duration::from_micros(100 + chance.below(20_000) as u64)),
            errors: if chance.is(0.5) { 0.3 * chance.share() } else { 0.0 },
            busy: if chance.is(0.5) { 0.1 * chance.share() } else { 0.0 },
            gone: 0.1 * chance.share(),
            churn: troubled.then(|| Duration::from_micros(500 + chance.below(20_000) as u64)),
            watched: true,
            ..calm
        }
    }

    /// Mean time between two requests.
    pub(crate) fn gap_ns(&self) -> f64 {
        let slots = self.services as f64 * self.instances as f64 * f64::from(self.limit);
        self.work_mean.as_nanos() as f64 / (slots * self.load)
    }
}

impl Chance {
    /// From a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From the moment: no two runs have the same.
    pub(crate) fn fresh() -> Self {
        let (time, process) = (std::time::UNIX_EPOCH.elapsed(), std::process::id());
        let nanos = time.expect("after 1970").as_nanos() as u64;
        Self::new(nanos ^ u64::from(process))
    }

    /// Any number.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        it ^ (it >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// A number in [0, 1).
    pub(crate) fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in this share of cases.
    pub(crate) fn is(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// Exponentially distributed, in whole nanoseconds.
    pub(crate) fn exponential(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.share()).ln() * mean) as u64
    }

    /// How long a request takes, in nanoseconds.
    pub(crate) fn work(&mut self, work: Work, mean: Duration) -> u64 {
        let mean = mean.as_nanos() as f64;
        match work {
            Work::Fixed => mean as u64,
            Work::Exponential => self.exponential(mean),
            Work::Mixed if self.is(0.9) => (mean * 0.345) as u64,
            Work::Mixed => (mean * 6.9) as u64,
        }
    }
}
