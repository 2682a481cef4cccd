//! What the engine's traits are on the outside: sources, picture decoders, model runtimes, sinks.
//!
//! The folders bear the names of the engine's stages. No adapter knows another; each native library is one feature.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod infer;
pub mod picture;
#[cfg(feature = "redis")]
pub mod redis;
pub mod sink;
pub mod source;
pub mod threads;
