//! One picture of one camera on its way through the engine.

use crate::{CameraIndex, DropReason, Mono, Payload, UnixNanos};

/// What a source needs to acknowledge a frame (a Redis entry id, a file offset, ...). Opaque to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Token(pub u64, pub u64);

/// What its producer calls a frame, where that is not the decimal text of its sequence number. One pointer wide, so that
/// frames without a name, which are nearly all, cost nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameName(Box<Box<str>>);

impl FrameName {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Box::new(name.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A frame has one owner at a time, and whoever owns it must settle it or hand it on.
#[must_use = "a frame must be settled or handed on"]
#[derive(Debug)]
pub struct Frame {
    pub camera: CameraIndex,
    /// The camera's own count of its pictures; a gap in it means frames lost before they reached us.
    pub sequence: u64,
    pub token: Token,
    pub captured_at: UnixNanos,
    pub received_at: Mono,
    pub payload: Payload,
    pub name: Option<FrameName>,
}

/// A frame as a source hands it over, before its shard has looked at it.
#[derive(Debug)]
pub struct Arrival {
    pub camera: CameraIndex,
    /// The producer's own count, if it sends one; otherwise the shard counts.
    pub sequence: Option<u64>,
    /// When the picture was taken, if the producer says so; otherwise the time of arrival.
    pub captured_at: Option<UnixNanos>,
    pub payload: Payload,
    pub token: Token,
    /// Frames of this camera between the last arrival and this one that the source has left unread because this one is
    /// newer (`delivery = "latest"`): received, and dropped as overtaken.
    pub overtaken: u64,
    /// The source comes back to this frame after later ones of its camera, since nobody has settled it: it is no
    /// duplicate, and its number says nothing of where the camera's count stands.
    pub redelivered: bool,
    pub name: Option<FrameName>,
}

/// A frame's fate as its source hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    pub camera: CameraIndex,
    pub sequence: u64,
    pub token: Token,
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its result is in the sink.
    Published,
    /// [`DropReason::Shutdown`] means: not done, deliver it again.
    Dropped(DropReason),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_costs_a_frame_without_one_a_single_pointer() {
        assert_eq!(size_of::<Option<FrameName>>(), size_of::<usize>());
        assert_eq!(FrameName::new("5f2c").as_str(), "5f2c");
    }
}
