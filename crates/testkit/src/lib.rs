//! Conformance suites for the engine's traits, fault doubles, clocks.

pub mod picture;
pub mod picture_fixtures;
mod picture_formats;
