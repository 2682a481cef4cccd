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
