//! Sinks: JSON lines, Redis streams and null.
//!
//! A sink lives on a writer thread of the engine, which may block in it; it never touches another thread's state.

pub mod encode;
pub mod jsonl;
mod null;
#[cfg(feature = "redis")]
pub mod redis;

pub use null::{NullCounts, NullSink};
