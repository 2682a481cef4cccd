//! What became of a frame: its result, or the named reason why it has none.

use crate::{CameraIndex, FrameName, Mono, Size, Token, UnixNanos};

/// Why a frame was dropped. Every drop has exactly one of these names, in the ledger, the metrics and error results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum DropReason {
    /// A newer frame of the same camera came before this one was batched (`delivery = "latest"`).
    Overtaken,
    /// Older than `max_age_ms` before it could be batched (`delivery = "latest"`).
    Stale,
    /// The camera has delivered this sequence number before.
    Duplicate,
    /// The message that should have brought it has no picture, or fields that cannot be read.
    EntryUnreadable,
    /// Taken over from failed consumers more often than `deliveries_max` allows: it may be what they fail of.
    Poisoned,
    /// Its picture in shared memory was overwritten before it could be read, or while it was.
    HandleOverwritten,
    /// Its handle points to no readable picture: no such segment, or one that contradicts itself.
    HandleInvalid,
    /// No bytes in it.
    PayloadEmpty,
    /// More bytes or pixels than the configuration allows.
    PayloadTooLarge,
    /// The picture cannot be decoded.
    PictureCorrupt,
    /// The picture decodes, but not to what the camera or the model accepts.
    PictureUnfit,
    /// The backend refused or failed this frame or its whole batch.
    BackendFailed,
    /// The backend panicked while it had this frame.
    BackendPanicked,
    /// The backend gave another number of results than it was given frames.
    WrongCount,
    /// The backend did not answer within the deadline.
    DeadlineExceeded,
    /// The model's output is not what its decoder can read.
    OutputUnreadable,
    /// The sink's buffer was full of newer results (`delivery = "latest"`).
    SinkFull,
    /// The sink refused the result for good.
    SinkFailed,
    /// Its model is unloaded (`delivery = "latest"`, and direct requests).
    ModelUnloaded,
    /// The engine stopped before this frame was done; an unacknowledged frame is delivered again by a source that can.
    Shutdown,
}

impl DropReason {
    pub const ALL: [Self; 20] = [
        Self::Overtaken,
        Self::Stale,
        Self::Duplicate,
        Self::EntryUnreadable,
        Self::Poisoned,
        Self::HandleOverwritten,
        Self::HandleInvalid,
        Self::PayloadEmpty,
        Self::PayloadTooLarge,
        Self::PictureCorrupt,
        Self::PictureUnfit,
        Self::BackendFailed,
        Self::BackendPanicked,
        Self::WrongCount,
        Self::DeadlineExceeded,
        Self::OutputUnreadable,
        Self::SinkFull,
        Self::SinkFailed,
        Self::ModelUnloaded,
        Self::Shutdown,
    ];

    /// The name in metrics, results and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overtaken => "overtaken",
            Self::Stale => "stale",
            Self::Duplicate => "duplicate",
            Self::EntryUnreadable => "entry_unreadable",
            Self::Poisoned => "poisoned",
            Self::HandleOverwritten => "handle_overwritten",
            Self::HandleInvalid => "handle_invalid",
            Self::PayloadEmpty => "payload_empty",
            Self::PayloadTooLarge => "payload_too_large",
            Self::PictureCorrupt => "picture_corrupt",
            Self::PictureUnfit => "picture_unfit",
            Self::BackendFailed => "backend_failed",
            Self::BackendPanicked => "backend_panicked",
            Self::WrongCount => "wrong_count",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::OutputUnreadable => "output_unreadable",
            Self::SinkFull => "sink_full",
            Self::SinkFailed => "sink_failed",
            Self::ModelUnloaded => "model_unloaded",
            Self::Shutdown => "shutdown",
        }
    }
}

/// A box around a thing, in pixels of the original picture: x to the right, y down.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    pub class: u32,
    /// 0 to 1.
    pub score: f32,
    pub x1: f32,
    pub y1: f32,
    pub x2: f32,
    pub y2: f32,
}

/// One class and how sure the model is of it (0 to 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScore {
    pub class: u32,
    pub score: f32,
}

/// One output tensor of one frame, as the model gave it (without the batch dimension).
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// What the model said about one frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// The null model's answer: the frame went the whole way, nothing was asked about it.
    Nothing,
    Detections(Vec<Detection>),
    Classes(Vec<ClassScore>),
    Embedding(Vec<f32>),
    Tensors(Vec<OwnedTensor>),
}

/// A frame's fate: exactly one of the two.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Inferred(Output),
    Dropped {
        reason: DropReason,
        /// What exactly was wrong, for people; locates the fault as well as its finder could.
        detail: Option<Box<str>>,
    },
}

/// When a frame reached each point of its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    pub received: Mono,
    /// It left the batcher in a batch.
    pub batched: Mono,
    /// Its batch was decoded into the tensor.
    pub prepared: Mono,
    /// Its batch came back from the model.
    pub inferred: Mono,
}

/// Which of the plan's models looked at a frame, and which version of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ServedBy {
    /// Its place in the plan.
    pub model: u32,
    /// The version's number; 0: none has looked at it.
    pub version: u32,
}

impl ServedBy {
    /// The version of what several versions have looked at, each at a part.
    pub const MIXED: u32 = u32::MAX;

    /// Who looked at two parts of one request.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.version, other.version) {
            (one, another) if one == another => self,
            (0, _) => other,
            (_, 0) => self,
            _ => Self { version: Self::MIXED, ..self },
        }
    }
}

/// What one frame gave. Carries its camera and sequence wherever it goes.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameResult {
    pub camera: CameraIndex,
    pub sequence: u64,
    pub token: Token,
    pub captured_at: UnixNanos,
    /// Of the original picture; zero if it was never decoded.
    pub size: Size,
    pub served_by: ServedBy,
    pub timing: Timing,
    pub outcome: Outcome,
    pub name: Option<FrameName>,
}
