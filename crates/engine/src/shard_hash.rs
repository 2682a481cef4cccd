//! The stable hash that pins a camera to a shard: the same in every process, release and language.

use omma_frame::CameraId;

/// FNV-1a, 64 bits, folded to 32: short enough that anyone can write it in another language, and stable for ever.
///
/// The standard library's hasher was rejected: it is seeded per process and may change with a release,
/// and two engines on one group must agree.
fn stable_hash(text: &str) -> u32 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash ^ (hash >> 32)) as u32
}

/// The shard, below `shards`, that owns the camera.
#[must_use]
pub fn shard_of(camera: &CameraId, shards: u32) -> u32 {
    stable_hash(camera.as_str()) % shards.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These values are a promise: another release, process or language must give the same.
    #[test]
    fn shards_of_known_cameras_never_change() {
        let table = [("cam-0000", 32), ("cam-0001", 32), ("gate/7", 32), ("\u{e9}tage 2", 32), ("cam-0000", 1000)];
        let shards = table.map(|(id, shards)| CameraId::new(id).map(|id| shard_of(&id, shards)));
        assert_eq!(shards, PINNED.map(Ok));
    }

    // Computed by an independent program: FNV-1a of the UTF-8 bytes, upper half folded onto the lower.
    const PINNED: [u32; 5] = [27, 8, 24, 14, 779];

    #[test]
    fn ten_thousand_cameras_spread_evenly_over_32_shards() {
        let mut counts = [0; 32];
        for number in 0..10_000 {
            let id = CameraId::new(&format!("cam-{number:04}")).unwrap_or_else(|error| panic!("{error}"));
            counts[shard_of(&id, 32) as usize] += 1;
        }
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        assert!(least >= Some(230) && most <= Some(400), "312 each on average, found {least:?} to {most:?}");
    }
}
