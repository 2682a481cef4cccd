//! Removing what dead producers have left, by anybody.
//!
//! A producer that was killed leaves its segment. The next one of its name removes it; if none comes, a sweep does. Only
//! files are touched that bear a segment's name, are rings, and are locked by nobody (`claim.rs`): never a living
//! producer's, never anybody else's.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::SegmentName;
use crate::claim::{identity, inspect, names, open, try_lock};

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Segments removed, by name.
    pub removed: Vec<SegmentName>,
    /// Memory that comes free once nobody has them mapped.
    pub bytes: u64,
    /// Dead ones that the system did not let us remove: another user's, as a rule.
    pub refused: Vec<SegmentName>,
}

/// Removes each dead producer's segment in `folder` that has not been written to for `grace`: its pictures may still be
/// on their way to be read.
///
/// # Errors
/// The folder cannot be read.
pub fn sweep(folder: &Path, grace: Duration) -> io::Result<Swept> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut swept = Swept::default();
    for entry in std::fs::read_dir(folder)? {
        let file_name = entry?.file_name();
        let Some(name) = file_name.to_str().and_then(|name| SegmentName::parse(name).ok()) else { continue };
        let path = folder.join(name.as_str());
        // Whatever cannot be opened or is no ring is nothing of ours; it may also just have been removed.
        let Ok((file, metadata)) = open(&path) else { continue };
        let Ok(found) = inspect(&file, metadata.len()) else { continue };
        if now.saturating_sub(Duration::from_nanos(found.active_at)) < grace || try_lock(&file).is_err() {
            continue;
        }
        // From here on the file is nobody's but ours, if the name still means it.
        if !names(&path, identity(&metadata)) {
            continue;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => {
                swept.bytes += metadata.len();
                swept.removed.push(name);
            }
            Err(_) => swept.refused.push(name),
        }
    }
    Ok(swept)
}
