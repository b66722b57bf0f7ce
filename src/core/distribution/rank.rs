//! Ranks of routers for an instance: by the MD5 of both names, the lowest first (control-plane
//! §3.1).
//!
//! Comparing digests byte by byte is comparing their lower-case hex.

use md5::{Digest, Md5};

/// Where a router stands for an instance; the lowest owns it.
pub type Rank = [u8; 16];

/// Of each router, in the order given, and for each rank: the places of the instances for which it
/// has that rank, in the order of the instances given.
pub type Ranked = Vec<Vec<Vec<usize>>>;

/// The rank of a router for an instance.
pub fn rank_of(router: &str, instance: &str) -> Rank {
    let mut hash = Md5::new();
    hash.update(router.as_bytes());
    hash.update(instance.as_bytes());
    hash.finalize().into()
}

/// The place of the router that owns an instance; none if there is no router. Of equals the first.
pub fn owner<S: AsRef<str>>(routers: &[S], instance: &str) -> Option<usize> {
    (0..routers.len()).min_by_key(|it| (rank_of(routers[*it].as_ref(), instance), *it))
}

/// Every router's instances by rank. Instances are given in order of service, start and id.
pub fn rank<S: AsRef<str>, T: AsRef<str>>(routers: &[S], instances: &[T]) -> Ranked {
    let mut ranked = vec![vec![Vec::new(); routers.len()]; routers.len()];
    for (place, instance) in instances.iter().enumerate() {
        let mut order: Vec<usize> = (0..routers.len()).collect();
        order.sort_by_key(|it| (rank_of(routers[*it].as_ref(), instance.as_ref()), *it));
        for (rank, router) in order.into_iter().enumerate() {
            ranked[router][rank].push(place);
        }
    }
    ranked
}
