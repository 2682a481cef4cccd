//! The way of a frame: `source -> shard -> batch -> infer -> post -> sink`, and one edge back, the settlements.
//!
//! No stage imports another; only `pipeline` knows two of them. No network, no C library, no GPU here:
//! what touches the outside implements the traits of this crate elsewhere.

pub mod source;
pub mod shard;
pub mod batch;
pub mod infer;
pub mod post;
pub mod sink;

pub mod cameras;
pub mod clock;
pub mod picture;
pub mod plan;
pub mod shard_hash;
pub mod tensor;
