//! Lanes: into a cluster, results go by several sinks, one for each master, so that a master that is away holds up the
//! results of its own cameras and no others'.
//!
//! A camera's lane is that of the master which has its stream's slot when the sinks are opened. It never changes, or two
//! writers would share a camera's order: a replica takes over all slots of its master, and its lane with them. After
//! slots were moved between masters lanes are as right as ever and no longer as apart; the next start sees to that.

use omma_engine::shard_hash::shard_of;
use omma_frame::CameraId;

use super::RedisSinkOptions;
use super::names::ResultNames;
use crate::redis::link::{SLOTS, slot_of};
use crate::redis::{Link, LinkError};

/// Lanes where nobody says which slots belong together: an equal part of all slots each.
const LANES_BLIND: usize = 8;

/// Which lane a camera's results take.
pub struct Lanes {
    names: ResultNames,
    shards: u32,
    /// By slot.
    lane_of: Vec<u16>,
    count: usize,
}

impl Lanes {
    /// Asks the cluster which master has which slots; at most `most` lanes. Where it does not answer, slots are parted
    /// evenly, and the error says why; without a cluster there is one lane.
    #[must_use]
    pub fn of(options: &RedisSinkOptions, shards: u32, most: usize) -> (Self, Option<LinkError>) {
        let most = most.clamp(1, usize::from(u16::MAX));
        let told = match (options.redis.cluster, most) {
            (false, _) | (_, 1) => Ok(Vec::new()),
            _ => Link::new(options.redis.clone()).and_then(|mut link| link.slot_owners()),
        };
        let (owners, why) = match told {
            Ok(owners) => (owners, None),
            Err(error) => {
                let parts = LANES_BLIND.min(most);
                ((0..SLOTS).map(|slot| (slot * parts / SLOTS) as u16).collect(), Some(error))
            }
        };
        // A slot that nobody has is anybody's.
        let lane_of: Vec<u16> =
            owners.into_iter().map(|owner| if owner == u16::MAX { 0 } else { owner % most as u16 }).collect();
        let count = lane_of.iter().max().map_or(1, |last| usize::from(*last) + 1);
        (Self { names: options.names.clone(), shards, lane_of, count }, why)
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Below [`Lanes::count`].
    #[must_use]
    pub fn lane(&self, camera: &CameraId) -> usize {
        if self.count == 1 {
            return 0;
        }
        let key = self.names.key(camera, shard_of(camera, self.shards));
        self.lane_of.get(usize::from(slot_of(key.as_bytes()))).map_or(0, |lane| usize::from(*lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::RedisOptions;

    fn camera(id: &str) -> CameraId {
        CameraId::new(id).expect("an id")
    }

    fn options(cluster: bool, pattern: &str) -> RedisSinkOptions {
        // Nobody listens there.
        let redis = RedisOptions { cluster, ..RedisOptions::new("redis://127.0.0.1:1") };
        RedisSinkOptions::new(redis, ResultNames::parse(pattern).expect("a pattern"))
    }

    #[test]
    fn a_server_alone_is_one_lane_and_is_not_asked() {
        let (lanes, why) = Lanes::of(&options(false, "r:{camera}"), 32, 16);
        assert_eq!((lanes.count(), lanes.lane(&camera("a")), why), (1, 0, None));
    }

    #[test]
    fn a_cluster_that_does_not_answer_is_parted_by_slots() {
        for (most, count) in [(1, 1), (4, 4), (16, LANES_BLIND)] {
            let (lanes, why) = Lanes::of(&options(true, "r:{camera}"), 32, most);
            assert_eq!((lanes.count(), why.is_some()), (count, most > 1), "{most}");
            let mut used: Vec<usize> = (0..500).map(|n| lanes.lane(&camera(&format!("cam-{n}")))).collect();
            used.sort_unstable();
            used.dedup();
            assert_eq!(used, (0..count).collect::<Vec<_>>(), "{most}");
        }
    }

    #[test]
    fn cameras_of_one_tag_or_one_shards_stream_share_a_lane() {
        let (lanes, _) = Lanes::of(&options(true, "r:{camera}"), 32, 16);
        let tagged = |n: usize| lanes.lane(&camera(&format!("{{s07}}:cam-{n}")));
        assert!((0..100).all(|n| tagged(n) == tagged(0)));
        let (lanes, _) = Lanes::of(&options(true, "r:{shard}"), 1, 16);
        assert!((0..100).all(|n| lanes.lane(&camera(&n.to_string())) == lanes.lane(&camera("0"))));
    }
}
