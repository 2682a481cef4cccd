//! Conformance suites for the engine's traits, fault doubles, clocks.

pub mod sink;
pub mod source;
pub mod source_mjpeg_server;
