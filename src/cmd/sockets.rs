//! What drives the sockets: chosen by what is wanted and what the kernel can.

use crate::config::{Driver, Io};
use crate::shard;
use crate::shard::engine::ring::Tuning;
use crate::shard::engine::ring::features::{self, Feature, Features};

/// The driver, and how it is called in the log and in `/settings`.
///
/// # Errors
/// The driver that was asked for cannot work here.
pub(super) fn choose(io: &Io) -> Result<(shard::Io, String), String> {
    let streams = |why: &str| Ok((shard::Io::Streams, format!("glommio streams{why}")));
    if io.driver == Driver::Glommio {
        return streams("");
    }
    match features::probe() {
        Ok(found) => {
            let features = allowed(found, &io.ring_without);
            Ok((shard::Io::Ring(tuning(io, features)), format!("own ring with {features}")))
        }
        Err(error) if io.driver == Driver::Ring => Err(format!(
            "--io ring cannot work on this kernel ({error}); Linux 5.19 or newer is needed, or \
             choose --io glommio"
        )),
        Err(error) => streams(&format!(", for an own ring cannot work on this kernel ({error})")),
    }
}

fn allowed(found: Features, without: &[String]) -> Features {
    let named = without.iter().filter_map(|it| Feature::named(it));
    named.fold(found, Features::without)
}

fn tuning(io: &Io, features: Features) -> Tuning {
    Tuning {
        features,
        depth: io.ring_depth,
        small_count: io.receive_buffers,
        small_bytes: io.receive_buffer_bytes,
        large_count: io.body_buffers,
        large_bytes: io.body_buffer_bytes,
        spin: io.spin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RING_FEATURES;

    #[test]
    fn flags_name_the_features_there_are() {
        assert_eq!(Feature::ALL.map(Feature::name), RING_FEATURES);
        let all = Feature::ALL.into_iter().fold(Features::default(), Features::with);
        let some = allowed(all, &["message-ring".to_owned()]);
        assert!(!some.has(Feature::MessageRing) && some.has(Feature::DeferTaskrun));
    }
}
