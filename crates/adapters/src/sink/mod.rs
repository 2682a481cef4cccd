//! Sinks: JSON lines and null.
