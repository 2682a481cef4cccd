//! From a batch of frames to what the model said about each: decode into the tensor, run, read the outputs.

pub mod backend;
pub mod direct;
pub mod mode;
pub mod prepare;
pub mod run;
pub mod watch;
pub mod work;
