//! Conformance suites for the engine's traits, fault doubles, clocks.

pub mod backend;
