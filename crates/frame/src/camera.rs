//! A camera's name (from outside, checked once) and its index (dense, inside one process).

use std::fmt;
use std::sync::Arc;

/// The longest camera id in bytes: long enough for a URL-like name, short enough for a metric label.
const ID_BYTES_MAX: usize = 256;

/// A camera's id: 1 to 256 bytes of UTF-8 without control characters. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CameraId(Arc<str>);

/// Why a text is no camera id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameraIdError {
    Empty,
    TooLong { bytes: usize },
    ControlCharacter { at: usize },
}

impl CameraId {
    /// # Errors
    /// The text is empty, longer than 256 bytes, or holds a control character.
    pub fn new(text: &str) -> Result<Self, CameraIdError> {
        if text.is_empty() {
            return Err(CameraIdError::Empty);
        }
        if text.len() > ID_BYTES_MAX {
            return Err(CameraIdError::TooLong { bytes: text.len() });
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(CameraIdError::ControlCharacter { at });
        }
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CameraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl serde::Serialize for CameraId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Display for CameraIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a camera id is empty, expected 1 to 256 bytes"),
            Self::TooLong { bytes } => write!(f, "a camera id has {bytes} bytes, expected at most {ID_BYTES_MAX}"),
            Self::ControlCharacter { at } => {
                write!(f, "a camera id holds a control character at byte {at}, expected printable text")
            }
        }
    }
}

impl std::error::Error for CameraIdError {}

/// A camera's place in the tables of this process: dense, given once, never reused.
///
/// Stages keep their state per camera in plain vectors under this index, so that no stage hashes a
/// string per frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CameraIndex(pub u32);

impl CameraIndex {
    #[must_use]
    pub fn slot(self) -> usize {
        self.0 as usize
    }
}
