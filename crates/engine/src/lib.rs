//! The way of a frame: source, shard, batch, infer, post, sink. No network, no C library, no GPU.
