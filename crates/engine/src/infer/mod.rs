//! From a batch of frames to what the model said about each: decode into the tensor, run, hand over the outputs.

pub mod backend;
