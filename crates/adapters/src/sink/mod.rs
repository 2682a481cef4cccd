//! Sinks: JSON lines and null.
//!
//! A sink lives on a writer thread of the engine, which may block in it; it never touches another thread's state.

pub mod jsonl;
mod null;

pub use null::{NullCounts, NullSink};
