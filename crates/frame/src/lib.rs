//! The words of omma: cameras, frames, payloads, results, and the reasons why a frame was dropped.
//!
//! Owns no thread, does no I/O and knows no other crate of the project: every stage, adapter and tool
//! speaks in these types, so they stay small and cheap to move (a [`Frame`] is moved, never shared).

mod camera;
mod frame;
mod outcome;
mod payload;
mod time;

pub use camera::{CameraId, CameraIdError, CameraIndex};
pub use frame::{Arrival, Fate, Frame, FrameName, Settlement, Token};
pub use outcome::{ClassScore, Detection, DropReason, FrameResult, Outcome, Output, OwnedTensor, ServedBy, Timing};
pub use payload::{Handle, Payload, PictureView, PixelFormat, RawPicture, RawView, Segment, Size, Unreadable};
pub use time::{Mono, UnixNanos};
