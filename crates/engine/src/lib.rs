//! The way of a frame: `source -> shard -> batch -> infer -> post -> sink`, and one edge back, the settlements.
//!
//! No stage imports another; only `pipeline` knows two of them. No network, no C library, no GPU here:
//! what touches the outside implements the traits of this crate elsewhere.

pub mod batch;
pub mod infer;
pub mod post;
pub mod shard;
pub mod sink;
pub mod source;

pub mod cameras;
pub mod clock;
pub mod ledger;
pub mod lifecycle;
pub mod metrics;
mod panics;
pub mod picture;
pub mod pipeline;
pub mod plan;
pub mod report;
pub mod shard_hash;
pub mod tensor;
pub mod threads;
