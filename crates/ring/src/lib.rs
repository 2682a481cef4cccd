//! Frame handles: pictures in shared-memory rings, written by one process and read where they lie by others.
//!
//! A [`Producer`] owns one ring: a file in `/dev/shm` in which it lays pictures one after another, around and around. It
//! never waits for anybody. A reader gets a *handle* (segment, generation, length) by message, maps the segment through
//! its [`Rings`], and reads the picture in place; what the producer may have begun to overwrite is
//! `handle_overwritten`, whatever the bytes look like. `docs/ref/frame-handles.md` has the layout byte by byte,
//! `docs/design/frame-handles.md` the reasons.
//!
//! Owns mappings, files and one signal handler (`guard.rs`: a segment that somebody truncates must not kill its
//! readers); no thread. Writing costs one copy of the picture and two fences, reading nothing but the look at two
//! counters; neither makes a system call per picture once a segment is mapped.
//!
//! What is absent: several producers of one ring, locks between processes, waiting, and trust. Every number that stands
//! in a segment may be hostile; only the numbers taken at mapping time decide what memory is touched.

mod claim;
mod compat;
mod error;
mod guard;
mod layout;
mod mapping;
mod name;
mod producer;
mod rings;
mod segment;
mod sweep;

pub use compat::{CompatRings, CompatSegment};
pub use error::{CreateError, WriteError};
pub use layout::{FILE_HEADER_BYTES, Format, Meta, SLOT_HEADER_BYTES, slot_bytes};
pub use name::{NameError, SegmentName};
pub use producer::{Producer, RingOptions};
pub use rings::{Rings, RingsOptions};
pub use segment::RingSegment;
pub use sweep::{Swept, sweep};

/// Where segments lie unless something else is said.
pub const DEFAULT_FOLDER: &str = "/dev/shm";
