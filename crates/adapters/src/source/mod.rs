//! Sources: synthetic cameras, folders of pictures, MJPEG from files and over HTTP, Redis Streams.
//!
//! A source lives on a reader thread of the engine, which polls it every few milliseconds; what would block that
//! thread (drawing, looking up names) runs on a few threads of the source's own, never one for each camera.

pub mod images;
pub mod mjpeg_file;
pub mod mjpeg_http;
#[cfg(feature = "redis")]
pub mod redis;
pub mod synthetic;

pub(crate) mod jpeg_scan;
mod mailbox;
mod natural;
mod pace;

pub use pace::Pace;

/// What to do at the end of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// The camera has ended.
    Stop,
    /// Begin again; the sequence goes on.
    Repeat,
}

/// Which pictures a camera keeps while nobody reads it. It goes with the camera's delivery policy: `latest` keeps the
/// newest, `every` keeps all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// A new picture replaces the oldest unread one, as in a live camera.
    Newest,
    /// The camera waits until there is room.
    All,
}
