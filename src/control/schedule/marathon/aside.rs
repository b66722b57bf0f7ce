//! Where the threads run that talk to Marathon: beside the shards. A list of all apps is megabytes
//! of JSON; reading it is no reason to keep a request waiting.

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Priority where there is no core but those of the shards: a shard that has work goes first.
const NICENESS: i32 = 10;

/// The thread that calls this leaves these cores, where there are others, or gives way on them.
pub(super) fn step_aside(shards: &[usize]) {
    let done = sched_getaffinity(None).and_then(|allowed| match others(&allowed, shards) {
        Some(others) => sched_setaffinity(None, &others),
        // Without a process it is the calling thread: Linux has a priority for each.
        None => setpriority_process(None, NICENESS),
    });
    if let Err(error) = done {
        tracing::debug!(%error, "a thread shares the cores of the shards");
    }
}

/// The cores of a set without these, if there are any.
fn others(allowed: &CpuSet, shards: &[usize]) -> Option<CpuSet> {
    let mut others = *allowed;
    for core in shards.iter().filter(|it| **it < CpuSet::MAX_CPU) {
        others.unset(*core);
    }
    (others.count() > 0).then_some(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;
    use std::thread;

    fn set(cores: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        cores.iter().for_each(|it| set.set(*it));
        set
    }

    #[test]
    fn the_cores_of_shards_are_left_where_there_are_others() {
        let all = set(&[0, 1, 2, 5]);
        assert_eq!(others(&all, &[0, 2]), Some(set(&[1, 5])));
        assert_eq!(others(&all, &[]), Some(all));
        assert_eq!(others(&all, &[3, 99_999]), Some(all));
        assert_eq!(others(&all, &[0, 1, 2, 3, 5]), None);
    }

    #[test]
    fn a_thread_without_a_core_of_its_own_gives_way_and_no_other_does() {
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).collect();
        let before = getpriority_process(None).expect("this thread has one");
        let aside = thread::spawn(move || {
            step_aside(&cores);
            getpriority_process(None).expect("so has that one")
        });
        let aside = aside.join().expect("it ends");
        assert_eq!(aside, NICENESS.max(before));
        assert_eq!(getpriority_process(None).expect("still"), before);
        let rest = thread::spawn(|| {
            let allowed = sched_getaffinity(None).expect("it is told");
            let first = (0..CpuSet::MAX_CPU).find(|it| allowed.is_set(*it)).expect("one");
            step_aside(&[first]);
            let left = sched_getaffinity(None).expect("it is told");
            allowed.count() == 1 || !left.is_set(first) && left.count() == allowed.count() - 1
        });
        assert!(rest.join().expect("it ends"));
    }
}
