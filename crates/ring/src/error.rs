//! What can go wrong for a producer. A reader's errors are [`omma_frame::Unreadable`], by drop reason.

use std::io;
use std::path::PathBuf;

use crate::NameError;

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("a ring of {found} bytes is asked for, expected at least {min} and at most {max}")]
    Bytes { found: u64, min: u64, max: u64 },
    #[error("{path}: a producer of this name is alive (process {pid}): one ring has one producer")]
    InUse { path: PathBuf, pid: u32 },
    #[error("{path}: it is there and is no ring of ours, so it is left as it is; remove it or choose another name")]
    Foreign { path: PathBuf },
    #[error("{path}: others create and remove it faster than we can")]
    Contended { path: PathBuf },
    #[error(
        "{path}: no room for a ring of {bytes} bytes (in a container, its /dev/shm may have to be made larger): {source}"
    )]
    NoRoom { path: PathBuf, bytes: u64, source: io::Error },
    #[error("{path}: cannot {what}: {source}")]
    Io { path: PathBuf, what: &'static str, source: io::Error },
}

/// Why a payload was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("the payload has {bytes} bytes, expected at most {max}: the ring holds no more")]
    TooLarge { bytes: u64, max: u64 },
    #[error("the payload has {bytes} bytes, expected {expected}: raw pixels of {width}x{height}")]
    Pixels { bytes: u64, expected: u64, width: u32, height: u32 },
    #[error("the payload has no bytes")]
    Empty,
    #[error("the segment was truncated by somebody else: its pictures are lost, create it anew")]
    Lost,
}
