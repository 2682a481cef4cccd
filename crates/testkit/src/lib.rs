//! Conformance suites for the engine's traits, fault doubles, clocks.

pub mod backend;
pub mod backend_async;
pub mod backend_onnx;
pub mod backend_served;
pub mod doubles_backend;
pub mod doubles_picture;
pub mod engine_rig;
pub mod picture;
pub mod picture_fixtures;
mod picture_formats;
pub mod ports;
pub mod process;
pub mod python;
pub mod redis_proxy;
pub mod redis_server;
pub mod sink;
pub mod source;
pub mod source_mjpeg_server;
pub mod triton_server;
