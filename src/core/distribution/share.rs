//! The two schemes of the original (control-plane §3.2 to §3.4).
//!
//! `balanced` hands every router at least one slot and may hand one slot to several: nobody here
//! gives slots out by it. The weight of a router is a number to the base of the instance count,
//! with as many digits as there are routers; it is compared as digits, so no width is ever too
//! small (Q3).

use crate::core::distribution::Ranked;
use std::cmp::Reverse;

/// Of each router, in the order given: the places of instances, ascending, and how many slots.
pub type Shares = Vec<Vec<(usize, u32)>>;

/// All slots of an instance go to the router of rank 0.
pub fn simple(ranked: &Ranked, slots: u32) -> Shares {
    let own = |router: &Vec<Vec<usize>>| {
        let first = router.first().map_or(&[][..], Vec::as_slice);
        first.iter().map(|place| (*place, slots)).collect()
    };
    ranked.iter().map(own).collect()
}

/// About the same number of slots for everybody, out of own instances first. `routers` are their
/// names, in the order of `ranked`; each of `instances` instances has `slots` slots.
pub fn balanced<S: AsRef<str>>(
    routers: &[S],
    ranked: &Ranked,
    instances: usize,
    slots: u32,
) -> Shares {
    assert_eq!(routers.len(), ranked.len());
    let mut shares = vec![Vec::new(); ranked.len()];
    let mut available = vec![slots; instances];
    let mut order: Vec<usize> = (0..ranked.len()).collect();
    order.sort_by_cached_key(|it| {
        (Reverse(weight(&ranked[*it], instances)), routers[*it].as_ref().to_owned())
    });
    for (counter, router) in order.iter().enumerate() {
        let left = (order.len() - counter) as u64;
        let sum: u64 = available.iter().map(|it| u64::from(*it)).sum();
        let target = sum.div_ceil(left).max(1);
        let preference = preference(&ranked[*router], counter);
        let got = allocate(target, &available, &preference);
        for (place, count) in got.iter().enumerate().filter(|(_, it)| **it > 0) {
            available[place] = available[place].saturating_sub(*count);
            shares[*router].push((place, *count));
        }
    }
    shares
}

/// Spreads `target` slots over instances with `available` slots each; what does not divide goes
/// round in the order of `preference`. If slots run out, the first that are left over get one slot
/// beyond what there is, unless they have one.
pub fn allocate(target: u64, available: &[u32], preference: &[usize]) -> Vec<u32> {
    let with_slots = available.iter().filter(|it| **it > 0).count() as u64;
    let base = target.checked_div(with_slots).unwrap_or(0);
    let mut got: Vec<u32> = available.iter().map(|it| u64::from(*it).min(base) as u32).collect();
    let mut left = target - got.iter().map(|it| u64::from(*it)).sum::<u64>();
    while left > 0 {
        let mut gave = false;
        for place in preference {
            if left > 0 && got[*place] < available[*place] {
                got[*place] += 1;
                left -= 1;
                gave = true;
            }
        }
        if !gave {
            break;
        }
    }
    for place in preference.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        got[*place] = got[*place].max(1);
    }
    got
}

/// Instances by rank, each rank turned by as many as there were routers before.
fn preference(ranks: &[Vec<usize>], counter: usize) -> Vec<usize> {
    let mut order = Vec::new();
    for list in ranks {
        let (head, tail) = list.split_at(counter.checked_rem(list.len()).unwrap_or(0));
        order.extend_from_slice(tail);
        order.extend_from_slice(head);
    }
    order
}

/// Σ |list of rank k| · base^(last − k), most significant digit first, every digit below the base.
/// To the base 1 it is a plain sum.
fn weight(ranks: &[Vec<usize>], base: usize) -> Vec<usize> {
    if base <= 1 {
        return vec![ranks.iter().map(Vec::len).sum()];
    }
    let mut digits = Vec::with_capacity(ranks.len() + 1);
    let mut carry = 0;
    for list in ranks.iter().rev() {
        let digit = list.len() + carry;
        digits.push(digit % base);
        carry = digit / base;
    }
    digits.push(carry);
    digits.reverse();
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::distribution::{owner, rank};

    /// Q3: the original's process ends here.
    #[test]
    fn many_routers_and_instances_are_no_overflow() {
        let routers: Vec<_> = (0..10).map(|it| format!("r{it}")).collect();
        let instances: Vec<_> = (0..500).map(|it| format!("s.{it}")).collect();
        let ranked = rank(&routers, &instances);
        let shares = balanced(&routers, &ranked, instances.len(), 2);
        for share in &shares {
            let slots: u32 = share.iter().map(|(_, count)| count).sum();
            assert_eq!(slots, 100);
        }
    }

    #[test]
    fn a_digit_that_equals_the_base_carries() {
        assert_eq!(weight(&[vec![], vec![0, 1]], 2), weight(&[vec![0], vec![]], 2));
    }

    #[test]
    fn owners_are_those_of_rank_nought_and_move_only_to_or_from_who_comes_or_goes() {
        let routers: Vec<_> = (0..5).map(|it| format!("r{it}")).collect();
        let instances: Vec<_> = (0..1000).map(|it| format!("s.{it}")).collect();
        let ranked = rank(&routers, &instances);
        for (place, instance) in instances.iter().enumerate() {
            let it = owner(&routers, instance).expect("there are routers");
            assert!(ranked[it][0].contains(&place));
            let fewer = owner(&routers[..4], instance).expect("there are routers");
            assert!(it == fewer || it == 4);
        }
    }
}
